"""Scales and their round numbers; numbers and times in words; lines of words."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonic_nb.render import human_ms
from tritonic_nb.render.human import figures
from tritonic_nb.render.measured import wrapped
from tritonic_nb.render.plot import text_width
from tritonic_nb.render.scales import LinearScale, LogScale, is_power


@given(st.floats(1e-9, 1e9), st.floats(1, 1e12), st.floats(12, 60))
def test_a_logarithmic_axis_has_round_numbers_with_room(
    low: float, ratio: float, least: float
) -> None:
    """At least one, between its ends, of one digit, and as far apart as was asked."""
    scale = LogScale.around(low, low * ratio, 200, 10)
    found = scale.steps(least)
    assert found
    assert all(scale.low <= value <= scale.high for value in found)
    assert all(f"{value:.6e}"[1:8] == ".000000" for value in found)
    places = [scale(value) for value in found]
    assert all(before - after >= least * 0.999 for before, after in pairwise(places))
    assert 10 <= scale(low * ratio) < scale(low) + 1e-9 <= 200


def test_a_logarithmic_axis_is_as_dense_as_there_is_room() -> None:
    """All digits, then 1, 2 and 5, then powers of ten, then some of them."""
    assert LogScale(0.95, 4.1, 0, 200).steps(15) == [1, 2, 3, 4]
    assert LogScale(2.1, 8.4, 0, 130).steps(15) == [3, 5]
    assert LogScale(0.9, 110, 0, 200).steps(15) == [1, 2, 5, 10, 20, 50, 100]
    assert LogScale(0.9, 1.1e4, 0, 200).steps(30) == [1, 10, 100, 1000, 10000]
    few = LogScale(0.9, 1.1e9, 0, 100).steps(30)
    assert all(map(is_power, few))
    assert len(few) == 4


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "0 ms"), (0.02, "0.0200 ms"), (0.45, "0.450 ms"), (1.62, "1.62 ms"), (10.4, "10.4 ms"),
        (88, "88.0 ms"), (340.2, "340 ms"), (1234, "1,230 ms"), (1e-7, "1.00e-07 ms"),
    ],
)  # fmt: skip
def test_times_have_three_digits(ms: float, words: str) -> None:
    """Zeros at the end, too: they tell how exact it is."""
    assert human_ms(ms) == words


def test_more_digits_where_asked() -> None:
    """Four of them."""
    assert [figures(each, 4) for each in (1.6203, 88, 12345.6)] == ["1.620", "88.00", "12,350"]


@given(st.text(max_size=200), st.integers(60, 400), st.integers(1, 4))
def test_words_are_broken_into_lines(text: str, room: int, most: int) -> None:
    """Nothing is lost, there are at most so many lines, and all but the last have room."""
    lines = wrapped(text, room, most=most)
    assert " ".join(lines).split() == text.split()
    assert len(lines) <= most
    assert all(" " not in line or text_width(line, size=8.5) <= room for line in lines[:-1])


def test_a_number_stays_with_its_unit() -> None:
    """It is not at the end of a line."""
    text = "Where the time of one request goes: 602 kB in"
    assert wrapped(text, text_width("Where the time of one request goes: 602", size=8.5)) == [
        "Where the time of one request goes:", "602 kB in",
    ]  # fmt: skip


@given(st.floats(5e-324, 1e300))
def test_a_linear_axis_has_a_number_whatever_its_end_is(high: float) -> None:
    """However small; within its ends."""
    found = LinearScale(0.0, high, 0, 400).steps(60)
    assert found
    assert all(0 <= value <= high * 1.0001 for value in found)
