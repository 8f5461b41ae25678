"""Many threads with one session: each gets the answer to its own question."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fault_processes import Process, at
from fault_table import Record, times

import tritonic_nb
from tests.conftest import BOTH, TEST_URL
from tests.waiting import eventually
from tritonic_nb.errors import NoReplyError
from tritonic_nb.transport import Transport

THREADS = 8
SIZES = (1, 64, 4000, 4096, 4097, 30_000, 100_000, 250_000)
KEPT = 6  # results whose arrays are views, of each thread

Open = Callable[..., tritonic_nb.Session]


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run something in so many threads, each with its number, and wait for them."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def payload(thread: int, turn: int, nbytes: int) -> npt.NDArray[np.uint8]:
    """Return an array that no other thread and no other turn has."""
    return np.random.default_rng((thread, turn)).integers(0, 256, (1, nbytes), np.uint8)


@BOTH
@pytest.mark.parametrize("copy", [True, False])
def test_every_thread_gets_its_own_answer(open_session: Open, record: Record, copy: bool) -> None:
    """Every output equals its own input, and still does when it was kept for a while.

    Eight threads with payloads of their own and different sizes, some of which
    grow; results without a copy are looked at again after some more inferences.
    """
    session = open_session("identity_uint8")
    turns = times(30, 500)
    good: Counter[int] = Counter()
    problems: list[str] = []

    def work(thread: int) -> None:
        kept: deque[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = deque()
        for turn in range(turns):
            grown = SIZES[thread] + (turn * 31 if thread % 2 else 0)
            sent = payload(thread, turn, grown)
            try:
                got = session.infer(sent, copy=copy)["OUTPUT0"]
            except Exception as error:
                problems.append(f"thread {thread}, turn {turn}: {error!r}")
                continue
            kept.append((got, sent))
            if not np.array_equal(got, sent):
                problems.append(f"thread {thread}, turn {turn}: not what was sent")
            elif len(kept) <= KEPT or np.array_equal(*kept.popleft()):
                good[thread] += 1
            else:
                problems.append(f"thread {thread}, turn {turn}: changed while it was kept")
        if not all(np.array_equal(*pair) for pair in kept):
            problems.append(f"thread {thread}: changed while it was kept")

    with record(f"{THREADS} threads, one session") as row:
        in_threads(THREADS, work)
        row.count_all(good.total(), problems)
        row.note(f"{good.total()} {'copies' if copy else 'views'}")


@BOTH
@pytest.mark.skipif(bool(TEST_URL), reason="needs a server of its own to add a model to")
def test_what_a_timed_out_request_writes_is_never_seen(
    sleeper: str, open_session: Open, transport: Transport, record: Record
) -> None:
    """After a timeout the server still writes; no other request's result has any of it.

    Four threads ask the model that sleeps for so long as it is told, each time
    another time, with limits that are too short for some. An answer is the time
    that was asked for, and stays it while it is kept without a copy.
    """
    session = open_session(sleeper)
    session.infer(np.zeros(1, np.float32))
    threads, turns = 4, times(10, 100)
    good: Counter[str] = Counter()
    problems: list[str] = []

    def work(thread: int) -> None:
        lots = np.random.default_rng(thread)
        kept: deque[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = deque(maxlen=KEPT)
        for turn in range(turns):
            # Of all requests no two are alike, and the longest takes 0.04 s.
            sent = np.full(1, 0.04 * (thread + threads * turn) / (threads * turns), np.float32)
            try:
                result = session.infer(sent, copy=False, timeout=float(lots.uniform(0.005, 0.15)))
            except NoReplyError:  # some have too little time even to connect
                good["timed out"] += 1
            except Exception as error:
                problems.append(f"thread {thread}, turn {turn}: {error!r}")
            else:
                good["answered"] += 1
                kept.append((result["SLEPT"], sent))
            if not all(np.array_equal(*pair) for pair in kept):
                problems.append(f"thread {thread}, turn {turn}: another request's result")

    with record("timeouts among threads") as row:
        in_threads(threads, work)
        row.count_all(good.total(), problems)
        row.note(f"{good['answered']} answered, {good['timed out']} timed out")
        names = {region.name for region in session.regions}
        session.close()
        # What was given up goes when the server is done with it.
        assert eventually(lambda: not names & {r["name"] for r in transport.registered_regions()})


@BOTH
def test_two_processes_get_their_own_answers(address: Any, protocol: str, record: Record) -> None:
    """Two processes with threads at one server: every output equals its own input."""
    with record("2 processes of 4 threads, one server") as row:
        config = {**at(address, protocol), "threads": 4, "turns": times(30, 500)}
        with (
            Process("busy", {**config, "seed": 1}) as one,
            Process("busy", {**config, "seed": 2}) as other,
        ):
            for kernel in (one, other):
                for message in kernel.hear_all():
                    row.count_all(message["good"], message["problems"])
                if code := kernel.wait():
                    row.count(f"a process ended with {code}")
