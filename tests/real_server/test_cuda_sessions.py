"""Sessions with CUDA shared memory, against a real Triton server and a fake GPU.

The device's memory is the fake's (tests/fake_cuda.py), which the real server reads and
writes through tests/cuda_relay.py. Many of the session's tests run here once more: what
they say holds for regions of a device as it does for those of /dev/shm.
"""

# ruff: noqa: F811 - fixtures that are imported

from __future__ import annotations

import contextlib
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda.bindings import runtime as real

import tritonic_nb
from tests.conftest import TEST_URL
from tests.cuda_fixtures import address, cuda, gpu_server, open_session  # noqa: F401
from tests.cuda_relay import Relay, relay
from tests.fake_cuda import MIB, FakeCuda
from tests.memory.test_device_array import WithDlpack, WithInterface
from tests.real_server.test_flight import (  # noqa: F401
    test_results_come_in_order,
    test_results_without_a_copy_can_all_be_kept,
)
from tests.real_server.test_recovery import (  # noqa: F401
    test_a_region_that_somebody_unregistered_is_registered_again,
)
from tests.real_server.test_roundtrip import datatype, test_what_goes_in_comes_out  # noqa: F401
from tests.real_server.test_routines import (  # noqa: F401
    prepared,
    test_an_error_between_loses_nothing,
    test_results_without_a_copy_take_turns,
    test_what_changes_between_is_noticed,
)
from tests.real_server.test_session import (  # noqa: F401
    test_a_forgotten_session_is_collected_and_told,
    test_a_sequence_keeps_its_state,
    test_a_session_can_be_shared_by_threads,
    test_arrays_by_name_in_either_form,
    test_batches,
    test_bytes_outputs_are_learned_too,
    test_growing_leaves_room_to_grow,
    test_only_the_outputs_that_were_asked_for,
    test_regions_are_used_again,
    test_register_inputs_and_outputs_beforehand,
    test_results_are_the_callers_own,
    test_several_outputs_grow_in_one_inference,
    test_wrong_inputs_are_our_errors_and_leave_nothing,
    test_zero_sized_arrays_travel_on_the_wire,
)
from tests.real_server.test_views import (  # noqa: F401
    test_every_input_has_to_be_filled,
    test_other_inferences_leave_the_filled_inputs_alone,
)
from tritonic_nb import regions
from tritonic_nb.errors import (
    NoCudaDeviceError,
    NoSpaceError,
    RegionInUseError,
    RegionNotVisibleError,
    ServerTimeoutError,
    ServerUnreachableError,
    SharedMemoryError,
    TensorDatatypeError,
    TensorShapeError,
)
from tritonic_nb.memory import DeviceArray, SharedMemoryType, cudart
from tritonic_nb.memory.shm_file import SHM_DIR
from tritonic_nb.regions import Need, Slot

Open = Callable[..., tritonic_nb.Session]
ONES = np.ones((1, 16), np.int32)

pytestmark = pytest.mark.skipif(
    bool(TEST_URL), reason="the fake GPU stands before a server of ours, not TRITONIC_NB_TEST_URL"
)


@pytest.fixture
def sessions(
    open_session: Open,
    datatype: str,
) -> dict[str, tritonic_nb.Session]:
    """What the round trip of arrays goes through."""
    return {"cuda": open_session(f"identity_{datatype.lower()}")}


def test_tensors_lie_on_the_device(open_session: Open, gpu_server: Relay, cuda: FakeCuda) -> None:
    """Inputs and outputs have regions on the chosen device, which the server has registered."""
    session = open_session("simple")
    result = session.infer(INPUT0=ONES, INPUT1=2 * ONES)
    assert result["OUTPUT0"].tolist() == (3 * ONES).tolist()
    assert result.wire_nbytes < 1000
    assert {r.kind for r in session.regions} == {SharedMemoryType.CUDA}
    assert {r.device_id for r in session.regions} == {1}
    assert {r.name for r in session.regions} == set(gpu_server.registered)
    assert {told["device_id"] for told in gpu_server.registered.values()} == {1}
    assert {m.address for m in cuda.device_memory.values()} == {r.address for r in session.regions}
    assert cuda.context == 0
    assert cuda.contexts == {1}
    session.close()
    assert not cuda.device_memory


def test_one_request_waits_once_for_its_copies_each_way(open_session: Open, cuda: FakeCuda) -> None:
    """Two inputs and two outputs take one synchronisation in and one out, and no new memory."""
    session = open_session("simple")
    for _ in range(2):
        session.infer(INPUT0=ONES, INPUT1=ONES)
    cuda.calls.clear()
    session.infer(INPUT0=ONES, INPUT1=ONES)
    assert cuda.names().count("cudaStreamSynchronize") == 2
    assert cuda.names().count("cudaMemcpyAsync") == 4
    assert not {"cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags"} & set(cuda.names())


@pytest.mark.parametrize("maker", [WithDlpack, WithInterface])
def test_arrays_of_the_device_never_touch_the_host(
    open_session: Open, cuda: FakeCuda, maker: Any
) -> None:
    """An array on a device goes in by one copy, and with copy=False the answer stays there."""
    session = open_session("identity_fp32")
    x = np.random.default_rng(0).random((4, 50), np.float32)
    theirs = maker(x)
    theirs.arrive()
    session.infer(theirs)  # the output's size is learned
    gc.collect()
    cuda.calls.clear()
    result = session.infer(theirs, copy=False)
    copied = [call[1:4] for call in cuda.calls if call[0] == "cudaMemcpyAsync"]
    copied = [call for call in copied if call[0] != theirs.address]  # its library's own
    (region,) = (r for r in session.regions if r.direction == "input")
    assert copied == [(region.address, theirs.address, x.nbytes)]
    view: Any = result["OUTPUT0"]
    assert isinstance(view, DeviceArray)
    assert view.device == 1
    np.testing.assert_array_equal(view.to_numpy(), x)
    again = session.infer(view, copy=False)  # what came out goes in
    np.testing.assert_array_equal(np.asarray(again["OUTPUT0"]), x)
    np.testing.assert_array_equal(np.asarray(view), x)  # and was not overwritten
    assert "DeviceArray" in repr(view)
    assert repr(result)
    assert result._repr_html_()
    del view, result, again
    cuda.cudaFree(theirs.address)


def test_a_view_s_readers_are_waited_for_before_its_region_is_used_again(
    open_session: Open, cuda: FakeCuda
) -> None:
    """What a library started with a view that has gone ends before the server writes there."""
    session = open_session("identity_fp32")
    x = np.ones((2, 3), np.float32)
    session.infer(x)
    for _ in range(4):
        session.infer(x, copy=False)
    assert cuda.names().count("cudaDeviceSynchronize") >= 3
    cuda.calls.clear()
    session.infer(x)
    session.infer(x)
    session.infer(x)
    assert cuda.names().count("cudaDeviceSynchronize") <= 2  # nothing of these was lent


def test_arrays_of_a_device_go_any_way(open_session: Open, cuda: FakeCuda) -> None:
    """With system memory, over the wire and from another device they arrive all the same."""
    x = np.random.default_rng(1).random((3, 7), np.float32)
    theirs = WithDlpack(x)
    theirs.arrive()
    session = open_session("identity_fp32")
    for kind, device in (("system", 0), ("none", 0), ("cuda", 0), ("cuda", 1), ("auto", 0)):
        session.set_shared_memory(kind, device)
        for _ in range(2):
            np.testing.assert_array_equal(session.infer(theirs)["OUTPUT0"], x)
    cuda.cudaFree(theirs.address)


def test_wrong_arrays_of_a_device_are_refused(open_session: Open, cuda: FakeCuda) -> None:
    """A wrong datatype, rank or layout is told with the input's name; the session goes on."""
    session = open_session("identity_fp32")
    x = np.ones((2, 3), np.float32)
    for array, more, error, words in (
        (x.astype(np.float64), {}, TensorDatatypeError, "INPUT0.*FP64"),
        (x[0], {}, TensorShapeError, "INPUT0"),
        (x, {"strides": (4, 8)}, TensorShapeError, "not contiguous"),
    ):
        with pytest.raises(error, match=words):
            session.infer(WithInterface(array, **more))
    for memory in list(cuda.device_memory):
        cuda.cudaFree(memory)
    np.testing.assert_array_equal(session.infer(x)["OUTPUT0"], x)


def test_switching_at_run_time(open_session: Open, cuda: FakeCuda, address: Relay) -> None:
    """Kinds and devices change between inferences; inputs and outputs may differ; nothing stays."""
    session = open_session("simple")
    for kind, device, output in (
        ("cuda", 0, None), ("system", 0, None), ("cuda", 1, "system"), ("none", 0, "cuda"),
        ("cuda", 0, "none"), ("system", 1, "cuda"), ("cuda", 1, None),
    ):  # fmt: skip
        session.set_shared_memory(kind, device, output=output)
        for n in range(3):
            result = session.infer(INPUT0=ONES * n, INPUT1=ONES)
            assert result["OUTPUT0"][0, 0] == n + 1
            assert result["OUTPUT1"][0, 0] == n - 1
        kinds = {(r.direction, str(r.kind), r.device_id) for r in session.regions}
        want = {"input": kind, "output": output or kind}
        assert kinds == {
            (direction, each, device if each == "cuda" else None)
            for direction, each in want.items()
            if each != "none"
        }
        on_device = {m.device for m in cuda.device_memory.values()}
        assert on_device == ({device} if "cuda" in want.values() else set())
        assert session.device == device


def test_a_switch_that_fails_changes_nothing(open_session: Open) -> None:
    """A device that is not there is told with those that are; the session stays on its own."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    names = {r.name for r in session.regions}
    with pytest.raises(NoCudaDeviceError, match="no CUDA device 5: this process sees 2"):
        session.set_shared_memory("cuda", device=5)
    assert session.device == 1
    session.infer(INPUT0=ONES, INPUT1=ONES)
    assert {r.name for r in session.regions} == names


@pytest.mark.parametrize("nth", range(3))
def test_a_server_that_cannot_open_the_memory_says_how_it_could(
    open_session: Open, gpu_server: Relay, cuda: FakeCuda, nth: int
) -> None:
    """Where the server refuses a handle, what was made goes, and the remedy names the causes."""
    session = open_session("simple")
    if nth:
        session.register_inputs()
    if nth > 1:
        session.infer(INPUT0=ONES, INPUT1=ONES)
        session.unregister()
    gpu_server.refuse = "failed to register shared memory region: invalid args"
    with pytest.raises(RegionNotVisibleError, match="CUDA device 1") as caught:
        session.infer(INPUT0=ONES, INPUT1=ONES)
    assert "CUDA_VISIBLE_DEVICES" in caught.value.remedy
    assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2
    assert len(cuda.device_memory) == 4


def test_the_real_server_refuses_a_handle_it_cannot_open(
    server: Any, protocol: str, cuda: FakeCuda
) -> None:
    """Without the relay the real server is given handles of no GPU: our error, nothing left."""
    with tritonic_nb.Session(
        server, "simple", load=True, shared_memory="cuda", protocol=protocol
    ) as session:
        with pytest.raises(RegionNotVisibleError, match="could not open memory of CUDA device 0"):
            session.infer(INPUT0=ONES, INPUT1=ONES)
        assert not session.regions
        gc.collect()
        assert not cuda.device_memory
        session.set_shared_memory("system")
        assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2
    gc.collect()
    assert not cuda.left()


def test_a_full_device_is_an_error_and_the_session_goes_on(
    open_session: Open, cuda: FakeCuda
) -> None:
    """Too large a tensor is told with figures; what nobody uses is given up for one that fits."""
    session = open_session("identity_fp32", in_flight=1)
    small = np.ones((1, 10), np.float32)
    session.infer(small)
    with pytest.raises(NoSpaceError, match=r"CUDA device 1, where \d+ are free"):
        session.infer(np.ones((1, 70 * MIB), np.float32))
    np.testing.assert_array_equal(session.infer(small)["OUTPUT0"], small)
    big = np.ones((1, 25 * MIB), np.float32)  # 100 MiB in, as much out
    np.testing.assert_array_equal(session.infer(big)["OUTPUT0"], big)
    bigger = np.ones((1, 30 * MIB), np.float32)
    np.testing.assert_array_equal(session.infer(bigger)["OUTPUT0"], bigger)
    assert cuda.total - sum(m.nbytes for m in cuda.device_memory.values()) >= 0


def test_memory_stays_until_the_server_has_let_go_of_it(
    open_session: Open, cuda: FakeCuda, gpu_server: Relay
) -> None:
    """A request that was given up keeps its memory on the device until it is unregistered."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    transport: Any = session._transport
    inner = transport.infer
    transport.infer = _gives_up
    try:
        with pytest.raises(ServerTimeoutError):
            session.infer(INPUT0=ONES, INPUT1=ONES)
    finally:
        transport.infer = inner
    assert {r.state for r in session.regions} == {"quarantined"}
    assert len(cuda.device_memory) == 4  # not freed, and not used again
    assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2
    assert {r.state for r in session.regions} == {"registered"}
    assert len(cuda.device_memory) == 4


def in_use(*_arguments: Any) -> None:
    raise RegionInUseError("the region is currently in use")


def test_memory_that_a_server_keeps_is_left_to_the_end(
    open_session: Open, cuda: FakeCuda, gpu_server: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server still uses when a session closes, or after that, is never freed under it."""
    kept: list[Any] = []
    monkeypatch.setattr(regions, "_kept_for_good", kept)
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    transport: Any = session._transport
    there, go = threading.Event(), threading.Event()

    def infer(*_arguments: Any) -> Any:
        there.set()
        go.wait(30)
        raise ServerTimeoutError("no reply came in time")

    def late() -> None:
        with pytest.raises(ServerTimeoutError):
            session.infer(INPUT0=ONES, INPUT1=ONES)

    transport.infer = infer
    thread = threading.Thread(target=late)
    thread.start()
    there.wait(30)
    unregister, transport.unregister = transport.unregister, in_use
    session.close()  # it waits for two seconds
    assert len(cuda.device_memory) == 4
    go.set()
    thread.join()
    gc.collect()
    assert not cuda.freed_while_open
    assert len(cuda.device_memory) == len(kept) == 4
    for region in kept:  # as the server does some day
        unregister(region.name, "cuda")
        region.close()


def test_a_server_that_was_away_once_is_not_gone(
    open_session: Open, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused connection of long ago frees nothing that the server uses at the close."""
    kept: list[Any] = []
    monkeypatch.setattr(regions, "_kept_for_good", kept)
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    transport: Any = session._transport
    unregister = transport.unregister

    def away(*_arguments: Any) -> None:
        error = ServerUnreachableError("no Triton server answers: Connection refused")
        error.sent = False
        raise error

    transport.unregister = away
    session.unregister()
    transport.unregister = unregister
    assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2  # and it settles
    transport.unregister = in_use
    session.close()
    gc.collect()
    assert not cuda.freed_while_open
    assert len(cuda.device_memory) == len(kept) == 4
    for region in kept:
        unregister(region.name, "cuda")
        region.close()


def test_a_server_that_ended_keeps_no_memory(server: Any, cuda: FakeCuda, protocol: str) -> None:
    """When the server's process is gone, close() frees all that it had open."""
    with contextlib.ExitStack() as stack:
        gone = stack.enter_context(relay(server, cuda, grpc=True))
        session = tritonic_nb.Session(
            gone, "simple", load=True, shared_memory="cuda", protocol=protocol
        )
        session.infer(INPUT0=ONES, INPUT1=ONES)
        names = set(gone.registered)
        stack.pop_all().close()
    gone.restarted()
    session.close()
    gc.collect()
    assert not cuda.left()
    with tritonic_nb.Session(server) as other:  # the real one has them
        for name in names:
            other._transport.unregister(name)


def test_a_server_that_lets_go_later_is_believed_later(
    open_session: Open, cuda: FakeCuda, gpu_server: Relay
) -> None:
    """One that answers at once and lists a region until its request ends has it until then."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    transport: Any = session._transport
    listed = [{"name": region.name} for region in session.regions]
    inner = transport.registered_regions
    transport.registered_regions = lambda *_kind: listed
    session.unregister()
    assert len(cuda.device_memory) == 4
    assert {r.state for r in session.regions} == {"quarantined"}
    transport.registered_regions = inner
    session.unregister()
    assert not cuda.device_memory


def test_a_region_that_is_leaving_is_not_registered_again(
    open_session: Open, cuda: FakeCuda, gpu_server: Relay
) -> None:
    """Lent to a request whose registration was lost, a region goes once, and for good."""
    session = open_session("simple")
    session.inputs["INPUT0"][:] = 5
    session.inputs["INPUT1"][:] = 2
    assert session.infer()["OUTPUT0"][0, 0] == 7
    transport: Any = session._transport
    unregister = transport.unregister
    own = session._regions
    lent = [region for region in own._all() if region.direction == "input"]
    slot = own.slot()
    for region in lent:
        slot.borrow(region)

    def meanwhile(name: str, kind: Any) -> None:
        unregister(name, kind)
        slot.register_again(5.0)  # another thread, before this one hears of it

    transport.unregister = meanwhile
    session.unregister()
    transport.unregister = unregister
    assert not slot.regions
    assert not cuda.freed_while_open
    assert not gpu_server.registered
    gc.collect()
    assert not cuda.device_memory


def test_a_request_without_room_leaves_nothing_under_way(
    open_session: Open, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that gives its regions back for want of room writes no more to them."""
    session = open_session("simple")
    place = Slot.place
    waiting = threading.Event()
    answers: dict[str, int] = {}

    def no_room_once(self: Slot, need: Any, timeout_s: float) -> Any:
        first = threading.current_thread().name == "A" and not waiting.is_set()
        if first and need.tensor == "INPUT1":
            waiting.set()
            raise NoSpaceError("no room")
        return place(self, need, timeout_s)

    monkeypatch.setattr(Slot, "place", no_room_once)
    third = session._regions.slot()
    third.thread = -1  # another request, for which A waits
    place(third, Need("input", "other", 100, SharedMemoryType.CUDA, 1), 5)
    transport: Any = session._transport
    infer = transport.infer

    def late(request: Any, timeout_s: float) -> Any:
        cuda.cudaDeviceSynchronize()  # the device goes on with all that it was given
        return infer(request, timeout_s)

    transport.infer = late

    def ask(value: int) -> None:
        result = session.infer(INPUT0=value * ONES, INPUT1=ONES)
        answers[threading.current_thread().name] = int(result["OUTPUT0"][0, 0])

    a = threading.Thread(target=ask, args=(100,), name="A")
    a.start()
    assert waiting.wait(10)
    time.sleep(0.2)
    b = threading.Thread(target=ask, args=(1,), name="B")
    b.start()
    b.join(20)
    third.give_back()
    a.join(20)
    assert answers == {"A": 101, "B": 2}


def test_too_little_pinned_memory_is_waited_for_or_told(open_session: Open, cuda: FakeCuda) -> None:
    """Where the driver gives no more page-locked memory, that is told, and the next one works."""
    session = open_session("identity_fp32")
    big = np.ones((2048, 1024), np.float32)
    for nth in range(4):
        session.unregister()  # its idle staging too
        cuda.fail["cudaHostAlloc"] = (nth, real.cudaError_t.cudaErrorMemoryAllocation)
        with contextlib.suppress(NoSpaceError):
            session.infer(big)
        cuda.fail.pop("cudaHostAlloc", None)
        np.testing.assert_array_equal(session.infer(big)["OUTPUT0"], big)


def test_little_pinned_memory_is_kept(open_session: Open, cuda: FakeCuda) -> None:
    """After many requests at a time, staging for a few is kept, and none after a switch."""
    session = open_session("identity_fp32", in_flight=12)
    x = np.ones((100, 100), np.float32)
    assert len(list(session.map([x] * 60, progress=False))) == 60
    assert len(cuda.live_streams) <= 4
    session.set_shared_memory("none")
    session.infer(x)
    assert not cuda.left()


def test_where_cuda_broke_close_still_does_the_rest(
    open_session: Open, cuda: FakeCuda, gpu_server: Relay
) -> None:
    """After a fault on the device every call fails; close() unregisters all the same."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    broken = real.cudaError_t.cudaErrorIllegalAddress
    names = [name for name in vars(FakeCuda) if name.startswith("cuda")]
    cuda.fail.update(dict.fromkeys(names, broken))
    with pytest.raises(SharedMemoryError, match="restart the kernel|of no more use"):
        session.infer(INPUT0=ONES, INPUT1=ONES)
    session.close()
    cuda.fail.clear()
    assert session.closed
    assert not gpu_server.registered
    for pointer in list(cuda.device_memory):
        cuda.cudaFree(pointer)
    for pointer in list(cuda.pinned):
        cuda.cudaFreeHost(pointer)
    for stream in list(cuda.live_streams):
        cuda.cudaStreamDestroy(stream)
    for event in list(cuda.events):
        cuda.cudaEventDestroy(event)


def test_arrays_of_a_device_are_taken_where_they_are_given(
    open_session: Open, cuda: FakeCuda
) -> None:
    """Submit and map ask a library in the caller's thread, whose streams are those that count."""
    session = open_session("identity_fp32")
    x = np.random.default_rng(3).random((3, 5), np.float32)
    threads: list[str] = []

    class Watched(WithDlpack):
        def __dlpack__(self, **options: Any) -> Any:
            threads.append(threading.current_thread().name)
            return super().__dlpack__(**options)

    made = [Watched(n * x) for n in range(5)]
    here = threading.current_thread().name
    np.testing.assert_array_equal(session.submit(made[1]).result()["OUTPUT0"], x)
    np.testing.assert_array_equal(session.submit(INPUT0=made[2]).result()["OUTPUT0"], 2 * x)
    for n, result in enumerate(session.map(made, progress=False)):
        np.testing.assert_array_equal(result["OUTPUT0"], n * x)
    results = session.map([{"INPUT0": each} for each in made], progress=False)
    for n, result in enumerate(results):
        np.testing.assert_array_equal(result["OUTPUT0"], n * x)
    assert set(threads) == {here}
    for each in made:
        cuda.cudaFree(each.address)


def _gives_up(*_arguments: Any) -> Any:
    raise ServerTimeoutError("no reply came in time")


def test_a_server_that_lost_the_regions_gets_them_again(
    open_session: Open, gpu_server: Relay, transport: Any
) -> None:
    """After a restart of the server, its regions are registered anew, with what lies in them."""
    session = open_session("simple")
    session.inputs["INPUT0"][:] = 5
    session.inputs["INPUT1"][:] = 2
    assert session.infer()["OUTPUT0"][0, 0] == 7
    names = {r.name for r in session.regions}
    for name in names:
        transport.unregister(name)
        gpu_server.closed(name)
    assert session.infer()["OUTPUT0"][0, 0] == 7
    assert {r.name for r in session.regions} == names == set(gpu_server.registered)


def test_inputs_are_pinned_arrays(open_session: Open, cuda: FakeCuda) -> None:
    """session.inputs are arrays in page-locked memory, copied as they are when they are sent."""
    session = open_session("simple")
    array = session.inputs["INPUT0"]
    array[:] = 3
    session.inputs["INPUT1"][:] = 4
    assert cuda.pinned
    for n in range(3):
        array[0, 1] = n
        assert session.infer()["OUTPUT0"][0, :3].tolist() == [7, n + 4, 7]
    theirs = WithDlpack(9 * ONES)
    theirs.arrive()
    session.inputs["INPUT1"] = theirs
    assert session.infer()["OUTPUT0"][0, 0] == 12
    session.close()
    assert array[0, 0] == 3  # still there
    cuda.cudaFree(theirs.address)


def test_threads_have_streams_of_their_own(open_session: Open, cuda: FakeCuda) -> None:
    """Eight threads of different numbers get their own answers, of arrays and of views."""
    session = open_session("identity_fp32")
    wrong: list[Any] = []

    def work(seed: int) -> None:
        x = np.full((3, 1000 + seed), seed, np.float32)
        for n in range(15):
            result = session.infer(x, copy=bool(n % 2))["OUTPUT0"]
            if not np.array_equal(np.asarray(result), x):
                wrong.append((seed, n))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("step", ["cudaMemcpyAsync", "cudaStreamSynchronize", "cudaMalloc",
                                  "cudaIpcGetMemHandle", "cudaStreamCreateWithFlags",
                                  "cudaHostAlloc"])  # fmt: skip
def test_whichever_call_fails_the_session_goes_on(
    open_session: Open, cuda: FakeCuda, step: str
) -> None:
    """Each call of CUDA's in an inference may fail, first and later ones, and nothing is lost."""
    for nth in range(6):
        session = open_session("simple")
        cuda.fail[step] = (nth, real.cudaError_t.cudaErrorUnknown)
        with contextlib.suppress(SharedMemoryError):
            session.infer(INPUT0=ONES, INPUT1=ONES)
        cuda.fail.pop(step, None)
        result = session.infer(INPUT0=ONES, INPUT1=3 * ONES)
        assert result["OUTPUT0"][0, 0] == 4
        assert len(session.regions) == 4
        session.close()
        gc.collect()
        assert not cuda.left(), (step, nth)


def test_dead_sessions_regions_are_unregistered_by_the_next(
    open_session: Open, gpu_server: Relay, transport: Any, cuda: FakeCuda
) -> None:
    """What a killed kernel and a killed janitor left registered, the next session unregisters."""
    dead = "tritonic_nb-999999999-0123456789abcdef-INPUT0"
    address = cudart.allocate(0, 4096, "theirs", [])
    handle = cudart.ipc_handle(0, address, "theirs")
    with tritonic_nb.Session(gpu_server) as other:
        other._transport.register_cuda(dead, handle, 0, 4096, 10.0)
    assert dead in gpu_server.registered
    session = open_session("simple")
    assert "1 registered at the server" in repr(session)
    assert dead not in gpu_server.registered
    cuda.cudaFree(address)


KERNEL = """
import os, signal, sys
import numpy as np
import tritonic_nb
from tests.fake_cuda import FakeCuda, installed

class Address:
    url, grpc_url, headers = sys.argv[1], sys.argv[2], {sys.argv[4]: sys.argv[5]}

with installed(FakeCuda()):
    session = tritonic_nb.Session(
        Address, "simple", load=True, shared_memory="cuda", protocol=sys.argv[3]
    )
    x = np.ones((1, 16), np.int32)
    session.infer(INPUT0=x, INPUT1=x)
    print(*(region.name for region in session.regions), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_kernel_s_regions_are_unregistered(gpu_server: Relay, protocol: str) -> None:
    """The janitor of a killed kernel unregisters its CUDA regions, and removes their files."""
    ((name, value),) = gpu_server.headers.items()
    arguments = [gpu_server.url, gpu_server.grpc_url, protocol, name, value]
    done = subprocess.run(
        [sys.executable, "-c", KERNEL, *arguments],
        capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    names = set(done.stdout.split())
    assert len(names) == 4
    deadline = time.monotonic() + 20
    while names & set(gpu_server.registered) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not names & set(gpu_server.registered)
    assert not any((SHM_DIR / each).exists() for each in names)
    for path in SHM_DIR.glob("fake_gpu-*"):  # a driver would have freed them
        if not Path(f"/proc/{path.name.split('-')[1]}").exists():
            path.unlink()


def test_auto_takes_the_device_where_dev_shm_is_not_shared(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a device and a server that opens its memory, auto has a second best way."""
    from tritonic_nb.transport import HttpTransport

    reason = open_session("simple", shared_memory="auto").shared_memory_reason
    assert reason.startswith("system shared memory")

    def refuses(*_arguments: Any) -> None:
        raise RegionNotVisibleError("registering: unable to open shared memory region")

    monkeypatch.setattr(HttpTransport, "register_system", refuses)
    from tritonic_nb.transport.grpc import GrpcTransport

    monkeypatch.setattr(GrpcTransport, "register_system", refuses)
    session = open_session("simple", shared_memory="auto")
    assert session.shared_memory is SharedMemoryType.CUDA
    assert "opened a region of CUDA device 1" in session.shared_memory_reason
    assert "does not see this machine's /dev/shm" in session.shared_memory_reason
    assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2


def test_preflight_tells_the_device_s_memory(open_session: Open, cuda: FakeCuda) -> None:
    """What fits and what does not on a device is told with its figures, before anything is made."""
    session = open_session("identity_fp32")
    fits = session.preflight({"INPUT0": (1, MIB), "OUTPUT0": (1, MIB)})
    assert fits
    assert fits.device_nbytes == 8 * MIB
    assert (fits.device_free_nbytes, fits.device_total_nbytes) == (256 * MIB, 256 * MIB)
    too_much = session.preflight({"INPUT0": (1, 40 * MIB), "OUTPUT0": (1, 40 * MIB)})
    assert not too_much
    assert "CUDA device 1" in too_much.problems[0]
    assert "session.devices()" in too_much.remedy
    assert not cuda.device_memory
    asked = session.preflight(
        {"INPUT0": (1, MIB), "OUTPUT0": (1, MIB)}, shared_memory="cuda", device=9
    )
    assert "no CUDA device 9" in asked.problems[0]
