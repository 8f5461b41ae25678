"""Tells the janitor what this process makes and registers, so that none of it outlives it.

The janitor (``janitor.py``) is a small process that is started when it is first
needed. All that is to be cleaned up is kept here too, and a janitor that was
killed, or does not listen, is replaced by another one that is told everything.

Nothing here waits for the janitor or raises because of it: without one, things
work as before, and only what a process that is killed leaves behind stays.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["janitor_pid", "made", "owed", "registered", "removed", "unregistered"]

_JANITOR = Path(__file__).with_name("janitor.py")
# Room for the janitor to be late, and for all of a long list at once: memory is
# used only for what is in the pipe.
_PIPE_NBYTES = 2**20
# Where they cannot be started, or do not last, nobody is to be kept busy with it.
_PAUSE_S = 0.1
# None of these ends a janitor before it can ignore them.
_BLOCKED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")

_log = logging.getLogger("tritonic_nb.memory")


def made(name: str) -> None:
    """Say that a region's file exists, or is about to.

    Parameters
    ----------
    name
        The file's name in ``/dev/shm``.
    """
    _tell("made", name)


def removed(name: str) -> None:
    """Say that a region's file is gone.

    Parameters
    ----------
    name
        The file's name in ``/dev/shm``.
    """
    _tell("removed", name)


def registered(name: str, unregister: Mapping[str, object]) -> None:
    """Say that a server knows a region, or is about to.

    Parameters
    ----------
    name
        The region's name.
    unregister
        The request that unregisters it: ``url``, ``headers``, ``ca_file``,
        ``cert_file``, ``key_file`` and ``verify``; and a ``program`` to run, which
        is given all of it, where it is no HTTP request.
    """
    files = {key: _absolute(unregister.get(key)) for key in ("ca_file", "cert_file", "key_file")}
    _tell("registered", name, unregister={**unregister, **files})


def unregistered(name: str) -> None:
    """Say that no server knows a region any more.

    Parameters
    ----------
    name
        The region's name.
    """
    _tell("unregistered", name)


def owed(name: str) -> None:
    """Have a region unregistered in the background, as soon as its server lets it go.

    Parameters
    ----------
    name
        The name of a region that is registered.
    """
    _tell("owed", name)


def janitor_pid() -> int | None:
    """Return the process id of this process's janitor, or None if it has none now."""
    with _state.lock:
        _collect(_state)
        janitor = _state.janitor
        return janitor.pid if janitor is not None and janitor.alive() else None


def _absolute(path: object) -> object:
    """Return a path for another process, which is in another folder."""
    with contextlib.suppress(OSError):  # the folder that this process is in may be gone
        return os.path.abspath(path) if isinstance(path, str) else path  # noqa: PTH100
    return path


@dataclass(frozen=True)
class _Event:
    """Something that happened to a region, and the janitor's line for it."""

    verb: str
    name: str
    line: bytes


class _Ledger:
    """What there is to clean up."""

    def __init__(self) -> None:
        self._made: dict[str, bytes] = {}
        self._registered: dict[str, bytes] = {}
        self._owed: dict[str, bytes] = {}

    def note(self, event: _Event) -> bool:
        """Take an event down; return whether it is news."""
        name, line = event.name, event.line
        if event.verb == "made":
            news = name not in self._made
            self._made[name] = line
        elif event.verb == "removed":
            news = self._made.pop(name, None) is not None
        elif event.verb == "registered":
            news = self._registered.get(name) != line or name in self._owed
            self._owed.pop(name, None)
            self._registered[name] = line
        elif event.verb == "unregistered":
            self._owed.pop(name, None)
            news = self._registered.pop(name, None) is not None
        else:
            news = name in self._registered and name not in self._owed
            if news:
                self._owed[name] = line
        return news

    def lines(self) -> bytes:
        """Return all that a new janitor has to know."""
        return b"".join((*self._made.values(), *self._registered.values(), *self._owed.values()))


class _Janitor:
    """A janitor's process and the pipe to it."""

    def __init__(self) -> None:
        self.pid = 0
        self._fd = -1
        self._pipe: os.stat_result | None = None

    def start(self) -> None:
        """Start the process. Where that is interrupted, :meth:`end` ends what there is.

        Raises
        ------
        OSError
            If it cannot be started.
        """
        # Neither end is inherited by what this process executes.
        read_fd, self._fd = os.pipe()
        try:
            self._pipe = os.fstat(self._fd)
            os.set_blocking(self._fd, False)
            _enlarge(self._fd)
            self.pid = _spawn(read_fd)
        finally:
            os.close(read_fd)

    def alive(self) -> bool:
        """Whether it runs. One that has ended is collected."""
        try:
            return bool(self.pid) and os.waitpid(self.pid, os.WNOHANG)[0] == 0
        except ChildProcessError:  # somebody else has collected it
            return False

    def tell(self, lines: bytes) -> bool:
        """Send lines; return whether all of it went, which is so unless the janitor is useless."""
        try:
            if not self._has_pipe():
                return False
            with _no_sigpipe():
                return os.write(self._fd, lines) == len(lines)
        except OSError:  # it has ended, or does not read what it is told
            return False

    def end(self) -> None:
        """Kill it, so that it does not clean up when the pipe ends."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Close this end of the pipe."""
        has_pipe = self._has_pipe()
        fd, self._fd = self._fd, -1
        if has_pipe:
            os.close(fd)

    def _has_pipe(self) -> bool:
        """Whether the descriptor is still the pipe: a program may close what it did not open."""
        try:
            now = os.fstat(self._fd)
        except OSError:
            return False
        return self._pipe is not None and os.path.samestat(now, self._pipe)


def _enlarge(pipe_fd: int) -> None:
    import fcntl

    with contextlib.suppress(OSError, AttributeError):  # a user has so much for all pipes
        fcntl.fcntl(pipe_fd, fcntl.F_SETPIPE_SZ, _PIPE_NBYTES)


def _spawn(stdin: int) -> int:
    """Start a janitor and return its process id."""
    if not sys.executable:
        raise FileNotFoundError("nobody knows where this Python is")
    command = [sys.executable, "-I", "-S", str(_JANITOR)]
    # Whoever reads this process's output waits for its end, and not for the janitor's.
    files = [
        (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    blocked = [getattr(signal, name) for name in _BLOCKED]

    def spawn(*, setsid: bool) -> int:
        return os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=files,
            setsid=setsid,
            setsigmask=blocked,
        )

    try:
        return spawn(setsid=True)
    except NotImplementedError:
        # A Python that was built for an old C library, as conda's are: the janitor
        # does it itself, a moment later.
        return spawn(setsid=False)


@contextlib.contextmanager
def _no_sigpipe() -> Iterator[None]:
    """Let writing to a janitor that has ended be an error, whatever a program does with SIGPIPE."""
    if signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN:  # as Python starts with
        yield
        return
    only = (signal.SIGPIPE,)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, only)
    try:
        yield
    except BrokenPipeError:
        if signal.SIGPIPE not in before:
            signal.sigtimedwait(only, 0)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _State:
    """What this process has told, and to whom."""

    def __init__(self) -> None:
        # Reentrant: a region that is collected in the middle of a call makes another one.
        self.lock = threading.RLock()
        self.busy = False
        self.events: deque[_Event] = deque()
        self.ledger = _Ledger()
        self.janitor: _Janitor | None = None
        self.killed: list[_Janitor] = []  # and perhaps not collected yet
        self.next_start = 0.0
        self.failure = ""  # to be logged
        self.warned = False


_state = _State()


def _tell(verb: str, name: str, **more: object) -> None:
    """Note an event and tell the janitor. Raises nothing but what comes from outside."""
    if sys.platform != "linux":
        return
    state = _state
    try:
        line = json.dumps({verb: name, **more}, default=str).encode() + b"\n"
        _post(state, _Event(verb, name, line))
    except Exception:
        _log.debug("the janitor was not told that %s was %s", name, verb, exc_info=True)
    # Not under the lock: a log has locks of its own.
    failure, state.failure = state.failure, ""
    if failure:
        level = logging.DEBUG if state.warned else logging.WARNING
        state.warned = True
        _log.log(level, "no janitor, so that what is left by a kill stays: %s", failure)


def _post(state: _State, event: _Event) -> None:
    with state.lock:
        state.events.append(event)
        if state.busy:  # the call that this one interrupts goes on with it
            return
        try:
            state.busy = True
            while state.events:
                _pass_on(state)
        finally:
            try:
                state.busy = False
            finally:  # an interrupt at the line before would silence this process for good
                state.busy = False


def _pass_on(state: _State) -> None:
    """Take the first event down, then tell the janitor, or a new one."""
    try:
        # It leaves the queue when it is noted: an interrupt in between repeats it.
        event = state.events[0]
        news = state.ledger.note(event)
        state.events.popleft()
        if not news and state.janitor is not None:
            return
        _collect(state)
        if state.janitor is None or not state.janitor.alive() or not state.janitor.tell(event.line):
            _drop(state)
            _replace(state)
    except BaseException:  # nobody knows how much of it went
        _drop(state)
        raise


def _collect(state: _State) -> None:
    """Collect the killed ones that have ended by now."""
    state.killed = [janitor for janitor in state.killed if janitor.alive()]


def _drop(state: _State) -> None:
    """Have no janitor."""
    if state.janitor is not None:
        state.janitor.end()
        state.killed.append(state.janitor)
        state.janitor = None


def _replace(state: _State) -> None:
    """Start a janitor and tell it everything."""
    lines = state.ledger.lines()
    if not lines or time.monotonic() < state.next_start:
        return
    state.next_start = time.monotonic() + _PAUSE_S
    state.janitor = _Janitor()  # known before it runs, so that an interrupt loses no process
    try:
        state.janitor.start()
    except OSError as error:
        state.failure = str(error)
        _drop(state)
        return
    if not state.janitor.tell(b'{"parent": %d}\n' % os.getpid() + lines):
        _drop(state)


def _forked() -> None:
    """In a forked child: have nothing to clean up, and no janitor yet."""
    global _state  # noqa: PLW0603
    if _state.janitor is not None:
        _state.janitor.close()
    _state = _State()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
