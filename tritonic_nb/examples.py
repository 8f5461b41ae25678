"""Made-up values for a model's inputs, as arrays and as the code that makes the same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.tensors import ModelSpec, numpy_dtype

__all__ = ["EXAMPLES", "ExampleValues", "example_inputs"]

EXAMPLES = ("ramp", "random", "zeros")
"""The kinds of made-up values."""

_WORDS = ("shared", "memory", "region", "tensor")
_HIGHEST = 100  # of whole numbers: every datatype holds it, the sum of two in 8 bits as well


@dataclass(frozen=True)
class ExampleValues:
    """Values of a kind, in a datatype and shape.

    Parameters
    ----------
    kind
        ``ramp``: from 0 to 1 for floats, 0, 1, 2 … for whole numbers (after 99 again from 0)
        and, as text, for ``BYTES``, False and True by turns. ``random``: floats from 0 to 1,
        whole numbers from 0 to 99, words; the same ones each time. ``zeros``: zeros, or the
        text ``0``.
    datatype
        Triton's name.
    shape
        The whole shape.
    """

    kind: str
    datatype: str
    shape: tuple[int, ...]

    def array(self) -> npt.NDArray[Any]:
        """Return the values; ``BYTES`` as an array of text."""
        make = {"ramp": self._ramp, "random": self._random, "zeros": self._zeros}
        return make[self.kind]()

    def code(self) -> str:
        """Return the Python expression for :meth:`array`; it needs NumPy as ``np``."""
        write = {"ramp": self._ramp_code, "random": self._random_code, "zeros": self._zeros_code}
        return write[self.kind]()

    def imports(self) -> set[str]:
        """Return the lines that :meth:`code` needs before it."""
        more = {"import ml_dtypes"} if self.datatype == "BF16" else set()
        return {"import numpy as np", *more}

    @property
    def _count(self) -> int:
        return math.prod(self.shape)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return numpy_dtype(self.datatype)

    @property
    def _dtype_code(self) -> str:
        name = self._dtype.name
        if self.datatype == "BF16":
            return "ml_dtypes.bfloat16"
        return "bool" if self.datatype == "BOOL" else f"np.{name}"

    @property
    def _is_float(self) -> bool:
        return self.datatype in ("FP16", "BF16", "FP32", "FP64")

    def _ramp(self) -> npt.NDArray[Any]:
        count = self._count
        if self.datatype == "BYTES":
            return np.arange(count).astype(str).reshape(self.shape)
        if self.datatype == "BOOL":
            return (np.arange(count) % 2).astype(bool).reshape(self.shape)
        if self._is_float:
            return np.linspace(0, 1, count).astype(self._dtype).reshape(self.shape)
        return (np.arange(count) % _HIGHEST).astype(self._dtype).reshape(self.shape)

    def _ramp_code(self) -> str:
        count = self._count
        values = {
            "BYTES": f"np.arange({count}).astype(str)",
            "BOOL": f"(np.arange({count}) % 2).astype(bool)",
        }.get(self.datatype)
        if values is None and self._is_float:
            values = f"np.linspace(0, 1, {count}).astype({self._dtype_code})"
        elif values is None:
            numbers = f"np.arange({count})"
            if count > _HIGHEST:
                numbers = f"({numbers} % {_HIGHEST})"
            values = f"{numbers}.astype({self._dtype_code})"
        return f"{values}.reshape({self.shape})"

    def _random(self) -> npt.NDArray[Any]:
        generator = np.random.default_rng(0)
        if self.datatype == "BYTES":
            return generator.choice(_WORDS, self.shape)
        if self._is_float:
            return generator.random(self.shape).astype(self._dtype)
        highest = 2 if self.datatype == "BOOL" else _HIGHEST
        return generator.integers(0, highest, self.shape).astype(self._dtype)

    def _random_code(self) -> str:
        generator = "np.random.default_rng(0)"
        if self.datatype == "BYTES":
            words = ", ".join(f'"{word}"' for word in _WORDS)
            return f"{generator}.choice([{words}], {self.shape})"
        if self._is_float:
            return f"{generator}.random({self.shape}).astype({self._dtype_code})"
        highest = 2 if self.datatype == "BOOL" else _HIGHEST
        return f"{generator}.integers(0, {highest}, {self.shape}).astype({self._dtype_code})"

    def _zeros(self) -> npt.NDArray[Any]:
        if self.datatype == "BYTES":
            return np.full(self.shape, "0")
        return np.zeros(self.shape, self._dtype)

    def _zeros_code(self) -> str:
        if self.datatype == "BYTES":
            return f'np.full({self.shape}, "0")'
        return f"np.zeros({self.shape}, {self._dtype_code})"


def example_inputs(model: ModelSpec) -> dict[str, npt.NDArray[Any]]:
    """Return values for a model's inputs, with one for the batch and each dynamic dimension.

    Random numbers; for ``BYTES``, numbers as texts, which most models that take texts can read.
    Inputs that a request may leave out are left out, unless there are no others.
    """
    needed = [spec for spec in model.inputs.values() if not spec.optional]
    return {
        spec.name: ExampleValues(
            "ramp" if spec.datatype == "BYTES" else "random",
            spec.datatype,
            tuple(max(1, dim) for dim in spec.shape),
        ).array()
        for spec in needed or model.inputs.values()
    }
