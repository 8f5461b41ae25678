"""The room for host memory: /dev/shm, cgroups of both versions, the machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_server.test_containers import own_dev_shm
from tritonic_nb.memory.space import (
    _SPARE_NBYTES,
    Space,
    _cgroups_nbytes,
    _machine_nbytes,
    host_space,
)

SPARE = _SPARE_NBYTES
MIB = 2**20
NONE = sys.maxsize

# As Linux 6.18 writes it (version 1), and as its documentation has it (version 2).
STAT_V1 = """\
cache {cache}
rss 1736704
shmem 4096000
mapped_file 86016
inactive_anon 1654784
active_anon 8192
inactive_file 532480
active_file 446464
unevictable 0
hierarchical_memory_limit 9223372036854771712
total_cache 978944
total_shmem 4096000
total_inactive_anon 1654784
total_active_anon 8192
total_inactive_file {inactive}
total_active_file {active}
total_unevictable 0
"""
STAT_V2 = """\
anon 27688960
file 90112000
kernel 1998848
shmem 81788928
file_mapped 4218880
inactive_anon 98041856
active_anon 11436032
inactive_file {inactive}
active_file {active}
unevictable 0
slab_reclaimable 901216
slab_unreclaimable 541136
"""
MEMINFO = """\
MemTotal:       24684096 kB
MemFree:        17872264 kB
MemAvailable:   18141304 kB
Buffers:            3020 kB
Cached:           473280 kB
"""


def v1(folder: Path, limit: int | None, usage: int = 0, inactive: int = 0, active: int = 0) -> None:
    """Write the files of a memory cgroup of version 1."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 9223372036854771712 if limit is None else limit
    (folder / "memory.limit_in_bytes").write_text(f"{number}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{usage}\n")
    text = STAT_V1.format(cache=inactive + active, inactive=inactive, active=active)
    (folder / "memory.stat").write_text(text)


def v2(
    folder: Path, limit: int | None, usage: int = 0, *, high: int | None = None,
    inactive: int = 0, active: int = 0,
) -> None:  # fmt: skip
    """Write the files of a memory cgroup of version 2."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in (("max", limit), ("high", high)):
        (folder / f"memory.{name}").write_text("max\n" if number is None else f"{number}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(STAT_V2.format(inactive=inactive, active=active))


@pytest.fixture
def pure(tmp_path: Path) -> Path:
    """A cgroup file system of version 2, as most machines have it."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma misc\n")
    return tmp_path


def test_a_container_sees_its_own_limit_at_the_root(pure: Path) -> None:
    """In a container with a cgroup namespace the limit stands in the root folder."""
    v2(pure, 512 * MIB, 200 * MIB)
    assert _cgroups_nbytes(pure, "0::/\n") == 312 * MIB - SPARE


def test_page_cache_counts_as_available_and_shared_memory_does_not(pure: Path) -> None:
    """Files' cache is dropped under pressure, active or not; what is in /dev/shm stays."""
    v2(pure, 512 * MIB, 500 * MIB, inactive=30 * MIB, active=10 * MIB)
    assert _cgroups_nbytes(pure, "0::/\n") == 52 * MIB - SPARE


def test_every_cgroup_above_counts(pure: Path) -> None:
    """The smallest rest from the process's own cgroup up to the root is what is left."""
    slice_ = pure / "user.slice" / "user-1000.slice"
    v2(slice_ / "session-3.scope", None, 10 * MIB)
    v2(slice_, 100 * MIB, 40 * MIB)
    v2(pure / "user.slice", 400 * MIB, 380 * MIB)
    membership = "0::/user.slice/user-1000.slice/session-3.scope\n"
    assert _cgroups_nbytes(pure, membership) == 20 * MIB - SPARE


def test_memory_high_is_a_limit_too(pure: Path) -> None:
    """Beyond memory.high nobody is killed and everybody crawls, so it is not gone beyond."""
    v2(pure / "service", None, 50 * MIB, high=128 * MIB)
    assert _cgroups_nbytes(pure, "0::/service\n") == 78 * MIB - SPARE


def test_a_root_without_limits_is_no_limit(pure: Path) -> None:
    """The machine's root cgroup has no memory.max, and a cgroup may have max."""
    v2(pure / "init.scope", None, 10 * MIB)
    assert _cgroups_nbytes(pure, "0::/init.scope\n") == NONE


def test_a_path_that_only_the_host_knows(pure: Path) -> None:
    """Where the host's path is told and its folders are not there, the root counts."""
    v2(pure, 256 * MIB, 56 * MIB)
    for path in ("/docker/3f1c", "/../../kubepods/pod1", "/gone (deleted)"):
        assert _cgroups_nbytes(pure, f"0::{path}\n") == 200 * MIB - SPARE


def test_a_cgroup_that_is_over_its_limit_has_nothing_left(pure: Path) -> None:
    """Less than nothing is nothing."""
    v2(pure, 64 * MIB, 64 * MIB)
    assert _cgroups_nbytes(pure, "0::/\n") == 0


def test_a_container_of_version_1(tmp_path: Path) -> None:
    """Docker on an older host: the container's own folder is mounted as the controller's."""
    v1(tmp_path / "memory", 512 * MIB, 300 * MIB, inactive=20 * MIB, active=8 * MIB)
    membership = "12:memory:/docker/3f1c\n11:cpu,cpuacct:/docker/3f1c\n0::/docker/3f1c\n"
    assert _cgroups_nbytes(tmp_path, membership) == 240 * MIB - SPARE


def test_a_hierarchy_of_version_1(tmp_path: Path) -> None:
    """Limits of version 1 add up over the folders too, and its largest number is none."""
    v1(tmp_path / "memory", None, 9000 * MIB)
    v1(tmp_path / "memory/jobs", 800 * MIB, 700 * MIB)
    v1(tmp_path / "memory/jobs/7", None, 600 * MIB)
    assert _cgroups_nbytes(tmp_path, "4:memory:/jobs/7\n0::/\n") == 100 * MIB - SPARE


def test_a_hybrid_whose_memory_is_in_version_2(tmp_path: Path) -> None:
    """With version 1 beside it, version 2 is in the folder 'unified'."""
    v2(tmp_path / "unified/app", 96 * MIB, 6 * MIB)
    assert _cgroups_nbytes(tmp_path, "1:name=systemd:/\n0::/app\n") == 90 * MIB - SPARE


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    """Without a cgroup file system there is no limit."""
    assert _cgroups_nbytes(tmp_path, "0::/\n") == NONE
    assert _cgroups_nbytes(tmp_path, "") == NONE


def test_the_machine_tells_what_is_available() -> None:
    """MemAvailable is read in kB; a kernel that does not tell sets no limit."""
    assert _machine_nbytes(MEMINFO) == 18141304 * 1024
    assert _machine_nbytes("MemTotal: 24684096 kB\n") == NONE


@pytest.mark.parametrize(
    ("free", "available", "limit"),
    [(5, 7, "/dev/shm"), (7, 5, "the machine's memory"), (5, 5, "/dev/shm")],
)
def test_the_limit_is_what_binds(free: int, available: int, limit: str) -> None:
    """The room is the smaller figure, and the words say whose it is."""
    made = Space(free, 10, available, "the machine's memory")
    assert (made.room_nbytes, made.limit) == (5, limit)


def test_the_figures_are_those_of_this_machine() -> None:
    """The real /dev/shm is asked, and the room is never more than it has free."""
    before = host_space()
    status = os.statvfs("/dev/shm")
    assert before.total_nbytes == status.f_blocks * status.f_frsize
    assert 0 <= before.room_nbytes <= before.free_nbytes <= before.total_nbytes
    assert before.available_nbytes > 0


def run(start: list[str], script: str) -> list[str]:
    """Run a Python script with a small /dev/shm, or in a cgroup, and return its lines."""
    done = subprocess.run(
        [*start, sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _mounts() -> bool:
    try:
        tried = subprocess.run([*own_dev_shm("1m"), "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return tried.returncode == 0


needs_mounts = pytest.mark.skipif(
    not _mounts(), reason="mounting a /dev/shm of one's own needs root and unshare"
)
PRINT = """
import os
from tritonic_nb.memory.space import host_space
with open("/dev/shm/half", "wb") as file:
    os.posix_fallocate(file.fileno(), 0, 2**20)
now = host_space()
print(now.free_nbytes, now.total_nbytes, now.room_nbytes, now.limit)
"""


@needs_mounts
def test_a_small_dev_shm_binds() -> None:
    """With half of 2 MiB taken, the other half is free, and /dev/shm is the limit."""
    assert run(own_dev_shm("2m"), PRINT) == [f"{MIB} {2 * MIB} {MIB} /dev/shm"]


@needs_mounts
def test_a_dev_shm_without_a_size_does_not_bind() -> None:
    """A tmpfs of size 0 has no limit: not one byte free would be the opposite."""
    free, total, room, *limit = run(own_dev_shm("0"), PRINT)[0].split()
    assert free == total == str(NONE)
    assert 0 < int(room) < NONE
    assert limit[0] == "the"


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A real cgroup of 96 MiB, of whichever version this machine lets us make."""
    with contextlib.ExitStack() as stack:
        for parent, name in (
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ):
            folder = Path(parent) / f"tritonic_nb_test_{os.getpid()}"
            try:
                folder.mkdir()
            except OSError:
                continue
            stack.callback(_remove_cgroup, folder)
            with contextlib.suppress(OSError):
                if (folder / name).exists():
                    (folder / name).write_text(str(96 * MIB))
                    break
        else:
            pytest.skip("making a memory cgroup is not permitted here")
        yield folder


def _remove_cgroup(folder: Path) -> None:
    deadline = time.monotonic() + 5
    while folder.exists():
        try:
            folder.rmdir()
        except OSError:  # the child that ended still counts for a moment
            assert time.monotonic() < deadline
            time.sleep(0.05)


IN_CGROUP = """
import os, sys
from pathlib import Path
from tritonic_nb.memory.space import host_space
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
before = host_space()
print(before.room_nbytes, before.limit)
with Path(sys.argv[2]).open("wb+") as cached:
    cached.write(b"x" * (48 * 2**20))
    for _ in range(3):
        cached.seek(0)
        cached.read()
print(host_space().room_nbytes)
fd = os.open("/dev/shm/tritonic_nb_test_space", os.O_RDWR | os.O_CREAT | os.O_EXCL)
os.unlink("/dev/shm/tritonic_nb_test_space")
os.posix_fallocate(fd, 0, 8 * 2**20)
print(host_space().room_nbytes)
os.posix_fallocate(fd, 0, 8 * 2**20 + host_space().room_nbytes)
print(host_space().room_nbytes)
"""


def test_the_room_in_a_real_cgroup_can_be_used_to_the_full(cgroup: Path, tmp_path: Path) -> None:
    """A cgroup's limit binds; page cache takes no room, /dev/shm does; all of it can be had."""
    script = IN_CGROUP.replace("sys.argv[1]", repr(str(cgroup)))
    first, cached, taken, full = run([], script.replace("sys.argv[2]", repr(str(tmp_path / "f"))))
    room, limit = first.split(maxsplit=1)
    assert limit == "the memory of this container (cgroup)"
    assert 64 * MIB < int(room) <= 96 * MIB - SPARE
    assert abs(int(room) - int(cached)) < 8 * MIB
    assert abs(int(cached) - int(taken) - 8 * MIB) < 2 * MIB
    assert int(full) < 2 * MIB
