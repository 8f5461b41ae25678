"""Threads, clients that are killed, and servers that start again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from gpu_helpers import MIB, ByDlpack, same, sample

import tritonic_nb
from tests.conftest import BOTH
from tests.cuda_relay import relay
from tests.fake_cuda import PREFIX, SHM, FakeCuda
from tests.waiting import eventually
from tritonic_nb import Session
from tritonic_nb.memory import device_memory
from tritonic_nb.transport import Transport

Open = Callable[..., Session]
MODEL = "identity_fp32_device"
ROOT = Path(__file__).parents[2]

CLIENT = """
import json, sys, time
import numpy as np
import tritonic_nb
told = json.loads(sys.stdin.readline())
if told["fake"]:
    from tests.fake_cuda import FakeCuda, installed
    kept = installed(FakeCuda())
    kept.__enter__()
session = tritonic_nb.Session(
    told["server"], told["model"], headers=told["headers"], protocol=told["protocol"],
    load=True, shared_memory="cuda",
)
shape = (told["rows"], 262144)
session.register_outputs({"OUTPUT0": shape})
view = session.infer(np.ones(shape, np.float32), copy=False)["OUTPUT0"]
assert np.asarray(view).all()
print("ready", flush=True)
time.sleep(600)
"""


@BOTH
def test_threads_have_regions_of_their_own(open_session: Open) -> None:
    """Eight at a time, host and device arrays, answers as copies and as views: each its own."""
    session = open_session(MODEL, shared_memory="cuda")
    session.register_outputs({"OUTPUT0": (5, 2000)})

    def work(number: int) -> bool:
        array = sample("FP32", (5, 2000), number)
        given: Any = ByDlpack(array) if number % 2 else array
        return same(session.infer(given, copy=number % 3 == 0)["OUTPUT0"], array)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(120)))


def test_many_in_flight_come_in_order(open_session: Open) -> None:
    """Session.map with device arrays."""
    session = open_session(MODEL, shared_memory="cuda", in_flight=4)
    arrays = [sample("FP32", (5, 2000), number) for number in range(40)]
    results = session.map(map(ByDlpack, arrays), progress=False, copy=False)
    for array, result in zip(arrays, results, strict=True):
        assert same(result["OUTPUT0"], array)
        del result


@BOTH
def test_a_killed_client_leaves_nothing(
    server: Any, transport: Transport, fake: FakeCuda | None, protocol: str
) -> None:
    """SIGKILL: within seconds its regions are unregistered, and then the memory is free."""
    rows = 64 if fake is None else 8  # MiB
    free_before, _ = device_memory(0)
    told = {
        "fake": fake is not None,
        "server": server.grpc_url if protocol == "grpc" else server.url,
        "headers": dict(server.headers),
        "protocol": protocol,
        "model": MODEL,
        "rows": rows,
    }
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *paths()]))},
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        print(json.dumps(told), file=client.stdin, flush=True)
        try:
            assert client.stdout.readline() == "ready\n"
            mine = f"tritonic_nb-{client.pid}-"
            registered = registered_by(transport, mine)
            assert len(registered) == 2
            if fake is None:
                assert free_before - device_memory(0)[0] >= 2 * rows * MIB
        finally:
            client.send_signal(signal.SIGKILL)
            client.wait()
    if fake is not None:  # what the driver would do
        for file in SHM.glob(f"{PREFIX}{client.pid}-*"):
            file.unlink()
    assert eventually(lambda: not registered_by(transport, mine), 10)
    if fake is None:
        assert eventually(lambda: device_memory(0)[0] >= free_before - 4 * MIB, 10)
    assert not list(SHM.glob(f"{mine}*"))


def paths() -> list[str]:
    """Return what this process was told to search for packages."""
    return os.environ.get("PYTHONPATH", "").split(os.pathsep)


def registered_by(transport: Transport, start: str) -> list[str]:
    """Return the CUDA regions at the server whose names begin so."""
    names = (str(region["name"]) for region in transport.registered_regions("cuda"))
    return [name for name in names if name.startswith(start)]


@BOTH
def test_a_server_that_starts_again_gets_the_regions_anew(
    fake: FakeCuda | None, protocol: str
) -> None:
    """The same regions are registered once more, filled inputs and all, and nobody is asked."""
    array = sample("FP32", (30, 1000))
    other = np.ascontiguousarray(array[::-1])
    with contextlib.ExitStack() as held:
        embedded = held.enter_context(tritonic_nb.serve([MODEL]))
        server: Any = embedded
        if fake is not None:
            server = held.enter_context(relay(embedded, fake, grpc=protocol == "grpc"))
        session = held.enter_context(
            Session(server, MODEL, shared_memory="cuda", protocol=protocol)
        )
        session.register_outputs({"OUTPUT0": array.shape})
        session.inputs["INPUT0"] = array
        for _ in range(2):
            assert same(session.infer()["OUTPUT0"], array)
        before = {region.name for region in session.regions}
        embedded.restart()
        if fake is not None:
            server.restarted()
        assert same(session.infer()["OUTPUT0"], array)
        assert same(session.infer(ByDlpack(other), copy=False)["OUTPUT0"], other)
        assert before <= {region.name for region in session.regions}
