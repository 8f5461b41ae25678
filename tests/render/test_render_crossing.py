"""Time and bandwidth over sizes: right, readable and safe."""

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

from tests.render.words import marks, overlapping, place, texts
from tritonic_nb.errors import ArgumentError
from tritonic_nb.render import Picture, SweepLine, SweepPoint, crossing, human_bytes

SIZES = (4_096, 65_536, 602_112, 4_000_000, 24_000_000, 64_000_000)
WIRE_MS = (0.36, 0.46, 1.4, 8.1, 77.8, 340)
SYSTEM_MS = (0.3, 0.32, 0.45, 1.4, 10.4, 35.7)


def swept(name: str, times: tuple[float, ...], color: str = "") -> SweepLine:
    points = [
        SweepPoint(size, (0.96 * ms, ms, 1.05 * ms), 2 * size)
        for size, ms in zip(SIZES, times, strict=False)
    ]
    return SweepLine(name, points, color)


WIRE, SYSTEM = swept("over the wire", WIRE_MS), swept("system shared memory", SYSTEM_MS)


def drawn(*lines: SweepLine, **options: object) -> Picture:
    given: dict[str, object] = {
        "title": "t", "x_label": "size", "x_text": lambda x: human_bytes(int(x)), **options,
    }  # fmt: skip
    return crossing(lines, **given)


def dashes(picture: Picture) -> list[tuple[float, float, float]]:
    """Where the dashes of a crossing are: x, upper and lower end."""
    return [
        (float(line.get_xdata()[0]), *map(float, line.get_ydata()))
        for line in picture.figure().axes[0].lines
        if line.get_linewidth() == 1.1
    ]


def test_it_says_in_words_what_it_shows() -> None:
    """Time, interval and bandwidth of each size, and what is said of the crossing."""
    picture = drawn(
        swept("a <b>", WIRE_MS[:2]), crossing_at=2e4, crossing_text="they cross", note="n"
    )
    assert str(picture).splitlines() == [
        "t",
        "a <b>: 4.1 kB 0.360 ms (0.346 to 0.378), 22.8 MB/s; "
        "65.5 kB 0.460 ms (0.442 to 0.483), 285 MB/s",
        "they cross",
        "n",
    ]
    assert "<b>" not in picture._repr_mimebundle_()[0]["text/html"]


def test_points_are_where_their_numbers_are() -> None:
    """Equal ratios are equally far apart, on both axes; more time is higher, and less rate."""
    points = [SweepPoint(10**n, (10**n,) * 3, 10**6) for n in range(4)]
    picture = drawn(SweepLine("a", points))
    places = marks(picture, "o")
    above, below = np.array(places[:4]), np.array(places[4:])
    assert np.diff(above[:, 0]) == pytest.approx([np.diff(above[:, 0])[0]] * 3)
    assert np.diff(above[:, 1]) == pytest.approx([np.diff(above[:, 1])[0]] * 3)
    assert (np.diff(above[:, 1]) < 0).all()
    assert (np.diff(below[:, 1]) > 0).all()
    assert above[:, 0] == pytest.approx(below[:, 0])
    words = {t.get_text(): place(t) for t in texts(picture)}
    for number, y in [("1", above[0, 1]), ("1 GB/s", below[0, 1]), ("1 MB/s", below[3, 1])]:
        assert (words[number][1] + words[number][3]) / 2 == pytest.approx(y, abs=3)


def test_the_band_is_the_interval() -> None:
    """As high as from its lower to its upper end, in both plots; one point has a stroke."""
    wide = [SweepPoint(n, (1, 10, 100), 1000) for n in (1, 10)]
    picture = drawn(SweepLine("a", wide, "#aa0000"))
    bands = [c.get_paths()[0].vertices[:, 1] for c in picture.figure().axes[0].collections]
    middles = {y for _, y in marks(picture, "o")}
    assert len(bands) == 2
    for band, middle in zip(bands, sorted(middles), strict=True):
        assert (band.min() + band.max()) / 2 == pytest.approx(middle)
    alone = drawn(SweepLine("a", wide[:1], "#aa0000"))
    strokes = [
        line.get_ydata() for line in alone.figure().axes[0].lines if line.get_linewidth() == 3.5
    ]
    assert len(strokes) == 2
    assert all(abs(low - high) > 30 for low, high in strokes)


def test_the_crossing_is_drawn_through_both_plots() -> None:
    """At its size, half-way between two that are as far above as below."""
    points = [SweepPoint(x, (1, 1, 1), 1) for x in (100, 10_000)]
    picture = drawn(SweepLine("a", points), crossing_at=1000, crossing_text="here")
    left, right = (x for x, _ in marks(picture, "o")[:2])
    found = dashes(picture)
    assert [x for x, _, _ in found] == pytest.approx([(left + right) / 2] * len(found))
    (time_y, rate_y) = sorted({y for _, y in marks(picture, "o")})
    assert min(top for _, top, _ in found) < time_y
    assert max(bottom for _, _, bottom in found) > rate_y
    (said,) = (text for text in texts(picture) if text.get_text() == "here")
    box = place(said)
    assert (box[0] + box[2]) / 2 == pytest.approx((left + right) / 2, abs=3)


@pytest.mark.parametrize(("at", "said"), [(1, "← here"), (1e12, "here →"), (None, "here")])
def test_a_crossing_beyond_the_sizes_is_an_arrow(at: float | None, said: str) -> None:
    """And what is said is written where there is none at all."""
    picture = drawn(WIRE, SYSTEM, crossing_at=at, crossing_text="here")
    assert said in [text.get_text() for text in texts(picture)]
    assert dashes(picture) == []


@pytest.mark.parametrize("width", [480, 720])
@pytest.mark.parametrize("count", [1, 2, 6, 12])
def test_no_words_touch_or_leave_the_card(count: int, width: int) -> None:
    """From 64 B to 64 MB, with a long title, and three lines that end at one place."""
    sizes = np.geomspace(64, 64e6, count)
    points = [SweepPoint(x, (0.3, 0.31 + x / 1e6, 0.4 + x / 1e6), int(x)) for x in sizes]
    lines = [
        SweepLine(name, points)
        for name in ("over the wire", "system shared memory", "a very long name " * 9)
    ]
    picture = drawn(
        *lines, title="t " * 200, note="n " * 300, width=width, crossing_at=2e4,
        crossing_text="from 20 kB (12 to 31 kB) on system shared memory is faster than the wire",
    )  # fmt: skip
    assert overlapping(picture) == []
    for text in texts(picture):
        left, _, right, _ = place(text)
        assert 6 < left < right < width - 6, text.get_text()


def test_the_axes_have_their_units() -> None:
    """Of time, of bandwidth, and of size; the first and the last size are always written."""
    words = [text.get_text() for text in texts(drawn(WIRE, SYSTEM, width=480))]
    assert {"time of one request, ms", "4.1 kB", "64 MB", "size"} <= set(words)
    assert any(word.endswith("B/s") for word in words)


def test_sizes_in_any_order_give_the_same_picture() -> None:
    """A line goes from left to right."""
    turned = SweepLine(WIRE.name, WIRE.points[::-1])
    assert drawn(turned).png == drawn(WIRE).png


@pytest.mark.parametrize(
    ("x", "times", "nbytes"),
    [
        (0, (1, 1, 1), 1), (-1, (1, 1, 1), 1), (1, (0, 1, 1), 1), (1, (1, 1, math.nan), 1),
        (1, (2, 1, 3), 1), (1, (1, 1, 1), 0), (math.inf, (1, 1, 1), 1),
    ],
)  # fmt: skip
def test_what_has_no_logarithm_is_refused(
    x: float, times: tuple[float, float, float], nbytes: int
) -> None:
    """With a remedy."""
    with pytest.raises(ArgumentError, match="What to do"):
        drawn(SweepLine("a", [SweepPoint(x, times, nbytes)]))


def test_what_is_empty_or_odd_is_refused() -> None:
    """No line, no point, no such colour, no such crossing, no room."""
    for lines, options in [
        ([], {}), ([SweepLine("a", [])], {}), ([SweepLine("a", WIRE.points, "blueish")], {}),
        ([WIRE], {"crossing_at": 0}), ([WIRE], {"crossing_at": math.nan}), ([WIRE], {"width": 479}),
    ]:  # fmt: skip
        with pytest.raises(ArgumentError, match="What to do"):
            drawn(*lines, **options)


def test_a_notebooks_own_style_changes_nothing() -> None:
    """Another default style of Matplotlib's, set in the notebook, gives the same bytes."""
    before = drawn(WIRE, SYSTEM, crossing_at=2e4).png
    with mpl.rc_context():
        mpl.rcParams.update({"font.size": 30, "lines.linewidth": 9, "lines.marker": "x"})
        assert drawn(WIRE, SYSTEM, crossing_at=2e4).png == before


POINTS = st.builds(
    SweepPoint,
    st.floats(1, 1e12),
    st.tuples(*[st.floats(1e-6, 1e9)] * 3).map(sorted).map(tuple),
    st.integers(1, 2**45),
)


@settings(max_examples=15, deadline=None, phases=[Phase.generate])
@given(
    lines=st.lists(st.lists(POINTS, min_size=1, max_size=5), min_size=1, max_size=4),
    words=st.text(max_size=90),
    at=st.none() | st.floats(1e-3, 1e15),
)
def test_whatever_the_numbers_and_names_are_it_is_drawn(
    lines: list[list[SweepPoint]], words: str, at: float | None
) -> None:
    """One point or several, over any range, any name; and it stays on its card."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = drawn(
            *[SweepLine(words, points) for points in lines], title=words, x_label=words,
            x_text=lambda _: words, crossing_at=at, crossing_text=words, note=words, width=480,
        )  # fmt: skip
    with Image.open(io.BytesIO(picture.png)) as image:
        inside = np.asarray(image.convert("RGB"))[24:-24]
    assert (inside[:, 6:16] == 255).all()
    assert (inside[:, -16:-6] == 255).all()
