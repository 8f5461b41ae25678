"""What happened to a session while somebody watches: regions, inferences, errors.

A session has one :class:`EventHook` and tells it what happens. Nothing is kept while nobody
watches; an inference then costs the session a look at :attr:`EventHook.watched`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["KINDS", "Event", "EventHook", "EventRecord"]

KINDS = ("switch", "register", "grow", "unregister", "error")
"""What an event may be. Inferences are counted, and are no events.

A switch is another model, kind of shared memory or server, or a model loaded or unloaded.
"""

_MOST_EVENTS = 2000  # that a record keeps; all are counted
_LONGEST_TEXT = 300  # characters: a model's error may be as long as it likes


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes
    ----------
    kind
        One of :data:`KINDS`.
    time_s
        When, as `time.monotonic` tells it, in seconds.
    text
        Which tensor's region, what was switched to, or the error.
    nbytes
        The region's bytes; 0 for what is no region.
    remedy
        What to do about an error, where that is known.
    """

    kind: str
    time_s: float
    text: str
    nbytes: int = 0
    remedy: str = ""


class EventRecord:
    """What a hook tells one who watches: the last events, and how many there were.

    Safe to share between threads.

    Parameters
    ----------
    notify
        Called after each event, in the thread of whoever caused it: it must be quick, and
        must not raise.
    """

    def __init__(self, notify: Callable[[], None] | None = None) -> None:
        self._notify = notify
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._counts: Counter[str] = Counter()
        self._inferences = 0

    @property
    def events(self) -> tuple[Event, ...]:
        """The last 2000 events, in order."""
        with self._lock:
            return tuple(self._events)

    @property
    def counts(self) -> dict[str, int]:
        """How many events there were, by kind; those that were not kept included."""
        with self._lock:
            return {kind: self._counts[kind] for kind in KINDS if self._counts[kind]}

    @property
    def inferences(self) -> int:
        """How many inferences ended well."""
        return self._inferences

    def add(self, event: Event) -> None:
        """Keep an event, and let go of the oldest where there are too many."""
        with self._lock:
            self._events.append(event)
            self._counts[event.kind] += 1
        if self._notify is not None:
            self._notify()

    def count_inference(self) -> None:
        """Count one more inference."""
        with self._lock:
            self._inferences += 1


class EventHook:
    """Where a session tells what happens to it.

    Attributes
    ----------
    watched
        Whether anybody watches. What is told while nobody does is dropped.
    """

    def __init__(self) -> None:
        self.watched = False
        self._lock = threading.RLock()  # a session that is collected closes it at any line
        # Replaced and never changed, so that those who tell need no lock.
        self._watchers: tuple[tuple[EventRecord, Callable[[], None]], ...] = ()

    def start(self, record: EventRecord, end: Callable[[], None]) -> None:
        """Tell a record what happens from now on, and call `end` when the session closes."""
        with self._lock:
            self._watchers = (*self._watchers, (record, end))
            self.watched = True

    def stop(self, record: EventRecord) -> None:
        """Tell a record no more; safe to repeat."""
        with self._lock:
            self._watchers = tuple(each for each in self._watchers if each[0] is not record)
            self.watched = bool(self._watchers)

    def note(self, kind: str, text: str, nbytes: int = 0, remedy: str = "") -> None:
        """Tell of an event of one of :data:`KINDS`."""
        if self.watched:
            event = Event(kind, time.monotonic(), _cut(text), nbytes, _cut(remedy))
            for record, _ in self._watchers:
                record.add(event)

    def note_inference(self) -> None:
        """Tell of an inference that ended well."""
        for record, _ in self._watchers:
            record.count_inference()

    def note_error(self, error: BaseException) -> None:
        """Tell of something that failed."""
        said, remedy = (_text_of(error, each) for each in ("message", "remedy"))
        text = f"{type(error).__name__}: {said}" if said else type(error).__name__
        self.note("error", text, remedy=remedy)

    def close(self) -> None:
        """End all watching: the session closes."""
        for _, end in self._watchers:
            end()


def _cut(text: str) -> str:
    """Return a text that is no longer than is kept, and shows where it was cut."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def _text_of(error: BaseException, name: str) -> str:
    """Return an attribute of an error in one line; empty where it has no such text."""
    try:
        said = getattr(error, name, None)
    except Exception:  # the error's own; the one to be raised is the other
        return ""
    return " ".join(said.split()) if isinstance(said, str) else ""
