"""Bars and the card of a classification: right, readable and safe."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tritonic_nb import samples
from tritonic_nb.errors import ArgumentError
from tritonic_nb.render import bars, classification, top


def test_the_largest_come_first() -> None:
    """Sorted by value; of equal values the first class comes first; NaN last."""
    chosen = top(["a", "b", "c", "d"], [0.1, np.nan, 0.6, 0.1], count=4, percent=True)
    assert [bar.label for bar in chosen] == ["c", "a", "d", "b"]
    assert [bar.value for bar in chosen] == ["60.0%", "10.0%", "10.0%", "NaN"]
    assert [bar.fraction for bar in chosen] == pytest.approx([0.6, 0.1, 0.1, 0])


def test_without_percent_the_largest_magnitude_fills_the_track() -> None:
    """Any numbers can be compared."""
    chosen = top(["a", "b", "c"], [12_345.6, -6172.8, np.inf])
    assert [bar.value for bar in chosen] == ["inf", "12,346", "-6,173"]
    assert [bar.fraction for bar in chosen] == pytest.approx([0, 1, 0.5])


def test_missing_labels_are_numbered() -> None:
    """A model without labels still says which class."""
    assert [bar.label for bar in top(["a"], [1, 3, 2])] == ["class 1", "class 2", "a"]


@pytest.mark.parametrize(("values", "count"), [([1, 2], 0), (["x"], 1), ([[1, 2], [3]], 1)])
def test_what_is_no_list_of_numbers_is_refused(values: list[object], count: int) -> None:
    """With a remedy."""
    with pytest.raises(ArgumentError):
        top([], values, count=count)


def test_no_values_make_no_bars() -> None:
    """An empty output is shown as such and does not raise."""
    assert top([], []) == []
    assert bars([], []).png
    assert classification(np.zeros((4, 4), np.uint8), [], []).png


def test_labels_are_escaped() -> None:
    """A server's label is text, never markup, in a tag and in an attribute."""
    evil = "<script>alert('x')</script>\" onmouseover=\"alert(1)"
    html = bars([evil], [1], title=evil).html
    assert "<script" not in html
    assert '" onmouseover' not in html
    picture = classification(
        np.zeros((9, 9), np.uint8), [evil], [1], heat=np.eye(3), note=evil,
        title=evil,
    )  # fmt: skip
    assert "<script" not in picture.html
    assert '" onmouseover' not in picture.html


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=120))
def test_any_label_can_be_drawn(label: str) -> None:
    """Formulae, missing glyphs, control characters and long names neither raise nor warn."""
    assert bars([label, "$x^$", "猫😀", "\\frac"], [4, 3, 2, 1], title=label).png


def test_long_labels_are_shortened_and_kept_in_full() -> None:
    """The bar shows the beginning; the tool tip holds the whole name."""
    name = "w" * 200
    html = bars([name], [1]).html
    assert f'title="{name}"' in html
    assert ">" + "w" * 79 + "…<" in html


def test_a_pngs_text_stays_on_its_card() -> None:
    """The widest letters end before the card's edge."""
    picture = bars(["W" * 90, "m" * 90], [1, 0.5], title="M" * 90, percent=True)
    with Image.open(io.BytesIO(picture.png)) as image:
        assert image.width == 2 * picture.width
        edge = np.asarray(image.convert("RGB"))[20:-20, -30:-6]
    assert (edge == 255).all()


def test_a_classification_shows_picture_map_and_classes() -> None:
    """One card of 900 pixels in width; as text the classes and the note."""
    picture = classification(
        Image.open(samples.image("cat")), samples.labels(), np.eye(1000)[285] * 0.9,
        heat=np.eye(7), box=(94, 18, 357, 281), title="A cat", note="cat.jpg",
    )  # fmt: skip
    with Image.open(io.BytesIO(picture.png)) as image:
        assert image.width == 900
        assert image.getpixel((0, 0))[3] == 0  # transparent outside the corners
    assert picture.html.count("<img") == picture.html.count('alt="') == 2
    assert str(picture).splitlines()[:2] == ["A cat", "90.0%  Egyptian cat"]
    assert "what spoke for Egyptian cat" in picture.html


@pytest.mark.parametrize("size", [(1, 1), (3000, 10), (10, 3000), (2000, 1500)])
def test_pictures_of_any_shape_fit(size: tuple[int, int]) -> None:
    """A line of pixels is drawn as one, and nothing grows beyond its place."""
    picture = classification(Image.new("RGB", size), ["a"], [1], heat=np.eye(3))
    for width, height in re.findall(r'width="(\d+)" height="(\d+)"', picture.html):
        assert 1 <= int(width) <= 280
        assert 1 <= int(height) <= 280


def test_a_changed_style_changes_nothing() -> None:
    """Another default style of Matplotlib's, set in the notebook, gives the same bytes."""
    before = bars(["a", "b"], [2, 1], title="t").png
    with mpl.rc_context(
        {
            "text.color": "red", "figure.facecolor": "black", "savefig.bbox": "tight",
            "font.size": 30, "figure.dpi": 33, "axes.facecolor": "blue", "lines.linewidth": 9,
        }
    ):  # fmt: skip
        assert bars(["a", "b"], [2, 1], title="t").png == before


def test_pyplot_is_never_imported() -> None:
    """Nor Matplotlib at all, until something is drawn: importing stays quick."""
    code = (
        "import sys, tritonic_nb.render as r\n"
        "assert 'matplotlib' not in sys.modules\n"
        "r.bars(['a'], [1])\n"
        "import numpy as np\n"
        "for kind in r.KINDS:\n"
        "    shape = {'scores': (9,), 'boxes': (9, 4), 'points': (9, 2), 'flow': (2, 30, 30)}\n"
        "    made = r.picture_of(np.ones(shape.get(kind, (30, 30))), '', r.Wish(kind=kind))\n"
        "    assert made.figure()\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'IPython' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
