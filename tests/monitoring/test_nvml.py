"""What NVIDIA's management library tells: of this machine, of a fake library, of fake calls.

No test needs a GPU. The fake library is a real one in C, which cuda-python loads in a child
process; it proves that cuda-python is called rightly. The fake calls stand for cuda-python.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tritonic_nb.monitoring import (
    Device,
    DeviceHolder,
    Devices,
    NvmlReason,
    device_holders,
    device_holders_text,
    devices,
    nvml,
    with_cuda_indices,
)

ME = os.getpid()
GB = 10**9
NOBODY = 2**31 - 1  # no process has such a number
COMPILER = shutil.which("cc")


def gpu_uuid(number: int) -> str:
    return f"GPU-{number:08x}-1111-2222-3333-444444444444"


def mig_uuid(number: int) -> str:
    return f"MIG-{number:08x}-5555-6666-7777-888888888888"


def refusal(name: str) -> Exception:
    """Make an error of cuda-python, which is known by its name."""
    return type(name, (Exception,), {})("as told")


class FakeCalls:
    """A machine whose GPUs are given as handles; what is not given is not supported."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {"count": 1, "handle": lambda index: index, **answers}
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*arguments: Any) -> Any:
            self.asked.append(name)
            given = self.answers.get(name, refusal("NotSupportedError"))
            if callable(given):
                given = given(*arguments)
            if isinstance(given, Exception):
                raise given
            return given

        return answer


Opener = Callable[..., FakeCalls]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Put a machine in the place of this one, where NVML was not asked for anything yet."""

    def put(**answers: Any) -> FakeCalls:
        calls = FakeCalls(**answers)

        def opened() -> FakeCalls:
            calls.asked.append("open")
            if "open" in calls.answers:
                raise calls.answers["open"]
            return calls

        monkeypatch.setattr(nvml, "_Calls", opened)
        monkeypatch.setattr(nvml, "_library", nvml._Library())
        return calls

    return put


# This machine


def driver_library() -> bool:
    """Whether there is an NVIDIA driver's library here."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(driver_library(), reason="this machine has NVIDIA's management library")
def test_without_a_driver_there_is_a_reason_and_no_error() -> None:
    """This machine has no driver: no devices, a reason, nobody who holds anything."""
    found = devices(refresh=True)
    assert found == devices()
    assert not found
    assert (len(found), list(found)) == (0, [])
    assert found.reason is NvmlReason.NO_LIBRARY
    assert str(found.reason) == "no library"
    assert "libnvidia-ml.so.1) was not found" in found.explanation
    assert repr(found) == f"No GPU\n  why  {found.explanation}"
    assert "was not found" in found._repr_html_()
    assert device_holders(0) == ()
    assert device_holders_text(gpu_uuid(0)) == ""
    assert with_cuda_indices(found, [gpu_uuid(0)]) == found


def test_this_machine_is_told_as_it_is() -> None:
    """Either there are devices with sensible figures, or a reason with its explanation."""
    found = devices(refresh=True)
    assert bool(found) == (found.reason is None) == (found.explanation == "")
    for device in found:
        if device.total_nbytes is not None:
            assert device.used_nbytes is not None
            assert device.free_nbytes is not None
            assert device.used_nbytes + device.free_nbytes <= device.total_nbytes
        assert device.driver


@pytest.mark.parametrize(
    ("missing", "told"),
    [("cuda", "No module named"), ("cuda.bindings.nvml", "cannot import name 'nvml'")],
)
def test_without_cuda_python_there_is_a_reason(missing: str, told: str) -> None:
    """No cuda-python, or an old one that has no NVML, is a reason; importing does not ask."""
    script = f"""
import sys
import tritonic_nb.monitoring
assert not any(name.startswith("cuda") for name in sys.modules)
if {missing!r} == "cuda":
    sys.modules["cuda"] = None
else:  # a finder that hides what an old one has not
    class Hide:
        def find_spec(self, name, path=None, target=None):
            if name == {missing!r}:
                raise ImportError("cannot import name 'nvml'")
    sys.meta_path.insert(0, Hide())
found = tritonic_nb.monitoring.devices()
print(found.reason, found.explanation)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("no binding cuda-python is not installed, or is too old")
    assert told in done.stdout


# A library in C, and the real cuda-python


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a libnvidia-ml.so.1 of our own."""
    if COMPILER is None:
        pytest.skip("no C compiler (cc) to build a libnvidia-ml.so.1 with")
    pytest.importorskip("cuda.bindings.nvml", reason="cuda-python does not speak NVML here")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run(
        [COMPILER, "-shared", "-fPIC",
         "-o", str(folder / "libnvidia-ml.so.1"), str(source)], check=True,
    )  # fmt: skip
    return folder


def with_library(folder: Path, script: str, **environment: str) -> Any:
    """Run a script where that library is the driver's, and return what it gives to `tell`."""
    prelude = (
        "import json, os\n"
        "from tritonic_nb.monitoring import *\n"
        "tell = lambda thing: print(json.dumps(thing, default=vars))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + script],
        capture_output=True, text=True, check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_cuda_python_reads_the_library_rightly(library: Path) -> None:
    """Names, memory and utilisation arrive; a GPU that is lost is left out."""
    found = with_library(library, "tell([vars(device) for device in devices()])")
    common = {"driver": "580.65.06", "cuda_index": None, "parent_uuid": ""}
    unknown = {"utilization_percent": None}
    assert found[0] == {
        **common,
        "index": 0,
        "uuid": "GPU-00000000-1111-2222-3333-444444444440",
        "name": "NVIDIA H100 80GB HBM3",
        "free_nbytes": 85_520_809_984 - 600_000_000 - GB,
        "used_nbytes": GB,
        "total_nbytes": 85_520_809_984,
        "utilization_percent": 42,
    }
    assert found[1] == {
        **common,
        **unknown,
        "index": 1,
        "uuid": "GPU-00000001-1111-2222-3333-444444444440",
        "name": "NVIDIA GB10",
        "free_nbytes": None,
        "used_nbytes": None,
        "total_nbytes": None,
    }
    parent = {"parent_uuid": "GPU-00000003-1111-2222-3333-444444444440"}
    for instance, device in ((0, found[2]), (2, found[3])):
        assert device == {
            **common,
            **unknown,
            **parent,
            "index": 3,
            "uuid": f"MIG-00000003-1111-2222-3333-44444444444{instance + 1}",
            "name": "NVIDIA H100 MIG 1g.10gb",
            "free_nbytes": 10_468_982_784 - 600_000_000 - GB,
            "used_nbytes": GB,
            "total_nbytes": 10_468_982_784,
        }
    assert len(found) == 4


def test_cuda_python_lists_the_processes_rightly(library: Path) -> None:
    """A list that grows meanwhile is asked again; 'not available' is None; two lists are one."""
    told = with_library(
        library,
        "import pathlib\n"
        "from cuda.bindings import nvml\n"
        "tell([device_holders(0), device_holders(1), device_holders(2), device_holders(3),\n"
        "      device_holders('MIG-00000003-1111-2222-3333-444444444443'),\n"
        "      os.getpid(), pathlib.Path('/proc/self/comm').read_text().strip(),\n"
        "      hasattr(nvml, 'device_get_graphics_running_processes_v3')])",
    )
    first, unsupported, lost, partitioned, instance, pid, name, draws = told
    mine = 2_500_000_000 if draws else 2_000_000_000  # early ones do not list who draws
    assert first == [
        {"pid": 999_999_999, "name": "", "nbytes": 12_300_000_000},
        {"pid": pid, "name": name, "nbytes": mine},
        {"pid": 999_999_998, "name": "", "nbytes": None},
    ]
    assert (unsupported, lost, partitioned) == ([], [], [])
    assert instance == [{"pid": pid, "name": name, "nbytes": 2_000_000_000}]


def test_cuda_python_s_refusals_have_their_reasons(library: Path) -> None:
    """Each code of nvmlInit_v2 is a reason, and a driver that is loaded later is found."""
    codes = {
        9: "no driver",
        4: "no permission",
        17: "no permission",
        12: "no library",
        18: "version mismatch",
        28: "no device",
        999: "failed",
        0: None,
    }
    script = f"""
told = {{}}
for code in {list(codes)}:
    os.environ["FAKE_NVML_INIT"] = str(code)
    found = devices(refresh=True)
    told[code] = [found.reason, found.explanation, len(found)]
    assert devices() == found
tell(told)
"""
    told = with_library(library, script)
    assert {int(code): reason for code, (reason, *_) in told.items()} == codes
    assert told["999"][1].startswith("NVIDIA's management library failed (UnknownError: ")
    assert told["0"][1:] == ["", 4]
    assert all(explanation for _, explanation, count in told.values() if not count)


def test_the_library_is_opened_once_in_a_process(library: Path, tmp_path: Path) -> None:
    """Threads open it once, a later figure is fresh, and a forked child opens its own."""
    log = tmp_path / "opened"
    script = """
import threading
threads = [threading.Thread(target=devices) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
os.environ["FAKE_NVML_USED"] = "123"
fresh = devices()[0].used_nbytes
devices(refresh=True)
child = os.fork()
if not child:
    os._exit(0 if len(devices()) == 4 else 1)
tell([os.getpid(), child, os.waitpid(child, 0)[1], fresh])
"""
    parent, child, status, fresh = with_library(library, script, FAKE_NVML_LOG=str(log))
    assert log.read_text() == f"{parent}\n{child}\n"
    assert status == 0
    assert fresh == 123


# Calls


def test_a_lock_taken_at_a_fork_does_not_stop_the_child() -> None:
    """A child that is forked while another thread opens NVML can open it itself."""
    script = """
import os
from tritonic_nb.monitoring import devices, nvml
with nvml._library._lock:
    child = os.fork()
    if not child:
        devices()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_what_a_gpu_does_not_tell_is_none(machine: Opener) -> None:
    """A GPU that supports no question is a device all the same."""
    machine()
    assert list(devices()) == [Device(0, "", "NVIDIA GPU", None, None, None, "")]
    assert repr(devices()) == (
        "GPUs\n"
        "  devices (1)\n"
        "    GPU  name          memory  used  free  busy\n"
        "      0  NVIDIA GPU  not told"
    )


def test_memory_of_no_size_is_not_told(machine: Opener) -> None:
    """A driver that tells zero bytes for shared memory tells nothing."""
    machine(memory=(0, 0, 0))
    assert devices()[0].total_nbytes is None


def test_a_sample_asks_only_for_what_changes(machine: Opener) -> None:
    """Reading again opens and lists nothing."""
    calls = machine(count=2, memory=(1, 2, 3), utilization=5)
    devices()
    assert calls.asked.count("open") == 1
    calls.asked.clear()
    devices()
    assert sorted(calls.asked) == ["memory"] * 2 + ["utilization"] * 2


def test_a_failure_is_kept_until_it_is_asked_anew(machine: Opener) -> None:
    """Without `refresh` a failed attempt is not repeated; with it, it is."""
    calls = machine(open=refusal("DriverNotLoadedError"))
    assert devices().reason is NvmlReason.NO_DRIVER
    assert devices().reason is NvmlReason.NO_DRIVER
    assert device_holders(0) == ()
    assert calls.asked == ["open"]
    del calls.answers["open"]
    assert not devices()
    assert devices(refresh=True)
    assert devices().reason is None


def test_a_driver_without_a_gpu_has_a_reason(machine: Opener) -> None:
    """A count of zero is 'no device'; a GPU that is added is found."""
    calls = machine(count=0)
    assert devices().reason is NvmlReason.NO_DEVICE
    calls.answers["count"] = 1
    assert len(devices(refresh=True)) == 1
    assert calls.asked.count("open") == 1


def test_gpus_that_are_all_refused_have_their_reason(machine: Opener) -> None:
    """Where no GPU may be used the reason is that of the last one; one that may be is shown."""
    calls = machine(count=2, handle=refusal("NoPermissionError"))
    assert devices().reason is NvmlReason.NO_PERMISSION
    calls.answers["handle"] = lambda index: index if index else refusal("NoPermissionError")
    assert [device.index for device in devices(refresh=True)] == [1]


def test_a_partitioned_gpu_can_still_be_asked_for_its_holders(machine: Opener) -> None:
    """NVML's number and the GPU's UUID mean the whole GPU, an instance's UUID the instance."""
    machine(
        most_instances=2,
        instance=lambda _, number: 10 + number,
        uuid=lambda handle: mig_uuid(handle) if handle >= 10 else gpu_uuid(handle),
        processes=lambda kind, handle: [(NOBODY - handle, handle)] if kind == "compute" else [],
    )
    assert [device.uuid for device in devices()] == [mig_uuid(10), mig_uuid(11)]
    assert device_holders(0) == device_holders(gpu_uuid(0)) == (DeviceHolder(NOBODY, "", 0),)
    assert device_holders(mig_uuid(11)) == (DeviceHolder(NOBODY - 11, "", 11),)
    assert device_holders("MIG-of-another-machine") == device_holders(7) == ()
    assert device_holders("") == ()


@pytest.mark.parametrize("kind", ["compute", "graphics", "mps_compute"])
def test_one_list_that_fails_does_not_hide_the_others(machine: Opener, kind: str) -> None:
    """What an old driver does not list is left out alone."""
    machine(
        processes=lambda each, _: (
            refusal("FunctionNotFoundError") if each == kind else [(len(each), 1)]
        )
    )
    lengths = {len(each) for each in ("compute", "graphics", "mps_compute") if each != kind}
    assert {holder.pid for holder in device_holders(0)} == lengths


ONE = f"process {NOBODY}"
TEXTS: dict[str, tuple[list[tuple[int, int | None]], str]] = {
    "nobody": ([], ""),
    "this process": ([(ME, 2 * GB)], "2 GB of this process"),
    "two": ([(ME, GB), (NOBODY, 12 * GB)], f"12 GB of {ONE} and 1 GB of this process"),
    "not told": (
        [(ME, None), (NOBODY, None)],
        f"memory of this process and memory of {ONE}",
    ),
    "many": (
        [(NOBODY - n, (9 - n) * GB) for n in range(5)],
        f"9 GB of {ONE}, 8 GB of process {NOBODY - 1}, 7 GB of process {NOBODY - 2} "
        "and 11 GB of 2 other processes",
    ),
    "one more than many, not told": (
        [(NOBODY, 9), (NOBODY - 1, 8), (NOBODY - 2, 7), (NOBODY - 3, None)],
        f"9 B of {ONE}, 8 B of process {NOBODY - 1}, 7 B of process {NOBODY - 2} "
        "and memory of 1 other process",
    ),
}


@pytest.mark.parametrize(("found", "text"), TEXTS.values(), ids=TEXTS.keys())
def test_the_text_says_what_to_close(
    machine: Opener, found: list[tuple[int, int | None]], text: str
) -> None:
    """The line says how much, and whose, the largest first."""
    machine(name="NVIDIA T4", processes=lambda kind, _: found if kind == "compute" else [])
    assert device_holders_text(0) == (text and f"GPU 0 (NVIDIA T4) holds {text}")
    assert device_holders_text(0, label="CUDA device 1") == (text and f"CUDA device 1 holds {text}")


def test_the_text_names_another_process(machine: Opener) -> None:
    """Another process is named with its command; a name that is no name is made one."""
    with subprocess.Popen(["sleep", "60"], executable=shutil.which("sleep")) as other:
        machine(name="T\n4" + "x" * 60, processes=[(other.pid, GB)])
        command = Path(f"/proc/{other.pid}/comm").read_text().strip()
        assert device_holders_text(0) == (
            f"GPU 0 (T?4{'x' * 36}…) holds 1 GB of process {other.pid} ({command})"
        )
        other.kill()


def cuda_bytes(uuid: str) -> bytes:
    return bytes.fromhex(uuid[4:].replace("-", ""))


def listed(*found: Device) -> Devices:
    return Devices(found)


def device(uuid: str, parent: str = "") -> Device:
    return Device(0, uuid, "NVIDIA T4", 1, 2, 3, "580", parent_uuid=parent)


def test_cuda_s_numbers_are_matched_by_uuid() -> None:
    """Bytes as CUDA gives them, and text in any form, number the devices that CUDA shows."""
    found = listed(*(device(gpu_uuid(number)) for number in range(4)), device(""))
    order = [cuda_bytes(gpu_uuid(2)), gpu_uuid(0).upper().replace("GPU-", ""), gpu_uuid(3)]
    numbered = with_cuda_indices(found, order)
    assert [each.cuda_index for each in numbered] == [1, None, 0, 2, None]
    assert [each.uuid for each in numbered] == [each.uuid for each in found]
    assert [each.cuda_index for each in with_cuda_indices(numbered, [])] == [None] * 5


def test_cuda_s_number_of_an_instance() -> None:
    """An instance is known by its own UUID, or by its GPU's if it is the only one there."""
    found = listed(
        device(mig_uuid(0), parent=gpu_uuid(0)),
        device(mig_uuid(1), parent=gpu_uuid(0)),
        device(mig_uuid(2), parent=gpu_uuid(1)),
    )

    def numbers(*uuids: str) -> list[int | None]:
        return [each.cuda_index for each in with_cuda_indices(found, [*map(cuda_bytes, uuids)])]

    assert numbers(mig_uuid(1)) == [None, 0, None]
    assert numbers(gpu_uuid(1)) == [None, None, 0]
    assert numbers(gpu_uuid(0)) == [None, None, None]


def test_the_devices_are_shown_in_a_table(machine: Opener) -> None:
    """Memory and how full it is, in text and HTML; CUDA's numbers where they are known."""
    machine(
        count=2,
        driver="580.65",
        name=lambda handle: "NVIDIA T4" if handle else "<b>GPU</b>",
        uuid=gpu_uuid,
        memory=(4 * GB, 12 * GB, 16 * GB),
        utilization=lambda handle: 42 if handle else refusal("NotSupportedError"),
    )
    assert repr(devices()) == (
        "GPUs, NVIDIA driver 580.65\n"
        "  devices (2)\n"
        "    GPU  name        memory         used  free  busy\n"
        "      0  <b>GPU</b>   16 GB  12 GB (75%)  4 GB\n"
        "      1  NVIDIA T4    16 GB  12 GB (75%)  4 GB   42%"
    )
    numbered = with_cuda_indices(devices(), [gpu_uuid(1)])
    assert repr(numbered).splitlines()[2:] == [
        "    GPU  name        memory         used  free  busy  CUDA device",
        "      0  <b>GPU</b>   16 GB  12 GB (75%)  4 GB",
        "      1  NVIDIA T4    16 GB  12 GB (75%)  4 GB   42%            0",
    ]
    html = devices()._repr_html_()
    assert "&lt;b&gt;GPU&lt;/b&gt;" in html
    assert "<b>GPU" not in html


def test_devices_are_a_sequence(machine: Opener) -> None:
    """They can be counted, indexed, sliced and searched, and compare by what they are."""
    machine(count=3)
    found = devices()
    assert [device.index for device in found[1:]] == [1, 2]
    assert found[-1] in found
    assert found.index(found[2]) == 2
    assert found == devices()


def test_asking_from_many_threads_opens_once(machine: Opener) -> None:
    """The first of several threads opens NVML, and the others wait for it."""
    calls = machine(memory=(1, 2, 3))
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        devices()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls.asked.count("open") == calls.asked.count("count") == 1
    assert calls.asked.count("memory") == 8
