"""The HTTP engine for plain HTTP: a socket, and llhttp to read what comes back.

A request is sent as bytes that were made beforehand, and a reply goes through
httptools' binding of llhttp, the parser of Node.js: together they cost some
microseconds more than the bare socket, where libcurl costs tens.

Not on Windows, where nothing interrupts a wait for a socket.

A request is never sent twice: a kept connection is looked at before it is used,
and one that ends instead of a reply is an error.
"""

from __future__ import annotations

import select
import socket
import struct
import time
import weakref
from base64 import b64encode
from dataclasses import asdict
from urllib.parse import unquote, urlsplit

import httptools

from tritonic_nb.errors import NoReplyError
from tritonic_nb.transport.address import SSLOptions, without_password
from tritonic_nb.transport.base import Reply, Request
from tritonic_nb.transport.engine import (
    CONNECT_TIMEOUT_S,
    WAKE_S,
    KeptConnections,
    connection_closed,
    no_answer_in_time,
    no_connection_in_time,
    no_server,
)

__all__ = ["SocketEngine"]

_CHUNK_NBYTES = 256 * 1024  # of a reply, at a time
_LONGEST_HEAD_NBYTES = 256 * 1024  # of a reply: a server's that never ends it is not read on
_PORT = 80
_FINAL = 200  # the lowest status of a reply that is not a mere announcement
_LENGTHS = {"content-length", "transfer-encoding"}  # headers that tell where a body ends


class SocketEngine:
    """An :class:`~tritonic_nb.transport.base.Engine` over plain sockets.

    Parameters
    ----------
    url
        The address in full, with ``http://``.
    headers
        Sent with every request.
    """

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        parts = urlsplit(url)
        self._url = url
        self._shown_url = without_password(url)
        self._path = parts.path
        self._own_headers = dict(headers or {})
        self._headers = {
            "Host": parts.netloc.rpartition("@")[2],
            **_login(parts.username, parts.password),
            **self._own_headers,
        }
        self._address = (parts.hostname or "", parts.port or _PORT)
        self._kept: KeptConnections[_Connection] = KeptConnections(_Connection)

    def write(self, request: Request) -> bytes:
        """Return a request as it will be sent."""
        headers = [*self._headers.items(), *request.headers.items()]
        if request.method == "POST":
            headers.append(("Content-Length", str(len(request.body))))
        # A header that is given replaces one of ours, in whichever case it is written.
        lines = {name.lower(): f"{name}: {value}" for name, value in headers}
        head = [f"{request.method} {self._path}/{request.path} HTTP/1.1", *lines.values(), "", ""]
        return "\r\n".join(head).encode("ascii") + request.body

    def send(self, message: bytes, timeout_s: float) -> Reply:
        """Send a request and wait for its reply.

        Parameters
        ----------
        message
            What to send, as :meth:`write` gave it.
        timeout_s
            The time limit for the whole exchange, in seconds.

        Raises
        ------
        ServerUnreachableError
            If nothing answers, or not in HTTP.
        ServerTimeoutError
            If the reply is not complete in time.
        """
        deadline = time.monotonic() + timeout_s
        connection = self._kept.take()
        try:
            if connection.socket is None:
                connection.open(self._address, min(timeout_s, CONNECT_TIMEOUT_S))
            reply = connection.exchange(message, deadline)
        except (OSError, httptools.HttpParserError) as error:
            connection.close()
            raise self._mapped(error, connection, timeout_s) from error
        except BaseException:  # interrupted: the connection is in the middle of an exchange
            connection.close()
            raise
        if connection.reusable:
            self._kept.keep(connection)
        else:
            connection.close()
        return reply

    def address(self, path: str) -> dict[str, object]:
        """Return where and how a request would go; see :class:`Engine`."""
        return {
            "url": f"{self._url}/{path}", "headers": self._own_headers, **asdict(SSLOptions()),
        }  # fmt: skip

    def close(self) -> None:
        """Close the idle connections; safe to repeat."""
        self._kept.close()

    def _mapped(self, error: Exception, connection: _Connection, timeout_s: float) -> NoReplyError:
        where = self._shown_url
        mapped: NoReplyError
        if isinstance(error, httptools.HttpParserError):
            mapped = no_server(where, f"what came is not HTTP ({error})")
        elif isinstance(error, TimeoutError) and connection.sent:
            mapped = no_answer_in_time(where, timeout_s)
        elif isinstance(error, TimeoutError) and timeout_s < CONNECT_TIMEOUT_S:
            mapped = no_connection_in_time(where, timeout_s)
        elif connection.sent:
            mapped = connection_closed(where)
        else:
            mapped = no_server(where, getattr(error, "strerror", None) or str(error))
        mapped.sent = connection.sent
        return mapped


class _Connection:
    """One connection, opened when it is first needed.

    Attributes
    ----------
    socket
        None until it is open.
    sent
        Whether the server may have got some of the last request.
    reusable
        Whether the last exchange left the connection fit for another one.
    """

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.sent = False
        self.reusable = False
        self._reading = _Reading()
        self._chunk = memoryview(bytearray(_CHUNK_NBYTES))
        self._closer: weakref.finalize[[], _Connection] | None = None
        self._poll = select.poll()
        self._wake_s = 0.0

    def open(self, address: tuple[str, int], timeout_s: float) -> None:
        """Connect, or raise OSError."""
        try:
            self.socket = opened = socket.create_connection(address, timeout_s)
            # Also where an interrupt keeps the connection from being kept, or closed.
            self._closer = weakref.finalize(self, opened.close)
        except UnicodeError as error:  # a host's name with a part of more than 63 letters
            raise OSError(str(error)) from error
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Time limits are the kernel's: with Python's own, each call would wait and ask in turn.
        opened.settimeout(None)
        self._wake_after(WAKE_S)
        self._poll.register(opened, select.POLLIN)

    def exchange(self, message: bytes, deadline: float) -> Reply:
        """Send a message and return the reply.

        Raises
        ------
        OSError
            If the connection ends before the reply does, or TimeoutError.
        httptools.HttpParserError
            If what comes is not HTTP.
        """
        self.sent, self.reusable = True, False
        reading = self._reading
        reading.start()
        self._send(message, deadline)
        while not reading.complete:
            count = self._receive(deadline)
            if not count and reading.ends_with_connection():
                break
            if not count:
                raise ConnectionResetError("the connection ended before the reply did")
            reading.feed(self._chunk[:count])
        self.reusable = reading.leaves_connection()
        return reading.reply()

    def usable(self) -> bool:
        """Whether the connection is still open, and silent as it should be."""
        return self.socket is not None and not self._poll.poll(0)

    def close(self) -> None:
        """Close it; safe to repeat."""
        self._reading.close()
        if self._closer is not None:
            self._closer()

    def _send(self, message: bytes, deadline: float) -> None:
        assert self.socket is not None  # noqa: S101 - it was opened
        at = 0
        while at < len(message):
            left_s = _left_s(deadline)
            try:
                at += self.socket.send(memoryview(message)[at:])
            except BlockingIOError:  # nothing went for a while
                self._shorten(left_s)
            except (BrokenPipeError, ConnectionResetError):
                return  # a server that refuses a request may hang up before it has read it

    def _receive(self, deadline: float) -> int:
        """Wait for the next bytes of a reply and return how many have come; 0 at the end."""
        assert self.socket is not None  # noqa: S101 - it was opened
        self._shorten(_left_s(deadline))
        while True:
            try:
                return self.socket.recv_into(self._chunk)
            except BlockingIOError:  # nothing came for a while
                self._shorten(_left_s(deadline))

    def _shorten(self, left_s: float) -> None:
        """Have the next waits end in time."""
        wake_s = min(left_s, WAKE_S)
        if wake_s != self._wake_s:
            self._wake_after(wake_s)

    def _wake_after(self, wake_s: float) -> None:
        assert self.socket is not None  # noqa: S101 - it was opened
        timeval = struct.pack("ll", int(wake_s), int(wake_s % 1 * 1e6) or 1)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, option, timeval)
        self._wake_s = wake_s


class _Reading:
    """A reply as it comes in: what llhttp tells of it.

    Attributes
    ----------
    complete
        Whether all of it has come.
    """

    def __init__(self) -> None:
        self._found: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        # The parser calls these for each header and each piece of a body: containers' own
        # methods, because there is nothing more to do, and little time to do it.
        self.on_header = self._found.__setitem__
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self.start()

    def start(self) -> None:
        """Expect a new reply."""
        self.complete = False
        self._keep = False
        self._reply: Reply | None = None
        self._has_head = False
        self._head_nbytes = 0
        self._found.clear()
        self._pieces.clear()

    def feed(self, data: memoryview) -> None:
        """Take the next bytes.

        Raises
        ------
        httptools.HttpParserError
            If they are not HTTP.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:  # an interrupt, in one of those below
            raise error.__context__ or error from None
        except httptools.HttpParserError:
            if not self.complete:
                raise
            self._keep = False  # what follows the reply is nobody's
        if not self._has_head:
            self._head_nbytes += len(data)
            if self._head_nbytes > _LONGEST_HEAD_NBYTES:
                raise httptools.HttpParserError("its head has no end")

    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is the end of the reply, which tells no length."""
        if not self._has_head:
            return False
        self._reply = self._read()
        return not _LENGTHS & self._reply.headers.keys()

    def leaves_connection(self) -> bool:
        """Whether the connection can carry another exchange."""
        return self._keep

    def reply(self) -> Reply:
        """Return the reply."""
        return self._reply or self._read()

    def close(self) -> None:
        """Let go of the parser, which refers to this one; safe to repeat."""
        self.__dict__.pop("_parser", None)

    def _read(self) -> Reply:
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in self._found.items()
        }
        return Reply(self._parser.get_status_code(), headers, body)

    # What the parser calls, besides

    def on_message_begin(self) -> None:
        """Notice a reply that nobody asked for."""
        self._keep = False

    def on_headers_complete(self) -> None:
        """Note that the head has an end."""
        self._has_head = True

    def on_message_complete(self) -> None:
        """Take the reply, unless it is a mere announcement (status 1xx), or one too many."""
        if self.complete:
            return
        if self._parser.get_status_code() >= _FINAL:
            self.complete = True
            self._reply = self._read()
            self._keep = bool(self._parser.should_keep_alive())  # the parser knows it only now
        else:
            self.start()


def _login(user: str | None, password: str | None) -> dict[str, str]:
    """Return the header for a name and password that stand in an address."""
    if user is None:
        return {}
    login = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Authorization": f"Basic {b64encode(login).decode()}"}


def _left_s(deadline: float) -> float:
    """Return the seconds until a time limit, or raise TimeoutError."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
