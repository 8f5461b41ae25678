"""Numbers of bytes for people."""

from __future__ import annotations

__all__ = ["human_bytes"]

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
