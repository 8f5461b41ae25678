"""How far the numbers of an array reach."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.render.datatype import is_number
from tritonic_nb.render.sampling import chunks

__all__ = ["Extent", "number"]


@dataclass(frozen=True)
class Extent:
    """The range of some numbers, and how many are special.

    Attributes
    ----------
    low, high
        The lowest and the highest finite one, whole numbers exactly as they are; both 0
        where there is none.
    finite, zeros, nans, above, below
        How many are finite, 0, NaN, infinite and minus infinite.
    sampled
        Whether only some of the numbers were looked at.
    """

    low: int | float
    high: int | float
    finite: int = 0
    zeros: int = 0
    nans: int = 0
    above: int = 0
    below: int = 0
    sampled: bool = False

    @classmethod
    def of(cls, array: npt.NDArray[Any], *, sampled: bool = False) -> Extent:
        """Look at all elements of an array of any shape; of texts there is no range."""
        low, high = math.inf, -math.inf
        finite = zeros = nans = above = below = 0
        if not is_number(array.dtype):
            return cls(0, 0, sampled=sampled)
        whole = array.dtype.kind in "iu"
        kind = int if array.dtype.kind in "biu" else float
        with np.errstate(all="ignore"):  # what is no number is counted
            for chunk in chunks(array):
                good = chunk
                lowest, highest = good.min(), good.max()
                if not (whole or (np.isfinite(lowest) and np.isfinite(highest))):
                    nans += int(np.count_nonzero(np.isnan(chunk)))
                    above += int(np.count_nonzero(chunk == np.inf))
                    below += int(np.count_nonzero(chunk == -np.inf))
                    good = chunk[np.isfinite(chunk)]
                    if not good.size:
                        continue
                    lowest, highest = good.min(), good.max()
                low, high = min(low, kind(lowest)), max(high, kind(highest))
                finite += good.size
                zeros += good.size - int(np.count_nonzero(good))
        if not finite:
            low = high = 0
        return cls(low, high, finite, zeros, nans, above, below, sampled)

    @property
    def flat(self) -> bool:
        """Whether there are no two different finite numbers."""
        return self.low == self.high

    @property
    def infinite(self) -> int:
        """How many are infinite, of either sign."""
        return self.above + self.below

    @property
    def all_finite(self) -> bool:
        """Whether there is no NaN and nothing infinite."""
        return not (self.nans or self.infinite)

    def __str__(self) -> str:
        if not self.finite:
            said = "no finite value"
        elif self.flat:
            said = f"all {number(self.low)}"
        else:
            said = f"{number(self.low)} to {number(self.high)}"
        return ", ".join([said, *self.odd()]) + (" (of a sample)" if self.sampled else "")

    def odd(self) -> list[str]:
        """Say how many are no finite numbers."""
        counts = ((self.nans, "NaN"), (self.infinite, "infinite"))
        return [f"{count:,} {word}" for count, word in counts if count]

    def together(self, other: Extent) -> Extent:
        """Return the extent of the numbers of both."""
        reaching = [each for each in (self, other) if each.finite] or [self]
        return Extent(
            low=min(each.low for each in reaching),
            high=max(each.high for each in reaching),
            finite=self.finite + other.finite,
            zeros=self.zeros + other.zeros,
            nans=self.nans + other.nans,
            above=self.above + other.above,
            below=self.below + other.below,
            sampled=self.sampled or other.sampled,
        )


def number(value: float) -> str:
    """Write a number for people, in at most nine characters or so."""
    if abs(value) < 1e6 and value == int(value):
        return f"{int(value):,}"
    return f"{value:.3g}"
