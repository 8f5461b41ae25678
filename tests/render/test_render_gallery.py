"""Any tensor at all becomes a picture or a clear sentence, in bounded memory."""

from __future__ import annotations

import base64
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import tritonic_nb
from tritonic_nb import samples
from tritonic_nb.errors import ArgumentError
from tritonic_nb.images import ImageTransform
from tritonic_nb.render import KINDS, Picture
from tritonic_nb.render.values import Values

EVIL = "<script>alert('x')</script>\" onmouseover=\"alert(1)"
DICE = np.random.default_rng(6)


def pixels(picture: Picture) -> npt.NDArray[Any]:
    with Image.open(io.BytesIO(picture.png)) as image:
        return np.asarray(image.convert("RGBA"))


def normal(*shape: int) -> npt.NDArray[np.float64]:
    return DICE.normal(size=shape)


# --- hostile -------------------------------------------------------------------------------------

HOSTILE: dict[str, tuple[Any, str]] = {
    "empty": (np.zeros((0, 4)), "it is empty"),
    "empty inside": (np.zeros((1, 3, 0, 5)), "it is empty"),
    "empty text": (np.zeros((0,), object), "BYTES [0]"),
    "0-d": (np.float32(3.5), "all 3.5"),
    "0-d whole": (np.int64(7), "all 7"),
    "a number": (2, "all 2"),
    "all NaN": (np.full((40, 50), np.nan), "no finite value, 2,000 NaN. NaN is grey"),
    "all Inf": (np.full((40, 50), np.inf), "2,000 infinite. Infinite is red"),
    "some Inf": (np.where(normal(40, 50) > 1, np.inf, 0.5), "infinite is red"),
    "NaN in a row": (np.full(1000, np.nan), "no finite value, 1,000 NaN"),
    "NaN scores": (np.full((1, 1000), np.nan), "no finite value"),
    "constant": (np.full((40, 50), 7.0), "all 7"),
    "constant row": (np.full(5000, 7.0), "all 7"),
    "constant image": (np.zeros((1, 3, 64, 64), np.uint8), "Seen as an image"),
    "from 1e-300 to 1e300": (np.logspace(-300, 300, 2400).reshape(40, 60), "1e-300 to 1e+300"),
    "a row of that": (np.logspace(-300, 300, 2400), "1e-300 to 1e+300"),
    "the largest floats": (np.array([-1.7e308, 1.7e308, 0.5] * 400).reshape(30, 40), "1.7e+308"),
    "a row of those": (np.array([-1.7e308, 1.7e308, 0.5] * 400), "1.7e+308"),
    "FP16": (normal(40, 50).astype(np.float16), "FP16 [40, 50]"),
    "BF16": (normal(40, 50).astype(ml_dtypes.bfloat16), "BF16 [40, 50]"),
    "BF16 image": (normal(1, 3, 40, 50).astype(ml_dtypes.bfloat16), "Seen as an image"),
    "FP8": (normal(40, 50).astype(ml_dtypes.float8_e4m3fn), "float8_e4m3fn [40, 50]"),
    "the largest whole numbers": (np.full((30, 30), 2**64 - 1, np.uint64), "UINT64"),
    "whole numbers of both signs": (np.array([[-(2**63), 2**63 - 1]] * 30), "INT64 [30, 2]"),
    "complex": (normal(40, 50) + 1j, "complex128"),
    "truth values": (normal(40, 50) > 0, "BOOL [40, 50]"),
    "dates": (np.array(["2020-01-01", "2021-01-01"], "M8[D]"), "datetime64"),
    "4096 channels": (normal(1, 4096, 14, 14), "the 64 strongest of 4,096"),
    "200,000 channels": (np.broadcast_to(np.float32(1), (200_000, 8, 8)), "of 200,000"),
    "not contiguous": (normal(3, 80, 90).transpose(2, 1, 0)[::-1, ::2], "FP64 [90, 40, 3]"),
    "read-only": (np.broadcast_to(np.float32(1), (300, 400)), "all 1"),
    "masked": (np.ma.masked_less(normal(30, 30), 0), "NaN"),
    "7-D": (normal(2, 3, 2, 2, 3, 20, 30), "[2, 3, 2, 2, 3, 20, 30]"),
    "7-D of twos": (normal(2, 2, 2, 2, 2, 2, 2), "the first of the leading axes"),
    "15-D": (np.zeros((1,) * 14 + (9,)), "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9]"),
    "long and thin": (np.zeros((1, 3, 1, 500), np.uint8), "UINT8 [1, 3, 1, 500]"),
    "tall": (normal(100_000, 3), "the first 12 of 100,000 rows"),
    "wide": (normal(3, 100_000), "FP64 [3, 100000]"),
    "text": ("hello", "BYTES []"),
    "bytes that are no text": (np.array([b"\xff\xfe\x00"], object), "BYTES [1]"),
    "mixed objects": (np.array([1, "a", None, 2.5], object), "BYTES [4]"),
    "lists": ([[1, 2], [3, 4]], "INT64 [2, 2]"),
    "a Pillow image": (Image.new("CMYK", (30, 20)), "UINT8 [20, 30, 3]"),
    "boxes of Inf": (np.full((5, 4), np.inf), "20 infinite"),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_whatever_it_is_it_is_shown(case: str) -> None:
    """A picture, and a caption that says what was odd."""
    thing, said = HOSTILE[case]
    picture = tritonic_nb.picture(thing, name=case)
    assert said.lower() in picture.caption.lower(), picture.caption
    height, width = pixels(picture).shape[:2]
    assert 1 <= width <= 2000
    assert 1 <= height <= 2400
    assert picture.caption in str(picture)


LARGE: dict[str, tuple[tuple[int, ...], str, str]] = {
    "a map": ((20_000, 20_000), "f4", "every 10th row and column"),
    "an image": ((20_000, 20_000, 3), "u1", "every 14th row and column"),
    "an image, channels first": ((1, 3, 20_000, 20_000), "f4", "every 14th row and column"),
    "class numbers": ((20_000, 20_000), "i8", "INT64 [20000, 20000]"),
    "scores of classes": ((1, 21, 10_000, 10_000), "f4", "every 12th row and column"),
    "feature maps": ((1, 4096, 500, 500), "f4", "the 64 strongest of 4,096"),
    "a signal": ((100_000_000,), "f4", "one number of 24 drawn"),
    "candidates": ((1, 84, 2_000_000), "f4", "FP32 [1, 84, 2000000]"),
    "a batch of images": ((500, 3, 2000, 2000), "f4", "16 of 500"),
    "points": ((1_000_000, 17, 3), "f4", "FP32 [1000000, 17, 3]"),
}


@pytest.mark.parametrize("case", sorted(LARGE))
def test_the_memory_does_not_grow_with_the_tensor(case: str) -> None:
    """Of gigabytes a part is read; the caption says which."""
    shape, dtype, said = LARGE[case]
    huge = np.broadcast_to(np.zeros((), dtype), shape)
    name = "keypoints" if case == "points" else ""
    tritonic_nb.picture(np.zeros((3, 3)))  # whatever is imported late
    tracemalloc.start()
    try:
        picture = tritonic_nb.picture(huge, name=name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert said.lower() in picture.caption.lower()
    assert peak < 300e6, f"{peak / 1e6:.0f} MB"


@settings(max_examples=60, deadline=None)
@given(
    array=hnp.arrays(
        st.sampled_from(["f4", "f8", "f2", "u1", "i4", "i8", "?"]),
        hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=24),
    ),
    name=st.sampled_from(["", "boxes", "logits", "mask", "keypoints", "flow", "depth", "image",
                          "segmentation", "features", "audio"]),
)  # fmt: skip
def test_any_array_of_any_name_is_shown(array: npt.NDArray[Any], name: str) -> None:
    """No value, shape or name raises or warns."""
    assert tritonic_nb.picture(array, name=name).png


@settings(max_examples=80, deadline=None)
@given(
    array=hnp.arrays(
        st.sampled_from(["f4", "u1", "i8", "?"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=12),
    ),
    kind=st.sampled_from(sorted(KINDS)),
    over=st.booleans(),
)
@example(array=np.ones((4, 1, 2), np.bool_), kind="boxes", over=False)  # columns that are boxes
def test_any_kind_can_be_asked_of_any_array(array: npt.NDArray[Any], kind: str, over: bool) -> None:
    """It is shown so, or the error says why it cannot be."""
    source = Image.new("RGB", (40, 30)) if over else None
    try:
        assert tritonic_nb.picture(array, as_=kind, source=source).png
    except ArgumentError as error:
        assert "cannot be shown as" in str(error)  # noqa: PT017


def test_names_and_labels_are_text() -> None:
    """Markup in a name, a label or a text of a server is shown as it is written."""
    for picture in (
        tritonic_nb.picture([0.1, 0.7, 0.2], name="scores " + EVIL, labels=[EVIL] * 3),
        tritonic_nb.picture(np.array([EVIL], object), name=EVIL),
        tritonic_nb.picture(np.eye(30), name=EVIL),
        tritonic_nb.picture(np.eye(30, dtype=int), as_="segmentation", labels=[EVIL] * 2),
        tritonic_nb.picture([[0.0, 0, 5, 5]], name="boxes", classes=[0], labels=[EVIL]),
    ):
        html = picture._repr_mimebundle_()[0]["text/html"]
        assert "<script" not in html
        assert '" onmouseover' not in html


def test_labels_may_be_anything_that_is_indexed() -> None:
    """A mapping by number serves; classes without a name are numbered; no list is an error."""
    picture = tritonic_nb.picture([0.1, 0.7, 0.2], name="scores", labels={1: "cat"})
    assert "cat" in picture.alt
    assert "class 2" in picture.alt
    with pytest.raises(ArgumentError, match="labels are a int"):
        tritonic_nb.picture([0.1, 0.7, 0.2], name="scores", labels=5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"as_": "cake"}, "no kind 'cake'"),
        ({"as_": "flow"}, "optical flow has two channels"),
        ({"opacity": 2}, "opacity is 2"),
        ({"k": 0}, "k is 0"),
        ({"item": -1}, "item is -1"),
        ({"item": 7, "as_": "heatmap"}, "item 7 was asked for"),
        ({"limits": (1, 1)}, "limits"),
        ({"layout": "WHAT"}, "no layout 'WHAT'"),
        ({"layout": "NHWC"}, "has 3 axes"),
        ({"colormap": "mud", "as_": "heatmap"}, "no colour map 'mud'"),
        ({"transform": ImageTransform(8, 8)}, "a transform and no source"),
        ({"as_": "boxes", "box_form": "round"}, "no form 'round'"),
    ],
)
def test_options_that_make_no_sense_are_told(options: dict[str, Any], said: str) -> None:
    """With what was given and what can be."""
    if options.get("layout") == "NHWC":
        tritonic_nb.picture(normal(30, 30, 3), layout="NHWC")  # the batch may be missing
        with pytest.raises(ArgumentError, match="has 2 axes"):
            tritonic_nb.picture(normal(30, 30), layout="NHWC")
        return
    with pytest.raises(ArgumentError, match=said):
        tritonic_nb.picture(normal(2, 30, 40)[:, None] if "item" in options else normal(9, 30, 40),
                            **options)  # fmt: skip


@pytest.mark.parametrize("thing", [object(), {"a": 1}, [[1], [2, 3]], lambda: 1])
def test_what_is_no_tensor_is_told(thing: Any) -> None:
    """The error says what can be shown."""
    with pytest.raises(ArgumentError, match="cannot be shown"):
        tritonic_nb.picture(thing)


# --- devices -------------------------------------------------------------------------------------


class OnDevice:
    """An array on a device, as PyTorch has it: sliced there, copied by ``cpu()``, and counted."""

    copied = 0

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, f"torch.{array.dtype}"

    def __getitem__(self, index: Any) -> OnDevice:
        return OnDevice(self._array[index])

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # CUDA

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("not from a device")

    def detach(self) -> OnDevice:  # noqa: D102 - PyTorch's
        return self

    def cpu(self) -> npt.NDArray[Any]:  # noqa: D102 - PyTorch's
        OnDevice.copied += self._array.nbytes
        return self._array.copy()


@pytest.mark.parametrize("shape", [(8000, 8000), (1, 3, 4000, 4000), (1, 512, 200, 200)])
def test_of_a_device_only_a_part_is_copied(shape: tuple[int, ...]) -> None:
    """The slices that are drawn, and those that the kind is guessed from."""
    array = np.broadcast_to(np.float32(0.5), shape)
    OnDevice.copied = 0
    picture = tritonic_nb.picture(OnDevice(array))
    assert f"FP32 {list(shape)}" in picture.caption
    assert 0 < OnDevice.copied < array.nbytes / 2


def test_a_device_array_looks_like_the_array() -> None:
    """Where it lies makes no difference to the picture."""
    array = normal(1, 8, 20, 30).astype(np.float32)
    assert tritonic_nb.picture(OnDevice(array)).png == tritonic_nb.picture(array).png


def test_dlpack_is_understood() -> None:
    """An object that only speaks DLPack, in the machine's own memory."""

    class Foreign:
        def __init__(self, array: npt.NDArray[Any]) -> None:
            self._array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self._array.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self._array.__dlpack_device__()

    array = normal(30, 40)
    assert tritonic_nb.picture(Foreign(array)).png == tritonic_nb.picture(array).png


# --- what is made --------------------------------------------------------------------------------


def test_a_picture_can_be_saved_and_changed(tmp_path: Path) -> None:
    """As a PNG file, and as a Matplotlib figure that pyplot knows nothing of."""
    picture = tritonic_nb.picture(normal(30, 40), name="map")
    assert picture.save(tmp_path / "map.png").read_bytes() == picture.png
    figure = picture.figure()
    figure.savefig(tmp_path / "map.svg")
    assert "<svg" in (tmp_path / "map.svg").read_text()
    width, height = figure.get_size_inches() * 100
    assert round(width) == picture.width
    assert height > 100


@pytest.mark.parametrize(
    "thing", [normal(30, 40), normal(1, 9, 20, 20), normal(1, 3, 40, 60), normal(1, 500),
              normal(1, 7), np.array(["a"], object)],
)  # fmt: skip
def test_show_gives_a_figure_on_demand(thing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every kind, and shows nothing then; the figure looks like the picture."""
    figure = tritonic_nb.show(thing, return_figure=True)
    assert capsys.readouterr().out == ""
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba(), int)
    shown = pixels(tritonic_nb.picture(thing))
    if drawn.shape != shown.shape:  # a plain picture has no more pixels than the tensor
        size = (drawn.shape[1], drawn.shape[0])
        shown = np.asarray(Image.fromarray(shown).resize(size, Image.Resampling.NEAREST))
    assert (np.abs(drawn - shown).max(axis=2) > 40).mean() < 0.02


def test_outside_a_notebook_show_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """What it is, and what was guessed; of a mapping, each value."""
    assert tritonic_nb.show([0.1, 0.7, 0.2], name="scores", labels=["a", "b", "c"]) is None
    out = capsys.readouterr().out
    assert "70.0%  b" in out
    assert "Seen as class scores" in out
    tritonic_nb.show({"one": np.eye(20), "two": ["x"]})
    out = capsys.readouterr().out
    assert "one: " in out
    assert "two: " in out


def test_the_caption_says_how_to_see_it_otherwise() -> None:
    """Each kind that it names can be asked for."""
    for thing in (normal(1, 9, 20, 20), normal(1, 1000), normal(30, 40), normal(9, 3)):
        caption = tritonic_nb.picture(thing).caption
        others = [kind for kind in KINDS if f'"{kind}"' in caption]
        assert others
        for kind in others:
            again = tritonic_nb.picture(thing, as_=kind).caption
            assert again.startswith(f"Seen as {KINDS[kind]}: it was asked for.")


def test_a_notebook_that_holds_pictures_can_be_saved() -> None:
    """The bundle is JSON; it has text, HTML and PNG."""
    bundle, _ = tritonic_nb.picture(normal(30, 40))._repr_mimebundle_()
    assert set(json.loads(json.dumps(bundle))) == {"text/plain", "text/html", "image/png"}


def test_a_saved_notebook_carries_a_photograph_at_full_size_once() -> None:
    """What stands in for the HTML has a pixel for each of the page; what is saved has two."""
    made = tritonic_nb.picture(np.eye(7), as_="heatmap", source=samples.image("cat"))
    bundle, metadata = made._repr_mimebundle_()
    small = base64.b64decode(bundle["image/png"])
    with Image.open(io.BytesIO(small)) as image:
        assert abs(image.width - metadata["image/png"]["width"]) <= 1
        assert pixels(made).shape[1] == 2 * image.width
    assert len(small) < len(made.png) / 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0, 1), "black is 0, white 1"),
        ((-1, 1), "black is -1, white 1"),
        ((0, 255), "black is 0, white 255"),
        ((-7, 9), "black is the lowest value, -7, white the highest, 9"),
        ((0, 3), "black is the lowest value, 0, white the highest, 3"),
    ],
)
def test_the_range_of_an_image_is_said(values: tuple[float, float], said: str) -> None:
    """Which numbers are black and white stands in the caption."""
    low, high = values
    ramp = np.linspace(low, high, 3 * 40 * 60, dtype=np.float32).reshape(1, 3, 40, 60)
    picture = tritonic_nb.picture(ramp)
    assert said in picture.caption.lower().replace("black", "black")
    level = pixels(picture)[..., :3]
    assert level.min() == 0
    assert level.max() == 255


def test_limits_are_the_ends_of_the_scale() -> None:
    """What lies outside is as dark or bright as the ends."""
    bright = tritonic_nb.picture(np.linspace(0, 9, 900).reshape(30, 30), limits=(-9, 0))
    colors = np.unique(pixels(bright)[60:-60, 60:400, :3].reshape(-1, 3), axis=0)
    assert len(colors) == 1


def test_a_batch_of_images_is_a_sheet_and_an_item_is_one() -> None:
    """All of a small batch together, or the one that was asked for."""
    batch = np.stack([np.full((3, 40, 40), level, np.uint8) for level in (10, 120, 250)])
    sheet = tritonic_nb.picture(batch)
    assert {10, 120, 250} <= set(np.unique(pixels(sheet)[..., 0]))
    one = tritonic_nb.picture(batch, item=1)
    assert set(np.unique(pixels(one)[..., 0])) == {120}
    assert "item 1 of 3" in one.caption.lower()


def test_softmax_is_said() -> None:
    """Logits go through softmax, probabilities do not, and the caption tells."""
    raw = np.array([[2.0, 1.0, -1.0, 0.5]])
    part = np.exp(raw) / np.exp(raw).sum()
    first, second = (tritonic_nb.picture(row, name="scores") for row in (raw, part))
    assert "softmax was applied" in first.caption
    assert "no softmax" in second.caption
    assert (
        first.alt.splitlines()[0].partition(": ")[2]
        == second.alt.splitlines()[0].partition(": ")[2]
    )


# --- parts ---------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_slices_of_values_are_slices_of_the_array(data: st.DataObject) -> None:
    """However axes were fixed, ordered and thinned, a part is what NumPy would give."""
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=3, max_size=4)))
    array = np.arange(np.prod(shape)).reshape(shape)
    axis = data.draw(st.integers(0, len(shape) - 1))
    place = data.draw(st.integers(0, shape[axis] - 1))
    values, expected = Values.of(array).at(axis, place), array.take(place, axis)
    order = data.draw(st.permutations(range(len(shape) - 1)))
    values, expected = values.arranged(order), expected.transpose(order)
    steps = data.draw(st.tuples(*(st.integers(1, 4) for _ in order)))
    values, expected = values.thinned(steps), expected[tuple(slice(None, None, s) for s in steps)]
    assert values.shape == expected.shape
    assert np.array_equal(values.read(), expected)
    index = tuple(
        data.draw(st.one_of(st.integers(0, side - 1), st.just(slice(0, side, 2))))
        for side in values.shape
    )
    assert np.array_equal(values[index], expected[index])


def test_an_extent_counts_what_is_odd() -> None:
    """NaN and infinities are counted apart, and the range is that of the others."""
    found = Values.of(np.array([1.0, np.nan, -np.inf, 5.0, np.inf])).extent()
    assert (found.low, found.high, found.finite, found.nans, found.infinite) == (1, 5, 2, 1, 2)
    assert str(found) == "1 to 5, 1 NaN, 2 infinite"


def test_the_source_may_be_a_path() -> None:
    """A file, as for an inference."""
    made = tritonic_nb.picture(np.eye(7), name="cam", source=samples.image("cat"))
    assert "over the picture" in made.caption.lower()
