"""What the protocols have in common: checks of what is sent and of what comes back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tritonic_nb.errors import ArgumentError, ServerRefusedError, brief
from tritonic_nb.transport.base import InferRequest

__all__ = ["check_output_names", "checked_headers", "checked_name", "doing_inference", "unreadable"]

_LONGEST_NAME = 1000  # of a model: file systems end at 255
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, as RFC 9110 has it
_OWN_HEADERS = ("content-length", "transfer-encoding", "inference-header-content-length")


def checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return headers that can be sent with every request.

    Raises
    ------
    ArgumentError
        If they cannot.
    """
    if headers is not None and not isinstance(headers, Mapping):
        raise ArgumentError(
            f"the headers are {brief(headers)}", "give a mapping: {'NAME': 'VALUE'}"
        )
    for name, value in (headers or {}).items():
        fits = isinstance(name, str) and isinstance(value, str) and _HEADER_NAME.fullmatch(name)
        if not fits or not value.isprintable() or not value.isascii():
            raise ArgumentError(
                f"header {brief(name)} cannot be sent: it is empty, no text, or has characters "
                "that headers do not take",
                "give names and values as text of one line, in ASCII",
            )
        if name.lower() in _OWN_HEADERS:
            raise ArgumentError(
                f"header {name!r} cannot be sent: it tells where a request ends",
                "leave it out: every request has its own",
            )
    return dict(headers or {})


def checked_name(name: str, what: str) -> str:
    """Return a name that can be sent.

    Parameters
    ----------
    name
        The name.
    what
        Whose name it is, such as ``"a model"``, for the message of an error.

    Raises
    ------
    ArgumentError
        If it is none.
    """
    # In an address "." or ".." for a part is that of another part, and to one that is
    # too long Triton gives no answer.
    if not isinstance(name, str) or name in ("", ".", "..") or len(name) > _LONGEST_NAME:
        raise ArgumentError(f"{brief(name)} is no name of {what}", "see session.models()")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"{brief(name)} is no name of {what}: {error}", "see session.models()"
        ) from error
    return name


def check_output_names(names: Sequence[Any]) -> None:
    """Refuse a reply whose outputs cannot be told apart.

    Raises
    ------
    ValueError
        If a name is none, or two outputs have the same.
    """
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(f"the names of the outputs {brief(names)}")


def unreadable(doing: str, reason: object) -> ServerRefusedError:
    """Return the error for a reply that is not of the form that the protocol gives it."""
    return ServerRefusedError(
        f"{doing}: the server's reply cannot be read: {brief(reason)}",
        "this is a fault of the server, or of a proxy between",
    )


def doing_inference(request: InferRequest) -> str:
    """Return what is being done, for the message of an error."""
    return f"inference with model {request.model!r}"
