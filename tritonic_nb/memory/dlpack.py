"""DLPack: how libraries hand each other arrays in device memory without a copy.

The structures are those of ``dlpack.h``, version 0.8, which every version since is read
as, too. A capsule's destructor may run in any thread, with an error pending or while the
interpreter ends, and must not be Python code then. So the capsules are NumPy's own, of an
array that only seems to lie at the device's address, with another device written into
them. (cuda.core makes none without a driver at hand, and none of BF16.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tritonic_nb.tensors.dtypes import numpy_dtype

__all__ = ["CUDA", "CUDA_MANAGED", "Imported", "capsule_of", "read_capsule"]

CUDA = 2
"""The device type of CUDA memory (``kDLCUDA``)."""
CUDA_MANAGED = 13
"""The device type of CUDA's unified memory (``kDLCUDAManaged``)."""

_NAME = b"dltensor"
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_BFLOAT = 4


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    ]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class Imported(NamedTuple):
    """What a capsule says of an array.

    Attributes
    ----------
    address
        Where its first element is.
    shape, strides
        Dimensions, and steps counted in elements; None where it is contiguous.
    dtype
        The NumPy dtype.
    device_type, device
        As ``__dlpack_device__`` has them.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: np.dtype[Any]
    device_type: int
    device: int


def read_capsule(capsule: Any) -> Imported:
    """Return what a capsule of :meth:`__dlpack__` says. It is not taken: keep it with the array.

    Raises
    ------
    ValueError
        If it is no capsule of DLPack, or its datatype has no counterpart in NumPy.
    """
    tensor = _tensor(capsule)
    dimensions = range(tensor.ndim)
    strides = tuple(tensor.strides[i] for i in dimensions) if tensor.strides else None
    return Imported(
        (tensor.data or 0) + tensor.byte_offset,
        tuple(tensor.shape[i] for i in dimensions),
        strides,
        _dtype(tensor.dtype),
        tensor.device.type,
        tensor.device.id,
    )


def capsule_of(
    owner: Any,
    address: int,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    device: tuple[int, int],
) -> Any:
    """Return a capsule for a contiguous array, which keeps `owner` until it is let go of.

    Parameters
    ----------
    owner
        Holds the memory.
    address, shape, dtype
        The array.
    device
        Device type and number.
    """
    bfloat = dtype == numpy_dtype("BF16")  # which NumPy hands out as bits
    seeming = np.asarray(_Seeming(owner, address, shape, np.dtype("u2") if bfloat else dtype))
    capsule: Any = seeming.__dlpack__()
    tensor = _tensor(capsule)
    tensor.device.type, tensor.device.id = device
    if bfloat:
        tensor.dtype.code = _BFLOAT
    return capsule


class _Seeming:
    """What NumPy takes for an array of host memory. Nobody may read it there."""

    def __init__(
        self, owner: Any, address: int, shape: Sequence[int], dtype: np.dtype[Any]
    ) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "shape": tuple(shape),
            "typestr": dtype.str,
            "data": (address, False),
        }


def _tensor(capsule: Any) -> _Tensor:
    return ctypes.cast(_pointer(capsule, _NAME), ctypes.POINTER(_Tensor)).contents


def _dtype(data_type: _DataType) -> np.dtype[Any]:
    if data_type.lanes == 1 and data_type.bits % 8 == 0:
        size = data_type.bits // 8
        if (data_type.code, size) == (_BFLOAT, 2):
            return numpy_dtype("BF16")
        for kind, code in _CODES.items():
            if code == data_type.code and (size in (1, 2, 4, 8)) and (kind, size) != ("f", 1):
                return np.dtype(f"{kind}{size}")
    raise ValueError(
        f"the datatype of DLPack's code {data_type.code} with {data_type.bits} bits and "
        f"{data_type.lanes} lanes has no counterpart in NumPy"
    )
