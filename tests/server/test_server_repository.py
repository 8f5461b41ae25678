"""Configurations: protobuf's text format, and what is derived from an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tritonic_nb.errors import ModelFileError
from tritonic_nb.server.repository import onnx_config, quoted, renamed

FILE = Path("x.onnx")


def signature(
    inputs: list[list[int | str | None]], outputs: list[list[int | str | None]]
) -> dict[str, Any]:
    """Return what ONNX Runtime would say about a file with tensors of these shapes."""
    return {
        "inputs": [
            {"name": f"in{i}", "type": "tensor(float)", "shape": shape}
            for i, shape in enumerate(inputs)
        ],
        "outputs": [
            {"name": f"out{i}", "type": "tensor(float)", "shape": shape}
            for i, shape in enumerate(outputs)
        ],
        "metadata": {},
    }


@pytest.mark.parametrize(
    ("inputs", "outputs", "batched"),
    [
        ([["N", 3]], [["N", 5]], True),
        ([[None, 3]], [[None]], True),
        ([["N", 3]], [[None, 2]], True),
        ([["N", 3], ["N"]], [["N"]], True),
        ([[1, 3]], [[1, 5]], False),
        ([["N", 3]], [[1, 5]], False),
        ([["N", 3]], [["boxes", 4]], False),
        ([["N", 3], []], [["N", 3]], False),
    ],
)
def test_batching_is_derived_from_the_first_dimensions(
    inputs: list[list[int | str | None]], outputs: list[list[int | str | None]], batched: bool
) -> None:
    """Batched means: every first dimension is dynamic, and no two have different symbols."""
    told = signature(inputs, outputs)
    config = onnx_config("m", FILE, told, max_batch_size=4, parameters={})
    assert config.max_batch_size == (4 if batched else 0)
    rank = len(inputs[0]) - batched
    assert len(config.inputs[0].dims) == rank
    unbatched = onnx_config("m", FILE, told, max_batch_size=0, parameters={})
    assert unbatched.max_batch_size == 0


def test_dynamic_dimensions_become_minus_one() -> None:
    """Symbols, unnamed and negative dimensions are -1; fixed ones stay."""
    told = signature([[1, "height", None, -1, 3]], [[1]])
    config = onnx_config("m", FILE, told, max_batch_size=8, parameters={})
    assert config.inputs[0].dims == (1, -1, -1, -1, 3)
    assert "dims: [ 1, -1, -1, -1, 3 ]" in config.text()


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("seq(map(int64,tensor(float)))", "zipmap"),
        ("tensor(bfloat16)", "FP16 or FP32"),
        ("optional(tensor(float))", "tensors"),
    ],
)
def test_what_triton_has_no_type_for_is_refused(kind: str, hint: str) -> None:
    """A sequence, map or optional is refused by name, with a way out."""
    told = signature([["N"]], [["N"]])
    told["outputs"][0]["type"] = kind
    with pytest.raises(ModelFileError) as caught:
        onnx_config("m", FILE, told, max_batch_size=8, parameters={})
    assert "out0" in caught.value.message
    assert kind in caught.value.message
    assert hint in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("plain", '"plain"'),
        ('say "so"', r'"say \"so\""'),
        ("back\\slash", r'"back\\slash"'),
        ("line\n1", r'"line\0121"'),
        ("nul\x00", r'"nul\000"'),
        ("Müßiggang 猫", '"Müßiggang 猫"'),
        ("\u2028", r'"\342\200\250"'),
        ("\ud800", r'"\077"'),
    ],
)
def test_any_text_becomes_a_literal(text: str, literal: str) -> None:
    """Quotes, backslashes and whatever does not print are escaped."""
    assert quoted(text) == literal


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('name: "old"\nbackend: "x"\n', 'name: "new"\nbackend: "x"\n'),
        ("", 'name: "new"\n'),
        ("max_batch_size: 1\n", 'name: "new"\nmax_batch_size: 1\n'),
        ("name : 'old'", 'name : "new"'),
        ('input [ { name: "IN" } ]\n', 'name: "new"\ninput [ { name: "IN" } ]\n'),
        ('input { name: "IN" } name: "old"', 'input { name: "IN" } name: "new"'),
        ('# name: "no"\nname: "old"', '# name: "no"\nname: "new"'),
        ('p: "{ name:" name: "o\\"ld"', 'p: "{ name:" name: "new"'),
        ('default_model_filename: "f"', 'name: "new"\ndefault_model_filename: "f"'),
    ],
)
def test_only_the_models_own_name_is_changed(before: str, after: str) -> None:
    """Names of tensors, in comments and in texts stay; a missing name is put first."""
    assert renamed(before, "new") == after
