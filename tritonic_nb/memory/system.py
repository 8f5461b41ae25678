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
    unguessable name, and its pages are reserved before it is mapped (so that a
    full ``/dev/shm`` is an error and not a Bus error).

    A lock on the file is held for as long as this process lives and owns it:
    whoever can take the lock (``flock``) has found an orphan. It is held
    through a descriptor of its own, which forked children close, so that none
    of them keeps a dead owner's region alive; and not a POSIX record lock,
    which would be lost as soon as anything in this process opened the file,
    looked at it and closed it.

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
        If ``/dev/shm`` has too little free space, or the machine too little memory.
    SharedMemoryError
        If the file cannot be made.
    """

    kind = SharedMemoryType.SYSTEM

    def __init__(self, tensor: str, direction: str, slot_nbytes: int, slots: int = 1) -> None:
        name = _new_name(tensor)
        super().__init__(name, tensor, direction, slot_nbytes, slots)
        self.path = SHM_DIR / name
        self._views: list[weakref.ref[npt.NDArray[Any]]] = []
        self._file = _File(self.path)
        # In place before the file is: from then on it is removed whatever happens.
        self._finalizer = weakref.finalize(self, self._file.remove)
        try:
            self._map = self._file.make(self.nbytes, f"{direction} {tensor!r}")
        except BaseException:
            self._finalizer()
            raise
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    @property
    def fd(self) -> int:
        """The open file descriptor; -1 once the region is closed."""
        return self._file.fd

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
        self, datatype: str, shape: Sequence[int], *, nbytes: int, slot: int = 0, copy: bool = True
    ) -> npt.NDArray[Any]:
        """Return the tensor in a slot.

        Parameters
        ----------
        datatype, shape
            As the server's reply gives them.
        nbytes
            The bytes of the slot that the server was given: nothing beyond is read.
        slot
            The slot.
        copy
            False gives a read-only view that pins the region: the memory
            stays mapped for as long as the view lives, whatever becomes of
            the region.
        """
        array = codec.decode(
            self._slot(slot)[:nbytes], datatype, shape, name=self.tensor, copy=copy
        )
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
        self._finalizer()
        with contextlib.suppress(BufferError):  # a view still uses it; the last one to go unmaps
            self._map.close()
        self.state = "closed"
        del self._map

    def _slot(self, slot: int) -> memoryview:
        start = self.offset(slot)
        return memoryview(self._map)[start : start + self.slot_nbytes]


def _new_name(tensor: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9_.]+", "_", tensor)[:40]
    return f"{KEY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}-{readable}"


class _File:
    """The file of a region, and the lock that proves its owner alive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = self._lock_fd = -1
        self._owner = os.getpid()
        _files.add(self)

    def make(self, nbytes: int, what: str) -> mmap.mmap:
        """Create, lock, reserve and map the file."""
        # Asked first: reserving takes page after page, and could use up the machine's
        # memory, and get somebody killed, before it finds that the last one does not fit.
        if nbytes > min(_free_and_total()[0], _available_memory()):
            raise _no_space(nbytes, what)
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            self.fd = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            self._lock_fd = os.open(self.path, flags)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self.fd, 0, nbytes)
            return mmap.mmap(self.fd, nbytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EFBIG):
                raise _no_space(nbytes, what) from error
            raise SharedMemoryError(
                f"{what}: a region of {human_bytes(nbytes)} cannot be made in {SHM_DIR}: "
                f"{error.strerror}",
                f"check that {SHM_DIR} exists and is writable and that not too many files are "
                "open, or use shared_memory='none'",
            ) from error

    def remove(self) -> None:
        """Unlink the file and close its descriptors; a forked child leaves it to its parent."""
        if os.getpid() != self._owner:
            return
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.let_go()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        _log.debug("removed %s", self.path)

    def let_go(self) -> None:
        """Close the descriptor that holds the lock."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


_files: weakref.WeakSet[_File] = weakref.WeakSet()


def _forked() -> None:
    """Keep a child from holding the locks of its parent's regions."""
    for file in list(_files):
        file.let_go()


os.register_at_fork(after_in_child=_forked)


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
