"""Arrays to bytes and back, in Triton's layouts.

Numeric tensors are their elements in row-major order and native byte order.
A ``BYTES`` tensor is, element by element, a four-byte little-endian length and
then that many bytes (the server's ``docs/protocol/extension_binary_data.md``).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import TensorDatatypeError, TensorShapeError
from tritonic_nb.tensors.dtypes import datatype_of, numpy_dtype
from tritonic_nb.tensors.spec import TensorSpec

__all__ = ["Buffer", "as_tensor", "decode", "encoded_nbytes", "write"]

Buffer = memoryview | bytes | bytearray
_LENGTH = struct.Struct("<I")


def as_tensor(value: Any, spec: TensorSpec) -> npt.NDArray[Any]:
    """Return `value` as an array of the model's datatype and rank, checked.

    Arrays keep their memory: nothing is copied and no number is converted
    behind the caller's back. Python numbers and lists become arrays of the
    model's datatype, if every number fits it.

    Parameters
    ----------
    value
        An array, or a (nested) list of numbers, texts or bytes.
    spec
        The input that it is for.

    Raises
    ------
    TensorDatatypeError
        If the array has another datatype, or a number does not fit.
    TensorShapeError
        If the rank or a fixed dimension differs.
    """
    array = value if isinstance(value, np.ndarray) else _from_python(value, spec)
    have = datatype_of(array.dtype)
    if have != spec.datatype:
        want = numpy_dtype(spec.datatype)
        raise TensorDatatypeError(
            f"{spec.name!r} is {spec.datatype} in the model and the array is "
            f"{have or array.dtype} (NumPy {array.dtype})",
            f"convert it: array.astype({_numpy_name(want)})",
        )
    spec.check_shape(array.shape)
    return array


def encoded_nbytes(array: npt.NDArray[Any]) -> int:
    """Return the bytes that :func:`write` needs for `array`.

    Raises
    ------
    TensorDatatypeError
        If a ``BYTES`` element is neither bytes nor text.
    """
    if array.dtype.kind in "OSU":
        return sum(_LENGTH.size + len(_element(e)) for e in array.flat)
    return int(array.nbytes)


def write(array: npt.NDArray[Any], target: memoryview) -> int:
    """Write `array` to the start of `target` and return the bytes written.

    A numeric array of any memory layout and byte order is copied exactly
    once, straight into the target, without a temporary.

    Parameters
    ----------
    array
        What to write.
    target
        Writable bytes, at least :func:`encoded_nbytes` of them.

    Raises
    ------
    TensorDatatypeError
        If a ``BYTES`` element is neither bytes nor text.
    """
    if array.dtype.kind in "OSU":
        return _write_bytes(array, target)
    if array.size:
        native = array.dtype.newbyteorder("=")
        np.copyto(np.frombuffer(target, native, array.size).reshape(array.shape), array)
    return int(array.nbytes)


def decode(
    data: Buffer, datatype: str, shape: Sequence[int], *, name: str, copy: bool = True
) -> npt.NDArray[Any]:
    """Read a tensor from the start of `data`.

    Parameters
    ----------
    data
        The bytes; more may follow.
    datatype, shape
        As the server's reply gives them.
    name
        The tensor's name, for the message of an error.
    copy
        False gives a read-only view of `data`, which stays alive with it.
        ``BYTES`` tensors are always copies.

    Raises
    ------
    TensorShapeError
        If `data` holds fewer bytes than the shape needs.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        elements: npt.NDArray[Any] = _read_bytes(data, count, name).reshape(tuple(shape))
        return elements
    dtype = numpy_dtype(datatype)
    if len(data) < count * dtype.itemsize:
        raise TensorShapeError(
            f"output {name!r} is {datatype} {list(shape)}, {count * dtype.itemsize} bytes, "
            f"and only {len(data)} bytes came",
            "this is a fault of the server or of another writer to the region; infer again",
        )
    view: npt.NDArray[Any] = np.frombuffer(data, dtype, count).reshape(shape)
    if copy:
        return np.array(view)
    view.flags.writeable = False
    return view


def _numpy_name(dtype: np.dtype[Any]) -> str:
    return {"bfloat16": "ml_dtypes.bfloat16", "bool": "bool", "object": "object"}.get(
        dtype.name, f"np.{dtype.name}"
    )


def _from_python(value: Any, spec: TensorSpec) -> npt.NDArray[Any]:
    want = numpy_dtype(spec.datatype)
    try:
        if spec.datatype == "BYTES":
            return np.array(value, dtype=np.object_)
        exact: npt.NDArray[Any] = np.asarray(value)
        with np.errstate(all="ignore"):  # what does not fit is told below, once
            converted = exact.astype(want)
    except (ValueError, TypeError, OverflowError) as error:
        raise TensorDatatypeError(
            f"{spec.name!r} takes {spec.datatype} and {type(value).__name__} "
            f"does not convert: {error}",
            "give a NumPy array",
        ) from error
    if want.kind in "iub" and not np.array_equal(converted, exact):
        raise TensorDatatypeError(
            f"{spec.name!r} takes {spec.datatype} and the numbers given ({exact.dtype}) do not fit",
            f"round or scale them, or convert on purpose: "
            f"np.asarray(x).astype({_numpy_name(want)})",
        )
    return converted


def _element(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise TensorDatatypeError(
        f"a BYTES element must be bytes or text, not {type(value).__name__} ({value!r:.60})",
        "convert each element, e.g. str(x).encode()",
    )


def _write_bytes(array: npt.NDArray[Any], target: memoryview) -> int:
    at = 0
    for value in array.flat:
        element = _element(value)
        _LENGTH.pack_into(target, at, len(element))
        at += _LENGTH.size
        target[at : at + len(element)] = element
        at += len(element)
    return at


def _read_bytes(data: Buffer, count: int, name: str) -> npt.NDArray[Any]:
    elements: npt.NDArray[Any] = np.empty(count, dtype=np.object_)
    at = 0
    for index in range(count):
        end = at + _LENGTH.size
        if end <= len(data):
            (size,) = _LENGTH.unpack_from(data, at)
            at, end = end, end + size
        if end > len(data):
            raise TensorShapeError(
                f"output {name!r} ends in the middle of element {index} of {count} "
                f"({len(data)} bytes)",
                "this is a fault of the server or of another writer to the region; infer again",
            )
        elements[index] = bytes(data[at:end])
        at = end
    return elements
