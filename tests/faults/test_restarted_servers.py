"""Servers that are killed and restarted under load."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from fault_processes import BUSY_S, traces_after
from fault_table import Record, times

import tritonic_nb
from tests.conftest import BOTH, brief_server
from tests.waiting import eventually
from tritonic_nb.memory.shm_file import SHM_DIR
from tritonic_nb.transport import HttpTransport

THREADS = 4


@dataclass(frozen=True)
class Failure:
    """A request that was not answered, and when it began and ended."""

    error: Exception
    began: float
    ended: float

    def within(self, outages: list[tuple[float, float]]) -> bool:
        """Whether the server was away during some of it."""
        return any(self.began <= up and self.ended >= down for down, up in outages)


class Load:
    """Threads that infer all the time through one session, with payloads of their own."""

    def __init__(self, session: tritonic_nb.Session) -> None:
        self.good: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.failures: list[Failure] = []
        self._session = session
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(THREADS)]

    def _work(self, thread: int) -> None:
        lots = np.random.default_rng(thread)
        while not self._done.is_set():
            sent = lots.integers(0, 256, (1, int(lots.integers(1, 100_000))), np.uint8)
            began = time.monotonic()
            try:
                result = self._session.infer(sent, copy=thread % 2 == 0)
            except Exception as error:
                self.failures.append(Failure(error, began, time.monotonic()))
                self._done.wait(0.01)  # as who tries again would
                continue
            if np.array_equal(result["OUTPUT0"], sent):
                self.good[thread] += 1
            else:
                self.wrong.append(f"thread {thread}: got what it did not send")

    def answers_again(self) -> Callable[[], bool]:
        """Return what tells whether each thread has had an answer since now."""
        before = dict(self.good)
        return lambda: all(self.good[n] > before.get(n, 0) for n in range(THREADS))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


@BOTH
def test_a_server_that_is_killed_and_restarted_under_load(protocol: str, record: Record) -> None:
    """Each request is answered with what it sent, or fails with ServerUnreachableError.

    Only those fail that the server was away for, and soon; when it is back, all of
    them are answered. Nothing is left of the server's regions or of its pools.
    """
    lots = np.random.default_rng(4)
    outages: list[tuple[float, float]] = []
    slowest_s = 0.0
    pools = set(SHM_DIR.glob(f"tritonic_nb_pool_{os.getpid()}_*"))
    with record("server killed and restarted under load") as row:
        with brief_server(["identity_uint8"]) as server:
            session = tritonic_nb.Session(server, "identity_uint8", protocol=protocol)
            with session, Load(session) as load:
                for _ in range(times(2, 20)):
                    time.sleep(lots.uniform(0.1, 0.5))
                    went = time.monotonic()
                    os.kill(server.pid, signal.SIGKILL)
                    time.sleep(lots.choice([0.0, lots.uniform(0, 0.5)]))
                    server.restart()
                    outages.append((went, time.monotonic()))
                    all_again = eventually(load.answers_again(), BUSY_S)
                    slowest_s = max(slowest_s, time.monotonic() - outages[-1][1])
                    row.count("" if all_again else "a thread got no answer any more")
            transport = HttpTransport(server.url, server.headers)
            left, _ = traces_after(os.getpid(), transport, within_s=BUSY_S)
            transport.close()
        for wrong in load.wrong:
            row.count(wrong)
        for failure in load.failures:
            if type(failure.error) is not tritonic_nb.errors.ServerUnreachableError:
                row.count(repr(failure.error))
            elif not failure.within(outages):
                row.count(f"failed though the server was there: {failure.error}")
        late_s = max((f.ended - f.began for f in load.failures), default=0.0)
        if late_s > BUSY_S:
            row.count(f"an error came after {late_s:.1f} s only")
        now = set(SHM_DIR.glob(f"tritonic_nb_pool_{os.getpid()}_*"))
        row.count(
            bytes_left=left.nbytes, regions_left=len(left.names | {p.name for p in now - pools})
        )
        away_s = max(up - down for down, up in outages)
        row.note(f"{load.good.total()} answered, {len(load.failures)} failed")
        row.note(
            f"at most: error after {late_s:.2f} s, restart {away_s:.2f} s, all answered "
            f"{slowest_s:.2f} s later"
        )
