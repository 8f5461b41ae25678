"""System (POSIX) shared memory: files under ``/dev/shm``.

Not ``multiprocessing.shared_memory``: before Python 3.13 a process that merely
attaches deletes the owner's region when it exits (CPython issue 82300).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import logging
import mmap
import os
import re
import secrets
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import NoSpaceError, SharedMemoryError
from tritonic_nb.memory.region import Region, RegionDescriptor, SharedMemoryType
from tritonic_nb.render import human_bytes
from tritonic_nb.tensors import codec

__all__ = ["KEY_PREFIX", "SHM_DIR", "SystemRegion"]

SHM_DIR = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory, not a temp folder
KEY_PREFIX = "tritonic_nb-"
"""Every region of ours starts so, followed by the owner's process id."""

_log = logging.getLogger("tritonic_nb.memory")


class SystemRegion(Region):
    """A region in ``/dev/shm``, mapped into this process.

    The file is made with ``O_CREAT | O_EXCL`` and mode 0600 under an
    unguessable name, its pages are reserved before it is mapped (so that a
    full ``/dev/shm`` is an error and not a Bus error), and a POSIX record
    lock on it is held for as long as this process lives and owns it: whoever
    can take the lock has found an orphan. Record locks are not inherited by
    forked children, so a child cannot keep a dead owner's region alive.

    Parameters
    ----------
    tensor, direction
        What the region is for.
    slot_nbytes
        The bytes of one slot, at least 1.
    slots
        How many slots.

    Raises
    ------
    NoSpaceError
        If ``/dev/shm`` has too little free space.
    SharedMemoryError
        If the file cannot be made.
    """

    kind = SharedMemoryType.SYSTEM

    def __init__(self, tensor: str, direction: str, slot_nbytes: int, slots: int = 1) -> None:
        name = _new_name(tensor)
        super().__init__(name, tensor, direction, slot_nbytes, slots)
        self.path = SHM_DIR / name
        what = f"{direction} {tensor!r}"
        with contextlib.ExitStack() as undo:
            self.fd = _create(self.path, what)
            undo.callback(_remove, self.path, self.fd)
            self._map = _reserve(self.fd, self.nbytes, what)
            undo.pop_all()
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._views: list[weakref.ref[npt.NDArray[Any]]] = []
        self._finalizer = weakref.finalize(self, _remove_if_owner, self.path, self.fd, os.getpid())

    @property
    def key(self) -> str:
        """The POSIX name of the shared-memory object, for the server to open."""
        return f"/{self.name}"

    def write(self, array: npt.NDArray[Any], *, slot: int = 0) -> int:
        """Copy `array` into a slot, once, and return its bytes.

        Raises
        ------
        RegionTooSmallError
            If it needs more bytes than the slot has.
        """
        self.check_fits(codec.encoded_nbytes(array))
        with self._slot(slot) as target:
            return codec.write(array, target)

    def read(
        self, datatype: str, shape: Sequence[int], *, slot: int = 0, copy: bool = True
    ) -> npt.NDArray[Any]:
        """Return the tensor in a slot.

        Parameters
        ----------
        datatype, shape
            As the server's reply gives them.
        slot
            The slot.
        copy
            False gives a read-only view that pins the region: the memory
            stays mapped for as long as the view lives, whatever becomes of
            the region.
        """
        array = codec.decode(self._slot(slot), datatype, shape, name=self.tensor, copy=copy)
        if not array.flags.writeable:  # a view, that is: BYTES are copied whatever was asked for
            # Every array that NumPy derives from a view refers to the one that holds the memory.
            holder = array.base if isinstance(array.base, np.ndarray) else array
            self._views.append(weakref.ref(holder))
        return array

    def pinned(self) -> bool:
        """Whether a view of the region is still in use."""
        self._views = [view for view in self._views if view() is not None]
        return bool(self._views)

    def describe(self) -> RegionDescriptor:
        """Return the region as it is now."""
        return RegionDescriptor(
            name=self.name,
            key=self.key,
            kind=self.kind,
            device_id=None,
            nbytes=self.nbytes,
            fd=self.fd,
            address=self._address,
            tensor=self.tensor,
            direction=self.direction,
            slots=self.slots,
            slot_nbytes=self.slot_nbytes,
            state=self.state,
        )

    def close(self) -> None:
        """Unlink and unmap the region; a view that is still in use keeps its memory."""
        if self.state == "closed":
            return
        self.state = "closed"
        self._finalizer()
        with contextlib.suppress(BufferError):  # a view still uses it; the last one to go unmaps
            self._map.close()
        del self._map

    def _slot(self, slot: int) -> memoryview:
        start = self.offset(slot)
        return memoryview(self._map)[start : start + self.slot_nbytes]


def _new_name(tensor: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9_.]+", "_", tensor)[:40]
    return f"{KEY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}-{readable}"


def _create(path: Path, what: str) -> int:
    try:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SharedMemoryError(
            f"{what}: the region {path} cannot be made: {error.strerror}",
            f"check that {path.parent} exists and is writable, or use shared_memory='none'",
        ) from error


def _reserve(fd: int, nbytes: int, what: str) -> mmap.mmap:
    """Lock a new file, reserve its pages and map it."""
    # Asked first: reserving takes page after page, and could use up the machine's
    # memory, and get somebody killed, before it finds that the last one does not fit.
    if nbytes > min(_free_and_total()[0], _available_memory()):
        raise _no_space(nbytes, what)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.posix_fallocate(fd, 0, nbytes)
        return mmap.mmap(fd, nbytes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG):
            raise _no_space(nbytes, what) from error
        raise SharedMemoryError(
            f"{what}: {human_bytes(nbytes)} of {SHM_DIR} cannot be reserved: {error.strerror}",
            "use shared_memory='none'",
        ) from error


def _free_and_total() -> tuple[int, int]:
    space = os.statvfs(SHM_DIR)
    return space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize


def _available_memory() -> int:
    """Return what the kernel could still give out without harm, in bytes."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return sys.maxsize  # a kernel before 3.14 does not tell


def _no_space(nbytes: int, what: str) -> NoSpaceError:
    free, total = _free_and_total()
    return NoSpaceError(
        f"{what} needs {nbytes} bytes ({human_bytes(nbytes)}) of {SHM_DIR}, which has "
        f"{free} free ({human_bytes(free)}) of {human_bytes(total)}; the machine has "
        f"{human_bytes(_available_memory())} of memory available",
        "close other sessions, send smaller batches, enlarge it (docker run --shm-size=2g, "
        "Kubernetes emptyDir with medium: Memory, mount -o remount,size=2g /dev/shm), "
        "or use shared_memory='none'",
    )


def _remove(path: Path, fd: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    os.close(fd)
    _log.debug("removed %s", path)


def _remove_if_owner(path: Path, fd: int, owner_pid: int) -> None:
    # A forked child inherits this object; the region is still its parent's.
    if os.getpid() == owner_pid:
        _remove(path, fd)
