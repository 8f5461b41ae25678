"""Processes that faults happen to, and what they leave."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.waiting import eventually
from tritonic_nb.memory.shm_file import KEY_PREFIX, SHM_DIR
from tritonic_nb.transport import Transport

PROGRAMS = Path(__file__).with_name("fault_programs.py")
BUSY_S = 4.0
"""How long what is claimed for 2 s may take on a busy machine."""


class Process:
    """A program of ``fault_programs.py`` in an interpreter of its own.

    It says JSON objects, one a line, and is told so too. A context manager that
    kills what is still running.

    Parameters
    ----------
    program
        The function's name.
    config
        What it is given.
    before
        The start of a command that is to run it.
    """

    def __init__(self, program: str, config: dict[str, Any], before: Sequence[str] = ()) -> None:
        self._unread = b""
        # Keeps no other child's pipe open: the end of one must be seen at once.
        self._process = subprocess.Popen(
            [*before, sys.executable, "-W", "error", str(PROGRAMS), program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self.tell(config)

    def tell(self, message: dict[str, Any]) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which its exit code tells
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def hear(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Return the next line; empty at the end of its output."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"process {self.pid} said nothing for {timeout_s} s")
            data = os.read(fd, 65536)
            if not data:
                return {}
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def hear_all(self, timeout_s: float = 60.0) -> Iterator[dict[str, Any]]:
        """Give all lines to the end."""
        while message := self.hear(timeout_s):
            yield message

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, as the kernel would that is out of memory, and wait for its end."""
        self._process.kill()
        self._process.wait(30)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for its end and return its exit code, negative for a signal."""
        return self._process.wait(timeout_s)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.__exit__(kind, error, trace)


def state_of(pid: int) -> str:
    """Return a process's state, such as ``"T"`` for stopped; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def running(pid: int) -> bool:
    """Whether a process has not ended; one that was not collected yet has."""
    return state_of(pid) not in ("", "Z", "X")


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in tasks.read_text().split()]
    return found


def freeze(process: Process) -> None:
    """Stop a process, so that it does nothing about what happens to its children."""
    process.signal(signal.SIGSTOP)
    assert eventually(lambda: state_of(process.pid) in ("T", "Z"))


@dataclass(frozen=True)
class Traces:
    """What there is of one process's regions.

    Attributes
    ----------
    files
        Bytes in /dev/shm, by name.
    registered
        Names that the server has registered.
    """

    files: dict[str, int] = field(default_factory=dict)
    registered: frozenset[str] = frozenset()

    @property
    def nbytes(self) -> int:
        """The bytes that the files take."""
        return sum(self.files.values())

    @property
    def names(self) -> set[str]:
        """The names that are here or at the server."""
        return {*self.files, *self.registered}

    def __str__(self) -> str:
        return f"left: {self.files} in /dev/shm, {sorted(self.registered)} registered"


def traces(pid: int, transport: Transport | None = None) -> Traces:
    """Look for the regions of a process."""
    prefix = f"{KEY_PREFIX}{pid}-"
    files = {}
    for path in SHM_DIR.glob(f"{prefix}*"):
        with contextlib.suppress(FileNotFoundError):
            files[path.name] = path.stat().st_blocks * 512
    regions = transport.registered_regions() if transport else []
    registered = (str(region["name"]) for region in regions)
    return Traces(files, frozenset(name for name in registered if name.startswith(prefix)))


def traces_after(
    pid: int, transport: Transport | None = None, *, within_s: float
) -> tuple[Traces, float]:
    """Wait until nothing is left of a process; return what was in the end, and the seconds."""
    started = time.monotonic()
    while True:
        left = traces(pid, transport)
        took_s = time.monotonic() - started
        if not left.names or took_s > within_s:
            return left, took_s
        time.sleep(0.02)


def at(server: Any, protocol: str = "http") -> dict[str, Any]:
    """Return what a process needs to find a server, an address or an object."""
    if isinstance(server, str):
        return {"url": server, "headers": {}, "protocol": protocol}
    url = server.grpc_url if protocol == "grpc" else server.url
    return {"url": url, "headers": dict(server.headers), "protocol": protocol}
