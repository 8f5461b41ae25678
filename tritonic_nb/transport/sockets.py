"""The HTTP engine for plain HTTP: a socket, and llhttp to read what comes back.

A request is sent as bytes that were made beforehand, and a reply goes through
httptools' binding of llhttp, the parser of Node.js: together they cost some
microseconds more than the bare socket, where libcurl costs tens.

Not on Windows, which has no ``poll``, and not for names of other hosts: to resolve them
may take long, and nothing here could interrupt it.

A request is never sent twice: a kept connection is looked at before it is used,
and one that ends instead of a reply is an error.
"""

from __future__ import annotations

import select
import socket
import time
import weakref
from dataclasses import asdict
from urllib.parse import urlsplit

import httptools

from tritonic_nb.errors import NoReplyError
from tritonic_nb.transport.address import SSLOptions, login_header, without_password
from tritonic_nb.transport.base import Moments, Reply, Request
from tritonic_nb.transport.engine import (
    CONNECT_TIMEOUT_S,
    WAKE_S,
    KeptConnections,
    connection_closed,
    header_lines,
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
            **login_header(url),
            **self._own_headers,
        }
        self._address = (parts.hostname or "", _PORT if parts.port is None else parts.port)
        self._kept: KeptConnections[_Connection] = KeptConnections(_Connection)

    def write(self, request: Request) -> bytes:
        """Return a request as it will be sent."""
        length = {"Content-Length": str(len(request.body))} if request.method == "POST" else {}
        lines = header_lines(self._headers, request.headers, length)
        head = [f"{request.method} {self._path}/{request.path} HTTP/1.1", *lines, "", ""]
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
        begun = time.perf_counter()
        deadline = time.monotonic() + timeout_s
        connection = self._kept.take()
        try:
            if connection.socket is None:
                connection.open(self._address, min(timeout_s, CONNECT_TIMEOUT_S))
            reply = connection.exchange(message, deadline, begun)
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

    def open(self, address: tuple[str, int], timeout_s: float) -> None:
        """Connect, or raise OSError."""
        self.socket = opened = socket.create_connection(address, timeout_s)
        # Also where an interrupt keeps the connection from being kept, or closed.
        self._closer = weakref.finalize(self, opened.close)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # No time limit of Python's: each call would ask first whether it may be made.
        opened.setblocking(False)
        self._poll.register(opened, select.POLLIN)

    def exchange(self, message: bytes, deadline: float, begun: float) -> Reply:
        """Send a message and return the reply, which tells that it began at `begun`.

        Raises
        ------
        OSError
            If the connection ends before the reply does, or TimeoutError.
        httptools.HttpParserError
            If what comes is not HTTP.
        """
        self.sent = self.reusable = False
        reading = self._reading
        whole = self._send(message, deadline)
        sent = time.perf_counter()
        first = 0.0
        while not reading.complete:
            count = self._receive(deadline)
            first = first or time.perf_counter()
            if not count and reading.ends_with_connection():
                break
            if not count:
                raise ConnectionResetError("the connection ended before the reply did")
            reading.feed(self._chunk[:count])
        self.reusable = whole and reading.leaves_connection()
        moments = Moments(begun, sent, first, time.perf_counter())
        reply = reading.reply()
        reading.start()  # a large reply is not kept until the next one
        return Reply(reply.status, reply.headers, reply.body, moments)

    def usable(self) -> bool:
        """Whether the connection is still open, and silent as it should be."""
        return self.socket is not None and not self._poll.poll(0)

    def close(self) -> None:
        """Close it; safe to repeat."""
        self._reading.close()
        if self._closer is not None:
            self._closer()
        elif self.socket is not None:  # interrupted as soon as it was open
            self.socket.close()

    def _send(self, message: bytes, deadline: float) -> bool:
        """Send a message, and return whether all of it went.

        A server that refuses a request may answer, and hang up, before it has read it.
        """
        assert self.socket is not None  # noqa: S101 - it was opened
        _left_s(deadline)
        self.sent = True
        at = self._sent(message)
        if at == len(message):  # as it is when tensors lie in shared memory
            return True
        rest = memoryview(message)
        try:
            self._poll.modify(self.socket, select.POLLIN | select.POLLOUT)
            while at < len(message):
                if self._wait(deadline) & ~select.POLLOUT:
                    return False
                at += self._sent(rest[at:])
        except (BrokenPipeError, ConnectionResetError):
            return False
        finally:
            self._poll.modify(self.socket, select.POLLIN)
        return True

    def _sent(self, data: bytes | memoryview) -> int:
        """Send what goes at once, and return how much it was."""
        assert self.socket is not None  # noqa: S101 - it was opened
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0

    def _receive(self, deadline: float) -> int:
        """Wait for the next bytes of a reply and return how many have come; 0 at the end."""
        assert self.socket is not None  # noqa: S101 - it was opened
        while True:
            self._wait(deadline)
            try:
                return self.socket.recv_into(self._chunk)
            except BlockingIOError:  # what had come was not for us
                continue

    def _wait(self, deadline: float) -> int:
        """Wait until the socket is ready, and return for what."""
        while True:
            # In steps: a signal may come to another thread, and is noticed in this one.
            ready = self._poll.poll(min(_left_s(deadline), WAKE_S) * 1000)
            if ready:
                return ready[0][1]


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
        except httptools.HttpParserUpgrade as error:  # which is no such error itself
            raise httptools.HttpParserError("another protocol") from error
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


def _left_s(deadline: float) -> float:
    """Return the seconds until a time limit, or raise TimeoutError."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
