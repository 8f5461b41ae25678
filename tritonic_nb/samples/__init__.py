"""Files to try things with: a classifier and its labels, a text detector, six pictures.

They travel inside the package and need no network. ``README.md`` beside this
module says where each comes from and under which licence.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from tritonic_nb.errors import ArgumentError

__all__ = ["classifier", "image", "images", "labels", "text_detector"]

# pip always unpacks a wheel, so the files are files.
_FOLDER = Path(__file__).resolve().parent


def classifier() -> Path:
    """Give the path of the ImageNet classifier, EfficientNet-Lite0 as an ONNX file.

    Returns
    -------
    pathlib.Path
        Input ``images`` FP32 ``[batch, 3, 224, 224]``; outputs ``logits`` FP32
        ``[batch, 1000]``, ``feature_maps`` FP32 ``[batch, 16, 112, 112]`` and
        ``class_activation`` FP32 ``[batch, 7, 7]``, the map of the likeliest class.
        Its ONNX metadata carries ``image_transform`` and ``labels``.
    """
    return _FOLDER / "efficientnet_lite0.onnx"


def text_detector() -> Path:
    """Give the path of the text detector, PP-OCRv4 mobile (DBNet) as an ONNX file.

    Returns
    -------
    pathlib.Path
        Input ``image`` FP32 ``[batch, 3, height, width]``, both sides multiples of 32;
        output ``text_probability`` FP32 ``[batch, 1, height, width]``, from 0 to 1. Its ONNX
        metadata carries ``image_transform``.
    """
    return _FOLDER / "text_detector.onnx"


def images() -> Mapping[str, Path]:
    """Give the sample pictures' paths by name, in the order of the alphabet."""
    return _images()


def image(name: str) -> Path:
    """Give the path of one sample picture.

    Parameters
    ----------
    name
        ``"cat"`` or ``"cat.jpg"``.

    Raises
    ------
    ArgumentError
        There is no picture of this name; the message lists those there are.
    """
    found = _images()
    for stem, path in found.items():
        if name in (stem, path.name):
            return path
    raise ArgumentError(
        f"there is no sample picture {name!r}", f"use one of these: {', '.join(found)}"
    )


@cache
def labels() -> tuple[str, ...]:
    """Give the 1000 ImageNet class names; the index is the class."""
    return tuple((_FOLDER / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines())


@cache
def _images() -> Mapping[str, Path]:
    return MappingProxyType({path.stem: path for path in sorted((_FOLDER / "images").iterdir())})
