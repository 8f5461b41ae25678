"""Arrays in another memory, of which only the parts that are looked at are copied."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonic_nb.render.human import human_bytes

__all__ = ["Distant", "Index", "Part", "fetch_by_parts"]

Index: TypeAlias = "tuple[int | slice, ...]"
"""A number or a slice with a positive step for each axis."""

_AT_ONCE = 2**18  # bytes: a smaller array is copied as it is
_ONE_COPY = 2**16  # to begin a copy takes as long as to copy so many bytes


class Part(Protocol):
    """An array in another memory that gives parts along its first axis, without a copy."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype."""

    def __getitem__(self, part: Any, /) -> Part:
        """Give an item, or a range of items."""


class Distant:
    """What is copied of an array in another memory, each part once.

    Parameters
    ----------
    shape, nbytes
        Of the array.
    place
        Where it lies, in words.
    fetch
        Copies what an index names.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        nbytes: int,
        place: str,
        fetch: Callable[[Index], npt.NDArray[Any]],
    ) -> None:
        self.shape = shape
        self.nbytes = nbytes
        self.place = place
        self._fetch = fetch
        self._copied: dict[tuple[Any, ...], npt.NDArray[Any]] = {}

    def read(self, index: Index) -> npt.NDArray[Any]:
        """Copy a part, or give it again."""
        if self.nbytes <= _AT_ONCE:
            return self._part((slice(None),) * len(self.shape))[index]
        return self._part(index)

    def _part(self, index: Index) -> npt.NDArray[Any]:
        key = tuple(
            part.indices(side) if isinstance(part, slice) else part
            for part, side in zip(index, self.shape, strict=True)
        )
        if key not in self._copied:
            self._copied[key] = self._fetch(index)
        return self._copied[key]

    def __str__(self) -> str:
        """Say how much was copied from where; parts that overlap count twice."""
        copied = sum(part.nbytes for part in self._copied.values())
        if copied >= self.nbytes:
            return f"copied from {self.place}"
        return f"{human_bytes(copied)} of {human_bytes(self.nbytes)} copied from {self.place}"


def fetch_by_parts(
    array: Part, copy: Callable[[Sequence[Part]], Sequence[npt.NDArray[Any]]]
) -> Callable[[Index], npt.NDArray[Any]]:
    """Return what copies any part of an array that gives parts along its first axis only.

    Parameters
    ----------
    array
        Of at least one element.
    copy
        Copies several parts.
    """

    def fetch(index: Index) -> npt.NDArray[Any]:
        places = [_places(part, side) for part, side in zip(index, array.shape, strict=True)]
        if not all(map(len, places)):
            counts = [len(p) for p, part in zip(places, index, strict=True) if _is_range(part)]
            return np.empty(counts, array.dtype)
        axis = _axis_of_runs(places, array)
        if axis is None:
            return copy([array])[0]
        run = places[axis]
        outer = places[:axis]
        parts = copy([
            _item(array, at)[run.start : run[-1] + 1] for at in itertools.product(*outer)
        ])  # fmt: skip
        block = np.stack(parts).reshape([*map(len, outer), *parts[0].shape])
        kept = tuple(slice(None) if _is_range(part) else 0 for part in index[:axis])
        own = slice(None, None, run.step) if _is_range(index[axis]) else 0
        whole = (*kept, own, *index[axis + 1 :])
        taken: npt.NDArray[Any] = block[whole]
        return taken

    return fetch


def _is_range(part: int | slice) -> bool:
    return isinstance(part, slice)


def _places(part: int | slice, side: int) -> range:
    return range(*part.indices(side)) if isinstance(part, slice) else range(part, part + 1)


def _axis_of_runs(places: Sequence[range], array: Part) -> int | None:
    """Choose the axis along which whole runs are copied, one for each place before it.

    What lies between the wanted places of the run, and all of the axes behind it, comes
    along; the fewer runs there are, the more that is. None where there is no axis.
    """
    costs = []
    for axis, run in enumerate(places):
        runs = math.prod(map(len, places[:axis]))
        items = math.prod(array.shape[axis + 1 :]) * array.dtype.itemsize
        costs.append(runs * ((run[-1] + 1 - run.start) * items + _ONE_COPY))
    return costs.index(min(costs)) if costs else None


def _item(array: Part, at: Sequence[int]) -> Part:
    for place in at:
        array = array[place]
    return array
