"""Files in ``/dev/shm``: the memory of a system region, and any region's proof of life.

Not ``multiprocessing.shared_memory``: before Python 3.13 a process that merely
attaches deletes the owner's region when it exits (CPython issue 82300).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import io
import logging
import mmap
import os
import re
import secrets
import weakref
from collections.abc import Callable
from pathlib import Path

from tritonic_nb.errors import NoSpaceError, SharedMemoryError
from tritonic_nb.memory import lifeline
from tritonic_nb.memory.space import host_space
from tritonic_nb.render import human_bytes

__all__ = ["KEY_PREFIX", "SHM_DIR", "ShmFile", "new_name"]

SHM_DIR = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory, not a temp folder
KEY_PREFIX = "tritonic_nb-"
"""Every region of ours starts so, followed by the owner's process id."""

_log = logging.getLogger("tritonic_nb.memory")


def new_name(tensor: str) -> str:
    """Return an unguessable name for a region, which tells whose and what for it is."""
    readable = re.sub(r"[^A-Za-z0-9_.]+", "_", tensor)[:40]
    return f"{KEY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}-{readable}"


class ShmFile:
    """The file of a region, and the lock that proves its owner alive.

    It is made without a name (``O_TMPFILE``), for its owner alone unless asked, and
    gets an unguessable one when it is locked. Its pages are reserved before it is
    mapped, so that a full ``/dev/shm`` is an error and not a Bus error.

    A lock on the file is held for as long as this process lives and owns it:
    whoever can take the lock (``flock``) has found an orphan. It is held
    through a descriptor of its own, which forked children close, so that none
    of them keeps a dead owner's region alive; and not a POSIX record lock,
    which would be lost as soon as anything in this process opened the file,
    looked at it and closed it.

    Its descriptors are held by file objects, which can be closed twice.

    Parameters
    ----------
    name
        Its name in ``/dev/shm``, as :func:`new_name` gives it.
    mode
        Its permissions.
    holders
        Tells, for the message of an error, who holds the most of ``/dev/shm``.
    """

    def __init__(
        self, name: str, mode: int = 0o600, holders: Callable[[], str] | None = None
    ) -> None:
        self.path = SHM_DIR / name
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
        """Create, lock, reserve and map the file.

        Parameters
        ----------
        nbytes
            Its size, in bytes.
        what
            What it is for, for the message of an error.

        Raises
        ------
        NoSpaceError
            If ``/dev/shm`` has too little free space, or the machine too little memory.
        SharedMemoryError
            If the file cannot be made.
        """
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


_files: weakref.WeakSet[ShmFile] = weakref.WeakSet()


def _forked() -> None:
    """Keep a child from holding the locks of its parent's regions."""
    for file in list(_files):
        file.let_go()


os.register_at_fork(after_in_child=_forked)
