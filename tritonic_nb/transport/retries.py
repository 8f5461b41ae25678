"""Requests that are sent again: only those of which nothing was done."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from tritonic_nb.errors import (
    ArgumentError,
    NoReplyError,
    ServerBusyError,
    ServerTimeoutError,
    check_whole,
)

__all__ = ["Retries"]

_FIRST_S = 0.1
_LONGEST_S = 5.0
_MOST = 100

_T = TypeVar("_T")
_log = logging.getLogger("tritonic_nb.transport")


class Retries:
    """How often a request may be sent again, and when.

    It is sent again if it never left (nothing listened), or if the server, or a gateway
    before it, said that it was too busy to begin with it; a request that only asks for
    something also if its connection ended. Never an inference that the server may have begun
    with, and nothing where it would end the same way. The pauses double from 0.1 to 5
    seconds, less up to a half by chance, so that many clients do not come back all at once; or
    are as long as a reply's ``Retry-After`` demands. All of it happens within the request's
    time limit.

    Parameters
    ----------
    most
        How many times, from 0 to 100.

    Raises
    ------
    ArgumentError
        If it is no such number.
    """

    def __init__(self, most: int = 0) -> None:
        remedy = f"give a whole number from 0 to {_MOST}"
        check_whole(most, 0, "retries", remedy)
        if most > _MOST:
            raise ArgumentError(f"retries is {most}", remedy)
        self._most = int(most)

    def run(
        self, attempt: Callable[[float], _T], timeout_s: float, *, asks_only: bool = False
    ) -> _T:
        """Return what an attempt returns.

        Parameters
        ----------
        attempt
            Sends the request; it is given the time that is left, in seconds.
        timeout_s
            The time limit for all attempts together, in seconds.
        asks_only
            Whether the request changes nothing, so that it may be answered twice.

        Raises
        ------
        TritonicError
            What the last attempt raised.
        """
        if not self._most:
            return attempt(timeout_s)
        deadline = time.monotonic() + timeout_s
        for number in itertools.count():
            try:
                return attempt(max(deadline - time.monotonic(), 0.001))
            except (NoReplyError, ServerBusyError) as error:
                pause_s = _pause_s(error, number)
                late = time.monotonic() + pause_s >= deadline
                if number >= self._most or late or not _harmless(error, asks_only):
                    if number:
                        error.locate(f"after {number + 1} attempts")
                    raise
                _log.info("%s; again in %.2g s", error.message, pause_s)
            time.sleep(pause_s)
        raise AssertionError  # for mypy: the loop has no end


def _harmless(error: NoReplyError | ServerBusyError, asks_only: bool) -> bool:
    """Whether nothing can be done twice by another attempt, which may end in another way."""
    if isinstance(error, ServerBusyError):
        return True
    if error.lasting:
        return False
    return not error.sent or (asks_only and not isinstance(error, ServerTimeoutError))


def _pause_s(error: NoReplyError | ServerBusyError, number: int) -> float:
    usual_s: float = min(_FIRST_S * 2 ** min(number, 10), _LONGEST_S) * random.uniform(0.5, 1)  # noqa: S311
    return max(usual_s, error.after_s) if isinstance(error, ServerBusyError) else usual_s
