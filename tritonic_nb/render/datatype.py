"""Triton's names of NumPy dtypes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

__all__ = ["TEXT_KINDS", "datatype_name", "is_number", "triton_name"]

TEXT_KINDS = "OSUT"
"""The kinds of NumPy dtypes whose elements are texts."""


def datatype_name(dtype: np.dtype[Any]) -> str:
    """Return Triton's name of a NumPy dtype, or NumPy's where Triton has none."""
    if dtype.kind in TEXT_KINDS:
        return "BYTES"
    return triton_name(dtype.name) or str(dtype)


def triton_name(name: str) -> str:
    """Return Triton's name of what NumPy and other libraries call ``float32``, or ``""``."""
    if name == "bool":
        return "BOOL"
    match = re.fullmatch(r"(bfloat|float|uint|int)(\d+)", name)
    if match is None:
        return ""
    prefix = {"float": "FP", "bfloat": "BF", "int": "INT", "uint": "UINT"}[match[1]]
    return f"{prefix}{match[2]}"


def is_number(dtype: np.dtype[Any]) -> bool:
    """Whether values of a NumPy dtype are real numbers or truth values.

    ``bfloat16`` and its like are types of their own to NumPy, of no kind that it knows.
    """
    return dtype.kind in "biuf" or (
        dtype.kind == "V" and dtype.fields is None and dtype.name.startswith(("bfloat", "float"))
    )
