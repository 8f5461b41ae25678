"""Any tensor as a picture: :func:`show` in the notebook, :func:`picture` to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb import render
from tritonic_nb.errors import ArgumentError
from tritonic_nb.images import ImageSource, ImageTransform, load_image
from tritonic_nb.memory import CopyStream, DeviceArray

__all__ = ["display", "picture", "show", "source_of", "values_of"]


def show(
    x: Any,
    *,
    as_: str | None = None,
    name: str = "",
    labels: Sequence[str] | None = None,
    source: ImageSource | None = None,
    transform: ImageTransform | None = None,
    return_figure: bool = False,
    slider: bool = False,
    **options: Any,
) -> Any:
    """Show a tensor as the picture that suits it; outside of a notebook, print its text.

    Parameters
    ----------
    x, as_, name, labels, source, transform, **options
        As for :func:`picture`; of a mapping each value is shown, with its key as the name.
    return_figure
        Whether to give a Matplotlib figure instead of showing anything.
    slider
        Whether to show a slider for the opacity of what lies over the source, while the
        kernel runs. A saved notebook does not show it.

    Returns
    -------
    matplotlib.figure.Figure or None
        The figure, if it was asked for. It is not known to pyplot.

    Raises
    ------
    ArgumentError, TensorShapeError, TensorDatatypeError, ImageError
        As :func:`picture`.

    Examples
    --------
    >>> show(result["mask"], source="page.png")  # doctest: +SKIP
    >>> show(array, as_="heatmap")  # doctest: +SKIP
    """
    given = {
        "as_": as_, "labels": labels, "source": source, "transform": transform, **options,
    }  # fmt: skip
    if isinstance(x, Mapping) and not return_figure:
        for key, value in x.items():
            display(picture(value, name=str(key), **given), slider=slider)
        return None
    made = picture(x, name=name, **given)
    if return_figure:
        return made.figure()
    display(made, slider=slider)
    return None


def display(picture: render.Picture, *, slider: bool = False) -> None:
    """Show a picture, with a slider for the opacity of what lies over a photograph, if any.

    Parameters
    ----------
    picture
        The picture.
    slider
        Whether to show the slider; without a notebook there is none.
    """
    if slider and picture.at_opacity is not None and render.in_notebook():
        from tritonic_nb.widgets import opacity_slider

        render.display(opacity_slider(picture))
    else:
        picture.display()


def picture(
    x: Any,
    *,
    as_: str | None = None,
    name: str = "",
    labels: Sequence[str] | None = None,
    source: ImageSource | None = None,
    transform: ImageTransform | None = None,
    model: str = "",
    layout: str = "",
    item: int | None = None,
    limits: tuple[float, float] | None = None,
    colormap: str | None = None,
    opacity: float = 0.6,
    k: int | None = None,
    together: bool = False,
    scores: Any = None,
    classes: Any = None,
    box_form: str | None = None,
) -> render.Picture:
    """Make the picture that suits a tensor; it shows itself in a notebook.

    Parameters
    ----------
    x
        A NumPy array, anything that speaks DLPack or ``__array__`` (PyTorch, CuPy, JAX), also
        on a device, of which only what is drawn is copied; a Pillow image, numbers, texts, or
        nested lists of those. Any shape and datatype.
    as_
        ``image``, ``heatmap``, ``features``, ``scores``, ``segmentation``, ``probability``,
        ``boxes``, ``points``, ``depth``, ``flow``, ``signal``, ``histogram``, ``text`` or
        ``table``. Without it the kind is guessed, and the caption says which and why.
    name
        The tensor's: the title, and a help to guess.
    labels
        The names of classes.
    source
        The picture that the tensor was made from, to draw maps, boxes and points over it.
    transform
        How that picture became the model's input, so that all lands where it belongs: a
        session has it (``session.transform``). Without it, the input was the whole picture.
    model
        The model's name, which helps to guess for tensors called ``output``.
    layout
        ``NCHW``, ``NHWC``, ``CHW``, ``HWC``, ``NHW`` or ``HW``, of an image.
    item
        Which one of a batch.
    limits
        The numbers at the ends of the colours, or of the vertical axis.
    colormap
        A Matplotlib name.
    opacity
        Of what is laid over the picture, 0 to 1.
    k
        How many classes, feature maps or boxes.
    together
        Whether feature maps share one scale; each has its own otherwise.
    scores, classes
        Of boxes, where they are tensors of their own.
    box_form
        What the four numbers of a box are: ``corners``, ``corners, y first``, ``centres``,
        ``sizes`` or ``candidates``.

    Returns
    -------
    Picture
        ``save(path)`` writes its PNG, ``figure()`` gives a Matplotlib figure.

    Raises
    ------
    ArgumentError
        It is no tensor, its shape cannot be shown as that kind, or an option makes no sense.
    TensorShapeError, TensorDatatypeError
        It lies on a device and is handed out neither in parts nor as a whole.
    ImageError
        The source cannot be read.
    """
    if transform is not None and source is None:
        raise ArgumentError("there is a transform and no source", "pass the picture: source=...")
    given = source_of(load_image(source), transform) if source is not None else None
    wish = render.Wish(
        kind=as_, labels=labels, source=given, model=model, layout=layout, item=item,
        limits=limits, colormap=colormap, opacity=opacity, count=k, together=together,
        scores=_if_given(scores), classes=_if_given(classes), box_form=box_form,
    )  # fmt: skip
    return render.picture_of(values_of(x), name, wish)


def values_of(x: Any) -> render.Values:
    """Take whatever holds numbers or texts; of what lies on a device nothing is copied yet.

    Parameters
    ----------
    x
        As for :func:`picture`. A library's tensor is asked for the parts that are needed; of
        a :class:`~tritonic_nb.DeviceArray`, and of what hands out memory and no parts, runs
        along the first dimension are copied.

    Raises
    ------
    ArgumentError
        It is no tensor.
    TensorShapeError, TensorDatatypeError
        As :meth:`DeviceArray.of <tritonic_nb.DeviceArray.of>`.
    """
    if isinstance(x, DeviceArray) or not hasattr(x, "__getitem__"):
        array = DeviceArray.of(x, "the tensor")
        if array is not None:
            place = f"CUDA device {array.device}"
            return render.Values.of_parts(array, place, _Copies(array.device))
    return render.Values.of(x)


def _if_given(x: Any) -> render.Values | None:
    return None if x is None else values_of(x)


class _Copies:
    """Copies parts of an array on a device, several at once."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._stream: CopyStream | None = None

    def __call__(self, parts: Sequence[DeviceArray]) -> list[npt.NDArray[Any]]:
        targets: list[npt.NDArray[Any]] = [np.empty(part.shape, part.dtype) for part in parts]
        stream = self._stream or CopyStream(self._device)
        self._stream = None  # not to be used again if this fails
        for part, target in zip(parts, targets, strict=True):
            stream.to_host(part, target)
        stream.finish()
        self._stream = stream
        return targets


def source_of(image: Image.Image, transform: ImageTransform | None) -> render.Source:
    """Tell where a tensor of a model's input lies in the picture that it was made from."""
    if transform is None:
        return render.Source.of(image)
    return render.Source.of(image, transform.source_box(image.size), transform.size_for(image.size))
