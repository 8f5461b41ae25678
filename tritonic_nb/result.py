"""What one inference gave: :class:`InferenceResult`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb import render
from tritonic_nb.errors import (
    ArgumentError,
    TensorNameError,
    TensorShapeError,
    brief,
    check_whole,
)
from tritonic_nb.frames import FrameSource
from tritonic_nb.images import ImageTransform
from tritonic_nb.viewer import display, picture, values_of

__all__ = ["InferenceResult", "Prediction", "TensorPlace", "Timings"]

_CLASS_NAME = re.compile(r"class(es)?(_|:|$)|label", re.IGNORECASE)
_SCORE_NAME = re.compile(r"score|conf|prob|logits", re.IGNORECASE)
_HEAT_NAME = re.compile(r"activation|heat|saliency|(^|_)cam(_|$)", re.IGNORECASE)


class Timings(NamedTuple):
    """Where the time of one inference went, in milliseconds.

    The first four follow one another and make up all of it. What comes after the sum are the
    parts of `request_ms`, which follow one another too (:meth:`Session.explain
    <tritonic_nb.Session.explain>` takes them further apart, with the server's own part).

    Attributes
    ----------
    prepare_ms
        Checks, and turning a picture into a tensor.
    copy_in_ms
        Writing the inputs to shared memory (making or growing regions included).
    request_ms
        From sending the request to having its reply. For tensors on the wire this
        is also where they are put into the one and taken out of the other.
    copy_out_ms
        Reading the outputs.
    total_ms
        All of it.
    encode_ms
        Writing the request. Next to nothing where the same request was sent before, and over
        HTTP for tensors on the wire too, unless they are copied: texts, and arrays that are not
        contiguous. What had to be mended first (a region registered again, an output's region
        grown) is part of it.
    send_ms
        Until the system had taken all of it; 0 with libcurl (encryption, proxies) and gRPC,
        which do not tell: there it is part of `wait_ms`.
    wait_ms
        Until the reply began: the server, and the way there and back.
    receive_ms
        Until all of the reply had come; over gRPC it is part of `wait_ms`.
    decode_ms
        Reading the reply: for tensors on the wire, taking them out of it. (Over plain HTTP a
        large one stays where it was received.)
    begun_s
        When it began, in seconds of :func:`time.perf_counter`.
    """

    prepare_ms: float
    copy_in_ms: float
    request_ms: float
    copy_out_ms: float
    total_ms: float
    encode_ms: float = 0.0
    send_ms: float = 0.0
    wait_ms: float = 0.0
    receive_ms: float = 0.0
    decode_ms: float = 0.0
    begun_s: float = 0.0

    def stages(self) -> dict[str, float]:
        """Return the stages in their order, in milliseconds; together they are all of it."""
        return {
            "prepare": self.prepare_ms,
            "copy in": self.copy_in_ms,
            "encode": self.encode_ms,
            "send": self.send_ms,
            "wait": self.wait_ms,
            "receive": self.receive_ms,
            "decode": self.decode_ms,
            "copy out": self.copy_out_ms,
        }

    def __str__(self) -> str:
        return (
            f"{self.total_ms:.2f} ms (prepare {self.prepare_ms:.2f}, copy in {self.copy_in_ms:.2f}"
            f", request {self.request_ms:.2f}, copy out {self.copy_out_ms:.2f})"
        )


@dataclass(frozen=True)
class TensorPlace:
    """How one tensor travelled.

    Attributes
    ----------
    direction
        ``"input"`` or ``"output"``.
    nbytes
        The tensor's bytes.
    region
        The name of the shared-memory region, or ``""`` where it went over the wire.
    device
        The number of the CUDA device that the region is on; None for system memory.
    """

    direction: str
    nbytes: int
    region: str
    device: int | None = None

    def __str__(self) -> str:
        if not self.region:
            return "the wire"
        return "shared memory" if self.device is None else f"CUDA device {self.device}"


@dataclass(frozen=True)
class Prediction:
    """One class of a classification: its index, its name, and its probability (0 to 1)."""

    index: int
    label: str
    score: float

    def __str__(self) -> str:
        return f"{self.score:6.1%}  {self.label} ({self.index})"


@dataclass(frozen=True, repr=False, eq=False)
class InferenceResult(render.Described, Mapping[str, npt.NDArray[Any]]):
    """The outputs of one inference, by name, and how it went.

    A read-only mapping: ``result["logits"]`` is an array.

    Attributes
    ----------
    model, version, request_id
        As the server gave them.
    outputs
        The arrays. They are the caller's own; where ``copy=False`` was asked for,
        those that came through shared memory are views (``BYTES`` never): read-only
        NumPy arrays, or, of CUDA shared memory, a :class:`~tritonic_nb.DeviceArray`.
    timings
        Where the time went.
    places
        How each input and output travelled, by ``(direction, name)``.
    wire_nbytes
        The bodies of the request and of the reply together, in bytes: over HTTP as they went,
        over gRPC before they were compressed.
    images, transform
        The pictures that were the input and how they became a tensor; empty
        and None where it was none.
    labels
        The class names that the model carries, or None.
    source
        The file, and the frame of it, that the input came from; None unless
        :meth:`Session.stream <tritonic_nb.Session.stream>` read it.
    reply_nbytes
        The body of the reply, in bytes; the rest of `wire_nbytes` is the request's.
    """

    model: str
    version: str
    request_id: str
    outputs: Mapping[str, npt.NDArray[Any]]
    timings: Timings
    places: Mapping[tuple[str, str], TensorPlace]
    wire_nbytes: int
    images: Sequence[Image.Image] = ()
    transform: ImageTransform | None = None
    labels: Sequence[str] | None = None
    source: FrameSource | None = None
    reply_nbytes: int = 0

    # Two results are the same only if they are one: arrays have no single truth value.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: arrays of the host, whatever memory they lie in here."""
        arrays = {name: np.asarray(array) for name, array in self.outputs.items()}
        return {**self.__dict__, "outputs": arrays}

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        try:
            return self.outputs[name]
        except (KeyError, TypeError):  # TypeError: a list, say, which is no key at all
            raise TensorNameError(
                f"the result of model {self.model!r} has no output {brief(name)}",
                f"it has {', '.join(self.outputs) or 'none'}",
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    def __contains__(self, name: object) -> bool:
        return name in self.outputs

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.outputs)

    @property
    def shared_nbytes(self) -> int:
        """The bytes of tensors that went through shared memory, both ways."""
        return sum(place.nbytes for place in self.places.values() if place.region)

    def top_k(
        self,
        k: int = 5,
        *,
        labels: Sequence[str] | None = None,
        output: str | None = None,
        item: int = 0,
    ) -> tuple[Prediction, ...]:
        """Return the best classes, best first.

        Parameters
        ----------
        k
            How many; fewer where there are fewer classes.
        labels
            The names of the classes; by default those that the model carries.
        output
            The output with a score for each class; by default the only one
            that can be (``[classes]`` or ``[batch, classes]``).
        item
            Which picture of the batch.

        Returns
        -------
        tuple of Prediction
            Scores that are no probabilities yet (logits) go through softmax.

        Raises
        ------
        TensorNameError
            If there is no such output, or several could be meant.
        TensorShapeError
            If the output is no row of scores, or `item` is not in the batch.
        ArgumentError
            If `k` is no positive number or `labels` are too few.
        """
        check_whole(k, 1, "k", "ask for at least one class")
        scores = render.probabilities(self._scores(output, item))
        names = self._names(labels, len(scores))
        best = np.argsort(-scores, kind="stable")[:k]
        return tuple(Prediction(int(i), names[int(i)], float(scores[i])) for i in best)

    def picture(
        self, *, labels: Sequence[str] | None = None, k: int = 5, item: int = 0
    ) -> render.Picture | None:
        """Return the result as a picture: image, overlay and best classes.

        Parameters
        ----------
        labels, k, item
            As for :meth:`top_k`.

        Returns
        -------
        Picture or None
            None where the result is not the classification of a picture.
        """
        check_whole(k, 1, "k", "ask for at least one class")
        output = self._scores_output()
        if not self.images or output is None:
            return None
        image = _item(self.images, item, "the pictures")
        scores = render.probabilities(self._scores(output, item))
        heat = self._heat(item)
        return render.classification(
            image,
            self._names(labels, len(scores)),
            scores,
            heat=heat,
            box=self.transform.source_box(image.size) if self.transform else None,
            count=k,
            title=f"{self.model}, {self.timings.total_ms:.0f} ms in all",
            note=f"as a tensor: {self.transform}" if self.transform else "",
        )

    def show(
        self,
        output: str | None = None,
        *,
        as_: str | None = None,
        labels: Sequence[str] | None = None,
        k: int | None = None,
        item: int = 0,
        slider: bool = False,
        **options: Any,
    ) -> None:
        """Show the result in the notebook, or print it outside of one.

        A classified picture is shown beside its class activation and its best classes.
        Each other output becomes the picture that suits it, with what was guessed
        written below; masks, boxes and points are drawn over the picture that went in.
        The class activation is an output ``[batch, rows, columns]`` of floats with
        ``activation``, ``heat``, ``saliency`` or ``cam`` in its name.

        Parameters
        ----------
        output
            Show this one only.
        as_
            The kind of picture, as for :func:`tritonic_nb.picture`; with it, `output` must
            be given where there are several.
        labels, item
            As for :meth:`top_k`.
        k
            How many classes (5 unless it is given), feature maps or boxes.
        slider
            Whether heat maps, masks and segmentations over the picture have a slider for
            their opacity, while the kernel runs.
        **options
            Others of :func:`tritonic_nb.picture`, such as ``opacity`` or ``together``.

        Raises
        ------
        TensorNameError
            There is no such output, or several could be meant.
        TensorShapeError
            `item` is not in the batch.
        ArgumentError
            The output cannot be shown so, or an option makes no sense.
        """
        for each in self.pictures(output, as_=as_, labels=labels, k=k, item=item, **options):
            display(each, slider=slider)

    def pictures(
        self,
        output: str | None = None,
        *,
        as_: str | None = None,
        labels: Sequence[str] | None = None,
        k: int | None = None,
        item: int = 0,
        **options: Any,
    ) -> tuple[render.Picture, ...]:
        """Return the pictures that :meth:`show` shows; parameters and errors are the same."""
        if k is not None:
            check_whole(k, 1, "k", "ask for at least one")
        if self.images:
            _item(self.images, item, "the pictures")
        if output is not None:
            return (self._one(output, as_, labels, item, k=k, **options),)
        if as_ is not None:
            if len(self.outputs) != 1:
                raise TensorNameError(
                    f"as_={as_!r} is for one output, and the result has {len(self.outputs)}",
                    f"name one: show(NAME, as_={as_!r}), of {', '.join(self.outputs)}",
                )
            return (self._one(next(iter(self.outputs)), as_, labels, item, k=k, **options),)
        first = self.picture(labels=labels, k=k or 5, item=item)
        done = {self._scores_output(), *self._heat_outputs()} if first is not None else set()
        left = {name: values_of(x) for name, x in self.outputs.items() if name not in done}
        parts = _box_parts(left, self.model)
        others = []
        for name in (name for name in left if name not in parts.taken):
            extra: dict[str, Any] = {**parts.of(name), **options}
            others.append(self._one(name, None, labels, item, k=k, **extra))
        return (*([first] if first is not None else []), *others)

    def _one(
        self,
        name: str,
        as_: str | None,
        labels: Sequence[str] | None,
        item: int,
        *,
        k: int | None,
        **options: Any,
    ) -> render.Picture:
        """Return the picture of one output, over the picture that went in where that suits."""
        values = values_of(self[name])
        chosen = item if item or self._counts_items(values.shape) else None
        wish = {
            "labels": labels if labels is not None else self.labels, "model": self.model,
            "item": chosen, "k": k, **options,
        }  # fmt: skip
        kind = as_ or render.guess(values, name, model=self.model).kind
        if self.images and "source" not in options and _lies_over(kind, name):
            wish["source"] = _item(self.images, item, "the pictures")
            wish.setdefault("transform", self.transform)
        return picture(values, as_=as_, name=name, **wish)

    def _counts_items(self, shape: tuple[int, ...]) -> bool:
        """Whether the first axis of an output counts the pictures of the batch."""
        count = len(self.images)
        return count > 1 and len(shape) > 1 and shape[0] == count

    def _described(self) -> render.Description:
        rows = [
            ("time", str(self.timings)),
            ("bytes", f"{render.human_bytes(self.shared_nbytes)} through shared memory, "
                      f"{render.human_bytes(self.wire_nbytes)} over the wire"),
        ]  # fmt: skip
        if self.source is not None:
            rows.insert(0, ("source", str(self.source)))
        if self.transform is not None:
            rows.append(("image", str(self.transform)))
        table = render.Table(
            "outputs",
            ("name", "tensor", "values", "by"),
            [
                (name, summary.tensor, summary.values, self._way(name))
                for name, array in self.outputs.items()
                for summary in [_summary(array)]
            ],
        )
        version = f" version {self.version}" if self.version else ""
        return f"InferenceResult of {self.model}{version}", rows, [table]

    def _way(self, output: str) -> render.Rich:
        return render.Rich.unbroken(str(self.places["output", output]))

    def _scores_output(self) -> str | None:
        found = [name for name, array in self.outputs.items() if self._is_scores(array)]
        return found[0] if len(found) == 1 else None

    def _scores(self, output: str | None, item: int) -> npt.NDArray[Any]:
        name = output if output is not None else self._scores_output()
        if name is None:
            found = [n for n, array in self.outputs.items() if self._is_scores(array)]
            raise TensorNameError(
                f"the result of model {self.model!r} has {len(found) or 'no'} "
                f"output{'s' if len(found) > 1 else ''} with one score for each class",
                f"name one: top_k(output=...), of {', '.join(found)}"
                if found
                else "look at the outputs themselves: result[NAME]",
            )
        array = self[name]
        if not self._is_scores(array):
            raise TensorShapeError(
                f"output {name!r} is {list(array.shape)} {array.dtype}, not one score for each "
                "class: [classes] or [batch, classes]",
                "name another output: top_k(output=...)",
            )
        return _row(array, item, 1, name)

    def _is_scores(self, array: npt.NDArray[Any]) -> bool:
        """Whether an output has one score for each class, of each picture if there are any."""
        if array.dtype.kind not in "f" and array.dtype.name != "bfloat16":
            return bool(self.labels) and array.dtype.kind in "iu" and self._is_row(array)
        return self._is_row(array)

    def _is_row(self, array: npt.NDArray[Any]) -> bool:
        items = len(self.images) or (array.shape[0] if array.ndim else 0)
        rows = array.ndim == 1 or (array.ndim == 2 and array.shape[0] == items)
        fits = not self.labels or array.shape[-1:] == (len(self.labels),)
        return rows and array.shape[-1] >= 2 and fits

    def _heat(self, item: int) -> npt.NDArray[Any] | None:
        """Return the map to lay over the picture: the output whose name says that it is one."""
        for name in self._heat_outputs():
            return _row(self.outputs[name], item, 2, name)
        return None

    def _heat_outputs(self) -> list[str]:
        """Return the name of that output, if there is one."""
        return [
            name
            for name, array in self.outputs.items()
            if array.ndim == 3
            and len(array) == len(self.images)
            and array.dtype.kind == "f"
            and _HEAT_NAME.search(name)
        ][:1]

    def _names(self, labels: Sequence[str] | None, count: int) -> Sequence[str]:
        names = labels if labels is not None else self.labels
        if names is None:
            return [f"class {i}" for i in range(count)]
        remedy = "give a label for each class, or labels=None for numbers"
        try:
            if len(names) < count:
                raise ArgumentError(f"there are {len(names)} labels and {count} classes", remedy)
            return [str(names[i]) for i in range(count)]
        except ArgumentError:
            raise
        except Exception as error:  # whatever was given instead of a list
            raise ArgumentError(
                f"the labels are {brief(names)}, and class by class that fails: "
                f"{type(error).__name__}: {error}",
                remedy,
            ) from error


@dataclass(frozen=True)
class _BoxParts:
    """Outputs that are boxes, and which outputs hold their scores and classes."""

    boxes: Mapping[str, Mapping[str, render.Values]]
    taken: frozenset[str]

    def of(self, name: str) -> Mapping[str, render.Values]:
        return self.boxes.get(name, {})


def _box_parts(outputs: Mapping[str, render.Values], model: str) -> _BoxParts:
    """Find the scores and classes of the one output of boxes, by length and name."""
    kinds = {name: render.guess(values, name, model=model) for name, values in outputs.items()}
    found = [
        name
        for name, kind in kinds.items()
        if kind.kind == "boxes" and kind.form != "candidates" and outputs[name].shape[-1] == 4
    ]
    if len(found) != 1:
        return _BoxParts({name: {} for name in found}, frozenset())
    cores = {name: values.squeezed().shape for name, values in outputs.items()}
    count = cores[found[0]][:1]
    parts: dict[str, render.Values] = {}
    taken = set()
    for role, words in (("classes", _CLASS_NAME), ("scores", _SCORE_NAME)):
        for name, core in cores.items():
            flat = len(core) == 1 or (len(core) == 2 and role == "scores")
            fits = name != found[0] and name not in taken and flat and core[:1] == count
            if fits and words.search(name):
                parts[role] = outputs[name]
                taken.add(name)
                break
    return _BoxParts({found[0]: parts}, frozenset(taken))


def _lies_over(kind: str, name: str) -> bool:
    """Whether an output is drawn over the picture that went in, without being asked to."""
    over = kind in ("segmentation", "probability", "boxes", "points")
    return over or (kind == "heatmap" and bool(_HEAT_NAME.search(name)))


def _summary(array: Any) -> render.Summary:
    """Describe an array; one on a device stays there, as a repr reads nothing from it."""
    if isinstance(array, np.ndarray):
        return render.Summary.of(array)
    return render.Summary.unread(array.dtype, array.shape, f"on CUDA device {array.device}")


def _row(array: npt.NDArray[Any], item: int, rank: int, name: str) -> npt.NDArray[Any]:
    """Return one item of a batch, as an array of `rank` dimensions; from a device it is copied."""
    batch = array if array.ndim > rank else [array]
    return np.asarray(_item(batch, item, f"output {name!r}"))


def _item(batch: Any, item: int, what: str) -> Any:
    check_whole(item, 0, "item", f"count items of {what} from 0 to {len(batch) - 1}")
    if not 0 <= item < len(batch):
        raise TensorShapeError(
            f"item {item} of {what} was asked for, and the batch has {len(batch)}",
            f"count items from 0 to {len(batch) - 1}",
        )
    return batch[item]
