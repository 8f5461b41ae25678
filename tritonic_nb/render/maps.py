"""Maps of numbers: one with its colour bar, or many in a grid, the strongest first."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.render.canvas import Drawing, framed, ramp
from tritonic_nb.render.distant import MOST_NBYTES
from tritonic_nb.render.extent import Extent
from tritonic_nb.render.image import blend, colors
from tritonic_nb.render.overlay import Source, contour, tinted
from tritonic_nb.render.planes import (
    colored,
    colors_of_odd,
    fitted,
    laid_over,
    levels,
    read_plane,
    resized,
    ticks,
)
from tritonic_nb.render.plot import SCALE
from tritonic_nb.render.values import Values

__all__ = ["Limits", "feature_grid", "heat_map", "probability"]

Limits = tuple[float, float]

_LARGEST = (560, 420)  # CSS pixels of one map
_GRID_WIDTH = 640
_GRID_GAP = 6
_NAME_HEIGHT = 17
_COUNT = 64
_STRENGTH_SAMPLE = 1 << 22  # elements that the strengths are found from
_PER_TILE = 1 << 17  # elements of one map of a grid that are averaged
_MASK = (255, 176, 0)
_MASK_EDGE = (120, 40, 0)


def heat_map(
    thing: Any,
    *,
    title: str = "",
    limits: Limits | None = None,
    colormap: str = "viridis",
    source: Source | None = None,
    opacity: float = 0.6,
) -> Drawing:
    """Draw a plane of numbers as colours, with a colour bar.

    Parameters
    ----------
    thing
        ``[rows, columns]``: an array, or what
        :meth:`Values.of <tritonic_nb.render.values.Values.of>` takes.
    title
        Above it.
    limits
        The numbers of the darkest and the brightest colour; without them the lowest and
        the highest finite one. NaN is grey, infinities are red.
    colormap
        A Matplotlib name.
    source
        The picture to lay it over, in its own coordinates.
    opacity
        How much of the picture is covered where the map is highest.

    Raises
    ------
    ArgumentError
        No such colour map.
    """
    values = Values.of(thing)
    plane = read_plane(values)
    reach = Values.of(plane.array).extent()
    low, high = limits or (reach.low, reach.high)
    alt = f"heat map of {plane.size[0]:,} x {plane.size[1]:,}, {reach}"
    bar = (ramp(colors(colormap)), ticks(reach, low, high))
    odd = colors_of_odd(reach)
    if source is not None:
        shown = source.shown()
        small = _averaged(levels(plane.array, low, high), 256)
        image = blend(shown.image, _finite(small), shown.box, opacity=opacity, colormap=colormap)
        canvas, _, _ = framed(image, title=title, bar=bar)
        return Drawing.on_card(canvas, alt, source.note, plane.note, odd, photo=True)
    width, height = fitted(*plane.size, *_LARGEST)
    level = levels(plane.array, low, high)
    image = colored(resized(level, width * SCALE, height * SCALE), colormap)
    canvas, _, _ = framed(image, title=title, bar=bar)
    return Drawing.on_card(canvas, alt, plane.note or _shrunk(plane.size, image), odd)


def probability(
    thing: Any,
    *,
    title: str = "",
    form: str = "probabilities",
    source: Source | None = None,
    opacity: float = 0.6,
) -> Drawing:
    """Draw a map of probabilities on a scale from 0 to 1, or a mask.

    Parameters
    ----------
    thing
        ``[rows, columns]``.
    form
        ``probabilities``, ``logits`` (a sigmoid makes probabilities of them) or ``mask``
        (whole numbers or truth values, of which all but 0 are inside).
    title, source, opacity
        As for :func:`heat_map`. Over a picture, what is at least 0.5 has an edge.
    """
    plane = read_plane(Values.of(thing))
    part, said = _probabilities(plane.array, form)
    finite = np.isfinite(part)
    inside = np.mean(part[finite] >= 0.5) if finite.any() else 0.0
    alt = f"{_name_of(form)} of {plane.size[0]:,} x {plane.size[1]:,}, {inside:.1%} at least 0.5"
    if source is not None:
        shown = source.shown()
        placed, covered = laid_over(
            replace(plane, array=np.nan_to_num(part)), shown.image.size, shown.box,
            smooth=form != "mask",
        )  # fmt: skip
        image = tinted(shown.image, np.array(_MASK, np.float32), placed * opacity, covered)
        edge = contour((placed >= 0.5) & covered)
        pixels = np.asarray(image).copy()
        pixels[edge] = _MASK_EDGE
        canvas, _, _ = framed(Image.fromarray(pixels), title=title)
        note = f"covered where it is high, with an edge at 0.5: {inside:.1%} inside"
        return Drawing.on_card(canvas, alt, source.note, said, plane.note, note, photo=True)
    width, height = fitted(*plane.size, *_LARGEST)
    image = colored(resized(part, width * SCALE, height * SCALE), "viridis")
    bar = (ramp(colors("viridis")), ["1", "0.5", "0"])
    canvas, _, _ = framed(image, title=title, bar=bar)
    return Drawing.on_card(
        canvas, alt, said, f"{inside:.1%} at least 0.5",
        plane.note or _shrunk(plane.size, image),
    )  # fmt: skip


def feature_grid(
    thing: Any,
    *,
    title: str = "",
    count: int = _COUNT,
    together: bool = False,
    limits: Limits | None = None,
    colormap: str = "viridis",
    ordered: bool = True,
) -> Drawing:
    """Draw maps in a grid, the strongest first.

    Parameters
    ----------
    thing
        ``[maps, rows, columns]``.
    title
        Above them.
    count
        How many at most. A map is the stronger the more its values differ (their standard
        deviation).
    together
        Whether one scale is used for all, otherwise each has its own.
    limits, colormap
        As for :func:`heat_map`; limits imply `together`.
    ordered
        Whether the strongest come first, otherwise they keep their order, as those of a large
        array in another memory do.
    """
    values = Values.of(thing)
    ordered = ordered and (values.distant is None or values.distant.nbytes <= MOST_NBYTES)
    total, rows, columns = values.shape
    order, sampled = _strongest(values) if ordered else (list(range(total)), False)
    chosen = order[: max(1, count)]
    planes = [read_plane(values.at(0, index), _PER_TILE) for index in chosen]
    reaches = [Values.of(plane.array).extent() for plane in planes]
    total_reach = reduce(Extent.together, reaches)
    shared = limits or ((total_reach.low, total_reach.high) if together else None)
    across = _across(len(chosen))
    tile = min(_tile_width(len(chosen)), (_GRID_WIDTH - _GRID_GAP * (across - 1)) // across)
    width, height = fitted(rows, columns, tile, tile)
    step_x, step_y = max(width, 30) + _GRID_GAP, height + _NAME_HEIGHT + 4
    down = -(-len(chosen) // across)
    mosaic = Image.new("RGBA", (step_x * across * SCALE, step_y * down * SCALE))
    for place, (plane, reach) in enumerate(zip(planes, reaches, strict=True)):
        low, high = shared or (reach.low, reach.high)
        level = resized(levels(plane.array, low, high), width * SCALE, height * SCALE)
        at = (place % across * step_x * SCALE, place // across * step_y * SCALE)
        mosaic.paste(colored(level, colormap), at)
    bar = (
        ramp(colors(colormap)),
        ticks(total_reach, *shared) if shared else ["highest", "lowest"],
    )
    canvas, x, y = framed(mosaic, title=title, bar=bar)
    for place, index in enumerate(chosen):
        left, top = x + place % across * step_x, y + place // across * step_y
        canvas.text(left, top + height + 13, f"#{index}", room=step_x - _GRID_GAP, size=7.5)
    return Drawing.on_card(
        canvas,
        f"{len(chosen)} of {total:,} maps of {rows:,} x {columns:,}",
        _said_count(len(chosen), total, ordered=ordered, sampled=sampled),
        "one scale for all" if shared else "each from its own lowest to its own highest value",
        colors_of_odd(total_reach),
        _shrunk((rows, columns), Image.new("1", (width * SCALE, height * SCALE))),
    )


def _said_count(shown: int, total: int, *, ordered: bool, sampled: bool) -> str:
    if shown == total:
        return "the strongest first" if ordered and total > 1 else ""
    found = ", found from a sample" if sampled else ""
    return (
        f"the {shown} strongest of {total:,}{found}"
        if ordered
        else f"the first {shown} of {total:,}"
    )


def _strongest(values: Values) -> tuple[list[int], bool]:
    """Order maps by the spread of their values, from a sample of bounded size."""
    total = values.shape[0]
    few = max(1, _STRENGTH_SAMPLE // max(1, total))
    steps = values.at(0, 0).steps(min(few, 1 << 14))
    step = -(-total // _STRENGTH_SAMPLE)
    part = values.thinned((step, *steps)).read().reshape(-(-total // step), -1)
    with np.errstate(all="ignore"):
        halves = part.astype(np.float64)
        halves[~np.isfinite(halves)] = np.nan
        largest = np.nanmax(np.abs(halves), initial=0) or 1.0
        spread = np.nan_to_num(_deviation(halves / largest), nan=-1.0)
    found = np.argsort(-spread, kind="stable") * step
    return found.tolist(), max(steps) > 1 or step > 1


def _deviation(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Find the standard deviation of each row without its NaN; NaN for a row of nothing else."""
    good = np.isfinite(rows)
    count = good.sum(axis=1)
    mean = np.where(good, rows, 0).sum(axis=1) / count
    square = np.where(good, rows - mean[:, None], 0) ** 2
    deviation: npt.NDArray[np.float64] = np.sqrt(square.sum(axis=1) / count)
    return deviation


def _across(count: int) -> int:
    """Tell how many tiles stand side by side."""
    if count <= 4:
        return count
    return min(8, max(4, math.ceil(math.sqrt(count))))


def _tile_width(count: int) -> int:
    return {1: 420, 2: 320, 3: 224}.get(count, 168)


def _shrunk(size: tuple[int, int], image: Image.Image) -> str:
    """Tell that cells were averaged, where they were."""
    if size[0] > image.height or size[1] > image.width:
        return f"averaged to {min(size[0], image.height)} x {min(size[1], image.width)}"
    return ""


def _averaged(plane: npt.NDArray[np.float32], most: int) -> npt.NDArray[np.float32]:
    rows, columns = plane.shape
    smaller: npt.NDArray[np.float32] = resized(plane, min(columns, most), min(rows, most))
    return smaller


def _finite(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.nan_to_num(plane, nan=0.0, posinf=1.0, neginf=0.0)


def _probabilities(array: npt.NDArray[Any], form: str) -> tuple[npt.NDArray[np.float32], str]:
    if form == "mask":
        inside: npt.NDArray[np.float32] = (array != 0).astype(np.float32)
        return inside, ""
    part = array.astype(np.float32)
    if form == "logits":
        with np.errstate(all="ignore"):
            part = (1 / (1 + np.exp(-part))).astype(np.float32)
        return part, "logits, made probabilities by a sigmoid"
    return part, ""


def _name_of(form: str) -> str:
    return "mask" if form == "mask" else "probability map"
