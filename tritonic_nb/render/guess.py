"""What kind of picture suits a tensor, found out from its name, shape and values.

Only names, shapes and values are looked at, and of the values a sample of bounded size:
the same tensor always gives the same answer, in the same time however large it is.
"""

# ruff: noqa: PLR0911 - a list of rules ends at the first that applies

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.render.axes import (
    POINT_COUNTS,
    channels_first,
    channels_last,
    coordinates,
    core_axes,
    expanded,
    letters,
    one_channel,
    others,
)
from tritonic_nb.render.extent import Extent
from tritonic_nb.render.kinds import Guess
from tritonic_nb.render.names import Names
from tritonic_nb.render.rectangles import box_form, rest_fits, some_rows
from tritonic_nb.render.scores import score_form
from tritonic_nb.render.values import Values

__all__ = ["guess"]

# Numbers of classes of well-known data sets.
_CLASS_COUNTS = frozenset(
    (
        10,
        100,
        101,
        102,
        120,
        200,
        345,
        365,
        397,
        400,
        401,
        521,
        527,
        600,
        700,
        1000,
        1001,
        1008,
        10450,
        11221,
        11821,
        21841,
        21843,
    )
)
_SEGMENT_COUNTS = frozenset((19, 20, 21, 34, 35, 59, 60, 133, 150, 151, 171, 172, 182))

_MOST_LABELS = 2000  # that are given independently: more scores are those of places
_MAP_SIDE = 12  # a smaller side is no picture's
_FEW = 8  # columns that are read as a table rather than seen as a map


def guess(thing: Any, name: str = "", *, model: str = "", layout: str = "") -> Guess:
    """Find out what kind of picture suits a tensor.

    Parameters
    ----------
    thing
        What :meth:`Values.of <tritonic_nb.render.values.Values.of>` takes.
    name
        The tensor's. What it says counts more than the values.
    model
        The name of the model that it comes from, for tensors called ``output``.
    layout
        ``NCHW``, ``NHWC``, ``CHW``, ``HWC``, ``NHW`` or ``HW``, where it is known that the
        tensor is an image.

    Returns
    -------
    Guess
        Of anything: where nothing else fits, a table, a signal or a map.
    """
    values = Values.of(thing)
    if values.is_text:
        return Guess("text", "its elements are texts", "?")
    if values.size == 0:
        return Guess("table", "it is empty", "?")
    if layout:
        return Guess("image", f"its layout is {layout}", letters(values, layout))
    with np.errstate(all="ignore"):  # of NaN, infinities and the largest floats
        return _Look(values, Names(name, model)).guess()


@dataclass(frozen=True)
class _Look:
    """A tensor of numbers, and the questions that the rules ask about it."""

    values: Values
    names: Names

    @cached_property
    def core(self) -> Values:
        return self.values.squeezed()

    @cached_property
    def sample(self) -> npt.NDArray[Any]:
        return self.core.sample(1 << 16)

    @cached_property
    def extent(self) -> Extent:
        return self.core.extent(1 << 16)

    @cached_property
    def whole(self) -> bool:
        return self.values.is_whole

    @cached_property
    def unique(self) -> int:
        return len(np.unique(self.sample))

    @property
    def unit(self) -> bool:
        """Whether all values lie from 0 to 1."""
        return self.extent.finite > 0 and self.extent.low >= 0 and self.extent.high <= 1.0001

    @cached_property
    def decided(self) -> bool:
        """Whether values from 0 to 1 lie near one of the two, as those of masks do."""
        finite = self.sample[np.isfinite(self.sample)]
        near = np.mean((finite < 0.1) | (finite > 0.9)) if finite.size else 0
        return self.unit and not self.extent.flat and bool(near > 0.6)

    def guess(self) -> Guess:
        rank = len(self.core.shape)
        if rank == 3 and one_channel(self.values.shape):
            return self._inside(_Look(self.core.at(0, 0), self.names).guess())
        if rank == 0:
            return self._as("table", "it is one number", "")
        if rank == 1:
            return self._vector()
        if rank == 2:
            return self._matrix()
        if rank == 3:
            return self._volume()
        return self._stack()

    def _as(self, kind: str, reason: str, core_axes: str, form: str = "") -> Guess:
        axes = "?" if kind in ("table", "histogram") else expanded(self.values, core_axes)
        return Guess(kind, reason, axes, form)

    # one axis

    def _vector(self) -> Guess:
        length = self.core.shape[0]
        if self.names.says("boxes") and 4 <= length <= 7:
            form = box_form(self._floats()[None, :4], named=True)
            if form:
                return self._as("boxes", f"its name says {self.names.says('boxes')!r}", "D", form)
        each = coordinates(length)
        if each and self.names.hints("points") and not self.whole:
            return self._as("points", self.names.said("points"), "P", f"{each} in turn")
        if self.whole:
            return self._whole_vector(length)
        if word := self.names.says("signal"):
            return self._as("signal", f"its name says {word!r}", "T")
        if self.names.says("vector") and length > 16:
            return self._as("signal", self.names.said("vector"), "T")
        if self.names.says("rows") or length == 1:
            return self._as("table", "it is a short list of numbers", "T")
        if length <= 4096 and self._whole_numbers() and (length <= 16 or not self.extent.flat):
            return self._as("table", "it is a list of whole numbers", "T")
        if found := self._score_form():
            return self._as("scores", *found)
        if length <= 16:
            return self._as("table", "it is a short list of numbers", "T")
        return self._as("signal", "it is one row of numbers", "T")

    def _whole_vector(self, length: int) -> Guess:
        if self.values.datatype != "BOOL":
            score = self.names.says("scores") and not self.names.says("rows")
            if length in _CLASS_COUNTS and (score or self.values.datatype in ("UINT8", "INT8")):
                return self._as("scores", f"it has {length:,} whole numbers", "C", "counts")
            sound = self.values.datatype in ("INT16", "INT32") and self.extent.low < 0
            if length >= 1000 and (self.names.says("signal") or sound):
                return self._as("signal", "it is a long row of whole numbers", "T")
        return self._as("table", "it is a list of whole numbers", "T")

    def _score_form(self) -> tuple[str, str, str] | None:
        """Tell why a row of numbers is one of class scores, or None where it is not."""
        length = self.core.shape[0]
        row = self._floats()
        if length >= 3 and self._ranked(row):
            return None
        word = self.names.says("scores")
        if word and self._own("start", "end", "iou"):
            return None
        form = score_form(row)
        if form == "probabilities":
            return f"its {length:,} numbers are not negative and sum to 1", "C", form
        if word and (form != "independent" or length in _CLASS_COUNTS or length <= _MOST_LABELS):
            return f"its name says {word!r}", "C", form
        if length in _CLASS_COUNTS and length > 100:
            return f"it is one row of {length:,} numbers, as many as classes", "C", form
        if self.names.hints("scores") and (length in _CLASS_COUNTS or length <= 64):
            return self.names.said("scores"), "C", form
        if length in _CLASS_COUNTS and self._own("output"):
            return f"it is one row of {length:,} numbers, as many as classes", "C", form
        return None

    def _own(self, *words: str) -> bool:
        return bool(self.names.own.intersection(words))

    @staticmethod
    def _ranked(row: npt.NDArray[Any]) -> bool:
        """Whether scores fall from first to last: those of detections, not of classes."""
        falls = np.diff(row)
        with np.errstate(all="ignore"):
            return bool((falls <= 0).all() and (falls < 0).any() and abs(row.sum() - 1) > 1e-2)

    # two axes

    def _matrix(self) -> Guess:
        rows, columns = self.core.shape
        batch = len(self.values.shape) == 2
        if self.names.says("boxes") or not self.whole:
            found = self._boxes(self.core)
            if found:
                return found
        if found := self._points(self.core):
            return found
        if self.whole:
            return self._whole_matrix(rows, columns)
        if self.names.says("signal") and (rows <= _FEW or (batch and columns > 1000)):
            return self._as("signal", self.names.said("signal"), "CT")
        if self.names.says("signal") and columns <= _FEW and rows > 1000:
            return self._as("signal", self.names.said("signal"), "TC")
        if batch and (found := self._score_rows(rows, columns)):
            return found
        if min(rows, columns) >= _MAP_SIDE:
            return self._map(batch)
        if rows <= _FEW and columns >= 1000 and self._continuous():
            return self._as("signal", "it has few rows of many numbers in a line", "CT")
        if columns <= _FEW and (rows > 2 * columns or rows * columns <= 24):
            return self._as("table", f"it has {rows:,} rows of {columns} numbers", "HW")
        if rows * columns <= 24:
            return self._as("table", "it is small", "HW")
        return self._as("heatmap", "it has two axes", "HW")

    def _score_rows(self, rows: int, columns: int) -> Guess | None:
        """Class scores of a batch: the first axis counts the items."""
        if columns < 2 or self.names.says("map") or (rows >= 64 and not self.names.says("scores")):
            return None
        form = score_form(self._floats(self.core.at(0, 0)))
        word = self.names.says("scores")
        if form == "probabilities" and not self.names.says("features"):
            return self._as("scores", "each row sums to 1", "NC", form)
        if word and columns <= 30000 and not (self._own("start", "end", "iou")):
            return self._as("scores", f"its name says {word!r}", "NC", form)
        if columns in _CLASS_COUNTS and (columns > 100 or self.names.hints("scores")):
            return self._as("scores", f"its rows have {columns:,} numbers, as many as classes",
                            "NC", form)  # fmt: skip
        return None

    def _whole_matrix(self, rows: int, columns: int) -> Guess:
        datatype, small = self.values.datatype, min(rows, columns) < _MAP_SIDE
        if rows <= _FEW and columns >= 1000 and self.extent.low < 0:
            return self._as("signal", "it has few rows of many whole numbers", "CT")
        if small:
            if columns <= _FEW or rows * columns <= 64 or self.names.says("rows"):
                return self._as("table", "it has few columns of whole numbers", "HW")
            return self._as("heatmap", "it has two axes", "HW")
        if self.names.hints("depth"):
            return self._as("depth", self.names.said("depth"), "HW")
        if datatype == "BOOL" or (self.unique <= 2 and self.extent.high in (1, 255)):
            if self.names.hints("segmentation"):
                return self._as("segmentation", self.names.said("segmentation"), "HW", "ids")
            return self._as("probability", "it has two values only, as masks do", "HW", "mask")
        if self.names.says("image"):
            return self._as("image", self.names.said("image"), "HW")
        if self.names.hints("segmentation") or (self.extent.low >= 0 and 2 <= self.unique <= 40):
            said = self.names.hints("segmentation")
            why = self.names.said("segmentation") if said else (
                f"it has {self.unique} different whole numbers, as class numbers are"
            )  # fmt: skip
            return self._as("segmentation", why, "HW", "ids")
        if datatype in ("UINT8", "UINT16"):
            return self._as("image", f"it is {datatype} with two axes", "HW")
        return self._as("heatmap", "it has two axes", "HW")

    def _map(self, batch: bool) -> Guess:
        """Floats on two axes of some length."""
        names = self.names
        word = names.says("map")
        if word and not (word.startswith("activation") and self.decided):
            return self._as("heatmap", f"its name says {word!r}", "HW")
        for kind in ("depth", "image"):
            if names.hints(kind):
                return self._as(kind, names.said(kind), "HW")
        if self.names.hints("segmentation") and self.unit is False and self._holds_ids():
            return self._as("segmentation", names.said("segmentation"), "HW", "ids")
        if names.says("features", "signal", "vector") or self._narrow():
            return self._as("heatmap", "it has two axes", "HW")
        if self.unit and (self.decided or names.says("scores") or names.hints("probability")):
            why = (
                "its values lie near 0 and 1, as those of masks do"
                if self.decided
                else "its values lie from 0 to 1, and its name says so"
            )
            return self._as("probability", why, "HW", "probabilities")
        if names.says("probability") or (not batch and names.hints("segmentation")):
            word = names.says("probability") or names.hints("segmentation")
            form = "probabilities" if self.unit else "logits"
            return self._as("probability", f"a name says {word!r}", "HW", form)
        if self._holds_ids() and 3 <= self.unique <= 40:
            return self._as("segmentation", "it holds few different whole numbers", "HW", "ids")
        return self._as("heatmap", "it has two axes", "HW")

    def _whole_numbers(self) -> bool:
        return self.extent.finite > 0 and bool((self.sample == np.rint(self.sample)).all())

    def _narrow(self) -> bool:
        """Whether one side is so much longer that it is no place in a picture."""
        rows, columns = self.core.shape
        return max(rows, columns) > 10 * min(rows, columns)

    def _continuous(self) -> bool:
        """Whether neighbours in a row are alike, as in a sound and not in scores."""
        row = self.core[0, :4096].astype(np.float64)
        spread = row.std() if np.isfinite(row).all() else 0
        return bool(spread and np.mean((row[1:] - row.mean()) * (row[:-1] - row.mean()))
                    > 0.5 * spread**2)  # fmt: skip

    def _holds_ids(self) -> bool:
        part = self.sample
        return bool(self.extent.low >= 0 and self.extent.high > 1 and (part == np.rint(part)).all())

    # three axes

    def _volume(self) -> Guess:
        shape, names = self.core.shape, self.names
        first, last = channels_first(shape), channels_last(shape)
        if self.whole:
            return self._whole_volume(first, last)
        if names.says("boxes") and shape[2] >= 4 and (found := self._boxes(self.core.at(0, 0))):
            return self._as("boxes", found.reason, "N" + core_axes(found), found.form)
        if found := self._points(self.core):
            return found
        channels = "CHW" if first else "HWC" if last else ""
        named = self._named_volume(channels)
        if named:
            return named
        if channels:
            return self._channels(channels)
        if min(shape[1:]) >= 4:
            return self._planes()
        inner = _Look(self.core.at(0, 0), names).guess()
        return self._inside(inner)

    def _named_volume(self, channels: str) -> Guess | None:
        names, shape = self.names, self.core.shape
        count = shape[0] if channels == "CHW" else shape[2] if channels else 0
        if count == 2 and names.hints("flow"):
            return self._as("flow", names.said("flow"), channels)
        if names.says("depth") and shape[0] != 3:
            return self._as("depth", names.said("depth"), "NHW")
        if channels and names.says("segmentation"):
            return self._as("segmentation", names.said("segmentation"), channels, "scores")
        if names.says("features") and channels and count != 3:
            return self._as("features", names.said("features"), channels)
        if names.says("map", "vector") and count not in (1, 2, 3, 4):
            if shape[1] == shape[2] or names.says("map").startswith(("attention", "attn")):
                return self._as("features", names.said("map", "vector"), "CHW")
            return self._as("heatmap", names.said("map", "vector"), "NHW")
        return None

    def _channels(self, channels: str) -> Guess:
        """Floats with an axis of channels beside two of places."""
        names = self.names
        axis = 0 if channels == "CHW" else 2
        count = self.core.shape[axis]
        if count > 1 and self._sums_to_one(axis):
            return self._as(
                "segmentation", f"its {count} channels sum to 1 in each place", channels, "scores"
            )
        if count == 3 and not names.hints("segmentation"):
            return self._as("image", "it has three channels", channels)
        if word := names.says("probability"):
            form = "probabilities" if self.unit else "logits"
            return self._as("probability", f"its name says {word!r}", channels, form)
        if names.hints("segmentation") or (
            count in _SEGMENT_COUNTS and not names.hints("points") and min(self._sides(axis)) >= 16
        ):
            why = names.said("segmentation") if names.hints("segmentation") else (
                f"it has {count} channels, as many as the classes of a well-known data set"
            )  # fmt: skip
            return self._as("segmentation", why, channels, "scores")
        if count == 2:
            return self._two_channels(channels, axis)
        if count == 4 and (names.hints("image") or self._colored(axis)):
            return self._as("image", "it has four channels and the values of colours", channels)
        if self.unit and names.says("scores"):
            return self._as("probability", names.said("scores"), channels, "probabilities")
        return self._as("features", f"it has {count} channels", channels)

    def _two_channels(self, channels: str, axis: int) -> Guess:
        if self.unit:
            return self._as("features", "it has two channels from 0 to 1", channels)
        pair = self.core.arranged((axis, *others(axis)))
        flat = pair.thinned((1, *pair.at(0, 0).steps(1 << 14))).read().reshape(2, -1)
        flat = flat[:, np.isfinite(flat).all(axis=0)].astype(np.float64)
        spread = flat.std(axis=1) if flat.shape[1] else np.zeros(2)
        if spread.all() and np.corrcoef(flat)[0, 1] < -0.8:
            why = "where one of its two channels is high the other is low"
            return self._as("segmentation", why, channels, "scores")
        return self._as("flow", "it has two channels of both signs", channels)

    def _planes(self) -> Guess:
        """Floats on three axes of which none stands out as the channels'."""
        shape, names = self.core.shape, self.names
        if word := names.says("probability"):
            form = "probabilities" if self.unit else "logits"
            return self._as("probability", f"its name says {word!r}", "CHW", form)
        if names.says("image"):
            return self._as("image", names.said("image"), "NHW")
        if min(shape[1:]) >= 4 and (shape[1] == shape[2] or names.hints("features")):
            return self._as("features", f"it has {shape[0]} maps", "CHW")
        return self._as("heatmap", "it has rows and columns", "NHW")

    def _whole_volume(self, first: bool, last: bool) -> Guess:
        shape, names = self.core.shape, self.names
        bytes_ = self.values.datatype == "UINT8"
        if last and shape[2] in (3, 4) and (bytes_ or names.hints("image")):
            return self._as("image", f"it has {shape[2]} channels", "HWC")
        if first and shape[0] in (3, 4) and (bytes_ or names.hints("image")):
            return self._as("image", f"it has {shape[0]} channels", "CHW")
        if names.says("boxes") and (found := self._boxes(self.core.at(0, 0))):
            return self._as("boxes", found.reason, "N" + core_axes(found), found.form)
        inner = _Look(self.core.at(0, 0), names).guess()
        if inner.kind == "probability":
            return self._as("probability", inner.reason, "CHW", inner.form)
        return self._inside(inner)

    # more axes

    def _stack(self) -> Guess:
        """Four axes and more: the first counts items."""
        inner = _Look(self.core.at(0, 0), self.names).guess()
        return self._inside(inner)

    def _inside(self, inner: Guess) -> Guess:
        if inner.axes == "?":
            return inner
        return self._as(inner.kind, inner.reason, "N" + core_axes(inner), inner.form)

    # boxes and points

    def _boxes(self, rows: Values) -> Guess | None:
        count, width = rows.shape if len(rows.shape) == 2 else (0, 0)
        named = self.names.hints("boxes")
        if 4 <= width <= 7:
            block = some_rows(rows, 512)
            for start in range(width - 3) if width > 4 else (0,):
                form = box_form(block[:, start : start + 4], named=bool(named))
                if form and rest_fits(block, start):
                    if not named and not (form == "corners" and len(block) > 1):
                        continue
                    why = (
                        self.names.said("boxes")
                        if named
                        else "each row is two corners of a rectangle"
                    )
                    return self._as("boxes", why, "BD", form)
            return None
        if count >= 100 and count > width > 7:
            block, axes = some_rows(rows, 512), "BD"
        elif width >= 100 and count > 4:
            block, axes = some_rows(rows.arranged((1, 0)), 512), "DB"
        else:
            return None
        raw = block[:, :4]
        finite = np.isfinite(block).all()
        fits = finite and (raw[:, 2:] > 0).all() and (raw > -50).all()
        scores = block[:, 4:]
        fits = fits and (scores[:, 0] >= 0).all() and (scores[:, 0] <= 1).all()
        if fits and raw.max() > 1.5 and (raw[:, 0].std() > 1 or named):
            why = "each has a centre, a size and scores from 0 to 1, as YOLO's do"
            return self._as("boxes", why, axes, "candidates")
        return None

    def _points(self, values: Values) -> Guess | None:
        shape = values.shape
        if self.whole or len(shape) not in (2, 3) or not 2 <= shape[-1] <= 5:
            return None
        word = self.names.hints("points")
        axes = "PD" if len(shape) == 2 else "NPD"
        if word and (shape[-2] <= 10000 and (len(shape) == 2 or shape[0] <= 1000)):
            return self._as("points", self.names.said("points"), axes)
        known = shape[-2] in POINT_COUNTS - {5} and shape[-1] in (2, 3)
        if known and len(shape) == 2 and self._spread(values):
            why = f"it has {shape[-2]} rows of {shape[-1]} numbers, as skeletons have"
            return self._as("points", why, axes)
        return None

    @staticmethod
    def _spread(values: Values) -> bool:
        block = some_rows(values, 512)
        return bool(np.isfinite(block).all() and (block >= 0).mean() > 0.9)

    # what the rules ask about the values

    def _floats(self, row: Values | None = None) -> npt.NDArray[np.float64]:
        values = self.core if row is None else row
        part: npt.NDArray[np.float64] = values.sample(1 << 16).astype(np.float64)
        return part

    def _sides(self, axis: int) -> tuple[int, ...]:
        return tuple(side for i, side in enumerate(self.core.shape) if i != axis)

    def _sums_to_one(self, axis: int) -> bool:
        if not self.unit:
            return False
        order = (axis, *others(axis))
        places = self.core.arranged(order)
        few = max(1, (1 << 16) // places.shape[0])
        part = places.thinned((1, *places.at(0, 0).steps(few))).read()
        with np.errstate(all="ignore"):
            return bool(np.allclose(part.sum(axis=0, dtype=np.float64), 1, atol=1e-2))

    def _colored(self, axis: int) -> bool:
        """Whether four channels may be red, green, blue and opacity."""
        alpha = self.core.at(axis, 3).sample(1 << 14)
        top = self.extent.high
        opaque = np.mean(np.isclose(alpha, 1) | np.isclose(alpha, 255))
        return self.extent.low >= 0 and top <= 255 and bool(opaque > 0.5)
