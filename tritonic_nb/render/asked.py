"""A kind of picture that was asked for: whether a shape can be shown so, and how."""

from __future__ import annotations

from typing import Any

import numpy as np

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.axes import channels_last, coordinates, core_axes, expanded, letters
from tritonic_nb.render.kinds import KINDS, Guess
from tritonic_nb.render.rectangles import box_form, some_rows
from tritonic_nb.render.scores import score_form
from tritonic_nb.render.values import Values

__all__ = ["shaped"]


def shaped(kind: str, thing: Any, *, layout: str = "") -> Guess:
    """Make the guess of a kind that was asked for.

    Parameters
    ----------
    kind
        One of :data:`~tritonic_nb.render.kinds.KINDS`.
    thing, layout
        As for :func:`~tritonic_nb.render.guess.guess`.

    Raises
    ------
    ArgumentError
        There is no such kind, or the shape cannot be shown as one.
    """
    if kind not in KINDS:
        raise ArgumentError(f"there is no kind {kind!r} of picture", f"use {', '.join(KINDS)}")
    values = Values.of(thing)
    reason = "it was asked for"
    if kind in ("text", "table", "histogram"):
        return Guess(kind, reason, "?")
    if values.is_text or values.size == 0:
        what = "texts" if values.is_text else "an empty tensor"
        raise ArgumentError(
            f"{values} cannot be shown as {KINDS[kind]}: it holds {what}",
            "leave out as_, or use as_='table'",
        )
    if layout:
        return Guess(kind, reason, letters(values, layout))
    core = values.squeezed()
    axes = _ASKED[kind](core)
    if axes is None:
        raise ArgumentError(
            f"{values} cannot be shown as {KINDS[kind]}: {_NEEDS[kind]}",
            "leave out as_, or use as_='histogram' or 'table', which take any shape",
        )
    return _look_again(Guess(kind, reason, expanded(values, axes)), values)


def _of_rank(*axes: str) -> Any:
    """Choose the axes by the number of axes; more in front count items."""
    by_rank = {len(each): each for each in axes}

    def choose(core: Values) -> str | None:
        rank = len(core.shape)
        if rank in by_rank:
            return by_rank[rank]
        most = max(by_rank)
        return "N" * (rank - most) + by_rank[most] if rank > most else None

    return choose


def _asked_image(core: Values) -> str | None:
    shape = core.shape
    if len(shape) < 2:
        return None
    if len(shape) == 2:
        return "HW"
    lead = "N" * (len(shape) - 3)
    if shape[-3] in (3, 4) and shape[-1] not in (3, 4):
        return lead + "CHW"
    return lead + ("HWC" if shape[-1] in (3, 4) else "CHW" if shape[-3] in (3, 4) else "NHW")


def _asked_channels(core: Values) -> str | None:
    shape = core.shape
    if len(shape) < 3:
        return "HW" if len(shape) == 2 else None
    last = channels_last(shape[-3:])
    return "N" * (len(shape) - 3) + ("HWC" if last else "CHW")


def _asked_planes(core: Values) -> str | None:
    return "N" * (len(core.shape) - 2) + "HW" if len(core.shape) >= 2 else None


def _asked_features(core: Values) -> str | None:
    axes = _asked_channels(core)
    return "CHW"[1:] if axes == "HW" else axes


def _asked_flow(core: Values) -> str | None:
    shape = core.shape
    if len(shape) < 3:
        return None
    lead = "N" * (len(shape) - 3)
    return lead + "CHW" if shape[-3] == 2 else lead + "HWC" if shape[-1] == 2 else None


def _asked_boxes(core: Values) -> str | None:
    shape = core.shape
    if len(shape) == 1:
        return "D" if shape[0] >= 4 else None
    if len(shape) < 2:
        return None
    lead = "N" * (len(shape) - 2)
    if shape[-1] > shape[-2] and shape[-2] >= 5 and shape[-1] >= 100:
        return lead + "DB"
    return lead + "BD" if shape[-1] >= 4 else lead + "DB" if shape[-2] >= 4 else None


def _asked_points(core: Values) -> str | None:
    shape = core.shape
    if len(shape) == 1:
        return "P" if shape[0] % 2 == 0 or shape[0] % 3 == 0 else None
    if not shape:
        return None
    return "N" * (len(shape) - 2) + "PD" if shape[-1] >= 2 else None


def _asked_signal(core: Values) -> str | None:
    shape = core.shape
    if not shape:
        return None
    return "T" if len(shape) == 1 else "N" * (len(shape) - 2) + "CT"


_ASKED = {
    "image": _asked_image,
    "heatmap": _asked_planes,
    "features": _asked_features,
    "scores": _of_rank("C"),
    "segmentation": _asked_channels,
    "probability": _asked_channels,
    "boxes": _asked_boxes,
    "points": _asked_points,
    "depth": _asked_planes,
    "flow": _asked_flow,
    "signal": _asked_signal,
}

_NEEDS = {
    "image": "an image has rows and columns",
    "heatmap": "a map has rows and columns",
    "features": "feature maps have rows and columns",
    "scores": "scores are a row of numbers",
    "segmentation": "a segmentation has rows and columns",
    "probability": "a map has rows and columns",
    "boxes": "each box has four numbers or more",
    "points": "each point has two numbers or more",
    "depth": "a map has rows and columns",
    "flow": "optical flow has two channels",
    "signal": "a signal has a row of numbers",
}


def _look_again(found: Guess, values: Values) -> Guess:
    """Find out the form of a kind that was asked for."""
    core = values.squeezed()
    form = ""
    if found.kind == "scores":
        row = core
        while len(row.shape) > 1:
            row = row.at(0, 0)
        form = "counts" if values.is_whole else score_form(row.sample(1 << 16))
    elif found.kind == "segmentation":
        form = "ids" if "C" not in found.axes else "scores"
    elif found.kind == "probability":
        reach = core.extent()
        form = "mask" if values.is_whole else (
            "probabilities" if reach.low >= 0 and reach.high <= 1.0001 else "logits"
        )  # fmt: skip
    elif found.kind == "points" and "D" not in found.axes:
        form = f"{coordinates(core.shape[0]) or (2 if core.shape[0] % 2 == 0 else 3)} in turn"
    elif found.kind == "boxes":
        rows = core
        while len(rows.shape) > 2:
            rows = rows.at(0, 0)
        if len(rows.shape) == 1:
            block = rows.read()[None].astype(np.float64)
        else:
            rows = rows.arranged((1, 0)) if core_axes(found).endswith("DB") else rows
            block = some_rows(rows, 512)
        form = "candidates" if block.shape[1] > 7 else box_form(block[:, :4], named=True)
        form = form or "corners"
    return Guess(found.kind, found.reason, found.axes, form)
