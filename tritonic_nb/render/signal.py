"""Numbers in a row: a line over their places, or how often which values occur."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.render.canvas import Canvas, Drawing, heading_height
from tritonic_nb.render.extent import Extent, number
from tritonic_nb.render.graph import Graph, padded
from tritonic_nb.render.palette import FIRST
from tritonic_nb.render.plot import MARGIN, SCALE, STRONG
from tritonic_nb.render.values import Values

__all__ = ["histogram", "signal"]

_WIDTH = 700
_HEIGHT = 190
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
    reach = Extent.of(np.concatenate(parts))
    graph = _graph(title, *(limits or padded(reach)), reach)
    for part, color in zip(parts, _COLORS, strict=False):
        _draw_row(graph, part, color)
    if len(rows) > 1:
        for index, color in reversed(list(enumerate(_COLORS[: len(rows)]))):
            at = graph.left + graph.width - (len(rows) - 1 - index) * 52
            graph.canvas.text(
                at, graph.top - 2, f"row {index}", color=color, bold=True, align="right"
            )
    count = rows[0].size
    graph.places(count, f"{count // 2:,}" if count > 2 else "")
    alt = f"line through {rows[0].size:,} numbers, {reach}"
    total = 1 if len(values.shape) == 1 else values.shape[0]
    return Drawing.on_card(
        graph.canvas, alt,
        f"the first {len(rows)} of {total:,} rows" if len(rows) < total else "",
        f"one number of {step} drawn" if step > 1 else "",
        f"gaps: {', '.join(reach.odd())}" if reach.odd() else "",
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
    reach = Extent.of(part)
    finite = part[np.isfinite(part)]
    low, high = (reach.low, reach.high) if not reach.flat else padded(reach)
    half_low, half_high = low / 2, high / 2
    span = half_high - half_low or 1.0
    places = np.clip(((finite / 2 - half_low) / span * _BINS).astype(np.intp), 0, _BINS - 1)
    counts = np.bincount(places, minlength=_BINS)
    top = int(counts.max(initial=0))
    graph = _graph(title, 0, max(1, top), None)
    step = graph.width / _BINS
    for place, count in enumerate(counts):
        if count:
            above = float(graph.ys(count))
            graph.canvas.rectangle(
                graph.left + place * step, above, step - 1, graph.top + _HEIGHT - above, fill=STRONG
            )
    for at, value in ((0.0, low), (0.5, low / 2 + high / 2), (1.0, high)):
        graph.below(at, number(value))
    alt = f"histogram of {values.size:,} numbers, {reach}"
    sampled = f"{part.size:,} of {values.size:,} counted" if part.size < values.size else ""
    odd = f"not drawn: {', '.join(reach.odd())}" if reach.odd() else ""
    return Drawing.on_card(graph.canvas, alt, sampled, odd)


def _graph(title: str, low: float, high: float, reach: Extent | None) -> Graph:
    """Begin a card with an axis on it."""
    heading = heading_height(title)
    canvas = Canvas(_WIDTH, heading + _HEIGHT + Graph.BELOW + 2 * MARGIN, title)
    graph = Graph(canvas, MARGIN + heading, _HEIGHT, low, high)
    if reach is not None and not reach.finite:
        middle = graph.left + graph.width / 2
        canvas.text(middle, graph.top + _HEIGHT / 2, "no finite value", align="centre")
    return graph


def _draw_row(graph: Graph, row: npt.NDArray[np.float64], color: str) -> None:
    pixels = int(graph.width * SCALE)
    if row.size <= pixels:
        graph.curve(row, row, color)
        return
    row = np.where(np.isfinite(row), row, np.nan)
    edges = np.linspace(0, row.size, pixels + 1).astype(np.intp)[:-1]
    graph.curve(np.fmin.reduceat(row, edges), np.fmax.reduceat(row, edges), color)
