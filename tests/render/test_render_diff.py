"""Two arrays side by side: figures that NumPy agrees with, and pictures that show where."""

from __future__ import annotations

import base64
import io
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tritonic_nb.errors import ArgumentError, TensorDatatypeError, TensorShapeError
from tritonic_nb.render import Difference, compare

SCALE = 2  # pixels of a card's HTML for one on the page


def drawn(difference: Difference) -> np.ndarray:
    """Return the pixels that a notebook shows."""
    picture = difference.picture()
    assert picture is not None
    data = base64.b64decode(picture.html.partition("base64,")[2].partition('"')[0])
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened.convert("RGB"), np.int64)


def test_the_figures_are_those_of_numpy() -> None:
    """Largest, mean and relative error, the place, and how many are beyond the tolerance."""
    random = np.random.default_rng(0)
    a = random.standard_normal((3, 400, 300)).astype(np.float32)
    b = (a + random.standard_normal(a.shape) * 1e-5).astype(np.float32)
    found = compare(a, b)
    errors = np.abs(a.astype(np.float64) - b)
    assert found.max_error == errors.max()
    assert found.where == np.unravel_index(errors.argmax(), a.shape)
    assert found.mean_error == pytest.approx(errors.mean())
    assert found.relative_error == pytest.approx(errors.mean() / np.abs(b).mean(dtype=np.float64))
    assert found.different == (errors > 1e-5 + 1e-5 * np.abs(b.astype(np.float64))).sum() > 0
    assert [place.error for place in found.places] == sorted(errors.ravel())[::-1][:5]
    assert compare(a, b, atol=1).same


def test_any_layout_has_the_same_places() -> None:
    """Indices are those of the array, however it lies in memory."""
    a = np.arange(200_000).reshape(400, 500)
    b = a.copy()
    b[321, 45] += 7
    for left, right in ((a, b), (np.asfortranarray(a), b), (a[::-1], b[::-1]), (a.T, b.T)):
        found = compare(left, right)
        assert (found.different, found.max_error) == (1, 7)
        assert left[found.where] == a[321, 45]


@pytest.mark.parametrize(
    ("a", "b", "largest"),
    [
        (np.int8([127]), np.int8([-128]), 255),
        (np.uint8([0, 5]), np.uint8([255, 5]), 255),
        (np.uint64([2**64 - 1]), np.uint64([0]), 2**64 - 1),
        (np.int64([2**63 - 1]), np.int64([-(2**63)]), 2**64 - 1),
        (np.int64([2**60]), np.int64([2**60 + 1]), 1),
        (np.array([1.0], np.float16), np.array([1.5], np.float16), 0.5),
        (np.array([1.0], ml_dtypes.bfloat16), np.array([1.5], ml_dtypes.bfloat16), 0.5),
        (np.array([1e300]), np.array([-1e300]), 2e300),
        (np.array([1.7e308]), np.array([-1.7e308]), np.inf),
    ],
)
def test_no_distance_overflows(a: np.ndarray, b: np.ndarray, largest: float) -> None:
    """Whole numbers are compared exactly, and floats in float64."""
    found = compare(a, b)
    assert found.max_error == largest
    assert found.different == 1


@pytest.mark.parametrize(
    ("dtype", "near", "far"),
    [(np.float64, 1 + 1e-9, 1 + 1e-7), (np.float32, 1 + 1e-6, 1 + 1e-4),
     (np.float16, 1 + 1e-3, 1 + 1e-2), (ml_dtypes.bfloat16, 1 + 8e-3, 1 + 8e-2),
     (np.int32, 1, 2)],
)  # fmt: skip
def test_the_tolerance_is_that_of_the_datatype(dtype: type, near: float, far: float) -> None:
    """What two machines have between them is no difference, and ten times as much is one."""
    one = np.ones(1, dtype)
    assert compare(np.array([near]).astype(dtype), one).same
    assert not compare(np.array([far]).astype(dtype), one).same


def test_nan_and_infinities_are_counted_apart() -> None:
    """The same on both sides is no difference; on one side it is, and changes no mean."""
    nan, inf = np.nan, np.inf
    a = np.array([nan, nan, 1.0, inf, inf, -inf, 2.0, 4.0])
    b = np.array([nan, 1.0, nan, inf, -inf, 3.0, 2.0, 5.0])
    found = compare(a, b)
    assert (found.nan_only_in_a, found.nan_only_in_b, found.infinite) == (1, 1, 2)
    assert found.different == 5
    assert found.max_error == 1
    assert found.where == (7,)
    assert found.mean_error == 0.5
    assert [place.index for place in found.places] == [(1,), (2,), (4,), (5,), (7,)]
    assert "1 NaN in a only, 1 NaN in b only, 2 infinite in one of them" in repr(found)


def test_texts_and_truths_have_no_distance() -> None:
    """They are the same or not; text and its UTF-8 are the same."""
    a = np.array([[b"cat", "h\xe9", b"\xff"]], object)
    b = np.array([["cat", "h\xe9".encode(), b"\xfe"]], object)
    found = compare(a, b)
    assert (found.different, found.max_error, found.where) == (1, None, None)
    assert found.places[0].index == (0, 2)
    assert found.picture() is None
    truths = compare(np.array([True, False]), np.array([True, True]))
    assert (truths.different, truths.max_error) == (1, None)
    assert (truths.places[0].a, truths.places[0].b) == ("False", "True")
    with pytest.raises(TensorDatatypeError, match="neither bytes nor text"):
        compare(np.array([1, None], object), np.array([1, None], object))


@pytest.mark.parametrize(
    ("a", "b", "error", "text"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), TensorShapeError,
         r"a is FP64 \[2, 3\] and b is FP64 \[3, 2\]"),
        (np.zeros(2, np.float32), np.zeros(2, np.float16), TensorDatatypeError,
         r"a is FP32 \[2\] and b is FP16 \[2\]"),
        (np.zeros(2, complex), np.zeros(2, complex), TensorDatatypeError, "cannot be compared"),
    ],
)  # fmt: skip
def test_what_does_not_match_is_told_with_both(
    a: np.ndarray, b: np.ndarray, error: type[Exception], text: str
) -> None:
    """Shapes and datatypes of both stand in the message."""
    with pytest.raises(error, match=text):
        compare(a, b)


@pytest.mark.parametrize(
    "arguments",
    [{"names": "ab"}, {"names": ("a",)}, {"names": 5}, {"rtol": -1}, {"atol": "x"},
     {"atol": np.nan}, {"rtol": True}, {"rtol": np.inf}],
)  # fmt: skip
def test_wrong_arguments_are_told(arguments: dict[str, Any]) -> None:
    """Names are two, and tolerances numbers from 0 on."""
    with pytest.raises(ArgumentError):
        compare(np.zeros(2), np.zeros(2), **arguments)


@settings(deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.float16, np.int8, np.uint64, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
    ),
    st.randoms(use_true_random=False),
)
def test_any_two_arrays_are_compared(a: np.ndarray, random: Any) -> None:
    """Whatever the values, nothing raises or warns, and nothing differs from itself."""
    assert compare(a, a.copy()).same
    b = a.ravel().copy()
    order = list(range(b.size))
    random.shuffle(order)
    found = compare(a, b[order].reshape(a.shape))
    same = (a == found.b) | ((a != a) & (found.b != found.b))  # noqa: PLR0124 - NaN
    assert found.different <= int((~same).sum())
    assert repr(found).splitlines()[0].startswith("Difference of a and b: ")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.full((9, 9), np.nan), np.zeros((9, 9))),
        (np.full(30, np.nan), np.full(30, np.inf)),
        (np.array([[np.inf, -np.inf, 0.0, 1.0]] * 4), np.zeros((4, 4))),
        (np.array([1e300, -1e300, 1e-300]), np.array([1e-300, 1.7e308, 5e-324])),
        (np.full((6, 6), 1.7e308), np.full((6, 6), -1.7e308)),
        (np.array([[1e-300, 2e-300] * 3] * 6), np.zeros((6, 6))),
        (np.ones((5, 5), np.float16), np.ones((5, 5), np.float16)),
        (np.arange(100, dtype=ml_dtypes.bfloat16), np.zeros(100, ml_dtypes.bfloat16)),
        (np.zeros((1, 4096, 7, 7), np.float32), np.ones((1, 4096, 7, 7), np.float32)),
        (np.zeros((2, 1, 3, 1, 2, 5, 6))[..., ::-1], np.ones((2, 1, 3, 1, 2, 5, 6))),
        (np.arange(40)[::-2], np.arange(40)[1::2]),
        (np.zeros((3, 2000), np.uint8), np.ones((3, 2000), np.uint8)),
        (np.zeros((2000, 4), np.int64), np.ones((2000, 4), np.int64)),
        (np.zeros((1, 64, 1), bool), np.ones((1, 64, 1), bool)),
        (np.arange(2), np.arange(2)),
    ],
)  # fmt: skip
def test_odd_arrays_are_drawn(a: np.ndarray, b: np.ndarray) -> None:
    """NaN, infinities, the largest and smallest numbers, any rank: a picture, and no warning."""
    assert drawn(compare(a, b)).shape[1] == 720 * SCALE


@pytest.mark.parametrize("shape", [(), (1,), (0,), (0, 5), (3, 0, 8, 8)])
def test_where_there_is_nothing_to_draw_there_is_no_picture(shape: tuple[int, ...]) -> None:
    """Single numbers and empty arrays are told in words."""
    found = compare(np.zeros(shape), np.zeros(shape))
    assert found.picture() is None
    assert found.same
    assert "<img" not in found._repr_html_()


def test_one_different_pixel_of_millions_can_be_seen() -> None:
    """However large the map, its largest difference is drawn, and ringed where it is."""
    a = np.zeros((3000, 4000), np.float32)
    b = a.copy()
    b[600, 3200] = 1
    pixels = drawn(compare(a, b))
    panel = (720 - 2 * 18 - 2 * 20) // 3
    left, top = (18 + 2 * (panel + 20)) * SCALE, 40 * SCALE
    x, y = left + round(0.8 * panel * SCALE), top + round(0.2 * 0.75 * panel * SCALE)
    near = pixels[y - 3 : y + 4, x - 3 : x + 4]
    assert (near[..., 2] - near[..., 0]).max() > 80  # blue: less in a
    ring = pixels[y - 20 : y + 21, x - 20 : x + 21]
    assert (ring.max(axis=2) < 40).sum() > 50


def test_red_is_more_and_blue_is_less() -> None:
    """The colours of the difference diverge from white, by the same on both sides."""
    a = np.zeros((8, 8), np.float32)
    b = a.copy()
    b[:, 4:] = 0.5  # less in a
    b[:, :4] = -1.0  # more in a
    pixels = drawn(compare(a, b))
    panel = (720 - 2 * 18 - 2 * 20) // 3
    left, middle = (18 + 2 * (panel + 20)) * SCALE, (40 + panel * 3 // 4) * SCALE
    more, less = pixels[middle, left + 40], pixels[middle, left + panel * SCALE - 40]
    assert more[0] > more[2] + 50
    assert less[2] > less[0] + 50
    assert less.sum() > more.sum()  # half as much is paler


def test_photographs_are_shown_as_they_are() -> None:
    """Images in colour, of any layout, keep their colours beside the difference."""
    orange = np.zeros((1, 3, 40, 40), np.uint8)
    orange[0, 0], orange[0, 1] = 250, 120
    for array in (orange, orange[0].transpose(1, 2, 0), (orange / 255).astype(np.float32)):
        pixels = drawn(compare(array, array.copy()))
        assert np.abs(pixels[100 * SCALE, 100 * SCALE] - [250, 120, 0]).max() < 6


def test_words_in_it_are_text() -> None:
    """Names and elements are escaped, in the card and in the picture's text."""
    evil = '"><script>alert(1)</script>'
    texts = compare(
        np.array([evil], object), np.array([evil.encode() + b"\x1b"], object), names=(evil, "b")
    )
    numbers = compare(np.zeros(3), np.ones(3), names=(evil, "\x1b[2J"))
    for difference in (texts, numbers):
        html = difference._repr_html_()
        assert "<script" not in html
        assert "\x1b" not in html + repr(difference)


def test_it_shows_itself_in_three_ways() -> None:
    """Text, HTML with the picture in it, and PNG with its width on the page."""
    found = compare(np.zeros(3), np.ones(3))
    bundle, metadata = found._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/png"}
    assert metadata == {"image/png": {"width": 720}}
    assert "<img" in bundle["text/html"]
    with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as png:
        assert png.width == 720
    assert list(found._repr_mimebundle_(include={"text/plain"})[0]) == ["text/plain"]
