"""Regions in ``/dev/shm`` whose owner is dead.

An owner holds a lock (``flock``) on each of its regions for as long as it lives,
and the kernel drops it at the owner's death. It is the only proof of life here:
process ids are used again, and mean something else in another container.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from tritonic_nb.memory.shm_file import KEY_PREFIX, SHM_DIR

__all__ = ["Orphan", "find_orphans", "is_orphan", "owner_pid", "remove_orphan"]

_NAME = re.compile(rf"{re.escape(KEY_PREFIX)}(\d+)-[0-9a-f]{{16}}-[A-Za-z0-9_.]*")
# Its owner creates a file, then locks it, then reserves its memory.
_NEWBORN_S = 60.0
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True)
class Orphan:
    """A region whose owner is dead.

    Attributes
    ----------
    name
        Its file's name in ``/dev/shm``.
    nbytes
        The memory that it takes, in bytes.
    pid
        Its owner's process id, as the owner saw it: by now, or in this
        container, it may be somebody else's.
    """

    name: str
    nbytes: int
    pid: int


def find_orphans() -> tuple[Orphan, ...]:
    """Return this user's regions whose owner is dead, by name."""
    try:
        names = sorted(path.name for path in SHM_DIR.iterdir())
    except OSError:
        return ()
    return tuple(orphan for name in names if (orphan := _look(name)) is not None)


def owner_pid(name: str) -> int | None:
    """Return the process id that a region's name tells; None for other names.

    Parameters
    ----------
    name
        The region's name, which is that of its file.
    """
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def is_orphan(name: str) -> bool | None:
    """Tell whether a region's owner is dead.

    Parameters
    ----------
    name
        The name of the file in ``/dev/shm``.

    Returns
    -------
    bool or None
        True if the owner is dead; False if it lives, or if that is not for this
        user to say; None if there is no such region here.
    """
    if _NAME.fullmatch(name) is None:
        return None
    try:
        found = (SHM_DIR / name).lstat()
    except OSError:
        return None
    return _look(name) is not None if stat.S_ISREG(found.st_mode) else None


def remove_orphan(name: str) -> bool:
    """Remove a region whose owner is dead.

    Parameters
    ----------
    name
        The name of the file in ``/dev/shm``.

    Returns
    -------
    bool
        Whether it was removed; False if it is gone, or no orphan.
    """
    path = SHM_DIR / name
    with contextlib.suppress(OSError), _unowned(name, fcntl.LOCK_EX) as fd:
        # Another one may have removed the file that was opened, and have made this one.
        if fd is not None and os.path.samestat(os.fstat(fd), path.lstat()):
            path.unlink()
            return True
    return False


def _look(name: str) -> Orphan | None:
    """Return the orphan of that name, if it is one."""
    # A shared lock, which the owner's forbids as well: two who look do not see each other.
    with _unowned(name, fcntl.LOCK_SH) as fd:
        match = _NAME.fullmatch(name)
        if fd is None or match is None:
            return None
        return Orphan(name, os.fstat(fd).st_blocks * 512, int(match[1]))


@contextlib.contextmanager
def _unowned(name: str, lock: int) -> Iterator[int | None]:
    """Give a descriptor of an orphan that is locked meanwhile; None for what is no orphan."""
    if _NAME.fullmatch(name) is None:
        yield None
        return
    held = _Held()
    try:
        # Closed also where an interrupt keeps it from being closed below.
        closer = weakref.finalize(held, os.close, fd := os.open(SHM_DIR / name, _OPEN_FLAGS))
    except OSError:
        yield None
        return
    try:
        yield fd if _may_touch(fd) and _locked(fd, lock) else None
    finally:
        closer()


class _Held:
    """What a descriptor is open for: it goes with the frame that has it."""


def _may_touch(fd: int) -> bool:
    """Tell whether this is a file of this user that is not about to get its owner's lock."""
    status = os.fstat(fd)
    newborn = status.st_size == 0 and time.time() - status.st_mtime < _NEWBORN_S
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not newborn


def _locked(fd: int, lock: int) -> bool:
    try:
        fcntl.flock(fd, lock | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
