"""Some ways against one another: a bar for each median, with its interval and its 99th percentile.

The bars begin at 0, so that their lengths are in the ratio of the times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.canvas import Canvas
from tritonic_nb.render.human import figures, human_ms
from tritonic_nb.render.measured import (
    SMALL,
    begun,
    check_numbers,
    check_width,
    colors_of,
    draw_ms_axis,
    draw_name,
    finished,
    interval_text,
)
from tritonic_nb.render.picture import Picture
from tritonic_nb.render.plot import FACE, MARGIN, MUTED, TEXT, text_width
from tritonic_nb.render.scales import LinearScale

__all__ = ["Contender", "versus"]

_KEY = 42  # the key, and the headings of the columns
_STEP = 48  # from one contender to the next
_NAME = 16  # of that, for name and remark
_BAR = 18
_AXIS = 20
_LEAST_BAR = 1.0
_WHISKER = 7  # below the upper edge of a bar: above the mark, which is at the lower edge
_GAP = 14  # from a name to its remark
_CAP = 5.0  # half the height of a whisker's ends
_MOST_TAIL = 1.6  # times the longest interval: how far the axis goes for a 99th percentile


@dataclass(frozen=True)
class Contender:
    """One way, as it was measured.

    Attributes
    ----------
    name
        Stands above its bar.
    times_ms
        The lower end of the median's interval, the median, and the upper end.
    p99_ms
        As long as 99 of 100 took at most.
    remark
        Stands beside the name, such as ``"3.1 times as fast (3.0 to 3.3)"``.
    color
        As Matplotlib takes it; by position where it is empty.
    """

    name: str
    times_ms: tuple[float, float, float]
    p99_ms: float
    remark: str = ""
    color: str = ""


def versus(
    contenders: Sequence[Contender], *, title: str, note: str = "", width: int = 720
) -> Picture:
    """Draw medians as horizontal bars, with what is known of their spread.

    Parameters
    ----------
    contenders
        At least one, from top to bottom.
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
        If there is nothing to draw, a number is not finite or below 0, an interval's ends are
        not around its median, a colour is unknown, or it is too narrow.
    """
    check_width(width)
    if not contenders:
        raise ArgumentError("there is nothing to draw", "give at least one contender")
    for each in contenders:
        check_numbers(repr(each.name), each.times_ms, ordered=True)
        check_numbers(repr(each.name), [each.p99_ms])
    colors = colors_of([each.color for each in contenders])
    rows = _STEP * len(contenders)
    canvas, top = begun(title, note, width, _KEY + rows + _AXIS)
    columns = _columns(contenders)
    right = width - MARGIN - sum(across for _, across, _ in columns)
    scale = LinearScale(0.0, _end(contenders), MARGIN, right - 8)
    _draw_key(canvas, top)
    top += _KEY
    _draw_columns(canvas, columns, top)
    draw_ms_axis(canvas, scale, top - 2, top + rows - 4)
    for row, (each, color) in enumerate(zip(contenders, colors, strict=True)):
        _draw_row(canvas, each, color, scale, top + row * _STEP)
    return finished(canvas, (title, *map(_text, contenders), note), width)


def _end(contenders: Sequence[Contender]) -> float:
    """Give where the axis ends: a rare wait does not make the bars short."""
    longest = max(each.times_ms[2] for each in contenders)
    tail = max(each.p99_ms for each in contenders)
    return max(longest, min(tail, longest * _MOST_TAIL or tail)) * 1.02 or 1.0


def _columns(contenders: Sequence[Contender]) -> list[tuple[str, float, list[str]]]:
    """Give the columns at the right: heading, width in pixels, cells."""
    columns = [
        ("median", [interval_text(each.times_ms, "{0}") for each in contenders]),
        ("interval", [interval_text(each.times_ms, "{1} to {2}") for each in contenders]),
        ("p99", [figures(each.p99_ms) for each in contenders]),
    ]
    return [
        (heading, 14 + max(text_width(t, size=SMALL, bold=True) for t in (heading, *cells)), cells)
        for heading, cells in columns
    ]


def _draw_key(canvas: Canvas, top: float) -> None:
    """Tell what the whisker and the mark are."""
    x, y = float(MARGIN), top + 7
    _draw_whisker(canvas, x + 1, x + 21, y)
    x += 28 + canvas.text(x + 28, top + 11, "interval of the median") + 22
    _draw_mark(canvas, x, y)
    canvas.text(x + 10, top + 11, "99 of 100 took at most (p99)")


def _draw_columns(
    canvas: Canvas, columns: Sequence[tuple[str, float, list[str]]], top: float
) -> None:
    canvas.text(MARGIN, top - 8, "times in ms")
    x = float(canvas.width - MARGIN)
    for heading, across, cells in reversed(columns):
        canvas.text(x, top - 8, heading, align="right")
        for row, cell in enumerate(cells):
            y, strong = top + row * _STEP + _NAME + _BAR / 2 + 4, heading == columns[0][0]
            canvas.text(x, y, cell, color=TEXT, bold=strong, align="right")
        x -= across


def _draw_row(canvas: Canvas, each: Contender, color: str, scale: LinearScale, top: float) -> None:
    low, median, high = (scale(time) for time in each.times_ms)
    right = canvas.width - MARGIN
    remark = text_width(each.remark, size=9) + _GAP if each.remark else 0.0
    # A long name leaves room for the remark, as far as that takes no more than half.
    room = right - MARGIN - min(remark, (right - MARGIN) / 2)
    x = MARGIN + draw_name(canvas, MARGIN, top + 11, each.name, room=room) + _GAP
    draw_name(canvas, x, top + 11, each.remark, room=right - x, color=MUTED)
    top += _NAME
    bottom, across = top + _BAR, max(median - scale.start, _LEAST_BAR)
    canvas.rectangle(scale.start, top, across, _BAR, fill=color)
    mark = scale(min(each.p99_ms, scale.high))
    canvas.line((median, max(median, mark)), (bottom, bottom), MUTED, 0.8)
    _draw_whisker(canvas, low, high, top + _WHISKER)
    _draw_mark(canvas, mark, bottom, beyond=each.p99_ms > scale.high)


def _draw_whisker(canvas: Canvas, low: float, high: float, y: float) -> None:
    """Draw an interval with a cap at each end; its white rim shows it on any bar."""
    for color, wider, above in ((FACE, 2.0, False), (TEXT, 0.0, True)):
        canvas.line((low, high), (y, y), color, 1.3 + wider, above=above)
        for x in (low, high):
            canvas.line((x, x), (y - _CAP, y + _CAP), color, 1.3 + wider, above=above)


def _draw_mark(canvas: Canvas, x: float, y: float, *, beyond: bool = False) -> None:
    """Draw the mark of a 99th percentile; one beyond the axis points to there."""
    canvas.dots([x], [y], TEXT, 7.5 if beyond else 6.5, marker=">" if beyond else "D")


def _text(each: Contender) -> str:
    remark = f"; {each.remark}" if each.remark else ""
    times = interval_text(each.times_ms)
    return f"{each.name}: median {times}, 99 of 100 at most {human_ms(each.p99_ms)}{remark}"
