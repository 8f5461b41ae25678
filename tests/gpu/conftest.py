"""What the GPU's tests share: a device, a server beside it, and nothing left on either.

With ``TRITONIC_NB_FAKE_GPU=1`` they run against tests/fake_cuda.py and a real server, as
far as they can: that proves the tests, and nothing about a GPU.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

import tritonic_nb
from tests.conftest import TEST_URL
from tests.cuda_relay import relay
from tests.fake_cuda import FakeCuda, installed
from tritonic_nb.errors import RuntimeUnavailableError
from tritonic_nb.memory import cudart
from tritonic_nb.transport import Transport, connect

# JAX would take three quarters of the device's memory at its first use.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def pytest_report_header() -> str:
    """Say beforehand what the tests will run on."""
    if os.environ.get("TRITONIC_NB_FAKE_GPU") == "1":
        return "CUDA devices: a fake, which proves nothing about a GPU"
    count, reason = cudart.device_count()
    return f"CUDA devices: {count}{f' ({reason})' if reason else ''}"


@pytest.fixture(scope="session")
def fake() -> Iterator[FakeCuda | None]:
    """The fake GPU, or None with a real one."""
    if os.environ.get("TRITONIC_NB_FAKE_GPU") == "1":
        with installed(FakeCuda()) as made:
            yield made
        return
    count, reason = cudart.device_count()
    if not count:
        pytest.skip(reason or "the driver shows no CUDA device to this process")
    yield None


@pytest.fixture(scope="session")
def embedded(fake: FakeCuda | None) -> Iterator[tritonic_nb.Server]:
    """The embedded server, or the one that TRITONIC_NB_TRITONSERVER names."""
    if TEST_URL:
        pytest.skip("the GPU's tests start a server of their own; TRITONIC_NB_TEST_URL names one")
    try:
        server = tritonic_nb.serve()
    except RuntimeUnavailableError as error:
        pytest.skip(f"no Triton server: {error}")
    with server:
        yield server


@pytest.fixture(scope="session")
def server(embedded: tritonic_nb.Server, fake: FakeCuda | None) -> Iterator[Any]:
    """That server as sessions take it."""
    if fake is None:
        yield embedded
        return
    with relay(embedded, fake, grpc=has_grpc()) as standing_before:
        yield standing_before


def has_grpc() -> bool:
    """Whether gRPC is installed."""
    return importlib.util.find_spec("grpc") is not None


@pytest.fixture(scope="session")
def transports(server: Any) -> Iterator[dict[str, Transport]]:
    """Triton's operations at that server, by protocol, outside of any session."""
    urls = {"http": server.url}
    if has_grpc():
        urls["grpc"] = server.grpc_url
    made = {name: connect(url, server.headers, protocol=name) for name, url in urls.items()}
    yield made
    for each in made.values():
        each.close()


@pytest.fixture
def protocol(request: pytest.FixtureRequest) -> str:
    """What sessions speak: HTTP unless a test is for both."""
    name: str = getattr(request, "param", "http")
    if name == "grpc" and not has_grpc():
        pytest.skip("gRPC is not installed: pip install 'tritonic-nb[grpc]'")
    return name


@pytest.fixture(autouse=True)
def _nothing_left_on_the_device(
    request: pytest.FixtureRequest,
    _nothing_left_behind: None,
    transports: dict[str, Transport],
    fake: FakeCuda | None,
) -> Iterator[None]:
    """After a passing test no region is registered any more, and the fake has all it gave."""
    transport = transports["http"]
    yield
    failed = getattr(request.node, "report_call", None)
    if failed is not None and failed.failed:
        return
    deadline = time.monotonic() + 10
    while (left := _left(transport, fake)) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    assert not left
    if fake is not None:
        assert fake.current == 0
        assert not fake.freed_while_open


def _left(transport: Transport, fake: FakeCuda | None) -> list[Any]:
    registered = [region["name"] for region in transport.registered_regions("cuda")]
    return [*registered, *([] if fake is None else fake.left())]
