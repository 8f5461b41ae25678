"""The memory of a device: what is taken of it comes back, and what cannot be had says why."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from gpu_helpers import MIB, ByDlpack, ByInterface, same, sample

from tests.waiting import eventually
from tritonic_nb import Session
from tritonic_nb.errors import NoCudaDeviceError, NoSpaceError
from tritonic_nb.memory import cudart, device_memory, device_uuids
from tritonic_nb.monitoring import device_holders, devices

Open = Callable[..., Session]
MODEL = "identity_fp32_device"


def used_by_cuda() -> int:
    """Return what is taken of the first device's memory, as CUDA tells it."""
    free, total = device_memory(0)
    return total - free


def used_by_nvml() -> int:
    """Return the same as NVML tells it."""
    uuid = device_uuids()[0]
    found = devices(refresh=True)
    if not found:
        pytest.skip(found.explanation)
    used = next((each.used_nbytes for each in found if each.uuid == uuid), None)
    if used is None:
        pytest.skip(f"NVML does not tell the memory of device {uuid}")
    return used


@pytest.mark.parametrize("used", [used_by_cuda, used_by_nvml])
@pytest.mark.parametrize("kind", ["host", "device"])
def test_a_thousand_requests_take_no_more_than_twenty(
    open_session: Open, used: Callable[[], int], kind: str
) -> None:
    """Not of this process and not of the server: the whole device's memory is looked at."""
    array = sample("FP32", (10, 10_000))
    session = open_session(MODEL, shared_memory="cuda")
    session.register_outputs({"OUTPUT0": array.shape})
    given = array if kind == "host" else ByDlpack(array)
    for _ in range(20):
        session.infer(given, copy=kind == "host")
    before = used()
    for number in range(1000):
        result = session.infer(given, copy=kind == "host")
        if number % 100 == 0:
            assert same(result["OUTPUT0"], array)
    del result
    assert used() - before <= 2 * MIB


def test_a_session_gives_all_of_it_back(open_session: Open) -> None:
    """Regions, streams and blocks of ten sessions are gone with them."""
    array = np.ones((16, MIB // 4), np.float32)  # 16 MiB

    def one() -> None:
        with open_session(MODEL, shared_memory="cuda") as session:
            session.infer(array)
            session.inputs["INPUT0"] = array
            session.infer(copy=False)

    for _ in range(2):
        one()
    before = used_by_cuda()
    for _ in range(10):
        one()
    assert eventually(lambda: used_by_cuda() - before <= 2 * MIB, 5)


def test_too_little_memory_is_told_with_figures(open_session: Open) -> None:
    """What is needed and what is free; the session works on, with what it had."""
    session = open_session(MODEL, shared_memory="cuda")
    array = sample("FP32", (3, 100))
    session.infer(array)
    _, total = device_memory(0)
    columns = total // 4 + MIB
    with pytest.raises(NoSpaceError) as caught:
        session.register_inputs({"INPUT0": (1, columns)})
    found = re.search(
        r"needs (\d+) bytes .* of CUDA device 0, where (\d+) are free", str(caught.value)
    )
    assert found is not None, caught.value
    assert int(found[1]) >= 4 * columns
    assert 0 < int(found[2]) <= total
    assert same(session.infer(array)["OUTPUT0"], array)


def test_who_holds_the_memory_is_told(open_session: Open) -> None:
    """As far as NVML shows processes."""
    session = open_session(MODEL, shared_memory="cuda")
    session.infer(sample("FP32", (3, 100)))
    if not devices(refresh=True):
        pytest.skip(devices().explanation)
    if not device_holders(device_uuids()[0]):
        pytest.skip("NVML shows no processes here, as in a container")
    with pytest.raises(NoSpaceError, match=r"CUDA device 0 holds .* of (this )?process"):
        session.register_inputs({"INPUT0": (1, device_memory(0)[1] // 4 + MIB)})


def test_a_device_that_is_not_there_is_refused(open_session: Open) -> None:
    """With the numbers that there are; a session that is told to switch stays as it was."""
    count, _ = cudart.device_count()
    there = "0" if count == 1 else f"0 to {count - 1}"
    told = rf"no CUDA device 99.*sees {count}, numbered {there}"
    with pytest.raises(NoCudaDeviceError, match=told):
        open_session(MODEL, shared_memory="cuda", device=99)
    session = open_session(MODEL, shared_memory="cuda")
    with pytest.raises(NoCudaDeviceError, match=told):
        session.set_shared_memory("cuda", device=99)
    assert session.device == 0
    array = sample("FP32", (3, 100))
    assert same(session.infer(array)["OUTPUT0"], array)


def test_a_session_lists_the_devices(open_session: Open) -> None:
    """Name, UUID, memory and driver, and CUDA's number of the one in use."""
    session = open_session(MODEL, shared_memory="cuda")
    found = session.devices()
    if not found:
        pytest.skip(found.explanation)
    mine = next((each for each in found if each.cuda_index == 0), None)
    assert mine is not None, found
    assert mine.uuid == device_uuids()[0]
    assert mine.name
    assert mine.driver
    _, total = device_memory(0)
    if mine.total_nbytes is not None:
        # The driver keeps a part of it for itself.
        assert 0 <= mine.total_nbytes - total < mine.total_nbytes // 10
    assert mine.name in repr(found)


def test_preflight_counts_the_devices_memory(open_session: Open) -> None:
    """What fits and what does not, beforehand, with the device's figures."""
    session = open_session(MODEL, shared_memory="cuda")
    fits = session.preflight({"INPUT0": (1, MIB), "OUTPUT0": (1, MIB)})
    assert fits, fits
    assert fits.device_nbytes == 2 * 4 * MIB
    _, total = device_memory(0)
    assert fits.device_total_nbytes == total
    assert fits.device_free_nbytes is not None
    columns = total // 4 + MIB
    too_large = session.preflight({"INPUT0": (1, columns), "OUTPUT0": (1, columns)})
    assert not too_large
    assert any("needed on CUDA device 0" in problem for problem in too_large.problems)
    array = sample("FP32", (3, 100))
    assert same(session.infer(array)["OUTPUT0"], array)


def test_a_second_device(open_session: Open) -> None:
    """Regions lie there; arrays of either device go in; switching back brings them back."""
    count, _ = cudart.device_count()
    if count < 2:
        pytest.skip("this machine has one CUDA device")
    session = open_session("identity_fp32", shared_memory="cuda", device=1)
    array = sample("FP32", (30, 1000))
    session.register_outputs({"OUTPUT0": array.shape})
    for device in (1, 0, 1):
        session.set_shared_memory("cuda", device=device)
        session.register_outputs({"OUTPUT0": array.shape})
        for given in (array, ByDlpack(array, 0), ByInterface(array, 1)):
            result = session.infer(given, copy=False)["OUTPUT0"]
            assert result.device == device
            assert same(result, array)
            del result
        assert {region.device_id for region in session.regions} == {device}
