"""Every step of a region's life fails once: nothing is left, and the session goes on."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_processes import BUSY_S, traces_after
from fault_table import Record, times

import tritonic_nb
from tritonic_nb.errors import ServerTimeoutError, ServerUnreachableError, TritonicError
from tritonic_nb.memory.shm_file import KEY_PREFIX, SHM_DIR
from tritonic_nb.transport import HttpTransport
from tritonic_nb.transport.base import Reply

Open = Callable[..., tritonic_nb.Session]
SMALL, LARGE = np.full((4, 4), 3, np.float32), np.full((400, 400), 5, np.float32)


class Once:
    """Makes one call fail, and no other.

    Parameters
    ----------
    error
        What it raises, or returns if it is no error.
    nth
        How many calls go well before.
    after
        Whether the call is made first, so that only its answer is lost.
    """

    def __init__(self, error: Any, nth: int = 0, *, after: bool = False) -> None:
        self._error = error
        self._left = nth
        self._after = after
        self.fired = False

    def call(self, real: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Do what was to be done, or fail."""
        self._left -= 1
        if self._left != -1:
            return real(*arguments, **options)
        self.fired = True
        if self._after:
            real(*arguments, **options)
        if isinstance(self._error, Exception):
            raise self._error
        return self._error

    def caused(self, error: BaseException | None) -> bool:
        """Whether an error tells of this failure."""
        text = json.loads(self._error.body)["error"] if isinstance(self._error, Reply) else "\0"
        while error is not None:
            if error is self._error or text in str(error):
                return True
            error = error.__cause__
        return False


def _plainly(real: Callable[..., Any], *arguments: Any) -> Any:
    return real(*arguments)


# A step makes the session's n-th call of it fail, for as long as it is entered.
Step = Callable[[tritonic_nb.Session, int], contextlib.AbstractContextManager[Once]]


def of_the_system(
    module: Any,
    name: str,
    number: int,
    only: Callable[..., bool] | None = None,
    *,
    after: bool = False,
) -> Step:
    """Return a step in which a function of the operating system fails."""

    @contextlib.contextmanager
    def step(session: tritonic_nb.Session, nth: int) -> Iterator[Once]:
        once = Once(OSError(number, os.strerror(number)), nth, after=after)
        real = getattr(module, name)

        def instead(*arguments: Any, **options: Any) -> Any:
            if only is not None and not only(*arguments, **options):
                return real(*arguments, **options)
            return once.call(real, *arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, instead)
            yield once

    return step


def of_the_way(path: str, error: Any, *, after: bool = False) -> Step:
    """Return a step in which a request to a path goes wrong, or is refused."""

    @contextlib.contextmanager
    def step(session: tritonic_nb.Session, nth: int) -> Iterator[Once]:
        once = Once(error() if callable(error) else error, nth, after=after)
        transport = session._transport
        real = transport._exchange  # type: ignore[attr-defined]

        def instead(written: Any, *arguments: Any) -> Reply:
            send = once.call if written.label.split()[1].endswith(path) else _plainly
            reply: Reply = send(real, written, *arguments)
            return reply

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transport, "_exchange", instead)
            yield once

    return step


@contextlib.contextmanager
def unmapping_fails(session: tritonic_nb.Session, nth: int) -> Iterator[Once]:
    """Be a step in which a mapping is still in use when it is to go."""
    once = Once(BufferError("cannot close exported pointers exist"), nth)

    class Map(mmap.mmap):
        def close(self) -> None:
            once.call(super().close)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmap, "mmap", Map)
        yield once


def unreachable(*, sent: bool) -> ServerUnreachableError:
    """Return what the engine raises when a connection breaks."""
    error = ServerUnreachableError("the connection was lost")
    error.sent = sent
    return error


def late() -> ServerTimeoutError:
    """Return what the engine raises when no reply comes in time."""
    return ServerTimeoutError("no answer in time")


def refusal(text: str, status: int = 400) -> Reply:
    """Return a server's reply with an error."""
    return Reply(status, {}, json.dumps({"error": text}).encode())


def opening(place: str | Path) -> Callable[..., bool]:
    """Tell the opening of a file in one place from others."""
    return lambda path, *_, **_options: str(path).startswith(str(place))


def ours(path: Any, **_: Any) -> bool:
    """Tell a region's file from others."""
    return KEY_PREFIX in str(path)


def _steps() -> Iterator[tuple[str, Step]]:
    for name, module, function, numbers, only in (
        ("create", io, "FileIO", ("EMFILE", "ENFILE", "ENOSPC", "EACCES", "ENOENT", "ENOMEM"),
         opening(SHM_DIR)),
        ("open for the lock", io, "FileIO", ("EMFILE", "ENOENT"), opening("/proc/self/fd")),
        ("name", os, "link", ("EEXIST", "ENOSPC", "ENOENT"), None),
        ("lock", fcntl, "flock", ("ENOLCK", "EAGAIN"), None),
        ("permit", os, "fchmod", ("EPERM",), None),
        ("reserve", os, "posix_fallocate", ("ENOSPC", "ENOMEM", "EINTR", "EFBIG"), None),
        ("map", mmap, "mmap", ("ENOMEM", "EAGAIN"), None),
        ("unlink", Path, "unlink", ("EACCES", "EIO"), ours),
    ):  # fmt: skip
        for number in numbers:
            yield f"{name}: {number}", of_the_system(module, function, getattr(errno, number), only)
    # Somebody else was quicker.
    yield "unlink: ENOENT", of_the_system(Path, "unlink", errno.ENOENT, ours, after=True)
    yield "unmap: in use", unmapping_fails
    for name in ("register", "unregister", "infer"):
        path = f"/{name}"
        yield f"{name}: refused", of_the_way(path, refusal("out of luck"))
        yield f"{name}: no connection", of_the_way(path, lambda: unreachable(sent=False))
        yield f"{name}: lost on the way", of_the_way(path, lambda: unreachable(sent=True))
        yield f"{name}: answer lost", of_the_way(path, lambda: unreachable(sent=True), after=True)
        yield f"{name}: late", of_the_way(path, late, after=True)
    not_found = "Unable to find shared memory region: 'x'"
    yield "infer: region lost", of_the_way("/infer", refusal(not_found, 404))
    no_file = "Unable to open shared memory region: 'x'"
    yield "register: no file", of_the_way("/register", refusal(no_file, 500))
    known = "shared memory region 'x' already in manager"
    yield "register: known", of_the_way("/register", refusal(known), after=True)
    in_use = "shared memory region 'x' is currently in use"
    yield "unregister: in use", of_the_way("/unregister", refusal(in_use))


STEPS = dict(_steps())


# What a session does meanwhile: each prepares it, and returns what is to fail.


def first(session: tritonic_nb.Session) -> Callable[[], object]:
    """Make regions."""
    return lambda: session.infer(SMALL)


def grow(session: tritonic_nb.Session) -> Callable[[], object]:
    """Exchange regions for larger ones."""
    for _ in range(2):
        session.infer(SMALL)
    return lambda: session.infer(LARGE)


def beforehand(session: tritonic_nb.Session) -> Callable[[], object]:
    """Register regions beforehand."""
    return lambda: session.register_outputs({"OUTPUT0": (9, 9)})


def in_place(session: tritonic_nb.Session) -> Callable[[], object]:
    """Fill a region in place, and send it."""

    def job() -> None:
        session.inputs["INPUT0"] = LARGE
        session.infer(copy=False)

    return job


def unregister(session: tritonic_nb.Session) -> Callable[[], object]:
    """Remove all regions."""
    grow(session)
    return session.unregister


def switch(session: tritonic_nb.Session) -> Callable[[], object]:
    """Go over to the wire."""
    grow(session)
    return lambda: session.set_shared_memory("none")


def another(session: tritonic_nb.Session) -> Callable[[], object]:
    """Take another model and come back."""
    grow(session)

    def job() -> None:
        session.use("identity_uint8")
        session.use("identity_fp32")

    return job


def close(session: tritonic_nb.Session) -> Callable[[], object]:
    """Close the session."""
    grow(session)
    return session.close


JOBS = (first, grow, beforehand, in_place, unregister, switch, another, close)


def problem_of(session: tritonic_nb.Session, job: Callable[[], object], once: Once) -> str:
    """Do a job while a step of it fails, and return what was wrong."""
    try:
        job()
    except TritonicError as error:
        return "" if once.caused(error) else f"not the first cause: {error!r}"
    except Exception as error:
        return f"not our error: {error!r}"
    return ""


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails(
    server: Any, open_session: Open, transport: HttpTransport, record: Record, step: str
) -> None:
    """Any step of any job may fail: then the error is ours and tells of it, or it did no harm.

    The session goes on with the right answers, and when it is closed no file is in
    /dev/shm and no name at the server.
    """
    open_session("identity_uint8")  # loaded beforehand
    fired = 0
    with record("a step fails once") as row:
        for nth in range(times(1, 4)):
            for prepare in JOBS:
                session = open_session("identity_fp32")
                job = prepare(session)
                with STEPS[step](session, nth) as once:
                    problem = problem_of(session, job, once)
                problem = problem or goes_on(session)
                session.close()
                left, _ = traces_after(os.getpid(), transport, within_s=BUSY_S)
                if not once.fired:  # the job has no such step, or not so many
                    continue
                fired += 1
                problem = problem or (str(left) if left.names else "")
                row.count(
                    problem and f"{step} #{nth} in {prepare.__name__}: {problem}",
                    bytes_left=left.nbytes,
                    regions_left=len(left.names),
                )
    assert fired


def goes_on(session: tritonic_nb.Session) -> str:
    """Use a session as if nothing had happened, and return what was wrong."""
    if session.closed:
        return ""
    with contextlib.suppress(tritonic_nb.errors.SessionClosedError):  # half closed is closed
        for value in range(3):
            sent = np.full((30, 30), value, np.float32)
            try:
                got = session.infer(sent)["OUTPUT0"]
            except tritonic_nb.errors.SessionClosedError:
                raise
            except Exception as error:
                return f"the session does not go on: {error!r}"
            if not np.array_equal(got, sent):
                return "the session got what it did not send"
    return ""
