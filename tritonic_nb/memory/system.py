"""System (POSIX) shared memory: files under ``/dev/shm``.

Not ``multiprocessing.shared_memory``: before Python 3.13 a process that merely
attaches deletes the owner's region when it exits (CPython issue 82300).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import io
import logging
import math
import mmap
import os
import re
import secrets
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import NoSpaceError, SharedMemoryError
from tritonic_nb.memory import lifeline
from tritonic_nb.memory.region import Region, RegionDescriptor, SharedMemoryType
from tritonic_nb.memory.space import host_space
from tritonic_nb.render import human_bytes
from tritonic_nb.tensors import codec
from tritonic_nb.tensors.dtypes import TEXT_KINDS, numpy_dtype

__all__ = ["KEY_PREFIX", "SHM_DIR", "SystemRegion"]

SHM_DIR = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory, not a temp folder
KEY_PREFIX = "tritonic_nb-"
"""Every region of ours starts so, followed by the owner's process id."""

_NO_LAYOUT: tuple[Any, npt.NDArray[Any]] = (None, np.empty(0))

_log = logging.getLogger("tritonic_nb.memory")


class SystemRegion(Region):
    """A region in ``/dev/shm``, mapped into this process.

    The file is made without a name (``O_TMPFILE``), for its owner alone unless asked,
    and gets an unguessable one when it is locked. Its pages are reserved before it is
    mapped, so that a full ``/dev/shm`` is an error and not a Bus error.

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
    mode
        The file's permissions.
    holders
        Tells, for the message of an error, who holds the most of ``/dev/shm``.

    Raises
    ------
    NoSpaceError
        If ``/dev/shm`` has too little free space, or the machine too little memory.
    SharedMemoryError
        If the file cannot be made.
    """

    kind = SharedMemoryType.SYSTEM

    def __init__(
        self,
        tensor: str,
        direction: str,
        slot_nbytes: int,
        slots: int = 1,
        *,
        mode: int = 0o600,
        holders: Callable[[], str] | None = None,
    ) -> None:
        name = _new_name(tensor)
        super().__init__(name, tensor, direction, slot_nbytes, slots)
        self.path = SHM_DIR / name
        self._views: list[weakref.ref[npt.NDArray[Any]]] = []
        self._layout = _NO_LAYOUT
        self._file = _File(self.path, mode, holders)
        # In place before the file is: from then on it is removed whatever happens.
        self._finalizer = weakref.finalize(self, self._file.remove)
        try:
            self._map = self._file.make(self.nbytes, f"{direction} {tensor!r}")
        except BaseException:
            self._file.remove()
            self._finalizer.detach()
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
        if array.dtype.kind in TEXT_KINDS or not array.size:
            self.check_fits(codec.encoded_nbytes(array))
            with self._slot(slot) as target:
                return codec.write(array, target)
        self.check_fits(array.nbytes)
        dtype = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
        codec.copy_into(self._laid_out(dtype, array.shape, slot), array)
        return array.nbytes

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
        if copy and datatype != "BYTES":
            known, window = self._layout
            if known == (numpy_dtype(datatype), shape, slot) and window.nbytes <= nbytes:
                owned = np.empty_like(window)
                codec.copy_into(owned, window)
                return owned
        array = codec.decode(
            self._slot(slot)[:nbytes], datatype, shape, name=self.tensor, copy=copy
        )
        if not array.flags.writeable:  # a view, that is: BYTES are copied whatever was asked for
            # Every array that NumPy derives from a view refers to the one that holds the memory.
            holder = array.base if isinstance(array.base, np.ndarray) else array
            self._views.append(weakref.ref(holder))
        elif datatype != "BYTES" and array.size:
            self._laid_out(numpy_dtype(datatype), shape, slot)  # the next one is most often alike
        return array

    def view(self, datatype: str, shape: Sequence[int], *, slot: int = 0) -> npt.NDArray[Any]:
        """Return a slot as a writable array that pins the region, as one of :meth:`read` does.

        Parameters
        ----------
        datatype, shape
            Of the tensor; none of ``BYTES``.
        slot
            The slot.
        """
        dtype = numpy_dtype(datatype)
        holder = np.frombuffer(self._slot(slot), dtype, math.prod(shape))
        self._views.append(weakref.ref(holder))
        return holder.reshape(shape)

    def pinned(self) -> bool:
        """Whether a view of the region is still in use."""
        if self._views:
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

    def exists(self) -> bool:
        """Whether the file is still there under its name."""
        return self._file.exists()

    def close(self) -> None:
        """Unlink and unmap the region; a view that is still in use keeps its memory.

        Interrupted or failed, it can be called again: each step can be repeated.

        Raises
        ------
        SharedMemoryError
            If the file cannot be unlinked.
        """
        if self.state != "closed":
            self._layout = _NO_LAYOUT
            with contextlib.suppress(BufferError):  # a view uses it; the last one to go unmaps
                self._map.close()
            self.state = "closed"
            del self._map
        try:
            self._file.remove()
        except OSError as error:
            raise SharedMemoryError(
                f"region {self.name!r} cannot be removed from {SHM_DIR}: {error.strerror}",
                f"remove {self.path} by hand, or run `tritonic-nb clean` when this has ended",
            ) from error
        self._finalizer.detach()

    def _laid_out(self, dtype: np.dtype[Any], shape: Sequence[int], slot: int) -> npt.NDArray[Any]:
        """Return a slot as an array of the region's own, which is kept for the next time."""
        layout = (dtype, shape, slot)
        known, window = self._layout
        if known != layout or self.state == "closed":
            flat = np.frombuffer(self._slot(slot), dtype, math.prod(shape))
            window = flat.reshape(shape)
            self._layout = (layout, window)
        return window

    def _slot(self, slot: int) -> memoryview:
        if self.state == "closed":
            raise SharedMemoryError(
                f"region {self.name!r} of {self.direction} {self.tensor!r} was removed meanwhile",
                "infer again",
            )
        start = self.offset(slot)
        return memoryview(self._map)[start : start + self.slot_nbytes]


def _new_name(tensor: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9_.]+", "_", tensor)[:40]
    return f"{KEY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}-{readable}"


class _File:
    """The file of a region, and the lock that proves its owner alive.

    Its descriptors are held by file objects, which can be closed twice.
    """

    def __init__(self, path: Path, mode: int, holders: Callable[[], str] | None) -> None:
        self.path = path
        self.mode = mode
        self.holders = holders
        self._made = False
        self._file: io.FileIO | None = None
        self._lock: io.FileIO | None = None
        self._owner = os.getpid()
        _files.add(self)

    @property
    def fd(self) -> int:
        """The descriptor; -1 before it is open and after it was closed."""
        return -1 if self._file is None or self._file.closed else self._file.fileno()

    def make(self, nbytes: int, what: str) -> mmap.mmap:
        """Create, lock, reserve and map the file."""
        # Asked first: reserving takes page after page, and could use up the machine's
        # memory, and get somebody killed, before it finds that the last one does not fit.
        try:
            if nbytes > host_space().room_nbytes:
                raise self._no_space(nbytes, what)
            lifeline.made(self.path.name)
            named = self._create()
            self._lock = io.FileIO(f"/proc/self/fd/{self.fd}", "r+")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(self.fd, self.mode)  # whatever the umask says
            os.posix_fallocate(self.fd, 0, nbytes)
            if not named:
                self._name()
            return mmap.mmap(self.fd, nbytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EFBIG):
                raise self._no_space(nbytes, what) from error
            raise SharedMemoryError(
                f"{what}: a region of {human_bytes(nbytes)} cannot be made in {SHM_DIR}: "
                f"{error.strerror}",
                f"check that {SHM_DIR} exists and is writable and that not too many files are "
                "open, or use shared_memory='none'",
            ) from error

    def _create(self) -> bool:
        """Open a new file, and return whether it has its name already.

        It gets the name last, so that nobody ever sees one that is not locked and
        reserved, and a process that is killed before leaves nothing. A sandbox
        that cannot do that (gVisor, say) gives it the name at once.
        """
        try:
            self._file = io.FileIO(SHM_DIR, "r+", opener=_open_unnamed)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
        else:
            return False
        self._made = True  # or about to be: an interrupt leaves nothing
        try:
            # "x" is O_CREAT and O_EXCL: what somebody put there is not touched.
            self._file = io.FileIO(self.path, "x+", opener=_open_private)
        except FileExistsError:
            self._made = False
            raise
        return True

    def _name(self) -> None:
        """Give the file its name, unless somebody put something there."""
        self._made = True
        try:
            # With a folder for the source, which an absolute path does not need, Python
            # calls linkat, and that alone follows the link to the file.
            os.link(f"/proc/self/fd/{self.fd}", self.path, src_dir_fd=self.fd, follow_symlinks=True)
        except FileExistsError:
            self._made = False
            raise
        # Opened anew, so that whoever looks at this process's mappings reads the name.
        with self._file or contextlib.nullcontext():
            self._file = io.FileIO(self.path, "r+")

    def remove(self) -> None:
        """Unlink the file and close its descriptors; a forked child leaves it to its parent.

        Raises
        ------
        OSError
            If it cannot be unlinked; it can be tried again.
        """
        if os.getpid() != self._owner:
            return
        try:
            if self._made:
                with contextlib.suppress(FileNotFoundError):
                    self.path.unlink()
                self._made = False
        finally:
            self.let_go()
            if self._file is not None:
                self._file.close()
        lifeline.removed(self.path.name)
        _log.debug("removed %s", self.path)

    def exists(self) -> bool:
        """Whether the file is still there under its name."""
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return False
        return self.fd >= 0 and os.path.samestat(found, os.fstat(self.fd))

    def let_go(self) -> None:
        """Close the descriptor that holds the lock."""
        if self._lock is not None:
            self._lock.close()

    def _no_space(self, nbytes: int, what: str) -> NoSpaceError:
        now = host_space()
        held = self.holders() if self.holders else ""
        return NoSpaceError(
            f"{what} needs {nbytes} bytes ({human_bytes(nbytes)}) of {SHM_DIR}, which has "
            f"{now.free_nbytes} free ({human_bytes(now.free_nbytes)}) of "
            f"{human_bytes(now.total_nbytes)}, and {human_bytes(now.available_nbytes)} of memory "
            f"are available; the limit is {now.limit}" + (f"; {held}" if held else ""),
            "close what is not needed (other sessions, servers), send smaller batches, or "
            f"{now.remedy}",
        )


_open_private = functools.partial(os.open, mode=0o600)


def _open_unnamed(folder: str, _flags: int) -> int:
    return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


_files: weakref.WeakSet[_File] = weakref.WeakSet()


def _forked() -> None:
    """Keep a child from holding the locks of its parent's regions."""
    for file in list(_files):
        file.let_go()


os.register_at_fork(after_in_child=_forked)
