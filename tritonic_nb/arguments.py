"""What the words of a command line mean, for :mod:`argparse`; the same for every command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from tritonic_nb.errors import ArgumentError

__all__ = ["check_file", "seconds"]


def seconds(most: float) -> Callable[[str], float]:
    """Return what reads a number of seconds above 0 and up to `most`.

    It raises :class:`argparse.ArgumentTypeError` for what is none.
    """

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = 0.0
        if not 0 < number <= most:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no number of seconds above 0 and up to {most:g}"
            )
        return number

    return read


def check_file(path: Path | None) -> None:
    """Refuse now what could not be written after some minutes.

    Raises
    ------
    ArgumentError
        If there is a path, and it is a folder, or in none that may be written to.
    """
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise ArgumentError(
            f"{path} cannot be written: it is a folder, or not in a folder of yours",
            "name a file in a folder that you may write to",
        )
