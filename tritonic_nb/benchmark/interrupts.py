"""Ctrl-C between exchanges, not within one.

tritonclient's HTTP client runs on gevent, which prints an interrupt or loses it in a
destructor, and goes on. So the first one waits for the end of what must not be
interrupted; the second takes effect at once, in case that end does not come.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["handled", "held_back"]


class _State:
    """How many are holding interrupts back, and whether one has come meanwhile."""

    def __init__(self) -> None:
        self.holders = 0
        self.pending = False


_state = _State()


@contextmanager
def handled() -> Iterator[None]:
    """Let :func:`held_back` have its effect; for the main thread."""
    _state.holders, _state.pending = 0, False
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def held_back() -> Iterator[None]:
    """Hold interrupts back until the end of the outermost such block."""
    _state.holders += 1
    try:
        yield
    finally:
        _state.holders -= 1
        if _state.pending and not _state.holders:
            _state.pending = False
            raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    if _state.pending or not _state.holders:
        raise KeyboardInterrupt
    _state.pending = True
