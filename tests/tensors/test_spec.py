"""A model as its server describes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tritonic_nb.errors import ServerRefusedError, TensorNameError, TensorShapeError
from tritonic_nb.tensors import ModelSpec, TensorSpec

METADATA = {
    "name": "m",
    "inputs": [{"name": "IN", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [],
}


def tensor(**changes: Any) -> dict[str, Any]:
    return {**METADATA, "inputs": [{**METADATA["inputs"][0], **changes}]}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("metadata", "config"),
    [
        (tensor(name=5), {}),
        (tensor(name="\ud800"), {}),
        (tensor(datatype=None), {}),
        (tensor(shape="12"), {}),
        (tensor(shape=[1.5]), {}),
        (tensor(shape=[float("inf")]), {}),
        (tensor(shape=[-2]), {}),
        (tensor(shape=[2**63]), {}),
        (tensor(shape=[]), {"max_batch_size": 8}),
        (METADATA, {"max_batch_size": -1}),
        (METADATA, {"max_batch_size": float("inf")}),
        (METADATA, {"max_batch_size": True}),
        (METADATA, []),
        ({**METADATA, "name": None}, {}),
    ],
)
def test_a_description_that_breaks_the_protocol_is_refused(metadata: Any, config: Any) -> None:
    """Before anything is made by it: a name that is none, a dimension that is none."""
    with pytest.raises(ServerRefusedError, match="form that cannot be read"):
        ModelSpec.from_server(metadata, config)


def test_numbers_may_come_as_text() -> None:
    """JSON that was made of a protobuf message has its 64-bit numbers as text."""
    spec = ModelSpec.from_server(tensor(shape=["-1", "4"]), {"max_batch_size": "8"})
    assert spec.inputs["IN"] == TensorSpec("IN", "FP32", (-1, 4), batched=True)
    assert spec.max_batch_size == 8


@pytest.mark.parametrize("labels", ["[" * 50_000, "{", "7"])
def test_labels_that_are_none_are_left_out(labels: str) -> None:
    """A model works without them."""
    config = {"parameters": {"labels": {"string_value": labels}}}
    assert ModelSpec.from_server(json.loads(json.dumps(METADATA)), config).labels is None


@pytest.mark.parametrize("name", ["x", "", None, [], {}, pytest.param(10**5000, id="digits")])
def test_a_tensor_that_is_none_is_told(name: Any) -> None:
    """The error lists those there are, whatever was asked for."""
    with pytest.raises(TensorNameError, match="(?s)has no input.*IN FP32"):
        ModelSpec.from_server(METADATA, None).input(name)


@pytest.mark.parametrize("shape", [5, (1.5, 4), ("1", 4), (None,), (10**5000,)])
def test_a_shape_that_is_none_is_told(shape: Any) -> None:
    """With the tensor that it was for."""
    with pytest.raises(TensorShapeError, match="'IN'"):
        TensorSpec("IN", "FP32", (-1, 4)).concrete_shape(shape=shape)
