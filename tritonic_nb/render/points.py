"""Points and skeletons: joints of people and hands, landmarks of faces."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.render.canvas import Drawing, framed
from tritonic_nb.render.overlay import Source
from tritonic_nb.render.palette import color_of
from tritonic_nb.render.plot import SCALE
from tritonic_nb.render.values import Values

__all__ = ["SKELETONS", "points"]

#: Which points are joined, by how many there are: COCO's person, a hand, MediaPipe's person.
SKELETONS: dict[int, tuple[tuple[int, int], ...]] = {
    17: (
        (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12),
        (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
    ),
    21: tuple(
        (0 if joint == 1 else first - 1 + joint - 1, first - 1 + joint)
        for first in (1, 5, 9, 13, 17)
        for joint in (1, 2, 3, 4)
    ),
    33: (
        (11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (11, 23), (12, 24), (23, 24), (23, 25),
        (25, 27), (24, 26), (26, 28), (27, 31), (28, 32), (7, 3), (3, 0), (0, 6), (6, 8),
    ),
}  # fmt: skip

_MOST_ITEMS = 30
_MOST_POINTS = 10_000
_UNSURE = 0.3
_BLANK = 420


def points(
    thing: Any,
    *,
    title: str = "",
    source: Source | None = None,
    y_first: bool = False,
) -> Drawing:
    """Draw points, joined where their number is that of a well-known skeleton.

    Parameters
    ----------
    thing
        ``[points, numbers]`` or ``[items, points, numbers]``: two coordinates, then maybe a
        score from 0 to 1 (what is below 0.3 is drawn hollow).
    title
        Above them.
    source
        Their picture.
    y_first
        Whether the first coordinate is the vertical one.
    """
    values = Values.of(thing)
    if len(values.shape) == 2:
        block = values[:_MOST_POINTS][None]
        total = 1
    else:
        block, total = values[:_MOST_ITEMS, :_MOST_POINTS], values.shape[0]
    block = block.astype(np.float64)
    x, y = block[..., 1 if y_first else 0], block[..., 0 if y_first else 1]
    score = _scores(block)
    used = np.isfinite(x) & np.isfinite(y)
    reach = np.abs(np.concatenate([x[used], y[used]])).max(initial=0)
    unit = bool(reach <= 2)
    shown, placed_x, placed_y = _placed(x, y, used, source, unit=unit)
    canvas, left, top = framed(shown, title=title, below=True)
    xs, ys = left + placed_x / SCALE, top + placed_y / SCALE
    inside = used & (placed_x >= 0) & (placed_x <= shown.width)
    inside &= (placed_y >= 0) & (placed_y <= shown.height)
    count = block.shape[1]
    dense = count > 40
    for item in range(len(block)):
        color = color_of(item % 7 + 1)
        for first, second in SKELETONS.get(count, ()):
            if (
                inside[item, [first, second]].all()
                and (score[item, [first, second]] >= _UNSURE).all()
            ):
                pair = [first, second]
                canvas.line(xs[item, pair], ys[item, pair], "#ffffff", 3.4)
                canvas.line(xs[item, pair], ys[item, pair], color, 2.0)
        sure = inside[item] & (score[item] >= _UNSURE)
        unsure = inside[item] & ~sure
        size = 3.4 if dense else 6.5
        canvas.dots(xs[item, sure], ys[item, sure], color, size)
        canvas.dots(xs[item, unsure], ys[item, unsure], color, size - 1, hollow=True)
    notes = [
        f"{int((used & ~inside).sum())} outside of the picture" if (used & ~inside).any() else "",
        f"the first {len(block)} of {total:,} items" if len(block) < total else "",
        "hollow: score below 0.3" if (inside & (score < _UNSURE)).any() else "",
        "vertical coordinate first" if y_first else "",
    ]
    each = f"{count:,} points" + (f" each of {len(block)} items" if len(block) > 1 else "")
    return Drawing.on_card(canvas, each, *notes, photo=source is not None)


def _scores(block: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Give the scores in the third column, or 1 where it is no score."""
    ones: npt.NDArray[np.float64] = np.ones(block.shape[:2])
    if block.shape[-1] != 3:
        return ones
    third = block[..., 2]
    with np.errstate(all="ignore"):
        score = bool(np.isfinite(third).all() and (third >= 0).all() and (third <= 1).all())
    return third if score else ones


def _placed(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    used: npt.NDArray[np.bool_],
    source: Source | None,
    *,
    unit: bool,
) -> tuple[Image.Image, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give the picture that points are drawn on, and where."""
    if source is not None:
        shown = source.shown()
        return shown.image, *shown.placed(x, y, unit=unit)
    lows = [float(each[used].min()) if used.any() else 0.0 for each in (x, y)]
    highs = [float(each[used].max()) if used.any() else 1.0 for each in (x, y)]
    if unit and min(lows) >= 0:
        lows, highs = [0.0, 0.0], [1.0, 1.0]
    span = max(highs[0] - lows[0], highs[1] - lows[1]) or 1.0
    margin = 0 if unit else 0.06 * span
    scale = _BLANK / (span + 2 * margin)
    width, height = (
        max(160, round((high - low + 2 * margin) * scale))
        for low, high in zip(lows, highs, strict=True)
    )
    image = Image.new("RGB", (width * SCALE, height * SCALE), "#eef0f2")
    return (
        image,
        (x - lows[0] + margin) * scale * SCALE,
        (y - lows[1] + margin) * scale * SCALE,
    )
