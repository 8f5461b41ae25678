"""Lines over logarithmic axes: right, readable and safe."""

from __future__ import annotations

import io
import itertools
import math

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render import Picture
from tritonic_nb.render.curves import Curve, curves
from tritonic_nb.render.scales import apart


def drawn(lines: list[Curve], width: int = 720) -> Picture:
    return curves(
        lines, title="t", x_label="size", y_label="ms", x_text=lambda x: f"{x:g}", width=width
    )


def test_a_plot_says_in_words_what_it_shows() -> None:
    """Each line's points, for those who do not see it."""
    picture = drawn([Curve("a", [(1, 0.5), (1000, 20)], "#005500"), Curve("b", [(1, 7)], "red")])
    assert str(picture).splitlines() == ["t", "a: 1 0.5, 1000 20", "b: 1 7"]


def test_a_line_has_its_colour_on_a_light_card() -> None:
    """Twice the width on the page, transparent outside the card's corners."""
    picture = drawn([Curve("a", [(1, 1), (10, 10)], "#0000ff", strong=True)])
    with Image.open(io.BytesIO(picture.png)) as image:
        assert image.size == (1440, 960)
        assert image.getpixel((0, 0))[3] == 0
        pixels = np.asarray(image)
    assert (pixels[..., :3] == (0, 0, 255)).all(axis=-1).sum() > 500
    assert (pixels[-14:-6, 30:-30, :3] == 255).all()


@pytest.mark.parametrize(
    "lines",
    [[], [Curve("a", [], "red")], *([Curve("a", [(1, y)], "red")] for y in (0, -1, math.nan))],
)
def test_what_has_no_logarithm_is_refused(lines: list[Curve]) -> None:
    """With a remedy."""
    with pytest.raises(ArgumentError):
        drawn(lines)


def test_a_narrow_plot_is_refused() -> None:
    """Its names would not fit."""
    with pytest.raises(ArgumentError, match="width is 300"):
        drawn([Curve("a", [(1, 1)], "red")], width=300)


def test_any_name_is_drawn_and_stays_on_the_card() -> None:
    """Formulae, missing glyphs, and names that are longer than the plot."""
    names = ["$x^$", "猫😀", "W" * 200, "\\frac"]
    picture = drawn([Curve(name, [(1, 1), (9, 2)], "#000000") for name in names])
    with Image.open(io.BytesIO(picture.png)) as image:
        edge = np.asarray(image.convert("RGB"))[20:-20, -30:-6]
    assert (edge == 255).all()


@given(st.lists(st.floats(0, 400), min_size=1, max_size=20))
def test_names_have_room(wanted: list[float]) -> None:
    """In the order of their lines, 16 pixels apart, and below the upper end."""
    placed = apart(sorted(wanted), 60, 440, 16)
    assert placed[0] >= 60
    assert all(after - before >= 16 - 1e-6 for before, after in itertools.pairwise(placed))


def test_a_name_alone_stays_beside_its_line() -> None:
    """Nothing moves that has room."""
    assert apart([100, 200, 300], 60, 440, 16) == pytest.approx([100, 200, 300])


def test_a_changed_style_changes_nothing() -> None:
    """Another default style of Matplotlib's, set in the notebook, gives the same bytes."""
    lines = [Curve("a", [(1, 1), (10, 30)], "#0000ff", dashed=True)]
    before = drawn(lines).png
    with mpl.rc_context(
        {
            "text.color": "red", "lines.linewidth": 9, "lines.marker": "x", "font.size": 30,
            "lines.dashed_pattern": [9, 9], "axes.facecolor": "blue", "figure.dpi": 33,
        }
    ):  # fmt: skip
        assert drawn(lines).png == before
