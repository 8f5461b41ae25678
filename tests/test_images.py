"""Pictures become tensors, exactly where and as the transform says."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import threading
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tritonic_nb import images, samples
from tritonic_nb.errors import ArgumentError, ImageError, ImageReadError, ImageTooLargeError
from tritonic_nb.images import ImageTransform, is_image_like, load_image, transform_for


def test_a_phone_picture_is_turned_once(tmp_path: Path) -> None:
    """A picture that says how it was held is turned upright, and not again by the next reader."""
    with Image.open(samples.image("espresso")) as upright:
        lying = upright.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6
        lying.save(tmp_path / "phone.png", exif=exif)
        once = load_image(tmp_path / "phone.png")
        assert once.size == upright.size
        assert load_image(load_image(once)).size == upright.size
        assert np.array_equal(np.asarray(once), np.asarray(upright.convert("RGB")))


CROP = "middle part (0.875 of the short side) resized to"
CLASSIFIER = ImageTransform(224, 224, mean=127, std=128)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Encode a picture in memory."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """Make a PNG whose header claims a size and whose data hold a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


# --- reading -----------------------------------------------------------------------------------


def test_path_bytes_image_and_array_give_the_same_picture() -> None:
    """Where a picture comes from makes no difference."""
    path = samples.image("cat")
    expected = np.asarray(load_image(path))
    assert expected.shape == (300, 451, 3)
    with Image.open(path) as opened:
        assert np.array_equal(load_image(opened), expected)
    for source in (str(path), path.read_bytes(), memoryview(path.read_bytes()), expected):
        assert np.array_equal(load_image(source), expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_the_usual_formats_are_read(kind: str) -> None:
    """Each well-known format opens."""
    picture = Image.new("RGB", (20, 10), (200, 30, 60))
    assert load_image(encoded(picture, kind)).size == (20, 10)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LA", "RGBA", "PA"])
def test_every_mode_becomes_grey_or_rgb(mode: str) -> None:
    """A mid grey stays a mid grey in any mode."""
    picture = Image.new("RGB", (12, 9), (153, 153, 153)).convert("RGBA" if mode == "PA" else "RGB")
    if mode == "1":
        picture = Image.new("1", (12, 9), 1)
    result = load_image(
        picture.convert("L").convert(mode) if mode == "LA" else picture.convert(mode)
    )
    assert result.mode in ("L", "RGB")
    expected = 255 if mode == "1" else 153
    assert np.abs(np.asarray(result).astype(int) - expected).max() <= 3


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_sixteen_bit_grey_keeps_its_upper_bits(dtype: type) -> None:
    """A 16-bit picture keeps its whole range."""
    levels = np.array([[0, 256, 32_768, 65_535]], dtype)
    assert np.asarray(load_image(Image.fromarray(levels))).tolist() == [[0, 1, 128, 255]]
    file = encoded(Image.fromarray(levels.astype(np.uint16)))
    assert np.asarray(load_image(file)).tolist() == [[0, 1, 128, 255]]


def test_wider_integers_are_refused() -> None:
    """Without an agreed range nothing is guessed."""
    with pytest.raises(ImageError, match="0 to 65535"):
        load_image(Image.fromarray(np.array([[0, 70_000]], np.int32)))


def test_float_pictures_go_from_0_to_1() -> None:
    """A Pillow image of floats follows the rule for arrays."""
    assert np.asarray(load_image(Image.fromarray(np.ones((2, 2), np.float32)))).min() == 255


def test_transparency_is_flattened_on_white() -> None:
    """A fully transparent pixel is white, a half transparent black one is grey."""
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = (0, 128, 255)
    for source in (rgba, Image.fromarray(rgba), encoded(Image.fromarray(rgba))):
        assert np.asarray(load_image(source))[0, :, 0].tolist() == [255, 127, 0]


def test_a_transparent_palette_is_flattened_without_a_warning() -> None:
    """A GIF or PNG with a transparent colour becomes white there."""
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([10, 20, 30] * 256)
    file = encoded(picture, "PNG", transparency=bytes([0] + [255] * 255))
    assert np.asarray(load_image(file)).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
def test_the_cameras_orientation_is_applied(orientation: int, kind: str) -> None:
    """Whatever the camera noted, the picture comes out upright, from a file or opened."""
    upright = Image.new("L", (40, 24), 0)
    upright.paste(255, (0, 0, 20, 12))  # the upper left quarter is white
    undo = {
        1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: Image.Transpose.ROTATE_90, 7: 6,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = upright if undo is None else upright.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(stored, kind, exif=exif)
    with Image.open(io.BytesIO(file)) as opened:
        results = [load_image(file), load_image(opened)]
    for result in results:
        assert result.size == (40, 24)
        assert np.abs(np.asarray(result).astype(int) - np.asarray(upright)).max() < 40


def test_an_opened_image_is_not_changed() -> None:
    """The caller's image keeps its mode, size and pixels."""
    picture = Image.new("RGBA", (5, 4), (1, 2, 3, 4))
    load_image(picture)
    assert (picture.mode, picture.size, picture.getpixel((0, 0))) == ("RGBA", (5, 4), (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((2, 3), 7, np.uint8), 7),
        (np.full((2, 3, 1), 7, np.uint8), 7),
        (np.full((2, 3, 3), 0.5, np.float64), 128),
        (np.full((2, 3), 1.001, np.float32), 255),
        (np.ones((2, 3), np.bool_), 255),
        (np.full((2, 3), 0.25, ">f4"), 64),
        (np.full((6, 8, 3), 9, np.uint8)[::-2, ::2], 9),
    ],
)
def test_arrays_of_the_usual_kinds_are_pictures(array: np.ndarray, expected: int) -> None:
    """Bytes are levels, floats go from 0 to 1, bool is black and white."""
    result = np.asarray(load_image(array))
    assert result.shape[:2] == array.shape[:2]
    assert (result == expected).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 20, 20), np.uint8), "transpose"),
        (np.zeros((2, 2), np.int64), "agreed range"),
        (np.zeros((2, 2), np.complex64), "agreed range"),
        (np.full((2, 2), 2.0), "0 to 1 was expected"),
        (np.full((2, 2), np.nan), "0 to 1 was expected"),
        (np.array([[0, np.inf]]), "0 to 1 was expected"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (np.zeros(5, np.uint8), "not a picture"),
        (np.array([["a"]]), "agreed range"),
    ],
)
def test_other_arrays_are_refused_with_a_remedy(array: np.ndarray, message: str) -> None:
    """An array that may mean two things is not guessed at."""
    with pytest.raises(ImageError, match=message):
        load_image(array)


@pytest.mark.parametrize("source", [None, 5, ["cat.jpg"], {"a": 1}])
def test_other_objects_are_refused(source: object) -> None:
    """The error names what was given."""
    with pytest.raises(ImageError, match=type(source).__name__):
        load_image(source)  # type: ignore[arg-type]


# --- hostile files -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(100_000, 100_000), (12_000, 12_000), (8_001, 8_000)])
def test_a_decompression_bomb_is_refused_from_its_header(size: tuple[int, int]) -> None:
    """Before decoding, with the numbers, and without a warning of Pillow's."""
    with pytest.raises(ImageTooLargeError, match="64,000,000"):
        load_image(png_claiming(*size))


def test_an_opened_bomb_is_refused_before_decoding() -> None:
    """A lazily opened Pillow image is checked, too."""
    with (
        Image.open(io.BytesIO(png_claiming(9_000, 9_000))) as opened,
        pytest.raises(ImageTooLargeError, match="9,000 x 9,000"),
    ):
        load_image(opened)


def test_a_file_that_ends_early_is_refused() -> None:
    """Half a JPEG is no picture; nothing grey is made up for the rest."""
    file = samples.image("cat").read_bytes()
    with pytest.raises(ImageReadError, match="cannot be decoded"):
        load_image(file[: len(file) // 2])


@pytest.mark.parametrize(
    "content", [b"", b"just text", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", bytes(999)]
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty files, text and PostScript (which would run ghostscript) called .png."""
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(ImageReadError, match="known format"):
        load_image(path)
    with pytest.raises(ImageReadError, match="known format"):
        load_image(content)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    """A named pipe that nobody writes to does not hang; devices and folders neither."""
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, "", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(ImageReadError, match="not a regular file"):
            load_image(path)


@pytest.mark.parametrize("path", ["missing.png", "a\0b.png", "x" * 5000])
def test_a_missing_file_is_named(path: str) -> None:
    """The message holds the path and what to check."""
    with pytest.raises(ImageReadError, match="cannot be opened"):
        load_image(path)


def test_a_web_address_is_not_fetched() -> None:
    """Reading a picture never uses the network."""
    with pytest.raises(ImageReadError, match="web address"):
        load_image("https://example.org/cat.jpg")


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=12),
    keep=st.floats(0.05, 1),
)
def test_damaged_files_raise_only_image_errors(
    kind: str, damage: list[tuple[float, int]], keep: float
) -> None:
    """Random damage gives a picture or an ImageError, never another exception or a warning."""
    file = bytearray(encoded(Image.effect_noise((24, 17), 60).convert("RGB"), kind))
    for where, byte in damage:
        file[int(where * len(file))] = byte
    with suppress(ImageError):
        load_image(bytes(file[: int(len(file) * keep)]))


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    """Decoding in several threads does not leave the process silent."""
    before = list(warnings.filters)
    file = samples.image("page").read_bytes()
    threads = [
        threading.Thread(target=lambda: [load_image(file) for _ in range(10)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


# --- the tensor --------------------------------------------------------------------------------


def test_the_classifiers_tensor_is_as_its_authors_wrote() -> None:
    """Short side to 256, centre crop 224, (x - 127) / 128, NCHW."""
    picture = load_image(samples.image("photographer"))
    tensor = CLASSIFIER(picture)
    assert tensor.shape == (1, 3, 224, 224)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    resized = picture.resize((256, 256), Image.Resampling.BICUBIC).crop((16, 16, 240, 240))
    reference = (np.asarray(resized.convert("RGB"), np.float64) - 127) / 128
    # A crop inside the resize may round a level differently, no more.
    assert np.abs(tensor[0] - reference.transpose(2, 0, 1)).max() <= 1.01 / 128


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "CHW", "HWC"])
@pytest.mark.parametrize("colors", ["RGB", "BGR"])
def test_layout_and_colours_only_move_the_numbers(layout: str, colors: str) -> None:
    """Every layout and order of colours holds the same values."""
    transform = ImageTransform(8, 6, layout=layout, colors=colors, mean=(1, 2, 3), std=(4, 5, 6))
    tensor = transform(np.full((6, 8, 3), (10, 20, 30), np.uint8))
    assert tensor.shape == transform.shape_for((8, 6))
    order = (10, 20, 30) if colors == "RGB" else (30, 20, 10)
    expected = [
        (level - mean) / std for level, mean, std in zip(order, (1, 2, 3), (4, 5, 6), strict=True)
    ]
    axis = layout.index("C")
    values = np.moveaxis(tensor, axis, -1).reshape(-1, 3)
    assert values == pytest.approx(np.tile(expected, (48, 1)), rel=1e-6)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("NCHW", (1, 1, 6, 8)), ("HWC", (6, 8, 1)), ("NHW", (1, 6, 8)), ("HW", (6, 8))],
)
def test_grey_tensors_have_one_channel_or_none(layout: str, shape: tuple[int, ...]) -> None:
    """Colour becomes luminance."""
    transform = ImageTransform(8, 6, layout=layout, colors="GRAY", datatype="UINT8")
    tensor = transform(np.full((6, 8, 3), (255, 0, 0), np.uint8))
    assert tensor.shape == shape
    assert (tensor == 76).all()


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [
        ("UINT8", np.uint8), ("INT8", np.int8), ("INT64", np.int64), ("FP16", np.float16),
        ("BF16", ml_dtypes.bfloat16), ("FP32", np.float32), ("FP64", np.float64),
        ("UINT64", np.uint64),
    ],
)  # fmt: skip
def test_every_datatype_holds_the_formula(datatype: str, dtype: type) -> None:
    """(x * scale - mean) / std, to the precision of the datatype; integers rounded and held."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    transform = ImageTransform(
        16, 16, "HW", datatype, "GRAY", mean=40, std=1.5, scale=2, fit="stretch"
    )
    tensor = transform(levels)
    expected = (levels.astype(np.float64) * 2 - 40) / 1.5
    assert tensor.dtype == dtype
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        held = [min(max(round(value), limits.min), limits.max) for value in expected.ravel()]
        assert tensor.ravel().tolist() == held
    else:
        precision = float(ml_dtypes.finfo(dtype).eps)
        assert np.allclose(
            tensor.astype(np.float64), expected, rtol=precision, atol=precision * 100
        )


def test_raw_pixels_stay_raw() -> None:
    """Without scale, mean and std the very pixels arrive; INT8 holds what fits."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    raw = ImageTransform(16, 16, "HW", "UINT8", "GRAY", fit="stretch")
    assert np.array_equal(raw(levels), levels)
    assert raw.replace(datatype="INT8")(levels).max() == 127
    shifted = raw.replace(datatype="INT8", mean=128)(levels)
    assert (shifted.min(), shifted.max()) == (-128, 127)


def test_out_is_written_in_place_contiguous_or_not() -> None:
    """A slice of a batch, or every other column of a region, takes the tensor directly."""
    expected = CLASSIFIER(samples.image("espresso"))
    batch = np.zeros((3, 3, 224, 224), np.float32)
    target = batch[1:2]
    assert CLASSIFIER(samples.image("espresso"), out=target) is target
    assert np.array_equal(batch[1:2], expected)
    assert not batch[0].any()
    sparse = np.zeros((1, 3, 224, 448), np.float32)[..., ::2]
    assert np.array_equal(CLASSIFIER(samples.image("espresso"), out=sparse), expected)


def test_a_wrong_out_is_refused() -> None:
    """Shape, dtype and permission are checked before anything is written."""
    frozen = np.zeros((1, 3, 224, 224), np.float32)
    frozen.flags.writeable = False
    for out in (np.zeros((3, 224, 224), np.float32), np.zeros((1, 3, 224, 224)), frozen):
        with pytest.raises(ArgumentError, match="out is"):
            CLASSIFIER(samples.image("cat"), out=out)


def test_pad_fills_the_bars() -> None:
    """A letterboxed picture lies in the middle, the bars have the grey level asked for."""
    transform = ImageTransform(8, 8, "HW", "UINT8", "GRAY", fit="pad", fill=114)
    tensor = transform(np.zeros((10, 20), np.uint8))
    assert (tensor[:2] == 114).all()
    assert (tensor[2:6] == 0).all()
    assert (tensor[6:] == 114).all()


@pytest.mark.parametrize(
    ("transform", "size"),
    [
        (ImageTransform(0, 0), (451, 300)),
        (ImageTransform(0, 0, multiple=32), (448, 288)),
        (ImageTransform(0, 48), (72, 48)),
        (ImageTransform(0, 48, multiple=32), (64, 48)),
        (ImageTransform(224, 0), (224, 149)),
    ],
)
def test_a_side_of_0_follows_the_picture(transform: ImageTransform, size: tuple[int, int]) -> None:
    """Both sides: its own size. One side: its aspect ratio. Nothing is cropped."""
    assert transform.size_for((451, 300)) == size
    assert transform(samples.image("cat")).shape == (1, 3, size[1], size[0])
    assert transform.source_box((451, 300)) == (0, 0, 451, 300)


def test_a_side_that_follows_cannot_blow_up() -> None:
    """A line of pixels scaled to a fixed height would be billions of pixels."""
    with pytest.raises(ImageTooLargeError, match="64,000,000"):
        ImageTransform(0, 48)(np.zeros((1, 100_000), np.uint8))


# --- geometry ----------------------------------------------------------------------------------

SIDES = st.integers(1, 90)


@settings(max_examples=150, deadline=None)
@given(
    own=st.tuples(SIDES, SIDES),
    size=st.tuples(SIDES, SIDES),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
    ratio=st.floats(0.05, 1),
    mode=st.sampled_from(["1", "L", "RGB", "RGBA", "CMYK", "I;16", "F"]),
)
def test_any_size_and_mode_fits_any_tensor(
    own: tuple[int, int], size: tuple[int, int], fit: str, ratio: float, mode: str
) -> None:
    """Whatever the picture, the tensor has its shape and the box a positive extent."""
    transform = ImageTransform(*size, fit=fit, crop_ratio=ratio)
    assert transform(Image.new(mode, own)).shape == (1, 3, size[1], size[0])
    left, top, right, bottom = transform.source_box(own)
    assert left < right
    assert top < bottom


@settings(max_examples=150, deadline=None)
@given(
    own=st.tuples(st.integers(30, 300), st.integers(30, 300)),
    size=st.tuples(st.integers(16, 120), st.integers(16, 120)),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
    ratio=st.floats(0.3, 1),
)
def test_the_source_box_says_where_pixels_land(
    own: tuple[int, int], size: tuple[int, int], fit: str, ratio: float
) -> None:
    """On a ramp, each pixel of the tensor holds the position that the box gives for it."""
    transform = ImageTransform(*size, "HW", "UINT8", "GRAY", fit=fit, crop_ratio=ratio)
    left, top, right, bottom = transform.source_box(own)
    width, height = own
    for axis, (first, last, extent, count) in enumerate(
        [(left, right, width, size[0]), (top, bottom, height, size[1])]
    ):
        ramp = np.rint((np.arange(extent) + 0.5) / extent * 255).astype(np.uint8)
        picture = np.broadcast_to(ramp if axis == 0 else ramp[:, None], (height, width))
        tensor = transform(np.ascontiguousarray(picture)).astype(float)
        line = tensor[size[1] // 2] if axis == 0 else tensor[:, size[0] // 2]
        at = first + (last - first) * (np.arange(count) + 0.5) / count
        # At the picture's edge, the filter sees no further: compare inside.
        reach = 2.5 * max(1.0, (last - first) / count)
        inside = (at > reach) & (at < extent - reach)
        expected = at / extent * 255
        assert np.abs(line[inside] - expected[inside]).max(initial=0) <= 1.6


@given(
    own=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    size=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    ratio=st.floats(0.01, 1),
)
def test_a_crop_lies_centred_inside_the_picture(
    own: tuple[int, int], size: tuple[int, int], ratio: float
) -> None:
    """The crop has the tensor's aspect ratio and never leaves the picture."""
    left, top, right, bottom = ImageTransform(*size, crop_ratio=ratio).source_box(own)
    assert left >= 0
    assert top >= 0
    assert right <= own[0]
    assert bottom <= own[1]
    assert (right - left) * size[1] == pytest.approx((bottom - top) * size[0], rel=1e-6)
    assert left + right == pytest.approx(own[0])
    assert top + bottom == pytest.approx(own[1])


@given(
    own=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    size=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
)
def test_a_padded_tensor_shows_the_whole_picture(
    own: tuple[int, int], size: tuple[int, int]
) -> None:
    """The box of a letterboxed picture contains it."""
    left, top, right, bottom = ImageTransform(*size, fit="pad").source_box(own)
    assert left <= 0
    assert top <= 0
    assert right >= own[0] - 1e-6
    assert bottom >= own[1] - 1e-6


# --- the transform as a value ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (
            CLASSIFIER,
            f"RGB, {CROP} 224x224, (x - 127) / 128, FP32 NCHW",
        ),
        (
            ImageTransform.preset("imagenet", 0, 0, multiple=32, colors="BGR"),
            "BGR, own size in multiples of 32, ImageNet mean and std, FP32 NCHW",
        ),
        (
            ImageTransform.preset("-1..1", 320, 240, fit="pad", datatype="fp16"),
            "RGB, padded to 320x240, (x / 255 - 0.5) / 0.5, FP16 NCHW",
        ),
        (
            ImageTransform(0, 48, "hwc", "UINT8", "gray"),
            "GRAY, scaled to height 48, pixels 0..255, UINT8 HWC",
        ),
        (
            ImageTransform(9, 9, scale=0.7, mean=(1, 2, -3), fit="stretch"),
            "RGB, stretched to 9x9, x * 0.7 - (1, 2, -3), FP32 NCHW",
        ),
        (ImageTransform(9, 0), "RGB, scaled to width 9, pixels 0..255, FP32 NCHW"),
        (
            ImageTransform(9, 9, std=-2),
            f"RGB, {CROP} 9x9, x / (-2), FP32 NCHW",
        ),
    ],
)
def test_a_transform_reads_as_one_line(transform: ImageTransform, text: str) -> None:
    """What a person would say."""
    assert str(transform) == text


@pytest.mark.parametrize(
    "changes",
    [
        {"width": -1}, {"width": 2.5}, {"height": True}, {"layout": "NCWH"}, {"datatype": "BYTES"},
        {"colors": "RGBA"}, {"std": 0}, {"std": (1, 0, 1)}, {"mean": (1, 2)}, {"mean": "1"},
        {"mean": float("nan")}, {"scale": float("inf")}, {"fit": "cover"}, {"crop_ratio": 0},
        {"crop_ratio": 1.5}, {"fill": 256}, {"multiple": 0}, {"layout": "HW"},
        {"width": 100_000, "height": 100_000}, {"size": 3},
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(changes: dict[str, object]) -> None:
    """At once, as an ArgumentError with a remedy; as JSON, as an ImageError."""
    with pytest.raises(ArgumentError) as error:
        CLASSIFIER.replace(**changes)
    assert error.value.remedy
    text = json.dumps({**json.loads(CLASSIFIER.to_json()), **changes})
    with pytest.raises(ImageError):
        ImageTransform.from_json(text)


@pytest.mark.parametrize("name", list(images.PRESETS))
@pytest.mark.parametrize("colors", ["RGB", "BGR", "GRAY"])
def test_a_transform_survives_json_and_pickle(name: str, colors: str) -> None:
    """What was written is what is read."""
    transform = ImageTransform.preset(name, 64, 48, colors=colors, fit="pad")
    assert ImageTransform.from_json(transform.to_json()) == transform
    assert pickle.loads(pickle.dumps(transform)) == transform
    assert hash(transform) == hash(transform.replace())


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[]", "7", '"imagenet"', "{}", '{"width": 5}', '{"width": 5, "height": NaN}',
     '{"width": 5, "height": 5, "speed": 1}', '{"width": 5, "height": 5, "mean": [1, [2], 3]}',
     '{"width": 5, "height": 5, "layout": null}', "[" * 100_000],
)  # fmt: skip
def test_bad_json_is_an_image_error(text: str) -> None:
    """A broken model parameter is told as such."""
    with pytest.raises(ImageError):
        ImageTransform.from_json(text)


def test_an_unknown_preset_is_refused_with_the_names() -> None:
    """The error lists what there is."""
    with pytest.raises(ArgumentError, match=r"imagenet, 0\.\.1, -1\.\.1, 0\.\.255"):
        ImageTransform.preset("caffe", 5, 5)


# --- from a shape ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "datatype", "text"),
    [
        ((-1, 3, 224, 224), "FP32",
         f"RGB, {CROP} 224x224, ImageNet mean and std, FP32 NCHW"),
        ((1, 3, 48, -1), "FP32", "RGB, scaled to height 48, ImageNet mean and std, FP32 NCHW"),
        ((-1, 3, -1, -1), "FP16", "RGB, own size, ImageNet mean and std, FP16 NCHW"),
        ((-1, -1, 3), "UINT8", "RGB, own size, pixels 0..255, UINT8 HWC"),
        ((3, 64, 96), "INT8", f"RGB, {CROP} 96x64, x - 128, INT8 CHW"),
        ((-1, 96, 96, 1), "INT32", f"GRAY, {CROP} 96x96, pixels 0..255, INT32 NHWC"),
        ((-1, 1, 28, 28), "FP32", f"GRAY, {CROP} 28x28, x / 255, FP32 NCHW"),
        ((1, 28, 28), "BF16", f"GRAY, {CROP} 28x28, x / 255, BF16 CHW"),
    ],
)  # fmt: skip
def test_a_tensor_tells_its_transform(shape: tuple[int, ...], datatype: str, text: str) -> None:
    """Shape and datatype give layout, colours, size and values."""
    assert str(transform_for(shape, datatype)) == text
    assert is_image_like(shape)


@pytest.mark.parametrize(
    "shape",
    [(), (-1,), (-1, 1000), (28, 28), (-1, 128, 768), (-1, 100, 3), (2, -1, 128), (8, 3, 224, 224),
     (-1, 3, 16, 112, 112), (-1, 4, 64, 64), (-1, -1, -1, -1), (-1, 3, 1, 1), (-1, 3, 0, 9)],
)  # fmt: skip
def test_other_tensors_are_no_pictures(shape: tuple[int, ...]) -> None:
    """Vectors, sequences, points, volumes and features are left alone."""
    assert not is_image_like(shape)
    assert transform_for(shape, "FP32") is None


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL", "nonsense"])
def test_other_datatypes_are_no_pictures(datatype: str) -> None:
    """A picture's shape is not enough."""
    assert transform_for((-1, 3, 224, 224), datatype) is None


def test_the_hint_wins() -> None:
    """A model's own word goes before what is derived, in full or in part."""
    shape = (-1, 3, 224, 224)
    assert transform_for(shape, "FP32", hint=CLASSIFIER.to_json()) == CLASSIFIER
    assert transform_for(shape, "FP32", hint='{"mean": 127, "std": 128}') == CLASSIFIER
    preset = transform_for(shape, "FP32", hint=" -1..1 ")
    assert preset == ImageTransform.preset("-1..1", 224, 224)
    padded = transform_for(shape, "FP32", hint='{"fit": "pad", "colors": "BGR"}')
    assert str(padded) == "BGR, padded to 224x224, ImageNet mean and std, FP32 NCHW"
    assert transform_for(shape, "FP32", hint="") == transform_for(shape, "FP32")


def test_the_tensor_fixes_datatype_and_batch_dimension() -> None:
    """The same hint serves the model with and without batching, in any precision."""
    hint = CLASSIFIER.to_json()
    half = transform_for((3, 224, 224), "FP16", hint=hint)
    assert half == CLASSIFIER.replace(layout="CHW", datatype="FP16")
    unbatched = CLASSIFIER.replace(layout="CHW").to_json()
    assert transform_for((-1, 3, 224, 224), "FP32", hint=unbatched) == CLASSIFIER


def test_a_hint_makes_a_picture_of_any_tensor() -> None:
    """What a shape alone cannot tell, the model's author can."""
    hint = '{"width": 28, "height": 28, "layout": "NHW", "colors": "GRAY", "scale": 0.5}'
    transform = transform_for((-1, 28, 28), "FP32", hint=hint)
    assert str(transform) == f"GRAY, {CROP} 28x28, x / 2, FP32 NHW"
    assert transform_for((-1, 28, 28), "FP32", hint="imagenet") is None


@pytest.mark.parametrize(
    "hint",
    ["{", "caffe", '{"speed": 1}', '{"width": 300}', '{"layout": "NHWC"}', '{"colors": "GRAY"}',
     '{"layout": "HW", "colors": "GRAY"}'],
)  # fmt: skip
def test_a_hint_that_does_not_fit_is_an_image_error(hint: str) -> None:
    """The model's parameter is wrong, and the error says so."""
    with pytest.raises(ImageError, match="image transform"):
        transform_for((-1, 3, 224, 224), "FP32", hint=hint)


def test_masked_pixels_are_refused() -> None:
    """What is under the mask would be seen by the model."""
    masked = np.ma.masked_array(np.zeros((9, 9), np.uint8), True)
    with pytest.raises(ImageError, match="masked"):
        load_image(masked)


def test_a_path_may_be_bytes_and_must_be_a_path(tmp_path: Path) -> None:
    """os.scandir(b"...") gives such paths; others raise when they are asked."""
    (tmp_path / "a.png").write_bytes(encoded(Image.new("L", (9, 9))))
    (entry,) = os.scandir(os.fsencode(tmp_path))
    assert load_image(entry).size == (9, 9)

    class NoPath:
        def __fspath__(self) -> str:
            raise RuntimeError("not now")

    with pytest.raises(ImageReadError, match="NoPath gives no path: not now"):
        load_image(NoPath())


def test_a_folder_that_was_deleted_is_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error for a relative path does without the current folder's name."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ImageReadError, match="folder that was deleted"):
        load_image("cat.png")


def test_a_view_of_bytes_that_was_released_is_refused() -> None:
    """As are bytes that are none."""
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ImageReadError, match="cannot be decoded"):
        load_image(view)


@pytest.mark.parametrize(
    "changes",
    [{"scale": 1e308, "datatype": "INT8"}, {"scale": 1e5, "datatype": "FP16"}, {"std": 5e-324},
     {"mean": -1e300}, {"scale": 10**400}, {"width": 10**5000}, {"layout": 10**5000},
     {"fit": None}],
)  # fmt: skip
def test_numbers_that_the_datatype_does_not_hold_are_refused(changes: dict[str, object]) -> None:
    """Rather than a tensor of infinities, or an error in the middle of the work."""
    with pytest.raises(ArgumentError):
        CLASSIFIER.replace(**changes)


def test_a_preset_takes_the_fields_of_a_transform_only() -> None:
    """Others are told as such, as is what is no name of a preset."""
    with pytest.raises(ArgumentError, match="no speed"):
        ImageTransform.preset("imagenet", 9, 9, speed=1)
    with pytest.raises(ArgumentError, match="no preset"):
        ImageTransform.preset([], 9, 9)  # type: ignore[arg-type]
    assert ImageTransform(9, 9, mean=np.array(3.0)).mean == 3  # type: ignore[arg-type]
