"""The way of gRPC to a server: one channel, shared by threads, and its errors.

A call is bytes in and bytes out. While it waits, grpcio comes back to the
interpreter five times a second, so that Ctrl-C is noticed.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import sys
import weakref
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tritonic_nb.errors import (
    ArgumentError,
    ServerBusyError,
    ServerRefusedError,
    ServerTimeoutError,
    ServerUnreachableError,
    TritonicError,
)
from tritonic_nb.transport import errand
from tritonic_nb.transport.address import (
    SSLOptions,
    base_url,
    is_loopback,
    login_header,
    without_password,
)
from tritonic_nb.transport.checks import checked_headers
from tritonic_nb.transport.engine import lasting, untrusted
from tritonic_nb.transport.faults import LATER, busy_gateway, error_from_server

__all__ = ["Channel", "grpc_url"]

_DEFAULT_PORT = 8001  # Triton's gRPC port
_SERVICE = "/inference.GRPCInferenceService/"
_HEADER_NAME = re.compile(r"(?!grpc-)[0-9a-z_.-]+")  # what gRPC takes, and keeps to itself
_WRONG_PORT = (
    "check the address and port (Triton's gRPC port is 8001; its HTTP port, 8000, is for "
    "protocol='http')"
)
_LONGEST_TEXT = 1000  # a host may be as long as its caller wants, and a text as the server
# A status says either what the server said or what gRPC itself found, and only its text tells
# which. These are gRPC's own: no connection was had, or it ended in the middle of a call.
_NOT_SENT = re.compile(r"failed to connect to all addresses|errors resolving |DNS resolution fail")
_BROKEN = re.compile(r"Stream removed|Received RST_STREAM")
_BUSY = re.compile(r"Received http2 header with status: 429")
_NO_GRPC = re.compile(r"Received http2 header with status|No status received")
_NO_SUCH_CALL = re.compile(r"$|unknown service|method not found", re.IGNORECASE)
# Triton's refusals that have the status UNAVAILABLE and no error of their own. With any other
# text it may be a gateway that answers while the server is still at it.
_REFUSALS = re.compile(
    r"exceeds maximum queue size|request timeout expired|stopped accepting|is not allowed|"
    r"shutting down",
    re.IGNORECASE,
)


def grpc_url(url: str, options: SSLOptions | None = None) -> str:
    """Return the address in full, such as ``"grpc://localhost:8001"``.

    Parameters
    ----------
    url
        ``host``, ``host:port``, ``grpc://host:port`` or ``grpcs://host:port``.
    options
        Given, the connection is encrypted.

    Raises
    ------
    ArgumentError
        If it is no such address.
    """
    full = base_url(url, options, schemes=("grpc", "grpcs"), port=_DEFAULT_PORT)
    parts = urlsplit(full)
    if parts.path:
        raise ArgumentError(
            f"{without_password(url)!r} is not an address for gRPC: it has a path",
            "give host:port, and nothing behind it",
        )
    return full if parts.port is not None else f"{full}:{_DEFAULT_PORT}"


class Channel:
    """A channel to one server. Safe to share between threads, and made when it is needed.

    Parameters
    ----------
    url
        The address, as :func:`grpc_url` takes it.
    headers
        Sent with every call.
    options
        For an encrypted connection.

    Attributes
    ----------
    url
        The address in full, without a password.

    Raises
    ------
    ArgumentError
        If one of them cannot be used.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str] | None = None, options: SSLOptions | None = None
    ) -> None:
        full = grpc_url(url, options)
        parts = urlsplit(full)
        encrypted = parts.scheme == "grpcs"
        options = options or SSLOptions()
        if not options.verify:
            raise ArgumentError(
                "gRPC trusts no certificate without a check: SSLOptions(verify=False)",
                "trust the server's own certificate, SSLOptions(ca_file=...), or use "
                "protocol='http'",
            )
        self.url = without_password(full)
        own = _checked(headers)
        named = any(name.lower() == "authorization" for name in own)
        files = asdict(options)
        if encrypted and files["ca_file"] is None:
            files["ca_file"] = ssl.get_default_verify_paths().cafile
        self._address = {
            "url": self.url,
            # With its scheme, because gRPC knows others, and a host may be named like one.
            "target": f"dns:///{parts.netloc.rpartition('@')[2]}",
            "proxy": not is_loopback(parts.hostname or ""),
            "encrypted": encrypted,
            "headers": own if named else {**login_header(full), **own},
            **files,
        }
        self._metadata = errand.metadata_of(self._address["headers"])
        self._connection: _Connection | None = None

    def call(
        self,
        method: str,
        message: bytes,
        timeout_s: float,
        doing: str,
        compression: str | None = None,
    ) -> bytes:
        """Make a call and wait for its reply; Ctrl-C ends the wait within half a second.

        Parameters
        ----------
        method
            The method's name, without the service's.
        message
            The request.
        timeout_s
            The time limit, in seconds.
        doing
            What is being done, for the message of an error.
        compression
            ``"gzip"`` or ``"deflate"``, or None.

        Raises
        ------
        ServerUnreachableError, ServerTimeoutError
            If there is no reply, or not in time.
        TritonicError
            What the server answered, as :func:`~tritonic_nb.transport.faults.error_from_server`
            tells.
        """
        connection = self._connection
        if connection is None or connection.pid != os.getpid():  # forked: it is the parent's
            self._refuse_if_broken()
            connection = self._connection = _Connection(self._opened())
        reply = connection.call(_SERVICE + method, message, timeout_s, self._metadata, compression)
        if isinstance(reply, bytes):
            return reply
        if reply is None:
            raise ServerRefusedError(
                f"{doing}: the server's reply cannot be read: it is empty",
                "this is a fault of the server, or of a proxy between",
            )
        error = self._mapped(reply, timeout_s, doing)
        if getattr(error, "sent", True) is False and self._connection is connection:
            self._connection = None  # it would refuse calls for a while, whoever listens by then
        raise error

    def address(self, method: str, message: bytes) -> dict[str, object]:
        """Return a call for another process to make: what ``errand.py`` is given.

        Returns
        -------
        dict
            It holds secrets: never show it.
        """
        return {
            **self._address,
            "method": _SERVICE + method,
            "message": base64.b64encode(message).decode(),
            "program": errand.__file__,
            # That process knows nothing of this one's environment. Relative ones mean
            # another folder there.
            "python_path": [p for p in sys.path if isinstance(p, str) and os.path.isabs(p)],  # noqa: PTH117
        }

    def close(self) -> None:
        """Close the channel, as soon as no call is under way; safe to repeat."""
        self._connection = None

    def _refuse_if_broken(self) -> None:
        """Refuse to use gRPC in a forked child where it would crash."""
        if _forks.broken:
            unusable = ServerUnreachableError(
                f"{self.url} cannot be reached: this process was forked while calls of gRPC were "
                "under way in other threads, and gRPC does not survive that",
                "use protocol='http' in it, or start processes with the method 'spawn'",
            )
            unusable.sent, unusable.lasting = False, True
            raise unusable

    def _opened(self) -> Any:
        try:
            return errand.open_channel(self._address)
        except OSError as error:
            raise ArgumentError(
                f"a file of the SSLOptions cannot be read: {error}",
                "give paths of PEM files that this user may read",
            ) from error

    def _mapped(self, status: _Status, timeout_s: float, doing: str) -> TritonicError:
        """Return our error for a call that failed."""
        code, text = status
        if code == "DEADLINE_EXCEEDED":
            return ServerTimeoutError(
                f"{self.url} did not answer within {timeout_s:.3g} s",
                "give more time (timeout=...), a smaller batch, or look at the server's load",
            )
        if code == "UNAVAILABLE" and _NOT_SENT.match(text):
            unreachable = self._no_connection(text)
            unreachable.sent = False
            return unreachable
        return self._no_reply(status, doing) or error_from_server(text, doing)

    def _no_reply(
        self, status: _Status, doing: str
    ) -> ServerUnreachableError | ServerBusyError | None:
        """Return our error for a call whose status is not the server's reply, or None."""
        code, text = status.code, status.text[:_LONGEST_TEXT]
        if code == "CANCELLED" or _BROKEN.match(text):
            return ServerUnreachableError(
                f"{doing}: the call to {self.url} ended before it was answered: {text or code}",
                "the server may or may not have done it: look whether it still runs, and try again",
            )
        if _BUSY.match(text) or (code == "UNAVAILABLE" and busy_gateway(503, text, {})):
            return ServerBusyError(
                f"{doing}: what answers at {self.url} is too busy: {text}", LATER
            )
        if _NO_GRPC.match(text):
            return ServerUnreachableError(
                f"{doing}: what answers at {self.url} does not speak gRPC: {text}",
                "a gateway before the server, most likely, so that it may or may not have done it: "
                f"give the gateway more time, or {_WRONG_PORT}",
            )
        if code == "UNIMPLEMENTED" and _NO_SUCH_CALL.match(text):
            return lasting(
                f"what answers at {self.url} is not Triton: it has no such call", _WRONG_PORT
            )
        known = type(error_from_server(status.text, doing)) is not ServerRefusedError
        if code == "UNAVAILABLE" and not known and not _REFUSALS.search(text):
            return ServerUnreachableError(
                f"{doing}: what answers at {self.url} says that the server is not available: "
                f"{text or code}",
                "the server may or may not have done it: look at it, and at any gateway between",
            )
        return None

    def _no_connection(self, text: str) -> ServerUnreachableError:
        # The reason stands behind the addresses that were tried.
        reason = re.sub(r"^.*?last error: (\w+: )?", "", text, flags=re.DOTALL)[:_LONGEST_TEXT]
        if "CERTIFICATE_VERIFY_FAILED" in text or "Peer name" in text:
            return untrusted(self.url, reason)
        return ServerUnreachableError(
            f"no Triton server answers at {self.url}: {reason}",
            f"{_WRONG_PORT}, and that the server runs; tritonic_nb.serve() starts one here",
        )


class _Status(NamedTuple):
    """How a call failed: the code's name, and the text."""

    code: str
    text: str


class _Connection:
    """A channel of grpcio that is closed when nobody has it any more.

    Closing it ends the calls that are under way, of other threads too; these hold it until
    they have ended. A forked child leaves it to its parent.
    """

    def __init__(self, channel: Any) -> None:
        self.pid = os.getpid()
        self._channel = channel
        self._calls: dict[str, Any] = {}
        # Not a function of this package, in which Ctrl-C could strike and be lost.
        self._finalizer = weakref.finalize(self, channel.close)
        self._finalizer.atexit = False
        _forks.connections.add(self)

    def call(
        self,
        method: str,
        message: bytes,
        timeout_s: float,
        metadata: list[Any],
        compression: str | None,
    ) -> bytes | _Status | None:
        """Make a call; return the reply, or how it failed."""
        import grpc

        made = self._calls.get(method)
        if made is None:
            made = self._calls[method] = self._channel.unary_unary(method)
        call = _Call()
        _forks.calls.add(call)
        try:
            reply: bytes | None = made(
                message,
                timeout=timeout_s,
                metadata=metadata,
                compression=compression and getattr(grpc.Compression, compression.title()),
            )
            return reply
        except grpc.RpcError as error:
            # Not the error itself: with its traceback it would keep the channel.
            return _Status(error.code().name, error.details() or "")
        finally:
            _forks.calls.discard(call)

    def leave(self) -> None:
        """Leave the channel to the process that this one was forked from."""
        self._finalizer.detach()


class _Call:
    """A call that is under way."""


class _Forks:
    """What a forked child has to know of gRPC in its parent.

    gRPC prepares itself for a fork, but not while other threads are in a call of it:
    what it has of threads and locks is useless in the child then, and may crash it.
    """

    def __init__(self) -> None:
        self.calls: weakref.WeakSet[_Call] = weakref.WeakSet()
        self.connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self.broken = False

    def in_child(self) -> None:
        """Leave the parent's connections alone, and look at what was under way."""
        for connection in list(self.connections):
            connection.leave()
        self.broken = self.broken or len(self.calls) > 0


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forks.in_child)


def _checked(headers: Mapping[str, str] | None) -> dict[str, str]:
    checked = checked_headers(headers)
    for name in checked:
        if not _HEADER_NAME.fullmatch(name.lower()):
            raise ArgumentError(
                f"header {name!r} cannot be sent over gRPC",
                "give a name of letters, digits and _.- that does not start with grpc-",
            )
    return checked
