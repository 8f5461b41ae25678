"""Where the time of one request goes, stage by stage: :class:`Explanation`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from tritonic_nb import render
from tritonic_nb.errors import ArgumentError, brief, check_whole
from tritonic_nb.measuring.comparison import ended_text
from tritonic_nb.measuring.counters import Counters, ServerTimes
from tritonic_nb.measuring.lane import Bench, Lane
from tritonic_nb.measuring.tracing import Traced, trace_log
from tritonic_nb.measuring.way import way_called
from tritonic_nb.render import Progress, RequestTimeline, Stage, figures, human_bytes, waterfall
from tritonic_nb.result import InferenceResult

__all__ = ["ExplainedWay", "Explanation", "explain"]

_WARM_UPS = 2
_TURNS = 4
_LEAST_AFTER = 0.02  # of a request, to speak of
_BOTH_WAYS = "send and reply"
_SERVER = ("queue", "compute input", "compute", "compute output")
"""Triton's own stages: their times are its counters'."""

_HELP = {
    "prepare": "checking and turning a picture into a tensor: prepare pictures beforehand, or "
    "several at a time with session.map()",
    "copy in": "copying into shared memory: fill session.inputs in place",
    "encode": "copying into the request: shared memory spares it",
    "send": "the way to the server: shared memory spares the bytes",
    _BOTH_WAYS: "the way to the server and back: with shared memory it carries no tensors",
    "queue": "waiting for an instance of the model, which is at others' requests, or still at the "
    "books of the one before",
    "compute input": "the server's copy for the model's backend: a backend that works in place",
    "compute": "the model itself, which no way of moving tensors changes",
    "compute output": "the server's copy from the model's backend: a backend that works in place",
    "reply": "the way back: shared memory spares the bytes",
    "decode": "copying out of the reply: shared memory spares it",
    "copy out": "copying out of shared memory: copy=False gives views",
}

_OTHER = "the server's own work"
_FEW_NBYTES = 64 * 1024
_FIXED = (
    "what every request costs, however small: larger batches or several in flight share it among "
    "more items"
)


@dataclass(frozen=True)
class ExplainedWay:
    """One request over one way: the mean over the middle half of many by their length.

    Attributes
    ----------
    name, label
        What the way is called in code and in sentences.
    stages
        In their order, with when each began, how long it took, and the bytes that it moved.
    total_ms
        The request from ``infer`` to its result, by the client's clock.
    server
        The server's own counters for the same requests.
    requests, used
        How many requests there were, and over how many of them the stages are taken.
    after_ms
        How long the server was at its books after the reply had come. Its counter of `compute
        output` has that too, the stage has not.
    traced
        Whether the server's part is from its trace; else from its counters alone, which do
        not tell when a stage began.
    """

    name: str
    label: str
    stages: tuple[Stage, ...]
    total_ms: float
    server: ServerTimes
    requests: int
    used: int
    after_ms: float
    traced: bool

    def __getitem__(self, stage: str) -> Stage:
        """Return a stage by its name."""
        for each in self.stages:
            if each.name == stage:
                return each
        raise ArgumentError(
            f"there is no stage {brief(stage)}",
            f"there are {', '.join(each.name for each in self.stages)}",
        )

    @property
    def sum_ms(self) -> float:
        """The sum of the stages, which is :attr:`total_ms` but for what no clock saw."""
        return sum(stage.ms for stage in self.stages)

    @property
    def dominant(self) -> Stage:
        """The longest stage."""
        return max(self.stages, key=lambda stage: stage.ms)


@dataclass(frozen=True, repr=False)
class Explanation(render.Described):
    """Where the time of one request goes, for one way or several.

    Attributes
    ----------
    model, batch
        What was run.
    ways
        Each way.
    left_out
        The ways that do not work here, and why.
    notes
        In sentences, what is to be known besides.
    ended
        What ended it: ``"precise"`` (all requests were made), ``"time"`` or ``"interrupted"``.
    """

    model: str
    batch: int
    ways: tuple[ExplainedWay, ...]
    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()
    ended: str = "precise"

    def __getitem__(self, name: str) -> ExplainedWay:
        """Return a way by its name."""
        return way_called(name, self.ways, self.left_out)

    @property
    def sentence(self) -> str:
        """What dominates, and what would help."""
        return " ".join(f"{_capital(way.label)}: {_sentence(way)}." for way in self.ways)

    def picture(self) -> render.Picture:
        """Return it as a picture: a stacked bar for each way, and its stages one by one."""
        return self._picture(self.sentence)

    def _picture(self, note: str) -> render.Picture:
        timelines = [RequestTimeline(_capital(w.label), w.stages, w.total_ms) for w in self.ways]
        return waterfall(timelines, title=self._title(), note=note)

    def document(self) -> dict[str, Any]:
        """Return it as a document for JSON: numbers, texts, lists and mappings alone."""
        return {**asdict(self), "sentence": self.sentence}

    def _title(self) -> str:
        batch = f" at batch {self.batch}" if self.batch > 1 else ""
        return f"One request to {self.model}{batch}, by stage"

    def _described(self) -> render.Description:
        rows = [(way.label, _sentence(way)) for way in self.ways]
        rows += [("left out", f"{name}: {why}") for name, why in self.left_out.items()]
        rows += [("note", note) for note in self.notes]
        rows += [("measured", ended_text(self.ended))] if self.ended != "precise" else []
        return self._title(), rows, [_table(way) for way in self.ways]

    def _drawn(self) -> render.Picture | None:
        return self._picture("")  # the words stand beside it


def explain(
    bench: Bench,
    ways: Any,
    inputs: Any,
    *,
    batch: int,
    requests: int,
    seconds: float,
    progress: bool,
) -> Explanation:
    """Explain ways, as :meth:`Session.explain <tritonic_nb.Session.explain>` tells."""
    check_whole(requests, _TURNS, "requests", f"explain with {_TURNS} requests or more")
    transport, model = bench.setup.link.transport, bench.setup.chosen
    copied = bool(bench.options.get("copy", True))
    until = time.monotonic() + seconds
    with bench.lanes(ways, inputs) as lanes:
        opened = list(lanes.open.values())
        with trace_log(transport, model.name, bench.trace_file) as log:
            rows, ended = _run(opened, Counters(transport, model), requests, until, show=progress)
            traces = [] if log is None else log.take(sum(map(len, rows)))
        explained = tuple(
            _way(lane, _with_traces(found, traces), copied=copied)
            for lane, found in zip(opened, rows, strict=True)
        )
        notes = _notes(explained)
        return Explanation(model.name, batch, explained, lanes.left_out, notes, ended)


class _Row(NamedTuple):
    """One request: its client's laps, when it was over, and the server's part of it."""

    result: InferenceResult
    ended_s: float
    server: ServerTimes
    traced: Traced | None = None


def _run(
    lanes: Sequence[Lane], counters: Counters, requests: int, until: float, *, show: bool
) -> tuple[list[list[_Row]], str]:
    """Run requests over each lane, in turns, so that what disturbs the machine disturbs all.

    Returns
    -------
    list of list of _Row, str
        The requests of each lane, and what ended it: once every lane had a turn, the time that is
        up or Ctrl-C do.
    """
    rows: list[list[_Row]] = [[] for _ in lanes]
    counters.settle()
    with Progress(_TURNS, show=show, unit="turn") as bar:
        for turn in range(_TURNS):
            if turn and time.monotonic() > until:
                return rows, "time"
            begun = [len(found) for found in rows]
            try:
                for lane, found in zip(lanes, rows, strict=True):
                    count = requests * (turn + 1) // _TURNS - requests * turn // _TURNS
                    _take_turn(lane, found, counters, count, until if turn else math.inf)
            except KeyboardInterrupt:
                if not turn:
                    raise
                # All lanes as many.
                return [found[:count] for found, count in zip(rows, begun, strict=True)], (
                    "interrupted"
                )
            bar.step()
    return rows, "precise"


def _take_turn(lane: Lane, found: list[_Row], counters: Counters, count: int, until: float) -> None:
    for _ in range(_WARM_UPS):
        lane.infer()
    counters.since(_WARM_UPS)
    for _ in range(count):
        # Without its arrays: as long as they are kept, the next one's have to be new memory.
        result = replace(lane.infer(), outputs={}, images=())
        found.append(_Row(result, time.perf_counter(), counters.since()))
        if time.monotonic() > until:
            break


def _with_traces(rows: Sequence[_Row], traces: Sequence[Traced]) -> Sequence[_Row]:
    """Return requests with their traces; without any, where few have one.

    They have none where the server's times are of another clock, and no clear one where others
    use the model at the same time.
    """
    traced = [
        row._replace(traced=trace)
        for row in rows
        if (trace := _within(traces, row.result.timings.begun_s, row.ended_s)) is not None
    ]
    return traced if len(traced) * 2 >= len(rows) else rows


def _within(traces: Sequence[Traced], begun: float, ended: float) -> Traced | None:
    """Return the one trace of a request between two moments."""
    found = [each for each in traces if begun <= each.queued and each.output_begun <= ended]
    return found[0] if len(found) == 1 else None


def _way(lane: Lane, rows: Sequence[_Row], *, copied: bool) -> ExplainedWay:
    """Take the middle half of the requests by their length, and the mean of them."""
    ordered = sorted(rows, key=lambda row: row.result.timings.total_ms)
    quarter = len(ordered) // 4
    middle = ordered[quarter : len(ordered) - quarter]
    traced = all(row.traced is not None for row in middle)
    single = [_stages(row, copied=copied) for row in middle]
    stages = tuple(
        Stage(
            each.name,
            each.side,
            float(np.mean([stages[at].start_ms for stages in single])),
            float(np.mean([stages[at].ms for stages in single])),
            each.nbytes,
        )
        for at, each in enumerate(single[0])
    )
    counted = [row.server for row in middle]
    means = np.mean([each[:5] for each in counted], axis=0).tolist()
    server = ServerTimes._make([*means, sum(each.requests for each in counted)])
    return ExplainedWay(
        name=lane.name,
        label=lane.label,
        stages=stages,
        total_ms=float(np.mean([row.result.timings.total_ms for row in middle])),
        server=server,
        requests=len(rows),
        used=len(middle),
        after_ms=float(np.mean([_after_ms(row) for row in middle])),
        traced=traced,
    )


def _after_ms(row: _Row) -> float:
    """Return how long the server worked on after a request's reply had come."""
    if row.traced is None:
        return 0.0
    timings = row.result.timings
    out_ms = timings.decode_ms + timings.copy_out_ms
    received = timings.begun_s + (timings.total_ms - out_ms) / 1e3
    return max(0.0, row.traced.computed - received) * 1e3


def _stages(row: _Row, *, copied: bool) -> list[Stage]:
    """Return the stages of one request, in their order."""
    result, timings = row.result, row.result.timings
    by = {(direction, bool(place.region)): 0 for (direction, _), place in result.places.items()}
    for (direction, _), place in result.places.items():
        by[direction, bool(place.region)] += place.nbytes
    sent = result.wire_nbytes - result.reply_nbytes
    begun = timings.prepare_ms + timings.copy_in_ms + timings.encode_ms
    last = begun + timings.send_ms + timings.wait_ms + timings.receive_ms
    client_in = [
        ("prepare", 0.0, timings.prepare_ms, None),
        ("copy in", timings.prepare_ms, timings.copy_in_ms, by.get(("input", True))),
        ("encode", begun - timings.encode_ms, timings.encode_ms, by.get(("input", False))),
    ]
    client_out = [
        ("decode", last, timings.decode_ms, by.get(("output", False))),
        (
            "copy out", last + timings.decode_ms, timings.copy_out_ms,
            by.get(("output", True)) if copied else None,
        ),
    ]  # fmt: skip
    between = (
        _by_trace(row.traced, timings.begun_s, begun, last, sent, result.reply_nbytes)
        if row.traced is not None
        else _by_counters(row.server, begun, last, result.wire_nbytes)
    )
    return [
        *(Stage(name, "client", start, ms, nbytes) for name, start, ms, nbytes in client_in),
        *between,
        *(Stage(name, "client", start, ms, nbytes) for name, start, ms, nbytes in client_out),
    ]


def _by_trace(  # noqa: PLR0917
    traced: Traced, origin_s: float, begun: float, last: float, sent: int, received: int
) -> list[Stage]:
    """Return the stages between sending and having the reply, by the server's trace."""
    marks = [
        (moment - origin_s) * 1e3
        for moment in (
            traced.queued, traced.computing, traced.input_ready, traced.output_begun,
            traced.computed,
        )
    ]  # fmt: skip
    # The reply may have come before the server is done with its books: what it does then is not
    # part of the request's time.
    marks[-1] = computed = min(marks[-1], last)
    server = [
        Stage(name, "server", start, end - start)
        for name, start, end in zip(_SERVER, marks, marks[1:], strict=False)
    ]
    return [
        Stage("send", "transit", begun, max(0.0, marks[0] - begun), sent),
        *server,
        Stage("reply", "transit", computed, last - computed, received),
    ]


def _by_counters(server: ServerTimes, begun: float, last: float, nbytes: int) -> list[Stage]:
    """Return the same stages by the server's counters, which do not tell when one began."""
    lengths = server[:4]
    # The rest of the server's time: of an ensemble, that of the models it is made of.
    rest = max(0.0, server.total_ms - sum(lengths))
    transit = max(0.0, last - begun - server.total_ms)
    start, stages = begun + transit, [Stage(_BOTH_WAYS, "transit", begun, transit, nbytes)]
    for name, ms in (*zip(_SERVER, lengths, strict=True), ("other in the server", rest)):
        stages.append(Stage(name, "server", start, ms))
        start += ms
    return stages


def _notes(ways: Sequence[ExplainedWay]) -> tuple[str, ...]:
    notes = []
    if any(not way.traced for way in ways):
        notes.append(
            "by the server's counters: they do not tell when a stage began, so the ways to the "
            "server and back are one stage, drawn first (a trace, where the server is on this "
            "machine and writes one, tells them apart)"
        )
    after = [
        f"{way.label} {way.after_ms:.2f} ms"
        for way in ways
        if way.after_ms >= _LEAST_AFTER * way.total_ms
    ]
    if after:
        notes.append(
            "the server's counter of compute output is larger by what it did after the reply had "
            f"come: {', '.join(after)}"
        )
    if any(way.server.requests == 0 for way in ways):
        notes.append("the server does not tell its counters: its time is part of the way")
    if any(way.server.requests > way.used for way in ways):
        notes.append("others used the model meanwhile: the server's counters are the mean of all")
    return tuple(notes)


def _sentence(way: ExplainedWay) -> str:
    longest = way.dominant
    part = longest.ms / way.total_ms if way.total_ms > 0 else 0.0
    how = "most of it" if part > 0.5 else "the longest stage is"
    helps = _HELP.get(longest.name, _OTHER)
    if longest.side == "transit" and (longest.nbytes or 0) < _FEW_NBYTES:
        helps = _FIXED
    return f"{figures(way.total_ms, 2)} ms, {how} {longest.name} ({part:.0%}), {helps}"


def _table(way: ExplainedWay) -> render.Table:
    rows = [
        (
            stage.name,
            stage.side,
            f"{stage.start_ms:.3f}",
            f"{stage.ms:.3f}",
            f"{stage.ms / way.total_ms:.1%}" if way.total_ms > 0 else "",
            "" if stage.nbytes is None else human_bytes(stage.nbytes),
        )
        for stage in way.stages
    ]
    rows.append(("in all", "", "", f"{way.total_ms:.3f}", "", ""))
    source = "traced" if way.traced else "counted"
    title = f"{_capital(way.label)}, {source}, mean of {way.used} of {way.requests} requests"
    columns = ("stage", "side", "from ms", "ms", "part", "bytes")
    return render.Table(title, columns, rows, (2, 3, 4, 5), open=False)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
