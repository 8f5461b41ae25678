"""The HTTP engine: libcurl, through pycurl.

It keeps connections alive, knows TLS and proxies, and can be shared by threads
(ARCHITECTURE.md says why it and no other, with figures). Requests run on a
multi handle, whose wait returns to the interpreter several times a second, so
that Ctrl-C is noticed; a plain ``Curl.perform`` delays it until the reply.
"""

from __future__ import annotations

import ipaddress
import os
import re
import select
import socket
import ssl
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import pycurl

from tritonic_nb.errors import (
    ArgumentError,
    ServerTimeoutError,
    ServerUnreachableError,
    brief,
)
from tritonic_nb.transport.base import Reply, Request

__all__ = ["CurlEngine", "SSLOptions", "base_url", "is_loopback", "without_password"]

_CONNECT_TIMEOUT_MS = 5_000
_WAKE_S = 0.2  # how long Ctrl-C may go unnoticed
_CHUNK_NBYTES = 512 * 1024  # of a reply, per callback into Python
_DEFAULT_PORT = 8000  # Triton's HTTP port
_HUNG_UP = (
    pycurl.E_GOT_NOTHING, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR, pycurl.E_PARTIAL_FILE,
)  # fmt: skip


@dataclass(frozen=True)
class SSLOptions:
    """How an encrypted connection is made.

    Attributes
    ----------
    ca_file
        The certificates to trust, a PEM file; None for the system's.
    cert_file, key_file
        This client's own certificate and key, for servers that ask for one.
    verify
        False trusts any certificate: for experiments only.

    Raises
    ------
    ArgumentError
        If a file is no path.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        for name in ("ca_file", "cert_file", "key_file"):
            value = getattr(self, name)
            try:
                path = None if value is None else os.fsdecode(os.fsencode(value))
            except Exception as error:  # an object's own __fspath__ may raise anything
                raise ArgumentError(f"{name} is {brief(value)}: {error}", "give a path") from error
            if path is not None and (not path or "\0" in path):
                raise ArgumentError(f"{name} is {brief(value)}", "give a path")
            object.__setattr__(self, name, path)  # frozen; as text, whatever kind of path it was


def base_url(
    url: str,
    options: SSLOptions | None = None,
    *,
    schemes: tuple[str, str] = ("http", "https"),
    port: int = _DEFAULT_PORT,
) -> str:
    """Return the address in full, such as ``"http://localhost:8000"``.

    Parameters
    ----------
    url
        ``host``, ``host:port``, or an address with ``http://`` or
        ``https://``, perhaps with a path before Triton's own.
    options
        Given, the connection is encrypted.
    schemes
        What an address may start with, without and with encryption.
    port
        The port of an address that names none and has no scheme.

    Raises
    ------
    ArgumentError
        If it is no such address.
    """
    scheme = schemes[1] if options else schemes[0]
    remedy = f"give host:port, {schemes[0]}://host:port or {schemes[1]}://host:port"
    if not isinstance(url, str):
        raise ArgumentError(f"{brief(url)} is not an address", remedy)
    shown = without_password(url)
    full = url if "://" in url else f"{scheme}://{url}"
    try:
        parts = urlsplit(full)
        host, given = parts.hostname, parts.port
    except ValueError as error:
        # The library's own text is left out: it quotes what may be a password.
        raise ArgumentError(
            f"{shown!r} is not an address: its host or port cannot be read", remedy
        ) from error
    if parts.scheme not in schemes or (options and parts.scheme == schemes[0]):
        raise ArgumentError(f"{shown!r} is not an address for {scheme.upper()}", remedy)
    if not url.isascii() or not url.isprintable():
        raise ArgumentError(
            f"{brief(shown)} is not an address: it has characters that addresses do not take",
            f"{remedy}, and a host's letters beyond ASCII in their other form, xn--...",
        )
    if not host or parts.netloc.endswith(":") or any(c.isspace() for c in url):
        raise ArgumentError(f"{shown!r} is not an address: it names no host, or no port", remedy)
    if given is None and "://" not in url:
        if not re.fullmatch(r"[^/?#]+", url):
            raise ArgumentError(f"{shown!r} is not an address: it names no port", remedy)
        parts = parts._replace(netloc=f"{parts.netloc}:{port}")
    return parts._replace(query="", fragment="").geturl().rstrip("/")


def without_password(url: str) -> str:
    """Return an address without what may stand before an ``@`` in it."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


class CurlEngine:
    """An :class:`~tritonic_nb.transport.base.Engine` over libcurl.

    Parameters
    ----------
    url
        The address in full, as :func:`base_url` gives it.
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
        self._idle: deque[_Connection] = deque()
        self._pid = os.getpid()

    def send(self, request: Request, timeout_s: float) -> Reply:
        """Send a request and wait for its reply.

        Parameters
        ----------
        request
            What to send.
        timeout_s
            The time limit for the whole exchange, in seconds.

        Raises
        ------
        ServerUnreachableError
            If nothing answers, or not in HTTP, or the certificate is not trusted.
        ServerTimeoutError
            If the reply is not complete in time.
        """
        connection = self._take()
        try:
            reply = self._exchange(connection, request, timeout_s)
        except _NotSentError:  # the idle connection had ended, which libcurl saw before we did
            connection.close()
            connection = _Connection(self._url, self._options)
            reply = self._exchange(connection, request, timeout_s)
        self._idle.append(connection)
        return reply

    def _exchange(self, connection: _Connection, request: Request, timeout_s: float) -> Reply:
        try:
            return connection.exchange(
                f"{self._url}/{request.path}", request, self._headers, timeout_s
            )
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
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> _Connection:
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
        return _Connection(self._url, self._options)

    def _mapped(
        self, error: pycurl.error, connection: _Connection, timeout_s: float
    ) -> ServerUnreachableError | ServerTimeoutError:
        code, text = error.args[0], error.args[1]
        where = self._shown_url
        if connection.refused_socket or (connection.connected and code in _HUNG_UP):
            return ServerUnreachableError(
                f"{where} closed the connection before it answered",
                "the server may or may not have done it: look whether it still runs, and try again",
            )
        if code == pycurl.E_OPERATION_TIMEDOUT and connection.connected:
            return ServerTimeoutError(
                f"{where} did not answer within {timeout_s:.3g} s",
                "give more time (timeout=...), a smaller batch, or look at the server's load",
            )
        if code == pycurl.E_OPERATION_TIMEDOUT and timeout_s * 1000 < _CONNECT_TIMEOUT_MS:
            return ServerTimeoutError(
                f"{where} did not take the connection within {timeout_s:.3g} s",
                "give more time (timeout=...), and check that the server runs",
            )
        if code in (pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE):
            return ServerUnreachableError(
                f"the certificate of {where} is not trusted: {text}",
                "pass ssl=SSLOptions(ca_file=...) with the certificate authority's file",
            )
        return ServerUnreachableError(
            f"no Triton server answers at {where}: {text}",
            "check the address and port (Triton's HTTP port is 8000; its gRPC port, 8001, is for "
            "protocol='grpc'), and that the server runs; tritonic_nb.serve() starts one here",
        )


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
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, _CONNECT_TIMEOUT_MS)
        curl.setopt(pycurl.BUFFERSIZE, _CHUNK_NBYTES)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        if is_loopback(urlsplit(url).hostname or ""):
            curl.setopt(pycurl.PROXY, "")
        if url.startswith("https"):
            self._encrypt(options)

    def exchange(
        self, url: str, request: Request, headers: dict[str, str], timeout_s: float
    ) -> Reply:
        curl = self._curl
        received: list[bytes] = []
        header_lines: list[bytes] = []
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(timeout_s * 1000)))
        curl.setopt(
            pycurl.HTTPHEADER, [f"{k}: {v}" for k, v in {**headers, **request.headers}.items()]
        )
        if request.method == "POST":
            curl.setopt(pycurl.POSTFIELDS, request.body)
        else:
            curl.setopt(pycurl.HTTPGET, 1)
        curl.setopt(pycurl.WRITEFUNCTION, received.append)
        curl.setopt(pycurl.HEADERFUNCTION, header_lines.append)
        self._run()
        self._used = True
        if request.method == "POST":
            curl.setopt(pycurl.POSTFIELDS, b"")  # a large body is not kept until the next call
        return Reply(curl.getinfo(pycurl.RESPONSE_CODE), _parse(header_lines), b"".join(received))

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
                wait_s = _WAKE_S if due_ms < 0 else min(_WAKE_S, due_ms / 1000)
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


def is_loopback(host: str) -> bool:
    """Whether a host, by name or number, is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse(lines: list[bytes]) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}
