"""What is written on a picture, and where: for tests that words do not touch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tritonic_nb.render import Picture
from tritonic_nb.render.plot import SCALE

__all__ = ["marks", "overlapping", "place", "rectangles", "texts"]


def texts(picture: Picture) -> list[Any]:
    """Matplotlib's texts, in the order in which they were written; empty ones are left out."""
    return [text for text in picture.figure().axes[0].texts if text.get_text().strip()]


def place(text: Any) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a text's ink, in CSS pixels."""
    figure = text.figure
    box = text.get_window_extent(figure.canvas.get_renderer())
    height = figure.bbox.height
    return box.x0 / SCALE, (height - box.y1) / SCALE, box.x1 / SCALE, (height - box.y0) / SCALE


def overlapping(picture: Picture) -> list[tuple[str, str]]:
    """Pairs of texts that lie over one another by more than a pixel."""
    placed = [(text.get_text(), place(text)) for text in texts(picture)]
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(placed, 2)
        if min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1
    ]


def rectangles(picture: Picture, color: str) -> list[tuple[float, float, float, float]]:
    """Left, top, width and height of the rectangles of one colour, in CSS pixels."""
    from matplotlib.colors import to_hex
    from matplotlib.patches import Rectangle

    return [
        (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
        for patch in picture.figure().axes[0].patches
        if isinstance(patch, Rectangle) and to_hex(patch.get_facecolor()) == color
    ]


def marks(picture: Picture, form: str) -> list[tuple[float, float]]:
    """Where the marks of one form are, in CSS pixels."""
    lines = [line for line in picture.figure().axes[0].lines if line.get_marker() == form]
    return [(float(x), float(y)) for line in lines for x, y in np.c_[line.get_data()]]
