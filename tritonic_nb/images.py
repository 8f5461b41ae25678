"""From a picture to a tensor: pure functions, no state.

:func:`load_image` reads a picture from wherever it is, :class:`ImageTransform`
says how its pixels become a tensor, and :func:`transform_for` derives such a
transform from the shape and datatype that a model gives.

One way through, for speed: one resize, which also crops, and one conversion to
the tensor's datatype, written where the tensor shall lie.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import stat
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from tritonic_nb.errors import (
    ArgumentError,
    ImageError,
    ImageReadError,
    ImageTooLargeError,
    brief,
)
from tritonic_nb.tensors import DATATYPES, numpy_dtype

__all__ = [
    "MAX_PIXELS",
    "MIN_SIDE",
    "PRESETS",
    "ImageSource",
    "ImageTransform",
    "Pictures",
    "check_size",
    "count_frames",
    "image_frames",
    "is_image_file",
    "is_image_like",
    "load_image",
    "local_path",
    "transform_for",
]

#: The most pixels that a picture may have: 64 million, 192 MB once decoded.
MAX_PIXELS = 64_000_000

#: The shortest fixed side, in pixels, of a tensor that is taken for a picture.
MIN_SIDE = 8

#: Named ways to turn pixels 0..255 into values, in the order red, green, blue.
PRESETS: Mapping[str, Mapping[str, float | tuple[float, ...]]] = MappingProxyType(
    {
        "imagenet": MappingProxyType(
            {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        ),
        "0..1": MappingProxyType({"scale": 1 / 255, "mean": 0.0, "std": 1.0}),
        "-1..1": MappingProxyType({"scale": 1 / 255, "mean": 0.5, "std": 0.5}),
        "0..255": MappingProxyType({"scale": 1.0, "mean": 0.0, "std": 1.0}),
    }
)

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | npt.NDArray[Any]"
)

Box: TypeAlias = tuple[float, float, float, float]

_LAYOUTS = ("NCHW", "NHWC", "NHW", "CHW", "HWC", "HW")
_COLORS = ("RGB", "BGR", "GRAY")
_FITS = ("crop", "pad", "stretch")
_FLOATS = ("FP16", "BF16", "FP32", "FP64")
_DATATYPES = tuple(name for name in DATATYPES if name not in ("BOOL", "BYTES"))

# What notebooks meet. PostScript is left out on purpose: Pillow would run ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

# Those whose further frames are frames. A camera's JPEG may hold a preview, say.
_WITH_FRAMES = ("GIF", "WEBP", "TIFF", "PNG")

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Shrinking by more than this factor goes through a cheap box average first.
_REDUCING_GAP = 3.0

# Half a grey level: what interpolation may leave outside 0..1.
_FLOAT_TOLERANCE = 0.5 / 255


# --- reading a picture -------------------------------------------------------------------------


class Pictures(Sequence[Image.Image]):
    """Pictures that are read when somebody looks at them, by :func:`load_image`.

    Parameters
    ----------
    sources
        What each is read from.
    """

    def __init__(self, sources: Iterable[ImageSource]) -> None:
        self._sources = tuple(sources)

    def __len__(self) -> int:
        return len(self._sources)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> Pictures: ...

    def __getitem__(self, index: int | slice) -> Image.Image | Pictures:
        if isinstance(index, slice):
            return Pictures(self._sources[index])
        return load_image(self._sources[index])


def load_image(source: ImageSource) -> Image.Image:
    """Read a picture and bring it upright, as ``RGB`` or ``L`` with 8 bits.

    Parameters
    ----------
    source
        A path, the bytes of an image file (PNG, JPEG, WebP, GIF, BMP, TIFF or PPM),
        a Pillow image, or an array ``[height, width]`` or ``[height, width, 1, 3 or 4]``
        of ``uint8``, ``bool``, or floats from 0 to 1.

    Returns
    -------
    PIL.Image.Image
        Mode ``L`` for a grey picture, ``RGB`` for any other. The orientation that a
        camera noted (EXIF) is applied, transparency is flattened on white, 16-bit grey
        keeps its upper 8 bits, and of an animation the first frame is taken. It may be
        the very image that was given: treat it as read-only.

    Raises
    ------
    ImageReadError
        No such file, not a regular file, truncated, or not in one of these formats.
    ImageTooLargeError
        More than :data:`MAX_PIXELS` pixels, known from the header before decoding.
    ImageError
        An array or object of another kind.
    """
    if isinstance(source, Image.Image):
        check_size(source.size, "the picture")
        return _normalised(source, "the picture")
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        with _read_errors("the picture"):  # a memoryview may be released
            data = bytes(source)
        name = f"the picture ({len(data):,} bytes)"
        return _normalised(_decoded(io.BytesIO(data), name), name)
    if isinstance(source, (str, os.PathLike)):
        return _from_path(source)
    raise ImageError(
        f"a {type(source).__name__} is not a picture",
        "pass a path, the bytes of an image file, a Pillow image or a NumPy array",
    )


def local_path(source: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return a path, and how to call it in a message.

    Raises
    ------
    ImageReadError
        If it gives no path, or is a web address.
    """
    try:
        text = os.fsdecode(source)
    except Exception as error:  # an object's own __fspath__ may raise anything
        raise ImageReadError(
            f"a {type(source).__name__} gives no path: {error}", "pass the path as text"
        ) from error
    if text.startswith(("http://", "https://")):
        raise ImageReadError(
            f"{text!r} is a web address, not a file", "download it first and pass the file"
        )
    path = Path(text)
    with suppress(RuntimeError, ValueError):  # ~ of nobody that is known: a name like any other
        path = path.expanduser()
    return path, repr(text)


def _from_path(source: str | os.PathLike[str]) -> Image.Image:
    path, name = local_path(source)
    with _open_regular(path, name) as file:
        return _normalised(_decoded(file, name), name)


def _open_regular(path: Path, name: str) -> IO[bytes]:
    """Open a regular file; never wait, as opening a named pipe would."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageReadError(
            f"{name} cannot be opened: {reason}",
            f"check the path; a relative one is looked for in {_here()}",
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageReadError(f"{name} is not a regular file", "pass the path of an image file")
    return os.fdopen(descriptor, "rb")


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "a folder that was deleted"


def _decoded(file: IO[bytes], name: str) -> Image.Image:
    with _read_errors(name):
        image = _opened(file, name)
        image.load()
        return image


def _opened(file: IO[bytes], name: str) -> Image.Image:
    """Read the header of a picture."""
    with _no_warnings():
        image = Image.open(file, formats=_FORMATS)
    check_size(image.size, name)
    return image


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file's header is that of a picture in a known format.

    Raises
    ------
    ImageReadError
        If it is no file that can be opened.
    """
    place, name = local_path(path)
    with _open_regular(place, name) as file:
        try:
            with _read_errors(name):
                _opened(file, name)
        except ImageTooLargeError:
            return True
        except ImageReadError:
            return False
        return True


def count_frames(path: str | os.PathLike[str]) -> int:
    """Return how many frames a picture has: 1 unless it is animated, or has pages.

    Raises
    ------
    ImageReadError, ImageTooLargeError
        As :func:`load_image`.
    """
    place, name = local_path(path)
    with _open_regular(place, name) as file, _read_errors(name):
        return _count_frames(_opened(file, name))


def _count_frames(image: Image.Image) -> int:
    with _no_warnings():
        return int(getattr(image, "n_frames", 1)) if image.format in _WITH_FRAMES else 1


def image_frames(
    path: str | os.PathLike[str], *, every: int = 1
) -> Iterator[tuple[int, float | None, Image.Image]]:
    """Read the frames of an animation, or the pages of a TIFF file, one after the other.

    Parameters
    ----------
    path
        The file; a still picture has one frame.
    every
        2 for each second frame, and so on.

    Yields
    ------
    tuple
        The frame's number from 0, the seconds from the start (None for a TIFF file,
        which has no times), and the frame as :func:`load_image` gives it.

    Raises
    ------
    ImageReadError, ImageTooLargeError
        With the file and the frame.
    """
    place, name = local_path(path)
    with _open_regular(place, name) as file:
        with _read_errors(name):
            image = _opened(file, name)
            count = _count_frames(image)
        start_ms = 0.0
        for index in range(count):
            this = f"frame {index} of {name}" if count > 1 else name
            with _read_errors(this):
                with _no_warnings():
                    image.seek(index)
                check_size(image.size, this)
                image.load()  # WebP tells a frame's time only then
                # A copy: the next frame is drawn over this one.
                frame = _normalised(image.copy(), this) if index % every == 0 else None
            if frame is not None:
                yield index, None if image.format == "TIFF" else start_ms / 1000, frame
                del frame
            start_ms += image.info.get("duration", 0)


@contextmanager
def _read_errors(name: str) -> Iterator[None]:
    """Map whatever a decoder raises on a bad file.

    Pillow's decoders let many kinds of exception through on hostile bytes
    (``OSError``, ``SyntaxError``, ``struct.error``, ``KeyError``, ...), so this one
    boundary catches them all.
    """
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(
            f"{name} has far more pixels than the limit of {MAX_PIXELS:,}: {error}",
            "do not trust this file, or shrink the picture before you pass it",
        ) from error
    except UnidentifiedImageError as error:
        raise ImageReadError(
            f"{name} is not a picture in a known format",
            f"pass one of these: {', '.join(_FORMATS)}",
        ) from error
    except Exception as error:
        raise ImageReadError(
            f"{name} cannot be decoded: {error}",
            "fetch or save the file again: it is damaged or incomplete",
        ) from error


_warnings_lock = threading.Lock()


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Silence Pillow about odd headers and many pixels; the size is checked right after.

    The filters belong to the whole process. The lock keeps two threads from restoring
    them in the wrong order.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_size(size: tuple[int, int], name: str) -> None:
    """Refuse a picture of ``(width, height)`` pixels that is empty or too large.

    Raises
    ------
    ImageReadError, ImageTooLargeError
        With its name and size.
    """
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageTooLargeError(
            f"{name} is {width:,} x {height:,}, {width * height:,} pixels;"
            f" the limit is {MAX_PIXELS:,}",
            "shrink the picture before you pass it",
        )
    if width == 0 or height == 0:
        raise ImageReadError(f"{name} is {width} x {height}: it has no pixels")


def _normalised(image: Image.Image, name: str) -> Image.Image:
    """Upright and in mode ``L`` or ``RGB``."""
    with _read_errors(name):
        image.load()  # a Pillow image may not have read its pixels yet
        return _upright(_plain_mode(image), image)


def _upright(image: Image.Image, original: Image.Image) -> Image.Image:
    with _no_warnings():
        orientation = original.getexif().get(_EXIF_ORIENTATION, 1)
    method = _UPRIGHT.get(orientation)
    if method is None:
        return image
    upright = image.transpose(method)
    upright.info.clear()  # it would tell the next reader to turn it once more
    return upright


def _plain_mode(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_wide_integers(np.asarray(image))
    if image.mode == "F":
        return _from_array(np.asarray(image))
    if image.has_transparency_data:
        return _flattened(image)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _flattened(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _from_wide_integers(levels: npt.NDArray[Any]) -> Image.Image:
    lowest, highest = int(levels.min()), int(levels.max())
    if lowest < 0 or highest > 65_535:
        raise ImageError(
            f"the grey levels go from {lowest} to {highest}; 0 to 65535 were expected",
            "scale the levels to 8 bits yourself and pass a uint8 array",
        )
    return Image.fromarray((levels >> 8).astype(np.uint8))


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    shape = array.shape
    if isinstance(array, np.ma.MaskedArray):
        raise ImageError(
            f"a masked array of shape {shape} is not a picture: pixels have no mask",
            "decide what stands in the masked places: array.filled(VALUE)",
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"an array of shape {shape} is not a picture",
            "pass [height, width] or [height, width, channels] with 1, 3 or 4 channels;"
            " for [channels, height, width] use array.transpose(1, 2, 0)",
        )
    if array.size == 0:
        raise ImageError(f"an array of shape {shape} has no pixels")
    check_size((shape[1], shape[0]), "the array")
    pixels = _as_uint8(array)
    image = Image.fromarray(pixels[..., 0] if shape[2:] == (1,) else pixels)
    return _flattened(image) if image.mode == "RGBA" else image


def _as_uint8(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if array.dtype == np.bool_:
        array = np.multiply(array, 255, dtype=np.uint8)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise ImageError(
            f"pixels of NumPy dtype {array.dtype} have no agreed range",
            "pass uint8 from 0 to 255, floats from 0 to 1, or bool",
        )
    lowest, highest = float(array.min()), float(array.max())
    # Written so that NaN fails it, too.
    if not (lowest >= -_FLOAT_TOLERANCE and highest <= 1 + _FLOAT_TOLERANCE):
        raise ImageError(
            f"float pixels go from {lowest:g} to {highest:g}; 0 to 1 was expected",
            "scale them to 0..1, or pass uint8 from 0 to 255",
        )
    levels: npt.NDArray[np.uint8] = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    return levels


# --- from pixels to a tensor -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Geometry:
    """Where the pixels of one picture go in its tensor."""

    size: tuple[int, int]  # the tensor, (width, height)
    source: Box  # the part of the picture that is resized, inside the picture
    content: tuple[int, int, int, int]  # where it lands in the tensor

    @property
    def padded(self) -> bool:
        return self.content != (0, 0, *self.size)


@dataclasses.dataclass(frozen=True)
class ImageTransform:
    """How a picture becomes a tensor.

    The value of a pixel ``x``, a whole number from 0 to 255, is::

        (x * scale - mean) / std

    which is how both common notations are written down: ``(x - 127) / 128`` has
    ``scale=1, mean=127, std=128``; torchvision's has ``scale=1/255`` and a mean and
    standard deviation for each channel.

    Parameters
    ----------
    width, height
        The tensor's size in pixels. 0 takes the picture's own size; with one side 0 the
        picture keeps its aspect ratio.
    layout
        ``NCHW``, ``NHWC``, ``NHW``, ``CHW``, ``HWC`` or ``HW``. ``N`` is 1.
    datatype
        Triton's name. Integers are rounded and held within their range.
    colors
        ``RGB``, ``BGR`` or ``GRAY``.
    mean, std
        One number, or one for each channel in the tensor's order.
    scale
        One number, applied first.
    fit
        What happens to a picture of another aspect ratio where both sides are fixed:
        ``crop`` takes the largest centred part of the right shape, times `crop_ratio`;
        ``pad`` shows the whole picture in the middle (letterbox); ``stretch`` distorts.
    crop_ratio
        Above 0 and up to 1. 0.875 is the usual "resize the short side to 256, then
        crop the middle 224".
    fill
        The grey level, 0 to 255, of the bars that ``pad`` leaves.
    multiple
        A side that is 0 is rounded to the nearest multiple of this.

    Raises
    ------
    ArgumentError
        A value that makes no sense, or that does not fit the others.

    Notes
    -----
    Resizing is Pillow's bicubic filter with antialiasing. Instances are immutable and
    can be compared, hashed and pickled.

    Examples
    --------
    >>> transform = ImageTransform.preset("imagenet", 224, 224)
    >>> print(transform)
    RGB, middle part (0.875 of the short side) resized to 224x224, ImageNet mean and std, FP32 NCHW
    """

    width: int
    height: int
    layout: str = "NCHW"
    datatype: str = "FP32"
    colors: str = "RGB"
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    scale: float = 1.0
    fit: str = "crop"
    crop_ratio: float = 0.875
    fill: int = 0
    multiple: int = 1

    def __post_init__(self) -> None:
        for name, choices in (
            ("layout", _LAYOUTS), ("datatype", _DATATYPES), ("colors", _COLORS), ("fit", _FITS),
        ):  # fmt: skip
            _set(self, name, _choice(name, getattr(self, name), choices))
        for name, lowest, highest in (
            ("width", 0, MAX_PIXELS),
            ("height", 0, MAX_PIXELS),
            ("fill", 0, 255),
            ("multiple", 1, 4096),
        ):
            _set(self, name, _integer(name, getattr(self, name), lowest, highest))
        _set(self, "scale", _number("scale", self.scale))
        _set(self, "crop_ratio", _number("crop_ratio", self.crop_ratio))
        _set(self, "mean", _numbers("mean", self.mean, self.channels))
        _set(self, "std", _numbers("std", self.std, self.channels))
        self._check_together()

    def _check_together(self) -> None:
        if "C" not in self.layout and self.colors != "GRAY":
            raise ArgumentError(
                f"layout {self.layout} has no channels for {self.colors}",
                "use colors='GRAY' or a layout with a C",
            )
        if not 0 < self.crop_ratio <= 1:
            raise ArgumentError(
                f"crop_ratio is {self.crop_ratio:g}", "use a number above 0 and up to 1"
            )
        if 0 in _per_channel(self.std, self.channels):
            raise ArgumentError(f"std is {self.std}", "use numbers other than 0: it divides")
        if self.width * self.height > MAX_PIXELS:
            raise ArgumentError(
                f"{self.width} x {self.height} is more than {MAX_PIXELS:,} pixels",
                "use a smaller width and height",
            )
        for mean, std in zip(
            _per_channel(self.mean, self.channels),
            _per_channel(self.std, self.channels),
            strict=True,
        ):
            self._check_range([(x * self.scale - mean) / std for x in (0, 255)])

    def _check_range(self, extremes: list[float]) -> None:
        with np.errstate(all="ignore"):
            dtype = self.dtype if self.datatype in _FLOATS else np.dtype(np.float64)
            fits = np.isfinite(np.array(extremes).astype(dtype)).all()
        if not fits:
            raise ArgumentError(
                f"pixels from 0 to 255 become values from {extremes[0]:g} to {extremes[1]:g}, "
                f"which {self.datatype} does not hold",
                "use a smaller scale or mean, a larger std, or another datatype",
            )

    # --- other ways to make one ---

    @classmethod
    def preset(cls, name: str, width: int, height: int, **changes: Any) -> ImageTransform:
        """Make a transform with one of the :data:`PRESETS`.

        Parameters
        ----------
        name
            ``imagenet``, ``0..1``, ``-1..1`` or ``0..255``.
        width, height
            As for the class.
        **changes
            Any other field of the class.

        Raises
        ------
        ArgumentError
            No such preset or field, or a value that makes no sense.
        """
        _check_fields(changes)
        colors = _choice("colors", changes.get("colors", "RGB"), _COLORS)
        return cls(width, height, **{**_preset_values(name, colors), **changes})

    def replace(self, **changes: Any) -> ImageTransform:
        """Give a copy with some fields changed.

        Raises
        ------
        ArgumentError
            No such field, or a value that makes no sense.
        """
        _check_fields(changes)
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_json(cls, text: str) -> ImageTransform:
        """Read what :meth:`to_json` wrote; width and height must be there, the rest may be.

        Raises
        ------
        ImageError
            Not JSON, not an object, an unknown name, or a value that makes no sense.
        """
        values = _parsed(text)
        missing = [name for name in ("width", "height") if name not in values]
        if missing:
            raise ImageError(
                f"the image transform has no {' and no '.join(missing)}",
                "give both in pixels; 0 means the picture's own size",
            )
        with _as_image_error():
            return cls(**values)

    def to_json(self) -> str:
        """Write every field as a JSON object, as for a model's ``image_transform`` parameter."""
        return json.dumps(dataclasses.asdict(self))

    # --- sizes ---

    @property
    def channels(self) -> int:
        """1 for grey, otherwise 3."""
        return 1 if self.colors == "GRAY" else 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the tensor."""
        return numpy_dtype(self.datatype)

    def size_for(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Give the tensor's ``(width, height)`` in pixels for a picture of this size.

        Raises
        ------
        ImageTooLargeError
            A side that follows the picture would give more than :data:`MAX_PIXELS`.
        """
        own_width, own_height = image_size
        width, height = self.width, self.height
        if not width and not height:
            width, height = own_width, own_height
        elif not width:
            width = round(own_width * height / own_height)
        elif not height:
            height = round(own_height * width / own_width)
        if not self.width:
            width = _to_multiple(width, self.multiple)
        if not self.height:
            height = _to_multiple(height, self.multiple)
        if width * height > MAX_PIXELS:
            raise ImageTooLargeError(
                f"a picture of {own_width:,} x {own_height:,} would give a tensor of"
                f" {width:,} x {height:,} pixels; the limit is {MAX_PIXELS:,}",
                "crop or shrink the picture first",
            )
        return width, height

    def shape_for(self, image_size: tuple[int, int]) -> tuple[int, ...]:
        """Give the tensor's shape, ``N`` being 1, for a picture of ``(width, height)``."""
        width, height = self.size_for(image_size)
        dims = {"N": 1, "C": self.channels, "H": height, "W": width}
        return tuple(dims[axis] for axis in self.layout)

    def source_box(self, image_size: tuple[int, int]) -> Box:
        """Tell which part of a picture the tensor's full extent shows.

        Parameters
        ----------
        image_size
            ``(width, height)`` of the picture as :func:`load_image` gives it.

        Returns
        -------
        tuple of float
            ``(left, top, right, bottom)`` in the picture's pixels, edges not centres.
            With ``fit="pad"`` it reaches beyond the picture. The tensor's pixel column
            ``i`` of ``W`` shows ``left + (right - left) * [i / W, (i + 1) / W]``.
        """
        geometry = self._geometry(image_size)
        left, top, right, bottom = geometry.source
        x0, y0, x1, y1 = geometry.content
        per_x, per_y = (right - left) / (x1 - x0), (bottom - top) / (y1 - y0)
        width, height = geometry.size
        return (
            left - x0 * per_x,
            top - y0 * per_y,
            right + (width - x1) * per_x,
            bottom + (height - y1) * per_y,
        )

    def _geometry(self, image_size: tuple[int, int]) -> _Geometry:
        size = width, height = self.size_for(image_size)
        own_width, own_height = image_size
        whole = (0.0, 0.0, float(own_width), float(own_height))
        if not self.width or not self.height or self.fit == "stretch":
            return _Geometry(size, whole, (0, 0, width, height))
        if self.fit == "crop":
            box_width = min(own_width, own_height * width / height) * self.crop_ratio
            box_height = min(box_width * height / width, float(own_height))
            left, top = (own_width - box_width) / 2, (own_height - box_height) / 2
            right, bottom = left + box_width, top + box_height
            # Rounding must not reach beyond the picture: Pillow refuses such a box.
            box = (left, top, min(right, whole[2]), min(bottom, whole[3]))
            return _Geometry(size, box, (0, 0, width, height))
        ratio = min(width / own_width, height / own_height)
        content_width = min(width, max(1, round(own_width * ratio)))
        content_height = min(height, max(1, round(own_height * ratio)))
        x0, y0 = (width - content_width) // 2, (height - content_height) // 2
        return _Geometry(size, whole, (x0, y0, x0 + content_width, y0 + content_height))

    # --- the work ---

    def __call__(
        self, image: ImageSource, *, out: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """Turn one picture into a tensor.

        Parameters
        ----------
        image
            Anything that :func:`load_image` takes.
        out
            Where to write, for example a view of a shared-memory region: an array of
            :meth:`shape_for` this picture and of :attr:`dtype`, contiguous or not.

        Returns
        -------
        numpy.ndarray
            `out`, or a new C-contiguous array.

        Raises
        ------
        ImageReadError, ImageTooLargeError, ImageError
            As :func:`load_image`.
        ArgumentError
            `out` has another shape or dtype, or is read-only.
        """
        picture = load_image(image)
        shape = self.shape_for(picture.size)
        if out is None:
            out = np.empty(shape, self.dtype)
        else:
            self._check_out(out, shape)
        pixels = np.asarray(self._resized(picture))
        self._write(pixels.reshape(*pixels.shape[:2], self.channels), out)
        return out

    def _check_out(self, out: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
        if out.shape != shape or out.dtype != self.dtype:
            raise ArgumentError(
                f"out is {out.dtype} {out.shape}; this picture gives {self.dtype} {shape}",
                "allocate it with shape_for() and dtype",
            )
        if not out.flags.writeable:
            raise ArgumentError("out is read-only", "pass an array that can be written")

    def _resized(self, image: Image.Image) -> Image.Image:
        """Resize and pad; mode ``L`` for grey, otherwise ``RGB``."""
        geometry = self._geometry(image.size)
        x0, y0, x1, y1 = geometry.content
        content, whole = (x1 - x0, y1 - y0), (0.0, 0.0, *map(float, image.size))
        if content != image.size or geometry.source != whole:
            image = image.resize(
                content, Image.Resampling.BICUBIC, geometry.source, reducing_gap=_REDUCING_GAP
            )
        mode = "L" if self.colors == "GRAY" else "RGB"
        if image.mode != mode:
            image = image.convert(mode)  # after the resize: fewer pixels
        if geometry.padded:
            canvas = Image.new(mode, geometry.size, self.fill if mode == "L" else (self.fill,) * 3)
            canvas.paste(image, (x0, y0))
            return canvas
        return image

    def _write(self, pixels: npt.NDArray[np.uint8], out: npt.NDArray[Any]) -> None:
        """Write ``[height, width, channels]`` pixels into the tensor, channel by channel."""
        planes = _channels_first(out, self.layout)
        means, stds = _per_channel(self.mean, self.channels), _per_channel(self.std, self.channels)
        for channel, (plane, mean, std) in enumerate(zip(planes, means, stds, strict=True)):
            source = pixels[..., 2 - channel if self.colors == "BGR" else channel]
            if (self.scale, mean, std) == (1, 0, 1) and self.datatype != "INT8":
                plane[...] = source
            elif self.datatype in ("FP32", "FP64"):
                # In place and without a temporary: (x * scale - mean) / std, multiplied out.
                np.multiply(source, self.dtype.type(self.scale / std), out=plane)
                np.subtract(plane, self.dtype.type(mean / std), out=plane)
            else:
                plane[...] = self._levels(mean, std)[source]

    def _levels(self, mean: float, std: float) -> npt.NDArray[Any]:
        """Give the value of each of the 256 grey levels, for datatypes slow to compute in."""
        values = (np.arange(256) * self.scale - mean) / std
        if self.datatype in _FLOATS:
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        # Whole Python numbers: the limits of 64 bits are not exact as floats.
        return np.array(
            [min(max(round(value), limits.min), limits.max) for value in values.tolist()],
            self.dtype,
        )

    # --- in words ---

    def __str__(self) -> str:
        parts = (self.colors, self._fit_text(), self._value_text())
        return ", ".join(part for part in (*parts, f"{self.datatype} {self.layout}") if part)

    def _fit_text(self) -> str:
        size = f"{self.width}x{self.height}"
        if self.width and self.height:
            return {
                "crop": self._crop_text(),
                "pad": f"padded to {size}",
                "stretch": f"stretched to {size}",
            }[self.fit]
        steps = f" in multiples of {self.multiple}" if self.multiple > 1 else ""
        if self.width:
            return f"scaled to width {self.width}{steps}"
        if self.height:
            return f"scaled to height {self.height}{steps}"
        return f"own size{steps}"

    def _crop_text(self) -> str:
        size = f"{self.width}x{self.height}"
        if self.crop_ratio == 1:
            return f"middle part resized to {size}"
        return f"middle part ({self.crop_ratio:.3g} of the short side) resized to {size}"

    def _value_text(self) -> str:
        if self._is_imagenet():
            return "ImageNet mean and std"
        text = "x"
        if self.scale != 1:
            inverse = 1 / self.scale if self.scale else 0.0
            whole = inverse and math.isclose(inverse, round(inverse))
            text = f"x / {round(inverse)}" if whole else f"x * {self.scale:g}"
        if self.mean != 0:
            text = f"{text} - {_numbers_text(self.mean)}"
        if self.std != 1:
            text = f"({text})" if self.mean != 0 else text
            text = f"{text} / {_numbers_text(self.std)}"
        return "pixels 0..255" if text == "x" else text

    def _is_imagenet(self) -> bool:
        preset = _preset_values("imagenet", self.colors)
        return all(getattr(self, name) == value for name, value in preset.items())


_FIELDS = tuple(field.name for field in dataclasses.fields(ImageTransform))


# --- from a tensor's shape to a transform ------------------------------------------------------


def is_image_like(shape: Sequence[int]) -> bool:
    """Tell whether a tensor of this shape can hold one picture.

    Parameters
    ----------
    shape
        The model's own shape, the batch dimension first if it batches; -1 is any size.

    Returns
    -------
    bool
        True for three or four dimensions, a batch of 1 or -1 where there is one, 1 or 3
        channels in front of or behind the two sides, and fixed sides of at least
        :data:`MIN_SIDE` pixels. Of three dimensions the sides are both fixed or both -1:
        ``[-1, 100, 3]`` is more likely a batch of points than a picture.
    """
    return _layout_of(shape) is not None


def transform_for(
    shape: Sequence[int], datatype: str, *, hint: str | None = None
) -> ImageTransform | None:
    """Derive how a picture becomes a tensor from what the model says of its input.

    Parameters
    ----------
    shape
        The model's own shape, the batch dimension first (-1) if the model batches. A
        side of -1 takes the picture's own size.
    datatype
        Triton's name.
    hint
        The model's ``image_transform`` parameter: the name of one of the :data:`PRESETS`,
        or a JSON object with fields of :class:`ImageTransform`. It wins over what is
        derived, field by field, save for what the tensor itself fixes: the datatype, and
        whether there is a batch dimension.

    Returns
    -------
    ImageTransform or None
        None where neither shape nor hint makes it a picture.

    Raises
    ------
    ImageError
        A hint that cannot be read or does not fit the tensor.

    Notes
    -----
    Integers take the pixels as they are (INT8: minus 128, which is what fits). For floats
    without a hint, colour takes ImageNet's mean and standard deviation and grey 0..1:
    most published vision models were trained so, and those that were not (-1..1, 0..1)
    still see a picture centred near zero. The packaged classifier, which wants
    ``(x - 127) / 128``, names the same classes with it, a little less surely. Fixed sides
    are cropped as ImageNet classifiers are evaluated (0.875 of the short side).
    """
    datatype = datatype.upper()
    if datatype not in _DATATYPES:
        return None
    derived = _derived(shape, datatype)
    if hint is None or not hint.strip():
        return derived
    hint = hint.strip()
    if not hint.startswith("{"):
        with _as_image_error():
            values = _preset_values(hint, "RGB" if derived is None else derived.colors)
        return None if derived is None else derived.replace(**values)
    values = _parsed(hint)
    with _as_image_error():
        base = ImageTransform.from_json(hint) if derived is None else _merged(derived, values)
        return _fitted(base, shape, datatype)


def _derived(shape: Sequence[int], datatype: str) -> ImageTransform | None:
    layout = _layout_of(shape)
    if layout is None:
        return None
    dims = dict(zip(layout, shape, strict=True))
    colors = "GRAY" if dims["C"] == 1 else "RGB"
    values: dict[str, Any] = {"layout": layout, "datatype": datatype, "colors": colors}
    width, height = max(dims["W"], 0), max(dims["H"], 0)
    if datatype in _FLOATS:
        return ImageTransform.preset(
            "0..1" if colors == "GRAY" else "imagenet", width, height, **values
        )
    return ImageTransform(width, height, **values, mean=128.0 if datatype == "INT8" else 0.0)


def _merged(derived: ImageTransform, values: dict[str, Any]) -> ImageTransform:
    """Let the hint's fields win; what it says of values it says completely."""
    if {"mean", "std", "scale"} & set(values):
        values = {"mean": 0.0, "std": 1.0, "scale": 1.0, **values}
    elif "colors" in values and derived.datatype in _FLOATS:
        # The derived mean belongs to the derived colours.
        colors = str(values["colors"]).upper()
        values = {**_preset_values("0..1" if colors == "GRAY" else "imagenet", colors), **values}
    return derived.replace(**values)


def _fitted(transform: ImageTransform, shape: Sequence[int], datatype: str) -> ImageTransform:
    """Give the hinted transform the tensor's datatype and rank, and check the rest."""
    layout = transform.layout
    if len(layout) == len(shape) - 1 and not layout.startswith("N"):
        layout = f"N{layout}"
    elif len(layout) == len(shape) + 1:
        layout = layout.removeprefix("N")
    transform = transform.replace(layout=layout, datatype=datatype)
    made = {"N": 1, "C": transform.channels, "H": transform.height, "W": transform.width}
    fits = len(layout) == len(shape) and all(
        size in (-1, made[axis]) or (axis == "N") or made[axis] == 0
        for axis, size in zip(layout, shape, strict=True)
    )
    if not fits:
        raise ImageError(
            f"the image transform gives {transform.colors} {layout} of"
            f" {transform.width}x{transform.height}; the tensor is {list(shape)}",
            "correct the model's image_transform parameter",
        )
    # A fixed side that the hint leaves open is as the tensor says.
    dims = dict(zip(layout, shape, strict=True))
    return transform.replace(
        width=transform.width or max(dims["W"], 0), height=transform.height or max(dims["H"], 0)
    )


def _layout_of(shape: Sequence[int]) -> str | None:
    """Find the one layout that this shape allows, preferring colour to grey."""
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[0] not in (-1, 1)):
        return None
    batch, dims = "N" * (len(shape) - 3), tuple(shape)[-3:]
    for channels in (3, 1):
        for layout in ("CHW", "HWC"):
            named = dict(zip(layout, dims, strict=True))
            sides = (named["H"], named["W"])
            mixed = (sides[0] == -1) != (sides[1] == -1)
            if (
                named["C"] == channels
                and all(side == -1 or side >= MIN_SIDE for side in sides)
                and not (mixed and not batch)
            ):
                return batch + layout
    return None


# --- small helpers -----------------------------------------------------------------------------


def _channels_first(out: npt.NDArray[Any], layout: str) -> npt.NDArray[Any]:
    """View a tensor as ``[channels, height, width]``."""
    planes = out[0] if layout.startswith("N") else out
    if layout.endswith("HWC"):
        planes = planes.transpose(2, 0, 1)
    return planes if "C" in layout else planes.reshape(1, *planes.shape)


def _preset_values(name: str, colors: str) -> dict[str, Any]:
    """Give a preset's scale, mean and std for these colours."""
    if not isinstance(name, str) or name not in PRESETS:
        raise ArgumentError(
            f"there is no preset {brief(name)}", f"use one of these: {', '.join(PRESETS)}"
        )
    return {key: _recolored(value, colors) for key, value in PRESETS[name].items()}


def _recolored(value: float | tuple[float, ...], colors: str) -> float | tuple[float, ...]:
    if isinstance(value, float):
        return value
    if colors == "GRAY":  # as usual for a grey picture: the mean of the three
        return sum(value) / len(value)
    return value[::-1] if colors == "BGR" else value


def _parsed(text: str) -> dict[str, Any]:
    """Read a JSON object with fields of a transform; NaN and Infinity are not JSON."""
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, TypeError, RecursionError) as error:
        raise ImageError(
            f"the image transform is not JSON: {error}",
            'write it as ImageTransform.to_json() does: {"width": 224, "height": 224, ...}',
        ) from error
    if not isinstance(values, dict):
        raise ImageError(
            f"the image transform is JSON but a {type(values).__name__}, not an object",
            'write it as ImageTransform.to_json() does: {"width": 224, "height": 224, ...}',
        )
    unknown = sorted(set(values) - set(_FIELDS))
    if unknown:
        raise ImageError(
            f"the image transform has unknown fields: {', '.join(map(repr, unknown))}",
            f"use its fields: {', '.join(_FIELDS)}",
        )
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


@contextmanager
def _as_image_error() -> Iterator[None]:
    """Raise as ``ImageError`` what came with a model: it is no argument of the caller's."""
    try:
        yield
    except ArgumentError as error:
        raise ImageError(f"the image transform: {error.message}", error.remedy) from error


def _set(transform: ImageTransform, name: str, value: object) -> None:
    object.__setattr__(transform, name, value)  # frozen: the usual way to normalise a field


def _check_fields(changes: Mapping[str, Any]) -> None:
    unknown = sorted(set(changes) - set(_FIELDS))
    if unknown:
        raise ArgumentError(
            f"an image transform has no {', '.join(unknown)}",
            f"use its fields: {', '.join(_FIELDS)}",
        )


def _choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    for choice in choices:
        if isinstance(value, str) and value.casefold() == choice.casefold():
            return choice
    raise ArgumentError(f"{name} is {brief(value)}", f"use one of these: {', '.join(choices)}")


def _integer(name: str, value: object, lowest: int, highest: int) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or not lowest <= value <= highest
    ):
        raise ArgumentError(
            f"{name} is {brief(value)}", f"use a whole number from {lowest} to {highest:,}"
        )
    return int(value)


def _number(name: str, value: object) -> float:
    number = math.nan
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        with suppress(OverflowError):  # a whole number beyond the floats
            number = float(value)
    if not math.isfinite(number):
        raise ArgumentError(f"{name} is {brief(value)}", "use a finite number")
    return number


def _numbers(name: str, value: object, channels: int) -> float | tuple[float, ...]:
    if isinstance(value, np.ndarray):
        value = value.tolist()  # one number, if it has no dimensions
    if not isinstance(value, (tuple, list)):
        return _number(name, value)
    numbers = tuple(_number(name, item) for item in value)
    if len(numbers) != channels:
        raise ArgumentError(
            f"{name} has {len(numbers)} numbers for {channels} channels",
            "give one number, or one for each channel",
        )
    return numbers


def _per_channel(value: float | tuple[float, ...], channels: int) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,) * channels


def _numbers_text(value: float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(f"{item:g}" for item in value) + ")"
    return f"{value:g}" if value >= 0 else f"({value:g})"


def _to_multiple(side: int, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)
