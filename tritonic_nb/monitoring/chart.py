"""What is drawn of samples: which series become areas, lines and rows.

:func:`plan` decides that, from the names of the series and how large they were. The picture of a
recording is drawn by it here (:func:`chart`), and the live plot by it in the browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile

import numpy as np
import numpy.typing as npt

from tritonic_nb import render
from tritonic_nb.monitoring.events import KINDS, Event
from tritonic_nb.render import human_bytes
from tritonic_nb.render.timeline import Layer, MarkRow, Panel, RateRow, fold, timeline

__all__ = ["PlannedLayer", "PlannedPanel", "chart", "plan"]

Numbers = npt.NDArray[np.float64]

_SMALL = 0.2  # of all that is taken: a session with less has a panel of its own
_PROCESSES = {
    "resident/this process": "this process",
    "resident/server": "server",
    "resident/models": "its models' processes",
}


@dataclass(frozen=True)
class PlannedLayer:
    """One area or one line, and what it is made of.

    Attributes
    ----------
    name
        Stands beside the panel.
    series
        The names of the series whose sum it is. Of an area: none is what the others leave of
        the panel's `within`.
    kind, low
        As :class:`~tritonic_nb.render.timeline.Layer` has them.
    """

    name: str
    series: tuple[str, ...] = ()
    kind: str = "own"
    low: bool = False


@dataclass(frozen=True)
class PlannedPanel:
    """A plot with its own vertical axis.

    Attributes
    ----------
    title
        Above it.
    areas
        Stacked, the first one at the bottom.
    lines
        At most four.
    within
        The series that the areas are parts of. Those that were asked for a moment later may
        be more than that together: then the last ones are cut off.
    total, warn_at, percent
        As :class:`~tritonic_nb.render.timeline.Panel` has them.
    """

    title: str
    areas: tuple[PlannedLayer, ...] = ()
    lines: tuple[PlannedLayer, ...] = ()
    within: str = ""
    total: float | None = None
    warn_at: float | None = None
    percent: bool = False


def plan(
    peaks: Mapping[str, float], notes: Mapping[str, str], warn_at: float
) -> tuple[PlannedPanel, ...]:
    """Decide what is drawn.

    Parameters
    ----------
    peaks
        The most of each series, by its name.
    notes
        The sources' words: what to call a GPU, and where memory is to be had.
    warn_at
        From which part of ``/dev/shm`` on it warns, 0 to 1.

    Returns
    -------
    tuple of PlannedPanel
        From top to bottom; none where there is nothing that is drawn.
    """
    return (
        *_shm(peaks, warn_at),
        *_processes(peaks),
        *_machine(peaks, notes),
        *_cuda_regions(peaks),
        *_gpus("gpu", peaks, notes),
        *_gpus("triton-gpu", peaks, notes),
    )


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
    peaks = {name: float(np.nanmax(values)) for name, values in series.items()}
    panels = [_filled(planned, series) for planned in plan(peaks, notes, warn_at)]
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


def _filled(planned: PlannedPanel, series: Mapping[str, Numbers]) -> Panel:
    """Put the numbers in their places. The browser does the same with the newest ones."""
    left = np.nan_to_num(series[planned.within]) if planned.within else np.array(np.inf)
    areas = []
    for area in planned.areas:
        values = np.minimum(_sum(area.series, series), left) if area.series else left
        left = left - values
        areas.append(Layer(area.name, values, area.kind))
    lines = [
        Layer(f"{line.name}, at least" if line.low else line.name, series[line.series[0]],
              low=line.low)
        for line in planned.lines
    ]  # fmt: skip
    # Without a name for what is not there; a GPU that nobody uses is drawn as such.
    shown = [area for area in areas if area.extreme > 0] if planned.warn_at else areas
    return Panel(
        planned.title, shown, lines, planned.total, planned.warn_at, percent=planned.percent
    )


def _sum(names: Sequence[str], series: Mapping[str, Numbers]) -> Numbers:
    total: Numbers = np.sum([np.nan_to_num(series[name]) for name in names], axis=0)
    return total


def _shm(peaks: Mapping[str, float], warn_at: float) -> list[PlannedPanel]:
    if "shm/used" not in peaks:
        return []
    total, used = peaks["shm/total"], peaks["shm/used"]
    own = _of_group("region", peaks)
    size = sum(peaks[name] for layer in own for name in layer.series)
    apart = 0 < size < _SMALL * used
    parts = own
    if apart:
        together = tuple(name for layer in own for name in layer.series)
        parts = [PlannedLayer("this session", together)]
    areas = _folded([*parts, *_of_group("holder", peaks, "other")], peaks)
    areas.append(PlannedLayer("no owner known", kind="rest"))
    title = f"Shared memory (/dev/shm), {human_bytes(int(total))}"
    panels = [PlannedPanel(title, tuple(areas), (), "shm/used", total, warn_at * total)]
    if apart:
        panels.append(PlannedPanel("This session's part of it", tuple(_folded(own, peaks))))
    return panels


def _of_group(group: str, peaks: Mapping[str, float], kind: str = "own") -> list[PlannedLayer]:
    return [
        PlannedLayer(name.partition("/")[2], (name,), kind)
        for name, peak in peaks.items()
        if name.startswith(f"{group}/") and peak > 0
    ]


def _folded(layers: Sequence[PlannedLayer], peaks: Mapping[str, float]) -> list[PlannedLayer]:
    """Put the smaller ones of many areas together."""
    sizes = [sum(peaks[name] for name in layer.series) for layer in layers]
    return [
        PlannedLayer(
            name or layers[chosen[0]].name,
            tuple(each for index in chosen for each in layers[index].series),
            kind,
        )
        for name, kind, chosen in fold([layer.kind for layer in layers], sizes)
    ]


def _processes(peaks: Mapping[str, float]) -> list[PlannedPanel]:
    lines = [PlannedLayer(text, (name,)) for name, text in _PROCESSES.items() if name in peaks]
    return [PlannedPanel("Resident memory of processes", lines=tuple(lines))] if lines else []


def _machine(peaks: Mapping[str, float], notes: Mapping[str, str]) -> list[PlannedPanel]:
    lines = []
    if "memory/used" in peaks:
        lines.append(PlannedLayer("used", ("memory/used",)))
    if "memory/available" in peaks:
        inside = "container" in notes.get("memory/available", "")
        text = "left in the container" if inside else "left"
        lines.append(PlannedLayer(text, ("memory/available",), low=True))
    if not lines:
        return []
    known = peaks.get("memory/total")
    total = "" if known is None else f", {human_bytes(int(known))}"
    return [PlannedPanel(f"The machine's memory{total}", lines=tuple(lines))]


def _cuda_regions(peaks: Mapping[str, float]) -> list[PlannedPanel]:
    groups = sorted({name.partition("/")[0] for name in peaks if name.startswith("cuda")})
    return [
        PlannedPanel(
            f"This session on CUDA device {group[4:]}",
            tuple(_folded(_of_group(group, peaks), peaks)),
        )
        for group in groups
    ]


def _gpus(group: str, peaks: Mapping[str, float], notes: Mapping[str, str]) -> list[PlannedPanel]:
    panels: list[PlannedPanel] = []
    keys = (f"{group}{number}" for number in count())
    for key in takewhile(lambda key: f"{key}/used" in peaks, keys):
        title = notes.get(key, key)
        areas = [
            PlannedLayer(who, (f"{key}/{who}",))
            for who in ("this process", "server")
            if f"{key}/{who}" in peaks
        ]
        areas.append(PlannedLayer("others" if areas else "used", kind="other"))
        total = peaks.get(f"{key}/total")
        panels.append(PlannedPanel(title, tuple(areas), (), f"{key}/used", total))
        if f"{key}/busy_percent" in peaks:
            busy = PlannedLayer("busy", (f"{key}/busy_percent",))
            panels.append(PlannedPanel(f"{title}, busy", lines=(busy,), percent=True))
    return panels
