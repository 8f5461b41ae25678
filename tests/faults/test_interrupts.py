"""Ctrl-C at every moment: nothing is lost, and the session goes on.

A trace function raises KeyboardInterrupt at one line of the package's own code
after another, so that no moment is left to chance.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import BOTH, TEST_URL
from tritonic_nb.memory import lifeline

PACKAGE = str(Path(tritonic_nb.__file__).parent)
FULL = os.environ.get("TRITONIC_NB_FAULTS") == "full"
STEP = 1 if FULL else 31  # how many lines lie between two interrupts

Open = Callable[..., tritonic_nb.Session]
SMALL, LARGE = np.ones((4, 4), np.float32), np.ones((400, 400), np.float32)


class Interrupter:
    """Raises KeyboardInterrupt at the n-th line of the package's code that is run."""

    def __init__(self, line: int) -> None:
        self._left = line
        self._before: dict[int, int] = {}  # each frame's line before, by the frame's id
        self.place = ""

    def __call__(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        """Trace the functions of the package only."""
        self._before.pop(id(frame), None)
        return self._line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line" and self._may_strike(frame):
            self._left -= 1
            if self._left == 0:
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._line

    def _may_strike(self, frame: FrameType) -> bool:
        """Whether a signal could interrupt here, too."""
        # Not within an except clause: CPython 3.11 does not forget the first error when
        # a trace function raises there, and that error keeps what it has seen.
        if sys.exc_info()[0] is not None:
            return False
        # Nor on the way back to the line of a `with`, before it lets go: signals wait.
        before = self._before.get(id(frame), 0)
        self._before[id(frame)] = frame.f_lineno
        # Nor in a finalizer: Python itself drops what is raised there.
        if any(name == weakref.__file__ for name in files_above(frame)):
            return False
        # Nor at a `try:`, which does nothing and which CPython 3.11 counts to no block.
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        back = text.startswith("with ") and before > frame.f_lineno
        return not back and text != "try:"


def files_above(frame: FrameType | None) -> Iterator[str]:
    """Give the files of the functions that a frame was called by."""
    while frame is not None:
        yield frame.f_code.co_filename
        frame = frame.f_back


def interrupted(line: int, job: Callable[[], object]) -> str:
    """Run a job and interrupt it; return where, or nothing where it ended before."""
    interrupter = Interrupter(line)
    before = sys.gettrace()
    sys.settrace(interrupter)
    try:
        job()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return interrupter.place


def first(session: tritonic_nb.Session) -> Callable[[], object]:
    """Make and register regions."""
    return lambda: session.infer(SMALL)


def again(session: tritonic_nb.Session) -> Callable[[], object]:
    """Use regions again."""
    for _ in range(2):
        session.infer(SMALL)
    return lambda: session.infer(SMALL)


def grow(session: tritonic_nb.Session) -> Callable[[], object]:
    """Exchange regions for larger ones."""
    for _ in range(2):
        session.infer(SMALL)
    return lambda: session.infer(LARGE)


def in_place(session: tritonic_nb.Session) -> Callable[[], object]:
    """Fill a region in place, and send it."""

    def job() -> None:
        session.inputs["INPUT0"] = SMALL
        session.infer()

    return job


def mapped(session: tritonic_nb.Session) -> Callable[[], object]:
    """Several at a time, which go on in other threads when it is interrupted."""
    return lambda: list(session.map([SMALL] * 6, in_flight=2, progress=False))


def alone(session: tritonic_nb.Session) -> Callable[[], object]:
    """One at a time, in the thread that is interrupted."""
    return lambda: list(session.map([SMALL] * 3, in_flight=1, progress=False))


def unregister(session: tritonic_nb.Session) -> Callable[[], object]:
    """Remove regions."""
    again(session)
    return session.unregister


def switch(session: tritonic_nb.Session) -> Callable[[], object]:
    """Switch to the wire and back, with a result whose arrays are views."""
    kept = session.infer(SMALL, copy=False)

    def job() -> None:
        session.set_shared_memory("none")
        session.set_shared_memory("system")
        assert kept["OUTPUT0"].sum() == SMALL.sum()

    return job


def move(session: tritonic_nb.Session) -> Callable[[], object]:
    """Go to the server anew, with regions there and an input that is filled in place."""
    again(session)
    session.inputs["INPUT0"] = SMALL
    headers = session._setup.owner.headers if not TEST_URL else {}  # type: ignore[attr-defined]
    return lambda: session.connect(session.url, headers=headers)


def close(session: tritonic_nb.Session) -> Callable[[], object]:
    """Close the session, which is opened anew for the check."""
    again(session)
    return session.close


def strike_everywhere(
    open_session: Open,
    job: Callable[[tritonic_nb.Session], Callable[[], object]],
    step: int,
    check: Callable[[str], None],
) -> int:
    """Interrupt a job at one line after another, and go on each time.

    Parameters
    ----------
    open_session
        Opens a session.
    job
        Prepares a session and gives what is interrupted.
    step
        How many lines lie between two interrupts.
    check
        Is called when the session was closed, with the place of the interrupt.

    Returns
    -------
    int
        The line at which the job ended before it was interrupted.
    """
    line = 1
    while True:
        session = open_session("identity_fp32")
        place = interrupted(line, job(session))
        if job is close:
            session.close()  # again, to the end
            session = open_session("identity_fp32")
        for side in (4, 3, 5, 400):  # what was sent before, and what was not
            array = np.full((side, side), line, np.float32)
            assert np.array_equal(session.infer(array)["OUTPUT0"], array), place
        session.close()
        check(place)
        if not place:
            break
        line += step
    session = open_session("identity_fp32")
    other = threading.Thread(target=session.infer, args=(SMALL,), daemon=True)
    other.start()
    other.join(30)
    assert not other.is_alive()  # no lock is held by what was interrupted
    return line


@BOTH
@pytest.mark.timeout(1200 if FULL else 300)
@pytest.mark.parametrize(
    "job", [first, again, grow, in_place, mapped, alone, unregister, switch, move, close]
)
def test_an_interrupt_at_any_line(
    open_session: Open,
    shm_names: Callable[[], set[str]],
    transport: Any,
    job: Callable[[tritonic_nb.Session], Callable[[], object]],
) -> None:
    """Wherever Ctrl-C strikes, the next inferences are right and close() leaves nothing."""

    def check(place: str) -> None:
        registered = {region["name"] for region in transport.registered_regions()}
        assert not shm_names(), place
        assert not registered, place
        with lifeline._state.lock:
            assert not lifeline._state.passing_on.locked(), place  # the janitor is told what comes

    line = strike_everywhere(open_session, job, STEP, check)
    assert line > 10 * STEP  # the job did run in the package's code
