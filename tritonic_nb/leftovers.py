"""Whose regions a server has, and what dead sessions left there and in ``/dev/shm``."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakKeyDictionary

from tritonic_nb import render
from tritonic_nb.choice import try_region
from tritonic_nb.errors import (
    RegionInUseError,
    RestrictedApiError,
    ServerRefusedError,
    SharedMemoryError,
    TritonicError,
)
from tritonic_nb.memory import SharedMemoryType
from tritonic_nb.render import human_bytes
from tritonic_nb.transport import MemoryKind, Transport

__all__ = ["Leftovers", "ServerRegion", "ServerRegionListing", "find_leftovers", "server_regions"]

THIS_SESSION, ANOTHER_SESSION = "this session", "another session"
ORPHAN, SOMEBODY_ELSE = "orphan", "somebody else"

_GOOD_FOR_S = 60.0

_log = logging.getLogger("tritonic_nb.session")

# Whether servers have our /dev/shm, and when that was found out: a panel asks again and again,
# and to find out takes registering a region.
_shared: WeakKeyDictionary[Transport, tuple[float, bool]] = WeakKeyDictionary()


@dataclass(frozen=True)
class ServerRegion:
    """A shared-memory region that a server has registered, and whose it is.

    Attributes
    ----------
    name
        The name under which it is registered.
    kind
        ``SYSTEM`` or ``CUDA``.
    nbytes
        The bytes that were registered.
    key
        The POSIX name, as in ``/dev/shm``; empty for CUDA.
    device_id
        The CUDA device, as the server counts them; None for system memory.
    owner
        ``"this session"``; ``"another session"`` of tritonic_nb that lives, or seems to
        (on another machine it cannot be told); ``"orphan"``, whose session is dead and
        which :meth:`Session.clear_leftovers <tritonic_nb.Session.clear_leftovers>`
        clears; or ``"somebody else"``, another client.
    pid
        The process id of its session, as that session saw it; None for somebody else's.
    """

    name: str
    kind: SharedMemoryType
    nbytes: int
    key: str = ""
    device_id: int | None = None
    owner: str = SOMEBODY_ELSE
    pid: int | None = None

    @property
    def place(self) -> str:
        """The memory it lies in, in words."""
        return str(self.kind) if self.device_id is None else f"{self.kind} {self.device_id}"

    @property
    def owner_text(self) -> str:
        """The owner, with its process id where that tells something."""
        told = self.owner not in (THIS_SESSION, SOMEBODY_ELSE)
        where = "this process" if self.pid == os.getpid() else f"process {self.pid}"
        return f"{self.owner} ({where})" if told else self.owner


class ServerRegionListing(render.Described, tuple[ServerRegion, ...]):
    """A tuple of a server's regions that shows itself as a table; all else is a tuple's."""

    __slots__ = ()

    def _described(self) -> render.Description:
        columns = ("name", "memory", "bytes", "owner")
        rows = [(r.name, r.place, human_bytes(r.nbytes), r.owner_text) for r in self]
        count = f"{len(self)} region{'' if len(self) == 1 else 's'}"
        orphans = sum(region.owner == ORPHAN for region in self)
        total = human_bytes(sum(region.nbytes for region in self))
        title = f"{count} at the server, {total}" if self else "no regions at the server"
        title += f", {orphans} of dead sessions" if orphans else ""
        return title, (), [render.Table(None, columns, rows, numeric=(2,))] if rows else ()


@dataclass(frozen=True)
class Leftovers:
    """Regions whose owner is dead.

    Attributes
    ----------
    files
        The names of those that lie in ``/dev/shm``, with their bytes.
    registered
        The names of those that the server has registered, each with its kind.
    """

    files: dict[str, int]
    registered: dict[str, MemoryKind]

    def __bool__(self) -> bool:
        return bool(self.files or self.registered)

    def __str__(self) -> str:
        count = len({*self.files, *self.registered})
        where = []
        if self.files:
            where.append(f"{human_bytes(sum(self.files.values()))} in /dev/shm")
        if self.registered:
            where.append(f"{len(self.registered)} registered at the server")
        return f"{count} region{'s' if count != 1 else ''} of dead sessions: {', '.join(where)}"

    def clear(self, transport: Transport | None = None) -> Leftovers:
        """Remove the files and unregister the names. Never raises for one that does not go.

        Parameters
        ----------
        transport
            The way to the server where they are registered.

        Returns
        -------
        Leftovers
            What was cleared.
        """
        if not self:
            return self
        from tritonic_nb.memory.orphans import remove_orphan

        unregistered = {
            name: kind
            for name, kind in self.registered.items()
            if _unregister(transport, name, kind)
        }
        removed = {name: nbytes for name, nbytes in self.files.items() if remove_orphan(name)}
        return Leftovers(removed, unregistered)


def find_leftovers(transport: Transport | None = None) -> Leftovers:
    """Find the regions of dead sessions.

    A region's owner holds a lock on its file for as long as it lives, so that
    neither a process id that was given out again nor an owner in another PID
    namespace misleads. A region that is registered and has no file any more was
    removed by its owner, or by the janitor. It counts if the server has the same
    ``/dev/shm`` (which is tried: elsewhere the file may well be there) and if no
    process here has its owner's number (somebody else may have removed the file).

    Parameters
    ----------
    transport
        The way to a server; without it only ``/dev/shm`` is searched.

    Raises
    ------
    TritonicError
        If the server does not tell what it has registered.
    """
    if sys.platform != "linux":
        return Leftovers({}, {})
    from tritonic_nb.memory.orphans import find_orphans

    files = {orphan.name: orphan.nbytes for orphan in find_orphans()}
    return Leftovers(files, _registered(transport) if transport else {})


def server_regions(transport: Transport, own: Container[str] = ()) -> ServerRegionListing:
    """Return all shared-memory regions that a server has registered, and whose they are.

    Parameters
    ----------
    transport
        The way to the server.
    own
        The names of the caller's own regions.

    Raises
    ------
    TritonicError
        If the server does not tell what it has registered.
    """
    listed = _listed(transport)
    ours = {} if sys.platform != "linux" else _owners(listed)
    dead = _dead(listed, lambda: _shared_memory_known(transport)) if ours else ()
    return ServerRegionListing(
        replace(region, owner=_owner(region.name, own, ours, dead), pid=ours.get(region.name))
        for region in listed
    )


def _owner(name: str, own: Container[str], ours: Container[str], dead: Container[str]) -> str:
    if name in own:
        return THIS_SESSION
    if name in dead:
        return ORPHAN
    return ANOTHER_SESSION if name in ours else SOMEBODY_ELSE


def _registered(transport: Transport) -> dict[str, MemoryKind]:
    """Return the names of dead sessions' regions that a server has registered, with their kind."""
    listed = _listed(transport)
    dead = _dead(listed, lambda: _shares_memory(transport))
    return {
        region.name: "system" if region.kind is SharedMemoryType.SYSTEM else "cuda"
        for region in listed
        if region.name in dead
    }


def _dead(listed: Sequence[ServerRegion], shares_memory: Callable[[], bool]) -> set[str]:
    """Return the names of those of a server's regions whose session is dead."""
    from tritonic_nb.memory.orphans import is_orphan

    owners = _owners(listed)
    dead = {name: is_orphan(name) for name in owners}
    gone = [name for name, pid in owners.items() if dead[name] is None and not _runs(pid)]
    # A file that is here under the name of a system region can only be the one that the
    # server has.
    same_memory = any(
        dead.get(region.name) is not None
        for region in listed
        if region.kind is SharedMemoryType.SYSTEM
    )
    if gone and not (same_memory or shares_memory()):
        gone = []
    return {*(name for name, is_dead in dead.items() if is_dead), *gone}


def _owners(listed: Sequence[ServerRegion]) -> dict[str, int]:
    """Return the process id in the name of each region that may be a session's."""
    from tritonic_nb.memory.orphans import owner_pid

    return {
        region.name: pid
        for region in listed
        if (pid := owner_pid(region.name)) is not None
        and (region.kind is SharedMemoryType.CUDA or region.key == f"/{region.name}")
    }


def _listed(transport: Transport) -> list[ServerRegion]:
    """Return the regions that a server has registered; whose they are is still to be told."""
    system = [
        ServerRegion(
            str(region.get("name")),
            SharedMemoryType.SYSTEM,
            _whole(region.get("byte_size")),
            str(region.get("key")),
        )
        for region in transport.registered_regions("system")
    ]
    try:
        cuda = transport.registered_regions("cuda")
    except RestrictedApiError:
        raise
    except (ServerRefusedError, SharedMemoryError) as error:  # a server without CUDA
        _log.debug("the server tells nothing of CUDA regions: %s", error)
        cuda = []
    return system + [
        ServerRegion(
            str(region.get("name")),
            SharedMemoryType.CUDA,
            _whole(region.get("byte_size")),
            device_id=_whole(region.get("device_id")),
        )
        for region in cuda
    ]


def _whole(value: object) -> int:
    """Return a number of a server's reply, which may have anything in its place."""
    return value if isinstance(value, int) else 0


def _runs(pid: int) -> bool:
    """Whether a process of that number runs here."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _shared_memory_known(transport: Transport) -> bool:
    """Return the same as :func:`_shares_memory`, as it was found out in the last minute."""
    now = time.monotonic()
    told_s, shares = _shared.get(transport, (-math.inf, False))
    if now - told_s > _GOOD_FOR_S:
        shares = _shares_memory(transport)
        _shared[transport] = now, shares
    return shares


def _shares_memory(transport: Transport) -> bool:
    """Whether a server can open what lies in our ``/dev/shm``."""
    try:
        try_region(transport, SharedMemoryType.SYSTEM)
    except SharedMemoryError:
        return False
    return True


def _unregister(transport: Transport | None, name: str, kind: MemoryKind) -> bool:
    if transport is None:
        return False
    try:
        transport.unregister(name, kind)
    except RegionInUseError:
        _log.debug("region %s is still in use", name)
        return False
    except TritonicError as error:
        _log.warning("region %s of a dead session stays registered: %s", name, error)
        return False
    return True
