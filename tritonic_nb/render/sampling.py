"""Which elements of a large array are looked at, and in which order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["chunks", "steps", "thinned"]

_CHUNK = 2**16  # elements: as float64 they fit a processor's second cache


def steps(shape: Sequence[int], most: int, order: Sequence[int] = ()) -> tuple[int, ...]:
    """Tell how far apart to look along each axis, so that at most `most` elements are left.

    The longest axis is thinned out, and the next one where that is not enough. Steps are
    odd, because what repeats in an array repeats after powers of two.

    Parameters
    ----------
    shape
        Of the array.
    most
        How many elements.
    order
        The axes in the order in which they are thinned out, for an array of which only
        parts along the first axis are at hand; without it the longest is next.
    """
    left = list(shape)
    found = [1] * len(shape)
    while (count := math.prod(left)) > most:
        axis = next((axis for axis in order if left[axis] > 1), left.index(max(left)))
        found[axis] = min(found[axis] * (-(-count // most) | 1), shape[axis])
        left[axis] = -(-shape[axis] // found[axis])
    return tuple(found)


def thinned(array: npt.NDArray[Any], most: int) -> tuple[npt.NDArray[Any], int]:
    """Return at most `most` elements of an array as a view, and how many each stands for."""
    apart = steps(array.shape, most)
    part = array[tuple(slice(None, None, step) for step in apart)]
    return part, -(-array.size // part.size) if part.size else 1


def chunks(array: npt.NDArray[Any], size: int = _CHUNK) -> Iterator[npt.NDArray[Any]]:
    """Give the elements in memory order, without a copy of the whole.

    Floats come as float32 or float64, which NumPy compares several times as fast as others.
    """
    if not array.size:
        return
    parts = np.nditer(
        array, ["external_loop", "buffered", "zerosize_ok"], order="K", buffersize=size
    )
    slow = array.dtype.kind not in "iu" and array.dtype not in (np.float32, np.float64)
    for part in parts:
        chunk: npt.NDArray[Any] = np.asarray(part)
        yield chunk.astype(np.float64) if slow else chunk
