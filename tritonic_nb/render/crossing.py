"""The same over sizes: time above, bandwidth below, and the size at which two ways cross.

All axes are logarithmic, so that equal ratios are equally far apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.canvas import Canvas
from tritonic_nb.render.human import human_bytes
from tritonic_nb.render.measured import (
    MARKERS,
    SMALL,
    begun,
    check_numbers,
    check_width,
    colors_of,
    finished,
    interval_text,
    wrapped,
)
from tritonic_nb.render.picture import Picture
from tritonic_nb.render.plot import EDGE, MARGIN, MUTED, TEXT, TRACK, text_width
from tritonic_nb.render.scales import LogScale, apart, is_power

__all__ = ["SweepLine", "SweepPoint", "crossing"]

_LEFT = 84  # of the plots, for the numbers at their side
_KEY = 22
_SAID_STEP = 16  # from one line of what is said of the crossing to the next
_HEADING = 26  # above each plot
_TIME = 200
_BANDWIDTH = 130
_AXIS = 50
_NAMES_GAP = 26  # from the plots to the names
_NAME_STEP = 15
_LEAST_STEP = 15  # from one number of a vertical axis to the next
_LONGEST_SIZE = 76  # pixels of what is written at the axis
_DASH = 5.0
_BAND = 0.22  # opacity


@dataclass(frozen=True)
class SweepPoint:
    """One size by one way.

    Attributes
    ----------
    x
        Bytes, or a batch size; above 0.
    times_ms
        The lower end of the median's interval, the median, and the upper end; above 0.
    nbytes
        Bytes of the tensors in and out of one request, at least 1.
    """

    x: float
    times_ms: tuple[float, float, float]
    nbytes: int

    @property
    def rates(self) -> tuple[float, float, float]:
        """Bytes in a second: lower end, at the median time, upper end."""
        low, median, high = (self.nbytes / ms * 1000 for ms in reversed(self.times_ms))
        return low, median, high


@dataclass(frozen=True)
class SweepLine:
    """One way over all sizes.

    Attributes
    ----------
    name
        Stands at its end.
    points
        In any order.
    color
        As Matplotlib takes it; by position where it is empty.
    """

    name: str
    points: Sequence[SweepPoint]
    color: str = ""


@dataclass(frozen=True)
class _Panel:
    """One of the two plots: what it shows of a point, and where."""

    canvas: Canvas
    x: LogScale
    y: LogScale
    values: Callable[[SweepPoint], tuple[float, float, float]]


def crossing(
    lines: Sequence[SweepLine],
    *,
    title: str,
    x_label: str,
    x_text: Callable[[float], str],
    crossing_at: float | None = None,
    crossing_text: str = "",
    note: str = "",
    width: int = 720,
) -> Picture:
    """Draw times and bandwidths over sizes, a line for each way.

    Parameters
    ----------
    lines
        At least one, of one point or more.
    title, x_label
        Above all, and below the axis: what its numbers are.
    x_text
        Writes a number of that axis with its unit; the axis has one for each size.
    crossing_at, crossing_text
        Where two ways are equally fast, and what is said of that, or of there being no such
        size. Beyond the sizes there is an arrow instead of a line.
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
        If there is nothing to draw, a number is not finite or not above 0, an interval's ends
        are not around its median, a colour is unknown, or it is too narrow.
    """
    check_width(width)
    _check(lines, crossing_at)
    colors = colors_of([line.color for line in lines])
    lines = [
        SweepLine(line.name, sorted(line.points, key=lambda point: point.x), color)
        for line, color in zip(lines, colors, strict=True)
    ]
    longest = max(text_width(line.name, size=SMALL) for line in lines) + 4
    names = min(longest, width / 3.4)
    said = wrapped(crossing_text, width - 2 * MARGIN, bold=True)
    mark = _SAID_STEP * len(said)
    # Where there are many names, there is room for all of them.
    heights = [max(least, _NAME_STEP * len(lines)) for least in (_TIME, _BANDWIDTH)]
    canvas, top = begun(title, note, width, _KEY + mark + 2 * _HEADING + sum(heights) + _AXIS)
    right = width - MARGIN - names - _NAMES_GAP
    sizes = sorted({point.x for line in lines for point in line.points})
    x = LogScale.around(sizes[0], sizes[-1], _LEFT, right, room=0.02, least_ratio=2.0)
    _draw_key(canvas, top)
    top += _KEY
    bottom = top
    plots = (
        ("time of one request, ms", _times, lambda value: f"{value:.6g}"),
        ("bandwidth: bytes in and out over that time", _rates, _rate_text),
    )
    spans: list[tuple[float, float]] = []
    for (heading, values, text), height in zip(plots, heights, strict=True):
        canvas.text(MARGIN, bottom + 16, heading, room=width - 2 * MARGIN)
        start = bottom + _HEADING + (0 if spans else mark)
        bottom = start + height
        spans.append((start, bottom))
        y = _y_scale(lines, values, start, bottom)
        panel = _Panel(canvas, x, y, values)
        _draw_grid(panel, sizes, text)
        for line, marker in zip(lines, _markers(lines), strict=True):
            _draw_line(panel, line, marker)
        _draw_names(panel, lines, names)
    _draw_sizes(canvas, x, sizes, bottom, x_text)
    canvas.text((_LEFT + right) / 2, bottom + 38, x_label, align="centre", room=right - _LEFT)
    if crossing_at is not None and x.low <= crossing_at <= x.high:
        _draw_crossing(canvas, x(crossing_at), spans)
    _draw_said(canvas, x, crossing_at, said, spans[0][0])
    words = [_text(line, x_text) for line in lines]
    return finished(canvas, (title, *words, crossing_text, note), width)


def _check(lines: Sequence[SweepLine], crossing_at: float | None) -> None:
    if not lines:
        raise ArgumentError("there is nothing to draw", "give at least one line")
    for line in lines:
        if not line.points:
            raise ArgumentError(f"{line.name!r} has no points", "give at least one")
        for point in line.points:
            check_numbers(repr(line.name), [point.x, point.nbytes], above=True)
            check_numbers(repr(line.name), point.times_ms, above=True, ordered=True)
    if crossing_at is not None:
        check_numbers("the crossing", [crossing_at], above=True)


def _times(point: SweepPoint) -> tuple[float, float, float]:
    return point.times_ms


def _rates(point: SweepPoint) -> tuple[float, float, float]:
    return point.rates


def _rate_text(rate: float) -> str:
    return f"{human_bytes(round(rate))}/s" if rate >= 1 else f"{rate:.3g} B/s"


def _markers(lines: Sequence[SweepLine]) -> list[str]:
    return [MARKERS[index % len(MARKERS)] for index in range(len(lines))]


# --- what is drawn -----------------------------------------------------------------------------


def _y_scale(
    lines: Sequence[SweepLine],
    values: Callable[[SweepPoint], tuple[float, float, float]],
    top: float,
    bottom: float,
) -> LogScale:
    found = [value for line in lines for point in line.points for value in values(point)]
    return LogScale.around(min(found), max(found), bottom, top)


def _draw_key(canvas: Canvas, top: float) -> None:
    canvas.rectangle(MARGIN, top + 2, 18, 10, fill=MUTED, opacity=_BAND)
    canvas.line((MARGIN, MARGIN + 18), (top + 7, top + 7), MUTED, 1.6)
    canvas.text(MARGIN + 25, top + 11, "median, and its interval as a band")


def _draw_grid(panel: _Panel, sizes: Sequence[float], text: Callable[[float], str]) -> None:
    """Draw a line for each round number of the vertical axis, and a faint one for each size."""
    canvas, x, y = panel.canvas, panel.x, panel.y
    for size in sizes:
        canvas.line((x(size), x(size)), (y.end, y.start), TRACK, 0.6)
    for value in y.steps(_LEAST_STEP):
        whole = is_power(value)
        canvas.line(
            (x.start, x.end), (y(value), y(value)), EDGE if whole else TRACK, 1 if whole else 0.6
        )
        canvas.text(
            x.start - 8, y(value) + 4, text(value), room=x.start - 8 - MARGIN, align="right"
        )
    canvas.line((x.start, x.end), (y.start, y.start), MUTED)


def _draw_sizes(
    canvas: Canvas, x: LogScale, sizes: Sequence[float], y: float, text: Callable[[float], str]
) -> None:
    """Write the sizes below the plots; one that would touch another is left out, never an end."""
    texts = [text(size) for size in sizes]
    halves = [min(text_width(each, size=SMALL), _LONGEST_SIZE) / 2 for each in texts]
    places = [x(size) for size in sizes]
    for place in places:
        canvas.line((place, place), (y, y + 4), MUTED)
    free, last = -math.inf, len(sizes) - 1
    for index, (place, half, written) in enumerate(zip(places, halves, texts, strict=True)):
        touches_last = index < last and place + half + 4 > places[last] - halves[last]
        if place - half >= free and not (touches_last and index):
            canvas.text(place, y + 17, written, room=_LONGEST_SIZE, align="centre")
            free = place + half + 4


def _draw_line(panel: _Panel, line: SweepLine, marker: str) -> None:
    canvas = panel.canvas
    xs = [panel.x(point.x) for point in line.points]
    lows, middles, highs = (
        [panel.y(panel.values(point)[index]) for point in line.points] for index in range(3)
    )
    canvas.area(xs, lows, highs, line.color, _BAND)
    if len(xs) == 1:  # a band of one point has no width
        canvas.line((xs[0], xs[0]), (lows[0], highs[0]), line.color, 3.5, opacity=0.5)
    canvas.line(xs, middles, line.color, 1.7, above=True)
    canvas.dots(xs, middles, line.color, 6.0, marker=marker)


def _draw_names(panel: _Panel, lines: Sequence[SweepLine], room: float) -> None:
    """Write each line's name beside its end, apart from the others."""
    canvas, x, y = panel.canvas, panel.x, panel.y
    ordered = sorted(lines, key=lambda line: y(panel.values(line.points[-1])[1]))
    ends = [y(panel.values(line.points[-1])[1]) for line in ordered]
    placed = apart(ends, y.end + 4, y.start - 4, _NAME_STEP)
    left = x.end + _NAMES_GAP
    for line, end, place in zip(ordered, ends, placed, strict=True):
        start = x(line.points[-1].x)
        canvas.line((start + 5, x.end + 6, left - 4), (end, end, place), line.color, 0.8)
        canvas.text(left, place + 4, line.name, room=room + 2, color=TEXT)


def _draw_crossing(canvas: Canvas, place: float, spans: Sequence[tuple[float, float]]) -> None:
    """Draw a dashed line through both plots, where two ways are equally fast."""
    for top, bottom in spans:
        start = top - 3
        while start < bottom:
            end = min(start + _DASH, bottom)
            canvas.line((place, place), (start, end), TEXT, 1.1)
            start += 1.8 * _DASH


def _draw_said(
    canvas: Canvas, x: LogScale, at: float | None, said: Sequence[str], bottom: float
) -> None:
    """Write what is said of the crossing above the plots, as near to it as there is room.

    An arrow points to one that is beyond the sizes.
    """
    left, right = float(MARGIN), float(canvas.width - MARGIN)
    for row, line in enumerate(said):
        y = bottom - 8 - (len(said) - 1 - row) * _SAID_STEP
        if at is not None and at < x.low and row == 0:
            text = f"← {line}"
        else:
            text = f"{line} →" if at is not None and at > x.high and row == 0 else line
        across = min(text_width(text, size=SMALL, bold=True), right - left)
        middle = x.start if at is None else x(min(max(at, x.low), x.high))
        start = min(max(middle - across / 2, left), right - across)
        canvas.text(start, y, text, room=right - start, color=TEXT, bold=True)


# --- words -------------------------------------------------------------------------------------


def _text(line: SweepLine, x_text: Callable[[float], str]) -> str:
    points = [
        f"{x_text(point.x)} {interval_text(point.times_ms)}, {_rate_text(point.rates[1])}"
        for point in line.points
    ]
    return f"{line.name}: {'; '.join(points)}"
