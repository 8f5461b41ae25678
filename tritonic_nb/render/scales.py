"""From numbers to places on an axis: linear and logarithmic scales, round numbers, room for names.

Positions are CSS pixels; a scale may run either way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["LinearScale", "LogScale", "apart", "is_power", "round_numbers"]

_SMALLEST = 1e-300
_DIGITS = ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 2, 3, 5), (1,))


@dataclass(frozen=True)
class LinearScale:
    """Turns numbers from `low` to `high` into places from `start` to `end`; arrays too."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: Any) -> Any:
        """Give a number's place."""
        part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def steps(self, least_px: float) -> list[float]:
        """Return round numbers that are at least so many pixels apart."""
        wanted = (self.high - self.low) * least_px / abs(self.end - self.start)
        if wanted < _SMALLEST:  # a power of ten below it would be 0
            return [self.low]
        power = 10.0 ** math.floor(math.log10(wanted))
        step = next(power * each for each in (1, 2, 5, 10) if power * each >= wanted * 0.999)
        first = math.ceil(self.low / step - 1e-6)
        return [step * n for n in range(first, math.floor(self.high / step + 1e-6) + 1)]


@dataclass(frozen=True)
class LogScale:
    """Turns numbers above 0 into places, so that equal ratios are equally far apart."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Give a number's place."""
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.end - self.start)

    @classmethod
    def around(
        cls,
        low: float,
        high: float,
        start: float,
        end: float,
        *,
        room: float = 0.06,
        least_ratio: float = 4.0,
    ) -> LogScale:
        """Make one with `room`, a part of its length, around numbers.

        Its ends are `least_ratio` apart, or more.
        """
        ratio = high / low
        margin = max(1.25, ratio**room, math.sqrt(least_ratio / ratio))
        return cls(low / margin, high * margin, start, end)

    def steps(self, least_px: float) -> list[float]:
        """Return round numbers that are at least so many pixels apart, as dense as that allows.

        All digits, or a few of them, or powers of ten, or each second of them, and so on; one
        number alone where no two have room.
        """
        for digits in _DIGITS:
            found = list(round_numbers(self.low, self.high, digits))
            if len(found) > 1 and self._nearest(found) >= least_px:
                return found
        powers = list(round_numbers(self.low, self.high, (1,)))
        decade = abs(self.end - self.start) / math.log10(self.high / self.low)
        alone = list(round_numbers(self.low, self.high))[:1]
        return powers[:: max(1, math.ceil(least_px / decade))] or alone

    def _nearest(self, values: Sequence[float]) -> float:
        places = [self(value) for value in values]
        return min(abs(b - a) for a, b in pairwise(places))


def apart(wanted: Sequence[float], low: float, high: float, step: float) -> list[float]:
    """Move positions, which are in order, until they have room between `low` and `high`.

    Pushed down and pushed up they have it; so they have half-way between, and are nearest
    to where they were meant to be. From one to the next there is then `step` at least.
    """
    down = _pushed([position - low for position in wanted], step)
    up = _pushed([high - position for position in reversed(wanted)], step)
    middle = [
        (low + below + high - above) / 2 for below, above in zip(down, reversed(up), strict=True)
    ]
    return [low + position for position in _pushed([each - low for each in middle], step)]


def round_numbers(low: float, high: float, digits: Sequence[int] = (1, 2, 5)) -> Iterator[float]:
    """Give the numbers of one digit that lie between two others."""
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        yield from (v for v in (10.0**power * step for step in digits) if low <= v <= high)


def is_power(value: float) -> bool:
    """Whether a number is a power of ten."""
    return math.isclose(math.log10(value), round(math.log10(value)), abs_tol=1e-9)


def _pushed(wanted: Sequence[float], step: float) -> list[float]:
    """Move positions away from 0 until each has room after the one before."""
    placed: list[float] = []
    for position in wanted:
        placed.append(max(position, placed[-1] + step if placed else 0.0))
    return placed
