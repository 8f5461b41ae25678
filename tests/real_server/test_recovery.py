"""What a session mends by itself: lost registrations, vanished files, a server that was away."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import TEST_URL, brief_server
from tests.test_cli import free_port
from tritonic_nb.errors import (
    ArgumentError,
    ModelNotReadyError,
    NoSpaceError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from tritonic_nb.memory import Space
from tritonic_nb.memory.shm_file import SHM_DIR

Open = Callable[..., tritonic_nb.Session]
ONES = np.ones((1, 16), np.int32)

own_server = pytest.mark.skipif(
    bool(TEST_URL), reason="needs a server of its own to add models to, not TRITONIC_NB_TEST_URL"
)


def test_a_region_that_somebody_unregistered_is_registered_again(
    open_session: Open, transport: Any
) -> None:
    """Whichever region the server lost, the next inference answers, through the same regions."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    names = [region.name for region in session.regions]
    for lost in (*([name] for name in names), names):
        for name in lost:
            transport.unregister(name)
        result = session.infer(INPUT0=3 * ONES, INPUT1=ONES)
        assert result["OUTPUT0"][0, 0] == 4
        assert [region.name for region in session.regions] == names


def test_a_file_that_vanished_is_no_loss(open_session: Open, transport: Any) -> None:
    """With files gone the mappings still work; when the server loses them too, new ones come."""
    session = open_session("simple")
    session.inputs["INPUT0"][:] = 5
    session.inputs["INPUT1"][:] = 2
    assert session.infer()["OUTPUT0"][0, 0] == 7
    names = {region.name for region in session.regions}
    for name in names:
        (SHM_DIR / name).unlink()
    assert session.infer()["OUTPUT0"][0, 0] == 7
    assert {region.name for region in session.regions} == names
    for name in names:
        transport.unregister(name)
    assert session.infer()["OUTPUT0"][0, 0] == 7  # with the inputs that were filled in place
    assert not names & {region.name for region in session.regions}


@own_server
def test_a_server_that_is_away_is_told_at_once_and_nothing_is_lost(
    protocol: str,
    shm_names: Callable[[], set[str]],
) -> None:
    """Nothing was sent, so the regions stay; a new server on the port answers through them."""
    port = free_port()
    ports: dict[str, Any] = {f"{protocol}_port": port}
    with brief_server(["simple"], protected=False, **ports):
        session = tritonic_nb.Session(f"127.0.0.1:{port}", "simple", load=True, protocol=protocol)
        session.inputs["INPUT0"][:] = 5
        session.inputs["INPUT1"][:] = 2
        session.infer()
        names = shm_names()
    started = time.monotonic()
    for _ in range(3):
        with pytest.raises(ServerUnreachableError):
            session.infer()
    assert time.monotonic() - started < 3
    with brief_server(protected=False, **ports):
        assert session.infer()["OUTPUT0"][0, 0] == 7  # the model was loaded on demand
        assert shm_names() == names
        session.close()
    assert not shm_names()


@own_server
def test_a_model_that_somebody_unloaded_is_loaded_on_demand(
    open_session: Open, transport: Any
) -> None:
    """With load=True the next inference brings it back; without, the error says how."""
    session = open_session("simple_int8")
    ones = np.ones((1, 16), np.int8)
    transport.unload_model("simple_int8")
    assert session.infer(INPUT0=ones, INPUT1=ones)["OUTPUT0"][0, 0] == 2
    careful = open_session("simple_int8", load=False)
    transport.unload_model("simple_int8")
    with pytest.raises(ModelNotReadyError, match="load"):
        careful.infer(INPUT0=ones, INPUT1=ones)


@own_server
def test_requests_of_several_threads_are_in_flight_together(
    sleeper: str, open_session: Open
) -> None:
    """While one thread waits for a slow request, another's is sent, with regions of its own."""
    session = open_session(sleeper)
    session.infer(np.array([0], np.float32))
    slept = []
    slow = threading.Thread(
        target=lambda: slept.append(session.infer(np.array([1], np.float32))["SLEPT"].item())
    )
    slow.start()
    time.sleep(0.3)
    with pytest.raises(ServerTimeoutError):  # it was sent, and waits for the model's one instance
        session.infer(np.array([0.5], np.float32), timeout=0.2)
    assert slow.is_alive()
    states = sorted(region.state for region in session.regions)
    assert states == ["quarantined", "quarantined", "registered", "registered"]
    slow.join()
    assert slept == [1]
    assert session.infer(np.array([0.25], np.float32))["SLEPT"].item() == 0.25


@own_server
def test_what_a_given_up_request_used_is_let_go_by_itself(
    sleeper: str, open_session: Open, transport: Any
) -> None:
    """After a timeout and close() the regions stay registered only until the request has ended."""
    session = open_session(sleeper)
    session.infer(np.array([0], np.float32))
    with pytest.raises(ServerTimeoutError):
        session.infer(np.array([4], np.float32), timeout=0.3)
    names = {region.name for region in session.regions if region.state == "quarantined"}
    assert len(names) == 2
    session.close()
    deadline = time.monotonic() + 40  # the janitor gives a server that does not answer some time
    while names & {region["name"] for region in transport.registered_regions()}:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_regions_have_the_mode_that_was_asked_for(open_session: Open, mode: int) -> None:
    """0600 unless asked, whatever the umask says."""
    before = os.umask(0o077)
    try:
        session = open_session("simple", mode=mode)
        session.infer(INPUT0=ONES, INPUT1=ONES)
    finally:
        os.umask(before)
    for region in session.regions:
        assert (SHM_DIR / region.name).stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize("mode", [0o400, 0o700, 0o1666, -1, "0600", None, 0.5])
def test_a_mode_that_is_none_for_a_region_is_refused(open_session: Open, mode: Any) -> None:
    """Regions are read and written by their owner, and nobody runs them."""
    with pytest.raises(ArgumentError, match="mode"):
        open_session("simple", mode=mode)


@own_server
def test_auto_goes_over_the_wire_when_a_new_server_refuses_regions(protocol: str) -> None:
    """A server that comes back without shared memory for us is no end: tensors go by wire."""
    port = free_port()
    ports: dict[str, Any] = {f"{protocol}_port": port}
    with brief_server(["simple"], protected=False, **ports):
        session = tritonic_nb.Session(
            f"127.0.0.1:{port}", "simple", shared_memory="auto", protocol=protocol
        )
        assert session.infer(INPUT0=ONES, INPUT1=ONES).shared_nbytes == 256
    with brief_server(["simple"], **ports), session:
        result = session.infer(INPUT0=ONES, INPUT1=ONES)
        assert result["OUTPUT0"][0, 0] == 2
        assert result.shared_nbytes == 0
        assert "restricted" in repr(session)


def test_a_live_session_whose_files_vanished_is_left_alone(
    open_session: Open, transport: Any
) -> None:
    """Another session does not take it for a dead one: its registrations stay."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    names = {region.name for region in session.regions}
    for name in names:
        (SHM_DIR / name).unlink()
    open_session("identity_fp32").infer(np.ones((2, 2), np.float32))
    assert names <= {region["name"] for region in transport.registered_regions()}
    assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2


def limited_to(nbytes: int) -> Callable[[], Space]:
    """Return what tells of a /dev/shm that has room for so many bytes of our regions."""

    def told() -> Space:
        free = nbytes
        for path in SHM_DIR.glob(f"tritonic_nb-{os.getpid()}-*"):
            with contextlib.suppress(FileNotFoundError):  # another thread removes one meanwhile
                free -= path.stat().st_size
        return Space(max(0, free), nbytes, 10**12, "the machine's memory")

    return told


def test_requests_wait_for_one_another_where_there_is_no_room_for_more(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for one and a half requests, those of six threads are all answered."""
    session = open_session("identity_uint8")
    monkeypatch.setattr("tritonic_nb.memory.shm_file.host_space", limited_to(12_000_000))
    failed: list[BaseException] = []

    def ask(number: int) -> None:
        try:
            for _ in range(5):
                array = np.full((1000, 4000), number, np.uint8)
                assert np.array_equal(session.infer(array)["OUTPUT0"], array)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@own_server
def test_waiting_for_room_keeps_the_time_limit(
    sleeper: str, open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two who wait for a slow third give up in their own time, with the figures."""
    session = open_session(sleeper)
    monkeypatch.setattr("tritonic_nb.memory.shm_file.host_space", limited_to(2 * 4096))
    slow = threading.Thread(target=session.infer, args=(np.array([2.5], np.float32),))
    slow.start()
    time.sleep(0.3)
    took: list[float] = []

    def wait() -> None:
        started = time.monotonic()
        with pytest.raises(NoSpaceError, match="needs"):
            session.infer(np.array([0], np.float32), timeout=0.4)
        took.append(time.monotonic() - started)

    waiting = [threading.Thread(target=wait) for _ in range(2)]
    for thread in waiting:
        thread.start()
    for thread in (*waiting, slow):
        thread.join()
    assert len(took) == 2
    assert max(took) < 1.5  # and not as long as the slow one
    assert session.infer(np.array([0], np.float32))["SLEPT"].item() == 0
