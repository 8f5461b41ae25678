"""Where a server is, and how a connection to it is encrypted."""

from __future__ import annotations

import ipaddress
import os
import re
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tritonic_nb.errors import ArgumentError, brief

__all__ = [
    "SSLOptions",
    "base_url",
    "is_loopback",
    "is_numeric",
    "login_header",
    "without_password",
]

_DEFAULT_PORT = 8000  # Triton's HTTP port


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
    if given == 0:
        raise ArgumentError(f"{shown!r} is not an address: nothing can have port 0", remedy)
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


def login_header(url: str) -> dict[str, str]:
    """Return the header for a name and password that stand in an address."""
    parts = urlsplit(url)
    if parts.username is None:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"Authorization": f"Basic {b64encode(login).decode()}"}


def is_numeric(host: str) -> bool:
    """Whether nobody has to be asked for a host's address."""
    try:
        return host == "localhost" or bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own, without asking anybody."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
