"""Lines over two logarithmic axes, each with its name at its end: no legend to look up.

Drawn with the same means as the bars: in CSS pixels on a card of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.image import encode_png
from tritonic_nb.render.picture import Picture
from tritonic_nb.render.plot import (
    EDGE,
    FACE,
    MARGIN,
    MUTED,
    TRACK,
    draw_text,
    draw_title,
    new_card,
    rendered,
    text_width,
)
from tritonic_nb.render.scales import LogScale, apart, is_power, round_numbers

if TYPE_CHECKING:  # Matplotlib is imported when something is drawn
    from matplotlib.figure import Figure

__all__ = ["Curve", "curves"]

_LEFT = 62  # of the plot, for the numbers at its side
_TOP = 62
_BOTTOM = 50
_NAME_STEP = 16  # from one name to the next, at least
_NAMES_GAP = 24  # from the plot to the names: room for what joins a name to its line
_MARKER = 5.0
_SIZE = 8.5  # of all texts but the title, in points
_LEAST_WIDTH = 480


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes
    ----------
    name
        Stands at its end.
    points
        Pairs of x and y, above 0, from left to right.
    color
        As Matplotlib takes it. The name is written in it.
    strong, dashed
        How it is drawn.
    """

    name: str
    points: Sequence[tuple[float, float]]
    color: str
    strong: bool = False
    dashed: bool = False


def curves(
    lines: Sequence[Curve],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_text: Callable[[float], str],
    width: int = 720,
    height: int = 480,
) -> Picture:
    """Draw lines over logarithmic axes.

    Parameters
    ----------
    lines
        At least one, of one point or more.
    title, x_label, y_label
        Above the plot, below it, and above the numbers at its left.
    x_text
        Writes a number on the lower axis, which has one for each point.
    width, height
        On the page, in CSS pixels, the width at least 480.

    Returns
    -------
    Picture
        A light card, also on dark pages; its text is the same in numbers.

    Raises
    ------
    ArgumentError
        If there is nothing to draw, a number is not above 0, or it is too narrow.
    """
    if width < _LEAST_WIDTH:
        raise ArgumentError(f"width is {width}", f"use at least {_LEAST_WIDTH} pixels")
    points = [point for line in lines for point in line.points]
    if not points or not all(0 < value < math.inf for point in points for value in point):
        raise ArgumentError("there is no line of numbers above 0 to draw", "give one")
    figure = new_card(width, height)
    draw_title(figure, title)
    longest = max(text_width(line.name, size=_SIZE, bold=line.strong) for line in lines)
    names = min(longest, width / 3)
    right = width - MARGIN - names - _NAMES_GAP
    xs = sorted({x for x, _ in points})
    x_scale = LogScale(xs[0] / 1.25, xs[-1] * 1.25, _LEFT, right)
    lowest, highest = (edge(y for _, y in points) for edge in (min, max))
    y_scale = LogScale(lowest / 1.4, highest * 1.4, height - _BOTTOM, _TOP)
    _draw_grid(figure, y_scale, (_LEFT, right))
    _draw_sizes(figure, x_scale, xs, y_scale.start, x_text)
    draw_text(figure, MARGIN, _TOP - 10, y_label, size=_SIZE, color=MUTED)
    _draw_centred(figure, (_LEFT + right) / 2, height - 14, x_label)
    for line in lines:
        _draw_line(figure, line, x_scale, y_scale)
    _draw_names(figure, lines, (x_scale, y_scale), (right + _NAMES_GAP, names))
    return Picture(encode_png(rendered(figure)), _text(lines, title, x_text), width=width)


def _draw_grid(figure: Figure, scale: LogScale, ends: tuple[float, float]) -> None:
    """Draw a line for each 1, 2 and 5 of the vertical axis, with its number."""
    for value in round_numbers(scale.low, scale.high):
        y, whole = scale(value), is_power(value)
        _draw_stroke(figure, ends, (y, y), EDGE if whole else TRACK, 1.0 if whole else 0.6)
        draw_text(figure, ends[0] - 8, y + 4, f"{value:g}", size=_SIZE, color=MUTED, right=True)


def _draw_sizes(
    figure: Figure, scale: LogScale, xs: Sequence[float], y: float, text: Callable[[float], str]
) -> None:
    """Write the numbers below the plot; one that would touch the one before is left out."""
    _draw_stroke(figure, (scale.start, scale.end), (y, y), MUTED, 1.0)
    free = -math.inf
    for x in xs:
        at, written = scale(x), text(x)
        half = text_width(written, size=_SIZE) / 2
        _draw_stroke(figure, (at, at), (y, y + 4), MUTED, 1.0)
        if at - half > free:
            _draw_centred(figure, at, y + 17, written)
            free = at + half + 4


def _draw_line(figure: Figure, line: Curve, x_scale: LogScale, y_scale: LogScale) -> None:
    from matplotlib.lines import Line2D

    figure.axes[0].add_line(
        Line2D(
            [x_scale(x) for x, _ in line.points],
            [y_scale(y) for _, y in line.points],
            color=line.color,
            linewidth=2.2 if line.strong else 1.4,
            linestyle=(0, (4, 2)) if line.dashed else "-",
            marker="o",
            markersize=_MARKER if line.strong else _MARKER - 1.2,
            markerfacecolor=line.color if line.strong else FACE,
            markeredgecolor=line.color,
            markeredgewidth=1.2,
            zorder=4 if line.strong else 3,
        )
    )


def _draw_names(
    figure: Figure,
    lines: Sequence[Curve],
    scales: tuple[LogScale, LogScale],
    place: tuple[float, float],
) -> None:
    """Write each line's name beside its end, apart from the others."""
    (x_scale, y_scale), (left, room) = scales, place
    ordered = sorted(lines, key=lambda line: y_scale(line.points[-1][1]))
    ends = [y_scale(line.points[-1][1]) for line in ordered]
    for line, end, y in zip(
        ordered, ends, apart(ends, _TOP, y_scale.start, _NAME_STEP), strict=True
    ):
        start = x_scale(line.points[-1][0])
        _draw_stroke(figure, (start + 4, left - 4), (end, y), line.color, 0.7)
        draw_text(
            figure, left, y + 4, line.name,
            room=room, size=_SIZE, color=line.color, bold=line.strong,
        )  # fmt: skip


def _draw_stroke(
    figure: Figure, xs: tuple[float, float], ys: tuple[float, float], color: str, width: float
) -> None:
    from matplotlib.lines import Line2D

    figure.axes[0].add_line(
        Line2D(xs, ys, color=color, linewidth=width, linestyle="-", marker="", zorder=2)
    )


def _draw_centred(figure: Figure, x: float, y: float, text: str) -> None:
    half = text_width(text, size=_SIZE) / 2
    draw_text(figure, x - half, y, text, size=_SIZE, color=MUTED)


def _text(lines: Sequence[Curve], title: str, x_text: Callable[[float], str]) -> str:
    rows = [
        f"{line.name}: " + ", ".join(f"{x_text(x)} {y:.3g}" for x, y in line.points)
        for line in lines
    ]
    return "\n".join([title, *rows])
