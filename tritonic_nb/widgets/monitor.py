"""Memory as it moves: a plot that lives in a cell, also while another one is busy."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.monitoring import Event, Recording
from tritonic_nb.monitoring.feed import LONGEST_S, TIERS, Feed
from tritonic_nb.widgets.shown import Shown, asset

__all__ = ["Monitor"]

_SHORTEST_S = 5.0
_UNSEEN_S = 600.0  # after which nothing is sampled for nobody
_FREEZES_S = 5.0  # that the end of a session waits for the picture

_log = logging.getLogger("tritonic_nb.widgets")


class _Plot(anywidget.AnyWidget):
    """The plot with its buttons. What is drawn comes in messages; the browser keeps it.

    Attributes
    ----------
    history
        All there is at the moment when a page asks for this widget's state. It never
        changes, so that it is never sent again as an update.
    """

    _esm = asset("monitor.js")
    _css = asset("monitor.css")

    history = traitlets.Any(None).tag(sync=True, to_json=lambda _, plot: plot.all())
    tiers = traitlets.Any(TIERS, read_only=True).tag(sync=True)
    span_s = traitlets.Float(60.0).tag(sync=True)
    paused = traitlets.Bool(False).tag(sync=True)

    def __init__(self, feed: Feed, span_s: float) -> None:
        self.feed = feed
        self._paused_s = math.inf
        super().__init__(span_s=span_s)

    def all(self) -> dict[str, Any]:
        """Return all there is to draw."""
        return self.feed.all(self._paused_s)

    def tell(self) -> None:
        """Send what is new, if it is to be drawn."""
        if not self.paused and (message := self.feed.new()) is not None:
            self.send(message)

    @traitlets.validate("span_s")
    def _checked_span(self, proposal: Any) -> float:
        return checked_span(proposal["value"])

    @traitlets.observe("paused")
    def _pausing(self, change: Any) -> None:
        self._paused_s = time.monotonic() if change["new"] else math.inf
        if not change["new"]:
            self.send(self.feed.catch_up())


class Monitor(Shown):
    """A live plot of memory.

    Made by :func:`tritonic_nb.monitor` and :meth:`Session.monitor
    <tritonic_nb.Session.monitor>`. It moves also while a cell is busy: shared memory by
    tensor and owner, processes, the machine, GPUs, and what the session does. It lives until
    :meth:`freeze` or :meth:`close`, or until its session is closed: then a picture and a
    summary stay in the notebook. When no page has shown it for ten minutes no more samples
    are taken until somebody looks again; the plot has a gap then. (Ten, because there are
    notebooks in which a page's word waits while a cell is busy.)

    Parameters
    ----------
    recording
        What is to be shown; it begins here.
    span_s
        How far back the plot goes, in seconds, from 5 to 1800.

    Raises
    ------
    ArgumentError
        If `span_s` is out of range.
    """

    def __init__(self, recording: Recording, span_s: float = 60.0) -> None:
        span_s = checked_span(span_s)
        self._recording = recording
        self._seen_s = time.monotonic()
        self._plot = _Plot(Feed(recording), span_s)
        super().__init__([self._plot], "monitor")
        self._plot.on_msg(self._asked)
        recording.begin(self._sampled)

    # What code can do

    @property
    def recording(self) -> Recording:
        """All that was recorded."""
        return self._recording

    @property
    def paused(self) -> bool:
        """Whether the plot stands still; samples are taken all the same."""
        return bool(self._plot.paused)

    def pause(self) -> None:
        """Have the plot stand still."""
        self._plot.paused = True

    def resume(self) -> None:
        """Have the plot go on, with what was sampled meanwhile."""
        self._plot.paused = False

    @property
    def span_s(self) -> float:
        """How far back the plot goes, in seconds; can be set, from 5 to 1800.

        Raises
        ------
        ArgumentError
            If it is set to anything else.
        """
        return float(self._plot.span_s)

    @span_s.setter
    def span_s(self, span_s: float) -> None:
        self._plot.span_s = checked_span(span_s)

    @property
    def peaks(self) -> Mapping[str, float]:
        """The most of each series; of what is free or available, the least."""
        return self._recording.peaks

    @property
    def events(self) -> tuple[Event, ...]:
        """The last 2000 events, with times in seconds since it began."""
        return self._recording.events

    @property
    def missing(self) -> dict[str, str]:
        """Why there are no numbers of something: sentences, by what they are about."""
        return self._recording.missing

    def to_pandas(self) -> Any:
        """Return the samples as a ``pandas.DataFrame``, as :meth:`Recording.to_pandas` does."""
        return self._recording.to_pandas()

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the samples as a CSV file and return its path."""
        return self._recording.to_csv(path)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a picture of all that was recorded as a PNG file and return its path.

        Raises
        ------
        ArgumentError
            If the name does not end in ``.png``, or nothing was sampled.
        """
        return self._recording.save(path)

    # What happens

    def _sampled(self) -> None:
        """Tell the page of a sample, or leave a picture where the recording has ended."""
        if self._recording.ended:
            self._leave_picture()
            return
        self._plot.tell()
        if time.monotonic() - self._seen_s > _UNSEEN_S:
            self._recording.suspend()

    def _leave_picture(self) -> None:
        """Freeze because the session was closed: not by its thread, which may hold any lock."""
        if self.frozen or not threading.main_thread().is_alive():  # the interpreter ends
            return
        thread = threading.Thread(target=self._freeze_quietly, name="tritonic_nb-freezes")
        thread.daemon = True
        try:
            thread.start()
        except RuntimeError as error:
            _log.debug("a live plot could not be frozen: %r", error)
        else:
            thread.join(_FREEZES_S)

    def _freeze_quietly(self) -> None:
        try:
            self.freeze()
        except Exception as error:  # the session's end is not the place to tell
            _log.warning("a live plot could not be frozen: %r", error)

    def _asked(self, _: object, content: Any, __: object) -> None:
        """Do what a page asks for: it says that it looks, or that a button was pressed."""
        kind = content.get("kind") if isinstance(content, dict) else None
        try:
            if kind == "look":
                self._looked(content.get("newest"))
            elif kind == "freeze":
                self.freeze()
            elif kind in ("csv", "png"):
                self._export(kind, content.get("view"))
        except Exception as error:
            self._plot.send({"kind": "failed", "text": f"{kind} failed: {error}"})

    def _looked(self, newest: object) -> None:
        """Somebody sees it: sample again, and send what a page does not have."""
        self._seen_s = time.monotonic()
        self._plot.send({"kind": "heard"})
        if self._recording.suspended:
            self._recording.resume()
        missed = isinstance(newest, int | float) and newest < self._plot.feed.told_s - 5
        if newest is None or missed:
            self._plot.send(self._plot.all())

    def _export(self, kind: str, view: object) -> None:
        if kind == "csv":
            data, mime = self._recording.csv().encode(), "text/csv"
        else:
            picture = self._recording.picture()
            if picture is None:
                raise ArgumentError("there is nothing to draw yet", "wait for a moment")
            data, mime = picture.png, "image/png"
        name = time.strftime(f"memory-%Y%m%d-%H%M.{kind}")
        self._plot.send({"kind": "file", "name": name, "type": mime, "view": view}, [data])

    def _end(self) -> None:
        self._recording.stop()

    def _static(self) -> tuple[str, str]:
        return repr(self._recording), self._recording._repr_html_()


def checked_span(span_s: float) -> float:
    """Return how far back a plot goes, in seconds.

    Raises
    ------
    ArgumentError
        If it is no number from 5 to 1800.
    """
    number = isinstance(span_s, int | float) and not isinstance(span_s, bool)
    if not number or not _SHORTEST_S <= span_s <= LONGEST_S:
        raise ArgumentError(
            f"span_s is {brief(span_s)}",
            f"give seconds from {_SHORTEST_S:g} to {LONGEST_S:g}",
        )
    return float(span_s)
