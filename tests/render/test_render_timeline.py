"""Something over time: right, readable, bounded and safe."""

from __future__ import annotations

import io
import math
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render import Picture
from tritonic_nb.render.scales import LinearScale
from tritonic_nb.render.timeline import (
    Layer,
    MarkRow,
    Panel,
    RateRow,
    _folded,
    _height,
    _names,
    timeline,
)

TIMES = [0.0, 1.0, 2.0, 3.0]
BLUE = (0x00, 0x72, 0xB2)


def pixels(picture: Picture) -> np.ndarray:
    with Image.open(io.BytesIO(picture.png)) as image:
        return np.asarray(image.convert("RGBA"))


def share(picture: Picture, color: tuple[int, int, int]) -> int:
    return int((pixels(picture)[..., :3] == color).all(axis=-1).sum())


def test_it_says_in_words_what_it_shows() -> None:
    """Peaks, lows and counts, for those who do not see it."""
    picture = timeline(
        TIMES,
        [
            Panel("Shared <memory>", [Layer("input x", [0, 4e6, 4e6, 0])], total=64e6),
            Panel("Left", lines=[Layer("left, at least", [9e9, 7e9, math.nan, 8e9], low=True)]),
            Panel("Busy", lines=[Layer("busy", [0, 50, 7, 1])], percent=True),
        ],
        title="t",
        marks=[MarkRow("register", [0.5, 2], 2000)],
        rate=RateRow("infer", [0, 5, 0, 2], 7),
    )
    assert str(picture).splitlines() == [
        "t",
        "Shared <memory>, peaks: input x 4 MB",
        "Left, peaks: left, at least 7 GB",
        "Busy, peaks: busy 50 %",
        "events: register 2,000, infer 7",
    ]
    assert "Shared &lt;memory&gt;" in picture.html
    assert "<memory>" not in picture.html


def test_an_area_is_as_large_as_its_numbers() -> None:
    """Half of all there can be is half of the panel; what is free is light."""
    half, whole = (
        timeline(TIMES, [Panel("p", [Layer("x", [n * 1e6] * 4)], total=10e6)], title="t")
        for n in (5, 10)
    )
    legend = 12 * 10 * 4
    assert share(half, BLUE) - legend == pytest.approx((share(whole, BLUE) - legend) / 2, rel=0.05)
    assert share(half, (0xF1, 0xF3, 0xF5)) > 10 * share(whole, (0xF1, 0xF3, 0xF5))


def test_it_is_a_light_card_on_any_page() -> None:
    """Twice its size on the page; transparent outside of its corners, and white inside."""
    picture = timeline(TIMES, [Panel("p", [Layer("x", [1] * 4)])], title="t", width=600)
    shown = pixels(picture)
    assert shown.shape[1] == 1200
    assert picture.width == 600
    assert shown[0, 0, 3] == 0
    assert tuple(shown[20, 600]) == (255, 255, 255, 255)


@pytest.mark.parametrize("count", [1, 6, 7, 12, 60])
def test_of_many_areas_the_largest_are_named(count: int) -> None:
    """The rest is put together; nothing is lost, and there are at most twelve names."""
    own = [Layer(f"own {i}", [float(i + 1)] * 4) for i in range(count)]
    others = [Layer(f"other {i}", [float(i + 1)] * 4, "other") for i in range(count)]
    panel = Panel("p", [*own, *others, Layer("rest", [1.0] * 4, "rest")], total=1e5)
    folded = _folded(panel)
    assert _names(folded) <= 12
    assert sum(np.asarray(a.values)[0] for a in folded.areas) == count * (count + 1) + 1
    assert _height(folded) >= 16 * _names(folded)
    names = [area.name for area in folded.areas]
    assert f"own {count - 1}" in names
    assert (f"{count - 6} more" in names) == (count > 6)
    assert (f"{count - 2} others" in names) == (count > 3)
    timeline(TIMES, [panel], title="t")


@pytest.mark.parametrize(("low", "high"), [(0, 1e-3), (0, 2.83), (0, 59), (3000, 7200), (0, 1e6)])
def test_the_numbers_of_an_axis_are_round_and_apart(low: float, high: float) -> None:
    """Between 2 and 8 of them over 400 pixels."""
    steps = LinearScale(low, high, 78, 478).steps(56)
    assert 2 <= len(steps) <= 8
    assert all(low - 1e-9 <= value <= high * (1 + 1e-9) for value in steps)
    apart = np.diff(steps)
    assert np.allclose(apart, apart[0])
    assert float(f"{apart[0]:.1e}"[:3]) in (1, 2, 5)


def test_a_panel_without_anything_is_drawn_empty() -> None:
    """An empty /dev/shm has no areas, and a total all the same."""
    picture = timeline(TIMES, [Panel("p", total=5e6), Panel("q")], title="t")
    assert share(picture, BLUE) == 0


def test_marks_outside_of_the_axis_are_left_out() -> None:
    """Where the oldest samples were dropped their marks have no place; they are counted."""
    panel = [Panel("p", [Layer("x", [1] * 4)])]
    times = [1000.0, 1001, 1002, 1003]
    without = timeline(times, panel, title="t", marks=[MarkRow("error", [], 3)])
    beside = timeline(times, panel, title="t", marks=[MarkRow("error", [1, 2, 3], 3)])
    assert without.png == beside.png


@pytest.mark.parametrize(
    ("times", "panels"),
    [([], [Panel("p")]), (TIMES, []), (TIMES, [Panel("p", [Layer("x", [1, 2])])])],
)
def test_what_cannot_be_drawn_is_refused(times: list[float], panels: list[Panel]) -> None:
    """With a remedy."""
    with pytest.raises(ArgumentError, match="give"):
        timeline(times, panels, title="t")


def test_a_narrow_one_is_refused() -> None:
    """Its names would not fit."""
    with pytest.raises(ArgumentError, match="width is 300"):
        timeline(TIMES, [Panel("p")], title="t", width=300)


def test_a_notebooks_own_style_changes_nothing() -> None:
    """Another default style of Matplotlib's, set in the notebook, gives the same bytes."""
    panels = [Panel("p", [Layer("x", [1, 2, 3, 4])], [Layer("y", [4, 3, 2, 1])], total=5)]
    marks = [MarkRow(kind, [1.5], 1) for kind in ("register", "grow", "unregister", "error")]
    options = {"title": "t", "marks": marks, "rate": RateRow("infer", [0, 1, 2, 3], 6)}
    plain = timeline(TIMES, panels, **options)
    with mpl.rc_context():
        mpl.rcParams.update(
            {"font.size": 30, "lines.linewidth": 9, "savefig.dpi": 10, "axes.facecolor": "black"}
        )
        assert timeline(TIMES, panels, **options).png == plain.png


NUMBERS = st.floats(min_value=0, max_value=1e15) | st.just(math.nan)
ROWS = st.integers(1, 5).flatmap(
    lambda n: st.lists(st.lists(NUMBERS, min_size=n, max_size=n), min_size=1, max_size=4)
)


@settings(max_examples=12, deadline=None, phases=[Phase.generate])
@given(
    rows=ROWS,
    name=st.text(max_size=60),
    total=st.none() | st.floats(min_value=0, max_value=1e15),
)
def test_whatever_the_numbers_and_names_are_it_is_drawn(
    rows: list[list[float]], name: str, total: float | None
) -> None:
    """One time or several, unknown numbers, nothing but zeros, any name."""
    times = [float(n) for n in range(len(rows[0]))]
    layers = [Layer(f"{name} {index}", row) for index, row in enumerate(rows)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = timeline(
            times,
            [Panel(name, layers, total=total, warn_at=total), Panel(name, lines=layers)],
            title=name,
            rate=RateRow("infer", rows[0], 1),
        )
    inside = pixels(picture)[24:-24]  # between the card's round corners nothing is cut off
    assert (inside[:, 6:16, :3] == 255).all()
    assert (inside[:, -16:-6, :3] == 255).all()
