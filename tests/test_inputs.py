"""What a caller gave becomes tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tritonic_nb import ImageTransform, samples
from tritonic_nb.errors import (
    ArgumentError,
    BatchSizeError,
    TensorDatatypeError,
    TensorNameError,
    TensorShapeError,
)
from tritonic_nb.inputs import check_batch_size, prepare, transform_of
from tritonic_nb.tensors import ModelSpec, TensorSpec


def model(*inputs: TensorSpec, batch: int = 0, **parameters: str) -> ModelSpec:
    specs = {spec.name: spec for spec in inputs}
    return ModelSpec("m", "", ("1",), "python", batch, specs, {}, parameters=parameters)


PICTURE = TensorSpec("img", "FP32", (-1, 3, 32, 32), batched=True)
NUMBERS = TensorSpec("x", "FP32", (-1, 4), batched=True)
CAT = samples.image("cat")


def test_pictures_go_to_the_inputs_that_look_like_them() -> None:
    """Of a model with two inputs the picture becomes the one, and numbers the other."""
    both = model(PICTURE, NUMBERS, batch=8)
    made = prepare(both, {"img": CAT, "x": [[1, 2, 3, 4]]}, {})
    assert made.tensors["img"].shape == (1, 3, 32, 32)
    assert made.tensors["x"].dtype == np.float32
    assert made.transform is not None
    assert transform_of(both) is None  # which of them is not for it to say


@pytest.mark.parametrize(
    ("names", "call"),
    [
        (("a", "b"), "infer(a=..., b=...)"),
        (("input.1", "b"), "infer({'input.1': ..., 'b': ...})"),
        (("timeout", "b"), "infer({'timeout': ..., 'b': ...})"),
        (("class", "b"), "infer({'class': ..., 'b': ...})"),
    ],
)
def test_the_advice_can_be_typed(names: tuple[str, str], call: str) -> None:
    """Names that Python or infer() do not take as keywords are shown in a mapping."""
    asked = model(*(TensorSpec(name, "FP32", (1,)) for name in names))
    with pytest.raises(TensorNameError) as caught:
        prepare(asked, None, {})
    assert call in caught.value.remedy


@pytest.mark.parametrize(
    ("given", "transform", "error", "text"),
    [
        (CAT, ImageTransform(16, 16), TensorShapeError, r"the transform \(.*16x16.*32, 32"),
        (CAT, ImageTransform(32, 32, datatype="FP16"), TensorDatatypeError, "float16.*FP32"),
        (np.zeros((0, 3, 32, 32), "f4"), None, BatchSizeError, "batch of 0.*at least one"),
        (np.zeros((9, 3, 32, 32), "f4"), None, BatchSizeError, "batch of 9.*max_batch_size=N"),
        (np.zeros((3, 32, 32), "f4"), None, TensorShapeError, "newaxis"),
        (np.zeros((1, 3, 32, 32), "f8"), None, TensorDatatypeError, "astype"),
        (np.zeros((1, 3, 32, 32), "f4"), "imagenet", ArgumentError, "no picture"),
    ],
)
def test_what_does_not_fit_is_told(
    given: Any, transform: Any, error: type[Exception], text: str
) -> None:
    """The transform is named where it is to blame, and the array where it is."""
    with pytest.raises(error, match=f"(?s){text}"):
        prepare(model(PICTURE, batch=8), given, {}, transform)


def test_a_transform_without_a_batch_dimension_gets_one() -> None:
    """A CHW transform serves a model that batches."""
    chw = ImageTransform(32, 32, layout="CHW")
    assert prepare(model(PICTURE, batch=8), CAT, {}, chw).tensors["img"].shape == (1, 3, 32, 32)


def test_several_pictures_need_a_model_that_takes_several() -> None:
    """For a model of one picture a list is refused, and never glued together."""
    one = TensorSpec("image", "UINT8", (-1, -1, 3))
    with pytest.raises(BatchSizeError, match="one picture at a time and 2"):
        prepare(model(one), [CAT, CAT], {})
    several = TensorSpec("image", "UINT8", (-1, -1, -1, 3))
    assert prepare(model(several), [CAT, CAT], {}).tensors["image"].shape == (2, 300, 451, 3)


def test_rows_of_one_get_the_advice_for_it() -> None:
    """A flat array for a model of [batch, 1] is told to become a column."""
    column = TensorSpec("x", "FP32", (-1, 1), batched=True)
    with pytest.raises(TensorShapeError, match=r"array\[:, np.newaxis\]"):
        prepare(model(column, batch=8), np.ones(5, np.float32), {})


def test_more_pictures_than_the_model_takes_are_not_read() -> None:
    """Millions of pictures are refused as quickly as nine."""
    pictures = np.broadcast_to(np.uint8(0), (2**40, 32, 32, 3))
    with pytest.raises(BatchSizeError, match=f"a batch of {2**40}"):
        prepare(model(PICTURE, batch=8), pictures, {})
    with pytest.raises(BatchSizeError, match="a batch of 9"):
        prepare(model(PICTURE, batch=8), ["no such file"] * 9, {})


@pytest.mark.parametrize("transform", [5, b"imagenet", [], {"width": 8}])
def test_a_transform_that_is_none_is_told(transform: Any) -> None:
    """What may be given instead stands in the remedy."""
    with pytest.raises(ArgumentError, match=r"(?s)transform is.*ImageTransform\(\.\.\.\)"):
        prepare(model(PICTURE, batch=8), CAT, {}, transform)


@pytest.mark.parametrize("batch", ["2", 1.5, None, True, [1]])
def test_a_batch_that_is_no_number_is_told(batch: Any) -> None:
    """As an argument, before it is compared with the model's limit."""
    with pytest.raises(ArgumentError, match="the batch is"):
        check_batch_size(model(PICTURE, batch=8), batch)


def test_a_list_in_itself_is_no_endless_task() -> None:
    """It is refused like any other list that is no tensor."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TensorDatatypeError, match="'x' takes FP32"):
        prepare(model(NUMBERS, batch=8), endless, {})
