"""Ways over sizes and batches, on a real server."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tritonic_nb import Session
from tritonic_nb.errors import ArgumentError, BatchSizeError
from tritonic_nb.measuring import in_batch, of_size
from tritonic_nb.measuring.way import Way, named_ways
from tritonic_nb.memory import SharedMemoryType

Open = Callable[..., Session]


def test_sizes_are_met_and_a_crossing_is_looked_at_closer(open_session: Open) -> None:
    """The comparisons are in order; between two sizes where the ways cross there are more."""
    session = open_session("identity_fp32")
    found = session.sweep(sizes=[4_000_000, 64, 65_536], seconds=6, progress=False)
    assert set(found.comparisons) >= {64, 65_536, 4_000_000}
    assert list(found.comparisons) == sorted(found.comparisons)
    assert all(each.input_nbytes == size for size, each in found.comparisons.items())
    crossing = found.crossings["system"]
    if crossing.found:
        assert len(found.comparisons) > 3
    assert crossing.size < 4_000_000  # there, shared memory is several times as fast
    assert "system shared memory" in found.verdict
    assert found.picture().png.startswith(b"\x89PNG")
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert list(document["comparisons"]) == [str(size) for size in found.comparisons]
    assert found.verdict in repr(found)


def test_numpys_numbers_are_sizes_and_the_same_size_is_measured_once(open_session: Open) -> None:
    """What comes to the same inputs is one comparison."""
    session = open_session("identity_fp32")
    found = session.sweep(sizes=np.array([4096, 4097, 4098]), seconds=0.5, progress=False)
    assert list(found.comparisons) == [4096]


def test_a_model_without_batches_has_none(open_session: Open) -> None:
    """It is told so, instead of measuring the same twice."""
    with pytest.raises(ArgumentError, match="takes no batches"):
        open_session("identity_fp32").sweep(batch=[1, 2], progress=False)


def test_batches(open_session: Open) -> None:
    """The same pictures again and again, up to the batch."""
    session = open_session("classifier")
    found = session.sweep(
        tritonic_nb.samples.image("cat"), batch=[1, 3], ways="system", seconds=1, progress=False
    )
    assert [each.batch for each in found.comparisons.values()] == [1, 3]
    assert found.comparisons[3].input_nbytes == 3 * found.comparisons[1].input_nbytes
    assert found.crossings == {}
    assert found.picture().png


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({}, ArgumentError, "batches or over sizes"),
        ({"batch": [1], "sizes": [4]}, ArgumentError, "batches or over sizes"),
        ({"sizes": []}, ArgumentError, "size"),
        ({"sizes": [0]}, ArgumentError, "size"),
        ({"sizes": ["4kB"]}, ArgumentError, "4kB"),
        ({"sizes": 2.5}, ArgumentError, "2.5"),
        ({"sizes": b"12"}, ArgumentError, "12"),
        ({"sizes": [10**15]}, ArgumentError, "too large"),
        ({"batch": [1, 99]}, BatchSizeError, "99"),
    ],
)
def test_wrong_sizes_are_refused(
    open_session: Open, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    """With what was given."""
    with pytest.raises(error, match=said):
        open_session("simple").sweep(progress=False, **options)


def test_a_model_of_one_size_says_so(open_session: Open) -> None:
    """There is nothing to sweep: no dynamic dimension, and no batch."""
    model = dataclasses.replace(open_session("simple").model_info, max_batch_size=0)
    row = np.zeros((1, 16), np.int32)
    with pytest.raises(ArgumentError, match="one size only"):
        of_size(model, {"INPUT0": row, "INPUT1": row}, 4096)


def test_inputs_are_repeated_or_cut(open_session: Open) -> None:
    """Along the batch, or along the last dynamic dimension."""
    simple = open_session("simple").model_info
    two = {name: np.array([[1] * 16, [2] * 16], np.int32) for name in simple.inputs}
    assert in_batch(simple, two, 3)["INPUT0"][:, 0].tolist() == [1, 2, 1]
    assert of_size(simple, two, 64 * 2 * 5)["INPUT1"].shape == (5, 16)
    identity = open_session("identity_fp32").model_info
    row = {"INPUT0": np.arange(6, dtype=np.float32).reshape(2, 3)}
    assert of_size(identity, row, 40)["INPUT0"].tolist() == [[0, 1, 2, 0, 1], [3, 4, 5, 3, 4]]
    assert of_size(identity, row, 1)["INPUT0"].shape == (2, 1)


def test_ways_have_names_and_labels() -> None:
    """In any case and form; the same one twice is told apart."""
    none, system = SharedMemoryType.NONE, SharedMemoryType.SYSTEM
    assert Way.parse("System") == Way(system, system)
    assert (
        Way.parse(("none", "system")).label == "the wire with outputs through system shared memory"
    )
    assert list(named_ways(["system", SharedMemoryType.SYSTEM, (system, none)])) == [
        "system",
        "system (2)",
        "system, outputs none",
    ]
    assert list(named_ways("none")) == ["none"]
