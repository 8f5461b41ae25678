"""DLPack: how libraries hand each other arrays in device memory without a copy.

The structures are those of ``dlpack.h``, version 0.8, which every version since is read
as, too. No library that was tried makes a capsule of memory that is not its own without
a driver at hand, or for every datatype; NumPy and cuda.core read these in the tests.
"""

from __future__ import annotations

import ctypes
import itertools
import operator
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


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Managed._fields_ = [
    ("tensor", _Tensor),
    ("context", ctypes.c_void_p),
    ("deleter", _Deleter),
]

# A destructor is given a capsule that is dying: not as an object, which it is no longer.
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.pythonapi.PyCapsule_New
_new.restype = ctypes.py_object
_new.argtypes = (ctypes.c_void_p, ctypes.c_char_p, _Destructor)
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype = ctypes.c_int
_is_valid.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_dying_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

# What was handed out, until its taker, or the capsule that nobody took, lets go of it.
_handed_out: dict[int, tuple[Any, ...]] = {}


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
    tensor = ctypes.cast(_pointer(capsule, _NAME), ctypes.POINTER(_Managed)).contents.tensor
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
    rank = len(shape)
    steps = [*itertools.accumulate(shape[:0:-1], operator.mul, initial=1)][::-1][:rank]
    # NumPy before 2.1 and others do not take "no strides" for an empty array.
    dimensions, strides = (ctypes.c_int64 * rank)(*shape), (ctypes.c_int64 * rank)(*steps)
    as_pointer = ctypes.POINTER(ctypes.c_int64)
    managed = _Managed()
    managed.tensor = _Tensor(
        address,
        _Device(*device),
        rank,
        _data_type(dtype),
        ctypes.cast(dimensions, as_pointer),
        ctypes.cast(strides, as_pointer),
        0,
    )
    managed.deleter = _deleter
    key = ctypes.addressof(managed)
    _handed_out[key] = (managed, dimensions, strides, owner)
    return _new(key, _NAME, _destructor)


def _let_go(key: int) -> None:
    """Let go of an array: called by whoever took its capsule, when it is done."""
    _handed_out.pop(key, None)


def _die(capsule: int) -> None:
    """Let go of an array that nobody took: who takes a capsule gives it another name."""
    if _is_valid(capsule, _NAME):
        _handed_out.pop(_dying_pointer(capsule, _NAME), None)


_deleter = _Deleter(_let_go)
_destructor = _Destructor(_die)


def _data_type(dtype: np.dtype[Any]) -> _DataType:
    code = _BFLOAT if dtype == numpy_dtype("BF16") else _CODES[dtype.kind]
    return _DataType(code, 8 * dtype.itemsize, 1)


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
