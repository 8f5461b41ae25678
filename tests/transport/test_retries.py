"""A request is sent again only where that can do nothing twice."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import TEST_URL
from tests.hostile_server import Asked, reply, serving
from tests.model_folders import python_model
from tritonic_nb.errors import (
    ArgumentError,
    ServerBusyError,
    ServerRefusedError,
    ServerUnreachableError,
)
from tritonic_nb.memory import SharedMemoryType
from tritonic_nb.regions import Need, RegionSet
from tritonic_nb.transport import Transport, connect, http
from tritonic_nb.transport.base import InferRequest
from tritonic_nb.transport.curl import CurlEngine
from tritonic_nb.transport.retries import Retries
from tritonic_nb.transport.sockets import SocketEngine

TENSORS = """max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
STEPS = """step [
  { model_name: "FIRST" model_version: -1
    input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "between" } },
  { model_name: "LAST" model_version: -1
    input_map { key: "INPUT0" value: "between" } output_map { key: "OUTPUT0" value: "OUTPUT0" } }
]"""
ECHO = """import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        given = [pb_utils.get_input_tensor_by_name(each, "INPUT0") for each in requests]
        tensors = [pb_utils.Tensor("OUTPUT0", each.as_numpy()) for each in given]
        return [pb_utils.InferenceResponse([each]) for each in tensors]
"""
METADATA = reply(b'{"name": "triton", "version": "2.51.0", "extensions": []}')
ANSWER = reply(b'{"model_name": "m", "model_version": "1", "outputs": []}')
BUSY = reply(b"slow down", 429, Retry_After="0")
REQUEST = InferRequest("m", "", (), ())


@contextmanager
def transport_to(*replies: bytes | None, retries: int) -> Iterator[tuple[Transport, list[Asked]]]:
    """Talk to a server that gives these replies, one after the other; None hangs up."""
    with serving(lambda asked: replies[min(asked.number, len(replies) - 1)]) as (url, asked):
        transport = connect(url, retries=retries)
        yield transport, asked
        transport.close()


def reset(reason: str) -> bytes:
    """Return what Envoy says of a connection to the server that failed, or ended."""
    words = f"upstream connect error or disconnect/reset before headers. reset reason: {reason}"
    return reply(words.encode(), 503)


@pytest.mark.parametrize(
    "busy",
    [
        BUSY,
        reply(b'{"error": "rate limit"}', 429),
        reply(b"busy", 503, Retry_After="0"),
        reply(b"busy", 503, Retry_After="Mon, 30 Nov 2026 19:00:00 GMT"),
        reply(b"<html><h1>503 Service Temporarily Unavailable</h1>", 503),
        reply(b"no healthy upstream", 503),
        reset("overflow"),
        reset("remote connection failure, transport failure reason: refused"),
        reply(b'{"error": "[request id: <id_unknown>] Exceeds maximum queue size"}', 503),
    ],
)
def test_a_busy_gateway_is_asked_again(busy: bytes) -> None:
    """Until it lets an inference through, which it did not do with the others."""
    with transport_to(busy, busy, ANSWER, retries=2) as (transport, asked):
        assert transport.infer(transport.prepare(REQUEST), 10).model == "m"
        assert len(asked) == 3


def test_it_ends_with_how_often_it_was_tried() -> None:
    """And with the last error."""
    with transport_to(BUSY, retries=2) as (transport, asked):
        with pytest.raises(ServerBusyError, match=r"^after 3 attempts: .* HTTP 429, 'slow down'"):
            transport.infer(transport.prepare(REQUEST), 10)
        assert len(asked) == 3


def test_without_retries_nothing_is_sent_twice() -> None:
    """The default."""
    with transport_to(BUSY, ANSWER, retries=0) as (transport, asked):
        with pytest.raises(ServerBusyError, match=r"pass Session\(\.\.\., retries=5\)"):
            transport.infer(transport.prepare(REQUEST), 10)
        assert len(asked) == 1


def test_an_inference_that_may_have_begun_is_not_sent_again() -> None:
    """A connection that ends after the request went is an error; a mere question is repeated."""
    with transport_to(None, ANSWER, retries=5) as (transport, asked):
        with pytest.raises(ServerUnreachableError, match="closed the connection"):
            transport.infer(transport.prepare(REQUEST), 10)
        assert len(asked) == 1
    with transport_to(None, METADATA, retries=5) as (transport, asked):
        assert transport.server_metadata()["version"] == "2.51.0"
        assert len(asked) == 2


@pytest.mark.parametrize(
    "said",
    [
        reset("connection termination"),
        reset("remote reset"),
        reply(b"headers. retried and the latest reset reason: connection failure", 503),
        reply(b"Error 503 Backend fetch failed", 503, Retry_After="5"),
        reply(b"unavailable", 503),
        reply(b"bad gateway", 502),
        reply(b'{"error": "timeout"}', 504),
        reply(b"in vain", 504, Content_Encoding="gzip"),
    ],
)
def test_a_gateway_that_may_have_passed_it_on_ends_it(said: bytes) -> None:
    """The server may still be at it: it is not asked twice, and no memory is used again."""
    with transport_to(said, ANSWER, retries=5) as (transport, asked):
        with pytest.raises(ServerUnreachableError, match="may or may not have done it") as caught:
            transport.infer(transport.prepare(REQUEST), 10)
        assert caught.value.sent
        assert len(asked) == 1


@pytest.mark.parametrize(
    "said", [reply(b"<html>elsewhere</html>", 404), reply(b"", 302), b"\0garbage\r\n\r\n"]
)
@pytest.mark.parametrize("engine", [CurlEngine, SocketEngine])
def test_what_is_no_triton_is_asked_once(
    said: bytes, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another web server at the address does not become one by waiting."""
    monkeypatch.setattr(http, "open_engine", lambda url, headers, _: engine(url, headers))
    with transport_to(said, METADATA, retries=5) as (transport, asked):
        with pytest.raises(ServerUnreachableError):
            transport.server_metadata()
        assert len(asked) == 1


@pytest.mark.parametrize("ask", ["repository_index", "registered_regions"])
def test_a_question_is_repeated_whatever_its_method(ask: str) -> None:
    """Triton's list of models is had by POST, and changes nothing."""
    with transport_to(None, reply(b"[]"), retries=5) as (transport, asked):
        assert getattr(transport, ask)() == []
        assert len(asked) == 2


def test_whether_a_model_is_ready_is_not_told_by_a_gateway() -> None:
    """A busy one is asked again, and its error is no "not ready"."""
    with transport_to(BUSY, reply(b""), retries=1) as (transport, asked):
        assert transport.model_ready("m")
        assert len(asked) == 2
    for said, error in ((BUSY, ServerBusyError), (reply(b"", 502), ServerUnreachableError)):
        with transport_to(said, retries=0) as (transport, _), pytest.raises(error):
            transport.model_ready("m")
    with transport_to(reply(b"", 400), retries=0) as (transport, _):
        assert not transport.model_ready("m")


def test_a_busy_gateway_does_not_choose_the_wire() -> None:
    """What "auto" finds out holds for the whole session: an error instead, to try it again."""
    extensions = b'{"name": "t", "version": "2", "extensions": ["system_shared_memory"]}'
    with (
        serving(lambda asked: reply(extensions) if asked.path == "/v2" else BUSY) as (url, _),
        pytest.raises(ServerBusyError),
    ):
        tritonic_nb.Session(url)


def test_a_region_stays_owed_while_a_gateway_is_busy() -> None:
    """That is no refusal of the server's, after some of which it would be forgotten."""
    busy = True

    def answer(asked: Asked) -> bytes:
        return BUSY if busy and asked.path.endswith("/unregister") else reply(b"")

    with serving(answer) as (url, asked):
        transport = connect(url)
        regions = RegionSet(transport)
        with regions.slot() as slot:
            slot.place(Need("input", "x", 64, SharedMemoryType.SYSTEM), 5)
        assert not regions.retire_all()
        assert not any(regions.settle() for _ in range(5))
        busy = False
        assert regions.settle()
        regions.close()
        transport.close()
    assert [each.path.endswith("/unregister") for each in asked] == [False] + 7 * [True]


def test_a_session_whose_server_is_gone_closes_at_once() -> None:
    """To unregister is not tried again: the janitor does that."""
    own = tritonic_nb.serve(progress=None)
    session = own.session(model="simple_int8", shared_memory="system", retries=20)
    x = np.ones((1, 16), np.int8)
    session.infer(INPUT0=x, INPUT1=x)
    own.stop(0.0)
    started = time.monotonic()
    session.close()
    assert time.monotonic() - started < 1


@pytest.mark.skipif(bool(TEST_URL), reason="needs a server of its own to add models to")
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_ensemble_whose_later_step_is_full_runs_once(
    server: Any, tmp_path: Path, protocol: str
) -> None:
    """Its first step has run by then: the error is told, and nothing runs twice."""
    first, last, both = (f"{name}_{protocol}" for name in ("first", "last", "both"))
    queue = "dynamic_batching { default_queue_policy { max_queue_size: 1 } }\n"
    server.add(first, python_model(tmp_path / first, ECHO, TENSORS))
    slow = ECHO.replace("return", "time.sleep(0.5); return")
    server.add(last, python_model(tmp_path / last, slow, TENSORS + queue))
    (tmp_path / both / "1").mkdir(parents=True)
    steps = STEPS.replace("FIRST", first).replace("LAST", last)
    (tmp_path / both / "config.pbtxt").write_text(
        f'name: "{both}"\nplatform: "ensemble"\n{TENSORS}ensemble_scheduling {{ {steps} }}\n'
    )
    for name in (first, last):
        server.session(model=name).close()  # loads it
    server.add(both, tmp_path / both)
    x = np.ones((1, 4), np.float32)

    with server.session(
        model=both, protocol=protocol, shared_memory="none", retries=5, in_flight=6
    ) as session:
        errors = [future.exception() for future in [session.submit(x) for _ in range(6)]]
        (counted,) = session._transport.model_statistics(first)
    told = [error for error in errors if error is not None]
    assert 0 < len(told) < 6
    assert {type(error) for error in told} == {ServerRefusedError}
    assert all("retries= does not send it again" in str(error) for error in told)
    assert int(counted["inference_count"]) == 6


def test_the_time_limit_holds_for_all_attempts() -> None:
    """A pause that would outlast it is not begun."""
    late = reply(b"later", 503, Retry_After="3600")
    with transport_to(late, retries=5) as (transport, asked):
        started = time.monotonic()
        with pytest.raises(ServerBusyError, match="HTTP 503"):
            transport.infer(transport.prepare(REQUEST), 20)
        assert time.monotonic() - started < 5
        assert len(asked) == 1


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_that_comes_up_meanwhile_is_found(protocol: str) -> None:
    """Nothing listened: nothing was sent, and a session waits for the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    def start_later() -> tritonic_nb.Server:
        time.sleep(0.5)
        return tritonic_nb.serve(protected=False, progress=None, **{f"{protocol}_port": port})

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(start_later)
        with tritonic_nb.Session(
            f"127.0.0.1:{port}", "simple_int8", load=True, shared_memory="none",
            protocol=protocol, retries=20,
        ) as session:  # fmt: skip
            x = np.ones((1, 16), np.int8)
            assert (session.infer(INPUT0=x, INPUT1=x)["OUTPUT0"] == 2).all()
        coming.result().stop(0.0)


@pytest.mark.parametrize("most", [-1, 1.5, "3", True, 101])
def test_another_number_is_refused(most: Any) -> None:
    """With what to give."""
    with pytest.raises(ArgumentError, match="give a whole number from 0 to 100"):
        Retries(most)
