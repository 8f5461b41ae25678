"""The server's process as this one sees it: through its supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from tritonic_nb.errors import ServerStartError
from tritonic_nb.server.orphans import LOG
from tritonic_nb.server.pools import SHM, lock_file, new_prefix, remove_pools

__all__ = ["STOP_GRACE_S", "ServerProcess", "group", "open_files"]

STOP_GRACE_S = 3.0
POLL_S = 0.05
# Enough for tritonserver and Python; a server with other backends keeps its own.
STACK_BYTES = 2 * 2**20
SUPERVISOR = Path(__file__).parent / "supervisor.py"


class ServerProcess:
    """A server under a supervisor, in process sessions of their own.

    Parameters
    ----------
    command
        The server's command line.
    environment
        Its environment variables.
    folder
        Its folder, which goes with it.
    secret
        A text to leave out of the log; empty for none.
    stubs_only
        Every model runs in a process of its own, so that the server has nothing
        left to do when these have ended.

    Attributes
    ----------
    returncode
        The server's exit code as far as it is known; negative for a signal.
    stopped
        Whether it was running when it was told to stop, and so did not end by itself.
    pid
        The server's process id; 0 until it has started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        secret: str,
        *,
        stubs_only: bool,
    ) -> None:
        self.folder = folder
        self.returncode: int | None = None
        self.stopped = False
        self.pid = 0
        # The Python backend's pools in /dev/shm get a name by which they can be removed.
        self.pool_prefix = new_prefix()
        self._owner = os.getpid()
        self._secret = secret
        self._kept_log: str | None = None
        self._lock = threading.RLock()
        with contextlib.ExitStack() as made:
            # Read through this descriptor, the log outlives its file.
            self._log_fd = locked_file(folder / LOG, os.O_APPEND)
            made.callback(os.close, self._log_fd)
            lock = lock_file(self.pool_prefix)
            self._pool_lock_fd = locked_file(lock, os.O_EXCL)
            made.callback(os.close, self._pool_lock_fd)
            made.callback(lock.unlink, missing_ok=True)
            # Not on the supervisor's command line: the environment is nobody's business.
            self._orders = json.dumps(
                {
                    "command": [
                        *command,
                        f"--backend-config=python,shm-region-prefix-name={self.pool_prefix}",
                    ],
                    "environment": dict(environment),
                    "parent": self._owner,
                    "folder": str(folder),
                    "pools": str(SHM / self.pool_prefix),
                    "pool_lock": self._pool_lock_fd,
                    "stubs_only": stubs_only,
                    "stack_bytes": STACK_BYTES if stubs_only else 0,
                }
            )
            self._start()
            made.pop_all()
        _processes.add(self)

    def _start(self) -> None:
        """Start a supervisor, which starts the server.

        Raises
        ------
        ServerStartError
            No further process can be started.
        """
        try:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SUPERVISOR)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log_fd,
                # Inherited by all that belongs to the server, as the log is: see orphans.py.
                pass_fds=[self._pool_lock_fd],
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise ServerStartError(
                f"the server's supervisor cannot be started: {error}",
                "end other programs, to free memory and processes",
            ) from error
        self.returncode = None
        self.stopped = False
        self.pid = 0
        self._unread = b""
        self._log_start = os.fstat(self._log_fd).st_size
        self._tell(self._orders)

    def _tell(self, line: str) -> None:
        """Send the supervisor a line; it may be gone."""
        stdin = self._supervisor.stdin
        assert stdin is not None  # noqa: S101 - asked for a pipe
        data = line.encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            while data and not stdin.closed:
                data = data[os.write(stdin.fileno(), data) :]

    @property
    def owned(self) -> bool:
        """Whether this process started it, and not one that this one was forked from."""
        return self._owner == os.getpid()

    @property
    def running(self) -> bool:
        """Whether the server lives. In a forked child, whether it did at the fork."""
        if self.owned:
            with self._lock:
                self._listen()
        return self.returncode is None

    def _listen(self) -> None:
        """Take what the supervisor has said, without waiting."""
        stdout = self._supervisor.stdout
        assert stdout is not None  # noqa: S101 - asked for a pipe
        if stdout.closed:
            return
        while self.returncode is None:
            poller = select.poll()
            poller.register(stdout.fileno(), select.POLLIN)
            if not poller.poll(0):
                return
            data = os.read(stdout.fileno(), 4096)
            if not data:
                # The supervisor was killed, and the kernel killed the server with it.
                self.returncode = -signal.SIGKILL
                return
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                word, number = line.split()
                if word == b"pid":
                    self.pid = int(number)
                else:
                    self.returncode = int(number)

    def wait(self, timeout: float | None) -> int | None:
        """Wait for the server's end; return its exit code, or ``None`` when it still runs."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.running and (deadline is None or time.monotonic() < deadline):
            time.sleep(POLL_S)
        return self.returncode

    def log(self, *, since_start: bool = False) -> str:
        """Return what the server has written, without the secret.

        Parameters
        ----------
        since_start
            Leave out what was written before the last restart.
        """
        if not self.owned:
            log = self.folder / LOG
            return log.read_text("utf-8", "replace") if log.exists() else ""
        with self._lock:
            if self._kept_log is not None:
                return self._kept_log
            start = self._log_start if since_start else 0
            size = os.fstat(self._log_fd).st_size
            text = os.pread(self._log_fd, size - start, start).decode("utf-8", "replace")
        return text.replace(self._secret, "[secret]") if self._secret else text

    def restart(self) -> bool:
        """Kill what is left of the server, and start it again in the same folder.

        Returns
        -------
        bool
            False when it was stopped, or its supervisor was told to end: its folder is
            gone then.
        """
        with self._lock:
            if self._kept_log is not None or not self.folder.is_dir():
                return False
            self._end("stop 0 keep", 0.0)
            remove_pools(self.pool_prefix)
            self._start()
            return True

    def let_go(self) -> None:
        """Close the locks in a forked child: it is not to keep a dead server's alive."""
        if self._kept_log is None:
            os.close(self._log_fd)
            os.close(self._pool_lock_fd)
            self._kept_log = ""

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """End the server and its supervisor, and leave nothing behind.

        Does nothing the second time, or in a forked child, whose server it is not.
        """
        if not self.owned:
            return
        with self._lock:
            if self._kept_log is not None:
                return
            self._end(f"stop {grace_s}", grace_s)
            self._kept_log = self.log()
            self._sweep()
            os.close(self._log_fd)
            os.close(self._pool_lock_fd)

    def _end(self, order: str, grace_s: float) -> None:
        """Give the supervisor the order to end the server, and see to it that both do end."""
        self._listen()
        self.stopped = self.returncode is None
        self._tell(order)
        try:
            self._supervisor.wait(grace_s + 5.0)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
        self._listen()
        if self.returncode is None:
            self.returncode = -signal.SIGKILL
        for stream in (self._supervisor.stdin, self._supervisor.stdout):
            if stream is not None:
                stream.close()
        if self.pid and self._supervisor.returncode != 0:
            self._kill_rest()

    def _kill_rest(self) -> None:
        """Kill what a supervisor that was killed left over, and wait for its end.

        Linux has killed the server then. Its models' processes may live a while, and
        hold the ports: they inherit the sockets.
        """
        lock = lock_file(self.pool_prefix)
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline:
            # The lock tells them from strangers that have got the process id meanwhile.
            rest = [pid for pid in group(self.pid) if holds(pid, lock)]
            if not rest:
                break
            for pid in rest:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_S)

    def _sweep(self) -> None:
        """Remove what a supervisor that was killed could not remove."""
        remove_pools(self.pool_prefix)
        shutil.rmtree(self.folder, ignore_errors=True)
        # Last, because it is the proof for the others.
        lock_file(self.pool_prefix).unlink(missing_ok=True)


_processes: weakref.WeakSet[ServerProcess] = weakref.WeakSet()


def _forked() -> None:
    for process in list(_processes):
        process.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def locked_file(path: Path, flags: int) -> int:
    """Make a file for this user alone and lock it; return its descriptor.

    Raises
    ------
    ServerStartError
        It cannot be made, or its disk knows no locks.
    """
    import fcntl  # not on every platform, and this module is

    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise ServerStartError(
            f"the server needs a locked file {path}, and that cannot be made: {error.strerror}",
            f"check that {path.parent} exists, can be written and has room",
        ) from error
    return descriptor


def group(pid: int) -> list[int]:
    """Return the processes of a process group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(int(entry.name)) == pid:
                found.append(int(entry.name))
    return found


def holds(pid: int, file: Path) -> bool:
    """Tell whether a process of this user's has a file open."""
    try:
        return str(file) in open_files(pid)
    except PermissionError:
        return False


def open_files(pid: int) -> set[str]:
    """Return what a process's descriptors lead to: paths, and sockets by number."""
    found = set()
    gone = (FileNotFoundError, ProcessLookupError)  # the process, or one descriptor
    with contextlib.suppress(*gone):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(*gone):
                found.add(str(entry.readlink()))
    return found
