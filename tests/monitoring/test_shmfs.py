"""Who holds the memory in /dev/shm, seen from the outside of real processes."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TEST_URL
from tests.own_shm import WHY_NOT, own_dev_shm
from tritonic_nb.memory import SharedMemoryType, create_region
from tritonic_nb.memory.shm_file import KEY_PREFIX
from tritonic_nb.monitoring import ShmFile, holders_text, shm_files, shmfs

SHM = Path("/dev/shm")
MIB = 2**20


@pytest.fixture
def make() -> Iterator[Callable[..., Path]]:
    """Make files in /dev/shm that are removed after the test."""
    made: list[Path] = []

    def make_one(nbytes: int = MIB, name: str = "shmfs_test") -> Path:
        path = SHM / f"{name}_{os.getpid()}_{secrets.token_hex(4)}"
        made.append(path)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(nbytes))
        return path

    yield make_one
    for path in made:
        path.unlink(missing_ok=True)
        if path.parent != SHM:
            path.parent.rmdir()


@contextlib.contextmanager
def child(script: str, *arguments: object, start: tuple[str, ...] = ()) -> Iterator[int]:
    """Run a Python script in another process, from the line that it prints until it is told."""
    command = [*start, sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.communicate("")
        assert process.returncode == 0


MAPPED = """
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 0)  # which keeps a descriptor of its own
print("ready", flush=True)
sys.stdin.read()
"""
MAPPED_ONLY = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: may be looked at by that user
fd = os.open(sys.argv[1], os.O_RDONLY)
assert libc.mmap(None, os.fstat(fd).st_size, 1, 1, fd, 0) not in (None, 2**64 - 1)
os.close(fd)
print("ready", flush=True)
sys.stdin.read()
"""
OPEN_ONLY = """
import sys
file = open(sys.argv[1], "rb")
print("ready", flush=True)
sys.stdin.read()
"""


def find(name: str) -> ShmFile | None:
    """Give the one file of that name, if it is there."""
    found = [file for file in shm_files() if file.name == name]
    assert len(found) <= 1
    return found[0] if found else None


def test_a_file_counts_with_what_it_takes(make: Callable[..., Path]) -> None:
    """A sparse file takes its pages and not its size; nobody holds it, and it is listed."""
    path = make(4096)
    os.truncate(path, 4 * MIB)
    assert find(path.name) == ShmFile(path.name, 4096, (), deleted=False, kind="other")


def test_files_in_folders_are_found(make: Callable[..., Path]) -> None:
    """The name of a file in a folder says in which."""
    path = make(4096, name=f"shmfs_{secrets.token_hex(4)}/inner")
    found = find(str(path.relative_to(SHM)))
    assert found is not None
    assert found.nbytes == 4096


@pytest.mark.parametrize("script", [MAPPED_ONLY, OPEN_ONLY, MAPPED], ids=["mapped", "open", "both"])
def test_who_maps_it_or_has_it_open_holds_it(make: Callable[..., Path], script: str) -> None:
    """A process that maps a file, has it open, or both, is named once."""
    path = make()
    with child(script, path) as pid:
        found = find(path.name)
    assert found == ShmFile(path.name, MIB, (pid,), deleted=False, kind="other")


@pytest.mark.parametrize("script", [MAPPED_ONLY, OPEN_ONLY, MAPPED], ids=["mapped", "open", "both"])
def test_a_removed_file_is_found_with_those_who_keep_it(
    make: Callable[..., Path], script: str
) -> None:
    """What no directory lists is found, once, and is gone with the last one who has it."""
    path = make()
    with child(script, path) as one, child(MAPPED_ONLY, path) as two:
        path.unlink()
        found = find(path.name)
    pids = tuple(sorted((one, two)))
    assert found == ShmFile(path.name, MIB, pids, deleted=True, kind="other")
    assert find(path.name) is None


def test_a_new_file_of_the_same_name_is_another_one(make: Callable[..., Path]) -> None:
    """A removed file and its successor are told apart, as each takes memory."""
    path = make()
    with child(MAPPED_ONLY, path) as pid:
        path.unlink()
        path.write_bytes(bytes(4096))
        found = [file for file in shm_files() if file.name == path.name]
    assert found == [
        ShmFile(path.name, MIB, (pid,), deleted=True, kind="other"),
        ShmFile(path.name, 4096, (), deleted=False, kind="other"),
    ]


def test_a_name_that_looks_removed_is_not(make: Callable[..., Path]) -> None:
    """A file may be called '... (deleted)' and be there."""
    path = make()
    odd = path.rename(f"{path} (deleted)")
    try:
        with child(MAPPED, odd) as pid:
            assert find(odd.name) == ShmFile(odd.name, MIB, (pid,), deleted=False, kind="other")
    finally:
        odd.unlink()


def test_kinds_are_told_by_name(make: Callable[..., Path]) -> None:
    """Our regions, the pools of our servers and of others, and everything else."""
    region = create_region(SharedMemoryType.SYSTEM, "x", "input", 100)
    try:
        found = find(region.name)
        assert found is not None
        assert (found.kind, found.pids, found.deleted) == ("region", (os.getpid(),), False)
    finally:
        region.close()
    assert next(iter(shmfs._KINDS)) == KEY_PREFIX
    for name, kind in {
        "tritonic_nb_pool": "pool",
        "triton_python_backend_shm_region": "pool",
        "tritonic_nbx": "other",
        "psm": "other",
    }.items():
        found = find(make(4096, name=name).name)
        assert found is not None
        assert found.kind == kind


def test_the_largest_comes_first(make: Callable[..., Path]) -> None:
    """The order is that of the memory taken."""
    names = [make(nbytes).name for nbytes in (4096, 3 * MIB, MIB)]
    found = [file.name for file in shm_files() if file.name in names]
    assert found == [names[1], names[2], names[0]]


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "never")
@pytest.mark.parametrize("removed", [False, True])
def test_another_dev_shm_is_not_mixed_in(removed: bool) -> None:
    """A process with a /dev/shm of its own, as in a container, holds nothing of ours."""
    name = f"shmfs_elsewhere_{secrets.token_hex(4)}"
    script = f"""
import os
path = "/dev/shm/{name}"
open(path, "wb").write(bytes(4096))
file = open(path, "rb")
{"os.unlink(path)" if removed else ""}
import sys; sys.argv = [path, f"/proc/self/fd/{{file.fileno()}}"]
{MAPPED}
"""
    with child(script, start=tuple(own_dev_shm("1m"))):
        assert find(name) is None


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_a_user_without_rights_sees_its_own(make: Callable[..., Path], tmp_path: Path) -> None:
    """Without rights a removed file counts with the bytes mapped; others' processes are hidden."""
    path, other = make(), make()
    path.chmod(0o644)
    os.truncate(path, 2 * MIB)  # of which half is not allocated
    look = """
import os, sys
from tritonic_nb.monitoring import shm_files
os.setuid(65534)
print(*sorted((f.name, f.nbytes, f.pids, f.deleted) for f in shm_files() if f.name in sys.argv))
"""
    with child(MAPPED_ONLY, path, 65534) as theirs, child(MAPPED_ONLY, other):
        path.unlink()
        done = subprocess.run(
            [sys.executable, "-c", look, path.name, other.name],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        full = find(path.name)
    seen = sorted([(path.name, 2 * MIB, (theirs,), True), (other.name, MIB, (), False)])
    assert done.stdout == "{} {}\n".format(*seen)
    assert full == ShmFile(path.name, MIB, (theirs,), deleted=True, kind="other")


def test_processes_may_end_meanwhile() -> None:
    """Processes that come and go while it looks are no error."""
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            subprocess.run(["true"], check=True)

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            shm_files()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_it_comes_to_an_end(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Path]) -> None:
    """When time is up it returns what it knows."""
    path = make()
    with path.open("rb"):
        scan = shmfs._Scan(SHM.stat().st_dev, time.monotonic() + 60)
        scan.list_files()
        scan._deadline = 0.0
        scan.look_at(os.getpid())
        assert [file.pids for file in scan.files() if file.name == path.name] == [()]
        monkeypatch.setattr(shmfs, "_LONGEST_S", -1.0)
        assert shm_files() == ()


def test_without_a_dev_shm_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system that has none there are no files and no text."""
    monkeypatch.setattr(shmfs, "_SHM_DIR", "/nowhere/shm")
    assert shm_files() == ()
    assert holders_text() == ""


def region(tensor: str, pid: int, nbytes: int, *pids: int, deleted: bool = False) -> ShmFile:
    """Give a region as it would be found."""
    return ShmFile(f"tritonic_nb-{pid}-00ff-{tensor}", nbytes, pids, deleted, "region")


ME = os.getpid()
TEXTS: dict[str, tuple[list[ShmFile], str]] = {
    "nothing": ([], ""),
    "a file of no bytes": ([ShmFile("empty", 0, (ME,), False, "other")], ""),
    "a region of this process and of the server": (
        [region("INPUT0", ME, 24_000_000, 1, ME)],
        "24 MB in region INPUT0 of this process",
    ),
    "regions of one process": (
        [region("INPUT0", ME, 2_000_000, ME), region("OUTPUT0", ME, 1_000_000, ME)],
        "3 MB in 2 regions of this process",
    ),
    "a region whose owner is gone": (
        [region("INPUT0", 4711, 1_000_000, ME)],
        "1 MB in region INPUT0 still kept by this process",
    ),
    "a region that only its server keeps": (
        [region("INPUT0", 4711, 1_000_000, ME, deleted=True)],
        "1 MB in removed region INPUT0 still kept by this process",
    ),
    "an orphan": (
        [region("INPUT0", 4711, 1_000_000)],
        "1 MB in region INPUT0 that no visible process uses",
    ),
    "pools": (
        [ShmFile(f"tritonic_nb_pool_{n}", 40_000_000, (ME,), False, "pool") for n in range(2)],
        "80 MB in 2 Triton Python backend pools of this process",
    ),
    "others": (
        [ShmFile(f"psm_{n}", 600_000_000 - n, (ME,), False, "other") for n in range(3)],
        "1.8 GB in psm_0 and 2 other files of this process",
    ),
    "a name that is no name": (
        [ShmFile("a\n\x1b[31m\udcff" + "b" * 60, 1000, (), False, "other")],
        f"1 kB in a??[31m?{'b' * 31}… that no visible process uses",
    ),
}


@pytest.mark.parametrize(("files", "text"), TEXTS.values(), ids=TEXTS.keys())
def test_the_text_says_what_to_close(
    monkeypatch: pytest.MonkeyPatch, files: list[ShmFile], text: str
) -> None:
    """The line says how much, in what, and whose."""
    monkeypatch.setattr(shmfs, "shm_files", lambda: tuple(files))
    assert holders_text() == (text and f"/dev/shm holds {text}")


def test_the_text_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the largest holders there is one figure for the rest."""
    files = [ShmFile(f"psm_{n}", (9 - n) * 1_000_000, (100_000_000 + n,), False, "other")
             for n in range(5)]  # fmt: skip
    monkeypatch.setattr(shmfs, "shm_files", lambda: tuple(files))
    assert holders_text(limit=2) == (
        "/dev/shm holds 9 MB in psm_0 of process 100000000, 8 MB in psm_1 of process "
        "100000001 and 18 MB in 3 other files"
    )


def test_the_text_names_another_process(make: Callable[..., Path]) -> None:
    """Another process is named with its number and its command."""
    path = make(8 * MIB)
    with child(MAPPED, path) as pid:
        text = holders_text(limit=1000)
        command = Path(f"/proc/{pid}/comm").read_text().strip()
    assert f"8.39 MB in {path.name} of process {pid} ({command})" in text


@pytest.mark.skipif(bool(TEST_URL), reason="the server is not ours to look into")
def test_triton_keeps_a_removed_region(server: Any, open_session: Callable[..., Any]) -> None:
    """A region whose file is gone is still held by the server that knows it; so are its pools."""
    session = open_session("simple")
    ones = [[1] * 16]
    session.infer(INPUT0=ones, INPUT1=ones)
    mine = f"tritonic_nb_pool_{ME}_"
    pools = [file for file in shm_files() if file.name.startswith(mine) and file.nbytes]
    assert {file.kind for file in pools} == {"pool"}
    for pool in pools:  # its model's process has it, too
        holders = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in pool.pids}
        assert "tritonserver" in holders
    assert "Triton Python backend pool" in holders_text(limit=1000)
    gone = next(file for file in shm_files() if file.name.startswith(f"{KEY_PREFIX}{ME}-"))
    (SHM / gone.name).unlink()
    found = find(gone.name)
    assert found is not None
    assert found.deleted
    assert len(found.pids) == 2
