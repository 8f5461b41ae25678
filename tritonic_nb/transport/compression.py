"""Bodies made smaller on the way: gzip and deflate, as HTTP and Triton name them.

Triton reads compressed requests and compresses its replies by the same names (its
``docs/protocol``: ``Content-Encoding`` and ``Accept-Encoding``).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

from tritonic_nb.errors import ArgumentError, ServerRefusedError, brief
from tritonic_nb.transport.base import Body

__all__ = ["WORTH_NBYTES", "checked_compression", "compressed", "expanded"]

WORTH_NBYTES = 64 * 1024
"""From how many bytes of tensors on a request is compressed: less is soon sent."""

_WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's numbers for the two formats
_EITHER = 47  # zlib's number for finding out which
# The fastest. Level 6 takes four times as long, and saves some hundredths more of a picture.
_LEVEL = 1
_STEP_NBYTES = 4 * 2**20  # between two looks at signals
_PIECE_NBYTES = 64 * 1024  # the same of what is compressed, which may grow a thousandfold


def checked_compression(compression: object) -> str | None:
    """Return the name of a compression, or None for none.

    Raises
    ------
    ArgumentError
        If there is no such compression.
    """
    if compression is None:
        return None
    name = compression.lower() if isinstance(compression, str) else ""
    if name not in _WINDOWS:
        raise ArgumentError(
            f"compression {brief(compression)} is none", "give 'gzip', 'deflate', or None"
        )
    return name


def compressed(pieces: Iterable[Body], compression: str) -> bytes:
    """Return what pieces hold one after the other, compressed; Ctrl-C soon ends it."""
    made = zlib.compressobj(_LEVEL, wbits=_WINDOWS[compression])
    parts = []
    for piece in pieces:
        view = memoryview(piece)
        parts += [
            made.compress(view[start : start + _STEP_NBYTES])
            for start in range(0, len(view), _STEP_NBYTES)
        ]
    return b"".join([*parts, made.flush()])


def expanded(body: Body, headers: Mapping[str, str], doing: str) -> Body:
    """Return a reply's body as it was before its headers say that it was compressed.

    Raises
    ------
    ServerRefusedError
        If it cannot be read.
    """
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return body
    try:
        if encoding not in _WINDOWS:
            raise ValueError(f"its compression {brief(encoding)} was not asked for")
        return _expanded(memoryview(body))
    except (zlib.error, ValueError, MemoryError) as error:
        raise ServerRefusedError(
            f"{doing}: the server's reply of {len(body)} bytes, in {brief(encoding)}, cannot be "
            f"read: {error or 'there is no memory for it'}",
            "this is a fault of the server, or of a proxy between; try compression=None",
        ) from error


def _expanded(view: memoryview) -> memoryview:
    reading = zlib.decompressobj(wbits=_EITHER)
    whole = bytearray()
    start = 0
    while start < len(view) and not reading.eof:
        whole += reading.decompress(view[start : start + _PIECE_NBYTES])
        start += _PIECE_NBYTES
    if not reading.eof:
        raise ValueError("it ends too early")
    if reading.unused_data or start < len(view):
        raise ValueError("more follows its end")
    return memoryview(whole)
