"""What a run has found, as text for a terminal and as a document for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tritonic_nb.benchmark.depth import SEQUENTIAL, Throughput
from tritonic_nb.benchmark.endpoint import Endpoint
from tritonic_nb.benchmark.hotpath import HotPath
from tritonic_nb.benchmark.machine import Machine
from tritonic_nb.benchmark.overhead import Overhead
from tritonic_nb.benchmark.rounds import Series
from tritonic_nb.benchmark.targets import Target, evaluate
from tritonic_nb.benchmark.way import Way
from tritonic_nb.measuring import Crossing, crossing_of
from tritonic_nb.render import human_bytes

__all__ = ["SCHEMA", "Report"]

SCHEMA = 1
"""Counts up when a key of the document changes its meaning or goes."""

_REFERENCE = "client_shm"
_SHARED, _WIRE = "session", "session_wire"
_FLOOR = "socket"


@dataclass
class Report:
    """All that a run has found.

    Attributes
    ----------
    endpoint, machine
        Where it ran.
    ways
        The ways, in the order in which they are shown.
    sizes
        By the tensor's bytes and the way's key.
    overhead, memory, throughput, hot_path
        The other measurements; `memory` holds the peaks by the tensor's bytes.
    left_out
        In sentences, what was not measured and why.
    """

    endpoint: Endpoint
    machine: Machine
    ways: Sequence[type[Way]]
    sizes: dict[int, Mapping[str, Series]] = field(default_factory=dict)
    overhead: Overhead | None = None
    memory: dict[int, Mapping[str, int]] = field(default_factory=dict)
    throughput: list[Throughput] = field(default_factory=list)
    hot_path: HotPath | None = None
    left_out: list[str] = field(default_factory=list)

    def targets(self) -> list[Target]:
        """Return the targets and whether they were met."""
        return evaluate(self.sizes, self.overhead, self.throughput)

    def crossing(self) -> Crossing | None:
        """Return from which size on a session is a quarter faster through shared memory.

        None where the two were not measured at some sizes, or at one alone.
        """
        pairs = [
            (float(nbytes), series[_WIRE].median_ms / series[_SHARED].median_ms)
            for nbytes, series in self.sizes.items()
            if _WIRE in series and _SHARED in series
        ]
        return crossing_of(*zip(*sorted(pairs), strict=True)) if len(pairs) > 1 else None

    def document(self) -> dict[str, Any]:
        """Return the document for JSON, as the package's docstring describes it."""
        return {
            "schema": SCHEMA,
            "machine": asdict(self.machine),
            "triton": self.endpoint.server_version,
            "embedded": self.endpoint.embedded,
            "model": self.endpoint.model,
            "ways": {
                way.key: {"label": way.label, "timed": way.timed, "copies": way.copies}
                for way in self.ways
            },
            "sizes": [
                {"nbytes": nbytes, "ways": {key: _figures(each) for key, each in series.items()}}
                for nbytes, series in self.sizes.items()
            ],
            "crossing": _crossing_document(self.crossing()),
            "overhead": self.overhead and {
                "nbytes": self.overhead.nbytes,
                "connections": len(self.overhead.differences_ms),
                "median_ms": self.overhead.median_ms,
                "spread_ms": self.overhead.spread_ms,
                "at_hand_ms": self.overhead.at_hand_ms,
            },
            "memory": [
                {"nbytes": nbytes, "peak_nbytes": dict(peaks)}
                for nbytes, peaks in self.memory.items()
            ],
            "in_flight": [
                {
                    "model": each.model,
                    "what": each.what,
                    "per_second": {str(d): each.median(d) for d in each.per_second},
                    "ratio": {str(d): each.ratio(d) for d in each.per_second},
                }
                for each in self.throughput
            ],
            "targets": [{**asdict(target), "met": target.met} for target in self.targets()],
            "left_out": list(self.left_out),
        }  # fmt: skip

    def text(self) -> str:
        """Return the report as text, at most 100 columns wide."""
        parts = [self._heading(), self._legend()]
        parts += [self._size(nbytes) for nbytes in self.sizes]
        crossing = self.crossing()
        parts += [_crossing_text(crossing)] if crossing else []
        parts += [self._overhead()] if self.overhead else []
        parts += [self._peaks(*each) for each in self.memory.items()]
        parts += [_in_flight(self.throughput)] if self.throughput else []
        parts += [_hot_path(self.hot_path, self.sizes)] if self.hot_path else []
        parts += [_targets(self.targets())]
        parts += ["\n".join(self.left_out)] if self.left_out else []
        return "\n\n".join(parts) + "\n"

    def _heading(self) -> str:
        machine = self.machine
        server = "the embedded server" if self.endpoint.embedded else "another server"
        libraries = [f"{name} {version}" for name, version in machine.libraries.items() if version]
        lines = [
            f"One {self.endpoint.model} tensor to a Triton server and back",
            f"  {machine.cpu}, {machine.cores} cores, load {machine.load}, {machine.system}",
            f"  Python {machine.python}, Triton {self.endpoint.server_version} ({server})",
            f"  {', '.join(libraries)}",
        ]
        if machine.busy:
            lines.append("  Others were busy on this machine: run it again when they are not.")
        return "\n".join(lines)

    def _legend(self) -> str:
        rows = [("way", "what is timed"), *((way.label, way.timed) for way in self.ways)]
        return "\n".join(
            [
                *_aligned(rows),
                "  p10, p90: of the connections' medians; each meets another thread of the server",
                "  x shm: as compared with tritonclient shm, a view, as NVIDIA's examples have it",
                "  x floor: as compared with the bare socket",
            ]
        )

    def _size(self, nbytes: int) -> str:
        series = self.sizes[nbytes]
        connections = {len(each.connections) for each in series.values()}
        requests = {len(each.times_ms) for each in series.values()}
        rows = [
            ("way", "median ms", "p10", "p90", "p99 ms", "x shm", "x floor"),
            *(
                (
                    way.label,
                    _ms(series[way.key].median_ms),
                    *map(_ms, series[way.key].spread_ms),
                    _ms(series[way.key].p99_ms),
                    _times(series[way.key].median_ms, series[_REFERENCE].median_ms),
                    _times(series[way.key].median_ms, series[_FLOOR].median_ms),
                )
                for way in self.ways
            ),
        ]
        title = (
            f"{human_bytes(nbytes)}: {_one(requests)} requests over {_one(connections)} connections"
        )
        return "\n".join([title, *_aligned(rows, numbers=range(1, 7))])

    def _overhead(self) -> str:
        found = self.overhead
        assert found is not None  # noqa: S101 - asked for only then
        low, high = (each * 1e3 for each in found.spread_ms)
        return (
            f"What a session adds over the prepared request, {human_bytes(found.nbytes)}: "
            f"{found.median_ms * 1e3:.0f} us\n"
            f"  p10 {low:.0f}, p90 {high:.0f}, of {len(found.differences_ms)} connections, over "
            "each of which both went in turn\n"
            f"  {found.at_hand_ms * 1e3:.0f} us, both copies included, when the reply is at hand: "
            "the rest is caches that the server took"
        )

    def _peaks(self, nbytes: int, peaks: Mapping[str, int]) -> str:
        rows = [("way", "peak", "in tensors", "copies by Python")]
        for way in self.ways:
            if way.key in peaks:
                copies = "not known" if way.copies is None else str(way.copies)
                peak = peaks[way.key]
                rows.append((way.label, human_bytes(peak), f"{peak / nbytes:.1f}", copies))
        title = (
            f"{human_bytes(nbytes)}: the memory that each way adds to its process at the peak\n"
            "  Input and output, wherever they lie, are 2 tensors; two regions beside them, 4."
        )
        return "\n".join([title, *_aligned(rows, numbers=(1, 2, 3))])


def _figures(series: Series) -> dict[str, Any]:
    return {
        "median_ms": series.median_ms,
        "p99_ms": series.p99_ms,
        "spread_ms": series.spread_ms,
        "connections": len(series.connections),
        "requests": len(series.times_ms),
    }


def _crossing_document(found: Crossing | None) -> dict[str, float] | None:
    if found is None or not found.found:
        return None
    return {"nbytes": found.size, "below": found.below, "above": found.above}


def _crossing_text(found: Crossing) -> str:
    ways = "A session in shared memory is a quarter faster than over the wire"
    if not found.found:
        return f"{ways} at {'every size' if found.size == 0 else 'no size'} that was measured"
    return (
        f"{ways} from about {human_bytes(round(found.size))} on\n"
        f"  the ratio was measured to pass a quarter between {human_bytes(round(found.below))} and "
        f"{human_bytes(round(found.above))}"
    )


def _in_flight(throughput: Sequence[Throughput]) -> str:
    rows: list[Sequence[str]] = []
    for each in throughput:
        depths = list(each.per_second)
        if not rows:
            named = ["in a loop" if d == SEQUENTIAL else f"{d} in flight" for d in depths]
            rows.append(("inferences per second", *named))
        rows.append((each.what, *(f"{each.median(depth):.0f}" for depth in depths)))
        rows.append(("  x the loop", *(f"{each.ratio(depth):.2f}" for depth in depths)))
    return "\n".join(
        ["Session.map, by requests in flight", *_aligned(rows, numbers=range(1, len(rows[0])))]
    )


def _hot_path(found: HotPath, sizes: Mapping[int, Mapping[str, Series]]) -> str:
    nbytes = min(sizes)
    series = sizes[nbytes]
    floor, whole = series[_FLOOR].median_ms * 1e3, series["session"].median_ms * 1e3
    laps = ", ".join(f"{name} {value:.0f}" for name, value in found.laps_us.items())
    rows = [
        ("function", "calls", "own us", "with callees us"),
        *(
            (row.function[:64], f"{row.calls:.1f}", f"{row.own_us:.1f}", f"{row.whole_us:.1f}")
            for row in found.rows
        ),
    ]
    return "\n".join(
        [
            f"Where Session.infer spends its time, {human_bytes(nbytes)}, for each inference",
            f"  the bare socket takes {floor:.0f} of {whole:.0f} us ({floor / whole:.0%})",
            f"  laps in us: {laps}",
            "  by cProfile, which makes Python's part slower than it is:",
            *_aligned(rows, numbers=(1, 2, 3)),
        ]
    )


def _targets(targets: Sequence[Target]) -> str:
    rows = [("target", "", "measured", "at best", "met")]
    for target in targets:
        sign = "<=" if target.at_most else ">="
        figure = f"{target.limit:g} {target.unit}"
        measured = "-" if target.measured is None else f"{target.measured:.2f} {target.unit}"
        at_best = "" if target.at_best is None else f"{target.at_best:.2f}"
        met = {True: "yes", False: "NO", None: "-"}[target.met]
        rows.append((target.what, f"{sign} {figure}", measured, at_best, met))
    note = "  at best: if the session took no longer than the bare socket; the rest is the server's"
    return "\n".join(["Targets", *_aligned(rows, numbers=(1, 2, 3)), note])


def _aligned(rows: Sequence[Sequence[str]], *, numbers: Sequence[int] | range = ()) -> list[str]:
    """Align rows as columns, those of numbers to the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.rjust(widths[index]) if index in numbers else cell.ljust(widths[index])
            for index, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3f}" if milliseconds < 10 else f"{milliseconds:.1f}"


def _times(figure: float, reference: float) -> str:
    return f"{figure / reference:.2f}"


def _one(counts: set[int]) -> str:
    return " or ".join(map(str, sorted(counts)))
