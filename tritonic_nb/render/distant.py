"""Arrays in another memory, of which only the parts that are looked at are copied."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from tritonic_nb.render.human import human_bytes

__all__ = ["MOST_NBYTES", "Distant", "Index", "P", "Part", "leading", "read_runs"]

Index: TypeAlias = "tuple[int | slice, ...]"
"""A number or a slice with a positive step for each axis."""

_AT_ONCE = 2**20  # bytes: a smaller array is copied as it is
_ONE_COPY = 2**16  # to begin a copy takes as long as to copy so many bytes
_SMALL_ITEM = 2**12  # bytes: less than a row of a picture that is worth thinning out
MOST_NBYTES = 2**26
"""Of items too small to be copied one by one, so many bytes are copied at most."""


K = TypeVar("K", bound=Hashable)
P = TypeVar("P", bound="Part")


class Part(Protocol):
    """An array in another memory that gives parts along its first axis, without a copy."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype."""

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""

    def __getitem__(self: P, part: Any, /) -> P:
        """Give an item, or a range of items."""


class Distant:
    """What was copied of an array in another memory, each part once.

    Parameters
    ----------
    nbytes
        Of the array.
    place
        Where it lies, in words.
    left_out
        What of the array is not looked at, in words.
    """

    def __init__(self, nbytes: int, place: str, left_out: str = "") -> None:
        self.nbytes = nbytes
        self.place = place
        self._left_out = left_out
        self._held: dict[Hashable, npt.NDArray[Any]] = {}

    @property
    def small(self) -> bool:
        """Whether all of it is copied, whatever is wanted."""
        return self.nbytes <= _AT_ONCE

    def parts(
        self, keys: Sequence[K], copy: Callable[[Sequence[K]], Sequence[npt.NDArray[Any]]]
    ) -> list[npt.NDArray[Any]]:
        """Give parts by what they are known by; those that are not here yet are copied."""
        missing = [key for key in keys if key not in self._held]
        if missing:
            self._held.update(zip(missing, copy(missing), strict=True))
        return [self._held[key] for key in keys]

    def __str__(self) -> str:
        """Say how much was copied from where; parts that overlap count twice."""
        copied = sum(part.nbytes for part in self._held.values())
        some = f"{human_bytes(copied)} of {human_bytes(self.nbytes)} " * (copied < self.nbytes)
        return "; ".join(filter(None, [self._left_out, f"{some}copied from {self.place}"]))


def leading(array: P) -> tuple[P, str]:
    """Leave out the end of a large array whose items are too small to copy a few of them.

    Returns
    -------
    Part, str
        The items to look at, and which these are, in words.
    """
    core = array
    while len(core.shape) and core.shape[0] == 1:
        core = core[0]
    item_nbytes = math.prod(core.shape[1:]) * core.dtype.itemsize
    count = core.shape[0] if core.shape else 1
    most = MOST_NBYTES // max(1, item_nbytes)
    if item_nbytes >= _SMALL_ITEM or count <= most:
        return array, ""
    return core[:most], f"only the first {most:,} of {count:,} are looked at"


def read_runs(
    array: P,
    copy: Callable[[Sequence[P]], Sequence[npt.NDArray[Any]]],
    distant: Distant,
    index: Index,
) -> npt.NDArray[Any]:
    """Read a part of an array that gives parts along its first axis only.

    Parameters
    ----------
    array
        The array.
    copy
        Copies several parts.
    distant
        What was copied before.
    index
        Which part.
    """
    places = [_places(part, side) for part, side in zip(index, array.shape, strict=True)]
    if not all(map(len, places)):
        counts = [len(p) for p, part in zip(places, index, strict=True) if _is_range(part)]
        return np.empty(counts, array.dtype)
    if not places:
        return distant.parts([()], lambda _keys: copy([array]))[0]
    axis = _axis_of_runs(places, array)
    outer, run = places[:axis], places[axis]
    side, start, stop = array.shape[axis], run.start, run[-1] + 1
    if array.nbytes <= _AT_ONCE or 2 * (stop - start) > side:
        start, stop = 0, side  # and the next one who asks for most of it has it
    runs = [(*at, start, stop) for at in itertools.product(*outer)]
    parts = distant.parts(
        runs, lambda keys: copy([_item(array, at)[first:end] for *at, first, end in keys])
    )
    block = np.stack(parts).reshape([*map(len, outer), *parts[0].shape])
    kept = tuple(slice(None) if _is_range(part) else 0 for part in index[:axis])
    inside = slice(run.start - start, run[-1] + 1 - start, run.step)
    own = inside if _is_range(index[axis]) else run.start - start
    whole = (*kept, own, *index[axis + 1 :])
    taken: npt.NDArray[Any] = block[whole]
    return taken


def _is_range(part: int | slice) -> bool:
    return isinstance(part, slice)


def _places(part: int | slice, side: int) -> range:
    return range(*part.indices(side)) if isinstance(part, slice) else range(part, part + 1)


def _axis_of_runs(places: Sequence[range], array: Part) -> int:
    """Choose the axis along which whole runs are copied, one for each place before it.

    What lies between the wanted places of the run, and all of the axes behind it, comes
    along; the fewer runs there are, the more that is.
    """
    if array.nbytes <= _AT_ONCE:
        return 0
    costs = []
    for axis, run in enumerate(places):
        runs = math.prod(map(len, places[:axis]))
        items = math.prod(array.shape[axis + 1 :]) * array.dtype.itemsize
        costs.append(runs * ((run[-1] + 1 - run.start) * items + _ONE_COPY))
    return costs.index(min(costs))


def _item(array: P, at: Sequence[int]) -> P:
    for place in at:
        array = array[place]
    return array
