"""One line about an array, quickly and truly."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tritonic_nb.render import Summary, human_bytes, summarise

ALL = "min 0, max 3, mean 1.5, std 1.118, 1 zero, ████"


class Hostile:
    """Raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([[0.5, 1.5]], np.float32),
         "FP32 [1, 2], 8 B, min 0.5, max 1.5, mean 1, std 0.5, █▁▁▁▁▁▁▁▁▁▁▁▁▁▁█"),
        *((np.arange(4).astype(dtype), f"{name} [4], {4 * np.dtype(dtype).itemsize} B, {ALL}")
          for name, dtype in (("UINT8", "u1"), ("UINT16", "u2"), ("UINT32", "u4"), ("UINT64", "u8"),
                              ("INT8", "i1"), ("INT16", "i2"), ("INT32", ">i4"), ("INT64", "i8"))),
        *((np.arange(4).astype(dtype), f"{name} [4], {4 * np.dtype(dtype).itemsize} B, "
           "min 0, max 3, mean 1.5, std 1.118, 1 zero, █▁▁▁▁█▁▁▁▁█▁▁▁▁█")
          for name, dtype in (("FP16", "f2"), ("FP32", ">f4"), ("FP64", "f8"),
                              ("BF16", ml_dtypes.bfloat16))),
        (np.array([2**63, 2**64 - 1], np.uint64),
         "UINT64 [2], 16 B, min 9,223,372,036,854,775,808, max 18,446,744,073,709,551,615, "
         "mean 1.384e+19, std 4.612e+18, █▁▁▁▁▁▁▁▁▁▁▁▁▁▁█"),
        (np.array([1, np.nan, np.nan, np.inf, -np.inf, 2]),
         "FP64 [6], 48 B, min 1, max 2, mean 1.5, std 0.5, 2 NaN, 1 +Inf, 1 -Inf, "
         "█▁▁▁▁▁▁▁▁▁▁▁▁▁▁█"),
        (np.full(3, np.nan, np.float16), "FP16 [3], 6 B, 3 NaN"),
        (np.full(2, np.inf, ml_dtypes.bfloat16), "BF16 [2], 4 B, 2 +Inf"),
        (np.array([1.5], ml_dtypes.bfloat16), "BF16 [1], 2 B, value 1.5"),
        (np.zeros((2, 3), np.int32), "INT32 [2, 3], 24 B, all 0"),
        (np.array([7.0, np.nan]), "FP64 [2], 16 B, all 7, 1 NaN"),
        (np.array([True, False]), "BOOL [2], 2 B, 50.0% true"),
        (np.ones(3, bool), "BOOL [3], 3 B, 100.0% true"),
        (np.empty((0, 3), np.float32), "FP32 [0, 3], 0 B, empty"),
        (np.empty(0, object), "BYTES [0], 0 B, empty"),
        (np.array(2, np.int8), "INT8 [], 1 B, value 2"),
        (np.array([60_000, 60_000], np.float16), "FP16 [2], 4 B, all 6e+04"),
        (np.array([1j]), "complex128 [1], 16 B"),
        (np.array([b"ab", "\xe4"], object), "BYTES [2], 4 B, 2 texts of 2 B, 'ab', 'ä'"),
        (np.array(["abc"]), "BYTES [1], 3 B, 1 text of 3 B, 'abc'"),
        (np.array([b"\xff\x00", b"", "a\x1b[2J\nb", "x" * 99], object),
         "BYTES [4], 108 B, 4 texts of 0 to 99 B, typically 4, b'\\xff\\x00', '', "
         "'a\\x1b[2J\\nb', …"),
        (np.array([b"x" * 99, "ä".encode() * 50], object),
         f"BYTES [2], 199 B, 2 texts of 99 to 100 B, typically 100, '{'x' * 24}'…, '{'ä' * 24}'…"),
        (np.array([Hostile()], object), "BYTES [1], 9 B, 1 text of 9 B, <Hostile>"),
    ],
)  # fmt: skip
def test_an_array_in_one_line(array: np.ndarray, text: str) -> None:
    """Datatype, shape, size and figures in Triton's words, for each datatype and odd content."""
    assert summarise(array) == text


def test_where_it_lies_ends_the_line() -> None:
    """The caller's words, in text as in HTML."""
    made = Summary.of(np.zeros(2), "region <r> at 64")
    assert str(made) == "FP64 [2], 16 B, all 0, region <r> at 64"
    assert made.html.endswith("region &lt;r&gt; at 64")


def test_an_array_elsewhere_is_not_read() -> None:
    """Of one on a device its datatype, shape and bytes are told, and where it is."""
    made = Summary.unread(np.dtype(ml_dtypes.bfloat16), (2, 3), "on CUDA device 0")
    assert str(made) == "BF16 [2, 3], 12 B, on CUDA device 0, not read"


@pytest.mark.parametrize("numbers", [
    [1e300, 3e300], [-1.7e308, 1.7e308], [1e-300, 3e-300], [1e300, 1e-300],
    [1e8 + 1, 1e8 + 2, 1e8 + 3], [0.1] * 1000,
])  # fmt: skip
def test_no_number_is_too_large_or_too_small(numbers: list[float]) -> None:
    """Mean and deviation neither overflow nor vanish, nor drown in the size of the numbers."""
    exact_mean = math.fsum(number / len(numbers) for number in numbers)
    # Brought near 1 by a power of two first, which changes no digit.
    power = math.frexp(max(map(abs, numbers)))[1]
    near = [math.ldexp(number - exact_mean, -power) for number in numbers]
    exact_std = math.ldexp(math.sqrt(math.fsum(n * n for n in near) / len(near)), power)
    known = Summary.of(np.array(numbers)).statistics
    assert known is not None
    assert known.mean == pytest.approx(exact_mean, rel=1e-9, abs=0)
    assert known.std == pytest.approx(exact_std, rel=1e-6, abs=1e-16 * max(numbers))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int16, np.uint8])
def test_all_ways_of_counting_agree(dtype: type) -> None:
    """A large array, of any layout, has the figures that NumPy has for it in float64."""
    random = np.random.default_rng(1)
    numbers = (random.standard_normal((3, 700, 500)) * 40 + 60).astype(dtype)
    if np.dtype(dtype).kind not in "iu":
        numbers[0, ::7, 3], numbers[1, 5, ::9], numbers[2, 0, :2] = np.nan, np.inf, -np.inf
    values = numbers.astype(np.float64)
    finite = values[np.isfinite(values)]
    for array in (numbers, numbers.transpose(2, 0, 1), numbers[:, ::-1]):
        known = Summary.of(array).statistics
        assert known is not None
        assert (known.step, known.count) == (1, values.size)
        assert (known.minimum, known.maximum) == (finite.min(), finite.max())
        assert known.mean == pytest.approx(finite.mean(), rel=1e-12)
        assert known.std == pytest.approx(finite.std(), rel=1e-12)
        assert known.zeros == (values == 0).sum()
        assert known.nans == np.isnan(values).sum()
        assert (known.above, known.below) == ((values == np.inf).sum(), (values == -np.inf).sum())
        if known.histogram_step == 1:
            expected, _ = np.histogram(finite, 16)
            # One that lies on a border may fall to either side.
            assert np.abs(np.subtract(known.histogram, expected)).max() <= finite.size / 100
            assert sum(known.histogram) == finite.size


def test_only_the_histogram_of_a_large_array_is_sampled() -> None:
    """One NaN among four million is found, and the line says what was not looked at whole."""
    array = np.random.default_rng(0).standard_normal(2**22, dtype=np.float32)
    array[12345] = np.nan
    text = summarise(array)
    assert ", 1 NaN, " in text
    assert text.endswith(", histogram from 1 in 5")


@pytest.mark.parametrize("transposed", [False, True])
def test_of_a_very_large_array_everything_is_sampled(transposed: bool) -> None:
    """What was not looked at is not claimed, and 20,000 x 20,000 numbers take no time."""
    array = np.broadcast_to(np.float32([[1], [2]] * 10_000), (20_000, 20_000))
    text = summarise(array.T if transposed else array)
    assert text.endswith(", all figures from 1 in 97")
    assert (
        "min 1, max 2, mean 1.5, " in text or "mean 1.498, " in text
    )  # odd steps: neither every first nor every second


def test_many_dimensions_are_thinned_out_too() -> None:
    """Of 2 to the power of 26 elements in as many dimensions some are looked at."""
    array = np.broadcast_to(np.float64(3), (2,) * 26)
    assert summarise(array).endswith("all 3, all figures from 1 in 16")


def test_the_sizes_of_many_texts_are_sampled() -> None:
    """A hundred thousand are looked at, and the line says so."""
    array = np.array([b"abc", b"abcd"] * 150_000, object)
    text = summarise(array)
    assert text.startswith("BYTES [300000], 1.05 MB, 300,000 texts of 3 to 4 B")
    assert "sizes from 1 in 3" in text


def test_what_is_wrong_is_marked_in_html() -> None:
    """NaN and infinities stand out, zeros do not; the histogram is drawn and holds no text."""
    html = Summary.of(np.array([0, 1, 2, np.nan, np.inf])).html
    assert '<strong class="tnb-alarm">1&nbsp;NaN</strong>' in html
    assert '<strong class="tnb-alarm">1&nbsp;+Inf</strong>' in html
    assert ", 1&nbsp;zero, " in html
    assert "<svg" in html
    assert "▁" not in html


@given(st.text(), st.binary(max_size=60))
def test_no_text_becomes_markup_or_commands_a_terminal(text: str, data: bytes) -> None:
    """Texts of a tensor are quoted, escaped and short, wherever they came from."""
    array = np.empty(2, object)
    array[:] = [text, data]
    made = Summary.of(array, text)
    assert made.html.count("<") == 0
    assert str(made).encode()
    assert not any(character in str(made) for character in "\x00\x1b\x07\x7f\x9b")
    assert "\n" not in str(Summary.of(array))


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
def test_any_array_has_a_summary(array: np.ndarray) -> None:
    """No datatype or value raises, warns or breaks the line."""
    assert "\n" not in summarise(array)
    assert Summary.of(array).html


@pytest.mark.parametrize(
    "array",
    [np.zeros((1,) * 7), np.zeros((2, 1, 2, 1, 2, 1, 2))[:, :, ::-1], np.arange(10)[::-3],
     np.ma.masked_array([1.0, 2.0], [True, False]), np.broadcast_to(np.int64(4), (10**5, 10**6))],
)  # fmt: skip
def test_any_layout_has_a_summary(array: np.ndarray) -> None:
    """Seven dimensions, negative strides, masks, and one number that fills terabytes."""
    assert summarise(array).startswith(("FP64", "INT64"))


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
