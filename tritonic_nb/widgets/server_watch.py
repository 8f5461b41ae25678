"""Asking a session's server, every now and then, whether it answers and what it has."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tritonic_nb.errors import NoReplyError, SessionClosedError, TritonicError
from tritonic_nb.leftovers import ServerRegion
from tritonic_nb.models import ModelStatus
from tritonic_nb.session import Session

__all__ = ["ServerAnswer", "ServerWatch"]

_POLL_S = 2.0
_POLL_SHARE = 0.05  # of the time, for a slow server
_PATIENCE_S = 5.0  # a server that hangs keeps a question for half a minute

_T = TypeVar("_T")

_log = logging.getLogger("tritonic_nb.widgets")


@dataclass(frozen=True)
class ServerAnswer:
    """What a server has, as far as it tells.

    Attributes
    ----------
    url
        Its address.
    away
        Why it cannot be reached; empty while it can. The lists are empty then.
    models, models_reason
        Those of its repository, or why they are not known.
    regions, regions_reason
        All that it has registered, or why that is not known.
    """

    url: str
    away: str = ""
    models: tuple[ModelStatus, ...] = ()
    models_reason: str = ""
    regions: tuple[ServerRegion, ...] = ()
    regions_reason: str = ""


class ServerWatch:
    """Asks in a thread of its own, which lasts for one question: a server may hang.

    Not safe to share between threads.

    Parameters
    ----------
    session
        Whose server is asked.
    told
        Gets each answer, in that thread.
    """

    def __init__(self, session: Session, told: Callable[[ServerAnswer], None]) -> None:
        self._session = session
        self._told = told
        self._asking: threading.Thread | None = None
        self._asked_url = ""
        self._asked_s = 0.0
        self.due_s = 0.0

    def ask(self, wait_s: float = 0.0) -> None:
        """Ask, and wait so long for the answer; not while the last question is still open.

        One that was asked elsewhere, before the session went to another server, is let be.
        """
        if self._is_open():
            self.wait(wait_s)
        if not self._is_open():
            self._asked_url, self._asked_s = self._session.url, time.monotonic()
            self._asking = threading.Thread(
                target=self._ask, args=(self._asked_url,), name="tritonic_nb-asks", daemon=True
            )
            self._asking.start()
            self.wait(wait_s)
        self.due_s = max(self.due_s, time.monotonic() + _POLL_S)
        if self._is_open() and time.monotonic() - self._asked_s > _PATIENCE_S:
            why = f"it has not answered for {time.monotonic() - self._asked_s:.0f} s"
            self._told(ServerAnswer(self._asked_url, away=why))

    def ask_soon(self) -> None:
        """Have the next question due at once."""
        self.due_s = 0.0

    def _is_open(self) -> bool:
        asking = self._asking is not None and self._asking.is_alive()
        return asking and self._asked_url == self._session.url

    def wait(self, wait_s: float) -> None:
        """Wait so long for a question that is open; one to a server that hangs ends later."""
        if self._asking is not None and self._asking is not threading.current_thread():
            self._asking.join(wait_s)

    def _ask(self, url: str) -> None:
        started = time.monotonic()
        try:
            answer = self._answer(url)
        except SessionClosedError:
            return
        except Exception:  # a fault of ours: there is another question soon
            _log.exception("the server at %s could not be asked", url)
            return
        self.due_s = time.monotonic() + max(
            _POLL_S, (time.monotonic() - started) / _POLL_SHARE if not answer.away else 0
        )
        if url == self._session.url:
            self._told(answer)

    def _answer(self, url: str) -> ServerAnswer:
        try:
            models, models_reason = _told(self._session.models)
            regions, regions_reason = _told(self._session.server_regions)
        except NoReplyError as error:
            return ServerAnswer(url, away=error.message)
        return ServerAnswer(url, "", models, models_reason, regions, regions_reason)


def _told(ask: Callable[[], tuple[_T, ...]]) -> tuple[tuple[_T, ...], str]:
    """Return what a server tells, or nothing and why it keeps that to itself."""
    try:
        return tuple(ask()), ""
    except (NoReplyError, SessionClosedError):
        raise
    except TritonicError as error:
        return (), f"{error.message}; {error.remedy}"
