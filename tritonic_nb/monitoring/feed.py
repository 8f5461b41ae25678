"""What a live view is told of a recording: all of it once, and then what is new.

Numbers go as text, because most are whole and short, and a text needs no braces: a sample is
``"12.5,4096,,67108864"``, the seconds since the recording began and the series' numbers in the
order of their names, with nothing where one is not known. Names are only ever added to the
list, so that a sample means the same to whoever has a longer one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tritonic_nb.monitoring.chart import PlannedPanel, plan
from tritonic_nb.monitoring.events import KINDS, Event
from tritonic_nb.monitoring.history import Frame
from tritonic_nb.monitoring.recording import Recording

__all__ = ["LONGEST_S", "TIERS", "Feed", "thinned"]

LONGEST_S = 1800.0
"""How far back a live view goes, in seconds."""

TIERS = ((60.0, 0.0), (300.0, 1.0), (LONGEST_S, 4.0))
"""How old a sample is at most, and how far apart those of that age are at least, in seconds."""

_MOST_NAMES = 200  # processes come and go; then the list begins anew
_MOST_SENT = 600  # samples at once; more are sent as all there is
_MOST_EVENTS = 300  # that all there is tells of; all are counted
_MOST_NEW_EVENTS = 40
_PEAKS_S = LONGEST_S / 2


class Feed:
    """Tells of a recording in messages that can be JSON. Safe to share between threads.

    Parameters
    ----------
    recording
        One that has begun, or will.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._lock = threading.RLock()
        self._most_names = _MOST_NAMES
        self._names: list[str] = []
        self._indices: dict[str, int] = {}
        self._told_s = -math.inf  # of what was sent last, by the clock of the frames
        self._told: dict[str, Any] = {}
        self._told_events = 0
        self._peaks = _Peaks()

    def all(self, until_s: float = math.inf) -> dict[str, Any]:
        """Return all that a view needs that knows nothing.

        Of the last half hour; the older a sample is, the more of them are one.

        Parameters
        ----------
        until_s
            What is newer is left out, as `time.monotonic` tells it.
        """
        with self._lock:
            frames = self._known_frames(until_s)
            for frame in frames:
                self._name(frame)
            events = self._recording.events
            begun = self._recording.begun_s
            return {
                "kind": "all",
                "names": list(self._names),
                "samples": [self._sample(frame) for frame in thinned(frames)],
                "events": _short(
                    [each for each in events if each.time_s + begun <= until_s][-_MOST_EVENTS:]
                ),
                **self._state(),
            }

    def new(self) -> dict[str, Any] | None:
        """Return what is new since it was asked last; None where nothing is.

        It is all there is when very much is new, or the names have become too many.
        """
        with self._lock:
            frames = self._recording.history.since(self._told_s)
            if not frames:
                return None
            known = len(self._names)
            for frame in frames:
                self._name(frame)
            self._told_s = frames[-1].time_s
            if len(self._names) > self._most_names or len(frames) > _MOST_SENT:
                self._names, self._indices = [], {}
                self._told_events = self._events_so_far()
                told = self.all()
                self._most_names = max(_MOST_NAMES, 2 * len(self._names))
                return told
            message: dict[str, Any] = {"samples": [self._sample(frame) for frame in frames]}
            if len(self._names) > known:
                message["names"] = list(self._names)
            state = self._state()
            message.update({k: v for k, v in state.items() if self._told.get(k) != v})
            self._told = state
            counts = self._events_so_far()
            if counts > self._told_events:
                events = self._recording.events[self._told_events - counts :]
                message["events"] = _short(_spread(events, _MOST_NEW_EVENTS))
                self._told_events = counts
            return message

    def catch_up(self) -> dict[str, Any]:
        """Return all there is, after which :meth:`new` goes on."""
        with self._lock:
            newest = self._recording.history.since(self._told_s)
            if newest:
                self._told_s = newest[-1].time_s
            self._told_events = self._events_so_far()
            return self.all()

    @property
    def told_s(self) -> float:
        """When the newest sample that was told was taken, in seconds since the beginning."""
        return self._told_s - self._recording.begun_s

    def _events_so_far(self) -> int:
        return sum(n for kind, n in self._recording.counts.items() if kind != "infer")

    def _known_frames(self, until_s: float) -> list[Frame]:
        frames = self._recording.history.since(time.monotonic() - LONGEST_S)
        return [frame for frame in frames if frame.time_s <= until_s]

    def _state(self) -> dict[str, Any]:
        """Return what changes now and then: what is drawn, how many events, what is missing."""
        planned = plan(self._peaks.known(), self._recording.notes, self._recording.warn_at)
        return {
            "panels": [self._panel(panel) for panel in planned],
            "counts": self._recording.counts,
            "missing": self._recording.missing,
            "ended": self._recording.ended,
        }

    def _panel(self, panel: PlannedPanel) -> dict[str, Any]:
        """Return a panel for the browser: numbers of series in the place of their names."""
        layers = {
            each: [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "low": layer.low,
                    "series": [self._index(name) for name in layer.series],
                }
                for layer in getattr(panel, each)
            ]
            for each in ("areas", "lines")
        }
        return {
            "title": panel.title,
            **layers,
            "within": self._index(panel.within) if panel.within else None,
            "total": panel.total,
            "warn_at": panel.warn_at,
            "percent": panel.percent,
        }

    def _name(self, frame: Frame) -> None:
        for name in frame.names:
            self._index(name)
        self._peaks.add(frame)

    def _index(self, name: str) -> int:
        if name not in self._indices:
            self._indices[name] = len(self._names)
            self._names.append(name)
        return self._indices[name]

    def _sample(self, frame: Frame) -> str:
        row = [""] * len(self._names)
        for name, value in zip(frame.names, frame.numbers, strict=True):
            row[self._indices[name]] = (
                f"{value:.1f}" if name.endswith("_percent") else f"{value:.0f}"
            )
        return f"{frame.time_s - self._recording.begun_s:.2f},{','.join(row)}".rstrip(",")


class _Peaks:
    """The most of each series in about the last half hour: long ago is forgotten."""

    def __init__(self) -> None:
        self._before: dict[str, float] = {}
        self._now: dict[str, float] = {}
        self._since_s = -math.inf

    def add(self, frame: Frame) -> None:
        if frame.time_s > self._since_s + _PEAKS_S:
            self._before, self._now, self._since_s = self._now, {}, frame.time_s
        for name, value in zip(frame.names, frame.numbers, strict=True):
            if value > self._now.get(name, -math.inf):
                self._now[name] = value

    def known(self) -> Mapping[str, float]:
        """Return them, with the names in the order in which they came."""
        names = dict.fromkeys([*self._before, *self._now])
        least = -math.inf
        return {
            name: max(self._before.get(name, least), self._now.get(name, least)) for name in names
        }


def thinned(frames: Sequence[Frame]) -> list[Frame]:
    """Put frames together, the more the older they are.

    The numbers are the most of those that are together, save what is free or available,
    of which it is the least. The browser does the same as time goes on.

    Parameters
    ----------
    frames
        In order.
    """
    if not frames:
        return []
    newest = frames[-1].time_s
    made: list[list[Frame]] = []
    before: object = None
    for frame in frames:
        step = next((step for age, step in TIERS if newest - frame.time_s <= age), TIERS[-1][1])
        key = (step, math.floor(frame.time_s / step)) if step else None
        if key is not None and key == before:
            made[-1].append(frame)
        else:
            made.append([frame])
        before = key
    return [_together(each) for each in made]


def _together(frames: Sequence[Frame]) -> Frame:
    if len(frames) == 1:
        return frames[0]
    values: dict[str, float] = {}
    for frame in frames:
        for name, value in zip(frame.names, frame.numbers, strict=True):
            choose = min if name.endswith(("/free", "/available")) else max
            values[name] = choose(values.get(name, value), value)
    return Frame(frames[-1].time_s, tuple(values), list(values.values()))


def _short(events: Iterable[Event]) -> list[list[Any]]:
    return [[KINDS.index(each.kind), round(each.time_s, 2)] for each in events]


def _spread(events: Sequence[Event], most: int) -> list[Event]:
    """Return so many of them, from the first to the last."""
    step = max(1, math.ceil(len(events) / most))
    return list(events[::-1][::step])[::-1]
