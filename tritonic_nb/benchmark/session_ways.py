"""The ways through a session."""

from __future__ import annotations

from typing import Any, ClassVar

from tritonic_nb.benchmark.way import TIMEOUT_S, Array, Way
from tritonic_nb.session import Session
from tritonic_nb.transport import Transport

__all__ = ["SessionCopies", "SessionFilled", "SessionInPlace", "SessionWire", "transport_of"]


def transport_of(session: Session) -> Transport:
    """Return the part of a session that sends its requests. Nobody but a benchmark needs it."""
    return session._transport


class SessionCopies(Way):
    """A session that is given an array and gives one."""

    key = "session"
    label = "Session, own copies"
    timed = "session.infer(x): a copy in, a copy out"
    copies: ClassVar[int | None] = 2
    kind = "system"

    def _open(self) -> None:
        endpoint = self.endpoint
        self.session = self._held.enter_context(
            Session(
                endpoint.url,
                endpoint.model,
                headers=endpoint.headers,
                shared_memory=self.kind,
                device=endpoint.device,
                timeout=TIMEOUT_S,
            )
        )
        # The sizes are told beforehand, as tritonclient wants them told. (Otherwise an output
        # of dynamic dimensions comes over the wire the first time.)
        self.session.register_inputs({endpoint.input: self.shape})
        self.session.register_outputs({endpoint.output: self.shape})

    def exchange(self) -> Any:
        """Infer."""
        return self.session.infer(self.array)[self.endpoint.output]

    def reconnect(self) -> None:
        """Let the next exchange open a new connection."""
        transport_of(self.session).close()  # closes what is idle


class SessionInPlace(SessionCopies):
    """A session's inputs filled where they lie, and the answer looked at where it lies."""

    key = "session_in_place"
    label = "Session, in place"
    timed = "session.infer(copy=False), session.inputs filled before"
    copies = 0

    def put(self, array: Array) -> None:
        """Fill the input where it lies."""
        self.session.inputs[self.endpoint.input][...] = array

    def exchange(self) -> Any:
        """Infer with what lies there."""
        return self.session.infer(copy=False)[self.endpoint.output]


class SessionFilled(SessionCopies):
    """The same from an array that lies elsewhere: filling the input is timed too."""

    key = "session_filled"
    label = "Session, filled, a view"
    timed = "session.inputs[...] = x, session.infer(copy=False)"
    copies = 1

    def exchange(self) -> Any:
        """Fill the input, infer, and look at the answer."""
        self.session.inputs[self.endpoint.input][...] = self.array
        return self.session.infer(copy=False)[self.endpoint.output]


class SessionWire(SessionCopies):
    """The same session without shared memory."""

    key = "session_wire"
    label = "Session, over the wire"
    timed = 'session.infer(x), shared_memory="none"'
    copies = None
    kind = "none"
