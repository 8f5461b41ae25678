"""What a server has registered, whose it is, and what is removed: one tensor's, or the dead's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.conftest import BOTH, TEST_URL, place_of
from tests.hostile_server import Asked, reply, serving
from tritonic_nb import RegionDescriptor, Session, SharedMemoryType
from tritonic_nb.errors import (
    ArgumentError,
    RestrictedApiError,
    SessionClosedError,
    TensorNameError,
)
from tritonic_nb.memory.shm_file import KEY_PREFIX, SHM_DIR
from tritonic_nb.monitoring.events import EventRecord

Open = Callable[..., Session]
ONES = np.ones((1, 16), np.int32)
own_server = pytest.mark.skipif(
    bool(TEST_URL), reason="the server of TRITONIC_NB_TEST_URL has no such model, or keeps nothing"
)


@pytest.fixture
def dead_pid() -> int:
    """A process id whose process has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


@pytest.fixture
def orphan(transport: Any, dead_pid: int) -> Iterator[str]:
    """A region whose owner is dead, with its file, registered at the server."""
    name = f"{KEY_PREFIX}{dead_pid}-{os.urandom(8).hex()}-x"
    path = SHM_DIR / name
    path.write_bytes(bytes(4096))
    transport.register_system(name, f"/{name}", 4096, 10.0)
    yield name
    transport.unregister(name)
    path.unlink(missing_ok=True)


@pytest.fixture
def foreign(transport: Any) -> Iterator[str]:
    """A region of another client, which is no tritonic_nb."""
    name = f"somebody_{os.getpid()}"
    path = SHM_DIR / name
    path.write_bytes(bytes(8192))
    transport.register_system("their_region", f"/{name}", 8192, 10.0)
    yield "their_region"
    transport.unregister("their_region")
    path.unlink()


# What the session is asked about itself


@BOTH
def test_a_session_tells_its_server_and_protocol(open_session: Open, address: Any) -> None:
    """The address is the transport's own, and can be given to another session."""
    session = open_session("simple")
    again = Session(session.url, headers=getattr(address, "headers", {}), protocol=session.protocol)
    with again:
        assert again.url == session.url
        assert again.protocol == session.protocol
        assert again.server_regions() == session.server_regions()


def test_no_password_is_told_with_the_address(server: Any) -> None:
    """The password of an address is not shown."""
    place = place_of(server, "http")
    place["server"] = f"http://me:hunter2@{place['server'].removeprefix('http://')}"
    with Session(**place) as session:
        assert "hunter2" not in session.url


def test_a_session_tells_what_was_asked_for(open_session: Open) -> None:
    """What was asked for is told beside what came of it, for inputs and outputs."""
    session = open_session("simple", shared_memory="auto", output_shared_memory="none")
    assert session.requested_shared_memory is SharedMemoryType.AUTO
    assert session.shared_memory is SharedMemoryType.SYSTEM
    assert session.requested_output_shared_memory is SharedMemoryType.NONE
    session.set_shared_memory("system", output="auto")
    assert session.requested_shared_memory is SharedMemoryType.SYSTEM
    assert session.requested_output_shared_memory is SharedMemoryType.AUTO
    with pytest.raises(AttributeError):
        session.requested_shared_memory = SharedMemoryType.NONE  # type: ignore[misc]


# One tensor's regions


@BOTH
def test_one_tensors_regions_go(open_session: Open, transport: Any) -> None:
    """The regions of one tensor go, here and at the server, and all else stays as it is."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    before = {region.name: region.tensor for region in session.regions}
    session.unregister("INPUT1")
    after = {region.name for region in session.regions}
    assert after == {name for name, tensor in before.items() if tensor != "INPUT1"}
    registered = {each["name"] for each in transport.registered_regions()}
    assert set(before) & registered == after
    assert np.array_equal(session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"], 2 * ONES)
    assert after < {region.name for region in session.regions}


@pytest.mark.parametrize("named", [lambda region: region.name, lambda region: region])
def test_one_region_goes(
    open_session: Open, named: Callable[[RegionDescriptor], str | RegionDescriptor]
) -> None:
    """One region goes by its name, or as it was described; a second time it is not there."""
    session = open_session("identity_fp32")
    session.infer(np.ones((2, 2), np.float32))  # now the size of the output is known
    kept = session.infer(np.ones((2, 2), np.float32), copy=False)
    session.infer(np.ones((2, 2), np.float32))  # another output's region
    outputs = [region for region in session.regions if region.direction == "output"]
    assert len(outputs) == 2
    session.unregister(named(outputs[0]))
    assert outputs[0].name not in {region.name for region in session.regions}
    assert outputs[1].name in {region.name for region in session.regions}
    assert kept["OUTPUT0"].sum() == 4
    with pytest.raises((ArgumentError, TensorNameError)) as caught:
        session.unregister(named(outputs[0]))
    assert "OUTPUT0" in str(caught.value)


def test_a_tensor_without_a_region_has_nothing_to_lose(open_session: Open) -> None:
    """A tensor of the model that has no region yet is no error."""
    session = open_session("simple")
    session.unregister("INPUT0")
    assert session.regions == ()


def test_the_array_of_one_input_is_not_sent_any_more(open_session: Open) -> None:
    """An array stays readable when its region goes, and the others stay what is sent."""
    session = open_session("simple")
    first, second = session.inputs["INPUT0"], session.inputs["INPUT1"]
    first[:], second[:] = 3, 4
    session.unregister("INPUT0")
    assert first.sum() == 3 * 16
    assert [region.tensor for region in session.regions] == ["INPUT1"]
    assert session.inputs["INPUT1"] is second
    assert session.inputs["INPUT0"] is not first
    session.inputs["INPUT0"][:] = 5
    assert np.all(session.infer()["OUTPUT0"] == 9)


@own_server
def test_a_request_in_flight_keeps_its_region(
    sleeper: str, open_session: Open, transport: Any
) -> None:
    """A request in flight is answered rightly, and its region goes when it has ended."""
    session = open_session(sleeper)
    future = session.submit(np.array([0.7], np.float32))
    while not any(region.direction == "output" for region in session.regions):
        assert not future.done()
    during = {region.name for region in session.regions if region.tensor == "SECONDS"}
    session.unregister("SECONDS")
    assert during == {region.name for region in session.regions if region.tensor == "SECONDS"}
    assert future.result(30)["SLEPT"].item() == np.float32(0.7)
    assert not during & {region.name for region in session.regions}
    assert not during & {each["name"] for each in transport.registered_regions()}


@pytest.mark.parametrize("wrong", ["INPUT7", "", "tritonic_nb-1-2-3", "INPUT0\n"])
def test_a_name_that_nothing_has(open_session: Open, wrong: str) -> None:
    """A name that no tensor and no region has is refused, with those that there are."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    with pytest.raises(TensorNameError) as caught:
        session.unregister(wrong)
    assert "INPUT0, INPUT1, OUTPUT0, OUTPUT1" in str(caught.value)
    assert len(session.regions) == 4


@pytest.mark.parametrize("wrong", [7, b"INPUT0", ["INPUT0"], True])
def test_what_is_no_name_at_all(open_session: Open, wrong: Any) -> None:
    """What is neither a name nor a region is an error of ours."""
    with pytest.raises(ArgumentError):
        open_session("simple").unregister(wrong)


# What the server has


@BOTH
def test_whose_the_servers_regions_are(
    open_session: Open, transport: Any, orphan: str, foreign: str
) -> None:
    """Each region that the server has is told with its owner, and all of them are told."""
    ours, other = open_session("simple"), open_session("identity_fp32")
    # A session clears what is dead when it is opened.
    (SHM_DIR / orphan).write_bytes(bytes(4096))
    transport.register_system(orphan, f"/{orphan}", 4096, 10.0)
    ours.infer(INPUT0=ONES, INPUT1=ONES)
    other.infer(np.ones((2, 2), np.float32))
    listed = {region.name: region for region in ours.server_regions()}
    assert set(listed) == {each["name"] for each in transport.registered_regions()}
    for region in ours.regions:
        told = listed[region.name]
        assert (told.owner, told.pid) == ("this session", os.getpid())
        assert (told.key, told.nbytes, told.kind) == (region.key, region.nbytes, region.kind)
        assert told.device_id is None
    for region in other.regions:
        told = listed[region.name]
        assert (told.owner, told.pid) == ("another session", os.getpid())
        assert "this process" in told.owner_text
    assert listed[orphan].owner == "orphan"
    assert (listed[foreign].owner, listed[foreign].pid) == ("somebody else", None)
    assert listed[foreign].nbytes == 8192
    text, html = repr(ours.server_regions()), ours.server_regions()._repr_html_()
    for shown in (text, html):
        for word in (orphan, "their_region", "somebody else", "1 of dead sessions"):
            assert word in shown


def test_a_session_of_another_process_is_told_with_it(server: Any, open_session: Open) -> None:
    """A session that lives in another process is told with its process id, and is left alone."""
    place = place_of(server, "http")
    program = (
        "import json, sys, numpy, tritonic_nb\n"
        "place = json.loads(sys.argv[1])\n"
        "session = tritonic_nb.Session(**place, model='identity_fp32', load=True)\n"
        "session.infer(numpy.ones((2, 2), numpy.float32))\n"
        "print(json.dumps([region.name for region in session.regions]), flush=True)\n"
        "sys.stdin.read()\n"
        "session.close()\n"
    )
    command = [sys.executable, "-c", program, json.dumps(place)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        names = json.loads(process.stdout.readline())
        session = open_session("simple")
        listed = {region.name: region for region in session.server_regions()}
        assert {(listed[n].owner, listed[n].pid) for n in names} == {
            ("another session", process.pid)
        }
        assert not session.clear_leftovers()
        process.communicate("")
    assert process.returncode == 0
    assert not {region.name for region in session.server_regions()} & set(names)


@own_server
def test_a_server_that_keeps_it_to_itself(server: Any) -> None:
    """Where the server demands a header for it, that is said."""
    with Session(server.url, shared_memory="none") as session, pytest.raises(RestrictedApiError):
        session.server_regions()


def test_what_a_hostile_server_says_of_its_regions() -> None:
    """Whatever a server says of its regions, it is a listing or an error of ours."""
    regions = [
        {"name": "<script>", "key": 7, "byte_size": "many"},
        {"name": f"{KEY_PREFIX}{'9' * 30}-{'0' * 16}-x", "key": None, "byte_size": -1},
        {},
    ]

    about = {"name": "triton", "version": "2.60.0", "extensions": []}

    def answer(asked: Asked) -> bytes:
        said = regions if "sharedmemory" in asked.path else about
        return reply(json.dumps(said).encode())

    with serving(answer) as (url, _), Session(url, shared_memory="none") as session:
        listed = session.server_regions()
        assert len(listed) == 6
        assert "<script>" not in listed._repr_html_()


# The dead


@BOTH
def test_the_dead_are_cleared(
    open_session: Open,
    transport: Any,
    orphan: str,
    foreign: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What dead sessions left is cleared, told once, and told to those who watch; all else stays.

    Who asks for it gets it as a result, and no warning besides.
    """
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    assert not session.clear_leftovers()  # opening it cleared what was there
    (SHM_DIR / orphan).write_bytes(bytes(4096))
    transport.register_system(orphan, f"/{orphan}", 4096, 10.0)
    record = EventRecord()
    session._events.start(record, lambda: None)
    caplog.clear()
    cleared = session.clear_leftovers()
    assert cleared.files == {orphan: 4096}
    assert cleared.registered == {orphan: "system"}
    assert [(event.kind, event.nbytes) for event in record.events] == [("unregister", 4096)]
    assert "cleared" not in caplog.text
    assert not (SHM_DIR / orphan).exists()
    names = {each["name"] for each in transport.registered_regions()}
    assert orphan not in names
    assert {foreign, *(region.name for region in session.regions)} <= names
    assert not session.clear_leftovers()


@own_server
def test_a_server_that_keeps_it_to_itself_has_files_cleared(
    server: Any, transport: Any, orphan: str
) -> None:
    """Where the server does not tell what it has, files of the dead are cleared all the same."""
    with Session(server.url, shared_memory="none") as session:
        cleared = session.clear_leftovers()
    assert (set(cleared.files), cleared.registered) == ({orphan}, {})
    assert orphan in {each["name"] for each in transport.registered_regions()}


def test_a_closed_session_lists_and_clears_nothing(open_session: Open) -> None:
    """A session that was closed says so."""
    session = open_session("simple")
    session.close()
    for call in (session.server_regions, session.clear_leftovers, lambda: session.unregister("x")):
        with pytest.raises(SessionClosedError):
            call()  # type: ignore[operator]
