"""Runs beside the kernel and sees to it that no server outlives it.

Started as ``python -I -S supervisor.py`` in a process session of its own, with
the standard library alone. The first line on standard input is a JSON object::

    {"command": [...], "environment": {...}, "parent": 123,
     "folder": "...", "pools": "/dev/shm/...", "pool_lock": 5, "stubs_only": true,
     "stack_bytes": 2097152}

``pools`` is the beginning of the names of the Python backend's pools, and
``pool_lock`` the descriptor of the file beside them that is locked for as long as
anything of the server lives.

Standard input stays open as a lifeline: a further line or its end means stop. The
line is ``stop SECONDS``, or ``stop SECONDS keep`` where the server will be started
again and its folder is to stay. Because a forked child of the kernel inherits the other end
of that pipe and would hold it open, the kernel's process itself is watched too.

On standard output it writes ``pid N``, and ``exit N`` when the server has
ended. It stays after that until it is told to stop, so that the log lies in the
folder for as long as somebody may read it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ORPHAN_GRACE_S = 0.0
TICK_MS = 1000

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends.

    That thread is the supervisor's only one, so it ends when the supervisor does.
    """
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def limit_stack(stack_bytes: int) -> None:
    """Give threads smaller stacks than the usual 8 MB; 0 leaves them as they are.

    Triton starts some 35 threads for each model instance. Where a sandbox limits
    address space or data, their stacks are what goes beyond the limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if stack_bytes and (soft == resource.RLIM_INFINITY or soft > stack_bytes):
        resource.setrlimit(resource.RLIMIT_STACK, (stack_bytes, hard))


def watch_parent(parent: int) -> int | None:
    """Open a descriptor that becomes readable when the parent ends, where there is one."""
    try:
        return os.pidfd_open(parent)
    except (AttributeError, OSError):
        # An old Linux, or a sandbox that forbids the call: the tick looks instead.
        return None


class Child:
    """The server's process, its process group and what it leaves behind."""

    def __init__(self, spec: dict[str, object]) -> None:
        command = spec["command"]
        environment = spec["environment"]
        assert isinstance(command, list)  # noqa: S101
        assert isinstance(environment, dict)  # noqa: S101
        self.pools = Path(str(spec["pools"]))
        self.pool_lock = lock_file(spec)
        self.stubs_only = bool(spec["stubs_only"])
        self.returncode: int | None = None
        stack_bytes = int(str(spec["stack_bytes"]))

        def prepare() -> None:
            die_with_parent()
            limit_stack(stack_bytes)

        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
            # From it, the models' processes inherit it too.
            pass_fds=[int(str(spec["pool_lock"]))],
            # Not the notebook's folder: a model would import what lies beside the notebook.
            cwd=str(spec["folder"]),
            preexec_fn=prepare,  # noqa: PLW1509 - this process has one thread
        )
        self.pid = process.pid

    def reap(self) -> None:
        """Collect every process that has ended: the server's, and its orphaned children."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.returncode = os.waitstatus_to_exitcode(status)

    def alive(self) -> bool:
        """Reap, then tell whether the server still runs."""
        self.reap()
        return self.returncode is None

    def signal(self, number: int) -> None:
        """Send a signal to the server's whole process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def stop(self, grace_s: float) -> None:
        """End the server: politely where it has a grace, then not, then sweep."""
        if grace_s > 0 and self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            while self.alive() and time.monotonic() < deadline and not self.idle():
                time.sleep(0.02)
        self.sweep()

    def idle(self) -> bool:
        """Tell whether a server that was asked to end has nothing left to do.

        When every model runs in a stub of its own, the last stub's end is the end of
        the last request and the last model. Triton 2.51 then sleeps for up to two
        seconds more, which a notebook need not wait for.
        """
        return self.stubs_only and not child_processes(self.pid)

    def sweep(self) -> None:
        """Kill what is left of the group, and remove the Python backend's pools."""
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            self.signal(signal.SIGKILL)
            # A helper of a model may have left the group; as an orphan it came to us.
            for pid in child_processes(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            if not has_children():
                break
            time.sleep(0.01)
        for pool in self.pools.parent.glob(self.pools.name + "*"):
            if pool != self.pool_lock:
                pool.unlink(missing_ok=True)


def lock_file(spec: dict[str, object]) -> Path:
    """Return the file beside the pools that is locked while the server lives."""
    return Path(f"{spec['pools']}lock")


def has_children() -> bool:
    """Tell whether any child is left, running or not yet reaped."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def child_processes(parent: int) -> list[int]:
    """Return a process's children that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything; state and parent follow it.
            state, ppid = status.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(ppid) == parent and state != "Z":
            found.append(int(status.parent.name))
    return found


def say(text: str) -> None:
    """Tell the parent, which may be gone."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), (text + "\n").encode())


def read_first_line() -> bytes:
    """Read up to the end of the first line, one byte at a time.

    A buffered read would take a following ``stop`` out of the pipe, where the
    poll below could no longer see it.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return bytes(line)


class Watch:
    """Waits for a reason to stop: a word, the lifeline's end, a signal, the parent's end."""

    def __init__(self, parent: int) -> None:
        self.parent = parent
        self.signalled = False
        self.keep = False
        self.wake, wake_write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.note_signal)
        signal.signal(signal.SIGHUP, self.note_signal)
        # Only so that a child's end wakes the poll below.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self.parent_fd = watch_parent(parent)
        self.poller = select.poll()
        for descriptor in (0, self.wake, self.parent_fd):
            if descriptor is not None:
                self.poller.register(descriptor, select.POLLIN)

    def note_signal(self, _number: int, _frame: object) -> None:
        """Remember that somebody wants this process to end."""
        self.signalled = True

    def next(self) -> float | None:
        """Wait for the next event; return the server's grace in seconds, once there is one."""
        # Asked after the parent's descriptor was opened: had the parent ended
        # before that, this process would have another one by now.
        if self.signalled or os.getppid() != self.parent:
            return ORPHAN_GRACE_S
        ready = dict(self.poller.poll(TICK_MS))
        if self.wake in ready:
            os.read(self.wake, 4096)
        if self.parent_fd in ready:
            return ORPHAN_GRACE_S
        if 0 not in ready:
            return None
        words = os.read(0, 4096).split()
        self.keep = b"keep" in words
        return float(words[1]) if len(words) > 1 else ORPHAN_GRACE_S


def start(spec: dict[str, object]) -> Child | None:
    """Start the server, or write into its log why it cannot be."""
    try:
        child = Child(spec)
    except OSError as error:
        print(f"cannot be run: {error}", file=sys.stderr, flush=True)
        say("exit 127")
        return None
    say(f"pid {child.pid}")
    return child


def main() -> int:
    """Start the server, wait for a reason to stop, stop it, clean up."""
    first = read_first_line()
    if not first.endswith(b"\n"):
        return 0
    spec = json.loads(first)
    # Orphans of the server become children of this process, which can wait for them.
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    watch = Watch(int(spec["parent"]))
    child = start(spec)
    ended = child is None
    grace_s = None
    while grace_s is None:
        if child is not None and not ended and not child.alive():
            ended = True
            child.sweep()
            say(f"exit {child.returncode}")
        grace_s = watch.next()
    # One that has ended was swept then; its process id may be somebody else's by now.
    if child is not None and not ended:
        child.stop(grace_s)
        say(f"exit {child.returncode}")
    if not watch.keep:
        shutil.rmtree(spec["folder"], ignore_errors=True)
        # Last, because it is the proof that the pools were somebody's.
        lock_file(spec).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
