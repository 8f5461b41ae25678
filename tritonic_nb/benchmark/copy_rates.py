"""How fast arrays go to a device and back, against what its link carries."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tritonic_nb.benchmark.gpu_ways import DeviceMemory, cuda_shared_memory
from tritonic_nb.benchmark.rounds import quiet
from tritonic_nb.benchmark.way import tensor
from tritonic_nb.errors import SharedMemoryError
from tritonic_nb.memory import CopyStream, SharedMemoryType, create_region, cudart
from tritonic_nb.memory.copies import PinnedMemory

__all__ = ["COPIES", "CopyRate", "measure_copies"]

_WARM_UPS = 3

# Key: what it is, and whether it goes to the device.
COPIES = {
    "link_in": ("cudaMemcpyAsync from pinned memory: the link", True),
    "pinned_in": ("session.inputs (pinned) to its region", True),
    "array_in": ("an ordinary array to its region", True),
    "client_in": ("tritonclient: set_shared_memory_region", True),
    "link_out": ("cudaMemcpyAsync to pinned memory: the link", False),
    "array_out": ("a region to a new array", False),
    "client_out": ("tritonclient: get_contents_as_numpy", False),
}


@dataclass(frozen=True)
class CopyRate:
    """How long one kind of copy takes.

    Attributes
    ----------
    key
        Of :data:`COPIES`.
    nbytes
        How much is copied.
    times_ms
        Each time, in milliseconds, until the bytes are there.
    """

    key: str
    nbytes: int
    times_ms: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        """The median of all times."""
        return float(np.median(self.times_ms))

    @property
    def gb_per_s(self) -> float:
        """The rate, in 10^9 bytes per second."""
        return self.nbytes / self.median_ms / 1e6


def measure_copies(
    device: int, nbytes: int, rounds: int, shuffle: random.Random
) -> dict[str, CopyRate]:
    """Measure every kind of copy, in random order in every round.

    Parameters
    ----------
    device
        The CUDA device.
    nbytes
        How much is copied, a multiple of 4.
    rounds
        How often each.
    shuffle
        Gives the order within a round.

    Returns
    -------
    dict
        By key. Without tritonclient's utilities theirs are missing.

    Raises
    ------
    NoSpaceError, SharedMemoryError
        If the device does not have the memory.
    SharedMemoryError
        If what was copied there and back is not the same.
    """
    with _copies(device, nbytes) as copies, quiet():
        rates = {key: CopyRate(key, nbytes) for key in copies}
        for copy in copies.values():
            for _ in range(_WARM_UPS):
                copy()
        for _ in range(rounds):
            for key in shuffle.sample(list(copies), len(copies)):
                started = time.perf_counter()
                given = copies[key]()
                rates[key].times_ms.append((time.perf_counter() - started) * 1e3)
                del given
    return rates


@contextlib.contextmanager
def _copies(device: int, nbytes: int) -> Iterator[dict[str, Callable[[], Any]]]:
    """Give what copies, by key, each of which returns when the bytes are there."""
    shape = (1, nbytes // 4)
    array = tensor(nbytes, seed=1)
    with contextlib.ExitStack() as held:
        region = create_region(SharedMemoryType.CUDA, "x", "input", nbytes, device=device)
        held.callback(region.close)
        streams = held.enter_context(CopyStream(device))
        made: list[Any] = []
        held.callback(cudart.destroy_stream, device, made)
        stream = cudart.create_stream(device, made)
        pinned, there = PinnedMemory(device, nbytes), DeviceMemory(device, nbytes)
        view = region.view("FP32", shape)

        def plain(target: int, source: int) -> None:
            with cudart.on(device):
                cudart.copy(target, source, nbytes, stream)
                cudart.wait_for_stream(stream)

        def pinned_in() -> None:
            region.bring(streams)
            streams.finish()

        def array_in() -> None:
            region.write(array, copies=streams)
            streams.finish()

        def array_out() -> Any:
            read = region.read("FP32", shape, nbytes=nbytes, copies=streams)
            streams.finish()
            return read

        copies: dict[str, Callable[[], Any]] = {
            "link_in": lambda: plain(there.address, pinned.address),
            "pinned_in": pinned_in,
            "array_in": array_in,
            "link_out": lambda: plain(pinned.address, there.address),
            "array_out": array_out,
        }
        if cuda_shared_memory is not None:
            theirs = cuda_shared_memory.create_shared_memory_region("copies", nbytes, device)
            held.callback(cuda_shared_memory.destroy_shared_memory_region, theirs)
            copies["client_in"] = lambda: cuda_shared_memory.set_shared_memory_region(
                theirs, [array]
            )
            copies["client_out"] = lambda: cuda_shared_memory.get_contents_as_numpy(
                theirs, np.float32, shape
            )
            _check(copies["client_in"], copies["client_out"], array)
        view[...] = array
        _check(pinned_in, array_out, array)
        view[...] = 0
        _check(array_in, array_out, array)
        yield copies


def _check(copy_in: Callable[[], Any], copy_out: Callable[[], Any], array: Any) -> None:
    """See that what goes to the device comes back."""
    copy_in()
    if not np.array_equal(copy_out(), array):
        raise SharedMemoryError("what was copied to the device and back is not the same")
