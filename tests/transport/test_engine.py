"""The HTTP engine and its addresses."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from tests.conftest import TEST_URL
from tritonic_nb.errors import ArgumentError, ServerUnreachableError
from tritonic_nb.transport import HttpTransport, SSLOptions
from tritonic_nb.transport.address import base_url
from tritonic_nb.transport.base import Request
from tritonic_nb.transport.curl import CurlEngine
from tritonic_nb.transport.sockets import SocketEngine

READY = Request("GET", "v2/health/ready")
ENGINES = pytest.mark.parametrize("engine_of", [CurlEngine, SocketEngine])


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("localhost", "http://localhost:8000"),
        ("localhost:9", "http://localhost:9"),
        ("http://host", "http://host"),
        ("https://host:8443/triton/", "https://host:8443/triton"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("10.0.0.7:8000", "http://10.0.0.7:8000"),
    ],
)
def test_every_usual_form_of_an_address_is_taken(given: str, full: str) -> None:
    """Host, host:port and full addresses work; Triton's port is the default of the first."""
    assert base_url(given) == full


def test_options_mean_an_encrypted_connection() -> None:
    """With SSL options an address without a scheme is https, and http:// is a contradiction."""
    assert base_url("host:9", SSLOptions()) == "https://host:9"
    with pytest.raises(ArgumentError, match="HTTPS"):
        base_url("http://host:9", SSLOptions())


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "grpc://host:8001",
        "http://",
        "host:port",
        "a b:8000",
        "höst:8000",
        "host\0:8000",
        None,
        5,
    ],
)
def test_what_is_no_address_is_refused(bad: Any) -> None:
    """Anything else is our error with the forms that are taken."""
    with pytest.raises(ArgumentError, match="host:port"):
        base_url(bad)


@ENGINES
def test_a_password_in_an_address_is_not_shown(engine_of: Any) -> None:
    """An address with a password appears in errors without it."""
    engine = engine_of("http://me:hidden@127.0.0.1:9")
    with pytest.raises(ServerUnreachableError) as caught:
        engine.send(engine.write(READY), 1)
    assert "hidden" not in str(caught.value)
    with pytest.raises(ArgumentError) as refused:
        base_url("grpc://me:hidden@host")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    "headers",
    [{"a\r\nb": "c"}, {"a": "b\nc"}, {"": "x"}, {"a b": "c"}, {"a:b": "c"}, {5: "x"}, {"a": None},
     {"Content-Length": "5"}, {"transfer-encoding": "chunked"}, [("a", "b")], "a: b"],
)  # fmt: skip
def test_headers_cannot_smuggle_lines(headers: dict[str, str]) -> None:
    """A line break in a header is refused."""
    with pytest.raises(ArgumentError, match="header"):
        HttpTransport("localhost", headers)


@ENGINES
def test_no_proxy_for_this_machine(
    engine_of: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in the environment is not asked for loopback addresses."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    engine = engine_of(base_url(server if TEST_URL else server.url))
    assert engine.send(engine.write(READY), 5).status == 200
    engine.close()


def test_an_unencrypted_port_behind_https_is_told(server: Any) -> None:
    """TLS to a port that does not speak TLS is our error, not a hang."""
    address = server if TEST_URL else server.url
    with pytest.raises(ServerUnreachableError, match="https://"):
        HttpTransport(address, options=SSLOptions()).server_metadata()


@ENGINES
def test_connections_are_kept_and_shared_by_threads(engine_of: Any, server: Any) -> None:
    """Many threads can send at once; afterwards as many connections idle as were needed."""
    engine = engine_of(base_url(server if TEST_URL else server.url))
    statuses: list[int] = []

    def send() -> None:
        for _ in range(25):
            statuses.append(engine.send(engine.write(READY), 5).status)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 100
    assert 1 <= len(engine._kept) <= 4
    engine.close()


@ENGINES
def test_a_forked_child_does_not_use_its_parents_connections(engine_of: Any, server: Any) -> None:
    """A child process sends over its own connection, and the parent's goes on working."""
    engine = engine_of(base_url(server if TEST_URL else server.url))
    engine.send(engine.write(READY), 5)
    child = os.fork()
    if child == 0:
        os._exit(
            0 if engine.send(engine.write(READY), 5).status == 200 and len(engine._kept) == 1 else 1
        )
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert engine.send(engine.write(READY), 5).status == 200
    engine.close()


def test_unregistering_by_the_empty_name_is_refused(transport: HttpTransport) -> None:
    """The empty name, by which Triton unregisters everybody's regions, is never sent."""
    with pytest.raises(ArgumentError, match="needs a name"):
        transport.unregister("")
