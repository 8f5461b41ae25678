"""The one table of Triton datatypes and their NumPy counterparts.

Triton's datatypes are those of its HTTP and gRPC protocols (the table
"Datatypes" of the server's ``docs/user_guide/model_configuration.md``).
``BYTES`` holds elements of any length and is an object array in NumPy;
``BF16`` is ``ml_dtypes.bfloat16``, as in tritonclient.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tritonic_nb.errors import TensorDatatypeError

__all__ = ["DATATYPES", "TEXT_KINDS", "datatype_of", "item_nbytes", "numpy_dtype"]

_NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
TEXT_KINDS = "OSUT"
"""The kinds of NumPy dtypes whose elements are text or bytes (T is NumPy 2's StringDType)."""
_TRITON = {dtype: name for name, dtype in _NUMPY.items()}

DATATYPES = tuple(_NUMPY)
"""Triton's datatypes, by name."""


def numpy_dtype(datatype: str) -> np.dtype[Any]:
    """Return the NumPy dtype of a Triton datatype.

    Parameters
    ----------
    datatype
        A name such as ``"FP32"``.

    Raises
    ------
    TensorDatatypeError
        If Triton has no datatype of that name.
    """
    try:
        return _NUMPY[datatype]
    except KeyError:
        raise TensorDatatypeError(
            f"{datatype!r} is not a Triton datatype", f"use one of {', '.join(DATATYPES)}"
        ) from None


def datatype_of(dtype: np.dtype[Any]) -> str | None:
    """Return the Triton datatype of a NumPy dtype, or None where there is none.

    Text and byte-string arrays are ``BYTES``; a foreign byte order is not a
    datatype of its own and counts as the native one.
    """
    if dtype.kind in TEXT_KINDS:
        return "BYTES"
    return _TRITON.get(dtype.newbyteorder("="))


def item_nbytes(datatype: str) -> int | None:
    """Return the bytes of one element, or None for ``BYTES``, whose elements vary.

    Raises
    ------
    TensorDatatypeError
        If Triton has no datatype of that name.
    """
    return None if datatype == "BYTES" else numpy_dtype(datatype).itemsize
