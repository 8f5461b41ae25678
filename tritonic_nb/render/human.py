"""Numbers of bytes, and times, for people."""

from __future__ import annotations

import math
import re

from tritonic_nb.errors import ArgumentError, brief

__all__ = ["figures", "human_bytes", "human_ms", "parsed_bytes"]

_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1000, "m": 1000**2, "mb": 1000**2}

_MOST_BYTES = 10**30  # of a wrong shape there may be more than a float holds


def human_bytes(count: int) -> str:
    """Write a number of bytes for people: ``602 kB`` is 602 thousand bytes.

    Decimal units, three digits.
    """
    size = float(min(count, _MOST_BYTES))
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB" if abs(size) < 999.5 else f"{size:,.0f} TB"


def parsed_bytes(text: str) -> int:
    """Read a number of bytes as people write it: ``4096``, ``602 kB``, ``24MB``, ``64k``.

    Raises
    ------
    ArgumentError
        If it is none, or 0.
    """
    found = re.fullmatch(r"\s*(\d{1,10})\s*([kKmM]?[bB]?)\s*", text)
    if found is None or int(found[1]) == 0:
        raise ArgumentError(
            f"{brief(text)} is no number of bytes",
            "give bytes from 1, or kB or MB: 4096, 64kB, 24MB",
        )
    return int(found[1]) * _UNITS[found[2].lower()]


def human_ms(ms: float) -> str:
    """Write milliseconds for people, with three digits: ``1.62 ms``, ``10.4 ms``, ``1,240 ms``."""
    return f"{figures(ms)} ms"


def figures(value: float, count: int = 3) -> str:
    """Write a number at or above 0 with so many significant digits, zeros at its end too."""
    if value == 0:
        return "0"
    if not 1e-4 <= value < 1e9:
        return f"{value:.{count - 1}e}"
    decimals = count - 1 - math.floor(math.log10(value))
    if decimals > 0:
        return f"{value:.{decimals}f}"
    return f"{round(value, decimals):,.0f}"
