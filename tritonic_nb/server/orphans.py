"""What servers leave behind when the notebook and the supervisor were both killed.

Everything that belongs to a server holds two locks (``flock``) for as long as it
lives: one on its log, in the server's folder, and one on a file beside its pools
in ``/dev/shm``, because containers may share the one place and not the other.
This process takes them, and the supervisor, tritonserver and the models' processes
inherit them. Linux drops them when the last one has ended, and shows them to every
PID namespace. So whoever can take such a lock has found an orphan.

Nothing else is a proof. Pools without a lock file are left alone, and so are those
with Triton's own prefix, which may be another server's.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tritonic_nb.server.pools import PREFIX, SHM, lock_file, pool_files

__all__ = ["FOLDER_PREFIX", "LOG", "Orphan", "find_orphans", "remove_orphan"]

FOLDER_PREFIX = "tritonic_nb_server_"
LOG = "server.log"
# A lock's file is made a moment before it is locked: a younger one may be a newborn's.
NEWBORN_S = 60.0
_POOL_NAME = re.compile(rf"({PREFIX}([0-9]+)_[0-9a-f]{{12}}_)[0-9a-z-]+")
_FOLDER_NAME = re.compile(rf"{FOLDER_PREFIX}([0-9]+)_\w+")


@dataclass(frozen=True)
class Orphan:
    """A file or folder of a server that has ended.

    Attributes
    ----------
    path
        Where it lies.
    kind
        ``"pool"`` for a file in ``/dev/shm``, ``"folder"`` for a server's folder.
    nbytes
        The bytes that it takes there.
    pid
        The process id of the notebook that it belonged to, as that saw it.
    """

    path: Path
    kind: Literal["pool", "folder"]
    nbytes: int
    pid: int


def find_orphans() -> tuple[Orphan, ...]:
    """Return what this user's dead servers have left, the largest first."""
    found = [*_orphaned_pools(), *_orphaned_folders()]
    return tuple(sorted(found, key=lambda orphan: (-orphan.nbytes, orphan.path)))


def remove_orphan(orphan: Orphan) -> bool:
    """Remove what a dead server left; return whether it is gone now.

    The proof is made again, and held while it is removed.
    """
    path = orphan.path
    if orphan.kind == "folder":
        with _claimed_folder(path) as claimed:
            if claimed:
                shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    name = _POOL_NAME.fullmatch(path.name)
    if name is None or path.parent != SHM:
        return False
    prefix = name[1]
    with _claimed(lock_file(prefix)) as claimed:
        if claimed:
            if _is_own(path, stat.S_ISREG):
                path.unlink(missing_ok=True)
            if not pool_files(prefix):
                # Last, because it is the proof for the others.
                lock_file(prefix).unlink(missing_ok=True)
    return not path.exists()


def _orphaned_pools() -> Iterator[Orphan]:
    for lock in SHM.glob(f"{PREFIX}*_lock"):
        name = _POOL_NAME.fullmatch(lock.name)
        if name is None:
            continue
        with _claimed(lock) as claimed:
            if claimed:
                # A server without a model leaves its lock file alone.
                for path in pool_files(name[1]) or [lock]:
                    if _is_own(path, stat.S_ISREG):
                        yield Orphan(path, "pool", _nbytes(path), int(name[2]))


def _orphaned_folders() -> Iterator[Orphan]:
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with _claimed_folder(folder) as claimed:
            if claimed:
                nbytes = sum(_nbytes(path) for path in folder.rglob("*"))
                pid = int(folder.name.split("_")[3])
                yield Orphan(folder, "folder", nbytes, pid)


@contextlib.contextmanager
def _claimed_folder(folder: Path) -> Iterator[bool]:
    """Hold a dead server's folder, and tell whether it is one."""
    if _FOLDER_NAME.fullmatch(folder.name) and _is_own(folder, stat.S_ISDIR):
        with _claimed(folder / LOG) as claimed:
            yield claimed
    else:
        yield False


@contextlib.contextmanager
def _claimed(lock: Path) -> Iterator[bool]:
    """Hold a dead server's lock, and tell whether it could be taken."""
    import fcntl  # not on every platform, and this module is

    with contextlib.ExitStack() as held:
        try:
            # Without a wait, because what has the name may be a pipe.
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(lock, flags)
            held.callback(os.close, descriptor)
            age_s = time.time() - os.fstat(descriptor).st_mtime
            claimed = _is_own(lock, stat.S_ISREG) and age_s >= NEWBORN_S
            if claimed:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # it is held, or gone, or another user's
            claimed = False
        yield claimed


def _is_own(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Whether it is a file or folder, not a link to one, and this user's."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return is_kind(status.st_mode) and status.st_uid == os.geteuid()


def _nbytes(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0
