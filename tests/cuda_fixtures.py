"""Fixtures that take the place of others: a server with a fake GPU, and sessions that use it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tritonic_nb
from tests.cuda_relay import Relay, relay
from tests.fake_cuda import FakeCuda, installed

Open = Callable[..., tritonic_nb.Session]


@pytest.fixture(scope="module")
def cuda() -> Iterator[FakeCuda]:
    """Two fake devices of 256 MiB."""
    with installed(FakeCuda()) as fake:
        yield fake


@pytest.fixture(scope="module")
def gpu_server(server: Any, cuda: FakeCuda) -> Iterator[Relay]:
    """The server as one that has these devices."""
    with relay(server, cuda, grpc=True) as made:
        yield made


@pytest.fixture
def address(request: pytest.FixtureRequest, gpu_server: Relay, cuda: FakeCuda) -> Iterator[Relay]:
    """The server as a session takes it; afterwards all that was taken of the devices is back."""
    cuda.calls.clear()
    before = cuda.left()
    yield gpu_server
    report = getattr(request.node, "report_call", None)
    if report is not None and report.failed:  # its traceback keeps what it had
        return
    deadline = time.monotonic() + 5
    while (cuda.left() != before or gpu_server.registered) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    assert cuda.left() == before
    assert not gpu_server.registered
    assert not cuda.freed_while_open


@pytest.fixture
def open_session(address: Relay, protocol: str) -> Iterator[Open]:
    """Open sessions with CUDA shared memory on the second device."""
    opened = []

    def open_one(model: str | None = None, **options: Any) -> tritonic_nb.Session:
        given = {"load": True, "protocol": protocol, "shared_memory": "cuda", "device": 1}
        session = tritonic_nb.Session(address, model, **{**given, **options})
        opened.append(session)
        return session

    yield open_one
    for session in opened:
        session.close()
