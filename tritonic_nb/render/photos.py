"""Tensors that are images: pixels in any layout and any range of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.render.canvas import Drawing
from tritonic_nb.render.extent import Extent, number
from tritonic_nb.render.image import fit_within
from tritonic_nb.render.planes import every
from tritonic_nb.render.values import Values

__all__ = ["photo", "photo_bytes", "photo_sheet"]

_LARGEST = (640, 480)  # CSS pixels
_SMALLEST = 224  # the longer side of what is enlarged
_MOST_PIXELS = 1 << 21
_TILES = 16
_TILE = (152, 152)
_GAP = 6

# torchvision's mean and standard deviation of ImageNet, for pixels from 0 to 1.
_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])
_SLACK = 0.02
_LEAST_BYTE = 16  # an image from 0 to 255 has a pixel as bright as this


def photo(thing: Any, *, limits: tuple[float, float] | None = None) -> Drawing:
    """Show an image as it is.

    Parameters
    ----------
    thing
        ``[rows, columns]`` or ``[rows, columns, 1 to 4]``.
    limits
        The numbers that are black and white; without them the usual ranges are recognised
        (0..1, -1..1, 0..255, ImageNet's mean and standard deviation), and anything else goes
        from its lowest to its highest value.
    """
    values = Values.of(thing)
    part, thinned = _part(values, _MOST_PIXELS)
    level, words = photo_bytes(part, limits)
    pixels = Image.fromarray(level)
    rows, columns = values.shape[:2]
    image, width = _sized(pixels, rows, columns)
    grey = "grey" if pixels.mode == "L" else "colour"
    alt = f"{grey} image of {columns:,} x {rows:,} pixels"
    shrunk = ""
    if image.width < pixels.width:
        shrunk = f"shrunk to {image.width} x {image.height}"
    return Drawing(image, alt, tuple(filter(None, (words, thinned, shrunk))), width)


def photo_sheet(
    items: Sequence[Values], total: int, *, limits: tuple[float, float] | None = None
) -> Drawing:
    """Show several images beside one another, all with the range of the first ones together."""
    chosen = items[:_TILES]
    rows, columns = chosen[0].shape[:2]
    across = min(4, len(chosen))
    tile = fit_within((columns, rows), *_TILE)
    size = tile[0] * 2, tile[1] * 2
    sheet = Image.new(
        "RGBA",
        (
            across * (size[0] + 2 * _GAP) - 2 * _GAP,
            -(-len(chosen) // across) * (size[1] + 2 * _GAP) - 2 * _GAP,
        ),
    )
    notes: list[str] = []
    parts, thinned = zip(*(_part(item, _MOST_PIXELS // _TILES) for item in chosen), strict=True)
    together, words = photo_bytes(np.concatenate(parts), limits)
    notes += [words, thinned[0]]
    for place, level in enumerate(np.split(together, len(parts))):
        pixels = Image.fromarray(level)
        grows = pixels.width < size[0]
        method = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
        at = (place % across * (size[0] + 2 * _GAP), place // across * (size[1] + 2 * _GAP))
        sheet.paste(pixels.resize(size, method).convert("RGBA"), at)
    alt = f"{len(chosen)} of {total:,} images of {columns:,} x {rows:,} pixels"
    notes.append(alt.partition(" images")[0] + " shown" if len(chosen) < total else "")
    return Drawing(sheet, alt, tuple(filter(None, notes)), sheet.width // 2)


def _part(values: Values, most: int) -> tuple[npt.NDArray[Any], str]:
    """Read pixels, thinned out where there are more than `most`."""
    rows, columns = values.shape[:2]
    step = 1
    while -(-rows // step) * -(-columns // step) > most:
        step += 1
    part = values.thinned((step, step, *(1 for _ in values.shape[2:]))).read()
    if part.ndim == 3 and part.shape[2] not in (3, 4):
        part = part[..., 0]
    return part, f"{every(step)} row and column read" if step > 1 else ""


def photo_bytes(
    part: npt.NDArray[Any], limits: tuple[float, float] | None = None
) -> tuple[npt.NDArray[np.uint8], str]:
    """Bring pixels to 0..255, and say which numbers are black and white.

    Parameters
    ----------
    part
        ``[rows, columns]`` or ``[rows, columns, 3 or 4]``.
    limits
        As for :func:`photo`.
    """
    if part.dtype == np.bool_:
        return part.astype(np.uint8) * np.uint8(255), ""
    if part.dtype == np.uint8 and limits is None:
        return part, ""
    reach = Values.of(part).extent()
    if limits is None:
        unit = _imagenet(part, reach)
        if unit is not None:
            return _levels(unit, 0, 1), "ImageNet's mean and standard deviation undone"
    low, high, words = (*limits, "") if limits else _range(reach, part.dtype)
    alpha = part[..., 3:] if part.ndim == 3 and part.shape[2] == 4 else None
    pixels = _levels(part, low, high)
    if alpha is not None:
        pixels[..., 3:] = _levels(alpha, 0, 255 if float(np.nanmax(alpha, initial=0)) > 1 else 1)
    return pixels, words or f"black is {number(low)}, white {number(high)}"


def _range(reach: Extent, dtype: np.dtype[Any]) -> tuple[float, float, str]:
    """Tell which numbers are black and white, and how that is said."""
    low, high = reach.low, reach.high
    if dtype.kind == "f" and low >= -_SLACK and high <= 1 + _SLACK:
        return 0, 1, "black is 0, white 1"
    if dtype.kind == "f" and low >= -1 - _SLACK and high <= 1 + _SLACK:
        return -1, 1, "black is -1, white 1"
    if low >= -2 and _LEAST_BYTE <= high <= 257:
        return 0, 255, "black is 0, white 255"
    return low, high, f"black is the lowest value, {number(low)}, white the highest, {number(high)}"


def _imagenet(part: npt.NDArray[Any], reach: Extent) -> npt.NDArray[np.float64] | None:
    """Undo ImageNet's normalisation where all three channels lie in its range and need it."""
    if part.ndim != 3 or part.shape[2] != 3 or part.dtype.kind != "f" or reach.low >= -1.1:
        return None
    with np.errstate(all="ignore"):
        unit: npt.NDArray[np.float64] = part.astype(np.float64) * _STD + _MEAN
        fits = (unit > -_SLACK).all() and (unit < 1 + _SLACK).all()
    return unit if fits else None


def _levels(part: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Bring numbers to 0..255; NaN is black, as infinities are black or white."""
    with np.errstate(all="ignore"):
        wide = part.dtype.itemsize > 4
        halves = part.astype(np.float64 if wide else np.float32) / 2
        span = high / 2 - low / 2
        scaled = (halves - low / 2) / span if span > 0 else np.full(part.shape, 0.5, halves.dtype)
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
    np.clip(scaled, 0, 1, out=scaled)
    scaled *= 255
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _sized(pixels: Image.Image, rows: int, columns: int) -> tuple[Image.Image, int]:
    """Give an image at the size it is stored in, and its width on the page.

    Small ones are enlarged in whole steps; none has more pixels than a screen of high
    resolution shows.
    """
    long = max(pixels.size)
    if long < _SMALLEST:
        step = -(-_SMALLEST // long)
        image = pixels.resize((pixels.width * step, pixels.height * step), Image.Resampling.NEAREST)
        return image, image.width
    width, height = fit_within((columns, rows), *_LARGEST)
    width, height = min(width, columns), min(height, rows)
    most = (width * 2, height * 2)
    if pixels.width > most[0] or pixels.height > most[1]:
        return pixels.resize(most, Image.Resampling.LANCZOS, reducing_gap=3.0), width
    return pixels, width
