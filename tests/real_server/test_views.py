"""Inputs that are filled in place, and arrays that outlive their regions."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import place_of
from tritonic_nb.errors import (
    BatchSizeError,
    NoSpaceError,
    TensorDatatypeError,
    TensorNameError,
    TensorShapeError,
)
from tritonic_nb.memory import Space
from tritonic_nb.memory.shm_file import SHM_DIR

Open = Callable[..., tritonic_nb.Session]
ONES = np.ones((1, 16), np.int32)


def fill(session: tritonic_nb.Session, first: int, second: int) -> None:
    """Fill the inputs of the model `simple` in place."""
    session.inputs["INPUT0"][:] = first
    session.inputs["INPUT1"][:] = second


@pytest.mark.parametrize("kind", ["system", "none"])
def test_inputs_are_filled_in_place_and_sent(open_session: Open, kind: str) -> None:
    """infer() without inputs sends what the arrays hold at that moment, over either way."""
    session = open_session("simple", shared_memory=kind)
    fill(session, 5, 2)
    first = session.infer()
    assert first["OUTPUT0"][0, 0] == 7
    session.inputs["INPUT1"][0, 3] = 100
    second = session.infer()
    assert second["OUTPUT0"][0, :5].tolist() == [7, 7, 7, 105, 7]
    assert bool(second.places["input", "INPUT0"].region) == (kind == "system")


def test_the_array_is_the_region_itself(open_session: Open) -> None:
    """Its memory is that of the region which the request names."""
    session = open_session("simple")
    fill(session, 1, 1)
    array = session.inputs["INPUT0"]
    addresses = {region.name: region.address for region in session.regions}
    used = session.infer().places["input", "INPUT0"].region
    assert array.ctypes.data == addresses[used]
    assert array.flags.writeable
    assert array.shape == (1, 16)


def test_other_inferences_leave_the_filled_inputs_alone(open_session: Open) -> None:
    """infer(array) between filling and sending uses regions of its own."""
    session = open_session("simple")
    fill(session, 5, 2)
    array = session.inputs["INPUT0"]
    assert session.infer(INPUT0=9 * ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 10
    assert array[0, 0] == 5
    assert session.infer()["OUTPUT0"][0, 0] == 7


def test_every_input_has_to_be_filled(open_session: Open) -> None:
    """An input that was not taken is missing, and is named."""
    session = open_session("simple")
    session.inputs["INPUT0"][:] = 1
    with pytest.raises(TensorNameError, match="INPUT1"):
        session.infer()
    session.inputs["INPUT1"][:] = 1
    assert session.infer()["OUTPUT0"][0, 0] == 2


def test_dynamic_shapes_are_told_or_assigned(open_session: Open) -> None:
    """register_inputs(shapes) or an assigned array give the shape; without, it says so."""
    session = open_session("identity_fp32")
    with pytest.raises(TensorShapeError, match=r"dynamic dimensions\n.*register_inputs"):
        session.inputs["INPUT0"]
    session.register_inputs({"INPUT0": (3, 4)})
    assert session.inputs["INPUT0"].shape == (3, 4)
    session.inputs["INPUT0"][:] = 2
    assert session.infer()["OUTPUT0"].sum() == 24
    session.inputs["INPUT0"] = np.ones((50, 60), np.float32)
    assert session.infer()["OUTPUT0"].sum() == 3000
    assert session.inputs["INPUT0"].shape == (50, 60)


def test_what_cannot_be_filled_is_told(open_session: Open) -> None:
    """BYTES, unknown names, wrong datatypes and batches are our errors."""
    session = open_session("identity_bytes")
    with pytest.raises(TensorDatatypeError, match=r"any length\n.*infer\(INPUT0="):
        session.inputs["INPUT0"]
    session.use("simple")
    with pytest.raises(TensorNameError, match="NOPE"):
        session.inputs["NOPE"]
    with pytest.raises(TensorDatatypeError, match=r"INT32.*FP32"):
        session.inputs["INPUT0"] = ONES.astype(np.float32)
    with pytest.raises(BatchSizeError, match="batch of 9"):
        session.inputs["INPUT0"] = np.ones((9, 16), np.int32)
    assert not session.regions


def register_more(session: tritonic_nb.Session) -> None:
    """Register larger inputs."""
    session.register_inputs(batch=8)


def use_another_model(session: tritonic_nb.Session) -> None:
    """Change the model."""
    session.use("identity_fp32")


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session.unregister(),
        lambda session: session.set_shared_memory("none"),
        lambda session: session.close(),
        register_more,
        use_another_model,
    ],
)
def test_arrays_outlive_their_regions(open_session: Open, change: Callable[[Any], None]) -> None:
    """Arrays in and out stay readable and as they were, and are not sent by mistake."""
    session = open_session("simple")
    fill(session, 5, 2)
    array = session.inputs["INPUT0"]
    result = session.infer(copy=False)["OUTPUT0"]
    change(session)
    assert array[0].tolist() == [5] * 16
    assert result[0].tolist() == [7] * 16
    array[:] = 4  # is nobody's input any more
    with pytest.raises(tritonic_nb.TritonicError):
        session.infer()
    if not session.closed and session.model_info.name == "simple":
        other = session.infer(INPUT0=ONES, INPUT1=ONES, copy=False)["OUTPUT0"]
        assert other[0, 0] == 2
        assert result[0, 0] == 7


def test_an_array_that_grows_or_fails_to(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A larger array takes the input's place; where there is no room, the one of before stays."""
    session = open_session("identity_fp32")
    session.inputs["INPUT0"] = np.full((4, 4), 3, np.float32)
    kept = session.inputs["INPUT0"]
    with monkeypatch.context() as patch:
        patch.setattr(
            "tritonic_nb.memory.system.host_space", lambda: Space(0, 10**6, 10**9, "the machine")
        )
        with pytest.raises(NoSpaceError):
            session.inputs["INPUT0"] = np.ones((400, 400), np.float32)
    assert session.inputs["INPUT0"] is kept
    kept[0, 0] = 5
    assert session.infer()["OUTPUT0"].sum() == 50
    session.inputs["INPUT0"] = np.ones((400, 400), np.float32)
    assert session.infer()["OUTPUT0"].sum() == 160_000


def test_auto_fills_what_it_sends(open_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array handed out while there was no room is sent as it is, also when there is again."""
    session = open_session("identity_fp32", shared_memory="auto")
    with monkeypatch.context() as patch:
        patch.setattr(
            "tritonic_nb.memory.system.host_space", lambda: Space(0, 10**6, 10**9, "the machine")
        )
        session.inputs["INPUT0"] = np.full((4, 4), 3, np.float32)
    result = session.infer()
    assert result["OUTPUT0"].sum() == 48
    assert not result.places["input", "INPUT0"].region


def test_an_array_whose_file_vanished_is_still_what_is_sent(
    open_session: Open, transport: Any
) -> None:
    """When file and registration are gone, the array that the user has goes over the wire."""
    session = open_session("identity_fp32")
    session.inputs["INPUT0"] = np.full((4, 4), 3, np.float32)
    array = session.inputs["INPUT0"]
    session.infer()
    for region in session.regions:
        (SHM_DIR / region.name).unlink()
        transport.unregister(region.name)
    for value in (3, 4):
        array[:] = value
        result = session.infer()
        assert result["OUTPUT0"].sum() == 16 * value
    assert not result.places["input", "INPUT0"].region


def test_arrays_and_changes_from_many_threads(open_session: Open) -> None:
    """Filling, sending, unregistering and inferring at once: our errors or the right answer."""
    session = open_session("identity_fp32")
    stop = time.monotonic() + 2
    wrong: list[object] = []

    def loop(job: Callable[[], object]) -> None:
        while time.monotonic() < stop:
            try:
                job()
            except tritonic_nb.TritonicError:
                pass
            except BaseException as error:
                wrong.append(error)

    def fill_and_send() -> None:
        session.inputs["INPUT0"] = np.full((3, 3), 7, np.float32)
        if set(session.infer()["OUTPUT0"].flat) != {7}:
            wrong.append("in place")

    def send() -> None:
        if set(session.infer(np.full((3, 3), 5, np.float32))["OUTPUT0"].flat) != {5}:
            wrong.append("array")

    def change() -> None:
        session.register_inputs({"INPUT0": (3, 3)})
        session.unregister()
        time.sleep(0.002)

    jobs = (fill_and_send, send, send, change)
    threads = [threading.Thread(target=loop, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_forgotten_session_goes_at_once(
    open_session: Open, address: Any, protocol: str, shm_names: Callable[[], set[str]]
) -> None:
    """Without its last name a session is closed, not by a garbage collection at some time."""
    open_session("simple")
    gc.disable()
    try:
        session = tritonic_nb.Session(model="simple", **place_of(address, protocol))
        fill(session, 1, 1)
        session.infer()
        with pytest.warns(ResourceWarning, match="never closed"):
            del session
        assert not shm_names()
    finally:
        gc.enable()
