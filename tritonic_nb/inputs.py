"""What a caller gave for an inference becomes tensors, checked against the model.

Pure functions: nothing is sent, and nothing is made in shared memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from keyword import iskeyword
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.errors import (
    ArgumentError,
    BatchSizeError,
    TensorError,
    TensorNameError,
    TensorShapeError,
    brief,
)
from tritonic_nb.images import ImageTransform, load_image, transform_for
from tritonic_nb.memory import DeviceArray, Tensor
from tritonic_nb.tensors import ModelSpec, TensorSpec, codec, numpy_dtype

_Pictures: TypeAlias = Sequence[Any] | npt.NDArray[Any]  # an array: its items
_RANK_OF_SEVERAL = 4  # pictures, height, width, channels in some order
# What infer() takes besides inputs.
OPTIONS = frozenset(
    ("outputs", "transform", "copy", "timeout", "request_id", "sequence_id", "sequence_start",
     "sequence_end", "priority", "parameters")
)  # fmt: skip

__all__ = [
    "OPTIONS",
    "Prepared",
    "as_host_tensor",
    "check_batch_size",
    "noted",
    "prepare",
    "transform_of",
]


@dataclass(frozen=True)
class Prepared:
    """The inputs of one inference, checked.

    Attributes
    ----------
    tensors
        By name, of the model's datatypes and ranks.
    batch
        The size of the batch; 1 for a model without batching.
    images, transform
        The pictures that became the tensor, and how; empty and None without pictures.
    """

    tensors: Mapping[str, Tensor]
    batch: int
    images: Sequence[Image.Image] = ()
    transform: ImageTransform | None = None


def prepare(
    model: ModelSpec,
    inputs: Any,
    named: Mapping[str, Any],
    transform: ImageTransform | str | None = None,
) -> Prepared:
    """Turn what was given into tensors and check them against the model.

    Parameters
    ----------
    model
        The model.
    inputs
        Inputs by name; or the only input's array, picture, or list of
        pictures; or None.
    named
        More inputs by name.
    transform
        How a picture becomes the tensor; None to derive it from the model.

    Raises
    ------
    TensorNameError, TensorDatatypeError, TensorShapeError, BatchSizeError
        If the inputs do not fit the model.
    ImageError
        If a picture cannot be used.
    ArgumentError
        If a transform was given without a picture.
    """
    given = _by_name(model, inputs, named)
    images: list[Image.Image] = []
    used: ImageTransform | None = None
    tensors: dict[str, Tensor] = {}
    for name, value in given.items():
        spec = model.input(name)
        on_device = DeviceArray.of(value, name)
        if on_device is not None:
            codec.check_tensor(on_device.dtype, on_device.shape, spec)
            tensors[name] = on_device
            continue
        pictures = _pictures_in(value, spec)
        found = _transform(model, spec, transform) if pictures is not None else None
        if pictures is not None and found is not None:
            _check_count(model, spec, len(pictures))
            loaded = [load_image(picture) for picture in pictures]
            value = _checked(_stacked([found(each) for each in loaded], spec), spec, found)  # noqa: PLW2901
            if not images:
                images, used = loaded, found
        elif isinstance(value, (Image.Image, os.PathLike)):
            raise TensorShapeError(
                f"{spec} does not look like a picture, and this was given: {type(value).__name__}",
                "pass transform=ImageTransform(...), or turn the picture into an array "
                "of that shape and datatype yourself",
            )
        tensors[name] = codec.as_tensor(value, spec)
    if transform is not None and used is None:
        raise ArgumentError(
            "a transform was given and no picture",
            "give the picture itself (a path, a PIL.Image or an array of pixels)",
        )
    return Prepared(tensors, _batch(model, tensors), images, used)


def as_host_tensor(value: Any, spec: TensorSpec) -> npt.NDArray[Any]:
    """Return what was given for an input as an array in host memory, checked.

    Raises
    ------
    TensorDatatypeError, TensorShapeError
        If it does not fit the model.
    """
    on_device = DeviceArray.of(value, spec.name)
    return codec.as_tensor(value if on_device is None else on_device.to_numpy(), spec)


def noted(inputs: Any) -> Any:
    """Return inputs for another thread, with arrays of devices as they are for this one.

    Which of a library's streams is the current one is each thread's own.
    """
    try:
        if isinstance(inputs, Mapping):
            return {name: noted(value) for name, value in inputs.items()}
        on_device = DeviceArray.of(inputs)
    except Exception:  # told where it is used, with the input's name
        return inputs
    return inputs if on_device is None else on_device


def transform_of(model: ModelSpec) -> ImageTransform | None:
    """Return how a picture becomes a model's only input, or None where it cannot.

    Raises
    ------
    ImageError
        If the model's ``image_transform`` parameter cannot be read.
    """
    if len(model.inputs) != 1:
        return None
    (spec,) = model.inputs.values()
    return _transform(model, spec, None)


def _transform(
    model: ModelSpec, spec: TensorSpec, given: ImageTransform | str | None
) -> ImageTransform | None:
    """Return how a picture becomes an input: as given, hinted, or derived from its shape."""
    if isinstance(given, ImageTransform):
        return given
    if given is not None and not isinstance(given, str):
        raise ArgumentError(
            f"transform is {brief(given)}, which is no image transform",
            "pass ImageTransform(...), the name of a preset such as 'imagenet', or its JSON",
        )
    hint = given or model.parameters.get("image_transform")
    return _derived(spec.shape, spec.datatype, hint)


def check_batch_size(model: ModelSpec, batch: int) -> None:
    """Refuse a batch that the model does not take.

    Raises
    ------
    ArgumentError
        If it is no whole number.
    BatchSizeError
        With the batch and the model's limit.
    """
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)):
        raise ArgumentError(f"the batch is {brief(batch)}", "give a whole number")
    limit = model.max_batch_size
    if limit and not 1 <= batch <= limit:
        raise BatchSizeError(
            f"a batch of {brief(batch)} was given and model {model.name!r} takes 1 to {limit}",
            "split it into smaller batches, or raise max_batch_size: server.add(..., "
            "max_batch_size=N) for an ONNX file, else in the model's configuration"
            if batch
            else "give at least one item",
        )


# Reading a hint and deriving a transform from it would cost more than a small inference.
@lru_cache(maxsize=64)
def _derived(shape: tuple[int, ...], datatype: str, hint: str | None) -> ImageTransform | None:
    return transform_for(shape, datatype, hint=hint)


def _by_name(model: ModelSpec, inputs: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs by name, whichever way they were given."""
    if isinstance(inputs, Mapping):
        given = {**inputs, **named}
    elif inputs is None:
        given = dict(named)
    else:
        given = {_only_input(model).name: inputs, **named}
    for name in given:
        model.input(name)
    missing = [s for s in model.inputs.values() if s.name not in given and not s.optional]
    if missing:
        raise TensorNameError(
            f"model {model.name!r} needs {', '.join(map(str, missing))}, which was not given",
            _call(model),
        )
    return given


def _call(model: ModelSpec) -> str:
    """Return how the model is called, with names that Python does not take in a mapping."""
    if all(n.isidentifier() and not iskeyword(n) and n not in OPTIONS for n in model.inputs):
        return f"infer({', '.join(f'{name}=...' for name in model.inputs)})"
    return f"infer({{{', '.join(f'{name!r}: ...' for name in model.inputs)}}})"


def _only_input(model: ModelSpec) -> TensorSpec:
    if len(model.inputs) != 1:
        raise TensorNameError(
            f"model {model.name!r} has {len(model.inputs)} inputs and one array without a name "
            "was given",
            f"give each by name: {_call(model)}",
        )
    return next(iter(model.inputs.values()))


def _batch(model: ModelSpec, tensors: Mapping[str, Tensor]) -> int:
    """Return the batch of a request, checked to be one and not too large."""
    sizes = {name: a.shape[0] for name, a in tensors.items() if model.input(name).batched}
    if len(set(sizes.values())) > 1:
        raise BatchSizeError(
            "the inputs have batches of different size: "
            + ", ".join(f"{name} {size}" for name, size in sizes.items()),
            "give every input the same number of items",
        )
    batch = next(iter(sizes.values()), 1)
    check_batch_size(model, batch)
    return batch


def _pictures_in(value: Any, spec: TensorSpec) -> _Pictures | None:
    """Return the pictures in what was given for an input that may take one, or None."""
    try:
        found = _pictures(value, spec)
        return found if found is not None and len(found) else None
    except Exception:  # a list in itself, say; as a tensor it is told what is wrong with it
        return None


def _pictures(value: Any, spec: TensorSpec) -> _Pictures | None:
    if isinstance(value, (Image.Image, os.PathLike)):
        return [value]
    if isinstance(value, (str, bytes, bytearray)):
        return None if spec.datatype == "BYTES" else [value]
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (int, float)):
        single = [_pictures(each, spec) for each in value]
        flat = [each for pictures in single if pictures is not None for each in pictures]
        return flat if len(flat) == len(value) else None
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return _pixels(value, spec)
    return None


def _pixels(array: npt.NDArray[Any], spec: TensorSpec) -> _Pictures | None:
    """Return the pictures in an array of pixels, or None where it is the tensor itself.

    Pixels are ``[H, W]`` or ``[H, W, 1, 3 or 4]`` of uint8, of floats from 0 to 1, or of
    bool. Of uint8 they may also have the channels first, or be several.
    """
    is_tensor = array.ndim == spec.rank and array.dtype == numpy_dtype(spec.datatype)
    if is_tensor or not (array.dtype == np.uint8 or array.dtype.kind in "bf"):
        return None
    one_by_one = array.ndim in (2, 3)
    if not one_by_one and (array.ndim != 4 or array.dtype != np.uint8):
        return None
    channels_last = array.ndim == 2 or array.shape[-1] in (1, 3, 4)
    if not channels_last and array.dtype == np.uint8 and array.shape[-3] in (1, 3):
        array, channels_last = np.moveaxis(array, -3, -1), True
    if not channels_last:
        return None
    return [array] if one_by_one else array


def _check_count(model: ModelSpec, spec: TensorSpec, count: int) -> None:
    """Refuse more pictures than the model takes, before any of them is read."""
    if spec.batched:
        check_batch_size(model, count)
    elif count > 1 and not _takes_several(spec):
        raise BatchSizeError(
            f"{spec} takes one picture at a time and {count} were given",
            "infer them one after the other",
        )


def _takes_several(spec: TensorSpec) -> bool:
    return spec.batched or (spec.rank == _RANK_OF_SEVERAL and spec.shape[0] < 0)


def _checked(
    tensor: npt.NDArray[Any], spec: TensorSpec, transform: ImageTransform
) -> npt.NDArray[Any]:
    """Refuse what a transform made if the model does not take it, and name the transform."""
    try:
        return codec.as_tensor(tensor, spec)
    except TensorError as error:
        raise type(error)(
            f"the transform ({transform}) gives {tensor.dtype} {list(tensor.shape)}, and the model "
            f"takes {spec}",
            "change its width, height, datatype or layout",
        ) from error


def _stacked(made: list[npt.NDArray[Any]], spec: TensorSpec) -> npt.NDArray[Any]:
    """Return the tensors of pictures as one, a batch where there are several."""
    if made[0].ndim == spec.rank - 1:  # a transform without a batch dimension
        made = [array[np.newaxis] for array in made]
    if len(made) == 1:
        return made[0]
    shapes = sorted({array.shape for array in made})
    if len(shapes) > 1:
        raise TensorShapeError(
            f"the pictures become tensors of different shapes: {', '.join(map(str, shapes))}",
            "pass a transform with a fixed width and height",
        )
    return np.concatenate(made)
