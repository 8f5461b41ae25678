"""Servers that break the protocol, or the connection."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.hostile_server import reply, serving
from tritonic_nb.errors import (
    ArgumentError,
    ServerRefusedError,
    ServerTimeoutError,
    ServerUnreachableError,
    TritonicError,
)
from tritonic_nb.transport import HttpTransport, InferRequest, RequestedOutput
from tritonic_nb.transport.base import Request
from tritonic_nb.transport.curl import CurlEngine
from tritonic_nb.transport.sockets import SocketEngine

INFER = InferRequest("m", "", [], [RequestedOutput("o")])
POST = Request("POST", "v2/models/m/infer", {}, b"x")
ENGINES = pytest.mark.parametrize("engine_of", [CurlEngine, SocketEngine])


def binary(sizes: list[object], nbytes: int) -> bytes:
    """Return a reply with tensors of one number each, which tells their sizes."""
    outputs = [
        {
            "name": f"o{i}",
            "datatype": "FP32",
            "shape": [1],
            "parameters": {"binary_data_size": size},
        }
        for i, size in enumerate(sizes)
    ]
    head = json.dumps({"outputs": outputs}).encode()
    return reply(head + bytes(nbytes), Inference_Header_Content_Length=str(len(head)))


@ENGINES
def test_a_request_is_never_sent_twice(engine_of: Any) -> None:
    """A server that hangs up instead of a reply gets the request once, on a kept connection too."""
    with serving(lambda asked: None if asked.number else reply(b"{}")) as (url, requests):
        engine = engine_of(url)
        engine.send(engine.write(POST), 5)
        with pytest.raises(ServerUnreachableError, match="closed the connection before it ans"):
            engine.send(engine.write(POST), 5)
        assert len(requests) == 2
        engine.close()


@ENGINES
@pytest.mark.parametrize(("keep", "connections"), [(True, [1] * 4), (False, [1, 2, 3, 4])])
def test_connections_are_kept_and_replaced(
    engine_of: Any, keep: bool, connections: list[int]
) -> None:
    """One connection serves all requests; one that the server ended is replaced in time."""
    with serving(lambda _: reply(b"{}"), keep=keep) as (url, requests):
        engine = engine_of(url)
        for _ in range(4):
            assert engine.send(engine.write(POST), 5).status == 200
            time.sleep(0.05)  # for the server to hang up
        assert [asked.connection for asked in requests] == connections
        engine.close()


@pytest.mark.parametrize(
    "said",
    [
        reply(b""),
        reply(b"hello"),
        reply(b"[1]"),
        reply(b"{}", Inference_Header_Content_Length="abc"),
        reply(b"{}", Inference_Header_Content_Length="-1"),
        reply(b"{}", Inference_Header_Content_Length="99"),
        *(
            reply(json.dumps({"outputs": outputs}).encode())
            for outputs in (
                None,
                [1],
                [{}],
                [{"name": "o", "datatype": "FP32", "shape": [-1], "data": [1]}],
                [{"name": "o", "datatype": "FP32", "shape": [1.5], "data": [1]}],
                [{"name": "o", "datatype": "FP32", "shape": [3], "data": [1]}],
                [{"name": "o", "datatype": "FP99", "shape": [1], "data": ["x"]}],
                [{"name": "o", "datatype": "INT8", "shape": [1], "data": ["x"]}],
                [{"name": "o", "datatype": "INT8", "shape": [1], "data": [300]}],
                [{"name": "o", "datatype": "INT8", "shape": [1], "data": [1.5]}],
                [{"name": "o", "datatype": "INT8", "shape": [1], "data": ["1"]}],
                [{"name": "o", "datatype": "FP32", "shape": [1], "data": [1e300]}],
                [{"name": "o", "datatype": "FP32", "shape": [2**64, 0], "data": []}],
                [{"name": 5, "datatype": "FP32", "shape": [1], "data": [1]}],
                [{"name": "o", "datatype": "FP32", "shape": [1], "data": [1]}] * 2,
            )
        ),
        reply(b'{"outputs": ' + b"[" * 50_000),
        *(
            binary(sizes, nbytes)
            for sizes, nbytes in (
                ([-4], 8),
                ([4, -4], 4),
                ([3], 3),
                ([8], 8),
                ([4], 8),
                ([4], 3),
                ([2**40], 4),
                (["4"], 4),
                ([4.0], 4),
            )
        ),
    ],
)
def test_a_reply_that_breaks_the_protocol_is_our_error(said: bytes) -> None:
    """Whatever comes back, the caller sees an error of this package."""
    with serving(lambda _: said) as (url, _):
        transport = HttpTransport(url)
        with pytest.raises(ServerRefusedError, match="cannot be read"):
            transport.infer(transport.prepare(INFER), 5)
        transport.close()


@pytest.mark.parametrize(
    "said",
    [b"[1]", b"{}", b"null", b"<html>", b"[" * 50_000, b'{"version": "\\ud800"}', b"\xff\xfe"],
)
def test_control_replies_that_break_the_protocol_are_our_errors(said: bytes) -> None:
    """The same for descriptions and lists."""
    with serving(lambda _: reply(said)) as (url, _):
        transport = HttpTransport(url)
        for call in (transport.server_metadata, transport.repository_index):
            with pytest.raises(TritonicError):
                call()
        transport.close()


@ENGINES
def test_a_slow_drip_is_a_timeout(engine_of: Any) -> None:
    """A server that never finishes its reply is given up after the time limit."""
    with serving(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx") as (url, _):
        engine = engine_of(url)
        with pytest.raises(ServerTimeoutError, match=r"0\.3 s"):
            engine.send(engine.write(POST), 0.3)
        engine.close()


def test_a_redirect_is_not_followed() -> None:
    """A reply that points elsewhere is no Triton, and nobody else is asked."""
    said = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    with serving(lambda _: said) as (url, requests):
        transport = HttpTransport(url)
        with pytest.raises(ServerUnreachableError, match="is not Triton: HTTP 302"):
            transport.infer(transport.prepare(INFER), 5)
        assert len(requests) == 1
        transport.close()


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 2000, "\ud800", None, 5, b"m"])
def test_a_name_that_is_none_is_not_sent(name: Any) -> None:
    """Of ".." an address would make another one, and Triton is silent to one that is too long."""
    with serving(lambda _: reply(b"{}")) as (url, requests):
        transport = HttpTransport(url)
        for call in (transport.model_metadata, transport.load_model, transport.unload_model):
            with pytest.raises(ArgumentError, match="no name of a model"):
                call(name)
        if name:  # without one the server chooses
            with pytest.raises(ArgumentError, match="no name of a version"):
                transport.model_ready("m", name)
        assert not requests
        transport.close()


@pytest.mark.parametrize(
    "given",
    [{"request_id": "\ud800"}, {"request_id": object()}, {"parameters": {1: 2}},
     {"parameters": [(1, 2, 3)]}, {"parameters": {"a": 10**5000}}, {"priority": {1}}],
)  # fmt: skip
def test_a_request_that_cannot_be_written_is_told(given: dict[str, Any]) -> None:
    """Values that JSON does not have, and names that are none."""
    with serving(lambda _: reply(b"{}")) as (url, requests):
        transport = HttpTransport(url)
        with pytest.raises(ArgumentError, match="cannot be written"):
            transport.infer(transport.prepare(replace(INFER, **given)), 5)
        assert not requests
        transport.close()


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_that_answers_for_the_server(status: int) -> None:
    """Its error is no reply: the server may still be at it, and no memory is used again."""
    body = b'{"error": "upstream request timeout"}'
    with serving(lambda _: reply(body, status)) as (url, _):
        transport = HttpTransport(url)
        with pytest.raises(ServerUnreachableError, match=f"gateway.*HTTP {status}") as caught:
            transport.infer(transport.prepare(InferRequest("m", "", [], [])), 5.0)
        transport.close()
    assert caught.value.sent
