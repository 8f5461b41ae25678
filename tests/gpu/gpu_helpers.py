"""Arrays on a device that no library made, and what else the GPU's tests share."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.memory import CopyStream, cudart, dlpack
from tritonic_nb.tensors.dtypes import numpy_dtype

MIB = 2**20
MODELS = Path(__file__).with_name("models")


def sample(datatype: str, shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[Any]:
    """Return an array of a datatype; of numbers, with each byte 0 or 1."""
    count = int(np.prod(shape))
    if datatype == "BYTES":
        texts = [b"", b"a\0b", "Müßiggang".encode(), b"\xff" * 300]
        filled = np.empty(count, np.object_)
        filled[:] = [texts[(seed + i) % len(texts)] for i in range(count)]
        return filled.reshape(shape)
    dtype = numpy_dtype(datatype)
    bits = np.random.default_rng(seed).integers(0, 2, count * dtype.itemsize, np.uint8)
    return bits.view(dtype).reshape(shape)


def same(found: Any, expected: npt.NDArray[Any]) -> bool:
    """Whether an array, of host or device, has the same datatype, shape and bits."""
    array = np.asarray(found)
    if array.dtype != expected.dtype or array.shape != expected.shape:
        return False
    if expected.dtype == np.object_:
        return array.tolist() == expected.tolist()
    return array.tobytes() == expected.tobytes()


class OnDevice:
    """A copy of a host array in the memory of a device, which hands out nothing."""

    def __init__(self, array: npt.NDArray[Any], device: int = 0) -> None:
        self.shape, self.dtype, self.device = array.shape, array.dtype, device
        held: list[Any] = []
        weakref.finalize(self, cudart.free, device, held).atexit = False
        self.address = cudart.allocate(device, max(1, array.nbytes), "a test's array", held)
        with CopyStream(device) as copies:
            copies.to_device(self.address, np.ascontiguousarray(array).reshape(array.shape))


class ByDlpack(OnDevice):
    """One that speaks DLPack alone."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (dlpack.CUDA, self.device)

    def __dlpack__(self, *, stream: Any = None, **_more: Any) -> Any:
        return dlpack.capsule_of(
            self, self.address, self.shape, self.dtype, self.__dlpack_device__()
        )


class ByInterface(OnDevice):
    """One that speaks the CUDA Array Interface alone.

    Parameters
    ----------
    array, device
        What it holds, and where.
    shape, strides
        How it is told; strides in bytes.
    """

    def __init__(
        self,
        array: npt.NDArray[Any],
        device: int = 0,
        *,
        shape: tuple[int, ...] | None = None,
        strides: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(array, device)
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": array.shape if shape is None else shape,
            "typestr": array.dtype.str,
            "data": (self.address, False),
            "strides": strides,
            "stream": None,
        }
