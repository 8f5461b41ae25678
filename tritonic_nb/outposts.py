"""A worker's sessions: one for each recipe, opened on first use and closed when idle."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tritonic_nb import flight
from tritonic_nb.parcel import Parcel
from tritonic_nb.recipe import SessionSpec
from tritonic_nb.render import Progress
from tritonic_nb.result import InferenceResult

if TYPE_CHECKING:
    from tritonic_nb.session import Session

__all__ = ["KEEP_S", "Outpost", "close_outposts", "outpost", "retire"]

KEEP_S = 10.0
"""How long a session that nobody uses is kept, in seconds."""

_log = logging.getLogger("tritonic_nb.session")


class Outpost:
    """One session of this process, and the server that was started for it.

    Attributes
    ----------
    session
        The session. It is nobody's to close.
    """

    session: Session

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.users = 0
        self.retired = False  # it gets no more users
        self.keep_s = 0.0
        self.idle_since = 0.0
        self._opening = threading.Lock()
        self._closing = ExitStack()
        self._turns = threading.Semaphore(0)

    def open(self, spec: Parcel) -> None:
        """Open the session, if nobody has done it before."""
        with self._opening:
            if hasattr(self, "session"):
                return
            try:
                self._open(spec.open())
            except BaseException:  # whoever waits for it tries anew, with another server
                self._closing.close()
                raise

    def _open(self, spec: SessionSpec) -> None:
        server = spec.server
        if callable(server):
            given = server()
            # One that was started for this session goes with it.
            if callable(stop := getattr(given, "stop", None)):
                self._closing.callback(stop)
            spec = replace(spec, server=lambda: given)
        session = spec.open()
        self._closing.callback(session.close)
        self._turns = threading.Semaphore(spec.in_flight)
        self.session = session

    def infer(self, inputs: Any, /, **options: Any) -> InferenceResult:
        """Run the model once; of all tasks together, no more at a time than the session's own."""
        with self._turns:
            return self.session.infer(inputs, **options)

    def infer_each(
        self, items: Iterable[Any], options: Mapping[str, Any], in_flight: int
    ) -> Generator[Any, None, None]:
        """Run the model on each of some items, several at a time; give results or errors in order.

        An error does not say which item it is about: whoever sent them here has other numbers.

        Parameters
        ----------
        items
            Taken when there is room.
        options
            Of each inference.
        in_flight
            How many are on their way at the same time.
        """
        return flight.in_order(
            flight.jobs_of(self.infer, items, options),
            in_flight,
            Progress(show=False),
            return_exceptions=True,
            numbered=False,
        )

    def give_up(self) -> None:
        """Have the next one opened anew: the server of this one has gone."""
        self.retired = True

    def close(self) -> None:
        """Close the session and stop its server, whatever becomes of either; safe to repeat."""
        with self._opening:
            self._closing.close()


class _Outposts:
    """All of one process."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._all: list[Outpost] = []
        self._watcher: threading.Thread | None = None
        self._ends_with_process = False

    @contextmanager
    def outpost(self, spec: Parcel, keep_s: float) -> Iterator[Outpost]:
        """Give the session of a recipe for a block."""
        outpost = self._enter(spec.digest, keep_s)
        try:
            try:
                outpost.open(spec)
            except BaseException:
                outpost.retired = True  # the next one tries anew
                raise
            self._end_with_process()
            yield outpost
        finally:
            self._leave(outpost)

    def _enter(self, digest: str, keep_s: float) -> Outpost:
        with self._changed:
            for outpost in self._all:
                if outpost.digest == digest and not outpost.retired:
                    break
            else:
                outpost = Outpost(digest)
                self._all.append(outpost)
            outpost.users += 1
            outpost.keep_s = max(keep_s, outpost.keep_s)
            return outpost

    def _leave(self, outpost: Outpost) -> None:
        with self._changed:
            outpost.users -= 1
            outpost.idle_since = time.monotonic()
            # At the end of the process it is closed and gone already.
            idle = not outpost.users and outpost in self._all
            closes = idle and (outpost.retired or not outpost.keep_s)
            if closes:
                self._all.remove(outpost)
                self._changed.notify_all()  # perhaps there is none left to watch
            elif idle:
                self._watch()
        if closes:
            _close(outpost)

    def retire(self, digest: str | None = None) -> None:
        """Close a recipe's session, or all; one that is in use when its last user has left."""
        with self._changed:
            found = [each for each in self._all if digest in (None, each.digest)]
            for outpost in found:
                outpost.retired = True
            idle = [each for each in found if not each.users]
            for outpost in idle:
                self._all.remove(outpost)
            self._changed.notify_all()
        for outpost in idle:
            _close(outpost)

    def close(self) -> None:
        """Close all, in use or not: the process ends."""
        if os.getpid() != self._pid:  # a forked child's end; perhaps the lock is taken for ever
            return
        with self._changed:
            found, self._all = self._all, []
            self._changed.notify_all()
        for outpost in found:
            _close(outpost)

    def _watch(self) -> None:
        """Have a thread close what is idle for too long; the lock is held."""
        if self._watcher is None or not self._watcher.is_alive():
            self._watcher = threading.Thread(
                target=self._close_idle, name="tritonic_nb-outposts", daemon=True
            )
            self._watcher.start()
        self._changed.notify_all()

    def _close_idle(self) -> None:
        while (due := self._next_due()) is not None:
            _close(due)

    def _next_due(self) -> Outpost | None:
        """Wait for a session that was idle for too long; None when there is none left."""
        with self._changed:
            while self._all:
                idle = [each for each in self._all if not each.users]
                ends = {each.idle_since + each.keep_s: each for each in idle}
                first = min(ends, default=None)
                if first is not None and first <= time.monotonic():
                    self._all.remove(ends[first])
                    return ends[first]
                self._changed.wait(None if first is None else first - time.monotonic())
            self._watcher = None
            return None

    def _end_with_process(self) -> None:
        """Close all when the process ends: before the sessions' own finalizers would complain."""
        with self._changed:
            if self._ends_with_process:
                return
            self._ends_with_process = True
        from multiprocessing.util import Finalize

        atexit.register(self.close)
        Finalize(None, self.close, exitpriority=10)  # its children run nothing of atexit


def _close(outpost: Outpost) -> None:
    try:
        outpost.close()
    except Exception as error:  # what is left, the session's janitor sees to
        _log.warning("a worker's session was not closed in order: %s", error)


_here = _Outposts()
_inherited: list[_Outposts] = []


def _after_fork() -> None:
    """Begin anew in a forked child: what there is belongs to the parent, which it is left to."""
    global _here  # noqa: PLW0603
    _inherited.append(_here)  # kept: their end would be told of as something forgotten
    _here = _Outposts()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def outpost(spec: Parcel, keep_s: float = KEEP_S) -> Iterator[Outpost]:
    """Give this process's session of a recipe for a block.

    It is opened by the first who asks; whoever comes while it is there, in any thread,
    uses the same. Nobody closes it: it goes when it was idle for `keep_s`, by
    :func:`retire`, and at the end of the process. In a forked child there is none yet.

    Parameters
    ----------
    spec
        A :class:`~tritonic_nb.recipe.SessionSpec`. If its server is a function, that is
        called once for the session; what it returns is stopped with the session if it has a
        ``stop()``.
    keep_s
        How long it is kept when nobody uses it. The longest that any user asked for counts.

    Raises
    ------
    TritonicError
        As :class:`~tritonic_nb.Session` raises; and whatever the function raises.
    """
    with _here.outpost(spec, keep_s) as found:
        yield found


def retire(digest: str | None = None) -> None:
    """Close the session of a recipe here; one that is in use, when its last user has left.

    Parameters
    ----------
    digest
        The recipe's, as a parcel; None for all sessions of this process.
    """
    _here.retire(digest)


def close_outposts() -> None:
    """Close all sessions that workers' tasks have opened in this process, and their servers.

    For one with Dask: ``client.run(tritonic_nb.close_outposts)``. A session that a task uses
    is closed when that has ended.
    """
    retire()
