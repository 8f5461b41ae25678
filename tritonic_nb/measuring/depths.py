"""Throughput against the number of requests in flight."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tritonic_nb.measuring.counters import Counters, ServerTimes
from tritonic_nb.measuring.lane import Lane
from tritonic_nb.monitoring import cpu_s

__all__ = ["ROUNDS", "Depth", "least_s", "processors", "run_depths"]

ROUNDS = 6
"""The fewest that have an interval of 95 % confidence."""
_LEAST_S = 0.1  # of one depth in one round
_LEAST_REQUESTS = 3  # of each that is in flight, in one round


@dataclass
class Depth:
    """What came of so many requests in flight: a number for each round.

    Attributes
    ----------
    in_flight
        How many.
    seconds
        The time for one inference: of a round's time, its part.
    busy
        How many processors were busy with them, on both sides; empty where the server's cannot
        be told.
    served
        The server's counters of each round, when the queue was as long as it gets.
    """

    in_flight: int
    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    served: list[ServerTimes] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """The median of inferences per second."""
        return 1 / float(np.median(self.seconds))

    def queue_ms(self) -> float:
        """Return how long a request waited for an instance of the model."""
        return _mean([each.queue_ms for each in self.served])

    def model_ms(self) -> float:
        """Return how long an instance was at one request."""
        return _mean(
            [
                each.compute_input_ms + each.compute_ms + each.compute_output_ms
                for each in self.served
            ]
        )


def least_s(typical_s: float, in_flight: Sequence[int]) -> float:
    """Return how long :func:`run_depths` takes at least, in seconds."""
    return ROUNDS * sum(_round_s(typical_s, count, 0.0) for count in in_flight)


def run_depths(
    lane: Lane,
    in_flight: Sequence[int],
    seconds: float,
    *,
    counters: Counters,
    server_pids: Sequence[int],
) -> list[Depth]:
    """Run a lane with so many requests in flight at a time, in turns.

    Parameters
    ----------
    lane
        An open one.
    in_flight
        The depths.
    seconds
        For all of them; it takes longer where an inference does.
    counters
        The model's, at the server.
    server_pids
        The server's processes on this machine.
    """
    depths = [Depth(count) for count in in_flight]
    for _ in range(ROUNDS):
        for depth in depths:
            each_s = _round_s(lane.typical_s, depth.in_flight, seconds / (ROUNDS * len(depths)))
            _run(lane, depth, each_s, counters, server_pids)
    return depths


def processors() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _round_s(typical_s: float, in_flight: int, given_s: float) -> float:
    # One instance works them off one by one.
    return max(_LEAST_S, given_s, _LEAST_REQUESTS * in_flight * typical_s)


def _run(
    lane: Lane, depth: Depth, seconds: float, counters: Counters, server_pids: Sequence[int]
) -> None:
    stop = threading.Event()
    ended: list[float] = []

    def keep_running() -> None:
        while not stop.is_set():
            lane.infer()
            ended.append(time.perf_counter())

    with ThreadPoolExecutor(depth.in_flight) as pool:
        try:
            running = [pool.submit(keep_running) for _ in range(depth.in_flight)]
            stop.wait(seconds / 4)  # until the queue is as long as it gets
            counters.since(0)
            server, client, begun = cpu_s(server_pids), time.process_time(), time.perf_counter()
            stop.wait(seconds * 3 / 4)
            after, used, until = cpu_s(server_pids), time.process_time(), time.perf_counter()
            depth.served.append(counters.since(0))
        finally:
            stop.set()  # an interrupt too: they end with the request that is on its way
        for each in running:
            each.result()
    took = until - begun
    depth.seconds.append(took / max(1, sum(begun <= end <= until for end in ended)))
    if server is not None and after is not None:
        depth.busy.append((after - server + used - client) / took)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
