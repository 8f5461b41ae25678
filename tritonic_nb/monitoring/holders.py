"""What a message calls those who hold memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["listed", "printable", "process_name", "process_text"]

_LONGEST_NAME = 40


def process_name(pid: int) -> str:
    """Return a process's command as the kernel has it, in at most 15 characters.

    Empty where there is no such process, or none that may be seen from here.
    """
    try:
        return os.fsdecode(Path(f"/proc/{pid}/comm").read_bytes()).rstrip("\n")
    except OSError:
        return ""


def process_text(pid: int, name: str) -> str:
    """Say which process it is: ``this process`` or ``process 99 (python)``."""
    if pid == os.getpid():
        return "this process"
    return f"process {pid} ({printable(name)})" if name else f"process {pid}"


def printable(name: str) -> str:
    """Return a name that somebody else chose, fit for a message: in short, on one line."""
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def listed(parts: Sequence[str]) -> str:
    """Join one or more parts of a sentence: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
