"""What is sampled: the real machine and its /dev/shm, GPUs that are told, a server's metrics."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TEST_URL
from tests.hostile_server import Asked, reply, serving
from tritonic_nb.errors import ArgumentError
from tritonic_nb.memory import host_space
from tritonic_nb.monitoring import (
    Device,
    DeviceHolder,
    Devices,
    NvmlReason,
    Source,
    descendants,
    sources,
)
from tritonic_nb.monitoring.triton_metrics import (
    Metric,
    checked_metrics_url,
    fetch_metrics,
    parse_metrics,
)

ME = os.getpid()
MIB = 2**20


def values(source: Source) -> dict[str, float]:
    told = source.read()
    assert not isinstance(told, str), told
    return dict(told.values)


def reason(source: Source) -> str:
    told = source.read()
    assert isinstance(told, str)
    return told


@dataclass
class Room:
    """Room that is told."""

    free_nbytes: int = sys.maxsize
    total_nbytes: int = sys.maxsize
    available_nbytes: int = sys.maxsize
    available_in: str = ""


# Memory


def test_dev_shm_is_as_the_system_tells() -> None:
    """Total, used and free, and what this process can still get."""
    told = sources.room_source(host_space).read()
    assert not isinstance(told, str)
    status = os.statvfs("/dev/shm")
    total = status.f_blocks * status.f_frsize
    assert told.values["shm/total"] == total
    assert told.values["shm/used"] + told.values["shm/free"] == total
    assert told.values["memory/available"] > 0
    assert "memory" in told.notes["memory/available"]


def test_a_dev_shm_without_a_size_or_none_at_all_is_a_sentence() -> None:
    """What is not limited is not told, and a missing one is no error."""
    assert "no size" in reason(sources.room_source(Room))
    assert values(sources.room_source(lambda: Room(available_nbytes=5))) == {"memory/available": 5}

    def gone() -> Room:
        raise FileNotFoundError(2, "No such file or directory")

    assert reason(sources.room_source(gone)) == (
        "there is no /dev/shm here (No such file or directory)"
    )


def test_the_machine_tells_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its total, what could not be given to another is used; else there is a sentence."""
    told = values(sources.machine_source())
    assert told["memory/total"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < told["memory/used"] < told["memory/total"]
    monkeypatch.setattr(sources, "file_text", lambda _: "")
    assert "/proc/meminfo" in reason(sources.machine_source())
    assert "/proc" in reason(sources.process_source(None))


def test_resident_memory_follows_what_is_touched() -> None:
    """64 MiB more are 64 MiB more, and the server is the process whose number is given."""
    source = sources.process_source(lambda: ME)
    before = values(source)
    block = np.ones(64 * MIB, np.uint8)
    after = values(source)
    assert before.keys() == {"resident/this process", "resident/server"}
    assert after["resident/this process"] - before["resident/this process"] > 60 * MIB
    assert after["resident/server"] == pytest.approx(after["resident/this process"], rel=0.1)
    assert block[0]
    assert values(sources.process_source(lambda: 2**31 - 1)).keys() == {"resident/this process"}


def test_a_servers_processes_count_together() -> None:
    """Those that it started, and those that they started; without a server there is a reason."""
    inner = "import sys; print('ready', flush=True); sys.stdin.read()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    source = sources.model_source(lambda: ME)
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        found = set(descendants(ME))
        assert child.pid in found
        assert len(set(descendants(child.pid))) == 1
        assert values(source)["resident/models"] > 10 * MIB
        child.communicate("")
    assert child.pid not in set(descendants(ME))
    assert "tritonic_nb.serve()" in reason(sources.model_source(None))


def test_holders_follow_each_sample_once_they_are_known() -> None:
    """A file grows at once; a new one has an owner when they are looked for again; own ones not."""
    path = Path(f"/dev/shm/sources_{secrets.token_hex(6)}")
    own = {f"{path.name}_own"}
    find, read = sources.holder_sources(lambda: own)
    try:
        with path.open("wb") as file, path.with_name(f"{path.name}_own").open("wb") as mine:
            mine.write(bytes(4 * MIB))
            mine.flush()
            before = values(find).get("holder/this process", 0)
            file.write(bytes(MIB))
            file.flush()
            assert values(read).get("holder/this process", 0) - before == MIB
            path.unlink()
            assert values(read).get("holder/this process", 0) == before
            assert values(find)["holder/this process"] - before == MIB  # removed, and still held
        assert values(find).get("holder/this process", 0) == before
    finally:
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}_own").unlink()


def test_a_holder_that_is_gone_has_nothing() -> None:
    """Not what it had: the name stays with 0 until owners are looked for again."""
    path = Path(f"/dev/shm/sources_{secrets.token_hex(6)}")
    path.write_bytes(bytes(MIB))
    find, read = sources.holder_sources()
    nobody = values(find)["holder/no visible process"]
    path.unlink()
    assert values(read)["holder/no visible process"] == nobody - MIB


# GPUs


GPU = Device(0, "GPU-1", "NVIDIA H100", 60, 20, 80, "580", utilization_percent=35)


def test_gpus_are_told_with_the_shares_of_this_process_and_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What NVML does not tell is left out; each GPU has its name in words."""
    bare = Device(1, "GPU-2", "NVIDIA GB10", None, None, None, "580")
    holders = {
        "GPU-1": (DeviceHolder(ME, "python", 7), DeviceHolder(4711, "tritonserver", 9),
                  DeviceHolder(1, "init", 4)),
        "GPU-2": (DeviceHolder(ME, "python", None),),
    }  # fmt: skip
    monkeypatch.setattr(sources, "devices", lambda: Devices((GPU, bare)))
    monkeypatch.setattr(sources, "device_holders", lambda uuid: holders[uuid])
    told = sources.gpu_source(lambda: 4711).read()
    assert not isinstance(told, str)
    assert told.values == {
        "gpu0/total": 80, "gpu0/used": 20, "gpu0/free": 60, "gpu0/busy_percent": 35,
        "gpu0/this process": 7, "gpu0/server": 9,
    }  # fmt: skip
    assert told.notes == {"gpu0": "GPU 0 (NVIDIA H100)", "gpu1": "GPU 1 (NVIDIA GB10)"}


def test_no_gpu_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML's own explanation."""
    found = Devices((), NvmlReason.NO_LIBRARY, "there is no driver here")
    monkeypatch.setattr(sources, "devices", lambda: found)
    assert reason(sources.gpu_source()) == "there is no driver here"


# A server's metrics


METRICS = """\
# HELP nv_inference_count Number of inferences performed
# TYPE nv_inference_count counter
nv_inference_count{model="simple",version="1"} 40
nv_inference_count{model="a \\"b\\", \\\\c",version="1"} 2
nv_inference_request_failure{model="simple",reason="OTHER",version="1"} 1
nv_gpu_memory_total_bytes{gpu_uuid="GPU-b"} 8.5e10
nv_gpu_memory_used_bytes{gpu_uuid="GPU-b"} 1.5e10
nv_gpu_utilization{gpu_uuid="GPU-b"} 0.25
nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} 7 1700000000000
nv_pinned_memory_pool_used_bytes 0
this is no metric
nv_cpu_utilization nonsense
"""


def test_metrics_are_read_as_prometheus_writes_them() -> None:
    """Names, labels with escapes, numbers, and times that are left out; the rest is skipped."""
    found = list(parse_metrics(METRICS))
    assert found[0] == Metric("nv_inference_count", {"model": "simple", "version": "1"}, 40)
    assert found[1].labels["model"] == 'a "b", \\c'
    assert [m.value for m in found[3:]] == [8.5e10, 1.5e10, 0.25, 7, 0]
    assert list(parse_metrics("\0\n{}\nnv{ 1\n" + "x" * 10_000)) == []


def test_a_servers_metrics_are_marked_as_its_own() -> None:
    """Sums over models, and GPUs by their number there."""
    with serving(lambda _: reply(METRICS.encode()), keep=False) as (url, asked):
        told = sources.triton_source(f"{url}/metrics?x=1").read()
    assert not isinstance(told, str)
    assert told.values == {
        "triton/inference_count": 42, "triton/failure_count": 1,
        "triton-gpu0/used": 7, "triton-gpu1/total": 8.5e10, "triton-gpu1/used": 1.5e10,
        "triton-gpu1/busy_percent": 25,
    }  # fmt: skip
    assert told.notes == {"triton-gpu0": "the server's GPU-a", "triton-gpu1": "the server's GPU-b"}
    assert [each.path for each in asked] == ["/metrics?x=1"]


def slowly(_: Asked) -> Any:
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    for _ in range(40):
        yield b"nv_inference_count 1\n"
        time.sleep(0.1)


ANSWERS = {
    "another page": (lambda _: reply(b"<html>"), "no metrics of a Triton server"),
    "404": (lambda _: reply(b"", 404), "it answered 404"),
    "elsewhere": (lambda _: reply(b"", 302, Location="http://192.0.2.1/"), "it answered 302"),
    "hangs up": (lambda _: None, "cannot be read"),
    "no HTTP": (lambda _: b"SSH-2.0\r\n", "cannot be read"),
    "endless": (lambda _: (b"HTTP/1.1 200 OK\r\n\r\n", *[bytes(MIB)] * 4), "more than"),
    "a drop at a time": (slowly, "took too long"),
}


@pytest.mark.parametrize(("answer", "said"), ANSWERS.values(), ids=ANSWERS.keys())
def test_what_does_not_answer_as_triton_does_is_a_sentence(answer: Any, said: str) -> None:
    """Within about a second, and without following it elsewhere."""
    with serving(answer, keep=False) as (url, asked):
        started = time.monotonic()
        assert said in reason(sources.triton_source(f"{url}/metrics"))
        assert time.monotonic() - started < 2
    assert len(asked) == 1
    assert "cannot be read" in reason(sources.triton_source(f"{url}/metrics"))  # nobody listens


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8002", "ftp://host/metrics", "file:///etc/passwd", "http://", "http://h:x/",
     "http://h/a b", "http://h/\r\nX: y", b"http://h/metrics", None, 7],
)  # fmt: skip
def test_an_address_of_metrics_is_checked(url: Any) -> None:
    """With what one looks like."""
    with pytest.raises(ArgumentError, match="http://HOST:8002/metrics"):
        checked_metrics_url(url)


@pytest.mark.skipif(bool(TEST_URL), reason="the other server's metrics port is not known")
def test_the_embedded_server_publishes_metrics(server: Any) -> None:
    """Its inferences, with or without a GPU."""
    with server.session(model="simple") as session:
        ones = np.ones((1, 16), np.int32)
        before = values(sources.triton_source(server.metrics_url))["triton/inference_count"]
        session.infer(INPUT0=ones, INPUT1=ones)
        told = values(sources.triton_source(checked_metrics_url(server.metrics_url)))
    assert told["triton/inference_count"] == before + 1
    assert told["triton/pending_count"] == 0
    names = {metric.name for metric in parse_metrics(fetch_metrics(server.metrics_url))}
    assert {"nv_inference_count", "nv_inference_request_success", "nv_cpu_utilization"} <= names
