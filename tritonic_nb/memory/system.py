"""System (POSIX) shared memory: files under ``/dev/shm``."""

from __future__ import annotations

import contextlib
import ctypes
import math
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import SharedMemoryError
from tritonic_nb.memory.copies import CopyStream
from tritonic_nb.memory.device_array import DeviceArray, Tensor
from tritonic_nb.memory.region import Region, SharedMemoryType
from tritonic_nb.memory.shm_file import SHM_DIR, ShmFile, new_name
from tritonic_nb.tensors import codec
from tritonic_nb.tensors.dtypes import TEXT_KINDS, numpy_dtype

__all__ = ["SystemRegion"]

_NO_LAYOUT: tuple[Any, npt.NDArray[Any]] = (None, np.empty(0))


class SystemRegion(Region):
    """A region in ``/dev/shm``, mapped into this process.

    Its file is a :class:`~tritonic_nb.memory.shm_file.ShmFile`.

    Parameters
    ----------
    tensor, direction
        What the region is for.
    slot_nbytes
        The bytes of one slot, at least 1.
    slots
        How many slots.
    mode
        The file's permissions.
    holders
        Tells, for the message of an error, who holds the most of ``/dev/shm``.

    Raises
    ------
    NoSpaceError
        If ``/dev/shm`` has too little free space, or the machine too little memory.
    SharedMemoryError
        If the file cannot be made.
    """

    kind = SharedMemoryType.SYSTEM

    def __init__(
        self,
        tensor: str,
        direction: str,
        slot_nbytes: int,
        slots: int = 1,
        *,
        mode: int = 0o600,
        holders: Callable[[], str] | None = None,
    ) -> None:
        name = new_name(tensor)
        super().__init__(name, tensor, direction, slot_nbytes, slots)
        self.key = f"/{name}"  # for the server to open
        self._layout = _NO_LAYOUT
        self._file = ShmFile(name, mode, holders)
        # In place before the file is: from then on it is removed whatever happens.
        self._finalizer = weakref.finalize(self, self._file.remove)
        try:
            self._map = self._file.make(self.nbytes, f"{direction} {tensor!r}")
        except BaseException:
            self._file.remove()
            self._finalizer.detach()
            raise
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    @property
    def path(self) -> Path:
        """The region's file."""
        return self._file.path

    @property
    def fd(self) -> int:
        """The open file descriptor; -1 once the region is closed."""
        return self._file.fd

    def write(self, array: Tensor, *, slot: int = 0, copies: CopyStream | None = None) -> int:
        """Copy `array` into a slot, once, and return its bytes.

        Raises
        ------
        RegionTooSmallError
            If it needs more bytes than the slot has.
        """
        if isinstance(array, DeviceArray):
            assert copies is not None  # noqa: S101 - the caller has one of the array's device
            self.check_fits(array.nbytes)
            copies.to_host(array, self._laid_out(array.dtype, array.shape, slot))
            return array.nbytes
        if array.dtype.kind in TEXT_KINDS or not array.size:
            self.check_fits(codec.encoded_nbytes(array))
            with self._slot(slot) as target:
                return codec.write(array, target)
        self.check_fits(array.nbytes)
        dtype = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
        codec.copy_into(self._laid_out(dtype, array.shape, slot), array)
        return array.nbytes

    def read(
        self,
        datatype: str,
        shape: Sequence[int],
        *,
        nbytes: int,
        slot: int = 0,
        copy: bool = True,
        copies: CopyStream | None = None,  # noqa: ARG002 - for memory of a device
    ) -> npt.NDArray[Any]:
        """Return the tensor in a slot.

        Parameters
        ----------
        datatype, shape
            As the server's reply gives them.
        nbytes
            The bytes of the slot that the server was given: nothing beyond is read.
        slot
            The slot.
        copy
            False gives a read-only view that pins the region: the memory
            stays mapped for as long as the view lives, whatever becomes of
            the region.
        """
        if copy and datatype != "BYTES":
            known, window = self._layout
            if known == (numpy_dtype(datatype), shape, slot) and window.nbytes <= nbytes:
                owned = np.empty_like(window)
                codec.copy_into(owned, window)
                return owned
        array = codec.decode(
            self._slot(slot)[:nbytes], datatype, shape, name=self.tensor, copy=copy
        )
        if not array.flags.writeable:  # a view, that is: BYTES are copied whatever was asked for
            # Every array that NumPy derives from a view refers to the one that holds the memory.
            holder = array.base if isinstance(array.base, np.ndarray) else array
            self._views.append(weakref.ref(holder))
        elif datatype != "BYTES" and array.size:
            self._laid_out(numpy_dtype(datatype), shape, slot)  # the next one is most often alike
        return array

    def view(self, datatype: str, shape: Sequence[int], *, slot: int = 0) -> npt.NDArray[Any]:
        """Return a slot as a writable array that pins the region, as one of :meth:`read` does.

        Parameters
        ----------
        datatype, shape
            Of the tensor; none of ``BYTES``.
        slot
            The slot.
        """
        dtype = numpy_dtype(datatype)
        holder = np.frombuffer(self._slot(slot), dtype, math.prod(shape))
        self._views.append(weakref.ref(holder))
        return holder.reshape(shape)

    @property
    def address(self) -> int:
        """Where it is mapped in this process."""
        return self._address

    def exists(self) -> bool:
        """Whether the file is still there under its name."""
        return self._file.exists()

    def close(self) -> None:
        """Unlink and unmap the region; a view that is still in use keeps its memory.

        Interrupted or failed, it can be called again: each step can be repeated.

        Raises
        ------
        SharedMemoryError
            If the file cannot be unlinked.
        """
        if self.state != "closed":
            self._layout = _NO_LAYOUT
            with contextlib.suppress(BufferError):  # a view uses it; the last one to go unmaps
                self._map.close()
            self.state = "closed"
            del self._map
        try:
            self._file.remove()
        except OSError as error:
            raise SharedMemoryError(
                f"region {self.name!r} cannot be removed from {SHM_DIR}: {error.strerror}",
                f"remove {self.path} by hand, or run `tritonic-nb clean` when this has ended",
            ) from error
        self._finalizer.detach()

    def _laid_out(self, dtype: np.dtype[Any], shape: Sequence[int], slot: int) -> npt.NDArray[Any]:
        """Return a slot as an array of the region's own, which is kept for the next time."""
        layout = (dtype, shape, slot)
        known, window = self._layout
        if known != layout or self.state == "closed":
            flat = np.frombuffer(self._slot(slot), dtype, math.prod(shape))
            window = flat.reshape(shape)
            self._layout = (layout, window)
        return window

    def _slot(self, slot: int) -> memoryview:
        if self.state == "closed":
            raise SharedMemoryError(
                f"region {self.name!r} of {self.direction} {self.tensor!r} was removed meanwhile",
                "infer again",
            )
        start = self.offset(slot)
        return memoryview(self._map)[start : start + self.slot_nbytes]
