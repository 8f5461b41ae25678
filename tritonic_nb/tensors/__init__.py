"""Datatypes, shapes and the bytes of tensors."""

from __future__ import annotations

from tritonic_nb.tensors.dtypes import DATATYPES, datatype_of, numpy_dtype
from tritonic_nb.tensors.spec import ModelSpec, TensorSpec

__all__ = ["DATATYPES", "ModelSpec", "TensorSpec", "datatype_of", "numpy_dtype"]
