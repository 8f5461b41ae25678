"""The server's process as this one sees it: through its supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["STOP_GRACE_S", "ServerProcess"]

STOP_GRACE_S = 3.0
POLL_S = 0.05
# Enough for tritonserver and Python; a server with other backends keeps its own.
STACK_BYTES = 2 * 2**20
SUPERVISOR = Path(__file__).parent / "supervisor.py"
SHM = Path("/dev/shm")  # noqa: S108 - this is where Linux keeps POSIX shared memory


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
        self._pool_prefix = f"tritonic_nb_pool_{os.getpid()}_{secrets.token_hex(6)}_"
        self._owner = os.getpid()
        self._secret = secret
        self._kept_log: str | None = None
        self._unread = b""
        self._lock = threading.RLock()
        # Read through this descriptor, the log outlives its file.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        self._log_fd = os.open(folder / "server.log", flags, 0o600)
        try:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SUPERVISOR)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log_fd,
                start_new_session=True,
                bufsize=0,
            )
        except OSError:
            os.close(self._log_fd)
            raise
        spec = {
            "command": [
                *command,
                f"--backend-config=python,shm-region-prefix-name={self._pool_prefix}",
            ],
            "environment": dict(environment),
            "parent": self._owner,
            "folder": str(folder),
            "pools": str(SHM / self._pool_prefix),
            "stubs_only": stubs_only,
            "stack_bytes": STACK_BYTES if stubs_only else 0,
        }
        # Not on the supervisor's command line: the environment is nobody's business.
        self._tell(json.dumps(spec))

    def _tell(self, line: str) -> None:
        """Send the supervisor a line; it may be gone."""
        stdin = self._supervisor.stdin
        assert stdin is not None  # noqa: S101 - asked for a pipe
        data = line.encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            while data:
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

    def log(self) -> str:
        """Return what the server has written, without the secret."""
        with self._lock:
            if self._kept_log is not None:
                return self._kept_log
            size = os.fstat(self._log_fd).st_size
            text = os.pread(self._log_fd, size, 0).decode("utf-8", "replace")
        return text.replace(self._secret, "[secret]") if self._secret else text

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """End the server and its supervisor, and leave nothing behind.

        Does nothing the second time, or in a forked child, whose server it is not.
        """
        if not self.owned:
            return
        with self._lock:
            if self._kept_log is not None:
                return
            self._listen()
            self.stopped = self.returncode is None
            self._tell(f"stop {grace_s}")
            try:
                self._supervisor.wait(grace_s + 5.0)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()
                self._supervisor.wait()
            self._listen()
            if self.returncode is None:
                self.returncode = -signal.SIGKILL
            self._kept_log = self.log()
            os.close(self._log_fd)
            for stream in (self._supervisor.stdin, self._supervisor.stdout):
                if stream is not None:
                    stream.close()
            self._sweep()

    def _sweep(self) -> None:
        """Remove what a supervisor that was killed could not remove."""
        for pool in SHM.glob(self._pool_prefix + "*"):
            pool.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
