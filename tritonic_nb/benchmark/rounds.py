"""Rounds: every way once, in random order, each over a new connection.

Triton ties a connection to one of its threads, and where the kernel puts that thread
makes one and the same request half as slow again. So a figure is taken over many
connections, and what disturbs the machine for a while disturbs all ways alike.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from tritonic_nb.benchmark.interrupts import held_back
from tritonic_nb.benchmark.way import Way

__all__ = ["MOST_ROUNDS", "Plan", "Series", "quiet", "run_rounds", "timed_ms"]

MOST_ROUNDS = 60
_FEWEST_ROUNDS = 3
_WARM_UPS = 2  # after each new connection


@dataclass(frozen=True)
class Plan:
    """How long to go on.

    Attributes
    ----------
    seconds
        After so many seconds no new round begins, once there were a few.
    rounds
        The most rounds.
    """

    seconds: float
    rounds: int = MOST_ROUNDS


@dataclass(frozen=True)
class Series:
    """The times of one way at one size, in milliseconds, one list for each connection."""

    connections: list[list[float]] = field(default_factory=list)

    @property
    def times_ms(self) -> list[float]:
        """All times."""
        return [each for times in self.connections for each in times]

    @property
    def median_ms(self) -> float:
        """The median of all times."""
        return float(np.median(self.times_ms))

    @property
    def p99_ms(self) -> float:
        """The time that one request of a hundred exceeds; of fewer, nearly the longest."""
        return float(np.percentile(self.times_ms, 99))

    @property
    def spread_ms(self) -> tuple[float, float]:
        """The medians of the single connections: the tenth and the ninetieth percentile."""
        low, high = np.percentile([np.median(times) for times in self.connections], (10, 90))
        return float(low), float(high)


def run_rounds(ways: Sequence[Way], plan: Plan, shuffle: random.Random) -> Mapping[str, Series]:
    """Measure ways against one another.

    Parameters
    ----------
    ways
        Open, with their tensors put.
    plan
        How long to go on.
    shuffle
        Gives the order within a round.

    Returns
    -------
    mapping of str to Series
        By the ways' keys.
    """
    series = {way.key: Series() for way in ways}
    repeats = _repeats(ways[0].nbytes)
    until = time.perf_counter() + plan.seconds
    with quiet():
        for done in range(plan.rounds):
            if done >= _FEWEST_ROUNDS and time.perf_counter() > until:
                break
            for way in shuffle.sample(ways, len(ways)):
                with held_back():
                    way.reconnect()
                    for _ in range(_WARM_UPS):
                        way.exchange()
                    series[way.key].connections.append([timed_ms(way) for _ in range(repeats)])
                gc.collect()
    return series


def timed_ms(way: Way) -> float:
    """Return how long one exchange takes, in milliseconds.

    Letting go of the answer is not part of it.
    """
    started = time.perf_counter()
    given = way.exchange()
    took = time.perf_counter() - started
    del given
    return took * 1e3


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Python's garbage collector from running by itself."""
    gc.collect()
    gc.freeze()  # what is there now need not be looked at again between the rounds
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _repeats(nbytes: int) -> int:
    """Return how many requests are measured over each connection."""
    return 10 if nbytes <= 2**20 else 4 if nbytes <= 2**23 else 2
