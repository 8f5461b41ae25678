"""The ways to a server, measured side by side: :class:`Comparison`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb import render
from tritonic_nb.errors import ArgumentError, ServerRefusedError, brief
from tritonic_nb.measuring.estimates import Ratio, times_text
from tritonic_nb.measuring.lane import Bench, Lane
from tritonic_nb.measuring.resized import on_host
from tritonic_nb.measuring.rounds import Effort, Track, ratios, run_rounds
from tritonic_nb.measuring.way import way_called
from tritonic_nb.render import Contender, Progress, figures, human_bytes, versus
from tritonic_nb.result import InferenceResult

__all__ = [
    "LONGEST_S",
    "Comparison",
    "Measured",
    "checked_effort",
    "checked_seconds",
    "compare",
    "without_infinities",
]

_ENDED = {
    "precise": "until the intervals were narrow",
    "time": "until the time was up",
    "interrupted": "stopped by hand",
}
_TOLERANCE = 1e-4  # of floats: kernels of a GPU add in another order each time
LONGEST_S = 3600.0
"""The longest time limit of a measurement, in seconds."""


@dataclass(frozen=True)
class Measured:
    """What was measured of one way.

    Attributes
    ----------
    name, label
        What it is called in code and in sentences.
    median_ms, low_ms, high_ms
        The median of one inference, in milliseconds, and its interval of 95 % confidence
        (without an end where there were fewer than six rounds).
    p99_ms
        What one inference of a hundred exceeds.
    per_second
        Inferences per second, one after the other.
    client_cpu_ms, server_cpu_ms
        The processor time of one inference, of this process and of the server's processes
        on this machine; the second is None where it cannot be told.
    shared_nbytes, wire_nbytes
        The bytes of one inference that go through shared memory, and over the wire.
    copied_nbytes
        The bytes that this process copies for one inference, at least: between arrays and
        regions once; for the wire twice, between arrays and messages, and between messages
        and the kernel.
    region_nbytes
        The bytes of the regions that one request in flight needs.
    buffer_nbytes
        The most that Python allocates for one inference, its result included; None where
        somebody else traces allocations, or it was stopped before.
    ratio
        How many times as fast it is as the first way.
    """

    name: str
    label: str
    median_ms: float
    low_ms: float
    high_ms: float
    p99_ms: float
    per_second: float
    client_cpu_ms: float
    server_cpu_ms: float | None
    shared_nbytes: int
    wire_nbytes: int
    copied_nbytes: int
    region_nbytes: int
    buffer_nbytes: int | None
    ratio: Ratio

    @property
    def shown_ms(self) -> tuple[float, float, float]:
        """The interval's lower end, the median and the upper end, as they are drawn.

        Where there were too few rounds for an interval, it has no width.
        """
        if not math.isfinite(self.high_ms):
            return self.median_ms, self.median_ms, self.median_ms
        return min(self.low_ms, self.median_ms), self.median_ms, max(self.high_ms, self.median_ms)


@dataclass(frozen=True, repr=False)
class Comparison(render.Described):
    """The same inferences over several ways, measured in one run.

    Attributes
    ----------
    model, batch
        What was run.
    input_nbytes, output_nbytes
        The bytes of all inputs, and of all outputs.
    ways
        The ways, the first of which the others are compared with.
    left_out
        The ways that do not work here, and why.
    rounds, inferences
        How often each way had its turn, and how many of its inferences were timed.
    ended
        What ended it: ``"precise"``, ``"time"`` or ``"interrupted"``.
    note
        What is to be known besides; ``""`` for nothing.
    """

    model: str
    batch: int
    input_nbytes: int
    output_nbytes: int
    ways: tuple[Measured, ...]
    left_out: Mapping[str, str]
    rounds: int
    inferences: int
    ended: str
    note: str = ""

    def __getitem__(self, name: str) -> Measured:
        """Return what was measured of a way."""
        return way_called(name, self.ways, self.left_out)

    @property
    def fastest(self) -> str | None:
        """The name of the fastest way, or None where the first is as fast as any."""
        better = [way for way in self.ways if way.ratio.matters and way.ratio.value > 1]
        if better:
            return max(better, key=lambda way: way.ratio.value).name
        others = self.ways[1:]
        worse = others and all(way.ratio.matters for way in others)
        return self.ways[0].name if worse else None

    @property
    def verdict(self) -> str:
        """What came of it, in plain words.

        A difference is spoken of where the interval of 95 % confidence excludes that there is
        none, and where it is a tenth or more.
        """
        first, *others = self.ways
        if not others:
            return f"{first.label}: {figures(first.median_ms, 2)} ms; {self._nothing_else()}"
        told = [_difference(way, first) for way in others]
        return f"{'; '.join(told)}, for model {self.model!r}{self._amount()}"

    def picture(self) -> render.Picture:
        """Return it as a picture: a bar for each way, with its interval."""
        return self._picture(self.verdict)

    def _picture(self, note: str) -> render.Picture:
        contenders = [
            Contender(
                way.label,
                way.shown_ms,
                way.p99_ms,
                f"{way.ratio} times as fast" if at else "",
            )
            for at, way in enumerate(self.ways)
        ]
        return versus(contenders, title=self._title(), note=note)

    def document(self) -> dict[str, Any]:
        """Return it as a document for JSON: numbers, texts, lists and mappings alone."""
        found = {**asdict(self), "verdict": self.verdict, "fastest": self.fastest}
        document: dict[str, Any] = without_infinities(found)
        return document

    def _nothing_else(self) -> str:
        if not self.left_out:
            return "nothing was compared with it"
        return "; ".join(f"{name} does not work here: {why}" for name, why in self.left_out.items())

    def _amount(self) -> str:
        batch = f" at batch {self.batch}" if self.batch > 1 else ""
        sizes = f"{human_bytes(self.input_nbytes)} in, {human_bytes(self.output_nbytes)} out"
        return f"{batch} ({sizes})"

    def _title(self) -> str:
        return f"Ways to {self.model}{self._amount()}"

    def _described(self) -> render.Description:
        rows = [("verdict", self.verdict)]
        if len(self.ways) > 1:
            rows.append(("processor time", self._cpu_text()))
        rows += [("left out", f"{name}: {why}") for name, why in self.left_out.items()]
        rows.append((
            "measured",
            f"{self.rounds} round{'' if self.rounds == 1 else 's'}, {self.inferences} inferences"
            f"{' each way in turn' if len(self.ways) > 1 else ''}, {_ENDED[self.ended]}",
        ))  # fmt: skip
        rows += [("note", self.note)] if self.note else []
        return self._title(), rows, [self._times(), self._memory()]

    def _cpu_text(self) -> str:
        first = self.ways[0]
        known = all(way.server_cpu_ms is not None for way in self.ways)
        return "; ".join(
            f"{way.label} takes {_percent(_cpu_ms(way), _cpu_ms(first))} of what {first.label} does"
            for way in self.ways[1:]
        ) + ("" if known else " (of this process alone: the server's is not known)")

    def _times(self) -> render.Table:
        columns = (
            "way", "median ms", "p99 ms", "times as fast", "per second", "CPU ms: here + server",
        )  # fmt: skip
        rows = [
            (
                way.label,
                _ms(way.median_ms),
                _ms(way.p99_ms),
                str(way.ratio) if at else "1",
                figures(way.per_second, 2) if way.per_second < 100 else f"{way.per_second:,.0f}",
                f"{_ms(way.client_cpu_ms)} + {_cpu_text(way.server_cpu_ms)}",
            )
            for at, way in enumerate(self.ways)
        ]
        return render.Table("Time of one inference", columns, rows, range(1, len(columns)))

    def _memory(self) -> render.Table:
        columns = (
            "way", "shared memory", "wire", "copied here, at least", "regions", "buffers at most",
        )  # fmt: skip
        rows = [
            (
                way.label,
                *map(
                    human_bytes,
                    (
                        way.shared_nbytes,
                        way.wire_nbytes,
                        way.copied_nbytes,
                        way.region_nbytes,
                    ),
                ),
                "?" if way.buffer_nbytes is None else human_bytes(way.buffer_nbytes),
            )
            for way in self.ways
        ]
        return render.Table("Bytes of one inference", columns, rows, range(1, len(columns)))

    def _drawn(self) -> render.Picture | None:
        return self._picture("")  # the words stand beside it


def compare(
    bench: Bench,
    ways: Any,
    inputs: Mapping[str, Any],
    *,
    batch: int,
    effort: Effort,
    progress: bool,
) -> Comparison:
    """Measure ways, as :meth:`Session.compare <tritonic_nb.Session.compare>` tells.

    Parameters
    ----------
    bench
        What the session lends.
    ways
        As for :func:`~tritonic_nb.measuring.way.named_ways`.
    inputs
        The tensors by name.
    batch
        The size of the batch.
    effort
        How long to go on.
    progress
        Whether to show the rounds as they go by.
    """  # fmt: skip
    with bench.lanes(ways, inputs) as lanes:
        opened = list(lanes.open.values())
        note = _check_equal(opened)
        with Progress(show=progress, unit="round") as bar:
            tracks, ended = run_rounds(
                opened, effort, reconnect=bench.reconnect, step=bar.step,
                server_pids=bench.server_pids,
            )  # fmt: skip
        compared = ratios(tracks)
        copied = bench.options.get("copy", True)
        measured = tuple(
            _measured(lane, track, ratio, copied=copied)
            for lane, track, ratio in zip(opened, tracks, compared, strict=True)
        )
        sizes = [
            place.nbytes for key, place in opened[0].sample.places.items() if key[0] == "input"
        ]
        outputs = [p.nbytes for key, p in opened[0].sample.places.items() if key[0] == "output"]
        return Comparison(
            model=bench.setup.chosen.name,
            batch=batch,
            input_nbytes=sum(sizes),
            output_nbytes=sum(outputs),
            ways=measured,
            left_out=lanes.left_out,
            rounds=len(tracks[0].times_s),
            inferences=len(tracks[0].all_s),
            ended=ended,
            note=note,
        )


def ended_text(ended: str) -> str:
    """Say what ended a measurement."""
    return _ENDED[ended]


def checked_effort(seconds: float, precision: float) -> Effort:
    """Return how long to measure.

    Raises
    ------
    ArgumentError
        If a number is out of range.
    """
    return Effort(checked_seconds(seconds), _checked_number("precision", precision, 1.0, "0.05"))


def checked_seconds(seconds: float) -> float:
    """Return a time limit, or raise ArgumentError."""
    return _checked_number("seconds", seconds, LONGEST_S, "10")


def _checked_number(name: str, value: Any, most: float, such: str) -> float:
    """Return a number above 0 and up to `most`, or raise ArgumentError."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not 0 < value <= most:
        raise ArgumentError(
            f"{name} is {brief(value)}", f"give a number above 0 and up to {most:g}, such as {such}"
        )
    return float(value)


def _measured(lane: Lane, track: Track, ratio: Ratio, *, copied: bool) -> Measured:
    low, high = track.interval_s
    median = track.median_s
    shared = [(key[0], place.nbytes) for key, place in lane.sample.places.items() if place.region]
    by_region = sum(n for direction, n in shared if direction == "input" or copied)
    result = lane.sample
    return Measured(
        name=lane.name,
        label=lane.label,
        median_ms=median * 1e3,
        low_ms=max(0.0, low) * 1e3,
        high_ms=high * 1e3,
        p99_ms=track.p99_s * 1e3,
        per_second=len(track.all_s) / sum(track.all_s),
        client_cpu_ms=float(np.median(track.client_s)) * 1e3,
        server_cpu_ms=float(np.median(track.server_s)) * 1e3 if track.server_s else None,
        shared_nbytes=result.shared_nbytes,
        wire_nbytes=result.wire_nbytes,
        copied_nbytes=by_region + 2 * result.wire_nbytes,
        region_nbytes=lane.region_nbytes,
        buffer_nbytes=_peak_nbytes(lane),
        ratio=ratio,
    )


def _peak_nbytes(lane: Lane) -> int | None:
    try:
        return lane.peak_nbytes()
    except KeyboardInterrupt:  # what was measured is worth more
        return None


def _check_equal(lanes: Sequence[Lane]) -> str:
    """See that all ways give the same; return what is to be said of it.

    Raises
    ------
    ServerRefusedError
        If they do not, and each of them gives the same when it is asked again.
    """
    first, *others = lanes
    changing: set[str] = set()
    for other in others:
        unequal = _unequal(first.sample, other.sample)
        if not unequal:
            continue
        again = _unequal(first.sample, first.infer()) | _unequal(other.sample, other.infer())
        if spoilt := sorted(unequal - again):
            raise ServerRefusedError(
                f"output {spoilt[0]!r} of model {first.sample.model!r} differs between "
                f"{first.label} and {other.label}, each of which gives the same twice",
                "one of them spoils tensors: see both with tnb.diff(), and tell those who keep the "
                "server or tritonic_nb",
            )
        changing |= unequal
    if not changing:
        return ""
    named = ", ".join(map(repr, sorted(changing)))
    return f"the model gives another output {named} each time: it was not compared"


def _unequal(one: InferenceResult, other: InferenceResult) -> set[str]:
    """Return the names of the outputs that differ."""
    missing = one.outputs.keys() ^ other.outputs.keys()
    return missing | {
        name
        for name in one.outputs.keys() & other.outputs.keys()
        if not _same(on_host(one.outputs[name]), on_host(other.outputs[name]))
    }


def _same(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Whether arrays are equal; floats as nearly as the largest of them allows."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.kind in "OSUbiu":
        return bool(np.array_equal(one, other))
    if np.array_equal(one, other):
        return True
    wide = np.result_type(one.dtype, np.float32)  # of floats of 16 bits
    a, b = one.astype(wide, copy=False), other.astype(wide, copy=False)
    largest = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    return bool(np.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE * largest, equal_nan=True))


def without_infinities(thing: Any) -> Any:
    """Return a document for JSON with null for numbers that JSON does not have."""
    if isinstance(thing, dict):
        return {str(key): without_infinities(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [without_infinities(value) for value in thing]
    return None if isinstance(thing, float) and not math.isfinite(thing) else thing


def _difference(way: Measured, first: Measured) -> str:
    ratio = way.ratio
    if not ratio.known:
        return f"too few rounds to tell {way.label} from {first.label}: give it more seconds"
    pair = f"{way.label} and {first.label}"
    if ratio.low <= 1 <= ratio.high and ratio.same:
        return f"no difference between {pair}"
    if ratio.low <= 1 <= ratio.high:
        return (
            f"no difference between {pair} can be told: between {times_text(ratio.low)} and "
            f"{times_text(ratio.high)} times as fast (give it more seconds, or an idle machine)"
        )
    if not ratio.matters:
        side = "faster" if ratio.value > 1 else "slower"
        return f"no difference worth speaking of between {pair} ({abs(ratio.value - 1):.0%} {side})"
    if ratio.value > 1:
        return f"{way.label} is {times_text(ratio.value)} times as fast as {first.label}"
    return f"{way.label} is {times_text(1 / ratio.value)} times as slow as {first.label}"


def _cpu_text(milliseconds: float | None) -> str:
    return "?" if milliseconds is None else _ms(milliseconds)


def _cpu_ms(way: Measured) -> float:
    return way.client_cpu_ms + (way.server_cpu_ms or 0.0)


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole > 0 else "?"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3f}" if milliseconds < 10 else f"{milliseconds:,.1f}"
