"""Host arrays through CUDA shared memory: every datatype, offsets, growing, switching, mixed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gpu_helpers import same, sample

from tests.conftest import BOTH
from tritonic_nb import Session
from tritonic_nb.memory import CopyStream, SharedMemoryType, create_region, cudart
from tritonic_nb.result import InferenceResult
from tritonic_nb.tensors.dtypes import DATATYPES
from tritonic_nb.transport import (
    InferRequest,
    InputTensor,
    RegionSlice,
    RequestedOutput,
    Transport,
)

Open = Callable[..., Session]
NAMES = (("input", "INPUT0"), ("output", "OUTPUT0"))


def in_regions(result: InferenceResult) -> list[bool]:
    """Tell of the input and of the output whether it went through a region."""
    return [bool(result.places[name].region) for name in NAMES]


def kinds(session: Session) -> dict[str, set[tuple[str, int | None]]]:
    """Give kind and device of a session's regions, by direction."""
    found: dict[str, set[tuple[str, int | None]]] = {}
    for region in session.regions:
        found.setdefault(region.direction, set()).add((str(region.kind), region.device_id))
    return found


@BOTH
@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back(open_session: Open, datatype: str) -> None:
    """Bit for bit; the output through a region, too, once its size was seen."""
    with open_session(f"identity_{datatype.lower()}", shared_memory="cuda") as session:
        for seed in range(3):
            array = sample(datatype, (3, 5), seed)
            result = session.infer(array)
            assert same(result["OUTPUT0"], array)
            assert in_regions(result) == [True, seed > 0]
        assert kinds(session) == {"input": {("cuda", 0)}, "output": {("cuda", 0)}}


@BOTH
def test_an_empty_tensor_goes_over_the_wire(open_session: Open) -> None:
    """Triton takes no region of 0 bytes; what comes after it goes through one again."""
    session = open_session("identity_fp32", shared_memory="cuda")
    empty = np.empty((0, 4), np.float32)
    for array in (empty, sample("FP32", (2, 4)), empty):
        result = session.infer(array)
        assert same(result["OUTPUT0"], array)
        assert in_regions(result)[0] == bool(array.size)


@BOTH
def test_two_inputs_and_two_outputs_in_batches(open_session: Open) -> None:
    """Each tensor has a region of its own; nothing is on the wire, as the model tells the sizes."""
    session = open_session("simple", shared_memory="cuda")
    for batch in (1, 8, 3):
        left = np.arange(16 * batch, dtype=np.int32).reshape(batch, 16)
        right = np.full_like(left, 7)
        result = session.infer(INPUT0=left, INPUT1=right)
        assert np.array_equal(result["OUTPUT0"], left + right)
        assert np.array_equal(result["OUTPUT1"], left - right)
        assert all(place.region for place in result.places.values())


@BOTH
def test_tensors_lie_at_offsets_of_one_region(
    open_session: Open, transport: Transport, protocol: str
) -> None:
    """Three tensors in slots of one region, and their answers in slots of another."""
    open_session("identity_fp32").close()  # it is loaded now
    arrays = [sample("FP32", (5, 50), seed) for seed in range(3)]
    nbytes, shape = arrays[0].nbytes, arrays[0].shape
    with contextlib.ExitStack() as held:
        regions = []
        for direction, name in NAMES:
            region = create_region(SharedMemoryType.CUDA, name, direction, nbytes, slots=3)
            held.callback(region.close)
            transport.register_cuda(region.name, region.handle, 0, region.nbytes, 10.0)
            held.callback(transport.unregister, region.name, "cuda")
            regions.append(region)
        into, back = regions
        assert into.offset(2) > nbytes
        copies = held.enter_context(CopyStream(0))
        for slot, array in enumerate(arrays):
            into.write(array, slot=slot, copies=copies)
        copies.finish()
        for slot in (2, 0, 1):
            here = RegionSlice(into.name, into.offset(slot), nbytes)
            there = RegionSlice(back.name, back.offset(slot), nbytes)
            request = InferRequest(
                "identity_fp32",
                "",
                [InputTensor("INPUT0", "FP32", shape, region=here)],
                [RequestedOutput("OUTPUT0", there)],
            )
            transport.infer(transport.prepare(request), 10.0)
        found = [
            back.read("FP32", shape, nbytes=nbytes, slot=slot, copies=copies) for slot in range(3)
        ]
        copies.finish()
        assert all(map(same, found, arrays))


@BOTH
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_tensors_grow(open_session: Open, datatype: str) -> None:
    """A tensor that outgrows its region gets a larger one, whichever way it grows, and is whole."""
    session = open_session(f"identity_{datatype.lower()}", shared_memory="cuda")
    for rows in (2, 3, 1000, 10, 20_000, 5):
        array = sample(datatype, (rows, 10), rows)
        assert same(session.infer(array)["OUTPUT0"], array)
    largest = max(region.nbytes for region in session.regions if region.direction == "output")
    assert largest >= (800_000 if datatype == "FP32" else 10_000_000)


@BOTH
def test_a_session_switches_back_and_forth(open_session: Open, transport: Transport) -> None:
    """system, cuda, none, cuda, system: what comes back is right, and old regions are gone."""
    session = open_session("identity_fp32", shared_memory="system")
    for step, kind in enumerate(["system", "cuda", "none", "cuda", "system"]):
        session.set_shared_memory(kind)
        assert not session.regions
        for seed in (0, 1):
            array = sample("FP32", (4, 1000), 2 * step + seed)
            result = session.infer(array)
            assert same(result["OUTPUT0"], array)
        where = (kind, 0 if kind == "cuda" else None)
        expected = {} if kind == "none" else {"input": {where}, "output": {where}}
        assert kinds(session) == expected
        registered = {region["name"] for region in transport.registered_regions("cuda")}
        ours = {region.name for region in session.regions}
        assert registered == (ours if kind == "cuda" else set())


@BOTH
@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [("cuda", "system"), ("cuda", "none"), ("system", "cuda"), ("none", "cuda")],
)
def test_inputs_and_outputs_travel_differently(
    open_session: Open, inputs: str, outputs: str
) -> None:
    """Each direction as it was asked for."""
    session = open_session("identity_fp32", shared_memory=inputs, output_shared_memory=outputs)
    for seed in (0, 1):
        array = sample("FP32", (4, 1000), seed)
        result = session.infer(array)
        assert same(result["OUTPUT0"], array)
    assert in_regions(result) == [inputs != "none", outputs != "none"]
    wanted = {"input": inputs, "output": outputs}
    assert kinds(session) == {
        direction: {(kind, 0 if kind == "cuda" else None)}
        for direction, kind in wanted.items()
        if kind != "none"
    }


@pytest.mark.parametrize("layout", ["plain", "transposed", "stepped", "reversed"])
def test_large_arrays_of_any_layout(open_session: Open, layout: str) -> None:
    """24 MB, which take all blocks of pinned memory several times, come back as they were."""
    base = np.arange(12_000_000, dtype=np.float32).reshape(3000, 4000)
    array = {
        "plain": base[:, :2000],
        "transposed": base.T[:2000],
        "stepped": base[::2, ::2],
        "reversed": base[::-1, 2000:],
    }[layout]
    session = open_session("identity_fp32", shared_memory="cuda")
    for _ in range(2):
        assert np.array_equal(session.infer(array)["OUTPUT0"], array)


def test_inputs_are_filled_in_pinned_memory(open_session: Open) -> None:
    """session.inputs is page-locked; infer() sends what lies there, each time anew."""
    session = open_session("identity_fp32", shared_memory="cuda")
    session.register_inputs({"INPUT0": (3, 100_000)})
    view = session.inputs["INPUT0"]
    assert cudart.is_pinned(view.ctypes.data)
    assert not view.any()
    for step in range(3):
        view[step] = step + 1
        expected = view.copy()
        result = session.infer()
        assert same(result["OUTPUT0"], expected)
        assert in_regions(result)[0]
        other = sample("FP32", (3, 100_000), step)
        assert same(session.infer(other)["OUTPUT0"], other)
        assert same(view, expected)


def test_a_result_is_ones_own(open_session: Open) -> None:
    """Copies of outputs do not change when the session goes on, nor when it is closed."""
    session = open_session("identity_fp32", shared_memory="cuda")
    arrays = [sample("FP32", (10, 10_000), seed) for seed in range(4)]
    results: list[Any] = [session.infer(array)["OUTPUT0"] for array in arrays]
    session.close()
    assert all(map(same, results, arrays))
