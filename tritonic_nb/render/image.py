"""Pictures from pixels, and a heat map laid over a picture."""

from __future__ import annotations

import io
import zlib
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.picture import Picture, data_uri

__all__ = [
    "ROUNDED",
    "Box",
    "Pixels",
    "as_rgb",
    "blend",
    "colors",
    "embedded_photo",
    "encode_jpeg",
    "encode_png",
    "fit_within",
    "overlay",
    "show",
]

Pixels: TypeAlias = Image.Image | npt.NDArray[Any]
Box: TypeAlias = tuple[float, float, float, float]

ROUNDED = ";border-radius:8px"
"""The style of a card that is embedded as JPEG, which has no transparent corners."""

# How much of what the model did not see remains; the rest is a mid grey.
_UNSEEN = 0.45

# Under a heat map a picture loses most of its own colour, or an orange cat would look warm.
_COLOR_LEFT = 0.2

# The coldest place is covered by this much of what covers the warmest.
_COLD_OPACITY = 0.6


def show(image: Pixels, *, alt: str = "", caption: str = "", width: int | None = None) -> Picture:
    """Make a picture of pixels.

    Parameters
    ----------
    image
        A Pillow image, or an array ``[height, width]`` or ``[height, width, 1, 3 or 4]``
        of ``uint8``, ``bool``, or floats from 0 to 1 (others are clipped).
    alt
        What the picture shows; without it, its size.
    caption
        A line below the picture.
    width
        On the page, in CSS pixels.

    Raises
    ------
    ArgumentError
        An array of another shape or datatype.
    """
    rgb = as_rgb(image)
    alt = alt or f"a picture of {rgb.width} x {rgb.height} pixels"
    return Picture(encode_png(rgb), alt, caption, width)


def overlay(
    image: Pixels,
    heat: npt.NDArray[Any],
    box: Box | None = None,
    *,
    opacity: float = 0.6,
    colormap: str = "inferno",
    alt: str = "",
    caption: str = "",
    width: int | None = None,
) -> Picture:
    """Lay a heat map over a picture; the parameters are those of :func:`blend` and :func:`show`.

    Raises
    ------
    ArgumentError
        As :func:`blend`.
    """
    blended = blend(image, heat, box, opacity=opacity, colormap=colormap)
    return show(blended, alt=alt or "a heat map over a picture", caption=caption, width=width)


def blend(
    image: Pixels,
    heat: npt.NDArray[Any],
    box: Box | None = None,
    *,
    opacity: float = 0.6,
    colormap: str = "inferno",
) -> Image.Image:
    """Lay a heat map over a picture and give the pixels.

    Under the map the picture loses most of its own colour, so that colour means warmth.
    What lies outside `box`, which the model never saw, fades into grey.

    Parameters
    ----------
    image
        As for :func:`show`.
    heat
        ``[rows, columns]``, any number type and any range: the lowest finite value is cold,
        the highest warm. NaN is cold, infinities are as cold or warm as the extremes, and a
        map without differences colours nothing.
    box
        ``(left, top, right, bottom)``: the part of the picture that the whole map covers,
        in the picture's pixels; it may reach beyond. Without it, the whole picture.
    opacity
        How much the warmest place is covered, 0 to 1.
    colormap
        The name of a Matplotlib colour map.

    Returns
    -------
    PIL.Image.Image
        Mode ``RGB``, the size of `image`.

    Raises
    ------
    ArgumentError
        A map that is not two-dimensional, an empty box, or an unknown colour map.
    """
    rgb = as_rgb(image)
    left, top, right, bottom = box = box or (0.0, 0.0, float(rgb.width), float(rgb.height))
    if not (left < right and top < bottom):
        raise ArgumentError(f"the box {box} is empty", "give left < right and top < bottom")
    if not 0 <= opacity <= 1:
        raise ArgumentError(f"opacity is {opacity}", "use a number from 0 to 1")
    levels = _normalised(heat)
    xs, ys = np.arange(rgb.width) + 0.5, np.arange(rgb.height) + 0.5
    down = _spline(levels.shape[0], (ys - top) / (bottom - top))
    across = _spline(levels.shape[1], (xs - left) / (right - left))
    smooth = np.clip(down @ levels @ across.T, 0, 1)

    grey = rgb.convert("L")
    heated = colors(colormap)[np.rint(smooth * 255).astype(np.uint8)]
    if levels.any():
        base = np.asarray(Image.blend(grey.convert("RGB"), rgb, _COLOR_LEFT), np.float32)
        cover = opacity * (_COLD_OPACITY + (1 - _COLD_OPACITY) * smooth)
        pixels = base + (heated - base) * cover[..., np.newaxis].astype(np.float32)
    else:
        pixels = np.array(rgb, np.float32)
    unseen = ~(((ys > top) & (ys < bottom))[:, np.newaxis] & ((xs > left) & (xs < right)))
    faded = np.asarray(grey, np.float32)[unseen] * _UNSEEN + 128 * (1 - _UNSEEN)
    pixels[unseen] = faded[:, np.newaxis]
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def as_rgb(image: Pixels) -> Image.Image:
    """Give pixels as a Pillow image of mode ``RGB``; see :func:`show` for what is taken.

    Raises
    ------
    ArgumentError
        An array of another shape or datatype.
    """
    if isinstance(image, Image.Image):
        return image if image.mode == "RGB" else image.convert("RGB")
    array = np.asarray(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ArgumentError(
            f"an array of shape {array.shape} is not a picture",
            "pass [height, width] or [height, width, channels] with 1, 3 or 4 channels",
        )
    if array.size == 0:
        raise ArgumentError(f"an array of shape {array.shape} has no pixels")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return Image.fromarray(_as_uint8(array)).convert("RGB")


def fit_within(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Give the largest size of the same aspect ratio within `width` and `height`, at least 1."""
    ratio = min(width / size[0], height / size[1])
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def encode_png(image: Image.Image) -> bytes:
    """Encode pixels as a PNG file, for speed rather than for the last byte."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=2, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def encode_jpeg(image: Image.Image) -> bytes:
    """Encode a photograph as a JPEG file, a fifth of the PNG's size."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def embedded_photo(image: Image.Image) -> str:
    """Write a photograph as a ``data:`` address: as JPEG, on white."""
    if image.mode == "RGBA":
        white = Image.new("RGB", image.size, "#ffffff")
        white.paste(image, mask=image)
        image = white
    return data_uri(encode_jpeg(image), "image/jpeg")


def _as_uint8(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "bf":
        raise ArgumentError(
            f"pixels of NumPy dtype {array.dtype} have no agreed range",
            "pass uint8 from 0 to 255, floats from 0 to 1, or bool",
        )
    levels = np.nan_to_num(array.astype(np.float32), nan=0.0)
    return np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)


def _normalised(heat: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Bring a map to 0..1, whatever is in it."""
    values = np.asarray(heat)
    if values.ndim != 2 or values.size == 0:
        raise ArgumentError(
            f"a heat map of shape {values.shape} cannot be drawn",
            "pass [rows, columns], for example class_activation[0]",
        )
    # Halved, so that the span of the largest floats does not overflow.
    halves = values.astype(np.float64) / 2
    finite = halves[np.isfinite(halves)]
    lowest, highest = (float(np.min(finite)), float(np.max(finite))) if finite.size else (0.0, 0.0)
    if lowest == highest:
        return np.zeros(values.shape)
    halves = np.nan_to_num(halves, nan=lowest, posinf=highest, neginf=lowest)
    normalised: npt.NDArray[np.float64] = (halves - lowest) / (highest - lowest)
    return normalised


def _spline(count: int, positions: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Give the weights ``[positions, count]`` of a cubic spline through `count` cells.

    Positions are fractions of the cells' whole extent. The spline (Catmull-Rom's) meets
    each cell's value at its centre, so that the warmest place stays as warm, and does not
    show the grid of a coarse map, as linear interpolation does.
    """
    at = np.clip(positions, 0, 1) * count - 0.5
    first = np.floor(at).astype(np.intp)
    t = at - first
    weights = (
        (-(t**3) + 2 * t**2 - t) / 2,
        (3 * t**3 - 5 * t**2 + 2) / 2,
        (-3 * t**3 + 4 * t**2 + t) / 2,
        (t**3 - t**2) / 2,
    )
    matrix = np.zeros((len(positions), count))
    rows = np.arange(len(positions))
    for offset, weight in enumerate(weights, start=-1):
        np.add.at(matrix, (rows, np.clip(first + offset, 0, count - 1)), weight)
    return matrix


@cache
def colors(name: str) -> npt.NDArray[np.float32]:
    """Give a colour map as ``[256, 3]`` levels from 0 to 255."""
    from matplotlib import colormaps

    if name not in colormaps:
        raise ArgumentError(
            f"there is no colour map {name!r}", "use a Matplotlib name: inferno, viridis, turbo"
        )
    return np.asarray(colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255, np.float32)
