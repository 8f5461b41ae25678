"""Arrays in one line."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["human_bytes", "summarise"]

# Above this many elements a sample is looked at: a repr must not take a second.
_SAMPLE = 4_000_000
_MOST_BYTES = 10**30  # of a wrong shape there may be more than a float holds


def summarise(array: npt.NDArray[Any]) -> str:
    """Describe an array in one line.

    Parameters
    ----------
    array
        Any array; ``bfloat16`` and BYTES (objects, strings) included.

    Returns
    -------
    str
        Datatype (Triton's name), shape, bytes, and for numbers the lowest, mean and
        highest finite value and how many are NaN or infinite. Of a very large array a
        sample of every n-th element is looked at, and the line says so. The size of
        objects is that of the text, not of Python's objects.

    Examples
    --------
    >>> summarise(np.array([[0.5, 1.5]], np.float32))
    'FP32 [1, 2], 8 B, min 0.5, mean 1, max 1.5'
    """
    head = f"{_datatype(array.dtype)} {list(array.shape)}"
    if array.dtype.kind in "OSU":
        return f"{head}, {_texts(array)}"
    return ", ".join([head, human_bytes(array.nbytes), *_statistics(array)])


def human_bytes(count: int) -> str:
    """Write a number of bytes for people: ``602 kB`` is 602 thousand bytes.

    Decimal units, three digits.
    """
    size = float(min(count, _MOST_BYTES))
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB" if abs(size) < 999.5 else f"{size:,.0f} TB"


def _statistics(array: npt.NDArray[Any]) -> list[str]:
    if array.size == 0:
        return ["empty"]
    if array.dtype.kind == "c":
        return []
    values, sampled = _sample(array)
    if values.dtype.kind == "b":
        return [f"{np.mean(values):.1%} true{sampled}"]
    if values.dtype.kind not in "iuf":  # bfloat16 is a type of its own to NumPy
        values = values.astype(np.float32)
    if values.dtype.kind != "f":
        return _extremes(values, sampled)
    finite = np.isfinite(values)
    if finite.all():
        return _extremes(values, sampled)
    nans = int(np.isnan(values).sum())
    infinite = values.size - int(finite.sum()) - nans
    odd = [f"{count:,} {word}" for count, word in ((nans, "NaN"), (infinite, "infinite")) if count]
    return [*(_extremes(values[finite], sampled) if finite.any() else ()), *odd]


def _extremes(values: npt.NDArray[Any], sampled: str) -> list[str]:
    with np.errstate(over="ignore"):
        mean = float(values.mean(dtype=np.float64))
    lowest, highest = values.min(), values.max()
    return [f"min {_number(lowest)}", f"mean {mean:.4g}", f"max {_number(highest)}{sampled}"]


def _number(value: Any) -> str:
    return f"{int(value):,}" if value.dtype.kind in "iu" else f"{float(value):.4g}"


def _sample(array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], str]:
    """Take every n-th element of a large array, and say so."""
    if array.size <= _SAMPLE:
        return array, ""
    step = -(-array.size // _SAMPLE)
    if array.flags.c_contiguous:
        values = array.reshape(-1)[::step]
    else:  # flattening would copy: thin out the longest axis instead
        axis = int(np.argmax(array.shape))
        step = min(step, array.shape[axis])
        values = array[(slice(None),) * axis + (slice(None, None, step),)]
    return values, f" (1 in {step} looked at)"


def _texts(array: npt.NDArray[Any]) -> str:
    items = array.ravel().tolist()
    size = sum(
        len(item if isinstance(item, bytes) else str(item).encode("utf-8", "replace"))
        for item in items
    )
    return f"{human_bytes(size)}, {len(items):,} {'text' if len(items) == 1 else 'texts'}"


def _datatype(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "OSU":
        return "BYTES"
    if dtype.kind == "b":
        return "BOOL"
    match = re.fullmatch(r"(bfloat|float|uint|int)(\d+)", dtype.name)
    if match is None:
        return str(dtype)
    prefix = {"float": "FP", "bfloat": "BF", "int": "INT", "uint": "UINT"}[match[1]]
    return f"{prefix}{match[2]}"
