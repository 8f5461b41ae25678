"""What every test shares: a real server, sessions that are closed, and nothing left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tritonic_nb
from tests.cuda_relay import THREADS as RELAY_THREADS
from tritonic_nb.memory import lifeline
from tritonic_nb.memory.shm_file import KEY_PREFIX, SHM_DIR
from tritonic_nb.transport import Transport, connect

# The tests use ONNX Runtime as a reference; it need not tell anybody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Or each of the many Pythons that the tests start would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Who starts the tests in the background of a shell has them ignore Ctrl-C, which some send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TEST_URL = os.environ.get("TRITONIC_NB_TEST_URL")
"""An open server with this package's teaching models and the classifier, to use instead."""
TEST_GRPC_URL = os.environ.get("TRITONIC_NB_TEST_GRPC_URL")
"""The same server's gRPC address."""
SLEEPER = Path(__file__).parent / "models" / "sleeper"


@contextlib.contextmanager
def brief_server(*models: Any, **options: Any) -> Iterator[tritonic_nb.Server]:
    """Give a server for a block, where its end is nothing to look at: that takes no second.

    Triton takes more than one for an end in peace, and waits for its connections.
    """
    with tritonic_nb.serve(*models, **options) as running:
        yield running
        running.stop(0.0)


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """A real Triton server: the embedded one, or the one that TRITONIC_NB_TEST_URL names."""
    if TEST_URL:
        yield TEST_URL
        return
    with brief_server() as embedded:
        embedded.add("classifier", tritonic_nb.samples.classifier())
        yield embedded


@pytest.fixture(scope="session")
def sleeper(server: Any) -> str:
    """The name of a model of that server: one instance, which sleeps for so long as it is told.

    For tests that have a server of their own.
    """
    server.add("sleeper", SLEEPER)
    return "sleeper"


@pytest.fixture(scope="session")
def transports(server: Any) -> Iterator[dict[str, Transport]]:
    """Triton's operations at that server, by protocol, outside of any session."""
    if TEST_URL:
        urls, headers = {"http": TEST_URL, "grpc": TEST_GRPC_URL}, {}
    else:
        urls, headers = {"http": server.url, "grpc": server.grpc_url}, server.headers
    made = {name: connect(url, headers, protocol=name) for name, url in urls.items() if url}
    yield made
    for each in made.values():
        each.close()


def skip_without(protocol: str) -> str:
    """Return a protocol, or skip where the server's address for it is not known."""
    if protocol == "grpc" and TEST_URL and not TEST_GRPC_URL:
        pytest.skip("TRITONIC_NB_TEST_GRPC_URL does not name the gRPC port of TRITONIC_NB_TEST_URL")
    return protocol


BOTH = pytest.mark.parametrize("protocol", ["http", "grpc"], indirect=True)
"""Run a test with both protocols."""


@pytest.fixture
def protocol(request: pytest.FixtureRequest) -> str:
    """What sessions speak."""
    return skip_without(getattr(request, "param", "http"))


@pytest.fixture
def transport(transports: dict[str, Transport], protocol: str) -> Transport:
    """Triton's operations at that server, outside of any session."""
    return transports[protocol]


@pytest.fixture
def address(server: Any, protocol: str) -> Any:
    """The server as a session takes it, for the test's protocol."""
    return TEST_GRPC_URL if TEST_URL and protocol == "grpc" else server


def place_of(server: Any, protocol: str) -> dict[str, Any]:
    """Return the options of a session that is told a server's address, and not the server."""
    if isinstance(server, str):
        return {"server": server, "headers": {}, "protocol": protocol}
    url = server.grpc_url if protocol == "grpc" else server.url
    return {"server": url, "headers": dict(server.headers), "protocol": protocol}


@pytest.fixture
def open_session(address: Any, protocol: str) -> Iterator[Callable[..., tritonic_nb.Session]]:
    """Open sessions that load models on demand and are closed after the test."""
    opened = []

    def open_one(model: str | None = None, **options: Any) -> tritonic_nb.Session:
        # Strict: what goes wrong with shared memory is to be seen.
        given = {"load": True, "protocol": protocol, "shared_memory": "system", **options}
        session = tritonic_nb.Session(address, model, **given)
        opened.append(session)
        return session

    yield open_one
    for session in opened:
        session.close()


@pytest.fixture(autouse=True, scope="module")
def _quick_gc() -> None:
    """Have gc.collect(), of which some tests do hundreds, look at what their module makes only."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a passing test, all that could be left of it is as it was before.

    Threads, child processes, descriptors of regions, /dev/shm, and what the server has registered.
    """
    uses_server = "server" in request.fixturenames
    transport = request.getfixturevalue("transports")["http"] if uses_server else None
    before = _traces(transport)
    yield
    failed = getattr(request.node, "report_call", None)
    if failed is not None and failed.failed:
        return
    # What a server would not let go of at once, the janitor asks for again; over gRPC it has
    # to start a process for that.
    deadline = time.monotonic() + 10
    while (left := _left(before, _traces(transport))) and time.monotonic() < deadline:
        gc.collect()  # an error that was expected keeps the test's variables in its traceback
        time.sleep(0.05)
    assert not left


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Let fixtures see whether their test passed."""
    outcome = yield
    setattr(item, f"report_{call.when}", outcome.get_result())  # type: ignore[attr-defined]


def _left(before: dict[str, set[Any]], after: dict[str, set[Any]]) -> dict[str, set[Any]]:
    return {what: after[what] - before[what] for what in after if after[what] - before[what]}


def _traces(transport: Transport | None) -> dict[str, set[Any]]:
    janitor = str(lifeline.janitor_pid())  # one for each process, for as long as it lives
    return {
        "threads": {
            (t.name, t.ident)
            for t in threading.enumerate()
            if t.is_alive() and not t.name.startswith(RELAY_THREADS)
        },
        "children": set(_children()) - {janitor},
        "descriptors": set(_open_regions()),
        "regions": {path.name for path in SHM_DIR.glob(f"{KEY_PREFIX}{os.getpid()}-*")},
        "registered": {r["name"] for r in transport.registered_regions()} if transport else set(),
    }


def _children() -> Iterator[str]:
    """Give the process ids of this process's children, whichever thread started them."""
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that ends meanwhile
            yield from file.read_text().split()


def _open_regions() -> Iterator[str]:
    """Give the descriptors of this process that are open on a region, removed or not."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = str(entry.readlink())
            if target.startswith((f"{SHM_DIR}/{KEY_PREFIX}", f"{SHM_DIR}/#")):  # "#": no name yet
                yield f"{entry.name}: {target}"


@pytest.fixture
def shm_names() -> Callable[[], set[str]]:
    """The names of this process's regions under /dev/shm, as they are now."""
    return lambda: {p.name for p in Path(SHM_DIR).glob(f"{KEY_PREFIX}{os.getpid()}-*")}
