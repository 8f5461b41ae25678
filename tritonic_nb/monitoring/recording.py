"""A block of code with the memory that it took: sampled while it runs, shown afterwards."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import count, takewhile
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from tritonic_nb import render
from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.monitoring.chart import chart
from tritonic_nb.monitoring.events import Event, EventHook, EventRecord
from tritonic_nb.monitoring.history import Frame, History
from tritonic_nb.monitoring.sampler import Reading, Source, Subscription, checked_hz, subscribe
from tritonic_nb.render import human_bytes

__all__ = ["Recording"]

_LOW = ("free", "available")  # of these it matters how little there was

_log = logging.getLogger("tritonic_nb.monitoring")


class Recording(render.Described):
    """The memory that a ``with`` block took, sampled while it runs and shown afterwards.

    Made by :func:`tritonic_nb.watch` and :meth:`Session.watch
    <tritonic_nb.Session.watch>`. In a notebook it shows itself as a picture and a summary,
    elsewhere it prints the summary. The block's own exceptions pass through, and what was
    recorded is there after them, too.

    Names of series are ``group/name``: ``shm/used``, ``region/input INPUT0``,
    ``holder/python 99``, ``memory/available``, ``resident/this process``,
    ``gpu0/used``, ``gpu0/busy_percent``. All are bytes, save percents and counts.

    Examples
    --------
    >>> with session.watch(hz=5) as w:
    ...     for result in session.map(paths):
    ...         ...
    >>> w.peaks["shm/used"]
    67108864
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        hz: float = 2.0,
        warn_at: float = 0.9,
        show: bool = True,
        hook: EventHook | None = None,
    ) -> None:
        self._hz = checked_hz(hz)
        self._warn_at = _checked_part(warn_at)
        self._show = show
        self._hook = hook
        self._record = EventRecord()
        self._sources: tuple[Source, ...] = tuple(sources)
        if hook is not None:
            self._sources += (Source("inferences", self._inferences),)
        self.history = History()
        self._notify: Callable[[], None] | None = None
        self._lock = threading.RLock()  # a session that is collected stops it at any line
        self._subscription: Subscription | None = None
        self._begun_s: float | None = None
        self._ended_s: float | None = None
        self._picture: render.Picture | None = None

    def _inferences(self) -> Reading:
        return Reading({"infer/count": self._record.inferences})

    def __enter__(self) -> Recording:
        self.begin()
        return self

    def begin(self, notify: Callable[[], None] | None = None) -> None:
        """Begin without a block, until :meth:`stop`.

        Parameters
        ----------
        notify
            Called after each sample, in the sampler's thread, and once after the end, in the
            thread of whoever ended it: it must be quick.

        Raises
        ------
        ArgumentError
            If it has begun before.
        """
        with self._lock:
            if self._begun_s is not None:
                raise ArgumentError(
                    "this recording has been used for a block already",
                    "make another one: with session.watch() as w",
                )
            self._begun_s = time.monotonic()
            self._notify = notify
        if self._hook is not None:
            self._hook.start(self._record, self.stop)
        try:
            self._look()
        except BaseException:  # an interrupt
            self.stop()
            raise

    def _look(self) -> None:
        self._subscription = subscribe(
            self._sources, hz=self._hz, history=self.history, notify=self._notify
        )

    def suspend(self) -> None:
        """Take no samples for a while, until :meth:`resume`; events are noted all the same."""
        if self._subscription is not None:
            self._subscription.close()

    def resume(self) -> None:
        """Take samples again after :meth:`suspend`; no more once it has ended."""
        with self._lock:
            closed = self._subscription is not None and self._subscription.closed
            if closed and not self.ended:
                self._look()

    @property
    def suspended(self) -> bool:
        """Whether no samples are taken for now."""
        return self._subscription is not None and self._subscription.closed and not self.ended

    @property
    def ended(self) -> bool:
        """Whether it was stopped: nothing is sampled any more."""
        return self._ended_s is not None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._show:
            self.show()

    def stop(self) -> None:
        """Take a last sample and no more; safe to repeat. The end of the block does it."""
        if self._subscription is not None:
            self._subscription.close()
        if self._hook is not None:
            self._hook.stop(self._record)
        with self._lock:
            ends = self._ended_s is None and self._begun_s is not None
            if ends:
                self._ended_s = time.monotonic()
                self._sources = ()  # with what they hold of a session
            notify, self._notify = self._notify, None
        if self._subscription is not None:  # which somebody may have resumed meanwhile
            self._subscription.close()
        if ends and notify is not None:
            notify()

    def show(self) -> None:
        """Show picture and summary in a notebook; print the summary elsewhere."""
        try:
            render.display(self)
        except Exception as error:  # a closed terminal; an error of the block matters more
            _log.warning("the recording cannot be shown: %r", error)

    # What was recorded

    @property
    def peaks(self) -> Mapping[str, float]:
        """The most of each series; of what is free or available, the least.

        Exact over all samples, of which a very long recording drops the oldest.
        """
        return MappingProxyType(
            {
                name: _number(name, low if _is_low(name) else high)
                for name, (low, high) in self.history.extremes().items()
            }
        )

    @property
    def begun_s(self) -> float:
        """When it began, as `time.monotonic` tells it, in seconds."""
        return self._begun_s or 0.0

    @property
    def warn_at(self) -> float:
        """From which part of ``/dev/shm`` on it warns."""
        return self._warn_at

    @property
    def notes(self) -> dict[str, str]:
        """The sources' words about their numbers, by what they are about."""
        return {} if self._subscription is None else self._subscription.notes

    @property
    def events(self) -> tuple[Event, ...]:
        """The last 2000 events, with times in seconds since the block began."""
        begun = self._begun_s or 0.0
        return tuple(replace(each, time_s=each.time_s - begun) for each in self._record.events)

    @property
    def counts(self) -> dict[str, int]:
        """How many events there were by kind, ``"infer"`` among them."""
        inferences = {"infer": self._record.inferences} if self._record.inferences else {}
        return {**self._record.counts, **inferences}

    @property
    def missing(self) -> dict[str, str]:
        """Why there are no numbers of something: sentences, by what they are about."""
        return {} if self._subscription is None else self._subscription.reasons

    def _frames(self) -> list[Frame]:
        begun = self._begun_s or 0.0
        return [
            Frame(frame.time_s - begun, frame.names, frame.numbers)
            for frame in self.history.frames()
        ]

    def _table(self) -> tuple[list[str], list[list[float]]]:
        """Return the columns' names and a row of numbers for each sample; NaN where unknown."""
        frames = self._frames()
        names = list(dict.fromkeys(name for frame in frames for name in frame.names))
        rows = []
        for frame in frames:
            values = frame.values()
            rows.append([frame.time_s, *(values.get(name, math.nan) for name in names)])
        return ["time_s", *names], rows

    def to_pandas(self) -> Any:
        """Return the samples as a ``pandas.DataFrame``: a column for each series.

        The index is ``time_s``, in seconds since the block began. NaN is where a series
        was not there.

        Raises
        ------
        ArgumentError
            If pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise ArgumentError(
                "to make a DataFrame of a recording pandas is missing",
                "pip install pandas, or write a file with to_csv(path)",
            ) from error
        columns, rows = self._table()
        return pandas.DataFrame(rows, columns=columns, dtype=float).set_index("time_s")

    def csv(self) -> str:
        """Return the samples as the text that :meth:`to_csv` writes."""
        columns, rows = self._table()
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(columns)
        for row in rows:
            writer.writerow(
                [
                    "" if math.isnan(value) else _number(name, value)
                    for name, value in zip(columns, row, strict=True)
                ]
            )
        return text.getvalue()

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the samples as a CSV file and return its path.

        A column ``time_s`` and one for each series, empty where a series was not there.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        target = Path(path)
        with target.open("w", newline="", encoding="utf-8") as file:
            file.write(self.csv())
        return target

    def picture(self) -> render.Picture | None:
        """Return the recording as a picture; None where nothing was sampled."""
        if self._picture is not None:
            return self._picture
        columns, rows = self._table()
        made = chart(
            columns,
            rows,
            title=self._title(),
            warn_at=self._warn_at,
            events=self.events,
            counts=self.counts,
            notes=self.notes,
        )
        if self._ended_s is not None:
            self._picture = made
        return made

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture as a PNG file and return its path.

        Raises
        ------
        ArgumentError
            If the name does not end in ``.png``, or nothing was sampled.
        OSError
            If the file cannot be written.
        """
        target = Path(path)
        if target.suffix.lower() != ".png":
            raise ArgumentError(
                f"a recording's picture is a PNG file, not {brief(str(path))}",
                "give a name that ends in .png, or write numbers with to_csv(path)",
            )
        picture = self.picture()
        if picture is None:
            raise ArgumentError(
                "there is nothing to draw: nothing was sampled", "use it as: with ... as w"
            )
        return picture.save(target)

    # What it says of itself

    def _title(self) -> str:
        if self._begun_s is None:
            return "Recording, not begun"
        ended = time.monotonic() if self._ended_s is None else self._ended_s
        samples = len(self.history) + self.history.dropped
        some = "sample" if samples == 1 else "samples"
        going = ", still going on" if self._ended_s is None else ""
        return f"Memory during {_seconds(ended - self._begun_s)}, {samples:,} {some}{going}"

    def _described(self) -> render.Description:
        low_high = self.history.extremes()
        rows = [*self._shm_rows(low_high), *self._memory_rows(low_high)]
        counts = self.counts
        if counts:
            rows.append(("events", ", ".join(f"{n:,} {kind}" for kind, n in counts.items())))
        rows += [("last error", e.text) for e in self.events[::-1] if e.kind == "error"][:1]
        if self.history.dropped:
            kept = len(self.history)
            rows.append(("kept", f"the last {kept:,} samples; the peaks are of all"))
        tables = []
        parts = sorted(
            (
                (high, name.partition("/")[2])
                for name, (_, high) in low_high.items()
                if name.startswith(("region/", "holder/", "cuda")) and high
            ),
            reverse=True,
        )
        if parts:
            cells = [(name, human_bytes(int(high))) for high, name in parts]
            tables.append(render.Table("who held memory", ("who", "peak"), cells, [1]))
        if self.missing:
            reasons = sorted(self.missing.items())
            tables.append(render.Table("not to be seen", ("what", "why"), reasons))
        return self._title(), rows, tables

    def _shm_rows(self, extremes: Mapping[str, tuple[float, float]]) -> list[tuple[str, str]]:
        if "shm/used" not in extremes:
            return []
        used, total = extremes["shm/used"][1], extremes["shm/total"][1]
        part = used / total if total else 1.0
        room = f"{human_bytes(int(total))} in /dev/shm"
        share = f"{part:.1%}" if part >= 0.001 else "less than 0.1%"
        text = f"{human_bytes(int(used))} of {room} at most ({share})"
        rows = [("shared memory", text + self._change("shm/used"))]
        if part >= self._warn_at:
            rows.append(("warning", f"{part:.0%} of /dev/shm was taken: at 100% nothing new fits"))
        return rows

    def _memory_rows(self, extremes: Mapping[str, tuple[float, float]]) -> list[tuple[str, str]]:
        rows = []
        for label, name in (
            ("this process", "resident/this process"),
            ("the server", "resident/server"),
            ("its models", "resident/models"),
            ("the machine", "memory/used"),
        ):
            if name in extremes:
                text = f"{human_bytes(int(extremes[name][1]))} at most"
                rows.append((label, text + self._change(name)))
        if "memory/available" in extremes:
            where = self.notes.get("memory/available", "")
            least = human_bytes(int(extremes["memory/available"][0]))
            rows.append(("still to be had", f"{least} at least, of {where}" if where else least))
        for group in ("gpu", "triton-gpu"):
            rows += self._gpu_rows(group, extremes)
        return rows

    def _gpu_rows(
        self, group: str, extremes: Mapping[str, tuple[float, float]]
    ) -> list[tuple[str, str]]:
        rows: list[tuple[str, str]] = []
        notes = self.notes
        keys = (f"{group}{number}" for number in count())
        for key in takewhile(lambda key: f"{key}/used" in extremes, keys):
            text = f"{human_bytes(int(extremes[f'{key}/used'][1]))} used at most"
            if f"{key}/busy_percent" in extremes:
                text += f", busy up to {extremes[f'{key}/busy_percent'][1]:.0f} %"
            rows.append((notes.get(key, key), text))
        return rows

    def _change(self, name: str) -> str:
        """Say how a series ended, against its start."""
        known = [frame.values()[name] for frame in self.history.frames() if name in frame.names]
        change = int(known[-1] - known[0]) if known else 0
        if not change:
            return ", in the end as at the start"
        return f", in the end {human_bytes(abs(change))} {'more' if change > 0 else 'less'}"

    def _drawn(self) -> render.Picture | None:
        try:
            return self.picture()
        except Exception as error:  # it shows itself in any case
            _log.warning("the recording cannot be drawn: %r", error)
            return None


def _is_low(name: str) -> bool:
    return name.partition("/")[2] in _LOW


def _number(name: str, value: float) -> float:
    """Return bytes and counts as whole numbers."""
    return value if name == "time_s" or name.endswith("_percent") else int(value)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"


def _checked_part(warn_at: float) -> float:
    number = isinstance(warn_at, int | float) and not isinstance(warn_at, bool)
    if not number or not 0 < warn_at <= 1:
        raise ArgumentError(
            f"warn_at is {brief(warn_at)}", "give the part of /dev/shm, above 0 and up to 1"
        )
    return float(warn_at)
