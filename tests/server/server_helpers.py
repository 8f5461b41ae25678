"""Helpers for the embedded server's tests: what is alive, what is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SHM = Path("/dev/shm")


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not yet reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a process of its own, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def pools(pid: int) -> set[str]:
    """Return the names of the Python backend's pools that a process's servers made."""
    return {entry.name for entry in SHM.glob(f"tritonic_nb_pool_{pid}_*")} - lock_files(pid)


def lock_files(pid: int) -> set[str]:
    """Return the names of the files whose locks tell that a process's servers live."""
    return {entry.name for entry in SHM.glob(f"tritonic_nb_pool_{pid}_*_lock")}
