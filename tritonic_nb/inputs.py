"""What a caller gave for an inference becomes tensors, checked against the model.

Pure functions: nothing is sent, and nothing is made in shared memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.errors import (
    ArgumentError,
    BatchSizeError,
    TensorNameError,
    TensorShapeError,
)
from tritonic_nb.images import ImageTransform, load_image, transform_for
from tritonic_nb.tensors import ModelSpec, TensorSpec, codec, numpy_dtype

__all__ = ["Prepared", "check_batch_size", "prepare", "transform_of"]


@dataclass(frozen=True)
class Prepared:
    """The inputs of one inference, checked.

    Attributes
    ----------
    tensors
        By name, of the model's datatypes and ranks.
    batch
        The size of the batch; 1 for a model without batching.
    images, transform
        The pictures that became the tensor, and how; empty and None without pictures.
    """

    tensors: dict[str, npt.NDArray[Any]]
    batch: int
    images: Sequence[Image.Image] = ()
    transform: ImageTransform | None = None


def prepare(
    model: ModelSpec,
    inputs: Any,
    named: Mapping[str, Any],
    transform: ImageTransform | str | None = None,
) -> Prepared:
    """Turn what was given into tensors and check them against the model.

    Parameters
    ----------
    model
        The model.
    inputs
        Inputs by name; or the only input's array, picture, or list of
        pictures; or None.
    named
        More inputs by name.
    transform
        How a picture becomes the tensor; None to derive it from the model.

    Raises
    ------
    TensorNameError, TensorDatatypeError, TensorShapeError, BatchSizeError
        If the inputs do not fit the model.
    ImageError
        If a picture cannot be used.
    ArgumentError
        If a transform was given without a picture.
    """
    given = _by_name(model, inputs, named)
    images: list[Image.Image] = []
    used: ImageTransform | None = None
    tensors = {}
    for name, value in given.items():
        spec = model.input(name)
        pictures = _pictures(value, spec) if len(model.inputs) == 1 else None
        used = transform_of(model, transform) if pictures else None
        if pictures and used is not None:
            images = [load_image(picture) for picture in pictures]
            value = _stacked([used(image) for image in images], spec)  # noqa: PLW2901
        elif isinstance(value, (Image.Image, os.PathLike)):
            raise TensorShapeError(
                f"{spec} does not look like a picture, and a {type(value).__name__} was given",
                "pass transform=ImageTransform(...), or turn the picture into an array "
                "of that shape and datatype yourself",
            )
        tensors[name] = codec.as_tensor(value, spec)
    if transform is not None and used is None:
        raise ArgumentError(
            "a transform was given and no picture",
            "give the picture itself (a path, a PIL.Image or an array of pixels)",
        )
    return Prepared(tensors, _batch(model, tensors), images, used)


def transform_of(
    model: ModelSpec, given: ImageTransform | str | None = None
) -> ImageTransform | None:
    """Return how a picture becomes a model's only input, or None where it cannot.

    Parameters
    ----------
    model
        The model; its ``image_transform`` parameter is a hint.
    given
        A transform, which wins; or a hint that wins over the model's.

    Raises
    ------
    ImageError
        If the hint cannot be read.
    """
    if isinstance(given, ImageTransform):
        return given
    if len(model.inputs) != 1:
        return None
    (spec,) = model.inputs.values()
    return _derived(spec.shape, spec.datatype, given or model.parameters.get("image_transform"))


def check_batch_size(model: ModelSpec, batch: int) -> None:
    """Refuse a batch that the model does not take.

    Raises
    ------
    BatchSizeError
        With the batch and the model's limit.
    """
    limit = model.max_batch_size
    if limit and not 1 <= batch <= limit:
        raise BatchSizeError(
            f"a batch of {batch} was given and model {model.name!r} takes 1 to {limit}",
            "split it into smaller batches, or raise max_batch_size in the model's configuration",
        )


# Reading a hint and deriving a transform from it would cost more than a small inference.
@lru_cache(maxsize=64)
def _derived(shape: tuple[int, ...], datatype: str, hint: str | None) -> ImageTransform | None:
    return transform_for(shape, datatype, hint=hint)


def _by_name(model: ModelSpec, inputs: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs by name, whichever way they were given."""
    if isinstance(inputs, Mapping):
        given = {**inputs, **named}
    elif inputs is None:
        given = dict(named)
    else:
        given = {_only_input(model).name: inputs, **named}
    for name in given:
        model.input(name)
    missing = [s for s in model.inputs.values() if s.name not in given and not s.optional]
    if missing:
        raise TensorNameError(
            f"model {model.name!r} needs {', '.join(map(str, missing))}, which was not given",
            f"infer({', '.join(f'{name}=...' for name in model.inputs)})",
        )
    return given


def _only_input(model: ModelSpec) -> TensorSpec:
    if len(model.inputs) != 1:
        raise TensorNameError(
            f"model {model.name!r} has {len(model.inputs)} inputs and one array without a name "
            "was given",
            f"give each by name: infer({', '.join(f'{name}=...' for name in model.inputs)})",
        )
    return next(iter(model.inputs.values()))


def _batch(model: ModelSpec, tensors: Mapping[str, npt.NDArray[Any]]) -> int:
    """Return the batch of a request, checked to be one and not too large."""
    sizes = {name: a.shape[0] for name, a in tensors.items() if model.input(name).batched}
    if len(set(sizes.values())) > 1:
        raise BatchSizeError(
            "the inputs have batches of different size: "
            + ", ".join(f"{name} {size}" for name, size in sizes.items()),
            "give every input the same number of items",
        )
    batch = next(iter(sizes.values()), 1)
    check_batch_size(model, batch)
    return batch


def _pictures(value: Any, spec: TensorSpec) -> list[Any] | None:
    """Return the pictures in what was given for an input that may take one, or None."""
    if isinstance(value, (Image.Image, os.PathLike)):
        return [value]
    if isinstance(value, str):
        return None if spec.datatype == "BYTES" else [value]
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (int, float)):
        single = [_pictures(each, spec) for each in value]
        flat = [each for pictures in single if pictures is not None for each in pictures]
        return flat if len(flat) == len(value) else None
    if isinstance(value, np.ndarray) and _is_pixels(value, spec):
        return [value]
    return None


def _is_pixels(array: npt.NDArray[Any], spec: TensorSpec) -> bool:
    """Whether an array is a picture to transform rather than the tensor itself."""
    pixels = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (1, 3, 4))
    is_tensor = array.ndim == spec.rank and array.dtype == numpy_dtype(spec.datatype)
    return array.dtype == np.uint8 and pixels and not is_tensor


def _stacked(made: list[npt.NDArray[Any]], spec: TensorSpec) -> npt.NDArray[Any]:
    """Return the tensors of pictures as one, a batch where there are several."""
    if made[0].ndim == spec.rank - 1:  # a transform without a batch dimension
        made = [array[np.newaxis] for array in made]
    if len(made) == 1:
        return made[0]
    if not spec.batched and (spec.rank != made[0].ndim or spec.shape[0] >= 0):
        raise BatchSizeError(
            f"{spec} takes one picture at a time and {len(made)} were given",
            "infer them one after the other",
        )
    shapes = sorted({array.shape for array in made})
    if len(shapes) > 1:
        raise TensorShapeError(
            f"the pictures become tensors of different shapes: {', '.join(map(str, shapes))}",
            "pass a transform with a fixed width and height",
        )
    return np.concatenate(made)
