"""How much room there is for host memory.

Three things bound it: the size of ``/dev/shm``, the limit of each memory cgroup
that this process is in (a container's, or a service's), and the machine itself.
Memory in ``/dev/shm`` is charged to the cgroup of the process that reserves it,
and only a full ``/dev/shm`` is an error: beyond the other two the kernel kills
a process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["HOW_TO_ENLARGE", "Space", "host_space"]

HOW_TO_ENLARGE = (
    "enlarge it (docker run --shm-size=2g, Kubernetes: an emptyDir with medium: Memory, "
    "mount -o remount,size=2g /dev/shm)"
)
"""What to do where /dev/shm is too small, for the remedy of an error."""

_SHM_DIR = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory, not a temp folder
_CGROUPS = Path("/sys/fs/cgroup")
_CONTAINER = "the memory of this container (cgroup)"
_MACHINE = "the machine's memory"

_UNLIMITED = sys.maxsize
# Left to the processes of a cgroup: with its last byte gone, the next one that any of
# them asks for gets one killed. The machine's own figure leaves such a rest already.
_SPARE_NBYTES = 16 * 2**20


@dataclass(frozen=True)
class Space:
    """The room for host memory at one moment.

    Attributes
    ----------
    free_nbytes, total_nbytes
        Of ``/dev/shm``, in bytes; `sys.maxsize` where it was mounted without a size.
    available_nbytes
        What the kernel could still give to this process without harm, in bytes:
        without having to swap, to slow anybody down or to kill. `sys.maxsize` if
        it does not tell.
    available_in
        What sets `available_nbytes`, in words.
    """

    free_nbytes: int
    total_nbytes: int
    available_nbytes: int
    available_in: str

    @property
    def room_nbytes(self) -> int:
        """The largest region that there is room for, in bytes."""
        return min(self.free_nbytes, self.available_nbytes)

    @property
    def remedy(self) -> str:
        """What to do where the room is too small for a region."""
        wire = ", or use shared_memory='none'" if self.free_nbytes <= self.available_nbytes else ""
        return self.how_to_enlarge + wire

    @property
    def how_to_enlarge(self) -> str:
        """How to get more room of what sets `room_nbytes`."""
        if self.free_nbytes <= self.available_nbytes:
            return HOW_TO_ENLARGE
        return (
            "give it more memory (docker run --memory=4g, Kubernetes resources.limits.memory); a "
            "larger /dev/shm would not help"
        )

    @property
    def limit(self) -> str:
        """What sets `room_nbytes`, in words: ``"/dev/shm"``, the container or the machine."""
        return _SHM_DIR if self.free_nbytes <= self.available_nbytes else self.available_in


def host_space() -> Space:
    """Return the room that there is now. It is asked anew each time, and is quick.

    Raises
    ------
    OSError
        If there is no ``/dev/shm``.
    """
    free, total = _free_and_total(_SHM_DIR)
    machine = _machine_nbytes(_read("/proc/meminfo"))
    container = _cgroups_nbytes(_CGROUPS, _read("/proc/self/cgroup"))
    if container < machine:
        return Space(free, total, container, _CONTAINER)
    return Space(free, total, machine, _MACHINE)


def _free_and_total(folder: str) -> tuple[int, int]:
    status = os.statvfs(folder)
    if status.f_blocks == 0:  # a tmpfs that was mounted with size=0, or a ramfs
        return _UNLIMITED, _UNLIMITED
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize


def _machine_nbytes(meminfo: str) -> int:
    """Return what the machine has available, from the text of ``/proc/meminfo``."""
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return _UNLIMITED  # a kernel before 3.14 does not tell


@dataclass(frozen=True)
class _Files:
    """What the memory controller's files are called.

    Attributes
    ----------
    limits, usage
        Files of one number each.
    cache
        The lines of ``memory.stat`` for page cache, with that of the cgroups below.
    """

    limits: tuple[str, ...]
    usage: str
    cache: tuple[str, ...]


# The kernel drops clean page cache, active or not, and writes dirty cache out, before it
# kills; this has been tried. Files in /dev/shm are page cache too, but stay, and are not
# in these two lines. Reclaimable slab is left out: it often cannot be reclaimed.
_V1 = _Files(
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
)
# Beyond memory.high nobody is killed, but all are slowed down until they seem to hang,
# as memory in /dev/shm cannot be reclaimed.
_V2 = _Files(("memory.max", "memory.high"), "memory.current", ("active_file", "inactive_file"))


def _cgroups_nbytes(root: Path, membership: str) -> int:
    """Return what the memory cgroups of this process leave it.

    Parameters
    ----------
    root
        Where the cgroup file system is mounted: version 2 itself, or a folder
        for each controller of version 1 and one for version 2.
    membership
        The text of ``/proc/self/cgroup``.
    """
    left = _UNLIMITED
    for line in membership.splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if "memory" in controllers.split(","):
            folders, files = _folders(root / "memory", path), _V1
        elif not controllers:
            whole = (root / "cgroup.controllers").exists()
            folders, files = _folders(root if whole else root / "unified", path), _V2
        else:
            continue
        left = min(left, *(_left(folder, files) for folder in folders))
    return left


def _folders(root: Path, path: str) -> Iterator[str]:
    """Give the folder of a cgroup and of each one above it.

    A container often sees its own cgroup as the root, under a path that only the
    host knows. So a folder need not be there, and the root always counts.
    """
    inside = PurePosixPath(path.lstrip("/"))
    if ".." not in inside.parts:  # else it is outside of what is to be seen here
        for folder in (inside, *inside.parents):
            yield str(root / folder)
    else:
        yield str(root)


def _left(folder: str, files: _Files) -> int:
    """Return what one cgroup leaves, in bytes."""
    limit = min(_number(_read(f"{folder}/{name}")) for name in files.limits)
    if limit >= _UNLIMITED // 2:  # version 1 writes the largest number of whole pages
        return _UNLIMITED
    usage = _number(_read(f"{folder}/{files.usage}"))
    if usage == _UNLIMITED:  # it went meanwhile
        return _UNLIMITED
    lines = (line.partition(" ") for line in _read(f"{folder}/memory.stat").splitlines())
    cache = sum(_number(value) for name, _, value in lines if name in files.cache)
    return max(0, limit - usage + cache - _SPARE_NBYTES)


def _number(text: str) -> int:
    """Return the number in a file; `_UNLIMITED` for ``max`` and for a file that is not there."""
    text = text.strip()
    return int(text) if text.isdigit() else _UNLIMITED


def _read(path: str) -> str:
    """Return a file of the kernel's, which is small; empty if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # half the time of Path.read_text
    except OSError:
        return ""
    try:
        return os.read(fd, 65536).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
