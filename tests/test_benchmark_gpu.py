"""The benchmark's part for a GPU, run with a fake one. Never which way is faster."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cuda.bindings import driver
from cuda.bindings import runtime as real
from tritonclient.utils import cuda_shared_memory

import tritonic_nb
from tests.conftest import TEST_URL, brief_server
from tests.cuda_relay import Relay, relay
from tests.fake_cuda import OK, FakeCuda, installed
from tritonic_nb.benchmark import gpu_ways
from tritonic_nb.benchmark.__main__ import main
from tritonic_nb.benchmark.copy_rates import COPIES, CopyRate
from tritonic_nb.benchmark.endpoint import Endpoint
from tritonic_nb.benchmark.gpu_report import Gpu, GpuReport
from tritonic_nb.benchmark.gpu_run import MODEL
from tritonic_nb.benchmark.gpu_targets import DEVICE_NBYTES, evaluate_gpu
from tritonic_nb.benchmark.gpu_ways import GPU_WAYS
from tritonic_nb.benchmark.machine import this_machine
from tritonic_nb.benchmark.rounds import Series
from tritonic_nb.benchmark.targets import LARGE_NBYTES
from tritonic_nb.benchmark.ways import opened
from tritonic_nb.errors import ServerRefusedError

COMMAND = [sys.executable, "-X", "dev", "-m", "tritonic_nb.benchmark"]


class Stream(int):
    """A stream as cuda-python gives them."""

    def getPtr(self) -> int:  # noqa: N802 - cuda-python's name
        """Return where it is."""
        return int(self)


class FakeForBoth(FakeCuda):
    """The fake with the further functions that tritonclient's utilities call."""

    cudaDeviceAttr = real.cudaDeviceAttr  # noqa: N815 - CUDA's name
    CUDA_IPC_HANDLE_SIZE = 64

    def cudaDeviceGetAttribute(self, _attribute: Any, _device: int) -> Any:  # noqa: D102, N802
        return (OK, 1)

    def cudaStreamCreate(self) -> Any:  # noqa: D102, N802
        status, stream = self.cudaStreamCreateWithFlags(0)
        return (status, Stream(stream))

    def cudaMemcpyAsync(self, target: Any, source: Any, *more: Any) -> Any:  # noqa: D102, N802
        buffers = isinstance(target, ctypes.Array)
        at = ctypes.addressof(target) if buffers else target
        return super().cudaMemcpyAsync(at, source, *more)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A fake GPU for this package and for tritonclient's utilities."""
    with installed(FakeForBoth()) as fake:
        success = driver.CUresult.CUDA_SUCCESS
        of_driver = SimpleNamespace(
            CUresult=driver.CUresult,
            cuDeviceGet=lambda device: (success, device),
            cuDevicePrimaryCtxGetState=lambda _device: (success, 0, 1),
        )
        streams: dict[int, Any] = {}
        monkeypatch.setattr(cuda_shared_memory, "cudart", fake)
        monkeypatch.setattr(cuda_shared_memory._utils, "cudart", fake)
        monkeypatch.setattr(cuda_shared_memory._utils, "cuda_driver", of_driver)
        monkeypatch.setattr(cuda_shared_memory, "_dlpack_stream", streams)
        yield fake
        streams.clear()
        assert not fake.left()
        assert not fake.freed_while_open


@pytest.fixture(scope="module")
def open_server() -> Iterator[tritonic_nb.Server]:
    """A server whose APIs are open, as one at an address has to be."""
    if TEST_URL:
        pytest.skip("it takes a server of its own")
    with brief_server([MODEL], protected=False) as server:
        yield server
        server.stop(0.0)


@pytest.fixture
def relayed(open_server: tritonic_nb.Server, cuda: FakeCuda) -> Iterator[Relay]:
    """The server as one that has the fake GPU."""
    with relay(open_server, cuda) as made:
        yield made


def test_every_way_and_every_copy_is_measured(
    relayed: Relay, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The command writes its tables under the device's name, and leaves nothing there."""
    status = main(
        [
            "--gpu", "1", "--quick", "--url", relayed.url, "--sizes", "4096,1MB", "--seconds", "1",
            "--rounds", "3", "--markdown", str(tmp_path),
        ]
    )  # fmt: skip
    printed, told = capsys.readouterr()
    assert status == 0, told
    # There is no NVML here that would know the fake's name.
    assert (tmp_path / "gpu-cuda-device-1.md").read_text() == printed.removesuffix("\n")
    assert not relayed.registered
    for way in GPU_WAYS:
        rows = [line for line in printed.splitlines() if line.startswith(f"| {way.label} ")]
        assert len(rows) == 3, way.label
    for what, _ in COPIES.values():
        assert printed.count(f": {what} ") == 1
    assert printed.count("24 MB: ") == 4
    assert "64 MB: the wire / CUDA, device to device" in printed
    assert "small: CUDA / system, host to host, own copies" in printed
    assert "CUDA device 1, 268 MB" in printed
    steps = [line for line in told.splitlines() if line.startswith("measuring: ")]
    assert steps == ["measuring: copies of 24 MB", "measuring: 4.1 kB", "measuring: 1 MB"]


def test_a_size_without_room_is_left_out(
    relayed: Relay, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its figures; the others are measured."""
    arguments = ["--gpu", "--quick", "--url", relayed.url, "--sizes", "4096,64MB"]
    assert main([*arguments, "--seconds", "0.1", "--rounds", "3"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"- 64 MB: \d+ MB are needed on CUDA device 0, and 268 MB are free", printed)


@pytest.mark.parametrize("kind", GPU_WAYS, ids=lambda way: way.key)
def test_a_wrong_answer_is_no_figure(
    relayed: Relay, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way is asked twice before a clock runs, and has to answer what was sent."""
    endpoint = Endpoint(relayed.url, "", {}, MODEL)
    put = kind.put
    monkeypatch.setattr(kind, "put", lambda way, array: put(way, array + 1))
    with (
        pytest.raises(ServerRefusedError, match="did not answer 4096 bytes with"),
        opened([kind], endpoint, 4096),
    ):
        pass


def test_device_to_device_touches_no_host_memory(relayed: Relay, cuda: FakeCuda) -> None:
    """One copy on the device, of the tensor into its region; the answer is a view."""
    endpoint = Endpoint(relayed.url, "", {}, MODEL)
    with opened([gpu_ways.CudaDevice], endpoint, 40_000) as (way,):
        way.exchange()
        cuda.calls.clear()
        given = way.exchange()
        copies = [call for call in cuda.calls if call[0] == "cudaMemcpyAsync"]
        devices = list(cuda.device_memory.values())
        assert len(copies) == 1
        for address in copies[0][1:3]:
            assert any(memory.holds(address, 40_000) for memory in devices)
        assert any(memory.holds(given.address, 40_000) for memory in devices)
        del given


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--gpu"], 1, "no CUDA device was found"),
        (["--gpu", "first"], 2, "'first' is no device's number"),
        (["--gpu", "--json", "x.json"], 2, "do not go with --gpu"),
        (["--markdown", "x.md"], 2, "--markdown goes with --gpu"),
        (["--gpu", "--markdown", "/no/such/folder/x.md"], 1, "cannot be written"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], status: int, words: str) -> None:
    """At once, with the reason."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_targets_compare_medians_and_rates() -> None:
    """Each with what is to be at least, or at most, and None where it was not measured."""
    medians = {
        4096: {"cuda": 0.21, "system": 0.2},
        DEVICE_NBYTES: {"system": 12.0, "wire": 30.0, "cuda_device": 2.0},
    }
    sizes = {
        nbytes: {key: Series([[ms, ms * 9, ms / 9]]) for key, ms in each.items()}
        for nbytes, each in medians.items()
    }
    times = {"link_in": 0.5, "pinned_in": 0.55, "array_in": 2.0, "client_in": 8.0}
    copies = {LARGE_NBYTES: {key: CopyRate(key, LARGE_NBYTES, [ms]) for key, ms in times.items()}}
    found = [
        (target.measured and round(target.measured, 6), target.met)
        for target in evaluate_gpu(sizes, copies)
    ]
    assert found == [
        (6.0, True),
        (15.0, False),
        (90.909091, True),
        (25.0, False),
        (4.0, True),
        (None, None),
        (1.05, True),
    ]
    assert [target.met for target in evaluate_gpu({}, {})] == [None] * 7


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("NVIDIA H100 80GB HBM3", "gpu-nvidia-h100-80gb-hbm3.md"),
        ('../GeForce "RTX" 4090 /', "gpu-geforce-rtx-4090.md"),
        ("…", "gpu-unknown.md"),
    ],
)
def test_the_file_has_the_devices_name(name: str, file: str) -> None:
    """In letters, digits and dashes."""
    report = GpuReport(Endpoint("x:1"), this_machine(), Gpu(name, "580.0", 10**9), [])
    assert report.file_name == file
    assert "driver 580.0" in report.markdown()
