"""What the HTTP engines have in common, and which of them serves an address.

There are two, because nothing that was tried does both things well (ARCHITECTURE.md
has the figures): :class:`~tritonic_nb.transport.sockets.SocketEngine` for plain HTTP,
which costs next to nothing, and :class:`~tritonic_nb.transport.curl.CurlEngine` for
encryption and proxies.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from tritonic_nb.errors import ServerTimeoutError, ServerUnreachableError
from tritonic_nb.transport.address import SSLOptions, is_loopback, is_numeric
from tritonic_nb.transport.base import Engine

__all__ = [
    "CONNECT_TIMEOUT_S",
    "WAKE_S",
    "KeptConnections",
    "connection_closed",
    "header_lines",
    "lasting",
    "no_answer_in_time",
    "no_connection_in_time",
    "no_server",
    "open_engine",
    "untrusted",
]

CONNECT_TIMEOUT_S = 5.0
WAKE_S = 0.2
"""For how long, in seconds, Ctrl-C may go unnoticed during a wait."""


def open_engine(url: str, headers: dict[str, str], options: SSLOptions | None) -> Engine:
    """Return the engine for an address.

    Parameters
    ----------
    url
        The address in full, as :func:`~tritonic_nb.transport.address.base_url` gives it.
    headers
        Sent with every request.
    options
        For ``https``.
    """
    parts = urlsplit(url)
    proxies = {} if is_loopback(parts.hostname or "") else getproxies_environment()
    direct = parts.scheme == "http" and not {"http", "all"} & proxies.keys()
    if direct and sys.platform != "win32" and is_numeric(parts.hostname or ""):
        from tritonic_nb.transport.sockets import SocketEngine

        return SocketEngine(url, headers)
    from tritonic_nb.transport.curl import CurlEngine

    return CurlEngine(url, headers, options)


class Connection(Protocol):
    """A connection that can be kept for the next request."""

    def usable(self) -> bool:
        """Whether it is still open, and silent as it should be."""

    def close(self) -> None:
        """Close it; safe to repeat."""


_C = TypeVar("_C", bound=Connection)


class KeptConnections(Generic[_C]):
    """Connections without a request, for whichever thread needs one next.

    Parameters
    ----------
    make
        Makes a new one.
    """

    def __init__(self, make: Callable[[], _C]) -> None:
        self._make = make
        self._idle: deque[_C] = deque()
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> _C:
        """Return a connection: a kept one that is usable, or a new one."""
        if self._pid != os.getpid():  # forked: the sockets are the parent's
            self._idle, self._pid = deque(), os.getpid()
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread took it
                break
            if connection.usable():
                return connection
            connection.close()
        return self._make()

    def keep(self, connection: _C) -> None:
        """Keep a connection, whose exchange is complete."""
        self._idle.append(connection)

    def close(self) -> None:
        """Close all; safe to repeat."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread took it
                break


def header_lines(*headers: Mapping[str, str]) -> list[str]:
    """Return the lines of headers; a later one replaces one of before, in whichever case."""
    pairs = [pair for each in headers for pair in each.items()]
    return list({name.lower(): f"{name}: {value}" for name, value in pairs}.values())


# The errors of an exchange, in the same words whichever engine met with them.


def connection_closed(where: str) -> ServerUnreachableError:
    """Return the error for a connection that ended instead of a reply."""
    return ServerUnreachableError(
        f"{where} closed the connection before it answered",
        "the server may or may not have done it: look whether it still runs, and try again",
    )


def no_answer_in_time(where: str, timeout_s: float) -> ServerTimeoutError:
    """Return the error for a reply that was not complete in time."""
    return ServerTimeoutError(
        f"{where} did not answer within {timeout_s:.3g} s",
        "give more time (timeout=...), a smaller batch, or look at the server's load",
    )


def no_connection_in_time(where: str, timeout_s: float) -> ServerTimeoutError:
    """Return the error for a time limit that ended while connecting."""
    return ServerTimeoutError(
        f"{where} did not take the connection within {timeout_s:.3g} s",
        "give more time (timeout=...), and check that the server runs",
    )


def untrusted(where: str, reason: str) -> ServerUnreachableError:
    """Return the error for a certificate that is not trusted, or is another host's."""
    # libcurl's words for the second, and gRPC's: there no authority's file would help.
    if "name matches" in reason or "name does not match" in reason or "Peer name" in reason:
        return lasting(
            f"the certificate of {where} is for another host: {reason}",
            "use a name or number that stands in it, or have one made that has this one "
            "(subjectAltName); and check that this is your server",
        )
    return lasting(
        f"the certificate of {where} is not trusted: {reason}",
        "pass ssl=SSLOptions(ca_file=...) with the certificate authority's file",
    )


def lasting(message: str, remedy: str) -> ServerUnreachableError:
    """Return an error that another try would meet with, too."""
    error = ServerUnreachableError(message, remedy)
    error.lasting = True
    return error


def no_server(where: str, reason: str) -> ServerUnreachableError:
    """Return the error for an address at which no Triton answers."""
    return ServerUnreachableError(
        f"no Triton server answers at {where}: {reason}",
        "check the address and port (Triton's HTTP port is 8000; its gRPC port, 8001, is for "
        "protocol='grpc'), and that the server runs; tritonic_nb.serve() starts one here",
    )
