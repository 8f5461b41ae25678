"""Two arrays and their difference, drawn.

Maps and images stand beside one another, with the difference in colours that diverge from
white; all else is drawn as bars or curves over its elements in order. Memory stays bounded:
what is larger than its place on the page is reduced row by row, the difference to the largest
ones, so that a single element that differs can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tritonic_nb.render import plot
from tritonic_nb.render.image import encode_jpeg, encode_png, fit_within
from tritonic_nb.render.markup import escape, fill
from tritonic_nb.render.picture import Picture, data_uri
from tritonic_nb.render.statistics import is_number, statistics_of

if TYPE_CHECKING:  # Matplotlib is imported when something is drawn
    from matplotlib.figure import Figure

__all__ = ["side_by_side"]

_WIDTH = 720
_GAP = 20
_PANEL = (_WIDTH - 2 * plot.MARGIN - 2 * _GAP) // 3
_TALLEST = 300
_TOP = plot.MARGIN + 22  # of what is drawn, below the names
_SCALE_ROOM = 34  # below a panel, for its colours and their numbers
_NOTE = 18
_LEAST_SIDE = 4  # of a map; what is narrower is no picture
_IMAGE_SIDE = 8  # of an image in colour, at least
_FEW = 16  # elements that are drawn as bars
_CURVE = 120  # the height of a curve on the page
_SMALL = 8.0  # points

_A_COLOR, _B_COLOR = "#1f6fb4", "#c2570c"  # told apart by the colour-blind, too
_NOT_A_NUMBER = (128, 128, 128)

Box = tuple[float, float, float, float]  # left, top, right, bottom
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
        card = _curves(a, b, names, where) if part is None else _maps(part, names)
    alt = f"{names[0]}, {names[1]} and their difference: {verdict}"
    # A saved notebook carries all of it along: photographs as JPEG, and the PNG, which few
    # front ends show, with each pixel of the page once.
    if part is not None and part.in_color:
        paper = Image.new("RGB", card.size, plot.FACE)
        paper.paste(card, mask=card)
        source = data_uri(encode_jpeg(paper), "image/jpeg")
    else:
        source = data_uri(encode_png(card))
    html = fill("card_figure", source=source, alt=escape(alt), width=str(_WIDTH))
    return Picture(encode_png(card.reduce(plot.SCALE)), alt, width=_WIDTH, html=html)


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
        return bool(self.a.shape[2] == 3)

    @classmethod
    def of(
        cls, a: npt.NDArray[Any], b: npt.NDArray[Any], where: tuple[int, ...] | None
    ) -> _Part | None:
        """Choose it; None where there is no map."""
        shape = a.shape
        last = len(shape) >= 3 and shape[-1] in (1, 3, 4) and min(shape[-3:-1]) >= _IMAGE_SIDE
        rows = len(shape) - (3 if last else 2)
        if rows < 0 or min(shape[rows : rows + 2]) < _LEAST_SIDE:
            return None
        at = where or (0,) * len(shape)
        channels = rows + 2 if last else rows - 1
        whole = [rows, rows + 1]
        if _is_image(a, b, channels):
            whole.append(channels)
        index = tuple(slice(None) if axis in whole else i for axis, i in enumerate(at))
        parts = [each[index] for each in (a, b)]
        if len(whole) == 2:
            parts = [each[..., np.newaxis] for each in parts]
        elif not last:
            parts = [np.moveaxis(each, 0, -1) for each in parts]
        note = ", ".join(":" if isinstance(each, slice) else str(each) for each in index)
        most = ", with the largest difference" if where else ""
        return cls(
            a=parts[0],
            b=parts[1],
            note=f"the part [{note}]{most}" if a.size > parts[0].size else "",
            place=(at[rows], at[rows + 1]) if where else None,
        )


def _is_image(a: npt.NDArray[Any], b: npt.NDArray[Any], channels: int) -> bool:
    """Whether two arrays are images in colour, with values that are known to be."""
    shape = a.shape
    if channels < 0 or shape[channels] != 3 or sorted(shape)[-2] < _IMAGE_SIDE:
        return False
    if a.dtype.kind != "f":
        return a.dtype == np.uint8
    return all(each.min() >= 0 and 0 < each.max() <= 1 for each in (a, b))


def _maps(part: _Part, names: tuple[str, str]) -> Image.Image:
    rows, columns, _ = part.a.shape
    size = fit_within((columns, rows), _PANEL, _TALLEST)
    reduced = _reduced(part.a, part.b, size[1] * plot.SCALE, size[0] * plot.SCALE)
    below = _TOP + size[1] + _SCALE_ROOM
    odd = any(np.isnan(values).any() for values in reduced)
    note = "; ".join(filter(None, [part.note, "grey: NaN" if odd else ""]))
    figure = plot.new_card(_WIDTH, below + plot.MARGIN - 6 + (_NOTE if note else 0))
    if note:
        _write(figure, plot.MARGIN, below + 14, note, room=_WIDTH - 2 * plot.MARGIN)
    low, high = _extent(part.a, part.b)
    most = max(abs(edge) for edge in _range(reduced[2]))
    scales = [("viridis", low, high), ("viridis", low, high), ("RdBu_r", -most, most)]
    titles = (*names, f"{names[0]} - {names[1]}")
    pasted: list[tuple[Image.Image, float, float]] = []
    for column, (values, title, scale) in enumerate(zip(reduced, titles, scales, strict=True)):
        left = plot.MARGIN + column * (_PANEL + _GAP)
        plot.draw_text(figure, left, _TOP - 8, title, room=_PANEL, bold=True)
        in_color = column < 2 and part.in_color
        picture = _as_image(values, part.a.dtype) if in_color else _colored(values[..., 0], *scale)
        picture = picture.resize(
            (size[0] * plot.SCALE, size[1] * plot.SCALE), Image.Resampling.NEAREST
        )
        if column == 2 and part.place is not None and most:
            _ring(picture, part.place, (rows, columns))
        ImageDraw.Draw(picture).rectangle(
            (0, 0, picture.width - 1, picture.height - 1), outline=plot.EDGE, width=2
        )
        pasted.append((picture, left, _TOP))
        if not in_color:
            under = _TOP + size[1] + 6
            pasted.append((_color_bar(size[0], *scale), left, under))
            _write(figure, left, under + 20, _number(scale[1]), room=size[0] / 2)
            if scale[1] < scale[2]:
                at = left + size[0]
                _write(figure, at, under + 20, _number(scale[2]), room=size[0] / 2, right=True)
    card = plot.rendered(figure)
    for image, x, y in pasted:
        card.paste(image, (round(x * plot.SCALE), round(y * plot.SCALE)))
    return card


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


def _as_image(values: Numbers, dtype: np.dtype[Any]) -> Image.Image:
    levels = values if dtype == np.uint8 else values * 255
    return Image.fromarray(np.rint(np.nan_to_num(levels).clip(0, 255)).astype(np.uint8))


def _colored(values: Numbers, colors: str, low: float, high: float) -> Image.Image:
    from matplotlib import colormaps

    table = (colormaps[colors](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    half = (high / 2 - low / 2) or 1.0  # halves, so that the span cannot overflow
    levels = (values / 2 - low / 2) / half
    if low == high:
        levels = np.where(np.isfinite(levels), 0.5, levels)
    levels = np.nan_to_num(levels, nan=0.0, posinf=1.0, neginf=0.0)
    pixels = table[np.rint(levels.clip(0, 1) * 255).astype(np.intp)]
    pixels[np.isnan(values)] = _NOT_A_NUMBER
    return Image.fromarray(pixels)


def _color_bar(width: int, colors: str, low: float, high: float) -> Image.Image:
    levels = np.linspace(0, 1, 256)[np.newaxis] * (0 if low == high else 1)
    bar = _colored(levels, colors, 0.0, 1.0 if low < high else 0.0)
    return bar.resize((width * plot.SCALE, 8 * plot.SCALE), Image.Resampling.NEAREST)


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
) -> Image.Image:
    left, right = plot.MARGIN + 60, float(_WIDTH - plot.MARGIN)
    boxes = [(left, top, right, top + _CURVE) for top in (_TOP, _TOP + _CURVE + 42)]
    figure = plot.new_card(_WIDTH, int(boxes[1][3]) + 38)
    first, second, apart = _envelopes(a, b)
    at = float(plot.MARGIN)
    for name, color in zip(names, (_A_COLOR, _B_COLOR), strict=True):
        at += plot.draw_text(figure, at, _TOP - 12, name, room=300, color=color, bold=True) + 16
    plot.draw_text(
        figure, plot.MARGIN, boxes[1][1] - 12, f"{names[0]} - {names[1]}", room=600, bold=True
    )
    few = a.size <= _FEW
    scale = _axis(figure, boxes[0], _range(np.stack([first, second])), zero=few)
    if few:
        _bars(figure, boxes[0], [(first[0], _A_COLOR), (second[0], _B_COLOR)], scale)
    else:
        _curve(figure, boxes[0], first, _A_COLOR, scale)
        # So that the first can be seen through it.
        _curve(figure, boxes[0], second, _B_COLOR, scale, alpha=0.55)
    scale = _axis(figure, boxes[1], _range(apart), zero=True)
    if few:
        _bars(figure, boxes[1], [(apart[0], plot.TEXT)], scale)
    else:
        _curve(figure, boxes[1], apart, plot.TEXT, scale)
    _indices(figure, boxes[1], a.shape, few)
    if where is not None and not few:
        _mark(figure, boxes[1], int(np.ravel_multi_index(where, a.shape)), a.size)
    return plot.rendered(figure)


def _envelopes(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Iterator[Numbers]:
    """Give the lowest and highest values of a, of b, and of a - b, along the elements.

    ``[2, points]``, with a point for each element, or for each two pixels' worth of them.
    """
    points = min(a.size, (_WIDTH - 2 * plot.MARGIN) * plot.SCALE // 2)
    edges = (np.arange(points + 1) * a.size // points).tolist()
    found = np.empty((3, 2, points))
    for point, (start, end) in enumerate(pairwise(edges)):
        parts = [each.flat[start:end].astype(np.float64) for each in (a, b)]
        apart = np.where(parts[0] == parts[1], 0.0, parts[0] - parts[1])
        for row, values in zip(found, (*parts, apart), strict=True):
            row[:, point] = np.fmin.reduce(values), np.fmax.reduce(values)
    yield from found


def _range(values: Numbers) -> tuple[float, float]:
    """Return the lowest and the highest finite value, and 0 twice where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _extent(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the lowest and the highest finite value of two arrays of numbers."""
    edges = [
        float(edge)
        for known in map(statistics_of, (a, b))
        for edge in (known.minimum, known.maximum)
        if edge is not None
    ]
    return (min(edges), max(edges)) if edges else (0.0, 0.0)


def _number(value: float) -> str:
    return f"{value + 0.0:.3g}"  # no minus before 0


def _axis(
    figure: Figure, box: Box, extent: tuple[float, float], *, zero: bool
) -> Callable[[float], float]:
    """Draw a vertical axis and return what turns numbers into pixels."""
    low, high = (min(0.0, extent[0]), max(0.0, extent[1])) if zero else extent
    half = (high / 2 - low / 2) or 1.0
    _, top, _, bottom = box

    def scale(value: float) -> float:
        return bottom - (value / 2 - low / 2) / half * (bottom - top)

    marks = [low, high, *([0.0] if low < 0 < high else [])] if low < high else [low]
    free: list[float] = []
    for value in marks:
        y = scale(value)
        _line(figure, [box[0], box[2]], [y, y], plot.EDGE, width=0.8)
        if all(abs(y - other) > 11 for other in free):
            _write(figure, box[0] - 8, y + 3, _number(value), right=True)
            free.append(y)
    return scale


def _curve(
    figure: Figure,
    box: Box,
    curve: Numbers,
    color: str,
    scale: Callable[[float], float],
    *,
    alpha: float = 1.0,
) -> None:
    from matplotlib.collections import PolyCollection

    xs = box[0] + (np.arange(curve.shape[1]) + 0.5) / curve.shape[1] * (box[2] - box[0])
    lowest, highest = (np.array([scale(value) for value in row.tolist()]) for row in curve)
    known = np.isfinite(lowest) & np.isfinite(highest)
    if not known.any():
        return
    starts = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    # What is no number leaves a gap.
    for start, end in starts.reshape(-1, 2).tolist():
        x, low, high = xs[start:end], lowest[start:end], highest[start:end]
        if (low != high).any():
            outline = np.concatenate([np.stack([x, low], 1), np.stack([x, high], 1)[::-1]])
            figure.axes[0].add_collection(
                PolyCollection([outline], facecolors=color, edgecolors=color, linewidths=0.5,
                               alpha=alpha, zorder=3)
            )  # fmt: skip
        else:
            _line(figure, x.tolist(), low.tolist(), color, width=1.1, alpha=alpha)


def _bars(
    figure: Figure,
    box: Box,
    series: Sequence[tuple[Numbers, str]],
    scale: Callable[[float], float],
) -> None:
    from matplotlib.patches import Rectangle

    count = len(series[0][0])
    step = (box[2] - box[0]) / count
    width = min(24.0, 0.7 * step / len(series))
    zero = scale(0.0)
    for index, (values, color) in enumerate(series):
        for place, value in enumerate(values.tolist()):
            middle = box[0] + (place + 0.5) * step + (index - (len(series) - 1) / 2) * width
            if not math.isfinite(value):
                word, side = _odd(value), width / 2 if index == 0 else -width / 2
                _write(figure, middle + 0.7 * side, zero - 3, word, right=index == 0)
                continue
            y = scale(value)
            figure.axes[0].add_patch(
                Rectangle((middle - width / 2, min(y, zero)), width * 0.92, abs(y - zero),
                          facecolor=color, edgecolor="none", linewidth=0)
            )  # fmt: skip


def _odd(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:+.0f}".replace("inf", "Inf")


def _indices(figure: Figure, box: Box, shape: tuple[int, ...], few: bool) -> None:
    """Write below a plot which elements it runs over."""
    count = math.prod(shape)
    if few:
        step = (box[2] - box[0]) / count
        for place in range(count):
            text = str(place)
            _write(figure, box[0] + (place + 0.5) * step - 3 * len(text), box[3] + 14, text)
        return
    _write(figure, box[0], box[3] + 22, "0")
    _write(figure, box[2], box[3] + 22, f"{count - 1:,}", right=True)
    of = "" if max(shape) == count else f" of {list(shape)}, in order"
    _write(figure, (box[0] + box[2]) / 2 - 40, box[3] + 22, f"elements{of}", room=400)


def _mark(figure: Figure, box: Box, position: int, count: int) -> None:
    """Show along the lower axis where the largest difference is."""
    from matplotlib.lines import Line2D

    x = box[0] + (position + 0.5) / count * (box[2] - box[0])
    figure.axes[0].add_line(
        Line2D([x], [box[3] + 6], color=plot.TEXT, marker="^", markersize=5, linestyle="",
               markeredgecolor="none")
    )  # fmt: skip


def _line(
    figure: Figure,
    xs: Sequence[float],
    ys: Sequence[float],
    color: str,
    *,
    width: float,
    alpha: float = 1.0,
) -> None:
    from matplotlib.lines import Line2D

    figure.axes[0].add_line(
        Line2D(
            xs, ys, color=color, linewidth=width, linestyle="-", marker="", alpha=alpha, zorder=3
        )
    )


def _write(
    figure: Figure, x: float, y: float, text: str, *, room: float = math.inf, right: bool = False
) -> None:
    plot.draw_text(figure, x, y, text, room=room, size=_SMALL, color=plot.MUTED, right=right)
