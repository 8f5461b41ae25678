"""A request is sent again only where that can do nothing twice."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.hostile_server import Asked, reply, serving
from tritonic_nb.errors import ArgumentError, ServerBusyError, ServerUnreachableError
from tritonic_nb.transport import Transport, connect
from tritonic_nb.transport.base import InferRequest
from tritonic_nb.transport.retries import Retries

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


@pytest.mark.parametrize("busy", [BUSY, reply(b"busy", 503)])
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


@pytest.mark.parametrize("most", [-1, 1.5, "3", True])
def test_another_number_is_refused(most: Any) -> None:
    """With what to give."""
    with pytest.raises(ArgumentError, match="give a whole number from 0 to 100"):
        Retries(most)
