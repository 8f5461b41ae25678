"""A place on a card where numbers in a row are drawn as a line over their places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tritonic_nb.render.canvas import Canvas
from tritonic_nb.render.extent import Extent, number
from tritonic_nb.render.plot import EDGE, MARGIN, MUTED, TRACK, text_width

__all__ = ["Graph", "padded"]

_POINTS = 48  # so few have a dot each
_MARK_SIZE = 8.5
_MARK_GAP = 8

Numbers = npt.NDArray[np.float64]


class Graph:
    """A vertical axis with round numbers, and lines over it.

    Parameters
    ----------
    canvas
        What it is drawn on, to the right margin.
    top, height
        Where, in CSS pixels.
    low, high
        The ends of the axis.
    left
        Where the lines begin; without it, behind the numbers of the axis.
    """

    BELOW = 22  # what is written below takes so much

    def __init__(
        self,
        canvas: Canvas,
        top: float,
        height: float,
        low: float,
        high: float,
        *,
        left: float | None = None,
    ) -> None:
        self.canvas, self.top, self.height = canvas, float(top), float(height)
        self.low, self.high = low, high
        marks = _round_numbers(low, high)
        words = [number(mark) for mark in marks]
        room = max(text_width(word, size=_MARK_SIZE) for word in words)
        self.left = MARGIN + room + _MARK_GAP if left is None else left
        self.width = canvas.width - MARGIN - self.left
        for mark, word in zip(marks, words, strict=True):
            at = float(self.ys(mark))
            color = MUTED if mark == 0 else TRACK
            canvas.line([self.left, self.left + self.width], [at, at], color, 0.8)
            canvas.text(self.left - _MARK_GAP, at + 4, word, align="right")

    def ys(self, values: npt.ArrayLike) -> Numbers:
        """Tell how far down on the card numbers are; those beyond the axis at its ends."""
        span = self.high / 2 - self.low / 2
        halves = np.asarray(values, np.float64) / 2 - self.low / 2
        part = halves / span if span else np.where(np.isfinite(halves), 0.5, np.nan)
        down: Numbers = self.top + self.height * (1 - np.clip(part, 0, 1))
        return down

    def curve(self, lows: Numbers, highs: Numbers, color: str, opacity: float = 1.0) -> None:
        """Draw a line, or the area between the lowest and the highest numbers of each place.

        What is no finite number leaves a gap.
        """
        lows, highs = (np.where(np.isfinite(each), each, np.nan) for each in (lows, highs))
        count = len(lows)
        xs = self.left + (np.arange(count) + 0.5) / max(1, count) * self.width
        if np.array_equal(lows, highs, equal_nan=True):
            self.canvas.line(xs, self.ys(lows), color, 1.1, opacity=opacity)
            if count <= _POINTS:
                self.canvas.dots(xs, self.ys(lows), color, 4.0)
            return
        self.canvas.area(xs, self.ys(highs) - 0.4, self.ys(lows) + 0.4, color, opacity)

    def places(self, count: int, middle: str = "") -> None:
        """Write below which places it runs over."""
        for at, word in ((0.0, "0"), (0.5, middle), (1.0, f"{count - 1:,}")):
            if word:
                self.below(at, word, tick=not middle or at != 0.5)

    def below(self, at: float, word: str, *, tick: bool = True) -> None:
        """Write something below, at 0, 0.5 or 1 of the width."""
        x, y = self.left + self.width * at, self.top + self.height
        align = {0.0: "left", 0.5: "centre", 1.0: "right"}[at]
        if tick:
            self.canvas.line([x, x], [y, y + 4], EDGE, 1.0)
        self.canvas.text(x, y + 18, word, align=align)


def padded(reach: Extent) -> tuple[float, float]:
    """Give the ends of an axis: a little more than the numbers' own range."""
    if not reach.flat:
        room = (reach.high / 2 - reach.low / 2) * 0.08
        return reach.low - room, reach.high + room
    room = abs(reach.low) * 0.1 or 1.0
    return reach.low - room, reach.high + room


def _round_numbers(low: float, high: float) -> Sequence[float]:
    """Choose three to six round numbers in a range."""
    span = high / 2 - low / 2
    if not 0 < span < 1e307:
        return [low, high] if low < high else [low]
    power = 10.0 ** math.floor(math.log10(span))
    for step in (5 * power, 2 * power, power, power / 2, power / 5):
        if step and math.isfinite(step):
            first, last = math.ceil(low / step), math.floor(high / step)
            if last - first >= 2:
                return [index * step for index in range(first, last + 1)]
    return [low, high]
