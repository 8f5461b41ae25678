"""CUDA shared memory: regions in the memory of a device, by CUDA IPC.

Triton opens a region by its IPC handle (the server's
``docs/protocol/extension_shared_memory.md``, "CUDA Shared Memory"). The rules of IPC are
those of the CUDA Runtime API, ``cudaIpcGetMemHandle``: memory of ``cudaMalloc``, another
process, and freed only when the other process has closed it.
"""

from __future__ import annotations

import logging
import math
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import SharedMemoryError, TensorShapeError, TritonicError
from tritonic_nb.memory import cudart
from tritonic_nb.memory.copies import CopyStream, PinnedMemory
from tritonic_nb.memory.device_array import DeviceArray, Tensor
from tritonic_nb.memory.region import Region, SharedMemoryType
from tritonic_nb.memory.shm_file import ShmFile, new_name
from tritonic_nb.tensors import codec
from tritonic_nb.tensors.dtypes import TEXT_KINDS, numpy_dtype

__all__ = ["CudaRegion"]

_FILE_NBYTES = 4096
_FIRST_TEXT_NBYTES = 65536

_log = logging.getLogger("tritonic_nb.memory")


class CudaRegion(Region):
    """A region in the memory of a CUDA device.

    An empty file of its name in ``/dev/shm``, one page, is its proof of life, as a system
    region's file is: by its lock anybody can tell whether its owner lives, and the
    janitor and ``tritonic-nb clean`` treat both alike. The driver itself frees the memory
    of a process that has died.

    Parameters
    ----------
    tensor, direction
        What the region is for.
    slot_nbytes
        The bytes of one slot, at least 1.
    slots
        How many slots.
    device
        The number of the CUDA device.
    holders
        Tells, for the message of an error, who holds the most of the device's memory.

    Raises
    ------
    NoCudaDeviceError
        If there is no such device.
    NoSpaceError
        If it has too little free memory.
    SharedMemoryUnsupportedError
        If this system has no CUDA IPC.
    SharedMemoryError
        If CUDA fails otherwise.
    """

    kind = SharedMemoryType.CUDA
    needs_unregistering_first = True

    def __init__(
        self,
        tensor: str,
        direction: str,
        slot_nbytes: int,
        slots: int = 1,
        *,
        device: int = 0,
        holders: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(new_name(tensor), tensor, direction, slot_nbytes, slots)
        self.device_id: int = device
        what = f"{direction} {tensor!r}"
        self._lent_to_device = False  # since await_readers()
        self._host: Callable[[], PinnedMemory | None] = _none
        self._host_nbytes = 0
        self._file = ShmFile(self.name)
        # In place before the file is: from then on it is removed whatever happens.
        self._finalizer = weakref.finalize(self, self._file.remove)
        try:
            self._file.make(_FILE_NBYTES, what).close()
            memory = _DeviceMemory(device, self.nbytes, what, holders)
            self.handle = cudart.ipc_handle(device, memory.address, what)
        except BaseException:
            self._file.remove()
            self._finalizer.detach()
            raise
        self._memory: _DeviceMemory | None = memory

    def write(self, array: Tensor, *, slot: int = 0, copies: CopyStream | None = None) -> int:
        """Begin to copy `array`, from host or device, into a slot; return its bytes.

        Raises
        ------
        RegionTooSmallError
            If it needs more bytes than the slot has.
        SharedMemoryError
            If CUDA fails.
        """
        nbytes = codec.encoded_nbytes(array)
        self.check_fits(nbytes)
        if isinstance(array, np.ndarray) and array.dtype.kind in TEXT_KINDS:
            encoded = np.empty(nbytes, np.uint8)
            codec.write(array, memoryview(encoded))  # type: ignore[arg-type]
            array = encoded
        if nbytes:
            _needed(copies).to_device(self._address(slot), array)
        return nbytes

    def read(
        self,
        datatype: str,
        shape: Sequence[int],
        *,
        nbytes: int,
        slot: int = 0,
        copy: bool = True,
        copies: CopyStream | None = None,
    ) -> Tensor:
        """Begin to copy the tensor in a slot to the host, or return a view of it.

        Only the tensor's own bytes are copied. ``BYTES`` come as copies, and are
        complete at once.

        Parameters
        ----------
        datatype, shape
            As the server's reply gives them.
        nbytes
            The bytes of the slot that the server was given: nothing beyond is read.
        slot
            The slot.
        copy
            False gives a :class:`DeviceArray` that pins the region.
        copies
            What copies.

        Raises
        ------
        TensorShapeError
            If the slot has fewer bytes than the shape needs.
        SharedMemoryError
            If CUDA fails.
        """
        address = self._address(slot)
        if datatype == "BYTES":
            return self._texts(address, nbytes, shape, _needed(copies))
        dtype = numpy_dtype(datatype)
        # It checks the shape against the bytes without reading any.
        need = codec.checked_nbytes(datatype, shape, nbytes, name=self.tensor)
        if not copy:
            return self._view(address, tuple(shape), dtype)
        target = codec.empty(datatype, shape, name=self.tensor)
        if need:
            _needed(copies).from_device(address, target)
        return target

    def _texts(
        self, address: int, nbytes: int, shape: Sequence[int], copies: CopyStream
    ) -> npt.NDArray[Any]:
        """Read ``BYTES``, whose end nobody knows: some first, then twice as much."""
        size = min(nbytes, _FIRST_TEXT_NBYTES)
        while True:
            data = np.empty(size, np.uint8)
            copies.from_device(address, data)
            copies.finish()
            try:
                return codec.decode(memoryview(data), "BYTES", shape, name=self.tensor)  # type: ignore[arg-type]
            except TensorShapeError:
                if size == nbytes:
                    raise
            size = min(nbytes, 2 * size)

    def _view(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        pin = _Pin(self._memory)
        self._views.append(weakref.ref(pin))
        self._lent_to_device = True
        return DeviceArray(address, shape, dtype, self.device_id, pin)

    def view(self, datatype: str, shape: Sequence[int], *, slot: int = 0) -> npt.NDArray[Any]:
        """Return pinned host memory as a writable array; :meth:`bring` copies it to the device.

        Parameters
        ----------
        datatype, shape
            Of the tensor; none of ``BYTES``.
        slot
            The slot, which is the only one of its region.
        """
        self._address(slot)  # or the region is gone
        dtype = numpy_dtype(datatype)
        host = PinnedMemory(self.device_id, self.slot_nbytes)
        self._host = weakref.ref(host)
        self._host_nbytes = math.prod(shape) * dtype.itemsize
        self._views.append(weakref.ref(host))
        array = host.array()[: self._host_nbytes]
        array[...] = 0
        return array.view(dtype).reshape(shape)

    def bring(self, copies: CopyStream | None) -> None:
        """Begin to copy what was written to the array of :meth:`view` to the device."""
        host = self._host()
        # One that was removed meanwhile is no longer what is sent.
        if host is not None and self._memory is not None:
            _needed(copies).to_device(self._address(0), host.array()[: self._host_nbytes])

    def await_readers(self) -> None:
        """Wait for what was started on the device with views that are gone by now.

        A library may let go of a view while its kernels, which read it, have yet to run.
        """
        if self._lent_to_device and not self.pinned():
            cudart.wait_for_device(self.device_id)
            self._lent_to_device = False

    @property
    def address(self) -> int:
        """The device pointer; 0 once the region is closed."""
        return 0 if self._memory is None else self._memory.address

    def exists(self) -> bool:
        """Whether the memory is still there."""
        return self._memory is not None

    def close(self) -> None:
        """Free the memory, unless a view is in use, whose end frees it. Safe to repeat.

        Raises
        ------
        SharedMemoryError
            If its file cannot be removed.
        """
        self.state = "closed"
        if self._memory is not None:
            if not self.pinned():
                self._memory.free()
            self._memory = None
        try:
            self._file.remove()
        except OSError as error:
            raise SharedMemoryError(
                f"region {self.name!r}: {self._file.path} cannot be removed: {error.strerror}",
                "remove it by hand, or run `tritonic-nb clean` when this has ended",
            ) from error
        self._finalizer.detach()

    def _address(self, slot: int) -> int:
        if self._memory is None:
            raise SharedMemoryError(
                f"region {self.name!r} of {self.direction} {self.tensor!r} was removed meanwhile",
                "infer again",
            )
        return self._memory.address + self.offset(slot)


class _DeviceMemory:
    """Memory of a device, freed when nothing refers to it any more."""

    def __init__(
        self, device: int, nbytes: int, what: str, holders: Callable[[], str] | None
    ) -> None:
        self._device = device
        self._held: list[Any] = []
        # In place before the memory is. At exit the driver frees it: the server may not have
        # let go of it.
        weakref.finalize(self, _free, device, self._held, os.getpid()).atexit = False
        self.address = cudart.allocate(device, nbytes, what, self._held, holders)

    def free(self) -> None:
        """Free it now, and not only when it is forgotten. Safe to repeat."""
        _free(self._device, self._held, os.getpid())


def _free(device: int, held: list[Any], owner_pid: int) -> None:
    if os.getpid() == owner_pid:  # in a forked child it is the parent's
        try:
            cudart.free(device, held)
        except TritonicError as error:  # CUDA is of no more use here, and frees all at the end
            _log.warning("%s", error)


class _Pin:
    """What a view refers to: a reference to the memory that can be counted."""

    def __init__(self, memory: _DeviceMemory | None) -> None:
        self.memory = memory


def _none() -> None:
    """Nothing to be brought to the device."""


def _needed(copies: CopyStream | None) -> CopyStream:
    assert copies is not None  # noqa: S101 - the caller has one of the region's device
    return copies
