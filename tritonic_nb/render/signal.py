"""Numbers in a row: a line over their places, or how often which values occur."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.render.canvas import Canvas, Drawing, heading_height
from tritonic_nb.render.palette import FIRST
from tritonic_nb.render.plot import EDGE, MARGIN, MUTED, STRONG, TRACK, text_width
from tritonic_nb.render.values import Extent, Values, extent, number

__all__ = ["histogram", "signal"]

_WIDTH = 700
_HEIGHT = 190
_BELOW = 22
_MOST = 1 << 22  # elements of one line that are looked at
_LINES = 4
_COLORS = (STRONG, FIRST[4], FIRST[5], FIRST[6])
_BINS = 60
_HISTOGRAM_SAMPLE = 1 << 20


def signal(thing: Any, *, title: str = "", limits: tuple[float, float] | None = None) -> Drawing:
    """Draw rows of numbers as lines.

    Parameters
    ----------
    thing
        ``[numbers]`` or ``[rows, numbers]``, of which four rows are drawn. Where there are
        more numbers than pixels, what lies between the lowest and the highest of each pixel
        is filled.
    title
        Above it.
    limits
        The lower and the upper end of the vertical axis.
    """
    values = Values.of(thing)
    rows = [values] if len(values.shape) == 1 else [
        values.at(0, index) for index in range(min(_LINES, values.shape[0]))
    ]  # fmt: skip
    step = max(1, -(-rows[0].size // _MOST))
    parts = [row.thinned((step,)).read().astype(np.float64) for row in rows]
    reach = extent(Values.of(np.concatenate(parts)), _MOST * _LINES)
    low, high = limits or _padded(reach)
    canvas, plot = _axes(title, low, high, reach)
    for part, color in zip(parts, _COLORS, strict=False):
        _draw_row(canvas, plot, part, (low, high), color)
    if len(rows) > 1:
        for index, color in reversed(list(enumerate(_COLORS[: len(rows)]))):
            at = plot[0] + plot[2] - (len(rows) - 1 - index) * 52
            canvas.text(at, plot[1] - 2, f"row {index}", color=color, bold=True, align="right")
    _draw_places(canvas, plot, rows[0].size)
    alt = f"line through {rows[0].size:,} numbers, {reach}"
    total = 1 if len(values.shape) == 1 else values.shape[0]
    return Drawing.on_card(
        canvas, alt,
        f"the first {len(rows)} of {total:,} rows" if len(rows) < total else "",
        f"one number of {step} drawn" if step > 1 else "",
        f"gaps: {_odd(reach)}" if _odd(reach) else "",
    )  # fmt: skip


def histogram(thing: Any, *, title: str = "") -> Drawing:
    """Draw how often which values occur.

    Parameters
    ----------
    thing
        Numbers of any shape; of many a sample is counted.
    title
        Above it.
    """
    values = Values.of(thing)
    part = values.sample(_HISTOGRAM_SAMPLE).reshape(-1).astype(np.float64)
    reach = extent(Values.of(part), _HISTOGRAM_SAMPLE)
    finite = part[np.isfinite(part)]
    low, high = (reach.low, reach.high) if not reach.flat else _padded(reach)
    half_low, half_high = low / 2, high / 2
    span = half_high - half_low or 1.0
    places = np.clip(((finite / 2 - half_low) / span * _BINS).astype(np.intp), 0, _BINS - 1)
    counts = np.bincount(places, minlength=_BINS)
    top = int(counts.max(initial=0))
    canvas, (x, y, width, height) = _axes(title, 0, max(1, top), None)
    step = width / _BINS
    for place, count in enumerate(counts):
        if count:
            tall = height * count / top
            canvas.rectangle(x + place * step, y + height - tall, step - 1, tall, fill=STRONG)
    for at, value in ((0.0, low), (0.5, low / 2 + high / 2), (1.0, high)):
        _draw_below(canvas, x + width * at, y + height, number(value), at)
    alt = f"histogram of {values.size:,} numbers, {reach}"
    sampled = f"{part.size:,} of {values.size:,} counted" if part.size < values.size else ""
    odd = f"not drawn: {_odd(reach)}" if _odd(reach) else ""
    return Drawing.on_card(canvas, alt, sampled, odd)


Plot = tuple[float, float, float, float]


def _axes(title: str, low: float, high: float, reach: Extent | None) -> tuple[Canvas, Plot]:
    """Begin a card with lines at some round numbers."""
    heading = heading_height(title)
    canvas = Canvas(_WIDTH, heading + _HEIGHT + _BELOW + 2 * MARGIN, title)
    marks = _round_numbers(low, high)
    words = [number(mark) for mark in marks]
    left = MARGIN + max(text_width(word, size=8.5) for word in words) + 8
    plot = (left, float(MARGIN + heading), _WIDTH - MARGIN - left, float(_HEIGHT))
    for mark, word in zip(marks, words, strict=True):
        at = _place(mark, low, high, plot)
        canvas.line([left, left + plot[2]], [at, at], MUTED if mark == 0 else TRACK, 0.8)
        canvas.text(left - 8, at + 4, word, align="right")
    if reach is not None and not reach.finite:
        canvas.text(left + plot[2] / 2, plot[1] + plot[3] / 2, "no finite value", align="centre")
    return canvas, plot


def _draw_row(
    canvas: Canvas,
    plot: Plot,
    row: npt.NDArray[np.float64],
    limits: tuple[float, float],
    color: str,
) -> None:
    left, _, width, _ = plot
    low, high = limits
    row = np.where(np.isfinite(row), row, np.nan)
    pixels = int(width * 2)
    if row.size <= pixels:
        xs = left + (np.arange(row.size) + 0.5) / max(1, row.size) * width
        ys = [_place(value, low, high, plot) for value in row]
        canvas.line(xs.tolist(), ys, color, 1.1)
        if row.size <= 48:
            canvas.dots(xs.tolist(), ys, color, 4.0)
        return
    edges = np.linspace(0, row.size, pixels + 1).astype(np.intp)[:-1]
    lows = np.fmin.reduceat(row, edges)
    highs = np.fmax.reduceat(row, edges)
    xs = left + (np.arange(pixels) + 0.5) / pixels * width
    with np.errstate(all="ignore"):
        top = np.array([_place(value, low, high, plot) for value in highs]) - 0.4
        bottom = np.array([_place(value, low, high, plot) for value in lows]) + 0.4
    canvas.area(xs, top, bottom, color)


def _draw_places(canvas: Canvas, plot: Plot, count: int) -> None:
    left, top, width, height = plot
    for at, index in ((0.0, 0), (0.5, count // 2), (1.0, count - 1)):
        if count > 2 or at != 0.5:
            _draw_below(canvas, left + width * at, top + height, f"{index:,}", at)


def _draw_below(canvas: Canvas, x: float, y: float, word: str, at: float) -> None:
    align = {0.0: "left", 0.5: "centre", 1.0: "right"}[at]
    canvas.line([x, x], [y, y + 4], EDGE, 1.0)
    canvas.text(x, y + 18, word, align=align)


def _place(value: float, low: float, high: float, plot: Plot) -> float:
    span = high / 2 - low / 2
    part = (value / 2 - low / 2) / span if span else 0.5
    return plot[1] + plot[3] * (1 - min(1.0, max(0.0, part)) if not math.isnan(part) else math.nan)


def _padded(reach: Extent) -> tuple[float, float]:
    """Give an axis a little more than the values' own range."""
    if not reach.flat:
        room = (reach.high / 2 - reach.low / 2) * 0.08
        return reach.low - room, reach.high + room
    room = abs(reach.low) * 0.1 or 1.0
    return reach.low - room, reach.high + room


def _round_numbers(low: float, high: float) -> Sequence[float]:
    """Choose three to six round numbers in a range."""
    span = high / 2 - low / 2
    if not 0 < span < 1e307:
        return [low, high]
    power = 10.0 ** math.floor(math.log10(span))
    for step in (5 * power, 2 * power, power, power / 2, power / 5):
        if step and math.isfinite(step):
            first, last = math.ceil(low / step), math.floor(high / step)
            if last - first >= 2:
                return [index * step for index in range(first, last + 1)]
    return [low, high]


def _odd(reach: Extent) -> str:
    words = ((reach.nans, "NaN"), (reach.infinite, "infinite"))
    return ", ".join(f"{count:,} {word}" for count, word in words if count)
