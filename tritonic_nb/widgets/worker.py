"""One thread that does one kind of work when it is asked, and ends when nobody asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Worker"]

_IDLE_S = 2.0  # without work, before the thread ends


class Worker:
    """Does the same work again each time it is asked, never twice at a time.

    Who asks does not wait. Several wishes that come before the work begins are one. The
    thread is a daemon, starts with the first wish, and ends after two idle seconds.

    Parameters
    ----------
    work
        What to do; it must not raise.
    name
        Of the thread.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._work = work
        self._name = name
        self._changed = threading.Condition()
        self._due: float | None = None
        self._busy = False
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was ended."""
        return self._closed

    def is_this_thread(self) -> bool:
        """Whether the caller is the work itself."""
        return threading.current_thread() is self._thread

    def ask(self, delay_s: float = 0.0) -> None:
        """Have the work done, after a delay; an earlier wish that waits is the same one."""
        with self._changed:
            if self._closed:
                return
            due = time.monotonic() + delay_s
            self._due = due if self._due is None else min(due, self._due)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until nothing is left to do; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy and self._due is None, timeout_s)

    def close(self) -> None:
        """Begin nothing any more; what runs ends by itself, and the thread then."""
        with self._changed:
            self._closed = True
            self._due = None
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while self._next():
                self._work()
                self._rest()
        finally:
            self._rest(ended=True)

    def _rest(self, *, ended: bool = False) -> None:
        with self._changed:
            self._busy = False
            if ended and self.is_this_thread():  # another one may have begun
                self._thread = None
            self._changed.notify_all()

    def _next(self) -> bool:
        """Wait for the next wish; False when the thread is to end."""
        with self._changed:
            idle_until = time.monotonic() + _IDLE_S
            while not self._closed:
                now = time.monotonic()
                until = idle_until if self._due is None else self._due
                if now >= until:
                    break
                self._changed.wait(until - now)
            wanted = self._due is not None and not self._closed
            self._due = None
            self._busy = wanted
            if not wanted:
                self._thread = None
            return wanted
