"""What a handful of noisy times says: medians, their intervals, and ratios between ways.

Times on a busy machine have no normal distribution, and single ones are off by any factor. So
intervals are those of a median by order statistics (David and Nagaraja, Order Statistics,
section 7.1), which suppose nothing about the distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "LEAST_RATIO",
    "Ratio",
    "median_interval",
    "ratio_of",
    "times_text",
]

LEAST_RATIO = 1.1
"""Less than this is called no difference: it is less than what a day, or a connection, makes."""

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one way is as another.

    Attributes
    ----------
    value
        The median over rounds of one time divided by the other, each of the same round.
    low, high
        Its interval of 95 % confidence; from 0 to infinity after fewer than six rounds.
    """

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there were enough rounds to tell."""
        return self.low > 0 and math.isfinite(self.high)

    @property
    def matters(self) -> bool:
        """Whether there is a difference, and one that is worth speaking of."""
        apart = self.low > 1 or self.high < 1
        return self.known and apart and max(self.value, 1 / self.value) >= LEAST_RATIO

    @property
    def same(self) -> bool:
        """Whether there is surely no difference that is worth speaking of."""
        return self.low >= 1 / LEAST_RATIO and self.high <= LEAST_RATIO

    def within(self, precision: float) -> bool:
        """Whether the interval is as narrow as asked: 0.05 means 5 % to either side."""
        return self.known and self.high <= self.low * (1 + precision) ** 2

    def __str__(self) -> str:
        if not self.known:
            return f"{times_text(self.value)} (too few rounds for an interval)"
        return f"{times_text(self.value)} ({times_text(self.low)} to {times_text(self.high)})"


def ratio_of(baseline: Sequence[float], way: Sequence[float]) -> Ratio:
    """Return how many times as fast a way is, from the times of the same rounds.

    Parameters
    ----------
    baseline, way
        Times above 0, one for each round, in the same unit.
    """
    logs = np.log(np.asarray(baseline, float)) - np.log(np.asarray(way, float))
    low, high = median_interval(logs.tolist())
    return Ratio(float(np.exp(np.median(logs))), math.exp(low), math.exp(high))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the interval of 95 % confidence of the median of values.

    Returns
    -------
    float, float
        From minus to plus infinity where there are too few of them, which is below six.
    """
    ordered, count = sorted(values), len(values)
    outside = 0.0  # the probability that the median lies below the value at `place`, or above
    place = -1
    for step in range(count // 2):
        outside += 2 * math.comb(count, step) * 0.5**count
        if outside > 1 - _CONFIDENCE:
            break
        place = step
    if place < 0:
        return -math.inf, math.inf
    return ordered[place], ordered[count - 1 - place]


def times_text(number: float) -> str:
    """Write how many times, as people read it: 1.25, 3.2, 41."""
    return f"{number:.2f}" if number < 2 else f"{number:.1f}" if number < 10 else f"{number:,.0f}"
