"""Which class each place belongs to: a colour for each, and a legend with their parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.canvas import Drawing, Entry, framed
from tritonic_nb.render.overlay import Source, contour, tinted
from tritonic_nb.render.palette import color_of, rgb_of
from tritonic_nb.render.planes import Plane, fitted, laid_over, read_plane, resized
from tritonic_nb.render.plot import SCALE
from tritonic_nb.render.values import Values

__all__ = ["label_of", "segmentation"]

_LARGEST = (520, 420)
_ENTRIES = 14
_SCORES = 1 << 24  # elements of scores that the best class is looked for in
_INVALID = -1


def segmentation(
    thing: Any,
    *,
    title: str = "",
    labels: Sequence[str] | None = None,
    source: Source | None = None,
    opacity: float = 0.6,
) -> Drawing:
    """Draw the class of each place.

    Parameters
    ----------
    thing
        ``[rows, columns]`` of class numbers, or ``[classes, rows, columns]`` of scores, of
        which the highest counts.
    title
        Above it.
    labels
        The names of the classes.
    source
        The picture to lay it over, in its own coordinates.
    opacity
        How much of the picture a class covers; class 0 covers nothing.
    """
    plane, said = _classes(Values.of(thing))
    found, counts = np.unique(plane.array, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    entries = [
        Entry(
            _hex(int(found[i])),
            label_of(labels, int(found[i])) if found[i] != _INVALID else "no number",
            f"{counts[i] / plane.array.size:.1%}",
        )
        for i in order[:_ENTRIES]
    ]
    left_out = len(found) - len(entries)
    if left_out > 0:
        entries.append(Entry("", f"and {left_out:,} more"))
    kinds = f"{len(found):,} class{'es' if len(found) != 1 else ''}"
    alt = f"segmentation of {plane.size[0]:,} x {plane.size[1]:,} into {kinds}"
    if source is None:
        width, height = fitted(*plane.size, *_LARGEST)
        image = _painted(resized(plane.array, width * SCALE, height * SCALE))
    else:
        shown = source.shown(_LARGEST)
        placed, covered = laid_over(plane, shown.image.size, shown.box, smooth=False)
        color = np.asarray(_painted(placed), np.float32)
        image = tinted(shown.image, color, (placed != 0) * opacity, covered)
        pixels = np.asarray(image).copy()
        edges = contour(placed) & covered
        pixels[edges] = color[edges] * 0.55
        image = Image.fromarray(pixels)
    canvas, _, _ = framed(image, title=title, legend=entries)
    over = source.note if source else ""
    return Drawing.on_card(canvas, alt, over, kinds, said, plane.note, photo=source is not None)


def label_of(labels: Sequence[str] | None, index: int) -> str:
    """Give a class's name, or ``class 7`` where it has none."""
    try:
        name = " ".join(str(labels[index]).split()) if labels is not None and index >= 0 else ""
    except (IndexError, KeyError):
        name = ""
    except TypeError as error:
        raise ArgumentError(
            f"the labels are a {type(labels).__name__}", "pass a list of names"
        ) from error
    return name or f"class {index}"


def _classes(values: Values) -> tuple[Plane, str]:
    if len(values.shape) == 2:
        plane = read_plane(values)
        array = plane.array
        if array.dtype.kind == "f":
            whole = np.isfinite(array)
            array = np.where(whole, np.rint(np.where(whole, array, 0)), _INVALID)
        array = np.clip(array.astype(np.int64), _INVALID, 1 << 30)
        return Plane(array, plane.step, plane.size), ""
    classes, rows, columns = values.shape
    step = 1
    while classes * -(-rows // step) * -(-columns // step) > _SCORES and step < max(rows, columns):
        step += 1
    part = values.thinned((1, step, step)).read()
    if part.dtype.kind == "f":
        nans = np.isnan(part)
        best = np.where(nans, -np.inf, part).argmax(axis=0) if nans.any() else part.argmax(axis=0)
        best = np.where(nans.all(axis=0), _INVALID, best)
    else:
        best = part.argmax(axis=0)
    return Plane(best, step, (rows, columns)), f"the class of the highest of {classes:,} scores"


def _hex(index: int) -> str:
    return "#ffffff" if index < 0 else color_of(index)


def _painted(plane: npt.NDArray[Any]) -> Image.Image:
    found, inverse = np.unique(plane, return_inverse=True)
    table = np.array(
        [(255, 255, 255) if index < 0 else rgb_of(int(index)) for index in found], np.uint8
    )
    return Image.fromarray(table[inverse.reshape(plane.shape)])
