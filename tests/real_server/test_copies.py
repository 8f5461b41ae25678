"""How often a tensor is copied: as often as it has to be."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tritonic_nb
from tritonic_nb import samples

Open = Callable[..., tritonic_nb.Session]

SIDE = 1200
NBYTES = SIDE * SIDE * 4
BASE = np.arange(4 * SIDE * SIDE, dtype=np.float32).reshape(2 * SIDE, 2 * SIDE)
LAYOUTS = {
    "rows": np.ascontiguousarray(BASE[:SIDE, :SIDE]),
    "columns": np.asfortranarray(BASE[:SIDE, :SIDE]),
    "every other": BASE[::2, ::2],
    "backwards": BASE[:SIDE, :SIDE][::-1, ::-1],
    "another byte order": BASE[:SIDE, :SIDE].astype(">f4"),
    "one element again and again": np.broadcast_to(np.float32(7), (SIDE, SIDE)),
}


def peak_nbytes(job: Callable[[], Any]) -> tuple[int, Any]:
    """Return the most that was allocated at a time, arrays included, and what a job gave."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        given = job()
        return tracemalloc.get_traced_memory()[1] - before, given
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("array", LAYOUTS.values(), ids=LAYOUTS)
def test_an_input_is_copied_into_its_region_without_a_temporary(
    open_session: Open, array: npt.NDArray[Any]
) -> None:
    """Whatever its layout, the first time and the next; a view as output costs nothing."""
    session = open_session("identity_fp32")
    session.register_outputs({"OUTPUT0": (SIDE, SIDE)})
    for _ in range(3):
        peak, result = peak_nbytes(lambda: session.infer(array, copy=False))
        assert np.array_equal(result["OUTPUT0"], array)
        assert peak < NBYTES / 3  # the first time something is imported


def test_an_output_of_ones_own_is_allocated_once(open_session: Open) -> None:
    """With copies, what is allocated is the result."""
    session = open_session("identity_fp32")
    array = LAYOUTS["rows"]
    session.infer(array)
    peak, _ = peak_nbytes(lambda: session.infer(array))
    assert NBYTES <= peak < 1.1 * NBYTES


def test_inputs_that_are_filled_in_place_are_sent_as_they_lie(open_session: Open) -> None:
    """NumPy computes right into shared memory, and nothing is allocated for it."""
    session = open_session("identity_fp32")
    session.register_inputs({"INPUT0": (SIDE, SIDE)})
    session.register_outputs({"OUTPUT0": (SIDE, SIDE)})
    filled = session.inputs["INPUT0"]
    array = LAYOUTS["rows"]

    def job() -> None:
        np.multiply(array, 2, out=filled)
        result = session.infer(copy=False)
        assert result["OUTPUT0"][-1, -1] == 2 * array[-1, -1]

    for _ in range(3):
        assert peak_nbytes(job)[0] < NBYTES / 10


def test_a_picture_is_decoded_into_the_region(open_session: Open) -> None:
    """A transform writes the tensor where the server reads it."""
    session = open_session("classifier")
    transform = session.transform
    assert transform is not None
    (name,) = session.model_info.inputs
    transform(samples.image("cat"), out=session.inputs[name])
    in_place, given = session.infer(), session.infer(samples.image("cat"))
    assert in_place.places["input", name].region
    assert in_place.top_k(1)[0].label == given.top_k(1)[0].label
    for output in given:
        assert np.array_equal(in_place[output], given[output])
