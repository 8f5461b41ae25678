"""A session goes on with another server: what it takes along, what it leaves, and what may fail."""

from __future__ import annotations

import gc
import json
import logging
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import TEST_GRPC_URL, TEST_URL, brief_server
from tests.hostile_server import Asked, reply, serving
from tests.model_folders import python_model
from tritonic_nb.errors import (
    ArgumentError,
    ModelNotFoundError,
    ModelNotReadyError,
    RestrictedApiError,
    ServerUnreachableError,
    SessionClosedError,
    TritonicError,
)
from tritonic_nb.memory import SharedMemoryType
from tritonic_nb.monitoring.events import EventRecord
from tritonic_nb.transport import Transport, connect

pytestmark = pytest.mark.skipif(
    bool(TEST_URL or TEST_GRPC_URL), reason="needs two servers of its own, not TRITONIC_NB_TEST_URL"
)

Open = Callable[..., tritonic_nb.Session]
SMALL = np.ones((4, 4), np.float32)
TOLD = {"name": "triton", "version": "2.60.0", "extensions": ["system_shared_memory"]}

# Tells which server it is, and hands back what it was given.
TELLER = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "GIVEN").as_numpy()
            same = pb_utils.Tensor("SAME", given)
            who = pb_utils.Tensor("WHO", np.array([NUMBER], np.int32))
            answers.append(pb_utils.InferenceResponse([same, who]))
        return answers
"""
TELLER_CONFIG = """
input [ { name: "GIVEN", data_type: TYPE_FP32, dims: [ -1 ] } ]
output [ { name: "SAME", data_type: TYPE_FP32, dims: [ -1 ] },
         { name: "WHO", data_type: TYPE_INT32, dims: [ 1 ] } ]
"""


@pytest.fixture(scope="module")
def first(server: Any, sleeper: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The server of all tests, number 1."""
    folder = tmp_path_factory.mktemp("first") / "teller"
    server.add("teller", python_model(folder, TELLER.replace("NUMBER", "1"), TELLER_CONFIG))
    return server


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Another one, number 2, with some of the models."""
    folder = tmp_path_factory.mktemp("second") / "teller"
    with brief_server(["identity_fp32"]) as server:
        server.add("teller", python_model(folder, TELLER.replace("NUMBER", "2"), TELLER_CONFIG))
        yield server


@pytest.fixture(scope="module")
def at_second(second: Any) -> Iterator[Transport]:
    """Triton's operations at the second server, outside of any session."""
    transport = connect(second.url, second.headers)
    yield transport
    transport.close()


@pytest.fixture(autouse=True)
def _nothing_left_at_second(at_second: Transport) -> Iterator[None]:
    """After each test the second server has no region of ours."""
    yield
    deadline = time.monotonic() + 10
    while (left := names_at(at_second)) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    assert not left


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    """What sessions speak at first."""
    return str(request.param)


def names_at(transport: Transport) -> set[str]:
    return {str(region["name"]) for region in transport.registered_regions()}


def names_of(session: tritonic_nb.Session) -> set[str]:
    return {region.name for region in session.regions}


def number(session: tritonic_nb.Session, value: float = 1.0, count: int = 8) -> int:
    """Infer, check that the answer is ours, and return which server gave it."""
    given = np.full(count, value, np.float32)
    result = session.infer(given)
    assert np.array_equal(result["SAME"], given)
    return int(result["WHO"].item())


def nobody() -> str:
    """Return an address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


# There and back


def test_to_another_server_and_back(
    first: Any, second: Any, open_session: Open, transport: Transport, at_second: Transport
) -> None:
    """Each server answers after the move to it, and has this session's regions, alone."""
    session = open_session("teller")
    assert [number(session, 1.5), number(session, 2.5)] == [1, 1]
    for server, here, there, expected in (
        (second, at_second, transport, 2),
        (first, transport, at_second, 1),
        (second, at_second, transport, 2),
    ):
        before = names_of(session)
        assert before
        assert session.connect(server) is session.model_info
        assert not before & (names_at(here) | names_at(there))
        assert session.regions == ()
        assert [number(session, 3.5, 5), number(session, 4.5, 500)] == [expected] * 2
        assert names_of(session)
        assert names_of(session) <= names_at(here)
        assert not names_of(session) & names_at(there)
        assert session.url in repr(session)
        url = server.url if session.protocol == "http" else server.grpc_url
        assert session.url.endswith(url.rpartition(":")[2])


def test_to_the_same_server(first: Any, open_session: Open, transport: Transport) -> None:
    """A move to where it is makes the connection anew; the regions of before are gone."""
    session = open_session("teller")
    number(session)
    before = names_of(session)
    session.connect(first)
    assert not before & names_at(transport)
    assert number(session) == 1


def test_between_the_protocols(first: Any, second: Any, open_session: Open) -> None:
    """The protocol stays, unless it or the address says another."""
    session = open_session("teller")
    was = session.protocol
    session.connect(second)
    assert (session.protocol, number(session)) == (was, 2)
    other = {"http": "grpc", "grpc": "http"}[was]
    session.connect(first, protocol=other)
    assert (session.protocol, number(session)) == (other, 1)
    session.connect(f"grpc://{second.grpc_url.split('//')[-1]}", headers=second.headers)
    assert (session.protocol, number(session)) == ("grpc", 2)
    session.connect(f"http://{second.url.split('//')[-1]}", headers=second.headers)
    assert (session.protocol, number(session)) == ("http", 2)


def test_with_another_model(first: Any, second: Any, open_session: Open) -> None:
    """A model can be chosen along with the server; the shapes of before are not mixed up."""
    session = open_session("teller")
    number(session)
    model = session.connect(second, "identity_fp32", version="1")
    assert (model.name, model.version) == ("identity_fp32", "1")
    assert np.array_equal(session.infer(SMALL)["OUTPUT0"], SMALL)
    assert session.connect(first, "teller") is session.model_info
    assert number(session) == 1


def test_a_session_without_a_model(first: Any, second: Any, open_session: Open) -> None:
    """Where none was in use, none is, and that is no reason for a warning."""
    session = open_session()
    assert session.connect(second) is None
    with pytest.raises(ArgumentError, match="no model is chosen\n"):
        session.model_info  # noqa: B018
    session.use("teller")
    assert number(session) == 2


def test_the_model_is_not_there(
    first: Any, second: Any, open_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the model the session is at the new server, and says why none is in use."""
    session = open_session("sleeper")
    record = EventRecord()
    session._events.start(record, lambda: None)
    with caplog.at_level(logging.WARNING, "tritonic_nb"):
        assert session.connect(second) is None
    assert "'sleeper'" in caplog.text
    with pytest.raises(ArgumentError, match="'sleeper'"):
        session.infer(SMALL)
    for shown in (repr(session), session._repr_html_()):
        assert "none: the server" in shown
    (switch,) = (e.text for e in record.events if e.kind == "switch")
    assert switch.startswith(f"server: {session.url}; no model is in use: ")
    assert "'sleeper'" in switch
    session.use("teller")
    assert "none:" not in repr(session)
    assert number(session) == 2


def test_a_model_that_is_not_loaded(first: Any, second: Any) -> None:
    """Models are loaded on demand as the new server was given, unless the session was told."""
    with tritonic_nb.Session(second) as session:
        session.unload("identity_fp32")
    with tritonic_nb.Session(first, "teller") as session:
        with pytest.raises(ModelNotReadyError):
            session.connect(second.url, "identity_fp32", headers=second.headers)
        assert number(session) == 1
        assert session.connect(second, "identity_fp32") is session.model_info
        session.unload("identity_fp32")
        session.connect(first, "teller")
    with tritonic_nb.Session(first, load=True) as session:
        session.connect(second.url, "identity_fp32", headers=second.headers)
        assert np.array_equal(session.infer(SMALL)["OUTPUT0"], SMALL)


# What fails leaves all as it was


def unreachable(_second: Any) -> dict[str, Any]:
    """Nobody listens."""
    return {"server": nobody()}


def no_such_model(second: Any) -> dict[str, Any]:
    """The server has no such model."""
    return {"server": second, "model": "no_such"}


def no_address(_second: Any) -> dict[str, Any]:
    """It is no address."""
    return {"server": "http://"}


def no_server(_second: Any) -> dict[str, Any]:
    """It is no server at all."""
    return {"server": object()}


def no_headers(second: Any) -> dict[str, Any]:
    """The headers are none."""
    return {"server": second, "headers": 7}


def no_protocol(second: Any) -> dict[str, Any]:
    """There is no such protocol."""
    return {"server": second, "protocol": "carrier pigeon"}


def no_model_name(second: Any) -> dict[str, Any]:
    """The model's name is none."""
    return {"server": second, "model": 7}


def restricted(second: Any) -> dict[str, Any]:
    """The server wants a header for its shared memory, which is asked for by name."""
    return {"server": second.url, "protocol": "http"}


def wrong_port(second: Any) -> dict[str, Any]:
    """Another protocol is spoken there."""
    return {"server": second.grpc_url.split("//")[-1], "protocol": "http"}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (unreachable, ServerUnreachableError),
        (no_such_model, ModelNotFoundError),
        (no_address, ArgumentError),
        (no_server, ArgumentError),
        (no_headers, ArgumentError),
        (no_protocol, ArgumentError),
        (no_model_name, ArgumentError),
        (restricted, RestrictedApiError),
        (wrong_port, ServerUnreachableError),
    ],
)
@pytest.mark.usefixtures("first")
def test_what_fails_changes_nothing(
    second: Any,
    open_session: Open,
    at_second: Transport,
    wrong: Callable[[Any], dict[str, Any]],
    error: type[TritonicError],
) -> None:
    """Server, model, regions and arrays are those of before, and nothing is at the other."""
    session = open_session("teller")
    session.register_inputs({"GIVEN": (3,)})
    array = session.inputs["GIVEN"]
    array[:] = 7
    session.infer()
    shown, there, url = repr(session), names_of(session), session.url
    with pytest.raises(error):
        session.connect(**wrong(second))
    assert (repr(session), names_of(session), session.url) == (shown, there, url)
    assert not names_at(at_second)
    assert session.inputs["GIVEN"] is array
    result = session.infer()
    assert (result["SAME"].sum(), result["WHO"].item()) == (21, 1)
    assert len(session._links) == 1
    assert session.connect(second) is session.model_info
    assert number(session) == 2


def test_a_kind_that_does_not_work_there(first: Any) -> None:
    """Shared memory that was asked for by name is tried; what does not have it is refused."""

    def answer(asked: Asked) -> bytes:
        if "sharedmemory" in asked.path:
            return reply(b'{"error": "failed to open shared memory region"}', 400)
        return reply(json.dumps({**TOLD, "extensions": []}).encode())

    with serving(answer) as (url, _):
        with tritonic_nb.Session(first, "teller", shared_memory="system") as session:
            with pytest.raises(TritonicError):
                session.connect(url)
            assert number(session) == 1
        with tritonic_nb.Session(first, "teller") as session:  # auto
            assert session.shared_memory is SharedMemoryType.SYSTEM
            assert session.connect(url) is None
            assert session.shared_memory is SharedMemoryType.NONE
            assert session.requested_shared_memory is SharedMemoryType.AUTO
            session.connect(first, "teller")
            assert session.shared_memory is SharedMemoryType.SYSTEM
            assert number(session) == 1


# Secrets


def test_headers_stay_with_their_server(first: Any) -> None:
    """No header of the old server is sent to the new one, and none of the new to the old."""

    def answer(asked: Asked) -> bytes:
        if asked.path == "/v2":
            return reply(json.dumps(TOLD).encode())
        return reply(b'{"error": "unknown"}', 400)

    with serving(answer) as (url, asked), serving(answer) as (other_url, other_asked):
        headers = {**first.headers, "X-Secret": "hunter2"}
        with tritonic_nb.Session(
            first.url, "teller", headers=headers, shared_memory="auto", load=True
        ) as session:
            number(session)
            session.connect(url)
            session.connect(other_url, headers={"X-Other": "swordfish"})
            with pytest.raises(TritonicError):
                session.connect(url, "teller", headers={"X-Third": "opensesame"})
            session.connect(first, "teller")
            assert number(session) == 1
    secrets = ["hunter2", *first.headers, *first.headers.values(), "swordfish", "opensesame"]
    heads, other_heads = ("".join(a.head for a in each) for each in (asked, other_asked))
    assert heads
    assert other_heads
    assert [s for s in secrets if s.lower() in heads.lower()] == ["opensesame"]
    assert [s for s in secrets if s.lower() in other_heads.lower()] == ["swordfish"]


# What is in flight, filled in place, or waits


def test_threads_infer_meanwhile(first: Any, second: Any, open_session: Open) -> None:
    """While the session goes to and fro, each inference has one server's answer, its own."""
    session = open_session("teller")
    stop = threading.Event()
    seen: list[set[int]] = [set() for _ in range(4)]
    wrong: list[str] = []

    def ask(thread: int) -> None:
        value = float(thread * 100_000)
        while not stop.is_set():
            value += 1
            given = np.full(1 + int(value) % 7, value, np.float32)
            try:
                result = session.infer(given)
            except TritonicError as error:
                wrong.append(repr(error))
                continue
            if not np.array_equal(result["SAME"], given):
                wrong.append(f"{given} became {result['SAME']}")
            seen[thread].add(int(result["WHO"].item()))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(12):
            time.sleep(0.05)
            session.connect((second, first)[turn % 2])
    finally:
        time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert set.union(*seen) == {1, 2}
    assert number(session) == 1


def test_arrays_are_filled_meanwhile(first: Any, second: Any, open_session: Open) -> None:
    """What is filled in place and sent comes back as it was, from one server or the other."""
    session = open_session("teller")
    stop = threading.Event()
    wrong: list[str] = []
    right = [0]

    def fill() -> None:
        value = 0.0
        while not stop.is_set():
            value += 1
            given = np.full(3, value, np.float32)
            try:
                session.inputs["GIVEN"] = given
                result = session.infer()
            except TritonicError as error:  # the arrays of before are not sent any more
                if "GIVEN" not in str(error) and "input" not in str(error):
                    wrong.append(repr(error))
                continue
            right[0] += 1
            if not np.array_equal(result["SAME"], given):
                wrong.append(f"{given} became {result['SAME']}")

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        for turn in range(10):
            time.sleep(0.05)
            session.connect((second, first)[turn % 2])
    finally:
        stop.set()
        thread.join()
    assert not wrong
    assert right[0] > 10


def test_a_long_inference_ends_with_the_old_server(
    first: Any, second: Any, open_session: Open, transport: Transport
) -> None:
    """The move waits no longer than some seconds; what takes longer is answered all the same."""
    session = open_session("sleeper")
    session.infer(np.array([0], np.float32))
    session.infer(np.array([0], np.float32))
    future = session.submit(np.array([4], np.float32))
    while not future.running():
        time.sleep(0.01)
    time.sleep(0.2)
    before = names_of(session)
    started = time.monotonic()
    session.connect(second, "teller")
    assert 1.5 < time.monotonic() - started < 3.5
    assert number(session) == 2
    assert before & names_at(transport)
    assert future.result(10)["SLEPT"].item() == 4
    assert not before & names_at(transport)


def test_what_was_submitted_and_waits(first: Any, second: Any, open_session: Open) -> None:
    """Inferences that wait for their turn go to the server of that time; no thread is lost."""
    session = open_session("teller", in_flight=1)
    futures = [session.submit(np.full(3, n, np.float32)) for n in range(200)]
    session.connect(second)
    futures += [session.submit(np.full(3, n, np.float32)) for n in range(20)]
    results = [future.result(30) for future in futures]
    assert [r["SAME"][0] for r in results] == [*range(200), *range(20)]
    who = [r["WHO"].item() for r in results]
    assert who == sorted(who)
    assert set(who[200:]) == {2}


def test_arrays_stay_readable_and_are_made_anew(
    first: Any, second: Any, open_session: Open, at_second: Transport
) -> None:
    """An array that was filled stays readable, is not sent, and the next lies at the new server."""
    session = open_session("teller")
    inputs = session.inputs
    inputs["GIVEN"] = np.full(3, 7, np.float32)
    array = inputs["GIVEN"]
    kept = session.infer(copy=False)
    kept = session.infer(copy=False)
    session.connect(second)
    assert array.sum() == kept["SAME"].sum() == 21
    array[:] = 9  # and writable, though nobody reads it
    with pytest.raises(TritonicError):
        session.infer()
    assert session.inputs is inputs
    inputs["GIVEN"] = np.full(2, 5, np.float32)
    result = session.infer()
    assert (result["SAME"].tolist(), result["WHO"].item()) == ([5, 5], 2)
    assert names_of(session) <= names_at(at_second)
    session.register_inputs({"GIVEN": (4,)})
    inputs["GIVEN"][:] = 1
    assert session.infer()["SAME"].sum() == 4


# The end


def test_a_forgotten_session_cleans_up_where_it_is(
    first: Any, second: Any, open_session: Open, transport: Transport, at_second: Transport
) -> None:
    """A session that is forgotten after a move leaves nothing at either server."""
    session = tritonic_nb.Session(first, "teller")
    number(session)
    session.connect(second)
    number(session)
    number(session)
    names = names_of(session)
    assert names <= names_at(at_second)
    gone = weakref.ref(session)
    url = session.url
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del session
        gc.collect()
    assert gone() is None
    assert any(url in str(each.message) for each in caught)
    assert not names & (names_at(transport) | names_at(at_second))


def test_the_old_server_is_let_go(first: Any) -> None:
    """A server that was given as an object is kept for as long as it is used, and no longer."""

    class Place:
        def __init__(self, server: Any) -> None:
            self.url, self.headers, self.pid = server.url, server.headers, server.pid

    place = Place(first)
    there = weakref.ref(place)
    with tritonic_nb.Session(place, "teller") as session, session.watch(show=False):
        del place
        gc.collect()
        assert there() is not None
        assert number(session) == 1
        session.connect(first)
        gc.collect()
        assert there() is None
        assert number(session) == 1


def test_a_recording_follows(first: Any, second: Any, open_session: Open) -> None:
    """What is recorded is of the server and the regions of the time, and the move is told."""
    session = open_session("teller")
    with session.watch(hz=10, show=False) as w:
        number(session)
        session.connect(second.url, headers=second.headers, protocol="http")
        number(session)
        number(session, count=100_000)
        number(session, count=100_000)
        time.sleep(0.4)
        assert session._events.watched
    assert w.peaks["region/input GIVEN"] >= 400_000
    switches = [event.text for event in w.events if event.kind == "switch"]
    assert switches == [f"server: {session.url}"]


def test_a_closed_session_goes_nowhere(second: Any, open_session: Open) -> None:
    """A session that was closed is not opened again by a move."""
    session = open_session("teller")
    session.close()
    with pytest.raises(SessionClosedError):
        session.connect(second)


def test_closed_in_the_middle_of_a_move(
    first: Any, open_session: Open, shm_names: Callable[[], set[str]]
) -> None:
    """A session that another thread closes while it moves stays closed, with nothing left."""
    session = open_session("teller")
    number(session)
    closed = threading.Event()

    def answer(asked: Asked) -> bytes:
        if not closed.is_set():
            session.close()
            closed.set()
        return reply(json.dumps({**TOLD, "extensions": []}).encode())

    with serving(answer) as (url, _):
        session.set_shared_memory("none")
        with pytest.raises(SessionClosedError):
            session.connect(url, protocol="http")
    assert session.closed
    assert [link.regions.closed for link in session._links] == [True]
    assert not shm_names()


# The old server is away


def test_the_old_server_is_gone(second: Any, protocol: str) -> None:
    """A session whose server has died goes on elsewhere, at once and without an error."""
    with brief_server(["identity_fp32"]) as server:
        session = tritonic_nb.Session(server, "identity_fp32", protocol=protocol)
        for _ in range(2):
            session.infer(SMALL)
    with session:
        started = time.monotonic()
        session.connect(second)
        assert time.monotonic() - started < 2
        assert np.array_equal(session.infer(SMALL)["OUTPUT0"], SMALL)
