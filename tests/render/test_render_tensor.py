"""One line about an array, quickly and truly."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tritonic_nb.render import human_bytes, summarise


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([[0.5, 1.5]], np.float32), "FP32 [1, 2], 8 B, min 0.5, mean 1, max 1.5"),
        (np.arange(5, dtype=np.uint8), "UINT8 [5], 5 B, min 0, mean 2, max 4"),
        (np.array([2**40, -(2**40)]), "INT64 [2], 16 B, min -1,099,511,627,776, mean 0,"
         " max 1,099,511,627,776"),
        (np.array([1, np.nan, np.nan, np.inf]), "FP64 [4], 32 B, min 1, mean 1, max 1, 2 NaN,"
         " 1 infinite"),
        (np.full(3, np.nan, np.float16), "FP16 [3], 6 B, 3 NaN"),
        (np.array([1.5], ml_dtypes.bfloat16), "BF16 [1], 2 B, min 1.5, mean 1.5, max 1.5"),
        (np.array([True, False]), "BOOL [2], 2 B, 50.0% true"),
        (np.array([b"ab", "\xe4"], object), "BYTES [2], 4 B, 2 texts"),
        (np.array(["abc"]), "BYTES [1], 3 B, 1 text"),
        (np.empty((0, 3), np.float32), "FP32 [0, 3], 0 B, empty"),
        (np.array(2, np.int8), "INT8 [], 1 B, min 2, mean 2, max 2"),
        (np.array([60_000, 60_000], np.float16), "FP16 [2], 4 B, min 6e+04, mean 6e+04, max 6e+04"),
        (np.array([1j]), "complex128 [1], 16 B"),
    ],
)  # fmt: skip
def test_an_array_in_one_line(array: np.ndarray, text: str) -> None:
    """Datatype, shape, size and range in Triton's words; no overflow in the mean."""
    assert summarise(array) == text


@pytest.mark.parametrize("transposed", [False, True])
def test_a_large_array_is_sampled_and_says_so(transposed: bool) -> None:
    """What was not looked at is not claimed."""
    array = np.zeros((3000, 3000), np.uint8)
    assert "(1 in 3 looked at)" in summarise(array.T if transposed else array)


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
def test_any_array_has_a_summary(array: np.ndarray) -> None:
    """No datatype or value raises, warns or breaks the line."""
    assert "\n" not in summarise(array)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (602_112, "602 kB"), (999_600, "1 MB"),
     (67_108_864, "67.1 MB"), (1_500_000_000, "1.5 GB"), (5 * 10**15, "5,000 TB")],
)  # fmt: skip
def test_bytes_for_people(count: int, text: str) -> None:
    """Decimal units, three digits."""
    assert human_bytes(count) == text


@given(st.integers(0, 10**18))
def test_sizes_are_never_in_exponents(count: int) -> None:
    """Readable at any size."""
    assert "e" not in human_bytes(count)
