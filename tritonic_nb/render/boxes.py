"""Boxes of detectors: read from whichever form, the likely ones kept, drawn with names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.canvas import Canvas, Drawing, framed
from tritonic_nb.render.overlay import Source
from tritonic_nb.render.palette import color_of, text_on
from tritonic_nb.render.plot import SCALE, text_width
from tritonic_nb.render.scores import softmax
from tritonic_nb.render.segmentation import label_of
from tritonic_nb.render.values import Values

__all__ = ["FORMS", "Boxes", "boxes", "read_boxes"]

#: The forms that boxes come in, and what their four numbers are.
FORMS = {
    "corners": "x1, y1, x2, y2",
    "corners, y first": "y1, x1, y2, x2",
    "centres": "centre x, centre y, width, height",
    "sizes": "x1, y1, width, height",
    "candidates": "centre x, centre y, width, height, then scores",
}

_ROWS = 200_000  # more candidates than any model gives are not looked at
_DRAWN = 60
_LEAST_SCORE = 0.25
_OVERLAP = 0.5
_BLANK = (420, 420)
_TAG = 8.0


@dataclass(frozen=True)
class Boxes:
    """Boxes that were read.

    Attributes
    ----------
    corners
        ``[boxes, 4]``: x1, y1, x2, y2, in pixels of the model's input or parts of it.
    scores, classes
        ``[boxes]``, or None where there are none.
    unit
        Whether the corners are parts from 0 to 1.
    notes
        What was done to read them.
    """

    corners: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64] | None
    classes: npt.NDArray[np.int64] | None
    unit: bool
    notes: tuple[str, ...] = ()


def read_boxes(
    thing: Any,
    form: str = "corners",
    *,
    scores: Any = None,
    classes: Any = None,
    objectness: bool | None = None,
) -> Boxes:
    """Read boxes of any of the :data:`FORMS`.

    Parameters
    ----------
    thing
        ``[boxes, numbers]``; with more than four numbers the others are found to be scores,
        classes or numbers of items by their values.
    form
        What the numbers are.
    scores
        ``[boxes]``, or ``[boxes, classes]`` of which the highest counts (logits go through
        softmax, and a last or first class that most boxes have is no class).
    classes
        ``[boxes]``.
    objectness
        For ``candidates``: whether the fifth number weights the scores behind it.

    Raises
    ------
    ArgumentError
        An unknown form, or scores and classes of another length.
    """
    if form not in FORMS:
        raise ArgumentError(f"there is no form {form!r} of boxes", f"use {', '.join(FORMS)}")
    values = Values.of(thing)
    if len(values.shape) != 2 or values.shape[1] < 4:
        raise ArgumentError(
            f"{values} holds no boxes: they are rows of four numbers or more",
            "pass [boxes, 4]",
        )
    block = values[:_ROWS].astype(np.float64)
    notes: list[str] = []
    start = 0
    own_scores: npt.NDArray[np.float64] | None
    if form == "candidates":
        own_scores, own_classes = _of_candidates(block, bool(objectness))
    else:
        start, own_scores, own_classes = _columns(block, form)
    found_scores, found_classes, said = _given(scores, classes, len(block))
    notes += [said] if said else []
    good = np.isfinite(block[:, start : start + 4]).all(axis=1)
    corners = _as_corners(block[:, start : start + 4], form)
    largest = np.abs(corners[good]).max(initial=0)
    return Boxes(
        corners,
        found_scores if found_scores is not None else own_scores,
        found_classes if found_classes is not None else own_classes,
        bool(largest <= 2),
        tuple(notes),
    )


def boxes(
    found: Boxes,
    *,
    title: str = "",
    labels: Sequence[str] | None = None,
    source: Source | None = None,
    least: float | None = None,
    count: int = _DRAWN,
    apart: bool = False,
) -> Drawing:
    """Draw boxes over their picture, or on a blank one.

    Parameters
    ----------
    found
        As :func:`read_boxes` gives them.
    title
        Above them.
    labels
        The names of the classes.
    source
        The picture.
    least
        The lowest score that is drawn; 0.25 unless no box reaches it.
    count
        How many at most, the likeliest.
    apart
        Whether a box that covers half of a likelier one of its class is left out (non-maximum
        suppression), as candidates need.
    """
    kept, said = _likely(found, least, count, apart=apart)
    shown = source.shown() if source else _blank(found, kept)
    corners = found.corners[kept]
    left, top = shown.placed(corners[:, 0], corners[:, 1], unit=found.unit)
    right, bottom = shown.placed(corners[:, 2], corners[:, 3], unit=found.unit)
    canvas, x, y = framed(shown.image, title=title, below=True)
    size = (shown.image.width / SCALE, shown.image.height / SCALE)
    names = []
    for place in reversed(range(len(kept))):
        index = kept[place]
        number = int(found.classes[index]) if found.classes is not None else None
        name = label_of(labels, number) if number is not None else ""
        if found.scores is not None:
            name = f"{name} {found.scores[index]:.0%}".strip()
        names.append(name)
        color = color_of((number if number is not None else 0) % 15 + 1)
        edges = np.array([left[place], top[place], right[place], bottom[place]]) / SCALE
        _draw_box(canvas, (x, y, *size), edges, color, name)
    alt = f"{len(kept):,} of {len(found.corners):,} boxes"
    if names:
        alt += ": " + ", ".join(filter(None, reversed(names[-12:])))
    return Drawing.on_card(canvas, alt.rstrip(": "), *found.notes, said, photo=source is not None)


# --- reading -------------------------------------------------------------------------------------


def _as_corners(four: npt.NDArray[np.float64], form: str) -> npt.NDArray[np.float64]:
    if form == "corners":
        return four
    if form == "corners, y first":
        return four[:, [1, 0, 3, 2]]
    first, size = four[:, :2], four[:, 2:]
    if form == "sizes":
        return np.concatenate([first, first + size], axis=1)
    return np.concatenate([first - size / 2, first + size / 2], axis=1)


def _of_candidates(
    block: npt.NDArray[np.float64], objectness: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64] | None]:
    """Find scores and classes in what follows a box; what is not in 0..1 is something else."""
    rest = block[:, 4:]
    with np.errstate(all="ignore"):
        unit = ((rest >= 0) & (rest <= 1)).all(axis=0)
    count = int(np.argmin(unit)) if not unit.all() else rest.shape[1]
    rest = rest[:, : max(1, count)]
    if objectness and rest.shape[1] > 1:
        rest = rest[:, :1] * rest[:, 1:]
    best = np.nan_to_num(rest).argmax(axis=1)
    scores = rest[np.arange(len(rest)), best]
    return scores, best if rest.shape[1] > 1 else None


def _columns(
    block: npt.NDArray[np.float64], form: str
) -> tuple[int, npt.NDArray[np.float64] | None, npt.NDArray[np.int64] | None]:
    """Find the four numbers of a box among up to seven, and what the others are."""
    width = block.shape[1]
    if width == 4 or not len(block):
        return 0, None, None
    with np.errstate(all="ignore"):
        whole_columns = (block == np.rint(block)).all(axis=0)
    # A number of an item or of a class is whole, and no coordinate: as many as can be outside.
    start = max(
        (at for at in range(width - 3) if _fits(block, at, form)),
        key=lambda at: int(whole_columns[:at].sum() + whole_columns[at + 4 :].sum()),
        default=0,
    )
    scores: npt.NDArray[np.float64] | None = None
    classes: npt.NDArray[np.int64] | None = None
    rest = [at for at in range(width) if not start <= at < start + 4]
    for at in rest:
        column = block[:, at]
        whole = bool(np.isfinite(column).all() and (column == np.rint(column)).all())
        if not whole and scores is None:
            scores = column
        elif whole and column.any() and classes is None:
            classes = column.astype(np.int64)
    if scores is None and len(rest) == 1:
        scores, classes = block[:, rest[0]], None
    if classes is None and len(rest) > 1:  # all of them are class 0
        classes = np.zeros(len(block), np.int64)
    return start, scores, classes


def _fits(block: npt.NDArray[np.float64], at: int, form: str) -> bool:
    four = block[:, at : at + 4]
    used = four[(four != 0).any(axis=1)]
    rest = np.delete(block, slice(at, at + 4), axis=1)
    with np.errstate(all="ignore"):
        unit = (rest >= 0) & (rest <= 1.0001)
        plain = (unit | (rest == np.rint(rest))).all()
        if form.startswith("corners"):
            right = (used[:, 2] > used[:, 0]) & (used[:, 3] > used[:, 1])
        else:
            right = (used[:, 2:] > 0).all(axis=1)
    return bool(plain and right.mean() > 0.9) if len(used) else bool(plain)


def _given(
    scores: Any, classes: Any, count: int
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.int64] | None, str]:
    said, found_scores, found_classes = "", None, None
    if scores is not None:
        array = _squeezed(scores)
        if count == 1 and array.ndim == 1:
            array = array[None]
        if array.shape[:1] == (count,) and array.ndim == 2:
            found_scores, found_classes, said = _best_of(array)
        else:
            found_scores = _row(array, count, "scores")
    if classes is not None:
        row = _row(_squeezed(classes), count, "classes")
        found_classes = np.nan_to_num(row).astype(np.int64)
    return found_scores, found_classes, said


def _squeezed(thing: Any) -> npt.NDArray[np.float64]:
    """Read at most as many rows as of boxes, without axes of one position."""
    values = Values.of(thing).squeezed()
    if not values.shape:
        return values.read().reshape(1).astype(np.float64)
    return values[:_ROWS].astype(np.float64)


def _row(array: npt.NDArray[np.float64], count: int, what: str) -> npt.NDArray[np.float64]:
    row = array.reshape(-1)
    if len(row) != count:
        raise ArgumentError(
            f"there are {count} boxes and {what} of shape {array.shape}",
            f"pass one of the {what} for each box",
        )
    return row


def _best_of(
    array: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], str]:
    """Find the best class of each box; the one that most boxes have stands for nothing."""
    said = ""
    with np.errstate(all="ignore"):
        if array.min() < 0 or array.max() > 1.0001:
            array = softmax(array)
            said = "logits, made probabilities by softmax"
    array = np.nan_to_num(array)
    sums = bool(np.allclose(array.sum(axis=1), 1, atol=1e-2))
    offset = 0
    if sums and array.shape[1] > 2:
        common = np.bincount(array.argmax(axis=1), minlength=array.shape[1])
        if common[-1] >= common[0]:
            array = array[:, :-1]
        else:
            array, offset = array[:, 1:], 1
    elif sums and array.shape[1] == 2:
        array, offset = array[:, 1:], 1
    best = array.argmax(axis=1)
    return array[np.arange(len(array)), best], best + offset, said


# --- choosing and drawing ------------------------------------------------------------------------


def _likely(found: Boxes, least: float | None, count: int, *, apart: bool) -> tuple[list[int], str]:
    corners = found.corners
    with np.errstate(all="ignore"):
        good = np.isfinite(corners).all(axis=1) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
    usable = np.flatnonzero(good)
    if found.scores is None:
        kept = usable[:count].tolist()
        return kept, f"{len(kept)} of {len(corners):,} drawn" if len(kept) < len(corners) else ""
    scores = np.nan_to_num(found.scores, nan=-1.0)
    order = usable[np.argsort(-scores[usable], kind="stable")]
    bound = _LEAST_SCORE if least is None else least
    if least is None and (not len(order) or scores[order[0]] < bound):
        bound = -np.inf
        order = order[: min(5, count)]
    order = order[scores[order] >= bound][:3000]
    kept = _apart(found, order, count) if apart else order[:count].tolist()
    words = [f"{len(kept)} of {len(corners):,} drawn"]
    words.append("no score reaches 0.25" if bound == -np.inf else f"score at least {bound:g}")
    if apart:
        words.append("those that overlap a likelier one by half left out")
    return kept, ", ".join(words)


def _apart(found: Boxes, order: npt.NDArray[np.intp], count: int) -> list[int]:
    """Keep the likeliest, and of the others those that overlap none of its class by half."""
    kept: list[int] = []
    corners = found.corners
    area = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    while len(order) and len(kept) < count:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        low = np.maximum(corners[order, :2], corners[best, :2])
        high = np.minimum(corners[order, 2:], corners[best, 2:])
        common = np.prod(np.clip(high - low, 0, None), axis=1)
        overlap = common / (area[order] + area[best] - common)
        same = found.classes[order] == found.classes[best] if found.classes is not None else True
        order = order[~((overlap > _OVERLAP) & same)]
    return kept


def _blank(found: Boxes, kept: list[int]) -> Source:
    """Give an empty sheet that holds all boxes."""
    if found.unit or not kept:
        size, shape = (1, 1), _BLANK
    else:
        reach = np.abs(found.corners[kept]).max(axis=0)
        width, height = max(1.0, reach[0], reach[2]), max(1.0, reach[1], reach[3])
        ratio = min(_BLANK[0] / width, _BLANK[1] / height)
        shape = (max(40, round(width * ratio)), max(40, round(height * ratio)))
        size = (max(1, round(width)), max(1, round(height)))
    image = Image.new("RGB", (shape[0] * SCALE, shape[1] * SCALE), "#eef0f2")
    return Source(image, (0.0, 0.0, float(image.width), float(image.height)), size)


def _draw_box(
    canvas: Canvas,
    frame: tuple[float, float, float, float],
    edges: npt.NDArray[np.float64],
    color: str,
    name: str,
) -> None:
    """Draw one box inside of the picture, its name on a strip at its upper edge."""
    x, y, width, height = frame
    left, right = (float(np.clip(edge, 1, width - 1)) for edge in edges[[0, 2]])
    top, bottom = (float(np.clip(edge, 1, height - 1)) for edge in edges[[1, 3]])
    across, down = right - left, bottom - top
    canvas.rectangle(x + left, y + top, across, down, edge="#ffffff", line=2.6, opacity=0.75)
    canvas.rectangle(x + left, y + top, across, down, edge=color, line=1.6)
    if name:
        room = min(text_width(name, size=_TAG), width - 8)
        at = x + min(left, width - room - 8)
        strip = y + (top - 15 if top >= 15 else min(top, height - 15))
        canvas.rectangle(at, strip, room + 8, 15, fill=color)
        canvas.text(at + 4, strip + 11, name, room=room + 1, size=_TAG, color=text_on(color))
