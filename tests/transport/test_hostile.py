"""Servers that break the protocol, or the connection."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tritonic_nb.errors import (
    ServerRefusedError,
    ServerTimeoutError,
    ServerUnreachableError,
    TritonicError,
)
from tritonic_nb.transport import HttpTransport, InferRequest, RequestedOutput
from tritonic_nb.transport.base import Request
from tritonic_nb.transport.engine import CurlEngine

INFER = InferRequest("m", "", [], [RequestedOutput("o")])
POST = Request("POST", "v2/models/m/infer", {}, b"x")

# What the server does with the n-th request: bytes to answer with, or None to hang up.
Answer = Callable[[int], bytes | None]


def reply(body: bytes, **headers: str) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body)]
    lines += [f"{name.replace('_', '-')}: {value}".encode() for name, value in headers.items()]
    return b"\r\n".join([*lines, b"", body])


@contextmanager
def serving(answer: Answer, *, keep: bool = True) -> Iterator[tuple[str, list[int]]]:
    """Run a server on loopback that answers as it is told, and perhaps hangs up after each reply.

    Gives its address, and for each request it got the number of its connection.
    """
    requests: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def connection(peer: socket.socket, number: int) -> None:
            with peer:
                while peer.recv(65536):
                    requests.append(number)
                    said = answer(len(requests) - 1)
                    if said is None:
                        return
                    peer.sendall(said)
                    if not keep:
                        return

        def accept() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                thread = threading.Thread(target=connection, args=(peer, len(threads)))
                thread.start()
                threads.append(thread)

        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def test_a_request_is_never_sent_twice() -> None:
    """A server that hangs up instead of a reply gets the request once, on a kept connection too."""
    with serving(lambda n: reply(b"{}") if n == 0 else None) as (url, requests):
        engine = CurlEngine(url)
        engine.send(POST, 5)
        with pytest.raises(ServerUnreachableError, match="closed the connection before it ans"):
            engine.send(POST, 5)
        assert len(requests) == 2
        engine.close()


@pytest.mark.parametrize(("keep", "connections"), [(True, [1] * 4), (False, [1, 2, 3, 4])])
def test_connections_are_kept_and_replaced(keep: bool, connections: list[int]) -> None:
    """One connection serves all requests; one that the server ended is replaced in time."""
    with serving(lambda _: reply(b"{}"), keep=keep) as (url, requests):
        engine = CurlEngine(url)
        for _ in range(4):
            assert engine.send(POST, 5).status == 200
            time.sleep(0.05)  # for the server to hang up
        assert requests == connections
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
            )
        ),
    ],
)
def test_a_reply_that_breaks_the_protocol_is_our_error(said: bytes) -> None:
    """Whatever comes back, the caller sees an error of this package."""
    with serving(lambda _: said) as (url, _):
        transport = HttpTransport(url)
        with pytest.raises(ServerRefusedError, match="cannot be read"):
            transport.infer(INFER, 5)
        transport.close()


@pytest.mark.parametrize("said", [b"[1]", b"{}", b"null", b"<html>"])
def test_control_replies_that_break_the_protocol_are_our_errors(said: bytes) -> None:
    """The same for descriptions and lists."""
    with serving(lambda _: reply(said)) as (url, _):
        transport = HttpTransport(url)
        for call in (transport.server_metadata, transport.repository_index):
            with pytest.raises(TritonicError):
                call()
        transport.close()


def test_a_slow_drip_is_a_timeout() -> None:
    """A server that never finishes its reply is given up after the time limit."""
    with serving(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx") as (url, _):
        engine = CurlEngine(url)
        with pytest.raises(ServerTimeoutError, match=r"0\.3 s"):
            engine.send(POST, 0.3)
        engine.close()


def test_a_redirect_is_not_followed() -> None:
    """A reply that points elsewhere is no Triton, and nobody else is asked."""
    said = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    with serving(lambda _: said) as (url, requests):
        transport = HttpTransport(url)
        with pytest.raises(ServerUnreachableError, match="is not Triton: HTTP 302"):
            transport.infer(INFER, 5)
        assert len(requests) == 1
        transport.close()
