"""Who holds the memory in ``/dev/shm``.

A file there takes memory until it is removed and no process maps it or has it
open any more. So a directory listing does not show all of it: Triton keeps its
mapping of a region after the file is gone.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tritonic_nb.monitoring.holders import listed, printable, process_name, process_text
from tritonic_nb.render import human_bytes

__all__ = ["ShmFile", "holders_text", "owner_text", "shm_files"]

_SHM_DIR = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory, not a temp folder
_INSIDE = f"{_SHM_DIR}/"
_DELETED = " (deleted)"  # what the kernel appends to the name of a removed file
_KINDS = {
    "tritonic_nb-": "region",
    "tritonic_nb_pool_": "pool",
    "triton_python_backend_shm_region_": "pool",
}
_REGION = re.compile(r"tritonic_nb-(\d+)-[0-9a-f]+-(.*)")
# A machine may have any number of processes, and somebody waits.
_LONGEST_S = 1.0


@dataclass(frozen=True)
class ShmFile:
    """A file that takes memory in ``/dev/shm``.

    Attributes
    ----------
    name
        Its name under ``/dev/shm``; if it was removed, the name that it had.
    nbytes
        The memory that it takes, in bytes, whatever size it claims. For a
        removed one that this user may only see mapped: the bytes mapped.
    pids
        The processes that map it or have it open, as far as this user may see.
    deleted
        Whether it was removed, and only those processes keep it.
    kind
        ``"region"`` for one of this toolkit's, ``"pool"`` for one of Triton's
        Python backend, else ``"other"``.
    """

    name: str
    nbytes: int
    pids: tuple[int, ...]
    deleted: bool
    kind: str


def shm_files(*, holders: bool = True) -> tuple[ShmFile, ...]:
    """Return what takes memory in ``/dev/shm``, the largest first.

    It looks at each process, for at most about a second: what it would have seen
    in the remaining ones is missing then. Without a ``/dev/shm`` there is nothing.

    Parameters
    ----------
    holders
        False looks at no process, which is quick: only files that have a name are found,
        and nobody that holds them.
    """
    status = _status(_SHM_DIR)
    if status is None:
        return ()
    scan = _Scan(status.st_dev, time.monotonic() + _LONGEST_S)
    scan.list_files()
    for pid in _pids() if holders else ():
        if scan.late():
            break
        scan.look_at(pid)
    return tuple(sorted(scan.files(), key=lambda file: (-file.nbytes, file.name)))


def holders_text(limit: int = 3) -> str:
    """Say in one line who holds the most of ``/dev/shm``; empty if nothing is there.

    For example: ``/dev/shm holds 1.2 GB in psm_1a2b of process 99 (python), 24 MB in
    region INPUT0 of this process and 512 MB in 12 other files``.

    Parameters
    ----------
    limit
        How many holders to name, at least 1. A process counts once for its
        regions, once for its pools, and once for everything else.
    """
    groups: dict[tuple[str, bool, int | None], list[ShmFile]] = {}
    for file in shm_files():
        if file.nbytes:
            groups.setdefault((file.kind, file.deleted, _holder(file)), []).append(file)
    largest = sorted(groups.values(), key=_total, reverse=True)
    parts = [f"{human_bytes(_total(group))} in {_described(group)}" for group in largest[:limit]]
    rest = [file for group in largest[limit:] for file in group]
    if rest:
        parts.append(f"{human_bytes(_total(rest))} in {_count(len(rest), 'other file')}")
    return f"{_SHM_DIR} holds {listed(parts)}" if parts else ""


def owner_text(file: ShmFile) -> str:
    """Say in short whose a file is: ``python 99``, ``this process``, ``Triton pools 12``.

    What Triton's Python backend keeps for itself stands on its own, with the server's number.
    """
    holder = _holder(file)
    if holder is None:
        return "no visible process"
    if file.kind == "pool":
        return f"Triton pools {holder}"
    if holder == os.getpid():
        return "this process"
    return f"{printable(process_name(holder)) or 'process'} {holder}"


@dataclass
class _Found:
    """What is known of a file so far.

    Attributes
    ----------
    allocated, mapped
        The bytes that it takes, if they could be asked; those that are mapped.
    """

    name: str
    deleted: bool = False
    allocated: int | None = None
    mapped: int = 0
    pids: set[int] = field(default_factory=set)


class _Scan:
    """One look at ``/dev/shm`` and at the processes.

    A file is known by its device and inode. A path alone would not do: a
    container may have a ``/dev/shm`` of its own, or this one in another place.
    """

    def __init__(self, device: int, deadline: float) -> None:
        self._device = device
        self._deadline = deadline
        self._found: dict[int, _Found] = {}
        number = f"{os.major(device):02x}:{os.minor(device):02x}".encode()
        self._number = b" " + number + b" "
        # A line of /proc/PID/maps: range, permissions, offset, device, inode, path.
        self._mapping = re.compile(
            rb"^((\w+)-(\w+)) \S+ (\w+) " + number + rb" (\d+) +(.*)$", re.MULTILINE
        )

    def late(self) -> bool:
        """Whether to come to an end."""
        return time.monotonic() > self._deadline

    def files(self) -> Iterator[ShmFile]:
        """Give what was found."""
        for found in self._found.values():
            kinds = (kind for start, kind in _KINDS.items() if found.name.startswith(start))
            nbytes = found.mapped if found.allocated is None else found.allocated
            pids = tuple(sorted(found.pids))
            yield ShmFile(found.name, nbytes, pids, found.deleted, next(kinds, "other"))

    def list_files(self) -> None:
        """Take down the files that have a name."""
        folders = [_SHM_DIR]
        while folders:
            folder = folders.pop()
            for name in _names(folder):
                path = f"{folder}/{name}"
                status = None if self.late() else _status(path, follow=False)
                if status is None or status.st_dev != self._device:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    folders.append(path)
                elif stat.S_ISREG(status.st_mode):
                    found = _Found(path.removeprefix(_INSIDE), allocated=status.st_blocks * 512)
                    self._found.setdefault(status.st_ino, found)

    def look_at(self, pid: int) -> None:
        """Take down what a process has open and maps, as far as this user may see it."""
        self._look_at_descriptors(pid)
        self._look_at_mappings(pid)

    def _look_at_descriptors(self, pid: int) -> None:
        folder = f"/proc/{pid}/fd"
        for name in _names(folder):
            link = f"{folder}/{name}"
            # Not asked for its status before: with a dead network drive that would hang.
            path = "" if self.late() else _target(link)
            if not path.startswith(_INSIDE):
                continue
            status = _status(link)
            if status is None or status.st_dev != self._device or not stat.S_ISREG(status.st_mode):
                continue
            found = self._file(status.st_ino, path)
            if found is not None:
                found.allocated = status.st_blocks * 512
                found.pids.add(pid)

    def _look_at_mappings(self, pid: int) -> None:
        maps = _content(f"/proc/{pid}/maps")
        if self._number not in maps:
            return
        for match in self._mapping.finditer(maps):
            found = self._file(int(match[5]), os.fsdecode(match[6]))
            if found is None:
                continue
            found.pids.add(pid)
            if found.allocated is None:
                status = _status(f"/proc/{pid}/map_files/{match[1].decode()}")
                found.allocated = None if status is None else status.st_blocks * 512
                start, end, offset = (int(number, 16) for number in match.group(2, 3, 4))
                found.mapped = max(found.mapped, offset + end - start)

    def _file(self, inode: int, path: str) -> _Found | None:
        """Return what is known of a file; None for one that is not in ``/dev/shm``.

        The path of one that has no name any more is as the kernel gives it.
        """
        # Where /dev/shm is no file system of its own, the device alone says little.
        if inode not in self._found and path.startswith(_INSIDE):
            name = path.removeprefix(_INSIDE)
            self._found[inode] = _Found(name.removesuffix(_DELETED), name.endswith(_DELETED))
        found = self._found.get(inode)
        # One that was opened before it had a name is known by a number there.
        if found is not None and found.name.startswith("#") and path.startswith(_INSIDE):
            found.name = path.removeprefix(_INSIDE).removesuffix(_DELETED)
        return found


def _holder(file: ShmFile) -> int | None:
    """Return the process to close: a region's owner, else the first one that has it."""
    owner = _owner(file)
    return owner if owner in file.pids else min(file.pids, default=None)


def _owner(file: ShmFile) -> int | None:
    """Return the process that a region's name tells."""
    match = _REGION.fullmatch(file.name)
    return int(match[1]) if match else None


def _described(group: Sequence[ShmFile]) -> str:
    """Say what and whose the files of a group are."""
    first = group[0]
    what = f"removed {_what(group)}" if first.deleted else _what(group)
    holder = _holder(first)
    if holder is None:
        return f"{what} that no visible process uses"
    left = first.deleted or _owner(first) not in (None, holder)
    process = process_text(holder, process_name(holder))
    return f"{what} {'still kept by' if left else 'of'} {process}"


def _what(group: Sequence[ShmFile]) -> str:
    names = [printable(_tensor(file.name)) for file in group]
    if group[0].kind == "region":
        return f"region {names[0]}" if len(group) == 1 else _count(len(group), "region")
    if group[0].kind == "pool":
        return _count(len(group), "Triton Python backend pool")
    more = f" and {_count(len(group) - 1, 'other file')}" if len(group) > 1 else ""
    return names[0] + more


def _tensor(name: str) -> str:
    """Return the tensor that a region is for; any other name as it is."""
    match = _REGION.fullmatch(name)
    return match[2] or name if match else name


def _total(files: Sequence[ShmFile]) -> int:
    return sum(file.nbytes for file in files)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _pids() -> list[int]:
    """Return all processes: this one first, then the newest."""
    pids = sorted((int(name) for name in _names("/proc") if name.isdigit()), reverse=True)
    own = os.getpid()
    return [own, *(pid for pid in pids if pid != own)]


# What is looked at may be gone by then, or be none of this user's business. Not with
# pathlib, which would make an object of each of some ten thousand descriptors.
def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []


def _status(path: str, *, follow: bool = True) -> os.stat_result | None:
    try:
        return os.stat(path, follow_symlinks=follow)  # noqa: PTH116
    except OSError:
        return None


def _target(link: str) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115
    except OSError:
        return ""


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
