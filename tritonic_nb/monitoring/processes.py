"""Processes of this machine, by id: what they started, and the processor time that they took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["cpu_s", "descendants", "file_text"]

_MOST_PROCESSES = 500  # of one server
_CPU_CLOCK = 2  # CPUCLOCK_SCHED of the Linux kernel: all of a process's threads, in nanoseconds


def descendants(pid: int) -> Iterator[int]:
    """Give the processes that a process started, those that they started, and so on."""
    waiting, seen = [pid], {pid}
    while waiting and len(seen) < _MOST_PROCESSES:
        parent = Path(f"/proc/{waiting.pop()}/task")
        try:
            threads = [each.name for each in parent.iterdir()]
        except OSError:  # it has ended
            continue
        for thread in threads:
            for child in file_text(f"{parent}/{thread}/children").split():
                if int(child) not in seen:
                    seen.add(int(child))
                    waiting.append(int(child))
                    yield int(child)


def cpu_s(pids: Sequence[int]) -> float | None:
    """Return the processor time that processes have taken so far, in seconds.

    Their threads count, those that have ended too. The clock's number is made as
    clock_getcpuclockid(3) makes it.

    Returns
    -------
    float or None
        None where there is none to be asked, one has ended, or the system does not tell.
    """
    try:
        times = [time.clock_gettime((~pid << 3) | _CPU_CLOCK) for pid in pids]
    except (OSError, AttributeError):  # the latter on Windows
        return None
    return sum(times) if times else None


def file_text(path: str) -> str:
    """Return a file of the kernel's; empty if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
