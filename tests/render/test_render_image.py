"""Heat maps land where the box says, whatever is in them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tritonic_nb import samples
from tritonic_nb.errors import ArgumentError
from tritonic_nb.images import ImageTransform, load_image
from tritonic_nb.render import blend, overlay, show

GREY = np.full((60, 90, 3), 128, np.uint8)


def warmth(blended: Image.Image) -> np.ndarray:
    """Tell how bright each pixel is: inferno goes from black to pale yellow."""
    return np.asarray(blended).sum(axis=2, dtype=int)


def test_a_picture_is_a_png_of_its_pixels() -> None:
    """What goes in comes out, lossless."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(show(pixels).png)) as image:
        assert image.format == "PNG"
        assert np.array_equal(image, pixels)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 5), np.uint8), np.zeros((4, 5, 1), np.uint8), np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5), np.bool_), np.full((4, 5), np.nan), np.full((4, 5, 3), 7.0, np.float16),
        Image.new("L", (5, 4)), Image.new("CMYK", (5, 4)),
    ],
)  # fmt: skip
def test_the_usual_pixels_can_be_shown(pixels: np.ndarray) -> None:
    """Grey, colour, transparency, floats out of range and NaN make a picture."""
    with Image.open(io.BytesIO(show(pixels).png)) as image:
        assert image.size == (5, 4)


@pytest.mark.parametrize(
    "pixels", [np.zeros((3, 8, 8)), np.zeros(4), np.zeros((0, 4)), np.zeros((4, 4), np.int64)]
)
def test_other_arrays_cannot(pixels: np.ndarray) -> None:
    """The error says what can."""
    with pytest.raises(ArgumentError):
        show(pixels)


def test_the_hot_cell_lies_where_the_box_puts_it() -> None:
    """The centre of the warmest cell is the warmest place of the picture."""
    heat = np.zeros((3, 3))
    heat[0, 2] = 1
    seen = warmth(blend(GREY, heat, (10, 20, 70, 50)))[20:50, 10:70]
    rows, columns = np.nonzero(seen == seen.max())
    # The cell is 20 wide and 10 high and begins 40 to the right.
    assert rows.max() < 10
    assert columns.min() >= 40
    assert (rows == 5).any()
    assert (columns == 50).any()


def test_a_transforms_box_puts_the_map_over_what_the_model_saw() -> None:
    """The map of a model's input covers exactly the crop, the rest fades to grey."""
    cat = load_image(samples.image("cat"))
    box = ImageTransform(224, 224).source_box(cat.size)
    blended = np.asarray(blend(cat, np.eye(7), box)).astype(int)
    outside = np.ones(blended.shape[:2], bool)
    outside[19:281, 94:357] = False
    spread = blended.max(axis=2) - blended.min(axis=2)
    assert (spread[outside] == 0).all()
    assert spread[~outside].mean() > 20


def test_a_box_may_reach_beyond_the_picture() -> None:
    """A letterboxed model's map shows its middle part only."""
    heat = np.array([[1.0], [1.0], [0.0], [0.0]])
    wide = warmth(blend(GREY, heat, (0, -60, 90, 60)))  # the hot half lies above
    assert wide.shape == (60, 90)
    assert wide[0].mean() > wide[-1].mean()


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, np.nan, np.inf])
def test_a_map_without_differences_colours_nothing(value: float) -> None:
    """A constant map leaves the picture as it is."""
    cat = load_image(samples.image("cat"))
    assert np.array_equal(blend(cat, np.full((7, 7), value)), cat)


def test_opacity_zero_takes_the_colour_only() -> None:
    """Nothing of the map covers the picture."""
    blended = blend(GREY, np.eye(4), opacity=0)
    assert np.array_equal(blended, GREY)


@settings(max_examples=80, deadline=None)
@given(
    cells=st.lists(
        st.sampled_from([0.0, 1.0, -1e308, 1e308, np.nan, np.inf, -np.inf, 5e-324]),
        min_size=6,
        max_size=6,
    ),
    dtype=st.sampled_from(["f8", "f4", "f2", "i4", "?"]),
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_any_numbers_make_a_map(cells: list[float], dtype: str) -> None:
    """NaN, infinities and the largest floats neither raise nor warn."""
    with np.errstate(all="ignore"):
        heat = np.array(cells).astype(dtype).reshape(2, 3)
    assert blend(GREY, heat).size == (90, 60)


@pytest.mark.parametrize(
    ("heat", "box", "options"),
    [
        (np.zeros((1, 7, 7)), None, {}),
        (np.zeros((0, 7)), None, {}),
        (np.eye(3), (5, 5, 5, 9), {}),
        (np.eye(3), (0, float("nan"), 5, 9), {}),
        (np.eye(3), None, {"colormap": "rainbow-unicorn"}),
        (np.eye(3), None, {"opacity": 2}),
    ],
)
def test_what_cannot_be_laid_over_is_refused(
    heat: np.ndarray, box: tuple[float, float, float, float] | None, options: dict[str, object]
) -> None:
    """The error says what would do."""
    with pytest.raises(ArgumentError) as error:
        blend(GREY, heat, box, **options)
    assert error.value.remedy


def test_an_overlay_has_words() -> None:
    """A screen reader is told what it is."""
    assert overlay(GREY, np.eye(3)).alt == "a heat map over a picture"
