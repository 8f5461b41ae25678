"""A few threads that run inferences in the order they came, and what is promised of each."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # another one in Python 3.10
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tritonic_nb.errors import SessionClosedError, TritonicError
from tritonic_nb.result import InferenceResult

__all__ = ["InferenceFuture", "Job", "Task", "Workers"]

_WAKE_S = 0.2  # how long Ctrl-C may go unnoticed: its signal may come to another thread

Job: TypeAlias = Callable[[], InferenceResult]


class InferenceFuture(Future[InferenceResult]):
    """The result of an inference that is on its way.

    A :class:`concurrent.futures.Future`: ``result()`` waits for the
    :class:`~tritonic_nb.InferenceResult` or raises what ``infer`` would have
    raised; ``cancel()`` works as long as its turn has not come. It can be awaited
    as well: ``result = await session.submit(picture)``; for what else asyncio does
    with futures, take ``asyncio.wrap_future(future)``.
    """

    def __await__(self) -> Generator[Any, None, InferenceResult]:
        return asyncio.wrap_future(self).__await__()


@dataclass(frozen=True)
class Task:
    """A job, and what is promised of it."""

    job: Job
    future: InferenceFuture = field(default_factory=InferenceFuture)

    def run(self) -> None:
        """Keep the promise, in this thread, unless it was cancelled."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.job()
        except BaseException as error:  # whoever asks for the result gets it
            self.future.set_exception(error)
            del self  # the error's traceback has this frame: they would keep one another
        else:
            self.future.set_result(result)


class Workers:
    """A few threads that do jobs in the order they came.

    They are started when they are needed, and end when this is closed or forgotten.
    They never delay the interpreter's exit, unlike those of
    :class:`concurrent.futures.ThreadPoolExecutor`, which do there all that waits.

    Parameters
    ----------
    most
        How many jobs at the same time.
    """

    def __init__(self, most: int) -> None:
        self._line = _Line(most)
        # At exit as well: what waits then must not begin.
        self._finalizer = weakref.finalize(self, _Line.end, self._line)

    def submit(self, job: Job) -> Task:
        """Put a job at the end of the line; never blocks.

        Raises
        ------
        SessionClosedError
            If the workers were closed, or this is a forked child.
        """
        task = Task(job)
        self._line.append(task)
        return task

    def finish(self, task: Task) -> InferenceResult:
        """Return what a job gives, or raise its error; do it here if no thread has begun it.

        Raises
        ------
        SessionClosedError
            If this is a forked child, in which nobody does it.
        """
        try:
            if self._line.remove(task):
                return task.job()  # sooner than another thread would
            while not task.future.done():
                with suppress(FutureTimeoutError):
                    task.future.exception(_WAKE_S)
            return task.future.result()
        finally:
            del task  # an error's traceback has this frame: they would keep one another

    def close(self) -> None:
        """Cancel what waits; what runs ends by itself, and its thread then. Safe to repeat."""
        self._line.end()
        self._finalizer.detach()  # last: where this is interrupted, it is done when it is forgotten


class _Line:
    """The jobs that wait, and the threads that do them.

    The threads hold this and not the workers, which can so be forgotten.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pid = os.getpid()
        # On a lock that its holder may take again: the end may come with a garbage
        # collection, in the middle of anything.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: deque[Task] = deque()
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._ended = False

    def append(self, task: Task) -> None:
        self._check_process()
        with self._changed:
            if self._ended:
                raise SessionClosedError("the session was closed", "open a new Session")
            self._waiting.append(task)
            if self._idle:
                self._changed.notify()
            if self._idle < len(self._waiting):
                self._start_one(task)

    def _start_one(self, task: Task) -> None:
        """Start one more thread, if there may be one."""
        # One whose start was interrupted is not counted.
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= self._most:
            return
        thread = threading.Thread(
            target=_work, args=(self,), name="tritonic_nb-worker", daemon=True
        )
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError as error:
            self._threads.remove(thread)
            if not self._threads:  # else the others will do it
                self._waiting.remove(task)
                raise TritonicError(
                    f"no thread could be started for an inference: {error}",
                    "raise the limit of threads (ulimit -u, or the container's), or end some",
                ) from error

    def remove(self, task: Task) -> bool:
        """Take a job back; False where a thread has begun it."""
        self._check_process()
        with self._changed:
            waits = task in self._waiting
            if waits:
                self._waiting.remove(task)
            return waits

    def _check_process(self) -> None:
        """Refuse a forked child: it has none of the threads, and perhaps a lock that is taken."""
        if self._pid != os.getpid():
            raise SessionClosedError(
                "these inferences belong to the process that this one was forked from",
                "open a new Session in this process",
            )

    def next(self) -> Task | None:
        """Wait for the next job; None at the end."""
        with self._changed:
            self._idle += 1
            while not self._waiting and not self._ended:
                self._changed.wait()
            self._idle -= 1
            return self._waiting.popleft() if self._waiting else None

    def end(self) -> None:
        if self._pid != os.getpid():
            return
        with self._changed:
            self._ended = True
            cancelled = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for task in cancelled:  # without the lock: it may call somebody back
            task.future.cancel()


def _work(line: _Line) -> None:
    while (task := line.next()) is not None:
        with suppress(BaseException):  # of what was told to be called back: others wait
            task.run()
        del task  # while it waits it keeps nobody's session, and no result
