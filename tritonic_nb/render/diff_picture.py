"""Two arrays and their difference, drawn.

Maps and images stand beside one another, with the difference in colours that diverge from
white; all else is drawn as bars or curves over its elements in order. Memory stays bounded:
what is larger than its place on the page is reduced row by row, the difference to the largest
ones, so that a single element that differs can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tritonic_nb.render.canvas import Canvas, ramp
from tritonic_nb.render.datatype import is_number
from tritonic_nb.render.extent import Extent, number
from tritonic_nb.render.graph import Graph, padded
from tritonic_nb.render.guess import guess
from tritonic_nb.render.image import ROUNDED, colors, embedded_photo, encode_png, fit_within
from tritonic_nb.render.markup import escape, fill
from tritonic_nb.render.photos import photo_bytes
from tritonic_nb.render.picture import Picture, data_uri
from tritonic_nb.render.planes import colored, colors_of_odd, levels
from tritonic_nb.render.plot import EDGE, MARGIN, SCALE, TEXT

__all__ = ["side_by_side"]

_WIDTH = 720
_GAP = 20
_PANEL = (_WIDTH - 2 * MARGIN - 2 * _GAP) // 3
_TALLEST = 300
_TOP = MARGIN + 22  # of what is drawn, below the names
_SCALE_ROOM = 34  # below a panel, for its colours and their numbers
_NOTE = 18
_LEAST_SIDE = 4  # of a map; what is narrower is no picture
_FEW = 16  # elements that are drawn as bars
_CURVE = 120  # the height of a curve on the page
_AXIS = 60  # room for the numbers of a vertical axis
_SMALL = 8.0  # points

_A_COLOR, _B_COLOR = "#1f6fb4", "#c2570c"  # told apart by the colour-blind, too
_DIVERGING = "RdBu_r"

Numbers = npt.NDArray[np.float64]


def side_by_side(
    a: npt.NDArray[Any],
    b: npt.NDArray[Any],
    names: tuple[str, str],
    where: tuple[int, ...] | None,
    verdict: str,
) -> Picture | None:
    """Draw two arrays and their difference.

    Parameters
    ----------
    a, b
        Of the same shape and datatype.
    names
        What they are called.
    where
        The index of the largest difference, which is marked. Of more than two dimensions
        the map is drawn that it lies in.
    verdict
        The picture's text.

    Returns
    -------
    Picture or None
        A light card, 720 pixels wide on the page; None where there is nothing to draw.
    """
    if a.size < 2 or not is_number(a.dtype):
        return None
    with np.errstate(all="ignore"):  # what is no number is drawn as such
        part = _Part.of(a, b, where)
        canvas = _curves(a, b, names, where) if part is None else _maps(part, names)
        card = canvas.pixels()
    has_photos = part is not None and part.in_color
    alt = f"{names[0]}, {names[1]} and their difference: {verdict}"
    html = fill(
        "drawn",
        source=embedded_photo(card) if has_photos else data_uri(encode_png(card)),
        alt=escape(alt),
        width=str(_WIDTH),
        rounded=ROUNDED,
    )
    # A saved notebook carries all of it along: the PNG, which few front ends show, has each
    # pixel of the page once.
    return Picture(encode_png(card.reduce(SCALE)), alt, width=_WIDTH, html=html, drawn=canvas)


# --- maps --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """The map or the image of two arrays that is drawn.

    Attributes
    ----------
    a, b
        ``[rows, columns, channels]``, with one channel for a map and three for an image.
    note
        Which part it is, where there are others.
    place
        Row and column to mark, or None.
    """

    a: npt.NDArray[Any]
    b: npt.NDArray[Any]
    note: str
    place: tuple[int, int] | None

    @property
    def in_color(self) -> bool:
        """Whether it is an image in colour."""
        return bool(self.a.shape[2] > 1)

    @classmethod
    def of(
        cls, a: npt.NDArray[Any], b: npt.NDArray[Any], where: tuple[int, ...] | None
    ) -> _Part | None:
        """Choose it; None where there is no map."""
        if a.ndim < 2:
            return None
        found = guess(a)
        axes = found.axes
        if not {"H", "W"} <= set(axes):
            axes = "N" * (a.ndim - 2) + "HW"
        rows, columns, channels = axes.index("H"), axes.index("W"), axes.find("C")
        if min(a.shape[rows], a.shape[columns]) < _LEAST_SIDE:
            return None
        at = where or (0,) * a.ndim
        in_color = found.kind == "image" and channels >= 0
        whole = {rows, columns, *([channels] if in_color else [])}
        index = tuple(slice(None) if axis in whole else i for axis, i in enumerate(at))
        parts = [each[index] for each in (a, b)]
        if in_color:
            parts = [np.moveaxis(each, sorted(whole).index(channels), -1) for each in parts]
        else:
            parts = [each[..., np.newaxis] for each in parts]
        note = ", ".join(":" if isinstance(each, slice) else str(each) for each in index)
        most = ", with the largest difference" if where else ""
        return cls(
            a=parts[0],
            b=parts[1],
            note=f"the part [{note}]{most}" if a.size > parts[0].size else "",
            place=(at[rows], at[columns]) if where else None,
        )


def _maps(part: _Part, names: tuple[str, str]) -> Canvas:
    rows, columns, _ = part.a.shape
    size = fit_within((columns, rows), _PANEL, _TALLEST)
    pixels = size[0] * SCALE, size[1] * SCALE
    first, second, apart = _reduced(part.a, part.b, pixels[1], pixels[0])
    reach = Extent.of(part.a).together(Extent.of(part.b))
    difference = Extent.of(apart)
    most = max(abs(difference.low), abs(difference.high))
    below = _TOP + size[1] + _SCALE_ROOM
    note = "; ".join(filter(None, [part.note, colors_of_odd(reach, infinite=not part.in_color)]))
    canvas = Canvas(_WIDTH, below + MARGIN - 6 + (_NOTE if note else 0))
    if note:
        canvas.text(MARGIN, below + 14, note, room=_WIDTH - 2 * MARGIN, size=_SMALL)
    if part.in_color:
        panels = _photos(first, second, part.a.dtype)
    else:
        panels = [colored(levels(each, reach.low, reach.high), "viridis") for each in
                  (first[..., 0], second[..., 0])]  # fmt: skip
    panels.append(colored(_diverging(apart[..., 0], most), _DIVERGING))
    titles = (*names, f"{names[0]} - {names[1]}")
    for column, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        left = MARGIN + column * (_PANEL + _GAP)
        canvas.text(left, _TOP - 8, title, room=_PANEL, size=9, color=TEXT, bold=True)
        picture = panel.convert("RGB").resize(pixels, Image.Resampling.NEAREST)
        if column == 2 and part.place is not None and most:
            _ring(picture, part.place, (rows, columns))
        ImageDraw.Draw(picture).rectangle(
            (0, 0, picture.width - 1, picture.height - 1), outline=EDGE, width=2
        )
        canvas.image(picture, left, _TOP)
        if column == 2:
            _draw_scale(canvas, (left, size[0]), _TOP + size[1] + 6, _DIVERGING, (-most, most))
        elif not part.in_color:
            ends = (reach.low, reach.high)
            _draw_scale(canvas, (left, size[0]), _TOP + size[1] + 6, "viridis", ends)
    return canvas


def _photos(first: Numbers, second: Numbers, dtype: np.dtype[Any]) -> list[Image.Image]:
    """Show two images in colour as they are, with the range of both together."""
    both = np.concatenate([first, second])
    whole = dtype.kind in "iu"
    shown, _ = photo_bytes(np.rint(both).astype(dtype) if whole else both)
    return [Image.fromarray(each) for each in np.split(shown, 2)]


def _diverging(apart: Numbers, most: float) -> npt.NDArray[np.float32]:
    """Bring a difference to 0..1, with 0.5 for none; infinite ones are the farthest."""
    return np.nan_to_num(levels(apart, -most, most), nan=np.nan, posinf=1.0, neginf=0.0)


def _draw_scale(
    canvas: Canvas,
    place: tuple[float, float],
    y: float,
    colormap: str,
    ends: tuple[float, float],
) -> None:
    """Draw a lying colour bar below a panel, with the numbers of its ends."""
    left, width = place
    low, high = ends
    strip = colors(colormap) if low < high else colors(colormap)[127:128]
    bar = ramp(strip).rotate(-90, expand=True)  # the last one to the right
    canvas.image(bar.resize((round(width * SCALE), 8 * SCALE), Image.Resampling.NEAREST), left, y)
    canvas.text(left, y + 20, number(low), room=width / 2, size=_SMALL)
    if low < high:
        canvas.text(left + width, y + 20, number(high), room=width / 2, size=_SMALL, align="right")


def _reduced(
    a: npt.NDArray[Any], b: npt.NDArray[Any], height: int, width: int
) -> tuple[Numbers, Numbers, Numbers]:
    """Bring two maps to at most so many rows and columns, and their difference as well.

    The maps become means of what falls together, and the difference the value that is
    farthest from 0, of all channels.
    """
    rows, columns = min(height, a.shape[0]), min(width, a.shape[1])
    starts = [
        np.arange(count) * length // count
        for count, length in zip((rows, columns), a.shape, strict=False)
    ]
    means = np.empty((2, rows, columns, a.shape[2]))
    apart = np.empty((rows, columns, 1))
    ends = [*starts[0][1:].tolist(), a.shape[0]]
    widths = np.diff([*starts[1].tolist(), a.shape[1]])[:, np.newaxis]
    for row, (start, end) in enumerate(zip(starts[0].tolist(), ends, strict=True)):
        bands = [each[start:end].astype(np.float64) for each in (a, b)]
        for mean, band in zip(means, bands, strict=True):
            mean[row] = np.add.reduceat(band.mean(axis=0), starts[1]) / widths
        difference = bands[0] - bands[1]
        difference[bands[0] == bands[1]] = 0  # infinities that are the same
        highest = np.fmax.reduceat(np.fmax.reduce(difference, axis=(0, 2)), starts[1])
        lowest = np.fmin.reduceat(np.fmin.reduce(difference, axis=(0, 2)), starts[1])
        apart[row, :, 0] = np.where(highest >= -lowest, highest, lowest)
    return means[0], means[1], apart


def _ring(picture: Image.Image, place: tuple[int, int], shape: tuple[int, int]) -> None:
    """Mark a place so that it can be seen on any colour."""
    sides = (picture.height, picture.width)
    y, x = ((at + 0.5) / count * side for at, count, side in zip(place, shape, sides, strict=True))
    cell = max(picture.width / shape[1], picture.height / shape[0]) / 2
    draw = ImageDraw.Draw(picture)
    for radius, color, width in ((cell + 16, "#ffffff", 8), (cell + 14, "#000000", 3)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=color, width=width)


# --- curves and bars ---------------------------------------------------------------------------


def _curves(
    a: npt.NDArray[Any],
    b: npt.NDArray[Any],
    names: tuple[str, str],
    where: tuple[int, ...] | None,
) -> Canvas:
    first, second, apart = _envelopes(a, b)
    tops = (_TOP, _TOP + _CURVE + 42)
    canvas = Canvas(_WIDTH, tops[1] + _CURVE + 38)
    at = float(MARGIN)
    for name, color in zip(names, (_A_COLOR, _B_COLOR), strict=True):
        at += 16 + canvas.text(at, _TOP - 12, name, room=300, size=9, color=color, bold=True)
    title = f"{names[0]} - {names[1]}"
    canvas.text(MARGIN, tops[1] - 12, title, room=600, size=9, color=TEXT, bold=True)
    few = a.size <= _FEW
    upper = _graph(canvas, tops[0], np.stack([first, second]), zero=few)
    lower = _graph(canvas, tops[1], apart, zero=True)
    if few:
        _bars(upper, [(first[0], _A_COLOR), (second[0], _B_COLOR)])
        _bars(lower, [(apart[0], TEXT)])
        _indices(lower, a.size)
        return canvas
    upper.curve(first[0], first[1], _A_COLOR)
    upper.curve(second[0], second[1], _B_COLOR, 0.55)  # so that the first can be seen through it
    lower.curve(apart[0], apart[1], TEXT)
    of = "" if max(a.shape) == a.size else f" of {list(a.shape)}, in order"
    lower.places(a.size, f"elements{of}")
    if where is not None:
        position = int(np.ravel_multi_index(where, a.shape))
        x = lower.left + (position + 0.5) / a.size * lower.width
        canvas.pointer(x, lower.top + lower.height + 6)
    return canvas


def _graph(canvas: Canvas, top: float, values: Numbers, *, zero: bool) -> Graph:
    reach = Extent.of(values)
    ends = [reach.low, reach.high, *([0.0] if zero else [])]
    low, high = (min(ends), max(ends)) if len(set(ends)) > 1 else padded(reach)
    return Graph(canvas, top, _CURVE, low, high, left=MARGIN + _AXIS)


def _envelopes(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Iterator[Numbers]:
    """Give the lowest and highest values of a, of b, and of a - b, along the elements.

    ``[2, points]``, with a point for each element, or for each two pixels' worth of them.
    """
    points = min(a.size, (_WIDTH - 2 * MARGIN) * SCALE // 2)
    edges = (np.arange(points + 1) * a.size // points).tolist()
    found = np.empty((3, 2, points))
    for point, (start, end) in enumerate(pairwise(edges)):
        parts = [each.flat[start:end].astype(np.float64) for each in (a, b)]
        apart = np.where(parts[0] == parts[1], 0.0, parts[0] - parts[1])
        for row, values in zip(found, (*parts, apart), strict=True):
            row[:, point] = np.fmin.reduce(values), np.fmax.reduce(values)
    yield from found


def _bars(graph: Graph, series: Sequence[tuple[Numbers, str]]) -> None:
    count = len(series[0][0])
    step = graph.width / count
    width = min(24.0, 0.7 * step / len(series))
    zero = float(graph.ys(0.0))
    for index, (values, color) in enumerate(series):
        for place, value in enumerate(values.tolist()):
            middle = graph.left + (place + 0.5) * step + (index - (len(series) - 1) / 2) * width
            if not math.isfinite(value):
                side, align = (width / 2, "right") if index == 0 else (-width / 2, "left")
                graph.canvas.text(
                    middle + 0.7 * side, zero - 3, _odd(value), size=_SMALL, align=align
                )
                continue
            y = float(graph.ys(value))
            graph.canvas.rectangle(
                middle - width / 2, min(y, zero), width * 0.92, abs(y - zero), fill=color
            )


def _odd(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:+.0f}".replace("inf", "Inf")


def _indices(graph: Graph, count: int) -> None:
    """Write below bars which elements they are."""
    for place in range(count):
        x = graph.left + (place + 0.5) * graph.width / count
        y = graph.top + graph.height + 14
        graph.canvas.text(x, y, str(place), size=_SMALL, align="centre")
