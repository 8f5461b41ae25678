"""Where the time of a request goes: right, readable and safe."""

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

from tests.render.words import overlapping, place, rectangles, texts
from tritonic_nb.errors import ArgumentError
from tritonic_nb.render import RequestTimeline, Stage, waterfall
from tritonic_nb.render.palette import _parsed
from tritonic_nb.render.waterfall import _COLORS

CLIENT, TRANSIT, SERVER = (_COLORS[side] for side in ("client", "transit", "server"))
NBYTES = 602_112


def sequence(
    name: str, total: float, *parts: tuple[str, str, float, int | None]
) -> RequestTimeline:
    """One stage right after the other."""
    stages, start = [], 0.0
    for stage, side, ms, nbytes in parts:
        stages.append(Stage(stage, side, start, ms, nbytes))
        start += ms
    return RequestTimeline(name, stages, total)


WIRE = sequence(
    "over the wire", 1.62,
    ("prepare", "client", 0.02, None), ("copy in", "client", 0.31, NBYTES),
    ("send", "client", 0.42, NBYTES), ("transit", "transit", 0.1, None),
    ("queue", "server", 0.02, None), ("compute input", "server", 0.06, NBYTES),
    ("compute", "server", 0.18, None), ("compute output", "server", 0.12, NBYTES),
    ("reply", "client", 0.2, NBYTES), ("decode", "client", 0.15, NBYTES),
    ("copy out", "client", 0.01, None),
)  # fmt: skip
SYSTEM = sequence(
    "system shared memory", 0.45,
    ("prepare", "client", 0.02, None), ("copy in", "client", 0.05, NBYTES),
    ("transit", "transit", 0.1, None), ("compute input", "server", 0.001, None),
    ("compute", "server", 0.2, None), ("copy out", "client", 0.079, NBYTES),
)  # fmt: skip


def test_it_says_in_words_what_it_shows() -> None:
    """Each stage with its side, its time, its part of the total, and the bytes moved."""
    picture = waterfall(
        [
            sequence("a <b>", 2.0, ("copy in", "client", 0.5, 602_112), ("x", "server", 1.5, None)),
            sequence("b", 40.0, ("send", "transit", 40, 0)),
        ],
        title="t", note="n",
    )  # fmt: skip
    assert str(picture).splitlines() == [
        "t",
        "a <b>: 2.00 ms in all: copy in (client) 0.500 ms, 25.0 %, 602 kB moved; "
        "x (server) 1.500 ms, 75.0 %",
        "b: 40.0 ms in all: send (transit) 40.00 ms, 100.0 %, 0 B moved",
        "n",
    ]
    html = picture._repr_mimebundle_()[0]["text/html"]
    assert "a &lt;b&gt;" in html
    assert "<b>" not in html


def test_the_stacked_bars_share_one_scale() -> None:
    """A stage's length on top is its time, for all ways by the same measure."""
    picture = waterfall([WIRE, SYSTEM], title="t")
    high = [box for box in rectangles(picture, CLIENT) if box[3] == 22]
    lengths = [0.02, 0.31, 0.42, 0.2, 0.15, 0.01, 0.02, 0.05, 0.079]
    scale = high[2][2] / 0.42
    assert [box[2] for box in high] == pytest.approx(
        [max(2.0, ms * scale) for ms in lengths], abs=1e-6
    )


def test_each_waterfall_has_a_scale_of_its_own() -> None:
    """A request of a fiftieth is as wide as the long one, and its picture says so."""
    parts = ("copy in", "client", 0.2, None), ("compute", "server", 0.2, None)
    short = sequence("short", 0.4, *parts)
    long = sequence("long", 20, ("copy in", "client", 10, None), ("compute", "server", 10, None))
    picture = waterfall([short, long], title="t")
    rows = [box for box in rectangles(picture, CLIENT) if box[3] == 11]
    assert rows[0][2] == pytest.approx(rows[1][2], rel=0.05)
    on_top = [box for box in rectangles(picture, CLIENT) if box[3] == 22]
    factor = rows[0][2] / on_top[0][2]
    assert f"its own scale, {factor:.2g} × the one on top" in [t.get_text() for t in texts(picture)]
    assert not any("its own scale" in t.get_text() for t in texts(waterfall([long], title="t")))


def test_a_bar_begins_when_its_stage_began() -> None:
    """Also where two overlap, and where the server outlasts the request."""
    late = [Stage("a", "client", 0, 1), Stage("b", "server", 0.75, 0.5)]
    picture = waterfall([RequestTimeline("r", late, 1.0)], title="t")
    (a,) = (box for box in rectangles(picture, CLIENT) if box[3] == 11)
    (b,) = (box for box in rectangles(picture, SERVER) if box[3] == 11)
    assert b[0] - a[0] == pytest.approx(0.75 * a[2])
    assert b[2] == pytest.approx(0.5 * a[2])
    assert b[1] > a[1]
    assert b[0] + b[2] < 720 - 18


def test_the_shortest_stage_is_seen_and_named() -> None:
    """0.2 percent of the time are two pixels, on both bars, with their name and number."""
    picture = waterfall([SYSTEM], title="t")
    narrow = [box for box in rectangles(picture, SERVER) if box[2] == 2.0]
    assert len(narrow) == 2
    words = [text.get_text() for text in texts(picture)]
    assert {"compute input", "0.001", "0.2 %"} <= set(words)
    tiny = sequence("r", 1, ("a", "client", 1, None), ("b", "client", 1e-9, None))
    words = [text.get_text() for text in texts(waterfall([tiny], title="t"))]
    assert {"<0.001", "<0.1 %"} <= set(words)


def test_time_in_no_stage_is_told() -> None:
    """What the stages leave out is a row, from half a percent of the total on."""
    gap = RequestTimeline("r", [Stage("a", "client", 0.1, 0.5), Stage("b", "server", 0.7, 0.2)], 1)
    assert gap.gaps() == [pytest.approx(each) for each in ((0, 0.1), (0.6, 0.7), (0.9, 1))]
    assert "in no stage 0.300 ms, 30.0 %" in str(waterfall([gap], title="t"))
    covered = RequestTimeline("r", [Stage("a", "client", 0, 0.996)], 1)
    assert "in no stage" not in str(waterfall([covered], title="t"))


@pytest.mark.parametrize("width", [480, 720, 1000])
def test_no_words_touch_or_leave_the_card(width: int) -> None:
    """Two ways of eleven stages, a long title, and a note of some lines."""
    picture = waterfall(
        [WIRE, SYSTEM], title="Where the time goes: " + "identity_fp32 " * 6, note="word " * 60,
        width=width,
    )  # fmt: skip
    assert overlapping(picture) == []
    for text in texts(picture):
        left, top, right, bottom = place(text)
        assert left > 6, text.get_text()
        assert right < width - 6, text.get_text()
        assert top > 6
        assert bottom < picture.figure().get_figheight() * 100 - 6


def test_the_sides_differ_in_grey() -> None:
    """Those who see no hue tell client, transit and server apart by their lightness."""
    greys = sorted(
        0.299 * r + 0.587 * g + 0.114 * b for r, g, b in map(_parsed, (CLIENT, SERVER, TRANSIT))
    )
    assert np.diff(greys).min() > 60


@pytest.mark.parametrize(
    "timelines",
    [
        [],
        [RequestTimeline("r", [], 1)],
        [RequestTimeline("r", [Stage("a", "kernel", 0, 1)], 1)],
        *(
            [RequestTimeline("r", [Stage("a", "client", start, ms, nbytes)], total)]
            for start, ms, nbytes, total in [
                (-1, 1, None, 1), (0, -1, None, 1), (0, 1, -1, 1), (0, 1, None, -1),
                (math.nan, 1, None, 1), (0, math.inf, None, 1), (0, 1, None, math.nan),
            ]
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(timelines: list[RequestTimeline]) -> None:
    """With a remedy."""
    with pytest.raises(ArgumentError, match="What to do"):
        waterfall(timelines, title="t")


def test_a_narrow_one_is_refused() -> None:
    """Its words would not fit."""
    with pytest.raises(ArgumentError, match="width is 479"):
        waterfall([WIRE], title="t", width=479)


def test_a_notebooks_own_style_changes_nothing() -> None:
    """Another default style of Matplotlib's, set in the notebook, gives the same bytes."""
    before = waterfall([WIRE], title="t").png
    with mpl.rc_context():
        mpl.rcParams.update({"font.size": 30, "lines.linewidth": 9, "patch.linewidth": 7})
        assert waterfall([WIRE], title="t").png == before


TIMES = st.floats(0, 1e12)


@settings(max_examples=15, deadline=None, phases=[Phase.generate])
@given(
    stages=st.lists(
        st.builds(
            Stage, st.text(max_size=60), st.sampled_from(list(_COLORS)), TIMES, TIMES,
            st.none() | st.integers(0, 2**63),
        ),
        min_size=1, max_size=5,
    ),
    name=st.text(max_size=90),
    total=TIMES,
)  # fmt: skip
def test_whatever_the_numbers_and_names_are_it_is_drawn(
    stages: list[Stage], name: str, total: float
) -> None:
    """Nothing but zeros, stages beyond the total, any name; and it stays on its card."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = waterfall(
            [RequestTimeline(name, stages, total), WIRE], title=name, note=name, width=480
        )
    with Image.open(io.BytesIO(picture.png)) as image:
        inside = np.asarray(image.convert("RGB"))[24:-24]
    assert (inside[:, 6:16] == 255).all()
    assert (inside[:, -16:-6] == 255).all()
