"""What sessions that are dead left behind, on ``/dev/shm`` and at a server."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

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

__all__ = ["Leftovers", "find_leftovers"]

_log = logging.getLogger("tritonic_nb.session")


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


def _registered(transport: Transport) -> dict[str, MemoryKind]:
    """Return the names of dead sessions' regions that a server has registered, with their kind."""
    from tritonic_nb.memory.orphans import is_orphan, owner_pid

    kinds = _kinds(transport)
    owners = {name: pid for name in kinds if (pid := owner_pid(name)) is not None}
    dead = {name: is_orphan(name) for name in owners}
    gone = [name for name, pid in owners.items() if dead[name] is None and not _runs(pid)]
    # A file that is here under the name of a system region can only be the one that the
    # server has.
    same_memory = any(dead[name] is not None for name in owners if kinds[name] == "system")
    if gone and not (same_memory or _shares_memory(transport)):
        gone = []
    return {name: kinds[name] for name in (*(n for n, is_dead in dead.items() if is_dead), *gone)}


def _kinds(transport: Transport) -> dict[str, MemoryKind]:
    """Return the kind of each region that a server has registered and that may be a session's."""
    kinds: dict[str, MemoryKind] = {
        name: "system"
        for region in transport.registered_regions("system")
        if region.get("key") == f"/{(name := str(region.get('name')))}"
    }
    try:
        cuda = transport.registered_regions("cuda")
    except RestrictedApiError:
        raise
    except (ServerRefusedError, SharedMemoryError) as error:  # a server without CUDA
        _log.debug("the server tells nothing of CUDA regions: %s", error)
        cuda = []
    return {**kinds, **{str(region.get("name")): "cuda" for region in cuda}}


def _runs(pid: int) -> bool:
    """Whether a process of that number runs here."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


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
