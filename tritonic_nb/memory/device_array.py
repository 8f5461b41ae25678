"""Arrays in the memory of a CUDA device: :class:`DeviceArray`.

Two protocols carry them from one library to another without a copy: DLPack (the Python
array API standard, "Data interchange mechanisms") and the CUDA Array Interface, version 3
(Numba's documentation).
"""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import os
import weakref
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import TensorDatatypeError, TensorShapeError, TritonicError, brief
from tritonic_nb.memory import cudart, dlpack
from tritonic_nb.memory.copies import CopyStream

__all__ = ["DeviceArray", "Tensor"]

_LEGACY_STREAM = 1  # what DLPack and the CUDA Array Interface call the default stream
_TELLS_STREAM = 3  # the version of the CUDA Array Interface


class DeviceArray:
    """A contiguous array in the memory of a CUDA device.

    An output that came through CUDA shared memory with ``copy=False`` is one. Libraries
    take it without a copy: ``cupy.from_dlpack(array)``, ``torch.from_dlpack(array)``,
    ``jax.dlpack.from_dlpack(array)``, ``cupy.asarray(array)``; and :meth:`to_numpy`
    copies it to the host. As long as it, or what a library made of it, is in use, no
    other inference writes to its memory. It is not to be written to.

    ``array[i]`` and ``array[i:j]`` give parts along the first dimension, without a copy.

    Attributes
    ----------
    shape
        The dimensions.
    dtype
        The NumPy dtype.
    device
        The number of the CUDA device.
    address
        The device pointer to the first element.
    """

    def __init__(
        self,
        address: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        device: int,
        owner: Any = None,
        *,
        ready: _Ready | None = None,
    ) -> None:
        self.address = address
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self._owner = owner  # of the memory
        self._ready = ready

    @classmethod
    def of(cls, value: Any, name: str = "the array") -> DeviceArray | None:
        """Return what a library has in the memory of a CUDA device, or None for anything else.

        Nothing is copied, and nothing waits: :meth:`wait_on` does, before it is read, for
        what this thread has started up to now.

        Parameters
        ----------
        value
            Anything. What has ``__dlpack__`` or ``__cuda_array_interface__`` and lies on
            a device is taken (CuPy, PyTorch, JAX, Numba, cuda.core, ...).
        name
            The tensor that it is for, for the message of an error.

        Raises
        ------
        TensorShapeError
            If it is not contiguous in row-major order.
        TensorDatatypeError
            If its library does not hand it out, or its datatype has no counterpart.
        """
        if isinstance(value, DeviceArray):
            return value
        if isinstance(value, np.ndarray):
            return None
        device = _device_by_dlpack(value)
        interface = None
        if device is None:
            interface = _interface(value)
            if interface is None:
                return None
        try:
            if device is None:
                return cls._from_interface(value, interface, name)
            try:
                return cls._from_dlpack(value, device, name)
            except BufferError:  # not this way, which is the better one
                interface = _interface(value)
                if interface is None:
                    raise
                return cls._from_interface(value, interface, name)
        except TritonicError:
            raise
        except Exception as error:  # the library's own: an array that needs gradients, say
            raise TensorDatatypeError(
                f"{name!r}: {type(value).__name__} on a CUDA device is not handed out: {error}",
                "give an array of numbers; of PyTorch: tensor.detach()",
            ) from error

    @classmethod
    def _from_dlpack(cls, value: Any, device: int, name: str) -> DeviceArray:
        with cudart.on(device):  # a library may refuse what lies on another device
            # It is asked to have the default stream wait for it; that is noted as an event
            # at once, because "current" streams are a thread's own.
            capsule = value.__dlpack__(stream=_LEGACY_STREAM)
            ready = _Ready(device, _LEGACY_STREAM)
        told = dlpack.read_capsule(capsule)
        _check_contiguous(told.shape, told.strides, name, device)
        return cls(told.address, told.shape, told.dtype, device, (value, capsule), ready=ready)

    @classmethod
    def _from_interface(cls, value: Any, interface: Any, name: str) -> DeviceArray:
        shape = tuple(map(int, interface["shape"]))
        dtype = np.dtype(interface["typestr"])
        if dtype.kind not in "biuf":
            raise TensorDatatypeError(
                f"{name!r}: {interface['typestr']} has no counterpart among Triton's datatypes",
                "give an array of numbers; BF16 goes by DLPack",
            )
        address = int(interface["data"][0] or 0)
        device = cudart.device_of(address) if address else 0
        strides = interface.get("strides")
        if strides is not None:
            strides = tuple(step // dtype.itemsize for step in strides)
        _check_contiguous(shape, strides, name, device)
        theirs = interface.get("stream")
        ready = None
        if address and interface.get("version", 0) < _TELLS_STREAM:
            ready = _Ready(device, None)
        elif address and theirs is not None:
            ready = _Ready(device, int(theirs))
        return cls(address, shape, dtype, device, value, ready=ready)

    def wait_on(self, stream: int) -> None:
        """Have a stream wait until the array's library has written it; within ``cudart.on``."""
        if self._ready is not None:
            self._ready.wait_on(stream)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return self.size * self.dtype.itemsize

    def to_numpy(self) -> npt.NDArray[Any]:
        """Return a copy in host memory.

        Raises
        ------
        SharedMemoryError
            If CUDA fails.
        """
        target: npt.NDArray[Any] = np.empty(self.shape, self.dtype)
        with CopyStream(self.device) as copies:
            copies.to_host(self, target)
        return target

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Copy it to the host, as NumPy asks for."""
        if copy is False:
            raise ValueError("an array on a CUDA device cannot become one of NumPy without a copy")
        array = self.to_numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The CUDA Array Interface, version 3; the array is there: no stream to wait for."""
        if self.dtype.kind not in "biuf":
            raise AttributeError(
                f"{self.dtype} has no name in the CUDA Array Interface: use DLPack"
            )
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": None,
        }

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Return a capsule of DLPack; the array is there: no stream has to wait."""
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("tritonic_nb hands out its device memory as it is; copy it yourself")
        if stream != -1:
            with cudart.on(self.device):
                self.wait_on(_LEGACY_STREAM if stream is None else int(stream))
        return dlpack.capsule_of(
            self, self.address, self.shape, self.dtype, self.__dlpack_device__()
        )

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return DLPack's device type and the device's number."""
        return (dlpack.CUDA, self.device)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without dimensions has no length")
        return self.shape[0]

    def __getitem__(self, part: Any) -> DeviceArray:
        """Return an item, or a range of items, of the first dimension."""
        length = len(self)
        inner = self.shape[1:]
        step = math.prod(inner) * self.dtype.itemsize
        if isinstance(part, slice):
            start, stop, stride = part.indices(length)
            if stride == 1:
                shape = (max(0, stop - start), *inner)
                return self._part(self.address + start * step, shape)
        else:
            try:
                number = operator.index(part)
            except TypeError:
                number = None
            if number is not None:
                if not -length <= number < length:
                    raise IndexError(f"{number} of an array with {length} items")
                return self._part(self.address + number % length * step, inner)
        raise TypeError(
            f"array[{brief(part)}] is no item and no range of items: take cupy.from_dlpack(array)"
            " or torch.from_dlpack(array), or array.to_numpy()"
        )

    def _part(self, address: int, shape: tuple[int, ...]) -> DeviceArray:
        return DeviceArray(address, shape, self.dtype, self.device, self._owner, ready=self._ready)

    def __repr__(self) -> str:
        return f"DeviceArray({list(self.shape)}, {self.dtype}, CUDA device {self.device})"


class _Ready:
    """When an array of another library is written: an event on the stream that writes it.

    Parameters
    ----------
    device
        Where the array is.
    stream
        The stream; None where its library does not tell.
    """

    def __init__(self, device: int, stream: int | None) -> None:
        self._device = device
        self._held: list[Any] = []
        self._event: int | None = None
        if stream is not None:
            weakref.finalize(self, _destroy, device, self._held, os.getpid()).atexit = False
            self._event = cudart.create_event(device, self._held)
            with cudart.on(device):
                cudart.record(self._event, stream)

    def wait_on(self, stream: int) -> None:
        """Have a stream wait for it."""
        if self._event is None:
            cudart.wait_for_device(self._device)
        else:
            cudart.have_wait(stream, self._event)


def _destroy(device: int, held: list[Any], owner_pid: int) -> None:
    if os.getpid() == owner_pid:
        with contextlib.suppress(TritonicError):  # CUDA is of no more use, and frees all at the end
            cudart.destroy_event(device, held)


def _device_by_dlpack(value: Any) -> int | None:
    """Return the number of the CUDA device that DLPack says something lies on, if it is one."""
    try:
        kind, number = value.__dlpack_device__()
        return int(number) if int(kind) in (dlpack.CUDA, dlpack.CUDA_MANAGED) else None
    except Exception:  # it has no DLPack, or lies on several devices, or on one of another kind
        return None


def _interface(value: Any) -> Any:
    try:
        return value.__cuda_array_interface__
    except Exception:  # it has none; libraries raise whatever they like for an array of the host
        return None


def _check_contiguous(
    shape: tuple[int, ...], strides: tuple[int, ...] | None, name: str, device: int
) -> None:
    """Refuse what is not contiguous; the step of a dimension with one item says nothing."""
    steps = [*itertools.accumulate(shape[:0:-1], operator.mul, initial=1)][::-1]
    if strides is None or 0 in shape:
        return
    if any(
        length != 1 and have != want
        for length, have, want in zip(shape, strides, steps, strict=False)
    ):
        raise TensorShapeError(
            f"{name!r}: the array {list(shape)} on CUDA device {device} is not contiguous: its "
            f"elements are {list(strides)} apart and would be {steps[: len(shape)]}",
            "make it so: cupy.ascontiguousarray(x), or tensor.contiguous()",
        )


Tensor: TypeAlias = npt.NDArray[Any] | DeviceArray
"""An array in host memory or in that of a CUDA device."""
