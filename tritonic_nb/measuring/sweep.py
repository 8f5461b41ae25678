"""Ways compared over sizes: from which size on one pays: :class:`Sweep`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tritonic_nb import render
from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.measuring.comparison import Comparison, Measured, compare, without_infinities
from tritonic_nb.measuring.estimates import times_text
from tritonic_nb.measuring.lane import Bench
from tritonic_nb.measuring.resized import in_batch, of_size, on_host
from tritonic_nb.measuring.rounds import Effort
from tritonic_nb.memory import Tensor
from tritonic_nb.render import Progress, SweepLine, SweepPoint, crossing, human_bytes

__all__ = ["CROSSING_RATIO", "Crossing", "Sweep", "checked_sizes", "crossing_of", "sweep"]

CROSSING_RATIO = 1.25
"""From where on a way is called faster: from a quarter on. Below, the times are much the same."""

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
        The measured sizes between which it lies.
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
        For each way but the first, from where on it is faster than the first by a quarter.
    """

    by: str
    comparisons: Mapping[int, Comparison]
    crossings: Mapping[str, Crossing]

    @property
    def verdict(self) -> str:
        """What came of it, in plain words."""
        first, largest = self._last.ways[0], max(self.comparisons)
        told = [
            self._of(way, first, self.crossings[way.name], largest) for way in self._last.ways[1:]
        ]
        return "; ".join(told) + "." if told else self._last.verdict

    def picture(self) -> render.Picture:
        """Return it as a picture: time and bandwidth against size, on logarithmic axes."""
        return self._picture(self.verdict)

    def _picture(self, note: str) -> render.Picture:
        lines = [
            SweepLine(
                way.label, [self._point(x, each[way.name]) for x, each in self._with(way.name)]
            )
            for way in self._last.ways
        ]
        found = [(name, each) for name, each in self.crossings.items() if each.found]
        text = self._text(float(f"{found[0][1].size:.2g}")) if found else ""
        return crossing(
            lines,
            title=f"Ways to {self._last.model} by {self.by}",
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
            "model": self._last.model,
            "verdict": self.verdict,
            "crossings": {
                name: {**asdict(each), "found": each.found} for name, each in self.crossings.items()
            },
            "comparisons": {x: each.document() for x, each in self.comparisons.items()},
        }
        document: dict[str, Any] = without_infinities(found)
        return document

    @property
    def _last(self) -> Comparison:
        return self.comparisons[max(self.comparisons)]

    def _with(self, name: str) -> list[tuple[int, Comparison]]:
        return [
            (x, each)
            for x, each in self.comparisons.items()
            if any(way.name == name for way in each.ways)
        ]

    def _point(self, x: int, way: Measured) -> SweepPoint:
        each = self.comparisons[x]
        high = way.high_ms if math.isfinite(way.high_ms) else way.p99_ms
        low = way.low_ms or way.median_ms
        return SweepPoint(
            float(x),
            (min(low, way.median_ms), way.median_ms, max(high, way.median_ms)),
            each.input_nbytes + each.output_nbytes,
        )

    def _of(self, way: Measured, first: Measured, found: Crossing, largest: int) -> str:
        at = f"at {self._text(largest)}"
        times = times_text(way.ratio.value)
        if found.size == 0:
            return (
                f"{way.label} is faster than {first.label} at every size that was measured, "
                f"{times} times as fast {at}"
            )
        if not found.found:
            return (
                f"{way.label} is not faster than {first.label} by a quarter, "
                f"{times} times as fast {at}"
            )
        return (
            f"{way.label} is {times} times as fast as {first.label} {at}; below about "
            f"{self._text(float(f'{found.size:.2g}'))} it makes no difference of a quarter"
        )

    def _text(self, x: float) -> str:
        if self.by == "batch":
            return f"batch {x:.3g}"
        return human_bytes(round(x))

    def _described(self) -> render.Description:
        rows = [("verdict", self.verdict)]
        rows += [("left out", f"{name}: {why}") for name, why in self._last.left_out.items()]
        return f"Ways to {self._last.model} by {self.by}", rows, [self._table()]

    def _table(self) -> render.Table:
        ways, others = self._last.ways, self._last.ways[1:]
        columns = (
            self.by,
            *(f"{way.label}, ms" for way in ways),
            *(f"{way.name}: times as fast" for way in others),
        )
        rows = []
        for x, each in self.comparisons.items():
            found = {way.name: way for way in each.ways}
            times = [f"{found[w.name].median_ms:.3f}" if w.name in found else "" for w in ways]
            ratios = [str(found[w.name].ratio) if w.name in found else "" for w in others]
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
    each = replace(effort, seconds=effort.seconds / (len(sizes) + _REFINEMENTS))
    comparisons: dict[int, Comparison] = {}

    def measure(size: int) -> None:
        inputs = in_batch(model, arrays, size) if by == "batch" else of_size(model, arrays, size)
        batch = next((a.shape[0] for name, a in inputs.items() if model.input(name).batched), 1)
        found = compare(bench, ways, inputs, batch=batch, effort=each, progress=False)
        comparisons[found.input_nbytes if by == "size" else size] = found
        bar.step()

    with Progress(show=progress, unit=by) as bar:
        for size in sizes:
            measure(size)
        for _ in range(_REFINEMENTS):
            between = _between_crossing(comparisons)
            if between is None:
                break
            measure(between)
    ordered = dict(sorted(comparisons.items()))
    return Sweep(by, ordered, _crossings(ordered))


def crossing_of(sizes: Sequence[float], ratios: Sequence[float]) -> Crossing:
    """Return from which size on a ratio is a quarter and stays so.

    Between two sizes the ratio is taken for a straight line over logarithmic axes.

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
    low, high = math.log(ratios[first - 1]), math.log(ratios[first])
    part = (math.log(CROSSING_RATIO) - low) / (high - low)
    return Crossing(math.exp(math.log(below) + part * math.log(above / below)), below, above)


def _crossings(comparisons: Mapping[int, Comparison]) -> dict[str, Crossing]:
    names = [way.name for each in comparisons.values() for way in each.ways[1:]]
    found = {}
    for name in dict.fromkeys(names):
        pairs = [
            (float(x), way.ratio.value)
            for x, each in comparisons.items()
            for way in each.ways[1:]
            if way.name == name
        ]
        found[name] = crossing_of([x for x, _ in pairs], [ratio for _, ratio in pairs])
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

    Raises
    ------
    ArgumentError
        If they are not whole numbers from 1, or none.
    """
    try:
        listed = list(given)
    except TypeError:
        listed = [given]
    whole = all(
        isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in listed
    )
    if not listed or not whole:
        raise ArgumentError(f"{name} is {brief(given)}", f"give {name} as whole numbers from 1")
    return sorted(set(listed))
