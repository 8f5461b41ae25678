"""One address for several servers: each connection goes to the next."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import TEST_URL
from tritonic_nb.errors import RegionLostError
from tritonic_nb.transport.http import HttpTransport

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(bool(TEST_URL), reason="it takes two servers of ours")


@pytest.fixture(scope="module")
def servers() -> Iterator[list[tritonic_nb.Server]]:
    """Two, open to whoever reaches them."""
    with (
        tritonic_nb.serve(["identity_fp32"], protected=False, progress=None) as one,
        tritonic_nb.serve(["identity_fp32"], protected=False, progress=None) as other,
    ):
        yield [one, other]


@contextmanager
def balancer(targets: list[str]) -> Iterator[str]:
    """Give an address whose connections go to the targets in turn."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.far_host", *targets],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_wire_is_taken_and_nothing_left(
    servers: list[tritonic_nb.Server], protocol: str
) -> None:
    """`auto` finds out, shared memory by name is refused, and all servers get work."""
    targets = [each.url if protocol == "http" else each.grpc_url for each in servers]
    with (
        balancer(targets) as address,
        tritonic_nb.Session(address, "identity_fp32", protocol=protocol) as session,
    ):
        assert session.shared_memory == "none"
        assert "leads to more than one server" in session.shared_memory_reason
        items = [np.full((1, 1000), number, np.float32) for number in range(40)]
        results = list(session.map(items, in_flight=4, progress=False))
        assert [int(result["OUTPUT0"][0, 0]) for result in results] == list(range(40))
        session.set_shared_memory("system")
        with pytest.raises(RegionLostError, match="use shared_memory='none'"):
            session.connect(address, "identity_fp32", protocol=protocol)
    for each in servers:
        with each.session() as session:
            assert session.server_regions() == ()
            (told,) = session._transport.model_statistics("identity_fp32")
            assert int(told["inference_stats"]["success"]["count"]) > 5


def test_a_balancer_that_takes_no_turns_is_found_out(servers: list[tritonic_nb.Server]) -> None:
    """Several connections in a row may lead to the same server."""
    one, other = (each.url for each in servers)
    with balancer([*[one] * 5, other]) as address, tritonic_nb.Session(address) as session:
        assert session.shared_memory == "none"
        assert "leads to more than one server" in session.shared_memory_reason
    for each in servers:
        with each.session() as session:
            assert session.server_regions() == ()


def test_an_interrupt_while_it_is_found_out_leaves_nothing(
    servers: list[tritonic_nb.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The region goes from whichever server has it, and not only from the next one."""
    listing = HttpTransport.registered_regions

    def interrupted(self: HttpTransport, *kind: Any) -> Any:
        listing(self, *kind)
        raise KeyboardInterrupt

    with balancer([each.url for each in servers]) as address:
        monkeypatch.setattr(HttpTransport, "registered_regions", interrupted)
        for _ in range(2):  # whichever is next
            with pytest.raises(KeyboardInterrupt):
                tritonic_nb.Session(address, "identity_fp32")
        monkeypatch.undo()
    for each in servers:
        with each.session() as session:
            assert session.server_regions() == ()


@contextmanager
def gateway(target: str, status: int, document: bytes) -> Iterator[str]:
    """Give an address that leads to a server, but where this answers who asks for its regions."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.endswith("sharedmemory/status"):
                self.answer(status, document)
                return
            inner = http.client.HTTPConnection(target, timeout=30)
            try:
                inner.request(self.command, self.path, body)
                reply = inner.getresponse()
                self.answer(reply.status, reply.read())
            finally:
                inner.close()

        def answer(self, code: int, content: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

        do_GET = do_POST = handle_any  # noqa: N815 - their names

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_gateway_that_bars_the_list_bars_no_shared_memory(
    servers: list[tritonic_nb.Server],
) -> None:
    """What cannot be asked is no sign of a second server: the region was opened."""
    denied = b'{"error": "this API is restricted, expecting header \'x\'"}'
    with (
        gateway(servers[0].url.rpartition("/")[2], 403, denied) as address,
        tritonic_nb.Session(address) as session,
    ):
        assert session.shared_memory == "system"


def test_a_server_that_lists_nothing_is_not_called_several(
    servers: list[tritonic_nb.Server],
) -> None:
    """The wire is taken, and the reason tells what was seen and no more."""
    with (
        gateway(servers[0].url.rpartition("/")[2], 200, b"[]") as address,
        tritonic_nb.Session(address) as session,
    ):
        assert session.shared_memory == "none"
        assert "is not in its list" in session.shared_memory_reason
        assert "does not list them" in session.shared_memory_reason
