"""What a handful of noisy times says."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonic_nb.measuring.estimates import (
    LEAST_RATIO,
    Ratio,
    median_interval,
    ratio_of,
    times_text,
)
from tritonic_nb.measuring.sweep import CROSSING_RATIO, crossing_of


@pytest.mark.parametrize(("count", "places"), [(6, (0, 5)), (10, (1, 8)), (20, (5, 14))])
def test_the_interval_of_a_median_is_between_two_values(
    count: int, places: tuple[int, int]
) -> None:
    """The places are those of the tables (Hahn and Meeker, Statistical Intervals, A.15)."""
    values = np.random.default_rng(0).permutation(count).tolist()
    assert median_interval(values) == places


def test_too_few_values_have_no_interval() -> None:
    """Five values cannot tell with 95 % confidence; a ratio of them is not known."""
    assert median_interval([1, 2, 3, 4, 5]) == (-math.inf, math.inf)
    ratio = ratio_of([2.0] * 5, [1.0] * 5)
    assert ratio == Ratio(2.0, 0.0, math.inf)
    assert not ratio.known
    assert not ratio.matters
    assert "too few rounds" in str(ratio)


@pytest.mark.parametrize("count", [7, 15, 40])
def test_the_interval_covers_the_true_median(count: int) -> None:
    """In 95 of 100 cases or more, though the times are skewed as on a busy machine."""
    noise = np.random.default_rng(1)
    samples = np.exp(noise.standard_normal((2000, count)) ** 3)  # whose median is 1
    covered = sum(low <= 1 <= high for low, high in map(median_interval, samples.tolist()))
    assert covered >= 0.94 * 2000


def test_a_ratio_compares_what_was_measured_in_the_same_round() -> None:
    """What slows a whole round down by any factor changes nothing."""
    slow = np.random.default_rng(0).uniform(1, 50, 30)
    ratio = ratio_of((3 * slow).tolist(), slow.tolist())
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((3, 3, 3))
    assert ratio.matters
    assert ratio.within(0.01)


@pytest.mark.parametrize(
    ("ratio", "matters"),
    [
        (Ratio(1.3, 1.2, 1.4), True),
        (Ratio(1.3, 0.9, 1.9), False),  # there may be none
        (Ratio(1.05, 1.04, 1.06), False),  # there is one, and it is small
        (Ratio(0.7, 0.6, 0.8), True),
    ],
)
def test_a_difference_matters_if_it_is_sure_and_large(ratio: Ratio, matters: bool) -> None:
    """Both; and a tenth is large."""
    assert LEAST_RATIO == 1.1
    assert ratio.matters is matters


@given(st.floats(0.001, 1e6))
def test_times_are_written_short(number: float) -> None:
    """With few digits, and right to a twentieth from 0.1 on."""
    text = times_text(number)
    assert len(text.replace(",", "")) <= max(4, len(str(round(number))))
    if number >= 0.1:
        assert float(text.replace(",", "")) == pytest.approx(number, rel=0.051)


def test_a_crossing_lies_where_the_ratio_is_a_quarter() -> None:
    """Of three sizes on straight lines over logarithmic axes it is found exactly."""
    sizes = [10.0, 100.0, 1000.0]
    ratios = [size**0.1 / 1.5 for size in sizes]
    found = crossing_of(sizes, ratios)
    assert found.size == pytest.approx((1.5 * CROSSING_RATIO) ** 10)
    assert (found.below, found.above) == (100.0, 1000.0)
    assert found.found


def test_a_crossing_is_told_by_all_the_smaller_sizes() -> None:
    """Of a fixed part and one in proportion, with noise of 2 %: right to a half in 90 of 100."""
    noise = np.random.default_rng(3)
    sizes = [1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6]
    ratios = np.array([(350 + size / 1000 * 2) / (300 + size / 1000 * 0.2) for size in sizes])
    true = (350 - 300 * CROSSING_RATIO) / (0.2 * CROSSING_RATIO - 2) * 1000
    found = [
        crossing_of(sizes, (ratios * noise.normal(1, 0.02, len(sizes))).tolist()).size
        for _ in range(400)
    ]
    low, high = np.percentile(found, (5, 95))
    assert true / 1.5 < low < high < true * 1.5


def test_a_way_that_is_always_or_never_faster_crosses_nowhere() -> None:
    """From size 0 on, or from infinity on; a single size is enough to tell."""
    always, never = crossing_of([8.0, 9.0], [1.5, 1.6]), crossing_of([8.0], [1.1])
    assert always.size == 0
    assert never.size == math.inf
    assert not always.found
    assert not never.found


def test_what_is_faster_in_the_middle_alone_has_not_crossed() -> None:
    """It counts from where on it stays faster."""
    assert crossing_of([1.0, 2.0, 3.0], [1.0, 2.0, 1.0]).size == math.inf
    found = crossing_of([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 2.0, 2.0])
    assert (found.below, found.above) == (2.0, 3.0)


@given(st.lists(st.floats(0.5, 20), min_size=1, max_size=8))
def test_a_crossing_is_between_its_neighbours(ratios: list[float]) -> None:
    """Whatever the ratios are."""
    sizes = [4.0**power for power in range(1, len(ratios) + 1)]
    found = crossing_of(sizes, ratios)
    if found.found:
        assert found.below / 4 <= found.size <= found.above * 4
        assert (found.below, found.above) in list(pairwise(sizes))
