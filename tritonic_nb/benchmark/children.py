"""Work that a process of its own does, so that its memory can be told from everything else's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tritonic_nb.errors import ServerRefusedError

__all__ = ["in_child"]


def in_child(module: str, order: Mapping[str, Any], limit_s: float, what: str) -> str:
    """Run a module in a process of its own; return what it printed.

    Parameters
    ----------
    module
        Its name; it reads the order from standard input.
    order
        What JSON can carry. Not on a command line, which is for everybody to see: there are
        headers in it.
    limit_s
        How long it may take, in seconds.
    what
        What it does, for the message of an error.

    Raises
    ------
    ServerRefusedError
        If it failed or took longer.
    """
    with subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            printed, told = child.communicate(json.dumps(order), timeout=limit_s)
        except BaseException as error:  # what the child has goes as with every killed process
            child.kill()
            child.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ServerRefusedError(
                    f"{what}: it was not done within {limit_s:g} s",
                    "choose smaller sizes, or an idle machine",
                ) from error
            raise
    if child.returncode:
        lines = told.strip().splitlines() or ["no word"]
        raise ServerRefusedError(f"{what}: it failed: {' '.join(lines[-3:])}")
    return printed
