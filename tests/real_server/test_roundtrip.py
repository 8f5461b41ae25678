"""Every datatype there and back, through shared memory and over the wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tritonic_nb
from tritonic_nb.tensors import DATATYPES, numpy_dtype


@pytest.fixture(params=DATATYPES)
def datatype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def sessions(
    address: Any, protocol: str, datatype: str
) -> Iterator[dict[str, tritonic_nb.Session]]:
    model = f"identity_{datatype.lower()}"
    opened = {
        kind: tritonic_nb.Session(address, model, shared_memory=kind, load=True, protocol=protocol)
        for kind in ("system", "none")
    }
    yield opened
    for session in opened.values():
        session.close()


def arrays(datatype: str) -> st.SearchStrategy[np.ndarray]:
    """Arrays of rank 2 and of any content, NaN and zero bytes included."""
    shape = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=20)
    if datatype == "BYTES":
        return hnp.arrays(np.dtype(object), shape, elements=st.binary(max_size=12))
    if datatype == "BOOL":
        return hnp.arrays(np.dtype(bool), shape)
    itemsize = numpy_dtype(datatype).itemsize
    raw = hnp.arrays(np.dtype(f"u{itemsize}"), shape)
    return raw.map(lambda array: array.view(numpy_dtype(datatype)))


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_what_goes_in_comes_out(
    sessions: dict[str, tritonic_nb.Session], datatype: str, data: st.DataObject
) -> None:
    """Any array of any datatype comes back bit for bit, both ways of passing."""
    array = data.draw(arrays(datatype))
    for session in sessions.values():
        back = session.infer(array)["OUTPUT0"]
        assert back.shape == array.shape
        assert back.dtype == array.dtype
        assert back.tolist() == array.tolist() if datatype == "BYTES" else (
            back.tobytes() == array.tobytes()
        )  # fmt: skip


def test_each_way_went_as_it_was_told(
    sessions: dict[str, tritonic_nb.Session], datatype: str
) -> None:
    """In the second inference of a size, system uses regions both ways and none uses none."""
    array = np.ones((4, 4), numpy_dtype(datatype))
    if datatype == "BYTES":
        array = np.full((4, 4), b"abc", object)
    for kind, session in sessions.items():
        session.infer(array)
        places = session.infer(array).places.values()
        assert {bool(place.region) for place in places} == {kind == "system"}
