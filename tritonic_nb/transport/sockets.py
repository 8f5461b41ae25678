"""The HTTP engine for plain HTTP: a socket, and llhttp to read what comes back.

A request is sent as bytes that were made beforehand, what is attached to it from where it
lies, and a reply goes through httptools' binding of llhttp, the parser of Node.js: together
they cost some microseconds more than the bare socket, where libcurl costs tens. Of a large
reply the parser gets the head and the beginning; the rest, of which it would only count the
bytes, is received straight into the memory that the caller gets.

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
from collections.abc import Sequence
from dataclasses import asdict
from urllib.parse import urlsplit

import httptools
import numpy as np

from tritonic_nb.errors import NoReplyError
from tritonic_nb.transport.address import SSLOptions, login_header, without_password
from tritonic_nb.transport.base import Body, Moments, Reply, Request
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
_LARGE_NBYTES = 256 * 1024  # that are missing of a reply, for them to be received in one piece
_TRUSTED_NBYTES = 64 * 2**20  # for which memory is taken because a server says that they come
_GROWTH = 4  # the most memory, over what has come of a reply that is larger than that
_STEP_NBYTES = 16 * 2**20  # copied without a look at signals
_ALIGNMENT = 64  # of memory, in bytes: a line of a cache
_MOST_PIECES = 1024  # in one system call (IOV_MAX of Linux and macOS)
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
        length = {"Content-Length": str(request.nbytes)} if request.method == "POST" else {}
        lines = header_lines(self._headers, request.headers, length)
        head = [f"{request.method} {self._path}/{request.path} HTTP/1.1", *lines, "", ""]
        return "\r\n".join(head).encode("ascii") + request.body

    def send(self, message: bytes, timeout_s: float, attached: Sequence[Body] = ()) -> Reply:
        """Send a request and wait for its reply.

        Parameters
        ----------
        message
            What to send, as :meth:`write` gave it.
        timeout_s
            The time limit for the whole exchange, in seconds.
        attached
            What follows it.

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
            reply = connection.exchange([message, *attached], deadline, begun)
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
            mapped.lasting = True
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

    def exchange(self, pieces: Sequence[Body], deadline: float, begun: float) -> Reply:
        """Send a request in pieces and return the reply, which tells that it began at `begun`.

        Raises
        ------
        OSError
            If the connection ends before the reply does, or TimeoutError.
        httptools.HttpParserError
            If what comes is not HTTP.
        """
        self.sent = self.reusable = False
        reading = self._reading
        whole = self._send(pieces, deadline)
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
            if not reading.complete and reading.missing_nbytes >= _LARGE_NBYTES:
                self._receive_rest(deadline)
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

    def _send(self, pieces: Sequence[Body], deadline: float) -> bool:
        """Send a request, and return whether all of it went.

        A server that refuses a request may answer, and hang up, before it has read it.
        """
        assert self.socket is not None  # noqa: S101 - it was opened
        _left_s(deadline)
        self.sent = True
        rest = self._sent(pieces)
        if not rest:  # as it is when tensors lie in shared memory
            return True
        try:
            self._poll.modify(self.socket, select.POLLIN | select.POLLOUT)
            while rest:
                if self._wait(deadline) & ~select.POLLOUT:
                    return False
                rest = self._sent(rest)
        except (BrokenPipeError, ConnectionResetError):
            return False
        finally:
            self._poll.modify(self.socket, select.POLLIN)
        return True

    def _sent(self, pieces: Sequence[Body]) -> Sequence[Body]:
        """Send what goes at once, and return what is left."""
        assert self.socket is not None  # noqa: S101 - it was opened
        try:
            return _after(pieces, self.socket.sendmsg(pieces[:_MOST_PIECES]))
        except BlockingIOError:
            return pieces

    def _receive(self, deadline: float, into: memoryview | None = None) -> int:
        """Wait for the next bytes of a reply and return how many have come; 0 at the end.

        They are put to the start of `into`, by default the connection's own memory.
        """
        assert self.socket is not None  # noqa: S101 - it was opened
        while True:
            self._wait(deadline)
            try:
                return self.socket.recv_into(self._chunk if into is None else into)
            except BlockingIOError:  # what had come was not for us
                continue

    def _receive_rest(self, deadline: float) -> None:
        """Receive all that is missing of a reply, into one piece of memory."""
        body = self._reading.begun_body()
        while room := body.room():
            count = self._receive(deadline, room)
            if not count:
                raise ConnectionResetError("the connection ended before the reply did")
            body.take(count)
        self._reading.end(body.whole())

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
        self._new_parser()
        self.start()

    def _new_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

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

    @property
    def missing_nbytes(self) -> int:
        """The bytes that are still to come of a reply, as far as its head tells."""
        told = self._told_nbytes()
        return told - sum(map(len, self._pieces)) if told else 0

    def begun_body(self) -> _LargeBody:
        """Return the body, of which some bytes are missing, for its rest to be put to it."""
        body = _LargeBody(self._told_nbytes())
        for piece in self._pieces:
            body.put(piece)
        self._pieces.clear()
        return body

    def end(self, body: memoryview) -> None:
        """Take the whole body, of which the parser knows the beginning."""
        self._keep = bool(self._parser.should_keep_alive())
        self._reply = self._read()._replace(body=body)
        self.complete = True
        self._new_parser()  # the other one still waits for the body

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

    def _told_nbytes(self) -> int:
        """Return the size of the body, where the parser has found one that is well told; or 0."""
        if not self._has_head or self._parser.get_status_code() < _FINAL:
            return 0
        lengths = [v for name, v in self._found.items() if name.lower() == b"content-length"]
        return int(lengths[0]) if lengths else 0

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


class _LargeBody:
    """The body of a large reply, in one piece of memory.

    Parameters
    ----------
    nbytes
        How long it will be, as the server says: memory for much more than what has come is
        taken up to a limit only.
    """

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._at = 0
        self._memory = _memory(min(nbytes, _TRUSTED_NBYTES))

    def put(self, piece: bytes) -> None:
        """Take bytes that have come."""
        self._memory[self._at : self._at + len(piece)] = piece
        self._at += len(piece)

    def room(self) -> memoryview:
        """Return memory for the next bytes; none when all have come."""
        if self._at == len(self._memory) < self._nbytes:
            self._grow()
        return self._memory[self._at :]

    def take(self, count: int) -> None:
        """Note that so many bytes were put to the beginning of the room."""
        self._at += count

    def whole(self) -> memoryview:
        """Return all of it."""
        return self._memory

    def _grow(self) -> None:
        larger = _memory(min(self._nbytes, _GROWTH * self._at))
        for start in range(0, self._at, _STEP_NBYTES):  # for Ctrl-C to be noticed
            end = min(start + _STEP_NBYTES, self._at)
            larger[start:end] = self._memory[start:end]
        self._memory = larger


def _memory(nbytes: int) -> memoryview:
    """Return new memory, which nothing is written to (a bytearray is filled with zeros).

    Its end is aligned, and so is what lies there: of any size that is a multiple of its items'.
    """
    memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
    address = int(memory.__array_interface__["data"][0])
    start = -(address + nbytes) % _ALIGNMENT
    return memory.data[start : start + nbytes]


def _after(pieces: Sequence[Body], count: int) -> Sequence[Body]:
    """Return what is left of pieces when so many bytes are gone."""
    for index, piece in enumerate(pieces):
        if count < len(piece):
            return [memoryview(piece)[count:], *pieces[index + 1 :]]
        count -= len(piece)
    return []


def _left_s(deadline: float) -> float:
    """Return the seconds until a time limit, or raise TimeoutError."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
