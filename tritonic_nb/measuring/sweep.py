"""Ways compared over sizes: from which size on one pays: :class:`Sweep`."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tritonic_nb import render
from tritonic_nb.errors import ArgumentError, RestrictedApiError, SharedMemoryError, brief
from tritonic_nb.measuring.comparison import (
    Comparison,
    Measured,
    compare,
    ended_text,
    without_infinities,
)
from tritonic_nb.measuring.estimates import times_text
from tritonic_nb.measuring.lane import Bench
from tritonic_nb.measuring.resized import in_batch, of_size, on_host
from tritonic_nb.measuring.rounds import Effort
from tritonic_nb.memory import Tensor
from tritonic_nb.render import Progress, SweepLine, SweepPoint, crossing, figures, human_bytes
from tritonic_nb.tensors import codec

__all__ = ["CROSSING_RATIO", "Crossing", "Sweep", "checked_sizes", "crossing_of", "sweep"]

CROSSING_RATIO = 1.25
"""From where on a way is called faster: from a quarter on. Below, the times are much the same."""

_FEWEST_FITTED = 4  # sizes, for a line
_NEAR = 4  # the crossing by a line lies within so many times of the sizes that it lies between
_REFINEMENTS = 2  # sizes that are measured besides, around a crossing


@dataclass(frozen=True)
class Crossing:
    """From which size on one way is faster than another.

    Attributes
    ----------
    size
        The bytes of all inputs, or the batch; 0 where it is faster at every size, infinite
        where at none.
    below, above
        The sizes between which the ratio was measured to pass; the crossing, which all sizes
        together tell, may lie a little beside them.
    """

    size: float
    below: float
    above: float

    @property
    def found(self) -> bool:
        """Whether it lies between two sizes that were measured."""
        return 0 < self.size < math.inf


@dataclass(frozen=True, repr=False)
class Sweep(render.Described):
    """Ways compared over sizes or batches.

    Attributes
    ----------
    by
        ``"size"``, the bytes of all inputs, or ``"batch"``.
    comparisons
        By size or batch, in rising order.
    crossings
        For each way but the first, from where on it is faster than the first by a quarter;
        without those of which there were too few rounds everywhere.
    failed
        By size or batch, why it was not measured.
    interrupted
        Whether it was stopped by hand.
    """

    by: str
    comparisons: Mapping[int, Comparison]
    crossings: Mapping[str, Crossing]
    failed: Mapping[int, str]
    interrupted: bool = False

    @property
    def verdict(self) -> str:
        """What came of it, in plain words."""
        told = [self._about(name) for name in self._names[1:]]
        if told:
            return "; ".join(told)
        return list(self.comparisons.values())[-1].verdict

    def picture(self) -> render.Picture:
        """Return it as a picture: time and bandwidth against size, on logarithmic axes."""
        return self._picture(self.verdict)

    def _picture(self, note: str) -> render.Picture:
        lines = [
            SweepLine(label, [self._point(x, way) for x, way in self._of(name).items()])
            for name, label in self._names_and_labels.items()
        ]
        found = [(name, each) for name, each in self.crossings.items() if each.found]
        text = self._text(float(f"{found[0][1].size:.2g}")) if found else ""
        return crossing(
            lines,
            title=f"Ways to {self.model} by {self.by}",
            x_label="bytes of all inputs" if self.by == "size" else "batch",
            x_text=lambda x: human_bytes(round(x)) if self.by == "size" else f"{x:g}",
            crossing_at=found[0][1].size if found else None,
            crossing_text=f"a quarter faster from about {text} on" if found else "",
            note=note,
        )

    def document(self) -> dict[str, Any]:
        """Return it as a document for JSON: numbers, texts, lists and mappings alone."""
        found = {
            "by": self.by,
            "model": self.model,
            "verdict": self.verdict,
            "crossings": {
                name: {**asdict(each), "found": each.found} for name, each in self.crossings.items()
            },
            "failed": self.failed,
            "interrupted": self.interrupted,
            "comparisons": {x: each.document() for x, each in self.comparisons.items()},
        }
        document: dict[str, Any] = without_infinities(found)
        return document

    @property
    def model(self) -> str:
        """What was run."""
        return next(iter(self.comparisons.values())).model

    @property
    def _names_and_labels(self) -> dict[str, str]:
        """Return the ways that were measured at some size, the first one first."""
        return {way.name: way.label for each in self.comparisons.values() for way in each.ways}

    @property
    def _names(self) -> list[str]:
        return list(self._names_and_labels)

    def _of(self, name: str) -> dict[int, Measured]:
        """Return what was measured of a way, by size."""
        return {
            x: way for x, each in self.comparisons.items() for way in each.ways if way.name == name
        }

    def _point(self, x: int, way: Measured) -> SweepPoint:
        each = self.comparisons[x]
        return SweepPoint(float(x), way.shown_ms, each.input_nbytes + each.output_nbytes)

    def _about(self, name: str) -> str:
        label, first = self._names_and_labels[name], self._names_and_labels[self._names[0]]
        measured = self._of(name)
        largest = max(measured)
        at, ratio = f"at {self._text(largest)}", measured[largest].ratio
        found = self.crossings.get(name)
        if found is None:
            return f"too few rounds to tell {label} from {first}: give it more seconds"
        times = f"{times_text(ratio.value)} times as fast {at}"
        if not ratio.known:
            times += " (too few rounds there to be sure)"
        if found.size == 0:
            return f"{label} is faster than {first} by a quarter at every size measured, {times}"
        if not found.found:
            return f"{label} is nowhere faster than {first} by a quarter, {times}"
        return (
            f"{label} is {times_text(ratio.value)} times as fast as {first} {at}; below about "
            f"{self._text(float(f'{found.size:.2g}'))} it makes no difference of a quarter"
        )

    def _text(self, x: float) -> str:
        if self.by == "batch":
            return f"batch {x:.3g}"
        return human_bytes(round(x))

    def _described(self) -> render.Description:
        rows = [("verdict", self.verdict)]
        rows += [
            ("left out", f"{name}: {why}")
            for name, why in next(iter(self.comparisons.values())).left_out.items()
        ]
        rows += [("not measured", f"{self._text(x)}: {why}") for x, why in self.failed.items()]
        rows += [("measured", ended_text("interrupted"))] if self.interrupted else []
        return f"Ways to {self.model} by {self.by}", rows, [self._table()]

    def _table(self) -> render.Table:
        names, labels = self._names, self._names_and_labels.values()
        columns = (
            self.by,
            *(f"{label}, ms" for label in labels),
            *(f"{name}: times as fast" for name in names[1:]),
        )
        by_name = {name: self._of(name) for name in names}
        rows = []
        for x in self.comparisons:
            found = [by_name[name].get(x) for name in names]
            times = ["" if way is None else figures(way.median_ms) for way in found]
            ratios = ["" if way is None else str(way.ratio) for way in found[1:]]
            rows.append((human_bytes(x) if self.by == "size" else str(x), *times, *ratios))
        title = "Sizes" if self.by == "size" else "Batches"
        return render.Table(title, columns, rows, range(len(columns)))

    def _drawn(self) -> render.Picture | None:
        return self._picture("")  # the words stand beside it


def sweep(
    bench: Bench,
    ways: Any,
    tensors: Mapping[str, Tensor],
    *,
    by: str,
    sizes: Sequence[int],
    effort: Effort,
    progress: bool,
) -> Sweep:
    """Compare ways at each size, as :meth:`Session.sweep <tritonic_nb.Session.sweep>` tells.

    Parameters
    ----------
    bench
        What the session lends.
    ways
        As for :func:`~tritonic_nb.measuring.way.named_ways`.
    tensors
        The inputs by name, which are brought to each size.
    by
        ``"size"`` or ``"batch"``.
    sizes
        In rising order.
    effort
        How long to go on with all of them.
    progress
        Whether to show the sizes as they go by.
    """
    model = bench.setup.chosen
    arrays = {name: on_host(tensor) for name, tensor in tensors.items()}
    resize = in_batch if by == "batch" else of_size
    for size in sizes:  # before anything is measured
        resize(model, arrays, size)
    each = replace(effort, seconds=effort.seconds / (len(sizes) + _REFINEMENTS))
    comparisons: dict[int, Comparison] = {}
    failed: dict[int, str] = {}

    def measure(size: int) -> bool:
        """Compare at a size, and return whether to go on."""
        inputs = resize(model, arrays, size)
        there = sum(codec.encoded_nbytes(array) for array in inputs.values())
        key = size if by == "batch" else there
        if key in comparisons or key in failed:  # another size came to the same
            return True
        batches = [a.shape[0] for name, a in inputs.items() if model.input(name).batched]
        try:
            found = compare(
                bench, ways, inputs, batch=(batches or [1])[0], effort=each, progress=False
            )
        except (SharedMemoryError, RestrictedApiError) as error:
            if not comparisons:
                raise
            failed[key] = error.message
            return True
        except KeyboardInterrupt:
            if not comparisons:
                raise
            return False
        first = next(iter(comparisons.values()), found).ways[0].name
        if found.ways[0].name != first:  # what the others are compared with
            failed[key] = f"{first}: {found.left_out.get(first, 'it does not work there')}"
            return True
        comparisons[key] = found
        bar.step()
        return found.ended != "interrupted"

    with Progress(show=progress, unit=by) as bar:
        going_on = all(measure(size) for size in sizes)
        for _ in range(_REFINEMENTS):
            between = _between_crossing(comparisons) if going_on else None
            if between is None:
                break
            going_on = measure(between)
    ordered = dict(sorted(comparisons.items()))
    return Sweep(by, ordered, _crossings(ordered), failed, interrupted=not going_on)


def crossing_of(sizes: Sequence[float], ratios: Sequence[float]) -> Crossing:
    """Return from which size on a ratio is a quarter and stays so.

    While the bytes cost little beside what every request costs, the ratio of two ways grows in
    proportion to the size, from what it is without any bytes. So a straight line through all
    the smaller sizes tells the crossing much better than its two neighbours, between which
    the ratio is nearly flat. Where that is no good line, it is interpolated between these, over
    logarithmic axes.

    Parameters
    ----------
    sizes, ratios
        In rising order of the sizes; ratios are how many times as fast.
    """
    first = len(ratios)
    while first and ratios[first - 1] >= CROSSING_RATIO:
        first -= 1
    if first == len(ratios):
        return Crossing(math.inf, sizes[-1], math.inf)
    if first == 0:
        return Crossing(0.0, 0.0, sizes[0])
    below, above = sizes[first - 1], sizes[first]
    fitted = _by_line(sizes, ratios, above)
    if fitted is not None and below / _NEAR <= fitted <= above * _NEAR:
        return Crossing(fitted, below, above)
    low, high = math.log(ratios[first - 1]), math.log(ratios[first])
    part = (math.log(CROSSING_RATIO) - low) / (high - low)
    return Crossing(math.exp(math.log(below) + part * math.log(above / below)), below, above)


def _by_line(sizes: Sequence[float], ratios: Sequence[float], above: float) -> float | None:
    """Return where a straight line through the smaller sizes reaches the crossing's ratio."""
    chosen = [
        (size, ratio)
        for size, ratio in zip(sizes, ratios, strict=True)
        if size <= above or ratio <= 2 * CROSSING_RATIO
    ]
    if len(chosen) < _FEWEST_FITTED:
        return None
    x, y = np.array(chosen).T
    # Each as sure as the others in proportion to its value.
    slope, start = np.polyfit(x, y, 1, w=1 / y)
    return float((CROSSING_RATIO - start) / slope) if slope > 0 else None


def _crossings(comparisons: Mapping[int, Comparison]) -> dict[str, Crossing]:
    """Return where each way crosses the first, by what was surely measured."""
    names = [way.name for each in comparisons.values() for way in each.ways[1:]]
    found = {}
    for name in dict.fromkeys(names):
        ratios = {
            float(x): way.ratio
            for x, each in comparisons.items()
            for way in each.ways[1:]
            if way.name == name and way.ratio.known
        }
        if ratios:
            # What may be no difference at all is none.
            values = [
                each.value if each.low > 1 else min(each.value, 1.0) for each in ratios.values()
            ]
            found[name] = crossing_of(list(ratios), values)
    return found


def _between_crossing(comparisons: Mapping[int, Comparison]) -> int | None:
    """Return the size in the middle of where a crossing lies, or None where there is none."""
    for found in _crossings(dict(sorted(comparisons.items()))).values():
        if found.found:
            middle = round(math.sqrt(found.below * found.above))
            # A batch has whole numbers; and what is that near needs no other measurement.
            if found.above / found.below > 1.5 and middle not in comparisons:
                return middle
    return None


def checked_sizes(given: Any, name: str) -> list[int]:
    """Return sizes in rising order.

    Parameters
    ----------
    given
        Whole numbers, NumPy's too, in any iterable; or one of them.
    name
        What the argument is called.

    Raises
    ------
    ArgumentError
        If they are not whole numbers from 1, or none.
    """
    try:
        if isinstance(given, str | bytes):
            raise TypeError
        listed = (
            [operator.index(each) for each in given]
            if isinstance(given, Iterable)
            else [operator.index(given)]
        )
    except TypeError:
        listed = []
    if not listed or min(listed) < 1 or isinstance(given, bool):
        raise ArgumentError(
            f"{name} is {brief(given)}", f"give whole numbers from 1: {name}=[1, 2, 4]"
        )
    return sorted(set(listed))
