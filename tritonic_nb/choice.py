"""``shared_memory="auto"``: which way to a server works, found out by trying."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonic_nb.errors import (
    NoReplyError,
    NoSpaceError,
    RegionNotVisibleError,
    SharedMemoryError,
    SharedMemoryUnsupportedError,
    TritonicError,
)
from tritonic_nb.memory import SharedMemoryType, require_supported
from tritonic_nb.regions import Need, RegionSet
from tritonic_nb.transport import Transport

__all__ = ["Choice", "choose", "try_system_region"]

_TIMEOUT_S = 5.0
_EXTENSION = "system_shared_memory"


@dataclass(frozen=True)
class Choice:
    """How tensors travel, and why.

    Attributes
    ----------
    kind
        ``SYSTEM``, ``CUDA`` or ``NONE``.
    reason
        Why, as the second half of a sentence.
    """

    kind: SharedMemoryType
    reason: str

    def __str__(self) -> str:
        way = "the wire" if self.kind is SharedMemoryType.NONE else f"{self.kind} shared memory"
        return f"{way}: {self.reason}"


def choose(transport: Transport, server: Mapping[str, Any], *, device: int, mode: int) -> Choice:
    """Try which ways work with a server, and choose the best.

    System shared memory is tried with a real region, which the server has to open and map:
    no two machines or containers have a file of that name unless they have the same
    ``/dev/shm``. Nothing is left of it.

    Parameters
    ----------
    transport
        The way to the server.
    server
        What it says of itself, with its extensions.
    device
        The CUDA device that the caller would use.
    mode
        The permissions of the regions' files.

    Raises
    ------
    NoReplyError
        If the server does not answer.
    """
    extensions = server.get("extensions")
    try:
        require_supported(SharedMemoryType.SYSTEM)
        if isinstance(extensions, list) and _EXTENSION not in extensions:
            raise SharedMemoryUnsupportedError("this server has no system shared memory")
        try_system_region(transport, mode)
    except NoReplyError:
        raise
    except NoSpaceError as error:
        return Choice(
            SharedMemoryType.SYSTEM,
            f"whether the server opens it could not be tried, as there is no room: {error.message}",
        )
    except RegionNotVisibleError:
        return Choice(
            SharedMemoryType.NONE,
            f"the server at {transport.url} does not see this machine's /dev/shm (it is on another "
            "machine or in another container), or may not open what lies there (it runs as another "
            "user: see Session(mode=...))",
        )
    except TritonicError as error:
        return Choice(SharedMemoryType.NONE, error.message)
    return Choice(
        SharedMemoryType.SYSTEM,
        f"the server at {transport.url} opened a region of this machine's /dev/shm "
        f"({_about_cuda(device)})",
    )


def try_system_region(transport: Transport, mode: int = 0o600) -> None:
    """Have a server open a region in ``/dev/shm``, and remove it again.

    Parameters
    ----------
    transport
        The way to the server.
    mode
        The permissions of the region's file.

    Raises
    ------
    SharedMemoryError, RestrictedApiError
        If it does not, or there is no room for it.
    NoReplyError
        If the server does not answer.
    """
    regions = RegionSet(transport, mode=mode)
    try:
        with regions.slot() as slot:
            slot.place(Need("input", "probe", 1, SharedMemoryType.SYSTEM), _TIMEOUT_S)
    finally:
        regions.close()


def _about_cuda(device: int) -> str:
    try:
        require_supported(SharedMemoryType.CUDA, device)
    except SharedMemoryError as error:
        return error.message
    return "CUDA shared memory is there for the asking: shared_memory='cuda'"
