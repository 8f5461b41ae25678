"""Kernels that are killed: what they had goes, whoever is left to see to it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from fault_processes import (
    BUSY_S,
    Process,
    at,
    children_of,
    eventually,
    freeze,
    running,
    traces,
    traces_after,
)
from fault_table import Record, times

import tritonic_nb
from tests.conftest import BOTH
from tritonic_nb.memory.shm_file import SHM_DIR
from tritonic_nb.transport import Transport

Open = Callable[..., tritonic_nb.Session]


@contextlib.contextmanager
def streaming(place: dict[str, Any], seed: int) -> Iterator[Process]:
    """Start a kernel in a stream of inferences, and wait for a random moment of it."""
    lots = np.random.default_rng(seed)
    config = {**place, "seed": seed, "threads": int(lots.choice([1, 1, 3]))}
    with Process("stream", config) as kernel:
        assert kernel.hear()["ready"] == kernel.pid
        kernel.tell({"go": True})
        # Half of them while the first regions are made, and in between anything.
        time.sleep(lots.uniform(0, 0.2) if seed % 2 else lots.uniform(0, 1.0))
        yield kernel


def said(kernel: Process) -> tuple[int, str]:
    """Return how many inferences a kernel has done, and what was wrong with them."""
    done, problem = 0, ""
    for message in kernel.hear_all():
        done = message["done"]
        if not message["good"]:
            problem = f"inference {done} got what it did not send"
    return done, problem


def all_gone(pids: list[int]) -> bool:
    """Whether none of these processes runs."""
    return not any(map(running, pids))


@BOTH
def test_a_killed_kernel_leaves_nothing(
    address: Any, protocol: str, open_session: Open, transport: Transport, record: Record
) -> None:
    """2 s after a SIGKILL no file of the kernel is in /dev/shm and no name at the server.

    Killed at any moment of a stream of inferences, from the first region on: with
    regions that grow, with results without a copy, and with threads. A busy machine
    is given 4 s.
    """
    open_session("identity_uint8")  # loaded beforehand, so that kernels are soon in the stream
    slowest_s, most, cut_short = 0.0, 0, 0
    with record("kernel killed") as row:
        for seed in range(times(5, 100)):
            with streaming(at(address, protocol), seed) as kernel:
                kernel.kill()
                had = traces(kernel.pid, transport)
                left, took_s = traces_after(kernel.pid, transport, within_s=BUSY_S)
                done, problem = said(kernel)
            slowest_s, most = max(slowest_s, took_s), max(most, done)
            cut_short += bool(had.names)
            problem = problem or (str(left) if left.names else "")
            row.count(
                problem and f"seed {seed}: {problem}",
                bytes_left=left.nbytes,
                regions_left=len(left.names),
            )
        row.note(f"gone after {slowest_s:.2f} s at most")
        row.note(f"{cut_short} had regions, up to {most} inferences")


@BOTH
def test_the_next_session_clears_what_a_killed_janitor_could_not(
    address: Any, protocol: str, open_session: Open, transport: Transport, record: Record
) -> None:
    """With kernel and janitor killed, the start of the next session clears everything.

    What a living session has at that moment stays: its regions, what lies in them,
    and their registrations. An empty file may stay for a minute: it looks as if its
    owner were about to lock it.
    """
    living = open_session("identity_uint8")
    mine = np.arange(50_000, dtype=np.uint8).reshape(1, -1)
    for _ in range(2):
        kept = living.infer(mine, copy=False)["OUTPUT0"]
    names = {region.name for region in living.regions}
    orphaned, most, empty = 0, 0, 0
    with record("kernel and janitor killed") as row:
        for seed in range(times(4, 100)):
            with streaming(at(address, protocol), 1000 + seed) as kernel:
                freeze(kernel)  # so that it does not start another one
                janitors = children_of(kernel.pid)
                for janitor in janitors:
                    os.kill(janitor, signal.SIGKILL)
                kernel.kill()
                problem = said(kernel)[1]
            assert eventually(functools.partial(all_gone, janitors))
            had = traces(kernel.pid, transport)
            orphaned += bool(had.names)
            most = max(most, had.nbytes)
            tritonic_nb.Session(address, protocol=protocol).close()
            left = traces(kernel.pid, transport)
            if left.names and not left.registered and not left.nbytes:
                empty += len(left.names)
                for name in left.files:
                    (SHM_DIR / name).unlink()
                left = traces(kernel.pid, transport)
            if names - {region["name"] for region in transport.registered_regions()}:
                problem = "a living session lost its registration"
            elif not np.array_equal(living.infer(mine)["OUTPUT0"], mine):
                problem = "a living session got what it did not send"
            elif not np.array_equal(kept, mine):
                problem = "a living session's view changed"
            problem = problem or (str(left) if left.names else "")
            row.count(
                problem and f"seed {seed}: {problem}",
                bytes_left=left.nbytes,
                regions_left=len(left.names),
            )
        row.note(f"{orphaned} had left something, up to {most / 1e6:.1f} MB")
        row.note(f"{empty} empty files stayed")
