"""What the numbers of an array are like, in bounded time and memory.

Which figures are exact is a fixed rule. Up to 64 MiB every element is looked at; only the
histogram of numbers of four bytes and more is made of at most 2**20 of them. Above, all figures
come from at most 2**22 elements. What was left out is told as a step: one element in so many
was looked at, evenly along the longest axis, so that memory is read in order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.render.extent import Extent
from tritonic_nb.render.sampling import chunks, thinned

__all__ = ["Statistics", "statistics_of"]

_EXACT_NBYTES = 2**26
_MOST_LOOKED_AT = 2**22
_MOST_IN_HISTOGRAM = 2**20
_PATTERNS = 2**18  # elements at a time where each different one is counted
_BINS = 16
_FAR = 400  # powers of two: beyond them the square of a number is no float64 any more
_FARTHEST = 1000  # and 2 to this power still is one


@dataclass(frozen=True)
class Statistics:
    """The figures of an array of numbers.

    Attributes
    ----------
    step
        1 where every element was looked at; else one in so many was, and that holds for
        all that follows.
    count
        How many elements were looked at.
    minimum, maximum
        The lowest and the highest finite value: whole numbers exactly as they are; None
        where no value is finite.
    mean, std
        Of the finite values, the standard deviation being that of the values themselves
        (NumPy's ``ddof=0``); None where there are none.
    zeros, nans, above, below
        How many are 0, NaN, infinite and minus infinite.
    histogram
        How many finite values lie in each of up to 16 equal parts from the minimum to the
        maximum; empty where they are the same.
    histogram_step
        As `step`, for the histogram.
    """

    step: int
    count: int
    minimum: int | float | None
    maximum: int | float | None
    mean: float | None
    std: float | None
    zeros: int
    nans: int
    above: int
    below: int
    histogram: tuple[int, ...]
    histogram_step: int


def statistics_of(array: npt.NDArray[Any]) -> Statistics:
    """Return the figures of an array of numbers, of any shape and memory layout.

    Parameters
    ----------
    array
        Of a dtype for which :func:`~tritonic_nb.render.datatype.is_number` holds.
    """
    values, step = array, 1
    if array.nbytes > _EXACT_NBYTES:
        values, step = thinned(array, _MOST_LOOKED_AT)
    if array.dtype.kind == "b":
        return _of_truths(values, step)
    # Numbers of one or two bytes: so few different ones that each can be counted.
    if values.dtype.itemsize <= 2 and values.size > 256**values.dtype.itemsize:
        return _of_patterns(values, step)
    with np.errstate(all="ignore"):  # what overflows or is no number is counted instead
        extent = Extent.of(values)
        scale = _scale(extent)
        mean, std = _moments(values, extent, scale)
        drawn, more = thinned(values, _MOST_IN_HISTOGRAM)
        histogram = (
            _histogram(
                ((_finite(chunk, extent) * scale, None) for chunk in chunks(drawn)),
                extent.low * scale,
                extent.high * scale,
                values.dtype.kind in "iu",
            )
            if extent.finite
            else ()
        )
        return Statistics(
            step=step,
            count=values.size,
            minimum=extent.low if extent.finite else None,
            maximum=extent.high if extent.finite else None,
            mean=mean,
            std=std,
            zeros=extent.zeros,
            nans=extent.nans,
            above=extent.above,
            below=extent.below,
            histogram=histogram,
            histogram_step=step * more,
        )


def _of_truths(values: npt.NDArray[Any], step: int) -> Statistics:
    """Return the figures of truth values, which are only counted."""
    count, true = values.size, int(np.count_nonzero(values))
    part = true / count if count else 0.0
    return Statistics(
        step=step,
        count=count,
        minimum=int(true == count) if count else None,
        maximum=int(true > 0) if count else None,
        mean=part if count else None,
        std=math.sqrt(part * (1 - part)) if count else None,
        zeros=count - true,
        nans=0,
        above=0,
        below=0,
        histogram=(count - true, true) if 0 < true < count else (),
        histogram_step=step,
    )


def _of_patterns(values: npt.NDArray[Any], step: int) -> Statistics:
    """Return the figures of numbers of one or two bytes, by how often each occurs."""
    bits = np.dtype(f"u{values.dtype.itemsize}")
    counts = np.zeros(256**bits.itemsize, np.int64)
    places = np.empty(_PATTERNS, np.intp)  # once: memory from the system costs more than counting
    for chunk in chunks(values.view(bits), _PATTERNS):
        places[: chunk.size] = chunk
        counts += np.bincount(places[: chunk.size], minlength=counts.size)
    present = np.flatnonzero(counts)
    counts = counts[present]
    numbers = present.astype(bits).view(values.dtype).astype(np.float64)
    finite = np.isfinite(numbers)
    known = Statistics(
        step=step,
        count=values.size,
        minimum=None,
        maximum=None,
        mean=None,
        std=None,
        zeros=int(counts[numbers == 0].sum()),
        nans=int(counts[np.isnan(numbers)].sum()),
        above=int(counts[numbers == np.inf].sum()),
        below=int(counts[numbers == -np.inf].sum()),
        histogram=(),
        histogram_step=step,
    )
    if not finite.any():
        return known
    numbers, counts = numbers[finite], counts[finite]
    whole = values.dtype.kind in "iu"
    lowest, highest = numbers.min(), numbers.max()
    mean = float(np.average(numbers, weights=counts))
    number = int if whole else float
    return replace(
        known,
        minimum=number(lowest),
        maximum=number(highest),
        mean=min(max(mean, lowest), highest),
        std=math.sqrt(float(np.average((numbers - mean) ** 2, weights=counts))),
        histogram=_histogram([(numbers, counts)], lowest, highest, whole),
    )


def _scale(extent: Extent) -> float:
    """Return a power of two that brings finite values where their squares are numbers."""
    _, power = math.frexp(max(abs(float(extent.low)), abs(float(extent.high))))
    if abs(power) < _FAR:
        return 1.0
    return 2.0 ** -max(-_FARTHEST, min(_FARTHEST, power))


def _moments(
    values: npt.NDArray[Any], extent: Extent, scale: float
) -> tuple[float | None, float | None]:
    """Return mean and standard deviation, chunk by chunk, of numbers that `scale` makes fit.

    Each chunk's mean is taken off before anything is squared, and the chunks are put
    together after Chan, Golub and LeVeque (1979), so that nothing is lost where the values
    are large and lie close together.
    """
    if not extent.finite:
        return None, None
    if extent.flat:
        return float(extent.low), 0.0
    count, mean, squares = 0, 0.0, 0.0
    for chunk in chunks(values):
        numbers = _finite(chunk, extent)
        if not numbers.size:
            continue
        if scale != 1.0:
            numbers *= scale
        own = float(numbers.mean())
        numbers -= own
        apart = own - mean
        total = count + numbers.size
        # Not a dot product: BLAS shares it out to threads, which wait for one another for
        # half a second where other processes use the cores.
        squares += float(np.square(numbers, out=numbers).sum())
        squares += apart * apart * count * numbers.size / total
        mean += apart * numbers.size / total
        count = total
    return (
        min(max(mean / scale, float(extent.low)), float(extent.high)),
        math.sqrt(squares / count) / scale,
    )


def _histogram(
    parts: Iterable[tuple[npt.NDArray[np.float64], npt.NDArray[Any] | None]],
    lowest: float,
    highest: float,
    whole: bool,
) -> tuple[int, ...]:
    """Count numbers, each as often as told, in equal parts from the lowest to the highest."""
    if lowest == highest:
        return ()
    # Of a few whole numbers each has a part of its own.
    bins = min(_BINS, int(highest - lowest) + 1) if whole else _BINS
    counts = np.zeros(bins, np.int64)
    for numbers, weights in parts:
        places = ((numbers - lowest) / (highest - lowest) * bins).astype(np.intp)
        np.clip(places, 0, bins - 1, out=places)
        counts += np.bincount(places, weights, minlength=bins).astype(np.int64)
    return tuple(counts.tolist())


def _finite(chunk: npt.NDArray[Any], extent: Extent) -> npt.NDArray[np.float64]:
    """Return the finite numbers of a chunk, as a new array."""
    numbers = chunk.astype(np.float64)
    return numbers if extent.all_finite else numbers[np.isfinite(numbers)]
