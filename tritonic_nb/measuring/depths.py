"""Throughput against the number of requests in flight."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tritonic_nb.measuring.lane import Lane
from tritonic_nb.monitoring import cpu_s

__all__ = ["Depth", "processors", "run_depths"]

_ROUNDS = 3
_LEAST_S = 0.1  # of one depth in one round


@dataclass
class Depth:
    """What came of so many requests in flight: a number for each round.

    Attributes
    ----------
    in_flight
        How many.
    per_second
        Inferences per second.
    busy
        How many processors were busy with them, on both sides; empty where the server's cannot
        be told.
    """

    in_flight: int
    per_second: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The median of inferences per second."""
        return float(np.median(self.per_second))


def run_depths(
    lane: Lane, in_flight: Sequence[int], seconds: float, server_pids: Sequence[int]
) -> list[Depth]:
    """Run a lane with so many requests in flight at a time, in turns.

    Parameters
    ----------
    lane
        An open one.
    in_flight
        The depths.
    seconds
        For all of them.
    server_pids
        The server's processes on this machine.
    """
    depths = [Depth(count) for count in in_flight]
    each_s = max(_LEAST_S, seconds / (_ROUNDS * len(depths)))
    for _ in range(_ROUNDS):
        for depth in depths:
            _run(lane, depth, each_s, server_pids)
    return depths


def processors() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _run(lane: Lane, depth: Depth, seconds: float, server_pids: Sequence[int]) -> None:
    stop = threading.Event()

    def keep_running() -> int:
        count = 0
        while not stop.is_set() and time.perf_counter() < until:
            lane.infer()
            count += 1
        return count

    lane.infer()
    server, client = cpu_s(server_pids), time.process_time()
    begun = time.perf_counter()
    until = begun + seconds
    with ThreadPoolExecutor(depth.in_flight) as pool:
        try:
            running = [pool.submit(keep_running) for _ in range(depth.in_flight)]
            count = sum(each.result() for each in running)
        finally:
            stop.set()  # an interrupt: they end with the request that is on its way
    took = time.perf_counter() - begun
    depth.per_second.append(count / took)
    after = cpu_s(server_pids)
    if server is not None and after is not None:
        depth.busy.append((after - server + time.process_time() - client) / took)
