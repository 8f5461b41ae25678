"""Which protocol a session speaks."""

from __future__ import annotations

from collections.abc import Mapping

from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.transport.address import SSLOptions
from tritonic_nb.transport.base import Transport
from tritonic_nb.transport.http import HttpTransport

__all__ = ["connect", "protocol_for"]


def protocol_for(protocol: str, server: object) -> str:
    """Return ``"http"`` or ``"grpc"``.

    Parameters
    ----------
    protocol
        The one that was asked for, in any case.
    server
        The server; an address with ``grpc://`` or ``grpcs://`` means gRPC in any case.

    Raises
    ------
    ArgumentError
        If there is no such protocol.
    """
    known = {"http": "http", "grpc": "grpc"}
    chosen = known.get(protocol.lower()) if isinstance(protocol, str) else None
    if chosen is None:
        raise ArgumentError(f"protocol {brief(protocol)} is none", "give 'http' or 'grpc'")
    implied = isinstance(server, str) and server.lower().startswith(("grpc://", "grpcs://"))
    return "grpc" if implied else chosen


def connect(
    url: str,
    headers: Mapping[str, str] | None = None,
    options: SSLOptions | None = None,
    protocol: str = "http",
    *,
    compression: str | None = None,
    retries: int = 0,
) -> Transport:
    """Return the way to a server.

    Parameters
    ----------
    url
        Its address; one with ``grpc://`` or ``grpcs://`` means gRPC.
    headers
        Sent with every request.
    options
        For an encrypted connection.
    protocol
        ``"http"`` or ``"grpc"``.
    compression
        ``"gzip"`` or ``"deflate"`` for what tensors go over the wire, or None.
    retries
        How often a request of which nothing was done may be sent again.

    Raises
    ------
    ArgumentError
        If one of them cannot be used, or what gRPC needs is not installed.
    """
    if protocol_for(protocol, url) == "http":
        return HttpTransport(url, headers, options, compression, retries)
    from tritonic_nb.transport.grpc import GrpcTransport

    return GrpcTransport(url, headers, options, compression, retries)
