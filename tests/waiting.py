"""Waiting for what happens by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["eventually"]


def eventually(claim: Callable[[], bool], seconds: float = 8.0) -> bool:
    """Wait for a claim to become true; return whether it did."""
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
