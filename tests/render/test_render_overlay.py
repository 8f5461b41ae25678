"""What is laid over a picture lies where the model saw it, however the picture was fitted."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tritonic_nb
from tritonic_nb.errors import ArgumentError
from tritonic_nb.images import ImageTransform
from tritonic_nb.render.boxes import Boxes, boxes, read_boxes
from tritonic_nb.render.overlay import Source, contour
from tritonic_nb.render.palette import FIRST, color_of, rgb_of, text_on
from tritonic_nb.render.planes import Plane, laid_over, levels, resized
from tritonic_nb.render.points import SKELETONS
from tritonic_nb.viewer import source_of

FITS = [
    ImageTransform(224, 224, scale=1 / 255),
    ImageTransform(224, 224, scale=1 / 255, crop_ratio=1.0),
    ImageTransform(224, 224, scale=1 / 255, fit="pad", fill=114),
    ImageTransform(320, 160, scale=1 / 255, fit="stretch"),
    ImageTransform(0, 0, scale=1 / 255, multiple=32),
    ImageTransform(0, 256, scale=1 / 255),
]
# Inside of what each of the transforms sees, at whole pixels.
SIZE = (450, 300)
MARK = (170, 90, 290, 210)  # left, top, right, bottom


def marked() -> Image.Image:
    """Give a black picture with a white rectangle."""
    image = Image.new("RGB", SIZE)
    image.paste((255, 255, 255), MARK)
    return image


@pytest.mark.parametrize("transform", FITS, ids=str)
def test_a_mask_lands_on_what_it_marks(transform: ImageTransform) -> None:
    """A mask made of the tensor itself covers the rectangle in the picture, within one cell."""
    image = marked()
    mask = transform(image)[0, 0] > 0.5
    source = source_of(image, transform)
    placed, _ = laid_over(Plane(mask, 1, mask.shape), image.size, source.box, smooth=False)
    wanted = np.asarray(image.convert("L")) > 127
    rows, columns = np.nonzero(placed)
    cell_x = (source.box[2] - source.box[0]) / mask.shape[1]
    cell_y = (source.box[3] - source.box[1]) / mask.shape[0]
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    for got, want, cell in zip(found, MARK, (cell_x, cell_y) * 2, strict=True):
        assert abs(got - want) <= max(1, cell)
    # No drift: the centres agree to a fraction of a pixel.
    assert abs((found[0] + found[2]) / 2 - (MARK[0] + MARK[2]) / 2) <= max(1, cell_x) / 2
    assert (placed == wanted).mean() > 0.97


@pytest.mark.parametrize("transform", FITS, ids=str)
@pytest.mark.parametrize("unit", [True, False])
def test_a_box_lands_on_what_it_encloses(transform: ImageTransform, unit: bool) -> None:
    """The corners found in the tensor, in pixels or parts, are the rectangle's in the picture."""
    image = marked()
    tensor = transform(image)[0, 0]
    rows, columns = np.nonzero(tensor > 0.5)
    height, width = tensor.shape
    scale = np.array([width, height]) if unit else np.ones(2)
    first = np.array([columns.min(), rows.min()]) / scale
    last = np.array([columns.max() + 1, rows.max() + 1]) / scale
    source = source_of(image, transform)
    assert source.size == (width, height)
    left, top = source.placed(*first, unit=unit)
    right, bottom = source.placed(*last, unit=unit)
    cell = (source.box[2] - source.box[0]) / width, (source.box[3] - source.box[1]) / height
    for got, want, each in zip((left, top, right, bottom), MARK, cell * 2, strict=True):
        assert abs(got - want) <= max(1, each)


@settings(max_examples=60, deadline=None)
@given(
    fit=st.sampled_from(["crop", "pad", "stretch"]),
    shape=st.tuples(st.integers(20, 300), st.integers(20, 300)),
    size=st.tuples(st.integers(20, 300), st.integers(20, 300)),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_the_transform_is_inverted_exactly(
    fit: str, shape: tuple[int, int], size: tuple[int, int], at: tuple[float, float]
) -> None:
    """A place of the tensor and back: the part of the picture it shows, by the transform's rule."""
    transform = ImageTransform(*shape, fit=fit)
    source = source_of(Image.new("RGB", size), transform)
    x, y = np.float64(at[0]), np.float64(at[1])
    found = source.placed(x * shape[0], y * shape[1], unit=False)
    assert np.allclose(found, source.placed(x, y, unit=True))
    left, top, right, bottom = transform.source_box(size)
    assert np.allclose(found, [left + x * (right - left), top + y * (bottom - top)])


def test_a_smooth_map_keeps_its_highest_place() -> None:
    """Interpolated between the cells' centres, which keep their values."""
    plane = np.zeros((4, 6), np.float32)
    plane[2, 4] = 1
    placed, covered = laid_over(Plane(plane, 1, (4, 6)), (60, 40), (0, 0, 60, 40), smooth=True)
    assert covered.all()
    rows, columns = np.unravel_index(placed.argmax(), placed.shape)
    assert (columns // 10, rows // 10) == (4, 2)
    assert placed.max() > 0.9


def test_a_thinned_map_lies_where_all_of_it_would() -> None:
    """Reading every n-th row and column moves nothing."""
    whole = np.zeros((1000, 1001), np.int64)
    whole[300:600, 200:700] = 1
    box = (0.0, 0.0, 500.0, 500.0)
    full, _ = laid_over(Plane(whole, 1, whole.shape), (500, 500), box, smooth=False)
    thin, _ = laid_over(Plane(whole[::7, ::7], 7, whole.shape), (500, 500), box, smooth=False)
    for axis in (0, 1):
        pairs = [np.flatnonzero(each.any(axis=axis))[[0, -1]] for each in (full, thin)]
        assert np.abs(pairs[0] - pairs[1]).max() <= 4


def test_what_the_model_did_not_see_is_grey() -> None:
    """Outside of the crop the picture has no colour, and inside nothing is covered at 0."""
    image = Image.new("RGB", (300, 200), (200, 40, 40))
    transform = ImageTransform(100, 100, crop_ratio=1.0)
    picture = tritonic_nb.picture(
        np.zeros((1, 100, 100), np.float32), as_="probability", source=image, transform=transform
    )
    assert "grey: what the model did not see" in picture.caption
    with Image.open(io.BytesIO(picture.png)) as png:
        shown = np.asarray(png.convert("RGB"), int)
    middle = shown[shown.shape[0] // 2]
    reds = (middle[:, 0] - middle[:, 1]) > 100
    greys = (np.ptp(middle, axis=1) == 0) & (middle[:, 0] < 240)
    assert reds.sum() == pytest.approx(2 * greys.sum(), rel=0.05)  # 200 of 300 columns are seen


def test_opacity_goes_from_nothing_to_all() -> None:
    """At 0 the picture is as it was, at 1 nothing of it is left under the map's highest place."""
    image = Image.new("RGB", (90, 60), (10, 200, 30))
    one = np.ones((6, 9), np.float32)

    def middle(opacity: float) -> list[int]:
        made = tritonic_nb.picture(one, as_="probability", source=image, opacity=opacity)
        with Image.open(io.BytesIO(made.png)) as png:
            return list(png.convert("RGB").getpixel((png.width // 2, png.height // 2)))

    assert middle(0) == [10, 200, 30]
    assert middle(1) == [255, 176, 0]


def test_a_contour_is_inside_and_not_at_the_border() -> None:
    """An area's outermost pixels; one that leaves the array has no edge there."""
    inside = np.zeros((30, 30), np.bool_)
    inside[10:20, :15] = True
    edge = contour(inside, 2)
    assert edge[10:12, 3].all()
    assert edge[15, 13:15].all()
    assert not edge[15, :12].any()
    assert not (edge & ~inside).any()


# --- boxes ---------------------------------------------------------------------------------------

WANTED = np.array([[10.0, 20, 50, 80], [30, 30, 90, 60]])


@pytest.mark.parametrize(
    ("form", "rows"),
    [
        ("corners", [[10, 20, 50, 80], [30, 30, 90, 60]]),
        ("corners, y first", [[20, 10, 80, 50], [30, 30, 60, 90]]),
        ("centres", [[30, 50, 40, 60], [60, 45, 60, 30]]),
        ("sizes", [[10, 20, 40, 60], [30, 30, 60, 30]]),
    ],
)
def test_every_form_of_boxes_is_read(form: str, rows: list[list[float]]) -> None:
    """The same two rectangles, whichever way they are written."""
    found = read_boxes(rows, form)
    assert np.array_equal(found.corners, WANTED)
    assert not found.unit


@pytest.mark.parametrize(
    ("columns", "scores", "classes"),
    [
        ("xyxysc", [0.9, 0.4], [3, 5]),
        ("xyxycs", [0.9, 0.4], [3, 5]),
        ("nxyxycs", [0.9, 0.4], [3, 5]),
        ("ncsxyxy", [0.9, 0.4], [3, 5]),
        ("xyxys", [0.9, 0.4], None),
    ],
)
def test_scores_and_classes_are_found_by_their_values(
    columns: str, scores: list[float], classes: list[int] | None
) -> None:
    """In front of a box or behind it; a column of zeros counts the items."""
    four = WANTED / 100
    parts = []
    for letter in columns.replace("xyxy", "b"):
        parts.append(
            four if letter == "b"
            else np.array({"s": scores, "c": classes, "n": [0, 0]}[letter])[:, None]
        )  # fmt: skip
    found = read_boxes(np.concatenate(parts, axis=1))
    assert np.allclose(found.corners, four)
    assert found.scores is not None
    assert found.scores.tolist() == scores
    assert (found.classes.tolist() if found.classes is not None else None) == classes


def test_candidates_are_read_and_thinned() -> None:
    """YOLO's rows: objectness weights the scores, and a likelier box hides those it covers."""
    rows = np.array([
        [50.0, 50, 40, 40, 0.9, 0.1, 0.8],
        [51, 50, 40, 40, 0.8, 0.1, 0.8],  # the same thing, less likely
        [51, 50, 40, 40, 0.8, 0.9, 0.0],  # another class at the same place
        [150, 50, 40, 40, 0.1, 0.9, 0.0],  # unlikely
    ])  # fmt: skip
    found = read_boxes(rows, "candidates", objectness=True)
    assert np.allclose(found.scores, [0.72, 0.64, 0.72, 0.09])
    assert found.classes.tolist() == [1, 1, 0, 0]
    drawing = boxes(found, labels=["a", "b"], apart=True)
    assert drawing.alt == "2 of 4 boxes: b 72%, a 72%"


def test_a_class_that_stands_for_nothing_is_left_out() -> None:
    """DETR's last class: most queries have it, and it is no box's."""
    logits = np.array([[0.0, 0, 9], [0, 0, 9], [9, 0, 0], [0, 0, 9]])
    found = read_boxes(np.tile([0.5, 0.5, 0.2, 0.2], (4, 1)), "centres", scores=logits)
    assert found.unit
    assert found.scores.argmax() == 2
    assert found.classes[2] == 0
    assert found.scores[[0, 1, 3]].max() < 0.01
    assert "softmax" in found.notes[0]


def test_scores_of_another_length_are_told() -> None:
    """With both numbers."""
    with pytest.raises(ArgumentError, match="2 boxes and scores of shape"):
        read_boxes(WANTED, scores=[1.0, 0.5, 0.2])


def test_only_likely_boxes_are_drawn() -> None:
    """Those with a score of a quarter, or a few where none has it."""
    corners = np.tile([0.1, 0.1, 0.5, 0.5], (50, 1))
    high = Boxes(corners, np.linspace(1, 0, 50), None, unit=True)
    low = Boxes(corners, np.linspace(0.2, 0, 50), None, unit=True)
    assert boxes(high).notes[0].endswith("score at least 0.25")
    assert boxes(low).notes[0] == "5 of 50 drawn, no score reaches 0.25"


@pytest.mark.parametrize("count", sorted(SKELETONS))
def test_a_skeleton_joins_points_that_there_are(count: int) -> None:
    """Each pair is of two different points, and all limbs hang together but for the head's."""
    pairs = SKELETONS[count]
    assert all(0 <= first < count and 0 <= second < count for first, second in pairs)
    assert all(first != second for first, second in pairs)
    assert len(set(map(frozenset, pairs))) == len(pairs)


def test_people_of_tensorflow_have_the_vertical_coordinate_first() -> None:
    """MoveNet's points are turned; the caption says so."""
    points = np.zeros((1, 1, 17, 3), np.float32)
    points[..., 0], points[..., 1], points[..., 2] = 0.9, 0.1, 1
    made = tritonic_nb.picture(points, name="output_0", model="movenet_lightning")
    assert "vertical coordinate first" in made.caption.lower()


# --- colours -------------------------------------------------------------------------------------

# How people without one kind of cone see linear red, green and blue: Viénot, Brettel and
# Mollon 1999 for the first two; Machado, Oliveira and Fernandes 2009 for the third.
SIGHTS = {
    "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    "tritanopia": [[1.25553, -0.07675, -0.17878], [-0.07841, 0.93081, 0.14760],
                   [0.00473, 0.69137, 0.30390]],
    "usual": np.eye(3).tolist(),
}  # fmt: skip


def lab(linear: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give CIELAB of linear red, green and blue, under D65."""
    xyz = linear @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722],
                             [0.0193, 0.1192, 0.9505]]).T  # fmt: skip
    part = np.clip(xyz / [0.9505, 1, 1.089], 1e-9, None)
    f = np.where(part > 216 / 24389, np.cbrt(part), (24389 / 27 * part + 16) / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


@pytest.mark.parametrize("sight", sorted(SIGHTS))
def test_the_first_colours_stay_apart_whatever_a_persons_sight(sight: str) -> None:
    """Any two of the first seven classes and the background differ plainly (CIE76)."""
    srgb = np.array([rgb_of(index) for index in range(len(FIRST) + 1)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = lab(np.clip(linear @ np.array(SIGHTS[sight]).T, 0, 1))
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    assert apart[np.triu_indices(len(seen), 1)].min() > 9


def test_a_number_always_has_the_same_colour() -> None:
    """Whatever else is in the picture; forty-five follow one another without repeating."""
    assert [color_of(index) for index in range(1, 8)] == list(FIRST)
    assert len({color_of(index) for index in range(46)}) == 46
    assert color_of(46) == color_of(1)


@pytest.mark.parametrize("index", range(46))
def test_words_on_a_colour_can_be_read(index: int) -> None:
    """Contrast of 4.5 or more, as WCAG asks."""
    levels_ = np.array([rgb_of(index), tuple(bytes.fromhex(text_on(color_of(index))[1:]))]) / 255
    linear = np.where(levels_ <= 0.04045, levels_ / 12.92, ((levels_ + 0.055) / 1.055) ** 2.4)
    first, second = sorted(linear @ [0.2126, 0.7152, 0.0722])
    assert (second + 0.05) / (first + 0.05) >= 4.5


# --- planes --------------------------------------------------------------------------------------


def test_levels_keep_what_is_odd() -> None:
    """NaN and infinities stay themselves, the largest span does not overflow."""
    found = levels(np.array([[-1.7e308, 0, 1.7e308, np.nan, np.inf]]), -1.7e308, 1.7e308)
    assert found[0, :3].tolist() == [0, 0.5, 1]
    assert np.isnan(found[0, 3])
    assert np.isinf(found[0, 4])


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), width=st.integers(1, 80),
       height=st.integers(1, 80))  # fmt: skip
def test_a_plane_is_averaged_or_repeated(rows: int, columns: int, width: int, height: int) -> None:
    """At another size the mean of a plane that shrinks stays, and cells that grow keep values."""
    plane = np.random.default_rng(rows * columns).random((rows, columns)).astype(np.float32)
    found = resized(plane, width, height)
    assert found.shape == (height, width)
    if width % columns == 0 and height % rows == 0:
        assert np.array_equal(
            found, plane.repeat(height // rows, axis=0).repeat(width // columns, axis=1)
        )
    if columns % width == 0 and rows % height == 0:
        assert found.mean() == pytest.approx(plane.mean(), abs=1e-4)


def test_a_source_must_be_a_picture() -> None:
    """Anything else is refused."""
    with pytest.raises(ArgumentError):
        Source.of(np.zeros((3, 4, 5, 6)))
