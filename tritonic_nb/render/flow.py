"""Optical flow: where each place moves, as the colours of a wheel and as arrows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.render.canvas import Drawing, framed
from tritonic_nb.render.extent import number
from tritonic_nb.render.planes import NAN_COLOR, fitted, read_plane, resized
from tritonic_nb.render.plot import SCALE
from tritonic_nb.render.values import Values

__all__ = ["flow"]

_LARGEST = (520, 420)
_WHEEL = 92  # CSS pixels
_ARROWS = 36  # CSS pixels from one arrow to the next


def flow(thing: Any, *, title: str = "", longest: float | None = None) -> Drawing:
    """Draw motion: the hue is its direction, the strength of the colour its length.

    Parameters
    ----------
    thing
        ``[2, rows, columns]``: to the right and downwards, in any unit.
    title
        Above it.
    longest
        The length of the strongest colour; without it, the longest of 99 in 100.

    Notes
    -----
    Arrows show the direction to those who cannot tell the hues apart.
    """
    values = Values.of(thing)
    right, down = (read_plane(values.at(0, index)) for index in (0, 1))
    x, y = right.array.astype(np.float32), down.array.astype(np.float32)
    with np.errstate(all="ignore"):
        length = np.hypot(x, y)
    good = np.isfinite(length)
    found = length[good]
    top = float(found.max()) if found.size else 0.0
    reach = longest or (float(np.percentile(found[:: max(1, found.size // 65536)], 99))
                        if found.size else 0.0) or top or 1.0  # fmt: skip
    width, height = fitted(*right.size, *_LARGEST)
    shown_x, shown_y = (resized(part, width * SCALE, height * SCALE) for part in (x, y))
    image = _colored(shown_x / np.float32(reach), shown_y / np.float32(reach))
    unit = "the wheel's edge: " + number(reach)
    canvas, left, above = framed(
        image, title=title, below=True, side=(_wheel(), [unit, f"longest: {number(top)}"])
    )
    for at_y in np.arange(_ARROWS / 2, height, _ARROWS):
        for at_x in np.arange(_ARROWS / 2, width, _ARROWS):
            place = int(at_y * SCALE), int(at_x * SCALE)
            part = np.array([shown_x[place], shown_y[place]], np.float64) / reach
            _draw_arrow(canvas, left + at_x, above + at_y, part)
    alt = f"optical flow of {right.size[0]:,} x {right.size[1]:,}, at most {number(top)} long"
    odd = f"{int((~good).sum()):,} places without a number are grey" if not good.all() else ""
    return Drawing.on_card(canvas, alt, right.note, odd)


def _colored(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> Image.Image:
    with np.errstate(all="ignore"):
        hue = np.mod(np.arctan2(y, x) / (2 * np.pi), 1) * 255
        strength = np.clip(np.hypot(x, y), 0, 1) * 255
    good = np.isfinite(hue) & np.isfinite(strength)
    layers = [np.where(good, layer, 0) for layer in (hue, strength, np.full_like(hue, 255))]
    bands = [Image.fromarray(layer.astype(np.uint8)) for layer in layers]
    image = Image.merge("HSV", bands).convert("RGB")
    if good.all():
        return image
    pixels = np.asarray(image).copy()
    pixels[~good] = NAN_COLOR
    return Image.fromarray(pixels)


def _wheel() -> Image.Image:
    side = _WHEEL * SCALE
    at = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
    x = np.broadcast_to(at, (side, side))
    y = np.broadcast_to(at[:, None], (side, side))
    image = _colored(x, y)
    edge = np.clip((1 - np.hypot(x, y)) * side / 2, 0, 1) * 255
    image.putalpha(Image.fromarray(edge.astype(np.uint8)))
    return image


def _draw_arrow(canvas: Any, x: float, y: float, part: npt.NDArray[np.float64]) -> None:
    if not np.isfinite(part).all() or np.hypot(*part) < 0.04:
        return
    length = np.hypot(*part)
    step = part / length * min(length, 1.0) * _ARROWS * 0.42
    start, end = np.array([x, y]) - step, np.array([x, y]) + step
    side = np.array([-step[1], step[0]])
    heads = [end - step * 0.7 + side * 0.45, end, end - step * 0.7 - side * 0.45]
    xs = [start[0], end[0], np.nan, *(head[0] for head in heads)]
    ys = [start[1], end[1], np.nan, *(head[1] for head in heads)]
    canvas.line(xs, ys, "#1f2328", 0.9, above=True)
