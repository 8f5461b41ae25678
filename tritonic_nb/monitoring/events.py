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

KINDS = ("register", "grow", "unregister", "error")
"""What an event may be. Inferences are counted, and are no events."""

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
        Which tensor's region, or the error.
    nbytes
        The region's bytes; 0 for an error.
    """

    kind: str
    time_s: float
    text: str
    nbytes: int = 0


class EventRecord:
    """What a hook tells one who watches: the last events, and how many there were.

    Safe to share between threads.
    """

    def __init__(self) -> None:
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

    def note(self, kind: str, text: str, nbytes: int = 0) -> None:
        """Tell of an event of one of :data:`KINDS`."""
        if self.watched:
            event = Event(kind, time.monotonic(), text[:_LONGEST_TEXT], nbytes)
            for record, _ in self._watchers:
                record.add(event)

    def note_inference(self) -> None:
        """Tell of an inference that ended well."""
        for record, _ in self._watchers:
            record.count_inference()

    def note_error(self, error: BaseException) -> None:
        """Tell of an inference that failed."""
        try:
            said = getattr(error, "message", None)
        except Exception:  # the error's own; the one to be raised is the other
            said = None
        text = f"{type(error).__name__}: {said}" if isinstance(said, str) else type(error).__name__
        self.note("error", " ".join(text.split()))

    def close(self) -> None:
        """End all watching: the session closes."""
        for _, end in self._watchers:
            end()
