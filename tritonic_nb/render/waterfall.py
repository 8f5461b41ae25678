"""Where the time of one request goes: its stages as one bar, and one below the other.

Several ways stand under one another. The bars on top share one axis, so that their lengths
compare; each waterfall below has an axis of its own, because the stages of a short request
would be dots on that of a long one. Client, transit and server differ in hue and in
lightness: dark blue, hollow, and orange.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.canvas import Canvas
from tritonic_nb.render.human import figures, human_bytes, human_ms
from tritonic_nb.render.measured import (
    SMALL,
    begun,
    check_numbers,
    check_width,
    draw_ms_axis,
    draw_name,
    finished,
)
from tritonic_nb.render.palette import text_on
from tritonic_nb.render.picture import Picture
from tritonic_nb.render.plot import EDGE, FACE, MARGIN, MUTED, TEXT, text_width
from tritonic_nb.render.scales import LinearScale

__all__ = ["RequestTimeline", "Stage", "waterfall"]

_COLORS = {"client": "#0072b2", "transit": "#eef1f4", "server": "#e69f00"}
_EDGES = {"transit": MUTED}  # what is nearly white has an outline
_UNKNOWN = "#c4cad0"

_KEY = 24
_WAY = 48  # from one stacked bar to the next
_BAR = 22
_AXIS = 24
_HEADING = 46  # above the rows of a waterfall: its name, and what its columns are
_ROW = 18
_ROW_BAR = 11
_BAR_TOP = 2.5  # in its row
_BETWEEN = 14
_SWATCH = 8
_NAMES_LEFT = MARGIN + _SWATCH + 6
_MOST_NAMES = 0.28  # of the width
_LEAST_BAR = 2.0  # pixels: the shortest stage can be seen
_LEAST_GAP_BAR = 1.0
_LEAST_GAP = 0.005  # of the total, before time in no stage is told
_LONGEST_MS = 1e7  # beyond that decimals would take the room of the bars
_NO_STAGE = "in no stage"


@dataclass(frozen=True)
class Stage:
    """One stage of a request.

    Attributes
    ----------
    name
        Such as ``"copy in"``.
    side
        Who is busy: ``"client"``, ``"server"``, or ``"transit"`` for neither.
    start_ms
        After the request began.
    ms
        How long it took.
    nbytes
        How many bytes were moved; None where none are.
    """

    name: str
    side: str
    start_ms: float
    ms: float
    nbytes: int | None = None

    @property
    def end_ms(self) -> float:
        """After the request began."""
        return self.start_ms + self.ms


@dataclass(frozen=True)
class RequestTimeline:
    """One request by one way.

    Attributes
    ----------
    name
        The way, such as ``"system shared memory"``.
    stages
        In the order of their rows; they may overlap.
    total_ms
        From the call to its result.
    """

    name: str
    stages: Sequence[Stage]
    total_ms: float

    @property
    def end_ms(self) -> float:
        """When the last thing ended: a stage of the server may outlast the request."""
        return max((self.total_ms, *(stage.end_ms for stage in self.stages)))

    def gaps(self) -> list[tuple[float, float]]:
        """Give from when to when, in ms, the request was in no stage."""
        found, reached = [], 0.0
        for stage in sorted(self.stages, key=lambda stage: stage.start_ms):
            if stage.start_ms > reached:
                found.append((reached, min(stage.start_ms, self.total_ms)))
            reached = max(reached, stage.end_ms)
        found.append((reached, self.total_ms))
        return [(start, end) for start, end in found if end > start]

    def unknown_ms(self) -> float:
        """Give the time in no stage, and 0 where it is not worth to be told."""
        missing = sum(end - start for start, end in self.gaps())
        return missing if missing > _LEAST_GAP * self.total_ms else 0.0

    def share(self, ms: float) -> str:
        """Write a time as percent of the total."""
        part = ms / self.total_ms if self.total_ms else 0.0
        if 0 < part < 0.0005:
            return "<0.1 %"
        return f"{part * 100:.1f} %" if part < 10 else ">999 %"


def waterfall(
    timelines: Sequence[RequestTimeline], *, title: str, note: str = "", width: int = 720
) -> Picture:
    """Draw where the time of a request goes, for one or several ways.

    Parameters
    ----------
    timelines
        At least one, each of one stage or more.
    title
        Above all.
    note
        Below all; may be empty.
    width
        On the page, in CSS pixels, at least 480.

    Returns
    -------
    Picture
        A light card, also on dark pages; its text is the same in words and numbers.

    Raises
    ------
    ArgumentError
        If there is nothing to draw, a number is not finite or below 0, a side is unknown, or
        it is too narrow.
    """
    check_width(width)
    _check(timelines)
    stacked = _WAY * len(timelines) + _AXIS
    height = _KEY + stacked + sum(_height(timeline) for timeline in timelines)
    canvas, top = begun(title, note, width, height)
    _draw_key(canvas, top, any(timeline.unknown_ms() for timeline in timelines))
    top += _KEY
    shared = _draw_stacked(canvas, timelines, top)
    top += stacked
    for timeline in timelines:
        _draw_waterfall(canvas, timeline, top, shared if len(timelines) > 1 else None)
        top += _height(timeline)
    return finished(canvas, (title, *map(_text, timelines), note), width)


def _check(timelines: Sequence[RequestTimeline]) -> None:
    if not timelines:
        raise ArgumentError("there is no request to draw", "give at least one timeline")
    for timeline in timelines:
        if not timeline.stages:
            raise ArgumentError(f"{timeline.name!r} has no stages", "give at least one")
        check_numbers(repr(timeline.name), [timeline.total_ms])
        for stage in timeline.stages:
            owner = f"{stage.name!r} of {timeline.name!r}"
            if stage.side not in _COLORS:
                raise ArgumentError(
                    f"{owner} is at the side {stage.side!r}", f"use one of {', '.join(_COLORS)}"
                )
            moved = [] if stage.nbytes is None else [stage.nbytes]
            check_numbers(owner, [stage.start_ms, stage.ms, stage.end_ms, *moved])


# --- what is drawn -----------------------------------------------------------------------------


def _height(timeline: RequestTimeline) -> float:
    return _BETWEEN + _HEADING + _ROW * _rows(timeline) + _AXIS


def _rows(timeline: RequestTimeline) -> int:
    return len(timeline.stages) + (timeline.unknown_ms() > 0)


def _draw_key(canvas: Canvas, top: float, unknown: bool) -> None:
    x = float(MARGIN)
    words = {"client": "client", "transit": "on the way between them", "server": "server"}
    for side, text in words.items():
        _draw_swatch(canvas, x, top + 3, _COLORS[side], _EDGES.get(side))
        x += 14 + canvas.text(x + 14, top + 11, text) + 18
    if unknown:
        _draw_swatch(canvas, x, top + 3, _UNKNOWN, None)
        canvas.text(x + 14, top + 11, _NO_STAGE)


def _draw_swatch(canvas: Canvas, x: float, y: float, color: str, edge: str | None) -> None:
    canvas.rectangle(x, y, _SWATCH, _SWATCH, fill=color, edge=edge or "none", line=0.8)


def _draw_stacked(canvas: Canvas, timelines: Sequence[RequestTimeline], top: float) -> LinearScale:
    """Draw each request as one bar on one axis, and give that axis."""
    totals = max(text_width(human_ms(each.total_ms), bold=True) for each in timelines)
    longest = max(timeline.end_ms for timeline in timelines) or 1.0
    scale = LinearScale(0.0, longest, MARGIN, canvas.width - MARGIN - totals - 8)
    bottom = top + _WAY * len(timelines) - 4
    draw_ms_axis(canvas, scale, top + 4, bottom)
    for row, timeline in enumerate(timelines):
        y = top + _WAY * row
        draw_name(canvas, MARGIN, y + 12, timeline.name, room=canvas.width - 2 * MARGIN)
        _draw_stack(canvas, timeline, scale, y + 18)
        canvas.text(
            scale(timeline.end_ms) + 8, y + 18 + _BAR / 2 + 4, human_ms(timeline.total_ms),
            size=9, color=TEXT, bold=True,
        )  # fmt: skip
    return scale


def _draw_stack(canvas: Canvas, timeline: RequestTimeline, scale: LinearScale, y: float) -> None:
    """Draw the stages where they were; of two that overlap, the later one is on top."""
    for start, end in timeline.gaps():
        canvas.rectangle(scale(start), y, scale(end) - scale(start), _BAR, fill=_UNKNOWN)
    ordered = sorted(timeline.stages, key=lambda stage: (stage.start_ms, -stage.ms))
    ends = [*(stage.start_ms for stage in ordered[1:]), math.inf]
    for stage, next_ms in zip(ordered, ends, strict=True):
        x, across = scale(stage.start_ms), _across(scale, stage.start_ms, stage.end_ms)
        color = _COLORS[stage.side]
        edge = _EDGES.get(stage.side, FACE if across >= 3 else "none")
        canvas.rectangle(x, y, across, _BAR, fill=color, edge=edge, line=0.6)
        seen = scale(min(stage.end_ms, next_ms)) - x
        if text_width(stage.name, size=SMALL) + 8 <= seen:
            canvas.text(
                x + seen / 2, y + _BAR / 2 + 4, stage.name, color=text_on(color), align="centre"
            )


def _draw_waterfall(
    canvas: Canvas, timeline: RequestTimeline, top: float, shared: LinearScale | None
) -> None:
    """Draw a row for each stage, on an axis of this request alone."""
    top += _BETWEEN
    columns = _columns(timeline)
    left = _NAMES_LEFT + _names_width(canvas, timeline) + 12
    right = canvas.width - MARGIN - sum(width for _, width, _ in columns)
    scale = LinearScale(0.0, timeline.end_ms or 1.0, left, right)
    canvas.line((MARGIN, canvas.width - MARGIN), (top - 4, top - 4), EDGE)
    total = canvas.text(
        canvas.width - MARGIN, top + 16, human_ms(timeline.total_ms),
        size=9, color=TEXT, bold=True, align="right",
    )  # fmt: skip
    room = canvas.width - 2 * MARGIN - total - 16
    canvas.text(MARGIN, top + 16, timeline.name, room=room, size=9, color=TEXT, bold=True)
    if shared is not None:
        canvas.text(MARGIN, top + 34, _zoom(scale, shared), room=right - MARGIN - 8)
    _draw_columns(canvas, columns, top)
    top += _HEADING
    draw_ms_axis(canvas, scale, top, top + _ROW * _rows(timeline))
    _draw_rows(canvas, timeline, scale, top)


def _draw_columns(
    canvas: Canvas, columns: Sequence[tuple[str, float, list[str]]], top: float
) -> None:
    x = float(canvas.width - MARGIN)
    for heading, width, cells in reversed(columns):
        canvas.text(x, top + 34, heading, align="right")
        for row, cell in enumerate(cells):
            canvas.text(x, top + _HEADING + row * _ROW + 11, cell, color=TEXT, align="right")
        x -= width


def _draw_rows(canvas: Canvas, timeline: RequestTimeline, scale: LinearScale, top: float) -> None:
    room = _names_width(canvas, timeline) + 1
    for row, stage in enumerate(timeline.stages):
        y, color, edge = top + row * _ROW, _COLORS[stage.side], _EDGES.get(stage.side)
        _draw_swatch(canvas, MARGIN, y + 4, color, edge)
        canvas.text(_NAMES_LEFT, y + 11, stage.name, room=room, color=TEXT)
        across = _across(scale, stage.start_ms, stage.end_ms)
        canvas.rectangle(
            scale(stage.start_ms), y + _BAR_TOP, across, _ROW_BAR,
            fill=color, edge=edge or "none", line=0.8,
        )  # fmt: skip
    if timeline.unknown_ms():
        y = top + len(timeline.stages) * _ROW
        _draw_swatch(canvas, MARGIN, y + 4, _UNKNOWN, None)
        canvas.text(_NAMES_LEFT, y + 11, _NO_STAGE, room=room)
        for start, end in timeline.gaps():
            across = _across(scale, start, end, _LEAST_GAP_BAR)
            canvas.rectangle(scale(start), y + _BAR_TOP, across, _ROW_BAR, fill=_UNKNOWN)


def _names_width(canvas: Canvas, timeline: RequestTimeline) -> float:
    names = [_NO_STAGE, *(stage.name for stage in timeline.stages)]
    return min(max(text_width(name, size=SMALL) for name in names), canvas.width * _MOST_NAMES)


def _across(scale: LinearScale, start: float, end: float, least: float = _LEAST_BAR) -> float:
    return max(float(scale(end) - scale(start)), least)


def _columns(timeline: RequestTimeline) -> list[tuple[str, float, list[str]]]:
    """Give the columns at the right: heading, width in pixels, cells."""
    stages, unknown = timeline.stages, timeline.unknown_ms()
    times = [stage.ms for stage in stages] + ([unknown] if unknown else [])
    columns = [
        ("ms", [_ms(ms, timeline.total_ms) for ms in times]),
        ("of all", [timeline.share(ms) for ms in times]),
    ]
    if any(stage.nbytes is not None for stage in stages):
        moved = ["" if s.nbytes is None else human_bytes(s.nbytes) for s in stages]
        columns.append(("moved", moved + ([""] if unknown else [])))
    return [
        (heading, 14 + max(text_width(text, size=SMALL) for text in (heading, *cells)), cells)
        for heading, cells in columns
    ]


def _zoom(scale: LinearScale, shared: LinearScale) -> str:
    """Tell how much larger a waterfall is drawn than the bars on top."""
    factor = (scale(1.0) - scale.start) / (shared(1.0) - shared.start)
    return f"its own scale, {factor:,.2g} × the one on top" if factor > 1.05 else "its own scale"


# --- words -------------------------------------------------------------------------------------


def _ms(ms: float, total_ms: float) -> str:
    """Write a time with as many decimals as all of its column."""
    if ms >= _LONGEST_MS:
        return figures(ms)
    magnitude = math.floor(math.log10(total_ms)) if total_ms else 0
    decimals = min(4, max(0, (3 if total_ms >= 0.1 else 4) - max(0, magnitude)))
    smallest = 10.0**-decimals
    return f"<{smallest:.{decimals}f}" if 0 < ms < smallest / 2 else f"{ms:,.{decimals}f}"


def _text(timeline: RequestTimeline) -> str:
    parts = []
    for stage in timeline.stages:
        moved = "" if stage.nbytes is None else f", {human_bytes(stage.nbytes)} moved"
        time = f"{_ms(stage.ms, timeline.total_ms)} ms, {timeline.share(stage.ms)}"
        parts.append(f"{stage.name} ({stage.side}) {time}{moved}")
    unknown = timeline.unknown_ms()
    if unknown:
        time = f"{_ms(unknown, timeline.total_ms)} ms, {timeline.share(unknown)}"
        parts.append(f"{_NO_STAGE} {time}")
    return f"{timeline.name}: {human_ms(timeline.total_ms)} in all: {'; '.join(parts)}"
