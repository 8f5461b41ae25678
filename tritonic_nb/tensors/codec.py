"""Arrays to bytes and back, in Triton's layouts.

Numeric tensors are their elements in row-major order and native byte order.
A ``BYTES`` tensor is, element by element, a four-byte little-endian length and
then that many bytes (the server's ``docs/protocol/extension_binary_data.md``).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import TensorDatatypeError, TensorShapeError, brief
from tritonic_nb.tensors.dtypes import TEXT_KINDS, datatype_of, numpy_dtype
from tritonic_nb.tensors.spec import TensorSpec

__all__ = [
    "Buffer",
    "Sized",
    "as_tensor",
    "check_tensor",
    "checked_nbytes",
    "copy_into",
    "decode",
    "element_bytes",
    "empty",
    "encoded_nbytes",
    "take",
    "write",
]

Buffer = memoryview | bytes | bytearray
_FAULT = "this is a fault of the server or of another writer to the region; infer again"
_LENGTH = struct.Struct("<I")
_STEP_NBYTES = 16 * 2**20
_ROUNDED = 2**53  # below it a float holds every whole number


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
    try:
        if _masked(value):
            raise TensorDatatypeError(
                f"{spec.name!r} was given a masked array, and a tensor has no mask",
                "decide what stands in the masked places: array.filled(VALUE)",
            )
        array = _as_array(value) if _is_array(value) else _from_python(value, spec)
    except TensorDatatypeError:
        raise
    except Exception as error:  # objects say themselves what array they are, and raise anything
        raise TensorDatatypeError(
            f"{spec.name!r} takes {spec.datatype} and {type(value).__name__} "
            f"does not convert: {error}",
            "give numbers, or a NumPy array",
        ) from error
    check_tensor(array.dtype, array.shape, spec)
    return array


def check_tensor(dtype: np.dtype[Any], shape: Sequence[int], spec: TensorSpec) -> None:
    """Refuse an array that is not of the model's datatype and rank.

    Raises
    ------
    TensorDatatypeError
        If it has another datatype.
    TensorShapeError
        If the rank or a fixed dimension differs.
    """
    have = datatype_of(dtype)
    if have != spec.datatype:
        want = numpy_dtype(spec.datatype)
        raise TensorDatatypeError(
            f"{spec.name!r} is {spec.datatype} in the model and the array is "
            f"{have or dtype} (NumPy {dtype})",
            f"convert it: array.astype({_numpy_name(want)})",
        )
    spec.check_shape(shape)


class Sized(Protocol):
    """An array, wherever its elements are."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype."""

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""


def encoded_nbytes(array: Sized) -> int:
    """Return the bytes that :func:`write` needs for `array`.

    Raises
    ------
    TensorDatatypeError
        If a ``BYTES`` element is neither bytes nor text.
    """
    if array.dtype.kind in TEXT_KINDS and isinstance(array, np.ndarray):
        return sum(_LENGTH.size + len(element_bytes(e)) for e in array.flat)
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
    if array.dtype.kind in TEXT_KINDS:
        return _write_bytes(array, target)
    if array.size:
        native = array.dtype.newbyteorder("=")
        copy_into(np.frombuffer(target, native, array.size).reshape(array.shape), array)
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
    if datatype == "BYTES":
        _check_dimensions(shape, name)
        return _shaped(_read_bytes(data, math.prod(shape), name), shape, name)
    # Read-only for good: NumPy lets nobody make an array of such a buffer writable again.
    view = _view(memoryview(data).toreadonly(), datatype, shape, name)
    if not copy:
        return view
    owned = np.empty_like(view)
    copy_into(owned, view)
    return owned


def take(data: memoryview, datatype: str, shape: Sequence[int], *, name: str) -> npt.NDArray[Any]:
    """Make a tensor of the memory that it lies in, at the start of `data`.

    Parameters
    ----------
    data
        Writable, and nobody else's from now on: the array has it, and keeps it alive. Where
        it is not aligned, and for ``BYTES``, the array is a copy.
    datatype, shape, name
        As :func:`decode` has them.

    Raises
    ------
    TensorShapeError
        If `data` holds fewer bytes than the shape needs.
    """
    if datatype != "BYTES":
        array = _view(data, datatype, shape, name)
        if array.flags.aligned:
            return array
    return decode(data, datatype, shape, name=name)


def _view(data: memoryview, datatype: str, shape: Sequence[int], name: str) -> npt.NDArray[Any]:
    checked_nbytes(datatype, shape, len(data), name=name)
    flat: npt.NDArray[Any] = np.frombuffer(data, numpy_dtype(datatype), math.prod(shape))
    return _shaped(flat, shape, name)


def checked_nbytes(datatype: str, shape: Sequence[int], there: int, *, name: str) -> int:
    """Return the bytes of a tensor that is to be read, if so many are there.

    Parameters
    ----------
    datatype, shape
        As the server's reply gives them; not ``BYTES``.
    there
        The bytes that can be read.
    name
        The tensor's name, for the message of an error.

    Raises
    ------
    TensorShapeError
        If there are fewer than the shape needs, or no array has such a shape.
    """
    _check_dimensions(shape, name)
    nbytes = math.prod(shape) * numpy_dtype(datatype).itemsize
    if there < nbytes:
        raise TensorShapeError(
            f"output {name!r} is {datatype} {list(shape)}, {nbytes} bytes, "
            f"and only {there} bytes came",
            _FAULT,
        )
    return nbytes


def _check_dimensions(shape: Sequence[int], name: str) -> None:
    if any(dimension < 0 for dimension in shape):
        raise TensorShapeError(
            f"output {name!r} came with the shape {list(shape)}, which no array has",
            "this is a fault of the server; its log may tell more",
        )


def copy_into(target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
    """Copy an array of any layout and byte order, without a temporary.

    In steps, so that Ctrl-C is noticed within half a second.

    Parameters
    ----------
    target, source
        Of the same shape.
    """
    if source.nbytes <= _STEP_NBYTES or not source.ndim:
        np.copyto(target, source)
        return
    rows = _STEP_NBYTES * len(source) // source.nbytes
    for start in range(0, len(source), rows or 1):
        if rows:
            np.copyto(target[start : start + rows], source[start : start + rows])
        else:
            copy_into(target[start], source[start])


def empty(datatype: str, shape: Sequence[int], *, name: str) -> npt.NDArray[Any]:
    """Return a new array for a tensor that is to be read.

    Raises
    ------
    TensorShapeError
        If no array has such a shape.
    """
    try:
        return np.empty(tuple(shape), numpy_dtype(datatype))
    except (ValueError, OverflowError) as error:
        raise _no_such_shape(shape, name, error) from error


def _shaped(flat: npt.NDArray[Any], shape: Sequence[int], name: str) -> npt.NDArray[Any]:
    try:
        return flat.reshape(tuple(shape))
    except (ValueError, OverflowError) as error:  # more dimensions, or larger ones, than NumPy has
        raise _no_such_shape(shape, name, error) from error


def _no_such_shape(shape: Sequence[int], name: str, error: Exception) -> TensorShapeError:
    return TensorShapeError(
        f"output {name!r} came with the shape {brief(list(shape))}: {error}", _FAULT
    )


def _masked(value: Any) -> bool:
    """Whether a value is or lists masked arrays, whose masks NumPy would drop without a word."""
    if isinstance(value, (list, tuple)):
        # Only of lists of arrays every item is looked at: lists of numbers are long.
        first = next(iter(value), None)
        return isinstance(first, np.ndarray) and any(map(_masked, value))
    return isinstance(value, np.ma.MaskedArray)


def _numpy_name(dtype: np.dtype[Any]) -> str:
    return {"bfloat16": "ml_dtypes.bfloat16", "bool": "bool", "object": "object"}.get(
        dtype.name, f"np.{dtype.name}"
    )


def _is_array(value: object) -> bool:
    return isinstance(value, (np.ndarray, memoryview)) or hasattr(value, "__array__")


def _as_array(value: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.asarray(value)
    return array


def _from_python(value: Any, spec: TensorSpec) -> npt.NDArray[Any]:
    """Turn numbers and lists into the model's datatype, if every number fits it."""
    if spec.datatype == "BYTES":
        return np.array(value, dtype=np.object_)
    want = numpy_dtype(spec.datatype)
    exact = _as_array(value)
    if exact.dtype.kind not in "biuf":
        raise TypeError(f"NumPy makes {exact.dtype} of it")
    with np.errstate(all="ignore"):  # what does not fit is told below, once
        converted = exact.astype(want)
    if not _same_numbers(exact, converted):
        raise TensorDatatypeError(
            f"{spec.name!r} takes {spec.datatype} and the numbers given ({exact.dtype}) do not fit",
            f"round or scale them, or convert on purpose: "
            f"np.asarray(x).astype({_numpy_name(want)})",
        )
    return converted


def _same_numbers(exact: npt.NDArray[Any], converted: npt.NDArray[Any]) -> bool:
    """Whether whole numbers stayed what they were, and finite ones finite."""
    if converted.dtype.kind in "iub":
        # NumPy makes floats of whole numbers among others that are none: rounded from 2**53 on.
        rounded = exact.dtype.kind == "f" and np.any(np.abs(exact) >= _ROUNDED)
        return not rounded and np.array_equal(converted, exact)
    return np.array_equal(np.isfinite(exact), np.isfinite(converted))


def element_bytes(value: object) -> bytes:
    """Return a ``BYTES`` element as bytes; text is encoded as UTF-8.

    Raises
    ------
    TensorDatatypeError
        If it is neither bytes nor text, or text that UTF-8 cannot encode.
    """
    if isinstance(value, bytes):
        return bytes(value)  # np.bytes_ is a kind of bytes, and others look at the exact type
    try:
        if isinstance(value, str):
            return value.encode()
        reason = f"is {type(value).__name__}"
    except UnicodeEncodeError as error:
        reason = str(error)
    raise TensorDatatypeError(
        f"a BYTES element must be bytes or text: {brief(value)} {reason}",
        "convert each element, e.g. str(x).encode()",
    )


def _write_bytes(array: npt.NDArray[Any], target: memoryview) -> int:
    at = 0
    for value in array.flat:
        element = element_bytes(value)
        _LENGTH.pack_into(target, at, len(element))
        at += _LENGTH.size
        target[at : at + len(element)] = element
        at += len(element)
    return at


def _read_bytes(data: Buffer, count: int, name: str) -> npt.NDArray[Any]:
    if count * _LENGTH.size > len(data):
        raise TensorShapeError(
            f"output {name!r} has {count} elements by its shape, and only {len(data)} bytes came",
            _FAULT,
        )
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
                _FAULT,
            )
        elements[index] = bytes(data[at:end])
        at = end
    return elements
