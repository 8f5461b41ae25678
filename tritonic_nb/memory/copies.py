"""Copies between host arrays and the memory of a CUDA device: :class:`CopyStream`.

A device copies at full speed only from and to page-locked (pinned) host memory; what the
user's arrays lie in is not. So the bytes go through small pinned blocks that are kept: the
processor fills the next one while the device empties the last (the CUDA C++ Best
Practices Guide, "Pinned Memory" and "Asynchronous and Overlapping Transfers").
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import TritonicError
from tritonic_nb.memory import cudart

if TYPE_CHECKING:
    from tritonic_nb.memory.device_array import DeviceArray

__all__ = ["CopyStream", "PinnedMemory"]

_BLOCK_NBYTES = 2 * 2**20
_BLOCKS = 4
_ALIGNMENT = 256  # bytes: what cudaMalloc aligns to, too
_ASK_FROM_NBYTES = 64 * 2**10  # for smaller arrays, asking whether they are pinned costs more

_log = logging.getLogger("tritonic_nb.memory")


class PinnedMemory:
    """Page-locked host memory, freed when nothing refers to it any more.

    Parameters
    ----------
    device
        The number of the CUDA device whose context has it; all devices copy from it.
    nbytes
        How much, in bytes.

    Raises
    ------
    NoSpaceError, SharedMemoryError
        If the driver does not give it.
    """

    def __init__(self, device: int, nbytes: int) -> None:
        self._device = device
        self._held: list[Any] = []
        # In place before the memory is; in a forked child it is the parent's.
        weakref.finalize(self, _free_pinned, device, self._held, os.getpid()).atexit = False
        self.address = cudart.allocate_pinned(device, nbytes, self._held)
        self.nbytes = nbytes

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """NumPy's protocol: an array made of it keeps it."""
        return {
            "version": 3,
            "shape": (self.nbytes,),
            "typestr": "|u1",
            "data": (self.address, False),
        }

    def array(self) -> npt.NDArray[np.uint8]:
        """Return it as bytes; the array, and those made of it, keep the memory."""
        return np.asarray(self)

    def free(self) -> None:
        """Free it now: nobody has an array of it."""
        cudart.free_pinned(self._device, self._held)


def _free_pinned(device: int, held: list[Any], owner_pid: int) -> None:
    if os.getpid() == owner_pid:
        try:
            cudart.free_pinned(device, held)
        except TritonicError as error:  # nobody is there to hear of it
            _log.debug("%s", error)


class _Block:
    """A piece of pinned memory that is filled from its start on, and what is to come of it."""

    def __init__(self, device: int, event: int) -> None:
        self.memory = PinnedMemory(device, _BLOCK_NBYTES)
        self.bytes = self.memory.array()
        self.event = event  # has happened when the device is done with it
        self.used = 0
        # Parts of it with the arrays that get their contents when they have come.
        self.deliveries: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []

    def take(self, nbytes: int) -> npt.NDArray[np.uint8] | None:
        """Return the next free bytes, or None where there are too few."""
        start = -(-self.used // _ALIGNMENT) * _ALIGNMENT
        if start + nbytes > _BLOCK_NBYTES:
            return None
        self.used = start + nbytes
        return self.bytes[start : self.used]

    def deliver(self) -> None:
        """Copy what has come to where it belongs, and be empty."""
        deliveries, self.deliveries = self.deliveries, []
        for part, target in deliveries:
            np.copyto(target, part)
        self.used = 0


class CopyStream:
    """Copies of one request to and from one device, all waited for at once.

    Not safe to share between threads. Usable as a context manager, which waits and closes.

    Parameters
    ----------
    device
        The number of the CUDA device.

    Raises
    ------
    NoCudaDeviceError, NoSpaceError, SharedMemoryError
        If CUDA does not give what it takes.
    """

    def __init__(self, device: int) -> None:
        self.device = device
        self._at = 0  # the block that is being filled
        self._kept: list[Any] = []  # what the copies under way read
        self._busy = False
        self._held = _Held(device)
        self._blocks = self._held.blocks
        # In place before anything is made.
        self._finalizer = weakref.finalize(self, _destroy, self._held, os.getpid())
        self._finalizer.atexit = False
        self.handle = cudart.create_stream(device, self._held.streams)

    def to_device(self, address: int, array: npt.NDArray[Any] | DeviceArray) -> None:
        """Begin to copy an array to device memory.

        A host array of any layout and byte order may be changed at once, unless it lies
        in pinned memory; an array of a device may not before :meth:`finish`.
        """
        with cudart.on(self.device):
            self._to_device(address, array)

    def _to_device(self, address: int, array: npt.NDArray[Any] | DeviceArray) -> None:
        self._busy = True
        if not isinstance(array, np.ndarray):
            self._kept.append(array)
            array.wait_on(self.handle)
            cudart.copy(address, array.address, array.nbytes, self.handle)
            return
        pinned = array.nbytes >= _ASK_FROM_NBYTES and array.flags.c_contiguous
        if pinned and array.dtype.isnative and cudart.is_pinned(array.ctypes.data):
            self._kept.append(array)
            cudart.copy(address, array.ctypes.data, array.nbytes, self.handle)
            return
        dtype = array.dtype.newbyteorder("=")
        for piece in _pieces(array):
            part = self._room(piece.nbytes)
            np.copyto(part.view(dtype).reshape(piece.shape), piece)
            cudart.copy(address, part.ctypes.data, part.nbytes, self.handle)
            address += piece.nbytes

    def from_device(self, address: int, target: npt.NDArray[Any]) -> None:
        """Begin to copy device memory to a host array; it is there after :meth:`finish`.

        Parameters
        ----------
        address
            Where in device memory.
        target
            Contiguous, in row-major order.
        """
        self._busy = True
        with cudart.on(self.device):
            for piece in _pieces(target):
                part = self._room(piece.nbytes)
                cudart.copy(part.ctypes.data, address, part.nbytes, self.handle)
                delivery = (part.view(piece.dtype).reshape(piece.shape), piece)
                self._blocks[self._at].deliveries.append(delivery)
                address += piece.nbytes

    def to_host(self, array: DeviceArray, target: npt.NDArray[Any]) -> None:
        """Begin to copy an array of a device to a host array of its shape and datatype."""
        self._kept.append(array)
        with cudart.on(self.device):
            array.wait_on(self.handle)
        self.from_device(array.address, target)

    def finish(self) -> None:
        """Wait until all that was begun is done."""
        if not self._busy:
            return
        with cudart.on(self.device):
            cudart.wait_for_stream(self.handle)
        for block in self._blocks:
            block.deliver()
        self._kept.clear()
        self._at = 0
        self._busy = False

    def drop(self) -> None:
        """Wait until all that was begun is done, for nobody."""
        for block in self._blocks:
            block.deliveries.clear()
        self.finish()

    def _room(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return pinned bytes, waiting for the oldest where all are in use."""
        at = self._at
        if self._blocks:
            part = self._blocks[at].take(nbytes)
            if part is not None:
                return part
            cudart.record(self._blocks[at].event, self.handle)
            at = (at + 1) % _BLOCKS
        if at == len(self._blocks):
            event = cudart.create_event(self.device, self._held.events)
            self._blocks.append(_Block(self.device, event))
        block = self._blocks[at]
        if block.used:
            cudart.wait_for_event(block.event)
            block.deliver()
        self._at = at
        part = block.take(nbytes)
        assert part is not None  # noqa: S101 - pieces are no larger than a block
        return part

    def close(self) -> None:
        """Give all of it back, once what is on the stream is done. Safe to repeat."""
        self._held.give_back()
        self._finalizer.detach()

    def __enter__(self) -> CopyStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self.close()


class _Held:
    """What a stream of copies has of CUDA."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.streams: list[Any] = []
        self.events: list[Any] = []
        self.blocks: list[_Block] = []

    def give_back(self) -> None:
        """Give it back; safe to repeat."""
        if self.streams:
            with cudart.on(self.device):
                cudart.wait_for_stream(self.streams[0][1])
        while self.blocks:
            self.blocks[-1].memory.free()
            self.blocks.pop()
        while self.events:
            cudart.destroy_event(self.device, self.events)
        cudart.destroy_stream(self.device, self.streams)


def _destroy(held: _Held, owner_pid: int) -> None:
    """Give back what a stream that was forgotten has; in a forked child it is the parent's."""
    if os.getpid() == owner_pid:
        try:
            held.give_back()
        except TritonicError as error:  # CUDA is of no more use here, and frees all at the end
            _log.debug("%s", error)


def _pieces(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Give an array as pieces of at most a block, in row-major order."""
    if array.nbytes <= _BLOCK_NBYTES:
        if array.size:
            yield array
    elif array.flags.c_contiguous:
        flat = array.reshape(-1)
        step = _BLOCK_NBYTES // array.itemsize
        yield from (flat[start : start + step] for start in range(0, flat.size, step))
    else:
        rows = _BLOCK_NBYTES * len(array) // array.nbytes
        if rows:
            for start in range(0, len(array), rows):
                yield array[start : start + rows]
        else:
            for row in array:
                yield from _pieces(row)
