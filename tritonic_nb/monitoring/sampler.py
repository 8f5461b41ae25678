"""One thread of this process that looks at memory, for as long as somebody wants to know.

Whoever watches subscribes with the :class:`Source` objects to ask and how often. With the
first subscription the thread starts, and with the last one it ends. A source that several
ask for is asked once. None can do harm: one that fails is missing, with a reason, and one
that takes long is asked less often.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from numbers import Real
from typing import NamedTuple

from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.monitoring.history import History

__all__ = ["THREAD", "Reading", "Source", "Subscription", "checked_hz", "subscribe"]

_log = logging.getLogger("tritonic_nb.monitoring")

THREAD = "tritonic_nb-sampler"
"""The name of the thread."""

_LOWEST_HZ, _HIGHEST_HZ = 1.0, 10.0
_LONGEST_WAIT_S = 1.0  # for the first sample, and for the last
_QUICK_S = 0.1  # what may be asked once more for the last sample, out of turn
_MOST_NUMBERS = 100  # that one source may tell
_LONGEST_NAME = 100  # characters
# Of one core, and of the thread's time: what a source may take of them.
_CPU_SHARE = 0.005
_TIME_SHARE = 0.1


class Reading(NamedTuple):
    """What a source tells.

    Attributes
    ----------
    values
        Numbers by name, such as ``{"shm/used": 4096}``: bytes unless the name says otherwise.
    notes
        Words about them, by whatever they are about.
    """

    values: Mapping[str, float]
    notes: Mapping[str, str] = {}


@dataclass(frozen=True, eq=False)
class Source:
    """Something to ask for numbers.

    Attributes
    ----------
    name
        What it tells about, for people.
    read
        Returns a :class:`Reading`, or a sentence that says why there is none.
    every_s
        How long its numbers are good for, in seconds; 0 for one that is asked each time.
    slow
        Whether nobody should wait for it at the start.
    """

    name: str
    read: Callable[[], Reading | str]
    every_s: float = 0.0
    slow: bool = False


@dataclass
class _State:
    """What is known of a source: its last answer, and when to ask again."""

    values: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    asked_s: float = -math.inf
    due_s: float = -math.inf
    took_s: float = 0.0

    def ask(self, source: Source) -> None:
        """Ask a source, whatever it does."""
        started, cpu = time.monotonic(), time.thread_time()
        self.values, self.notes, self.reason = _answer(source)
        ended, cpu = time.monotonic(), time.thread_time() - cpu
        took = self.took_s = ended - started
        self.asked_s = started
        self.due_s = max(
            started + source.every_s, ended + took / _TIME_SHARE, ended + cpu / _CPU_SHARE
        )
        # What each tick affords needs no rest; a share of 2 ms ten times a second is 2 %.
        if not source.every_s and cpu < 0.001 and took < 0.005:
            self.due_s = started


class Subscription:
    """Frames of some sources, as often as was asked for, until it is closed.

    Attributes
    ----------
    history
        The last frames.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        hz: float,
        history: History,
        notify: Callable[[], None] | None = None,
    ) -> None:
        self.history = history
        self._notify = notify
        self._sources = tuple(sources)
        self._period_s = 1 / hz
        self._next_s = -math.inf
        self._started = threading.Event()
        self._ended = threading.Event()
        self._closing = False
        self._reasons: dict[str, str] = {}
        self._notes: dict[str, str] = {}

    @property
    def reasons(self) -> dict[str, str]:
        """Why sources told nothing when they were asked last, by the source's name."""
        return dict(self._reasons)

    @property
    def notes(self) -> dict[str, str]:
        """The sources' words about their numbers."""
        return dict(self._notes)

    @property
    def closed(self) -> bool:
        """Whether no more frames come."""
        return self._closing or self._ended.is_set()

    def close(self) -> None:
        """Take a last frame, and no more; safe to repeat.

        When it was the last subscription the thread has ended by then, unless a source
        does not come back: then it ends as soon as that does.
        """
        _sampler.remove(self)


class _Sampler:
    """The thread, and who it works for."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a session that is collected unsubscribes at any line
        self._wake = threading.Event()
        self._subscriptions: tuple[Subscription, ...] = ()
        self._thread: threading.Thread | None = None

    def add(self, subscription: Subscription) -> None:
        """Work for one more; returns when its first frame is there, or after a second."""
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:  # the interpreter ends, or there are too many
                    self._thread = None
                    self._drop(subscription)
                    subscription._reasons["sampler"] = f"no thread could be started: {error}"
                    return
            self._wake.set()
        subscription._started.wait(_LONGEST_WAIT_S)

    def remove(self, subscription: Subscription) -> None:
        """Work for one less."""
        thread = self._thread
        subscription._closing = True
        if thread is threading.current_thread():  # a source closes the session it is of
            return
        self._wake.set()
        try:
            if thread is not None and subscription in self._subscriptions:
                subscription._ended.wait(_LONGEST_WAIT_S)
        finally:  # an interrupt leaves no thread behind, either
            with self._lock:
                self._drop(subscription)
                last = not self._subscriptions
            self._wake.set()
        if last and thread is not None:
            thread.join(_LONGEST_WAIT_S)
            with self._lock:
                if self._thread is thread and not self._subscriptions:
                    self._thread = None  # it waits for a source; the next one has its own thread

    def end(self) -> None:
        """End at once, without last frames."""
        with self._lock:
            subscriptions, self._subscriptions = self._subscriptions, ()
            thread = self._thread
        for each in subscriptions:
            each._closing = True
            each._ended.set()
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_LONGEST_WAIT_S)

    def start_anew(self) -> None:
        """Begin again in a forked child, where there is no thread and locks may be held."""
        for each in self._subscriptions:
            each._closing = True
            each._ended = threading.Event()
            each._ended.set()
            each.history.renew_lock()
        self._begin()

    def _drop(self, subscription: Subscription) -> None:
        self._subscriptions = tuple(each for each in self._subscriptions if each != subscription)
        subscription._ended.set()
        subscription._sources = ()  # with what they hold of a session and its server
        subscription._notify = None

    def _run(self) -> None:
        states: dict[Source, _State] = {}
        while True:
            self._wake.clear()
            for subscription in self._subscriptions:
                if self._thread is threading.current_thread():
                    self._serve(subscription, states)
            with self._lock:
                if self._thread is not threading.current_thread():  # nobody waits for it any more
                    return
                for each in self._subscriptions:
                    if each._ended.is_set():
                        self._drop(each)
                if not self._subscriptions:
                    # Under the lock: whoever comes now starts another thread.
                    self._thread = None
                    return
                wanted = {source for each in self._subscriptions for source in each._sources}
                next_s = min(each._next_s for each in self._subscriptions)
            states = {source: state for source, state in states.items() if source in wanted}
            self._wake.wait(max(0.0, next_s - time.monotonic()))

    def _serve(self, subscription: Subscription, states: dict[Source, _State]) -> None:
        """Take a frame for one who is due, or who ends."""
        now, closing = time.monotonic(), subscription._closing
        if not closing and now < subscription._next_s:
            return
        first = not subscription._started.is_set()
        _sample(subscription, states, first=first, last=closing)
        # Without making up for what was missed: a busy machine is not helped by more work.
        subscription._next_s = max(subscription._next_s + subscription._period_s, now)
        if first:
            subscription._next_s = now + subscription._period_s
        if closing:
            subscription._ended.set()


def _sample(
    subscription: Subscription, states: dict[Source, _State], *, first: bool, last: bool
) -> None:
    """Ask the sources that are due, and take a frame.

    At first nobody waits for those that are slow: what they tell is added a moment later.
    """
    now = time.monotonic()
    late = [source for source in subscription._sources if first and source.slow]
    for source in subscription._sources:
        state = states.setdefault(source, _State())
        fresh = now - state.asked_s < subscription._period_s / 2
        due = now >= state.due_s and not fresh
        if source not in late and (due or (last and state.took_s < _QUICK_S)):
            state.ask(source)
    subscription.history.append(now, _known(subscription, states))
    subscription._started.set()
    if late:
        for source in late:
            if subscription._closing:
                break
            if now >= states[source].due_s:
                states[source].ask(source)
        subscription.history.complete(_known(subscription, states))
    _notify(subscription)


def _notify(subscription: Subscription) -> None:
    """Tell who subscribed that a frame was taken, whatever comes of it."""
    notify = subscription._notify
    if notify is None:
        return
    try:
        notify()
    except BaseException as error:  # as a source's: nothing may end the thread
        _log.debug("who was told of a sample failed: %s", _reason(error))


def _known(subscription: Subscription, states: Mapping[Source, _State]) -> dict[str, float]:
    """Return what the sources told last, and note why others told nothing."""
    values: dict[str, float] = {}
    for source in subscription._sources:
        state = states[source]
        values.update(state.values)
        subscription._notes.update(state.notes)
        if state.reason:
            subscription._reasons[source.name] = state.reason
        else:
            subscription._reasons.pop(source.name, None)
    return values


def _answer(source: Source) -> tuple[dict[str, float], dict[str, str], str]:
    """Return a source's numbers and notes, or the reason why there are none."""
    try:
        told = source.read()
        if isinstance(told, str):
            return {}, {}, told
        values = {
            str(name)[:_LONGEST_NAME]: float(value)
            for name, value in islice(told.values.items(), _MOST_NUMBERS)
            if isinstance(value, Real) and math.isfinite(value)
        }
        notes = {str(about): str(text) for about, text in islice(told.notes.items(), _MOST_NUMBERS)}
    except BaseException as error:  # not even sys.exit() in a source may end the thread
        return {}, {}, f"{source.name} could not be read: {_reason(error)}"
    return values, notes, ""


def _reason(error: BaseException) -> str:
    try:
        said = " ".join(str(error).split())
    except Exception:  # an error that cannot even be shown
        said = ""
    return f"{type(error).__name__}: {said[:200]}" if said else type(error).__name__


def checked_hz(hz: float) -> float:
    """Return how often to look, in times a second.

    Raises
    ------
    ArgumentError
        If it is no number from 1 to 10.
    """
    number = isinstance(hz, Real) and not isinstance(hz, bool)
    if not number or not _LOWEST_HZ <= hz <= _HIGHEST_HZ:
        raise ArgumentError(f"hz is {brief(hz)}", "look from 1 to 10 times a second")
    return float(hz)


def subscribe(
    sources: Sequence[Source],
    *,
    hz: float = 2.0,
    history: History | None = None,
    notify: Callable[[], None] | None = None,
) -> Subscription:
    """Have the sources looked at; returns when the first frame is there.

    Parameters
    ----------
    sources
        What to ask.
    hz
        How often, in times a second, from 1 to 10.
    history
        Where the frames go; one of its own by default.
    notify
        Called after each frame, in the sampler's thread: it must be quick. What it raises is
        one line in the log.

    Raises
    ------
    ArgumentError
        If `hz` is out of range.
    """
    history = History() if history is None else history
    subscription = Subscription(sources, checked_hz(hz), history, notify)
    _sampler.add(subscription)
    return subscription


_sampler = _Sampler()
atexit.register(_sampler.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sampler.start_anew)
