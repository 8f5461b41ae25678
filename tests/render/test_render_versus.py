"""Ways against one another: right, readable and safe."""

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

from tests.render.words import marks, overlapping, place, rectangles, texts
from tritonic_nb.errors import ArgumentError
from tritonic_nb.render import Contender, versus

WIRE = Contender("over the wire", (1.6, 1.62, 1.65), 2.31, "1.00", "#aa0000")
SYSTEM = Contender(
    "system shared memory", (0.44, 0.45, 0.462), 0.83, "3.6 times as fast (3.5 to 3.7)", "#00aa00"
)


def test_it_says_in_words_what_it_shows() -> None:
    """Median, interval, 99th percentile, and the remark."""
    picture = versus([WIRE, SYSTEM], title="t <i>", note="n")
    assert str(picture).splitlines() == [
        "t <i>",
        "over the wire: median 1.62 ms (1.60 to 1.65), 99 of 100 at most 2.31 ms; 1.00",
        "system shared memory: median 0.450 ms (0.440 to 0.462), 99 of 100 at most 0.830 ms; "
        "3.6 times as fast (3.5 to 3.7)",
        "n",
    ]
    assert "t &lt;i&gt;" in picture._repr_mimebundle_()[0]["text/html"]


@pytest.mark.parametrize("ratio", [1.01, 2, 50])
def test_bars_are_in_the_ratio_of_their_medians(ratio: float) -> None:
    """They begin at 0; so they do at a ratio of 1.01 and of 50."""
    slow = Contender("slow", (ratio, ratio, ratio), ratio, color="#aa0000")
    fast = Contender("fast", (1, 1, 1), 1, color="#00aa00")
    picture = versus([slow, fast], title="t")
    (long,), (short,) = (rectangles(picture, color) for color in ("#aa0000", "#00aa00"))
    assert long[2] / short[2] == pytest.approx(ratio)
    assert long[0] == short[0] == 18


def test_whisker_and_mark_stand_where_their_numbers_are() -> None:
    """On the scale of the bar; the key has one of each more."""
    picture = versus([WIRE], title="t")
    (bar,) = rectangles(picture, "#aa0000")
    scale = bar[2] / 1.62
    (key_x, _), (x, y) = marks(picture, "D")
    assert x == pytest.approx(18 + 2.31 * scale)
    assert y == bar[1] + bar[3]
    assert key_x != x
    ends = {
        round(float(line.get_xdata()[0]), 3)
        for line in picture.figure().axes[0].lines
        if len(set(line.get_xdata())) == 1 and bar[1] < line.get_ydata()[0] < y
    }
    assert {round(18 + time * scale, 3) for time in (1.6, 1.65)} <= ends


def test_a_rare_wait_does_not_make_the_bars_short() -> None:
    """A 99th percentile far away is an arrow at the end, and its number is written."""
    picture = versus([WIRE, Contender("b", (0.5, 0.5, 0.5), 90.0)], title="t")
    (bar,) = rectangles(picture, "#aa0000")
    assert bar[2] > 150
    assert len(marks(picture, ">")) == 1
    assert len(marks(picture, "D")) == 2
    assert "90.0" in [text.get_text() for text in texts(picture)]


def test_a_narrow_interval_has_digits_enough() -> None:
    """Its ends are not written as the median."""
    picture = versus([Contender("a", (1.6181, 1.6203, 1.6224), 2)], title="t")
    words = {text.get_text() for text in texts(picture)}
    assert {"1.620", "1.618 to 1.622"} <= words


@pytest.mark.parametrize("width", [480, 720])
@pytest.mark.parametrize("count", [1, 8])
def test_no_words_touch_or_leave_the_card(count: int, width: int) -> None:
    """With long names and remarks, too."""
    contenders = [SYSTEM, *[Contender("name " * n, (1, 2, 3e3), 4, "re " * n) for n in range(99)]]
    picture = versus(contenders[:count] + contenders[-1:], title="t " * 99, note="n " * 99,
                     width=width)  # fmt: skip
    assert overlapping(picture) == []
    for text in texts(picture):
        left, _, right, _ = place(text)
        assert 6 < left < right < width - 6, text.get_text()


def test_the_key_tells_what_whisker_and_mark_are() -> None:
    """And the axis has its unit."""
    words = [text.get_text() for text in texts(versus([WIRE], title="t"))]
    assert {"interval of the median", "99 of 100 took at most (p99)", "ms"} <= set(words)


@pytest.mark.parametrize(
    "contenders",
    [
        [],
        [Contender("a", (1, 2, math.nan), 3)],
        [Contender("a", (1, 2, 3), math.inf)],
        [Contender("a", (-1, 2, 3), 3)],
        [Contender("a", (2, 1, 3), 3)],
        [Contender("a", (1, 2, 3), 3, color="blueish")],
    ],
)
def test_what_cannot_be_drawn_is_refused(contenders: list[Contender]) -> None:
    """With a remedy."""
    with pytest.raises(ArgumentError, match="What to do"):
        versus(contenders, title="t")


def test_a_narrow_one_is_refused() -> None:
    """Its words would not fit."""
    with pytest.raises(ArgumentError, match="width is 300"):
        versus([WIRE], title="t", width=300)


def test_a_notebooks_own_style_changes_nothing() -> None:
    """Another default style of Matplotlib's, set in the notebook, gives the same bytes."""
    before = versus([WIRE, SYSTEM], title="t").png
    with mpl.rc_context():
        mpl.rcParams.update({"font.size": 30, "lines.linewidth": 9, "lines.marker": "x"})
        assert versus([WIRE, SYSTEM], title="t").png == before


@settings(max_examples=15, deadline=None, phases=[Phase.generate])
@given(
    times=st.tuples(*[st.floats(0, 1e12)] * 3).map(sorted).map(tuple),
    p99=st.floats(0, 1e12),
    words=st.text(max_size=90),
)
def test_whatever_the_numbers_and_names_are_it_is_drawn(
    times: tuple[float, float, float], p99: float, words: str
) -> None:
    """Nothing but zeros, any name; and it stays on its card."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = versus(
            [Contender(words, times, p99, words), Contender(words, (0, 0, 0), 0)],
            title=words, note=words, width=480,
        )  # fmt: skip
    with Image.open(io.BytesIO(picture.png)) as image:
        inside = np.asarray(image.convert("RGB"))[24:-24]
    assert (inside[:, 6:16] == 255).all()
    assert (inside[:, -16:-6] == 255).all()
