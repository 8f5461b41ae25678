"""The HTTP engine for encryption and proxies: libcurl, through pycurl.

Requests run on a multi handle, whose wait returns to the interpreter several times a
second, so that Ctrl-C is noticed; a plain ``Curl.perform`` delays it until the reply.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import pycurl

from tritonic_nb.errors import ServerTimeoutError, ServerUnreachableError
from tritonic_nb.transport.address import SSLOptions, is_loopback, without_password
from tritonic_nb.transport.base import Body, Moments, Reply, Request
from tritonic_nb.transport.engine import (
    CONNECT_TIMEOUT_S,
    WAKE_S,
    KeptConnections,
    connection_closed,
    header_lines,
    lasting,
    no_answer_in_time,
    no_connection_in_time,
    no_server,
    untrusted,
)

__all__ = ["CurlEngine"]

_CHUNK_NBYTES = 512 * 1024  # of a reply, per callback into Python
_HUNG_UP = (
    pycurl.E_GOT_NOTHING, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR, pycurl.E_PARTIAL_FILE,
)  # fmt: skip


@dataclass(frozen=True)
class _Message:
    """A request as libcurl takes it. It holds secrets."""

    method: str
    url: str
    headers: list[str] = field(repr=False)
    body: bytes = field(repr=False)


class CurlEngine:
    """An :class:`~tritonic_nb.transport.base.Engine` over libcurl.

    Parameters
    ----------
    url
        The address in full, as :func:`~tritonic_nb.transport.address.base_url` gives it.
    headers
        Sent with every request.
    options
        For ``https``.
    """

    def __init__(
        self, url: str, headers: dict[str, str] | None = None, options: SSLOptions | None = None
    ) -> None:
        self._url = url
        self._shown_url = without_password(url)
        # No "Expect: 100-continue": it costs a round trip that Triton does not need.
        self._headers = {"Expect": "", **(headers or {})}
        self._options = options or SSLOptions()
        self._kept = KeptConnections(lambda: _Connection(self._url, self._options))

    def write(self, request: Request) -> _Message:
        """Return a request as it will be sent."""
        lines = header_lines(self._headers, request.headers)
        return _Message(request.method, f"{self._url}/{request.path}", lines, request.body)

    def send(self, message: _Message, timeout_s: float, attached: Sequence[Body] = ()) -> Reply:
        """Send a request and wait for its reply.

        Parameters
        ----------
        message
            What to send, as :meth:`write` gave it.
        timeout_s
            The time limit for the whole exchange, in seconds.
        attached
            What follows its body. It is copied: libcurl takes bytes.

        Raises
        ------
        ServerUnreachableError
            If nothing answers, or not in HTTP, or the certificate is not trusted.
        ServerTimeoutError
            If the reply is not complete in time.
        """
        if attached:
            message = replace(message, body=b"".join((message.body, *attached)))
        connection = self._kept.take()
        try:
            reply = self._exchange(connection, message, timeout_s)
        except _NotSentError:  # the idle connection had ended, which libcurl saw before we did
            connection.close()
            connection = _Connection(self._url, self._options)
            reply = self._exchange(connection, message, timeout_s)
        self._kept.keep(connection)
        return reply

    def _exchange(self, connection: _Connection, message: _Message, timeout_s: float) -> Reply:
        try:
            return connection.exchange(message, timeout_s)
        except pycurl.error as error:
            connection.close()
            mapped = self._mapped(error, connection, timeout_s)
            mapped.sent = connection.connected
            raise mapped from error
        except BaseException:  # interrupted: the connection is in the middle of an exchange
            connection.close()
            raise

    def address(self, path: str) -> dict[str, object]:
        """Return where and how a request would go; see :class:`Engine`."""
        ours = {name: value for name, value in self._headers.items() if value}
        return {"url": f"{self._url}/{path}", "headers": ours, **asdict(self._options)}

    def close(self) -> None:
        """Close the idle connections; safe to repeat."""
        self._kept.close()

    def _mapped(
        self, error: pycurl.error, connection: _Connection, timeout_s: float
    ) -> ServerUnreachableError | ServerTimeoutError:
        code, text = error.args[0], error.args[1]
        where = self._shown_url
        if connection.refused_socket or (connection.connected and code in _HUNG_UP):
            return self._without_certificate(connection_closed(where))
        if code == pycurl.E_OPERATION_TIMEDOUT and connection.connected:
            return no_answer_in_time(where, timeout_s)
        if code == pycurl.E_OPERATION_TIMEDOUT and timeout_s < CONNECT_TIMEOUT_S:
            return no_connection_in_time(where, timeout_s)
        return self._without_connection(code, text)

    def _without_connection(self, code: int, text: str) -> ServerUnreachableError:
        """Return our error where none came about that is encrypted, passed on and HTTP."""
        where = self._shown_url
        if code == pycurl.E_SSL_CACERT_BADFILE:
            return lasting(
                f"the certificates that {where} is checked with cannot be read: {text}",
                "pass ssl=SSLOptions(ca_file=...) with a PEM file that this user may read",
            )
        if code == pycurl.E_PEER_FAILED_VERIFICATION:
            return untrusted(where, text)
        if "CONNECT tunnel failed" in text:
            return ServerUnreachableError(
                f"the proxy before {where} did not let the connection through: {text}",
                "look at https_proxy (with 407 it demands a login: "
                "http://USER:PASSWORD@PROXY:PORT); no_proxy names hosts that need none",
            )
        unreachable = no_server(where, text)
        unreachable.lasting = code == pycurl.E_UNSUPPORTED_PROTOCOL  # what came is no HTTP/1
        return self._without_certificate(unreachable) if code in _HUNG_UP else unreachable

    def _without_certificate(self, error: ServerUnreachableError) -> ServerUnreachableError:
        """Add what is likely where an encrypted connection is cut off before any reply.

        A server that demands a certificate of the client's says so only after the client
        has begun to send (TLS 1.3), and many just hang up.
        """
        if self._url.startswith("https") and not self._options.cert_file:
            remedy = (
                f"{error.remedy}; where it demands a certificate of yours, pass "
                "ssl=SSLOptions(cert_file=..., key_file=...)"
            )
            return ServerUnreachableError(error.message, remedy)
        return error


class _NotSentError(Exception):
    """A kept connection turned out to be closed before anything was sent."""


class _Connection:
    """One easy handle on its own multi handle, whose connection is kept alive.

    When a kept connection is closed by the server instead of a reply, libcurl
    sends the request again over a new one. It cannot know whether the server
    had begun with the first, and an inference must not run twice unasked: so
    only a connection's first exchange may open a socket.
    """

    def __init__(self, url: str, options: SSLOptions) -> None:
        self.connected = False
        self.refused_socket = False
        self._used = False
        self._opened: list[socket.socket] = []
        self._descriptor = -1
        self._multi = pycurl.CurlMulti()
        self._curl = curl = pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(CONNECT_TIMEOUT_S * 1000))
        curl.setopt(pycurl.BUFFERSIZE, _CHUNK_NBYTES)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        if is_loopback(urlsplit(url).hostname or ""):
            curl.setopt(pycurl.PROXY, "")
        if url.startswith("https"):
            self._encrypt(options)

    def exchange(self, message: _Message, timeout_s: float) -> Reply:
        """Send a message and return the reply, or raise pycurl.error."""
        curl = self._curl
        received: list[bytes] = []
        header_lines: list[bytes] = []
        curl.setopt(pycurl.URL, message.url)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(timeout_s * 1000)))
        curl.setopt(pycurl.HTTPHEADER, message.headers)
        if message.method == "POST":
            curl.setopt(pycurl.POSTFIELDS, message.body)
        else:
            curl.setopt(pycurl.HTTPGET, 1)
        curl.setopt(pycurl.WRITEFUNCTION, received.append)
        curl.setopt(pycurl.HEADERFUNCTION, header_lines.append)
        begun = time.perf_counter()
        self._run()
        ended = time.perf_counter()
        # On libcurl's own clock, and since it began; it does not tell when all was sent.
        first = min(begun + curl.getinfo(pycurl.STARTTRANSFER_TIME), ended)
        self._used = True
        if message.method == "POST":
            curl.setopt(pycurl.POSTFIELDS, b"")  # a large body is not kept until the next call
        return Reply(
            curl.getinfo(pycurl.RESPONSE_CODE),
            _parse(header_lines),
            b"".join(received),
            Moments(begun, begun, first, ended),
        )

    def usable(self) -> bool:
        """Whether the kept connection is still open, and silent as it should be."""
        if self._descriptor < 0:
            return False
        if not hasattr(select, "poll"):  # Windows
            return not select.select([self._descriptor], [], [], 0)[0]
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        return not waiting.poll(0)

    def close(self) -> None:
        """Close it; safe to repeat."""
        self._multi.close()
        self._curl.close()

    def _open_socket(
        self,
        _purpose: int,
        address: tuple[int, int, int, Any],
    ) -> socket.socket | int:
        if self._used:
            self.refused_socket = True
            return int(pycurl.SOCKET_BAD)
        opened = socket.socket(*address[:3])
        self._opened.append(opened)
        return opened

    def _run(self) -> None:
        multi = self._multi
        multi.add_handle(self._curl)
        try:
            running = 1
            while running:
                _, running = multi.perform()
                due_ms = multi.timeout()  # when libcurl wants to look at its own clock; -1: never
                wait_s = WAKE_S if due_ms < 0 else min(WAKE_S, due_ms / 1000)
                if running and multi.select(wait_s) == -1:
                    time.sleep(0.001)  # nothing to wait on yet, such as while a name is resolved
            _, _, failed = multi.info_read()
            if failed:
                self.connected = self._curl.getinfo(pycurl.REQUEST_SIZE) > 0
                if self.refused_socket and not self.connected:
                    raise _NotSentError
                raise pycurl.error(*failed[0][1:])
        finally:
            # Told only while the handle is on the multi handle; -1 for one that is closed.
            self._descriptor = self._curl.getinfo(pycurl.ACTIVESOCKET)
            multi.remove_handle(self._curl)
            while self._opened:  # pycurl has duplicates of its own
                self._opened.pop().close()

    def _encrypt(self, options: SSLOptions) -> None:
        # The wheel's libcurl does not know where this system keeps its certificates.
        ca_file = options.ca_file or ssl.get_default_verify_paths().cafile
        if ca_file:
            self._curl.setopt(pycurl.CAINFO, os.fsencode(ca_file))
        if options.cert_file:
            self._curl.setopt(pycurl.SSLCERT, os.fsencode(options.cert_file))
        if options.key_file:
            self._curl.setopt(pycurl.SSLKEY, os.fsencode(options.key_file))
        if not options.verify:
            self._curl.setopt(pycurl.SSL_VERIFYPEER, 0)
            self._curl.setopt(pycurl.SSL_VERIFYHOST, 0)


def _parse(lines: list[bytes]) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}
