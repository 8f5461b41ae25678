"""doctor(): what a session needs, checked on this machine and on real servers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import place_of
from tests.cuda_relay import Relay, relay
from tests.fake_cuda import FakeCuda, installed
from tests.own_shm import WHY_NOT, own_dev_shm
from tests.test_cli import run, serving
from tritonic_nb import diagnosis
from tritonic_nb.diagnosis import Check, Diagnosis
from tritonic_nb.errors import ArgumentError, NoCudaDeviceError
from tritonic_nb.monitoring import Device, Devices, NvmlReason


def checks(found: Diagnosis) -> dict[str, Check]:
    return {check.name: check for check in found.checks}


def test_this_machine_is_well() -> None:
    """What the tests need is there: the embedded server answers both ways, nothing failed."""
    found = tritonic_nb.doctor()
    told = checks(found)
    assert found.healthy, found
    assert told["Python"].found.startswith(".".join(map(str, sys.version_info[:3])))
    assert "a region could be made" in told["/dev/shm"].found
    assert f"NumPy {np.__version__}" in told["packages"].found
    assert "came back over the wire and through shared memory" in told["embedded server"].found
    assert told["widgets"].status == "note"  # this is no notebook


def test_a_server_opens_a_region_and_runs_a_model(server: Any) -> None:
    """By its address, with its header; the session and the region are gone afterwards."""
    place = place_of(server, "http")
    with tritonic_nb.Session(place["server"], headers=place["headers"]) as session:
        session.load("simple")
    found = tritonic_nb.doctor(place["server"], model="simple", headers=place["headers"])
    told = checks(found)
    assert found.healthy, found
    assert told["server"].found.startswith("triton 2.")
    assert "opened a region of this machine's /dev/shm" in told["system shared memory"].found
    assert told["cuda shared memory"].status == "note"
    assert "the wire" in told["model simple"].found
    assert "system shared memory" in told["model simple"].found


def test_what_is_wrong_is_told_with_what_to_do() -> None:
    """A server that is not there, and one that demands a header; nothing is raised."""
    nowhere = checks(tritonic_nb.doctor("127.0.0.1:1"))
    assert nowhere["server"].status == "failed"
    assert "check the address and port" in nowhere["server"].remedy
    assert "system shared memory" not in nowhere  # there is nobody to ask
    with tritonic_nb.serve() as protected:
        told = checks(tritonic_nb.doctor(protected.url))
        assert "header" in told["server"].remedy
        told = checks(tritonic_nb.doctor(protected, model="no such model"))
        assert told["model no such model"].status == "failed"
        assert "no such model" in told["model no such model"].found


def test_it_shows_itself() -> None:
    """As lines, as a table that escapes, and as JSON."""
    found = Diagnosis((Check("one", "ok", "<b>"), Check("other", "failed", "gone", "bring it")))
    assert not found.healthy
    assert repr(found).splitlines() == [
        "1 of 2 checks failed: other",
        "ok      one    <b>",
        "failed  other  gone",
        "               what to do: bring it",
    ]
    assert "&lt;b&gt;" in found._repr_html_()
    assert found._repr_html_().count('class="tnb-alarm"') == 1
    long = Diagnosis((Check("one", "ok", "word " * 40), Check("other", "ok", "x" * 150)))
    lines = repr(long).splitlines()
    assert all(line.startswith("               word") for line in lines[2:-1])
    assert max(map(len, lines[:-1])) <= 100
    assert lines[-1].endswith("x" * 150)  # what cannot be broken, such as an address, is not
    assert found.document()["checks"][1]["remedy"] == "bring it"


def test_arguments_without_a_server_are_refused() -> None:
    """It is not known of which server they are."""
    with pytest.raises(ArgumentError, match="no server"):
        tritonic_nb.doctor(model="simple")


@pytest.fixture(scope="module")
def told(server: Any) -> dict[str, Check]:
    """All that doctor() checks, of this machine and of a server with a model."""
    place = place_of(server, "http")
    with tritonic_nb.Session(place["server"], headers=place["headers"]) as session:
        session.load("simple")
    found = tritonic_nb.doctor(place["server"], model="simple", headers=place["headers"])
    return checks(tritonic_nb.doctor()) | checks(found)


# What guides to shared memory with Triton tell people to look at (tritonic's own, Triton's
# documentation), and the check that looks at it, with words of what it found or of its remedy.
POINTS = [
    ("platform support", "Python", "linux"),
    ("client libraries are there, and new enough", "packages", "that are needed"),
    ("df -h /dev/shm: space", "/dev/shm", "free"),
    ("permissions of /dev/shm", "/dev/shm", "a region could be made"),
    ("how /dev/shm is mounted", "/dev/shm", "mounted"),
    ("ipcs -m, ls /dev/shm: what lies there, and whose it is", "/dev/shm", "it holds"),
    ("free -h: memory", "memory", "available, limited by"),
    ("nvidia-smi: driver and GPUs", "GPU", "CUDA device"),
    ("the server runs and is reached", "server", "models ready"),
    ("a server can be had at all", "embedded server", "came back over the wire"),
    ("the server has the same /dev/shm (IPC namespace)", "system shared memory", "opened a region"),
    ("the server may open the file (user)", "system shared memory", "opened a region"),
    ("the server has shared memory switched on", "system shared memory", "opened a region"),
    ("CUDA shared memory", "cuda shared memory", "CUDA device here"),
    ("the model is ready, and its sizes fit", "model simple", "it gave the same over"),
    ("regions that were never unregistered", "left over", "dead sessions"),
    ("verbose logging", "log", "verbose=True"),
    ("the server's log", "log", "log_verbose=1"),
    ("widgets", "widgets", "run it in one"),
]


@pytest.mark.parametrize(("point", "name", "words"), POINTS)
def test_each_point_of_the_guides_has_a_check(
    told: dict[str, Check], point: str, name: str, words: str
) -> None:
    """What people are told to look at by hand, doctor() looks at."""
    check = told[name]
    assert check.status != "failed", point
    assert words in f"{check.found} {check.remedy}", point


# Points that no check can look at beforehand, because they are of one inference; and the test
# that shows what becomes of them.
ELSEWHERE = [
    ("the input is as large as the tensor", "real_server/test_session.py",
     "test_regions_grow_when_a_tensor_does"),
    ("shapes and datatypes", "real_server/test_session.py",
     "test_wrong_inputs_are_our_errors_and_leave_nothing"),
    ("the size of a region", "memory/test_system.py",
     "test_a_tensor_larger_than_the_slot_is_refused"),
    ("a Bus error where /dev/shm is full", "memory/test_system.py", "test_its_pages_are_reserved"),
    ("a region is registered once", "memory/test_system.py",
     "test_two_regions_of_one_tensor_have_different_names"),
    ("the server was restarted", "faults/test_restarted_servers.py",
     "test_a_server_that_is_killed_and_restarted_under_load"),
    ("the Python backend's pools", "server/test_server_pools.py",
     "test_a_full_dev_shm_is_an_error_of_one_request"),
    ("a timeout while the server writes", "real_server/test_session.py",
     "test_a_timeout_gives_the_region_up_and_goes_on"),
    ("too little memory on the device, or none in one piece", "memory/test_cuda.py",
     "test_what_cannot_be_had_says_why"),
    ("what Triton says, and what to do", "transport/test_faults.py",
     "test_each_text_has_its_class_and_remedy"),
]  # fmt: skip


@pytest.mark.parametrize(("point", "file", "test"), ELSEWHERE)
def test_each_other_point_has_a_test(point: str, file: str, test: str) -> None:
    """What no check can look at beforehand is proved where it happens."""
    assert f"def {test}(" in (Path(__file__).parent / file).read_text(), point


GPU = Device(0, "GPU-1", "NVIDIA X", 3 * 10**9, 10**9, 4 * 10**9, "590.1", 0)


def test_a_gpu_that_cuda_does_not_see_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver has it, and CUDA_VISIBLE_DEVICES hides it: both are told, with what to do."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    error = NoCudaDeviceError("the driver has no device", "look at CUDA_VISIBLE_DEVICES")
    status, found, remedy = diagnosis._without_cuda(Devices((GPU,)), error)
    assert (status, remedy) == ("note", error.remedy)
    assert "CUDA_VISIBLE_DEVICES='7'" in found
    assert "driver 590.1 shows NVIDIA X (3 GB free of 4 GB; no CUDA device)" in found


@pytest.mark.parametrize("reason", NvmlReason)
def test_a_machine_without_a_gpu_is_told_that_it_needs_none(reason: NvmlReason) -> None:
    """And one whose driver cannot be reached, what to do about that."""
    error = NoCudaDeviceError("the driver is too old", "install a driver")
    there = Devices((), reason, "why there is none")
    status, found, remedy = diagnosis._without_cuda(there, error)
    assert status == "note"
    assert "why there is none" in found
    none = reason in (NvmlReason.NO_LIBRARY, NvmlReason.NO_DRIVER, NvmlReason.NO_DEVICE)
    assert remedy == (diagnosis._WITHOUT_GPU if none else error.remedy)


@pytest.fixture
def gpu_server(server: Any) -> Iterator[Relay]:
    """The server as one that has two GPUs."""
    with installed(FakeCuda()) as cuda, relay(server, cuda) as made:
        yield made


def test_cuda_devices_are_counted_and_tried(gpu_server: Relay) -> None:
    """The server opens memory of one; how many this process sees is told."""
    told = checks(tritonic_nb.doctor(gpu_server))
    assert told["GPU"].status == "ok", told["GPU"]
    assert told["GPU"].found.startswith("2 CUDA devices")
    assert told["cuda shared memory"].status == "ok", told["cuda shared memory"]
    gpu_server.refuse = "failed to register shared memory region: invalid args"
    refused = checks(tritonic_nb.doctor(gpu_server))["cuda shared memory"]
    assert refused.status == "failed"
    assert "CUDA_VISIBLE_DEVICES" in refused.remedy


def test_the_command(tmp_path: Path) -> None:
    """Text or JSON; the exit status tells whether something failed."""
    headers = tmp_path / "headers.json"
    with serving("--headers-file", str(headers), "simple") as (_, printed):
        url = printed.split("HTTP")[1].split()[0]
        asked = ("doctor", "--url", url, "--headers-file", str(headers), "--model", "simple")
        well = run(*asked)
        assert (well.returncode, well.stderr) == (0, "")
        assert "what to do" in well.stdout  # where there is no GPU, and no notebook
        as_json = json.loads(run(*asked, "--json").stdout)
        assert as_json["healthy"]
    gone = run("doctor", "--url", url)
    assert gone.returncode == 1
    assert "no Triton server answers" in gone.stdout


def in_own_shm(options: str, code: str, *before: str) -> list[str]:
    """Run code with a /dev/shm of its own, mounted with these options; return its lines."""
    done = subprocess.run(
        [*own_dev_shm(options), *before, sys.executable, "-c", code],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.splitlines()


TELL_SHM = """
import tritonic_nb
told = {c.name: c for c in tritonic_nb.doctor('127.0.0.1:1').checks}['/dev/shm']
print(told.status, told.found, told.remedy, sep='\\n')
"""


def test_a_system_that_tells_no_mounts_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As some sandboxes are: a region can be made all the same."""
    monkeypatch.setattr(diagnosis, "_MOUNTS", tmp_path / "none")
    shm = checks(tritonic_nb.doctor("127.0.0.1:1"))["/dev/shm"]
    assert shm.status != "failed", shm
    assert "cannot be told (No such file or directory)" in shm.found


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_a_full_dev_shm_is_found() -> None:
    """With its figures, who holds it, and how to enlarge it."""
    full = (
        "import pathlib\n"
        "kept = pathlib.Path('/dev/shm/full').open('w+b')\n"
        "kept.write(bytes(18 * 2**20)); kept.flush()\n"
    )
    status, found, remedy = in_own_shm("20m", full + TELL_SHM)
    assert status == "failed"
    assert found.startswith("21 MB, 2.1 MB free")
    assert "size=20480k" in found
    assert "it holds 18.9 MB in full of this process" in found
    assert "--shm-size" in remedy


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_a_dev_shm_without_room_for_a_page_is_found() -> None:
    """Not even the smallest region can be made: the error says who holds it all."""
    full = (
        "import os, pathlib\n"
        "kept = pathlib.Path('/dev/shm/full').open('w+b')\n"
        "os.posix_fallocate(kept.fileno(), 0, os.statvfs('/dev/shm').f_bavail * 4096)\n"
    )
    status, found, remedy = in_own_shm("4m", full + TELL_SHM)
    assert status == "failed"
    assert "which has 0 free" in found
    assert "/dev/shm holds 4.19 MB in full of this process" in found
    assert "--shm-size" in remedy


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
@pytest.mark.parametrize(
    ("options", "before", "why"),
    [
        ("20m,ro", [], "Read-only file system"),
        # root without its capabilities is a user like others
        ("20m,mode=0500", ["setpriv", "--inh-caps=-all", "--bounding-set=-all"],
         "Permission denied"),
    ],
)  # fmt: skip
def test_a_dev_shm_that_cannot_be_written_is_found(
    options: str, before: list[str], why: str
) -> None:
    """With the system's own word for it."""
    status, found, remedy = in_own_shm(options, TELL_SHM, *before)
    assert status == "failed"
    assert why in found
    assert "writable" in remedy


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_noexec_does_no_harm() -> None:
    """It is told, and tensors go through such a /dev/shm as through any other."""
    code = (
        "import tritonic_nb\n"
        "told = {c.name: c for c in tritonic_nb.doctor().checks}\n"
        "print(told['/dev/shm'].found, told['embedded server'].found, sep='\\n')\n"
    )
    shm, embedded = in_own_shm("300m,noexec", code)
    assert "noexec does no harm" in shm
    assert "came back over the wire and through shared memory" in embedded


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_a_server_with_another_dev_shm_is_found() -> None:
    """As one in another container: it cannot open what was made here."""
    code = (
        "import subprocess, sys, tritonic_nb\n"
        "with tritonic_nb.serve(protected=False) as server:\n"
        "    print(server.url, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [*own_dev_shm("64m"), sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        told = checks(tritonic_nb.doctor(process.stdout.readline().strip()))
        process.stdin.close()
    assert told["server"].status == "ok"
    assert told["system shared memory"].status == "failed"
    assert "--ipc=host" in told["system shared memory"].remedy
    assert "mode=0o666" in told["system shared memory"].remedy
