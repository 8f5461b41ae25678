"""What the tests of measuring share."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def ctrl_c_after() -> Iterator[Callable[[float], None]]:
    """Send Ctrl-C to this process after some seconds, as a notebook's stop button does."""
    timers: list[threading.Timer] = []

    def interrupt() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def start(seconds: float) -> None:
        timers.append(threading.Timer(seconds, interrupt))
        timers[-1].start()

    yield start
    for timer in timers:
        timer.join()
