"""The engine over plain sockets: which addresses it serves, and replies of every kind."""

from __future__ import annotations

import signal
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.hostile_server import reply, serving
from tritonic_nb.errors import ServerTimeoutError, ServerUnreachableError
from tritonic_nb.transport.address import SSLOptions
from tritonic_nb.transport.base import Reply, Request
from tritonic_nb.transport.curl import CurlEngine
from tritonic_nb.transport.engine import open_engine
from tritonic_nb.transport.sockets import SocketEngine

POST = Request("POST", "v2/models/m/infer", {}, b"x")


def exchange(url: str, request: Request = POST, timeout_s: float = 5.0) -> Reply:
    """Send one request over an engine of its own."""
    engine = SocketEngine(url)
    try:
        return engine.send(engine.write(request), timeout_s)
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("url", "proxy", "engine"),
    [
        ("http://127.0.0.1:8000", "", SocketEngine),
        ("http://127.0.0.1:8000", "http://127.0.0.1:9", SocketEngine),
        ("http://localhost:8000", "", SocketEngine),
        ("http://10.0.0.7:8000", "", SocketEngine),
        ("http://10.0.0.7:8000", "http://127.0.0.1:9", CurlEngine),
        ("http://[::1]:8000", "", SocketEngine),
        ("http://host:8000", "", CurlEngine),
        ("https://127.0.0.1:8000", "", CurlEngine),
    ],
)
def test_sockets_serve_plain_addresses(
    url: str, proxy: str, engine: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is encrypted, has a name to resolve, or a proxy, is libcurl's; loopback has none."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if proxy:
        monkeypatch.setenv("http_proxy", proxy)
    opened = open_engine(url, {}, SSLOptions() if url.startswith("https") else None)
    assert type(opened) is engine
    opened.close()


@pytest.mark.parametrize("nbytes", [0, 1, 100_000, 3_000_000])
def test_a_reply_of_any_size_is_read_whole(nbytes: int) -> None:
    """Replies smaller and larger than a piece, whole and in pieces."""
    body = bytes(range(256)) * (nbytes // 256) + b"x" * (nbytes % 256)
    with serving(lambda _: reply(body, Other="Value")) as (url, _):
        got = exchange(url)
    assert got.body == body
    assert (got.status, got.headers["other"]) == (200, "Value")
    halves = [reply(body)[:20], reply(body)[20:]]
    with serving(lambda _: halves) as (url, _):
        assert exchange(url).body == body


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + reply(b"hello"),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + reply(b"hello"),
    ],
)
def test_replies_in_forms_that_a_proxy_may_choose(said: bytes) -> None:
    """Chunks, and announcements before the reply itself."""
    with serving(lambda _: said) as (url, requests):
        engine = SocketEngine(url)
        for _ in range(2):
            assert engine.send(engine.write(POST), 5).body == b"hello"
        assert [asked.connection for asked in requests] == [1, 1]
        engine.close()


def test_a_reply_without_a_length_ends_with_its_connection() -> None:
    """And the next request goes over another one."""
    with serving(lambda _: b"HTTP/1.1 200 OK\r\n\r\nhello", keep=False) as (url, requests):
        engine = SocketEngine(url)
        for _ in range(2):
            assert engine.send(engine.write(POST), 5).body == b"hello"
        assert [asked.connection for asked in requests] == [1, 2]
        engine.close()


@pytest.mark.parametrize("more", [b"junk", reply(b"unasked")])
def test_what_follows_a_reply_is_nobodys_answer(more: bytes) -> None:
    """A server that says more than it was asked loses its connection, not the reply."""
    with serving(lambda asked: reply(b"%d" % asked.number) + more) as (url, requests):
        engine = SocketEngine(url)
        assert [engine.send(engine.write(POST), 5).body for _ in range(3)] == [b"0", b"1", b"2"]
        assert [asked.connection for asked in requests] == [1, 2, 3]
        engine.close()


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00",
        b"<html>",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ws\r\n\r\n",
    ],
)
def test_what_is_not_http_is_told(said: bytes) -> None:
    """Another service's greeting is our error, with the port that Triton has."""
    with (
        serving(lambda _: said) as (url, _),
        pytest.raises(ServerUnreachableError, match=r"not HTTP(.|\n)*8000") as caught,
    ):
        exchange(url)
    assert caught.value.sent


def test_a_head_without_an_end_is_given_up() -> None:
    """A server that sends headers for ever fills no memory."""
    line = b"X-Filler: " + b"x" * 1000 + b"\r\n"

    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n"
        for _ in range(1000):
            yield line

    with serving(lambda _: endless()) as (url, _), pytest.raises(ServerUnreachableError):
        exchange(url)


def test_a_connection_that_ends_within_a_reply_is_told() -> None:
    """Half a reply is none, and nothing is sent again."""
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    with serving(lambda _: said, keep=False) as (url, requests):
        with pytest.raises(ServerUnreachableError, match="closed the connection") as caught:
            exchange(url)
        assert len(requests) == 1
    assert caught.value.sent


@contextmanager
def refusing_early(said: bytes, *, hang_up: bool) -> Iterator[str]:
    """Run a server that reads a little of one request, answers, and perhaps hangs up."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(said)
                if not hang_up:
                    done.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        thread.join()


@pytest.mark.parametrize("hang_up", [True, False])
@pytest.mark.parametrize("attached", [False, True])
def test_a_refusal_before_all_was_sent_is_read(hang_up: bool, attached: bool) -> None:
    """A server that takes no large bodies says so before it has read one."""
    many = bytes(50_000_000)
    path = "v2/models/m/infer"
    large = Request("POST", path, {}, b"{}", len(many)) if attached else replace(POST, body=many)
    with refusing_early(reply(b'{"error": "too large"}', 413), hang_up=hang_up) as url:
        engine = SocketEngine(url)
        got = engine.send(engine.write(large), 5, [many] if attached else [])
        assert len(engine._kept) == 0  # the rest of the request is still owed on that connection
        engine.close()
    assert (got.status, got.body) == (413, b'{"error": "too large"}')


def test_short_time_limits_hold() -> None:
    """A limit that is shorter than the steps of a wait is kept, and so is one while sending."""
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes connections, reads nothing
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for request in (POST, Request("POST", "x", {}, bytes(50_000_000))):
            begun = time.monotonic()
            with pytest.raises(ServerTimeoutError, match=r"within 0\.05 s"):
                exchange(url, request, 0.05)
            assert time.monotonic() - begun < 2


def test_signals_do_not_put_off_a_time_limit() -> None:
    """A handler that is called again and again interrupts the wait, and lengthens it not."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            begun = time.monotonic()
            with pytest.raises(ServerTimeoutError):
                exchange(f"http://127.0.0.1:{listener.getsockname()[1]}", POST, 0.3)
            assert time.monotonic() - begun < 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_idle_connection_keeps_no_reply() -> None:
    """The memory of a large reply is the caller's alone."""
    said = reply(bytes(3_000_000))
    with serving(lambda _: said) as (url, _):
        engine = SocketEngine(url)
        message = engine.write(POST)
        engine.send(message, 5)
        tracemalloc.start()
        try:
            engine.send(message, 5)
            assert tracemalloc.get_traced_memory()[0] < 1_000_000
        finally:
            tracemalloc.stop()
        engine.close()


def test_headers_of_ones_own_replace_those_of_the_engine() -> None:
    """In whichever case they are written, and each is sent once."""
    engine = SocketEngine("http://me:secret@localhost:9/triton", {"HOST": "elsewhere", "X-Y": "z"})
    message = engine.write(Request("POST", "v2", {"x-y": "w"}, b"body"))
    lines = message.decode().split("\r\n")
    assert lines == [
        "POST /triton/v2 HTTP/1.1",
        "HOST: elsewhere",
        "Authorization: Basic bWU6c2VjcmV0",
        "x-y: w",
        "Content-Length: 4",
        "",
        "body",
    ]
