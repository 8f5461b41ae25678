"""What a way is: how one tensor goes to a server and its answer comes back."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tritonic_nb.benchmark.endpoint import Endpoint

__all__ = ["TIMEOUT_S", "Array", "Way", "tensor"]

Array = npt.NDArray[np.float32]

TIMEOUT_S = 60.0
"""For every exchange."""

_PAGE_NBYTES = 4096
_ITEM_NBYTES = 4


def tensor(nbytes: int, seed: int = 0) -> Array:
    """Return random numbers, float32 of shape ``[1, nbytes / 4]``, that begin with a page."""
    room = np.empty(nbytes + _PAGE_NBYTES, np.uint8)
    start = -room.ctypes.data % _PAGE_NBYTES
    made = room[start : start + nbytes].view(np.float32).reshape(1, -1)
    np.random.default_rng(seed).random(dtype=np.float32, out=made)
    return made


class Way(ABC):
    """One way, open for tensors of one size.

    The tensor is put where a user has it (:meth:`put`, not timed) and exchanged for the
    answer (:meth:`exchange`, timed), any number of times.

    Parameters
    ----------
    endpoint
        The server and the model.
    nbytes
        The bytes of the tensor.

    Attributes
    ----------
    key, label
        Its name in JSON, and for people.
    timed
        What happens while the clock runs.
    copies
        How often Python code of this process copies the tensor while the clock runs,
        in and out, known from that code; None where the tensor goes through libraries
        and the kernel, whose copies nobody counted.
    """

    key: ClassVar[str]
    label: ClassVar[str]
    timed: ClassVar[str]
    copies: ClassVar[int | None] = None

    def __init__(self, endpoint: Endpoint, nbytes: int) -> None:
        self.endpoint = endpoint
        self.nbytes = nbytes
        self.shape = (1, nbytes // _ITEM_NBYTES)
        self.array: Array = np.empty(0, np.float32)
        self._held = contextlib.ExitStack()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _open(self) -> None:
        """Make what the way needs, and leave to ``_held`` how it is removed."""

    def put(self, array: Array) -> None:
        """Take the tensor to send."""
        self.array = array

    @abstractmethod
    def exchange(self) -> Any:
        """Send the tensor and get the answer."""

    def answer(self, given: Any) -> npt.NDArray[Any]:
        """Return as an array what :meth:`exchange` gave, to compare it."""
        return np.asarray(given)

    @abstractmethod
    def reconnect(self) -> None:
        """Let the next exchange open a new connection."""

    def close(self) -> None:
        """Remove what the way holds; safe to repeat."""
        self._held.close()
