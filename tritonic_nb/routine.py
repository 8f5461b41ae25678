"""What inferences of the same shapes have in common, so that it is done once.

Whoever infers in a loop sends the same datatypes and shapes again and again. The checks
against the model, and the request with its regions, offsets and sizes, are made for the
first of them and kept here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonic_nb.memory import Region
from tritonic_nb.regions import Slot
from tritonic_nb.result import TensorPlace
from tritonic_nb.tensors import ModelSpec, TensorSpec
from tritonic_nb.tensors.dtypes import TEXT_KINDS
from tritonic_nb.transport import PreparedRequest

__all__ = ["Pattern", "ReadyRequest", "Routine", "Routines", "pattern_of", "plain_arrays"]

_MOST_ROUTINES = 64
_MOST_READY = 256  # of one routine: as many as are in flight, and more where regions were exchanged

Pattern: TypeAlias = tuple[Any, ...]
"""What makes inferences alike, as :func:`pattern_of` gives it."""


@dataclass(frozen=True)
class ReadyRequest:
    """A request that was sent before, and can be sent again as it is.

    Attributes
    ----------
    prepared
        The request.
    regions
        The regions that it names, by direction and tensor; those that were lent are not
        among them.
    lent
        The inputs' regions that the user fills in place, by name.
    room
        The bytes that each output in a region was given.
    places
        How each tensor travels, where that is the same every time; else None.
    """

    prepared: PreparedRequest
    regions: Mapping[tuple[str, str], Region]
    lent: Mapping[str, Region]
    room: Mapping[str, int]
    places: Mapping[tuple[str, str], TensorPlace] | None

    def gone(self) -> bool:
        """Whether one of its regions was removed."""
        return any(region.state != "registered" for region in self.regions.values())


@dataclass(frozen=True)
class Routine:
    """What is known of inferences of one pattern.

    Attributes
    ----------
    outputs
        The outputs to ask for.
    known_nbytes
        The bytes of each; None where the model does not tell.
    batch
        The size of the batch.
    """

    outputs: Sequence[TensorSpec]
    known_nbytes: Mapping[str, int | None]
    batch: int
    _ready: deque[ReadyRequest] = field(
        default_factory=lambda: deque(maxlen=_MOST_READY), init=False, repr=False
    )

    @classmethod
    def of(cls, outputs: Sequence[TensorSpec], batch: int) -> Routine:
        """Return the routine for some outputs and a batch."""
        shapes = {spec: spec.concrete_shape(batch=batch) for spec in outputs}
        known = {s.name: None if d is None else s.nbytes_of(d) for s, d in shapes.items()}
        return cls(outputs, known, batch)

    def resume(self, slot: Slot, lent: Mapping[str, Region]) -> ReadyRequest | None:
        """Give a slot the regions of a request that is ready, and return that.

        Parameters
        ----------
        slot
            The slot, which has no regions yet.
        lent
            The inputs' regions that the user fills in place.

        Returns
        -------
        ReadyRequest or None
            None where none is ready, or others have its regions now.
        """
        for _ in range(len(self._ready)):
            try:
                ready = self._ready.pop()
            except IndexError:  # another thread took it
                break
            if ready.lent == lent and slot.retake(ready.regions):
                for region in lent.values():
                    slot.borrow(region)
                return ready
            if ready.lent == lent and not ready.gone():
                self._ready.appendleft(ready)  # a view, or another request, has its regions now
        return None

    def keep(self, ready: ReadyRequest | None) -> None:
        """Keep a request for the next time."""
        if ready is not None:
            self._ready.append(ready)


class Routines:
    """The routines of one model; of very many, the newest."""

    def __init__(self) -> None:
        self._known: dict[Pattern, Routine] = {}
        self._lock = threading.Lock()

    def get(self, pattern: Pattern | None) -> Routine | None:
        """Return the routine of a pattern, or None where there is none yet."""
        return None if pattern is None else self._known.get(pattern)

    def add(self, pattern: Pattern, routine: Routine) -> None:
        """Keep a routine, and forget the oldest where there are very many."""
        with self._lock:
            if len(self._known) >= _MOST_ROUTINES:
                del self._known[next(iter(self._known))]
            self._known[pattern] = routine


def plain_arrays(
    model: ModelSpec, inputs: Any, named: Mapping[str, Any]
) -> dict[str, npt.NDArray[Any]] | None:
    """Return what was given by name, if it is NumPy arrays of numbers and nothing else.

    Whether such arrays fit a model depends on their datatypes and shapes alone.

    Parameters
    ----------
    model
        The model.
    inputs, named
        As for :meth:`~tritonic_nb.Session.infer`.
    """
    if type(inputs) is np.ndarray:
        if len(model.inputs) != 1:
            return None
        (name,) = model.inputs
        given = {name: inputs, **named}
    elif inputs is None:
        given = dict(named)
    elif type(inputs) is dict:
        given = {**inputs, **named}
    else:
        return None
    for array in given.values():
        # A kind of array of its own, such as a masked one, may be more than its elements.
        if type(array) is not np.ndarray or array.dtype.kind in TEXT_KINDS:
            return None
    return given


def pattern_of(
    arrays: Mapping[str, npt.NDArray[Any]], outputs: Any, *, in_place: bool
) -> Pattern | None:
    """Return what makes inferences alike, or None for one that is like no other.

    Parameters
    ----------
    arrays
        The inputs by name.
    outputs
        The outputs to ask for, as the caller named them.
    in_place
        Whether the inputs lie in their regions already.
    """
    if outputs is not None and type(outputs) is not str:
        if type(outputs) not in (list, tuple) or any(type(name) is not str for name in outputs):
            return None
        outputs = tuple(outputs)
    return (*[(n, a.shape, a.dtype) for n, a in arrays.items()], outputs, in_place)
