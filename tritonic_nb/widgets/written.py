"""Sizes of tensors, as a person writes them."""

from __future__ import annotations

import re

from tritonic_nb.errors import ArgumentError

__all__ = ["sizes_in"]

_BYTES = re.compile(r"([\d,_]+)\s*(?:bytes|B)")
_SHAPE = re.compile(r"[\[(]?\s*\d+(?:\s*[x×,*]?\s*\d+)*\s*,?\s*[\])]?")


def sizes_in(text: str) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Read ``images: 1 x 3 x 640 x 640; names: 4096 bytes``.

    Returns
    -------
    tuple of dict
        The whole shapes by tensor, and the bytes by tensor.

    Raises
    ------
    ArgumentError
        If it is not of this form.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    nbytes: dict[str, int] = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, colon, size = (each.strip() for each in part.rpartition(":"))
        if colon and name and (told := _BYTES.fullmatch(size)):
            nbytes[name] = int(re.sub(r"[,_]", "", told[1]))
        elif colon and name and _SHAPE.fullmatch(size):
            shapes[name] = tuple(map(int, re.findall(r"\d+", size)))
        else:
            raise ArgumentError(
                f"{part!r} is no tensor's size",
                "write NAME: 1 x 3 x 640 x 640, or NAME: 4096 bytes; with ; between several",
            )
    return shapes, nbytes
