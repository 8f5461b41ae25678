"""What a recording's picture shows: which series become areas, lines and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, takewhile

import numpy as np
import numpy.typing as npt

from tritonic_nb import render
from tritonic_nb.monitoring.events import KINDS, Event
from tritonic_nb.render import human_bytes
from tritonic_nb.render.timeline import Layer, MarkRow, Panel, RateRow, timeline

__all__ = ["chart"]

Numbers = npt.NDArray[np.float64]

_SMALL = 0.2  # of all that is taken: a session with less has a panel of its own
_PROCESSES = {
    "resident/this process": "this process",
    "resident/server": "server",
    "resident/models": "its models' processes",
}


def chart(
    columns: Sequence[str],
    rows: Sequence[Sequence[float]],
    *,
    title: str,
    warn_at: float,
    events: Sequence[Event],
    counts: Mapping[str, int],
    notes: Mapping[str, str],
) -> render.Picture | None:
    """Draw samples; None where there are none, or nothing in them that is drawn.

    Parameters
    ----------
    columns
        ``time_s``, and the names of the series.
    rows
        The numbers, a row for each time; NaN where one is not known.
    title
        Above all.
    warn_at
        From which part of ``/dev/shm`` on it warns, 0 to 1.
    events, counts
        With times on the same axis, and how many there were by kind, inferences included.
    notes
        The sources' words: what to call a GPU, and where memory is to be had.
    """
    if not rows:
        return None
    table = np.asarray(rows, dtype=np.float64)
    series = {name: table[:, index] for index, name in enumerate(columns)}
    times = series.pop("time_s")
    panels = [
        *_shm(series, warn_at),
        *_processes(series),
        *_machine(series, notes),
        *_cuda_regions(series),
        *_gpus("gpu", series, notes),
        *_gpus("triton-gpu", series, notes),
    ]
    if not panels:
        return None
    marks = [
        MarkRow(kind, [e.time_s for e in events if e.kind == kind], counts[kind])
        for kind in KINDS
        if counts.get(kind)
    ]
    return timeline(times.tolist(), panels, title=title, marks=marks, rate=_rate(series, counts))


def _rate(series: Mapping[str, Numbers], counts: Mapping[str, int]) -> RateRow | None:
    total = series.get("infer/count")
    if total is None or not counts.get("infer"):
        return None
    return RateRow("infer", np.diff(np.nan_to_num(total), prepend=0.0), counts["infer"])


def _shm(series: Mapping[str, Numbers], warn_at: float) -> list[Panel]:
    if "shm/used" not in series:
        return []
    used = np.nan_to_num(series["shm/used"])
    total = float(np.nanmax(series["shm/total"]))
    own = _of_group("region", series)
    sizes = np.sum([np.asarray(layer.values) for layer in own], axis=0) if own else 0 * used
    apart = 0 < sizes.max() < _SMALL * used.max()
    parts = [Layer("this session", sizes)] if apart else own
    left = used.copy()  # of what is there, what has no owner yet
    areas = []
    for layer in (*parts, *_of_group("holder", series, "other")):
        values = np.minimum(layer.values, left)  # asked for a moment later than all of it
        left = left - values
        if values.max() > 0:
            areas.append(Layer(layer.name, values, layer.kind))
    if left.max() > 0:
        areas.append(Layer("no owner known", left, "rest"))
    text = human_bytes(int(total))
    title = f"Shared memory (/dev/shm), {text}"
    panels = [Panel(title, areas, total=total, warn_at=warn_at * total)]
    return [*panels, Panel("This session's part of it", own)] if apart else panels


def _of_group(group: str, series: Mapping[str, Numbers], kind: str = "own") -> list[Layer]:
    return [
        Layer(name.partition("/")[2], np.nan_to_num(values), kind)
        for name, values in series.items()
        if name.startswith(f"{group}/")
    ]


def _processes(series: Mapping[str, Numbers]) -> list[Panel]:
    lines = [Layer(text, series[name]) for name, text in _PROCESSES.items() if name in series]
    return [Panel("Resident memory of processes", lines=lines)] if lines else []


def _machine(series: Mapping[str, Numbers], notes: Mapping[str, str]) -> list[Panel]:
    lines = []
    if "memory/used" in series:
        lines.append(Layer("used", series["memory/used"]))
    if "memory/available" in series:
        inside = "container" in notes.get("memory/available", "")
        text = "left in the container, at least" if inside else "left, at least"
        lines.append(Layer(text, series["memory/available"], low=True))
    if not lines:
        return []
    known = series.get("memory/total")
    total = "" if known is None else f", {human_bytes(int(np.nanmax(known)))}"
    return [Panel(f"The machine's memory{total}", lines=lines)]


def _cuda_regions(series: Mapping[str, Numbers]) -> list[Panel]:
    groups = sorted({name.partition("/")[0] for name in series if name.startswith("cuda")})
    return [
        Panel(f"This session on CUDA device {group[4:]}", _of_group(group, series))
        for group in groups
    ]


def _gpus(group: str, series: Mapping[str, Numbers], notes: Mapping[str, str]) -> list[Panel]:
    panels: list[Panel] = []
    keys = (f"{group}{number}" for number in count())
    for key in takewhile(lambda key: f"{key}/used" in series, keys):
        title = notes.get(key, key)
        left = np.nan_to_num(series[f"{key}/used"])
        areas = []
        for who in ("this process", "server"):
            if f"{key}/{who}" in series:
                part = np.minimum(np.nan_to_num(series[f"{key}/{who}"]), left)
                left = left - part
                areas.append(Layer(who, part, "own"))
        areas.append(Layer("others" if areas else "used", left, "other"))
        total = series.get(f"{key}/total")
        panels.append(Panel(title, areas, total=None if total is None else float(np.nanmax(total))))
        if f"{key}/busy_percent" in series:
            busy = Layer("busy", series[f"{key}/busy_percent"])
            panels.append(Panel(f"{title}, busy", lines=[busy], percent=True))
    return panels
