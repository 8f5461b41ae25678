"""The HTTP engine: libcurl, through pycurl.

Measured on small requests it is as fast as NVIDIA's C++ client (see
ARCHITECTURE.md), it keeps connections alive, knows TLS and proxies, and can be
shared by threads. Requests run on a multi handle, whose wait returns to the
interpreter several times a second, so that Ctrl-C is noticed; a plain
``Curl.perform`` delays it until the reply.
"""

from __future__ import annotations

import os
import ssl
import time
from collections import deque
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import pycurl

from tritonic_nb.errors import ArgumentError, ServerTimeoutError, ServerUnreachableError
from tritonic_nb.transport.base import Reply, Request

__all__ = ["CurlEngine", "SSLOptions", "base_url"]

_CONNECT_TIMEOUT_MS = 5_000
_WAKE_S = 0.2  # how long Ctrl-C may go unnoticed
_CHUNK_NBYTES = 512 * 1024  # of a reply, per callback into Python
_DEFAULT_PORT = 8000  # Triton's HTTP port
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


def base_url(url: str, options: SSLOptions | None = None) -> str:
    """Return the address in full, such as ``"http://localhost:8000"``.

    Parameters
    ----------
    url
        ``host``, ``host:port``, or an address with ``http://`` or
        ``https://``, perhaps with a path before Triton's own.
    options
        Given, the connection is encrypted.

    Raises
    ------
    ArgumentError
        If it is no such address.
    """
    scheme = "https" if options else "http"
    parts = urlsplit(url if "://" in url else f"{scheme}://{url}")
    remedy = "give host:port, http://host:port or https://host:port"
    if parts.scheme not in ("http", "https") or (options and parts.scheme == "http"):
        raise ArgumentError(
            f"{_without_password(parts)!r} is not an address for {scheme.upper()}", remedy
        )
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ArgumentError(f"{url!r}: {error}", remedy) from error
    if not host or any(c.isspace() for c in url):
        raise ArgumentError(f"{url!r} names no host", remedy)
    if port is None and "://" not in url:
        parts = parts._replace(netloc=f"{parts.netloc}:{_DEFAULT_PORT}")
    return parts._replace(query="", fragment="").geturl().rstrip("/")


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
        self._shown_url = _without_password(urlsplit(url))
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
            reply = connection.exchange(
                f"{self._url}/{request.path}", request, self._headers, timeout_s
            )
        except pycurl.error as error:
            connection.close()
            raise self._mapped(error, connection, timeout_s) from error
        except BaseException:  # interrupted: the connection is in the middle of an exchange
            connection.close()
            raise
        self._idle.append(connection)
        return reply

    def close(self) -> None:
        """Close the idle connections; safe to repeat."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> _Connection:
        if self._pid != os.getpid():  # forked: the sockets are the parent's
            self._idle, self._pid = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return _Connection(self._url, self._options)

    def _mapped(
        self, error: pycurl.error, connection: _Connection, timeout_s: float
    ) -> ServerUnreachableError | ServerTimeoutError:
        code, text = error.args[0], error.args[1]
        where = self._shown_url
        if code == pycurl.E_OPERATION_TIMEDOUT and connection.connected:
            return ServerTimeoutError(
                f"{where} did not answer within {timeout_s:g} s",
                "give more time (timeout=...), a smaller batch, or look at the server's load",
            )
        if code in (pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE):
            return ServerUnreachableError(
                f"the certificate of {where} is not trusted: {text}",
                "pass ssl=SSLOptions(ca_file=...) with the certificate authority's file",
            )
        return ServerUnreachableError(
            f"no Triton server answers at {where}: {text}",
            "check the address and port (Triton's HTTP port is 8000), and that the server runs; "
            "tritonic_nb.serve() starts one here",
        )


class _Connection:
    """One easy handle on its own multi handle, whose connection is kept alive."""

    def __init__(self, url: str, options: SSLOptions) -> None:
        self.connected = False
        self._multi = pycurl.CurlMulti()
        self._curl = curl = pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, _CONNECT_TIMEOUT_MS)
        curl.setopt(pycurl.BUFFERSIZE, _CHUNK_NBYTES)
        if urlsplit(url).hostname in _LOOPBACK:
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
        if request.method == "POST":
            curl.setopt(pycurl.POSTFIELDS, b"")  # a large body is not kept until the next call
        return Reply(curl.getinfo(pycurl.RESPONSE_CODE), _parse(header_lines), b"".join(received))

    def close(self) -> None:
        self._multi.close()
        self._curl.close()

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
                raise pycurl.error(*failed[0][1:])
        finally:
            multi.remove_handle(self._curl)

    def _encrypt(self, options: SSLOptions) -> None:
        # The wheel's libcurl does not know where this system keeps its certificates.
        ca_file = options.ca_file or ssl.get_default_verify_paths().cafile
        if ca_file:
            self._curl.setopt(pycurl.CAINFO, ca_file)
        if options.cert_file:
            self._curl.setopt(pycurl.SSLCERT, options.cert_file)
        if options.key_file:
            self._curl.setopt(pycurl.SSLKEY, options.key_file)
        if not options.verify:
            self._curl.setopt(pycurl.SSL_VERIFYPEER, 0)
            self._curl.setopt(pycurl.SSL_VERIFYHOST, 0)


def _parse(lines: list[bytes]) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}


def _without_password(parts: SplitResult) -> str:
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host).geturl()
