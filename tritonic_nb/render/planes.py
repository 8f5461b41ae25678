"""Planes of numbers become coloured pixels, at any size and whatever is in them.

A plane is ``[rows, columns]``. What is larger than the place it is drawn in is thinned out
and averaged first, so that the time does not grow with the tensor; the note says how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.extent import Extent, number
from tritonic_nb.render.image import Box, colors
from tritonic_nb.render.values import Values

__all__ = [
    "INF_COLOR",
    "NAN_COLOR",
    "Plane",
    "colored",
    "colors_of_odd",
    "every",
    "fitted",
    "laid_over",
    "levels",
    "read_plane",
    "resized",
    "ticks",
]

#: What is no number is grey, and infinities are red: neither is in the colour maps used here.
NAN_COLOR = (160, 166, 172)
INF_COLOR = (214, 39, 40)

# So many elements of a plane are averaged at most; of larger ones every n-th is read.
_AVERAGED = 1 << 22

_LARGEST = 6  # times: a single cell is not drawn larger than this makes a plane of 64


@dataclass(frozen=True)
class Plane:
    """Some rows and columns of a plane.

    Attributes
    ----------
    array
        ``[rows, columns]``, each `step` rows and columns apart.
    step
        1 where all of it was read.
    size
        ``(rows, columns)`` of the whole plane.
    """

    array: npt.NDArray[Any]
    step: int
    size: tuple[int, int]

    @property
    def note(self) -> str:
        """What was left out, in words, or ``""``."""
        return f"{every(self.step)} row and column drawn" if self.step > 1 else ""


def read_plane(values: Values, most: int = _AVERAGED) -> Plane:
    """Read a plane, or evenly spread rows and columns of it, at most so many elements."""
    rows, columns = values.shape
    step = 1
    while -(-rows // step) * -(-columns // step) > most:
        step += 1
    return Plane(values.thinned((step, step)).read(), step, (rows, columns))


def levels(plane: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.float32]:
    """Bring numbers to 0..1, from `low` to `high`; NaN and infinities stay what they are."""
    with np.errstate(all="ignore"):
        # Halved, so that the span of the largest floats does not overflow.
        halves = plane.astype(np.float64) / 2
        span = high / 2 - low / 2
        if span <= 0:
            return np.where(np.isfinite(halves), np.float32(0.5), halves.astype(np.float32))
        scaled = ((halves - low / 2) / span).astype(np.float32)
    odd = ~np.isfinite(plane) if plane.dtype.kind == "f" else None
    clipped = np.clip(scaled, 0, 1)
    if odd is not None and odd.any():
        clipped[odd] = plane[odd].astype(np.float32)
    return clipped


def resized(
    plane: npt.NDArray[Any], width: int, height: int, *, smooth: bool = False
) -> npt.NDArray[Any]:
    """Bring a plane to another size: averaged where it shrinks, in cells where it grows.

    Parameters
    ----------
    plane
        ``float32``, or anything else, of which single elements are taken then.
    smooth
        Whether it is interpolated where it grows.
    """
    if plane.dtype != np.float32:
        rows = (np.arange(height) * plane.shape[0]) // height
        columns = (np.arange(width) * plane.shape[1]) // width
        taken: npt.NDArray[Any] = plane[rows[:, None], columns]
        return taken
    shrinks = height < plane.shape[0], width < plane.shape[1]
    grown = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    image = Image.fromarray(np.ascontiguousarray(plane))
    if any(shrinks):
        kept = (min(width, plane.shape[1]), min(height, plane.shape[0]))
        image = image.resize(kept, Image.Resampling.BOX)
    if image.size != (width, height):
        image = image.resize((width, height), grown)
    return np.asarray(image)


def colored(plane: npt.NDArray[np.float32], colormap: str) -> Image.Image:
    """Colour levels from 0 to 1; NaN is :data:`NAN_COLOR`, infinities :data:`INF_COLOR`."""
    table = np.concatenate([colors(colormap), [NAN_COLOR], [INF_COLOR]]).astype(np.uint8)
    finite = np.isfinite(plane)
    if finite.all():
        index = np.rint(np.clip(plane, 0, 1) * 255).astype(np.intp)
    else:
        index = np.rint(np.clip(np.where(finite, plane, 0), 0, 1) * 255).astype(np.intp)
        index[np.isnan(plane)] = 256
        index[np.isinf(plane)] = 257
    return Image.fromarray(table[index])


def fitted(rows: int, columns: int, width: int, height: int) -> tuple[int, int]:
    """Give the size ``(width, height)`` in CSS pixels that a plane is drawn at.

    As large as fits, and no cell of a small one larger than makes 64 of them fill the place;
    a very long plane keeps a side of some pixels, stretched.
    """
    ratio = min(width / columns, height / rows, _LARGEST * max(1.0, 64 / max(rows, columns)))
    if max(rows, columns) <= 64:
        ratio = min(ratio, 384 / max(rows, columns))
    return max(1, min(width, max(12, round(columns * ratio)))), max(
        1, min(height, max(12, round(rows * ratio)))
    )


def laid_over(
    plane: Plane, size: tuple[int, int], box: Box, *, smooth: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Bring a plane into the coordinates of a picture.

    Parameters
    ----------
    plane
        What the model gave for all of its input.
    size
        ``(width, height)`` of the picture in pixels.
    box
        ``(left, top, right, bottom)``: where the whole plane lies in the picture, in its
        pixels; it may reach beyond.
    smooth
        Whether to interpolate, otherwise the cell that each pixel's centre lies in is taken.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        The plane ``[height, width]``, and which of the pixels it covers.
    """
    width, height = size
    left, top, right, bottom = box
    if not (left < right and top < bottom):
        raise ArgumentError(f"the box {box} is empty", "give left < right and top < bottom")
    x = (np.arange(width) + 0.5 - left) / (right - left)
    y = (np.arange(height) + 0.5 - top) / (bottom - top)
    covered = ((y > 0) & (y < 1))[:, None] & ((x > 0) & (x < 1))
    rows, columns = plane.size
    at_x, at_y = np.clip(x, 0, 1) * columns, np.clip(y, 0, 1) * rows
    if smooth:
        return _bilinear(
            plane.array.astype(np.float32), at_y / plane.step, at_x / plane.step
        ), covered
    row = np.clip((at_y // plane.step).astype(np.intp), 0, plane.array.shape[0] - 1)
    column = np.clip((at_x // plane.step).astype(np.intp), 0, plane.array.shape[1] - 1)
    taken: npt.NDArray[Any] = plane.array[row[:, None], column]
    return taken, covered


def ticks(reach: Extent, low: float, high: float) -> list[str]:
    """Give the numbers beside a colour bar, from high to low."""
    if reach.finite == 0:
        return ["no finite value"]
    if low == high:
        return [number(low)]
    return [number(value) for value in (high, high / 2 + low / 2, low)]


def colors_of_odd(reach: Extent, *, infinite: bool = True) -> str:
    """Tell what the colours beside a map's own mean, where it has them."""
    words = ["NaN is grey"] if reach.nans else []
    if infinite and reach.infinite:
        words.append("infinite is red")
    return ", ".join(words)


def every(count: int) -> str:
    """Write "every 2nd", "every 3rd" and so on."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(count % 10 if count % 100 not in (11, 12, 13) else 0)
    return f"every {count}{ending or 'th'}"


def _bilinear(
    plane: npt.NDArray[np.float32], y: npt.NDArray[Any], x: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    """Interpolate between the cells' centres."""
    values = _one_axis(plane, y)
    taken: npt.NDArray[np.float32] = _one_axis(values.T, x).T
    return taken


def _one_axis(plane: npt.NDArray[np.float32], at: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    at = np.clip(at - 0.5, 0, plane.shape[0] - 1)
    first = np.floor(at).astype(np.intp)
    second = np.minimum(first + 1, plane.shape[0] - 1)
    part = (at - first).astype(np.float32)[:, None]
    with np.errstate(all="ignore"):
        mixed: npt.NDArray[np.float32] = plane[first] * (1 - part) + plane[second] * part
    return mixed
