"""``shared_memory="auto"``: which way to a server works, found out by trying."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tritonic_nb.errors import (
    NoReplyError,
    NoSpaceError,
    RegionLostError,
    RegionNotVisibleError,
    RestrictedApiError,
    ServerBusyError,
    ServerTimeoutError,
    SharedMemoryUnsupportedError,
    TritonicError,
)
from tritonic_nb.memory import SharedMemoryType, require_supported
from tritonic_nb.regions import Need, RegionSet
from tritonic_nb.transport import MemoryKind, Transport

__all__ = ["Choice", "choose", "try_region"]

_TIMEOUT_S = 5.0
# At the list of regions, each over a new connection: a balancer that picks one of two servers at
# random gives the same one that often once in 256 times.
_LOOKS = 8
_BACKENDS = 8  # of a balancer that takes turns, at which a region is unregistered

_log = logging.getLogger("tritonic_nb.session")


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


def choose(
    transport: Transport,
    server: Mapping[str, Any],
    *,
    device: int,
    mode: int,
    has_gpu: Callable[[], bool],
) -> Choice:
    """Try which ways work with a server, and choose the best.

    System shared memory first: host arrays need no copy to a device and back. Then CUDA
    shared memory, and then the wire. Each is tried with a real region, which the server
    has to open: no two machines or containers have a file of that name unless they have
    the same ``/dev/shm``. Nothing is left of it.

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
    has_gpu
        Tells whether this machine has a GPU.

    Raises
    ------
    NoReplyError, ServerBusyError
        If the server does not answer, or has no time for it.
    """
    try:
        _require(SharedMemoryType.SYSTEM, server, device)
        try_region(transport, SharedMemoryType.SYSTEM, mode=mode)
    except (NoReplyError, ServerBusyError):
        raise
    except NoSpaceError as error:
        return Choice(
            SharedMemoryType.SYSTEM,
            f"whether the server opens it could not be tried, as there is no room: {error.message}",
        )
    except TritonicError as error:
        return _without_system(transport, server, device, _why_not(transport, error))
    return Choice(
        SharedMemoryType.SYSTEM,
        f"the server at {transport.url} opened a region of this machine's /dev/shm "
        f"({_about_cuda(has_gpu())})",
    )


def _without_system(
    transport: Transport, server: Mapping[str, Any], device: int, why: str
) -> Choice:
    """Choose between the device's memory and the wire."""
    try:
        _require(SharedMemoryType.CUDA, server, device)
        try_region(transport, SharedMemoryType.CUDA, device)
    except (NoReplyError, ServerBusyError):
        raise
    except TritonicError as error:
        return Choice(
            SharedMemoryType.NONE, f"{why}; nor is there CUDA shared memory: {error.message}"
        )
    return Choice(
        SharedMemoryType.CUDA,
        f"the server at {transport.url} opened a region of CUDA device {device}; {why}",
    )


def _why_not(transport: Transport, error: TritonicError) -> str:
    if not isinstance(error, RegionNotVisibleError):
        return error.message
    return (
        f"the server at {transport.url} does not see this machine's /dev/shm (it is on another "
        "machine or in another container), or may not open what lies there (it runs as another "
        "user: see Session(mode=...))"
    )


def try_region(
    transport: Transport, kind: SharedMemoryType, device: int = 0, *, mode: int = 0o600
) -> None:
    """Have a server open a region, and remove it again.

    Parameters
    ----------
    transport
        The way to the server.
    kind, device
        ``SYSTEM`` or ``CUDA``, and the CUDA device.
    mode
        The permissions of a system region's file.

    Raises
    ------
    SharedMemoryError, RestrictedApiError
        If it does not, or there is no room for it.
    NoReplyError
        If the server does not answer.
    """
    asked: MemoryKind = "cuda" if kind is SharedMemoryType.CUDA else "system"
    regions = RegionSet(transport, mode=mode)
    try:
        with regions.slot() as slot:
            try:
                region = slot.place(Need("input", "probe", 1, kind, device), _TIMEOUT_S)
                _require_one_server(transport, region.name, asked)
            except BaseException:  # an interrupt, too
                for left in regions.describe():
                    _unregister_everywhere(transport, left.name, asked)
                raise
    finally:
        try:
            regions.close()
        except BaseException:  # an interrupt: nobody else knows of the region
            regions.close()
            raise


def _require_one_server(transport: Transport, name: str, kind: MemoryKind) -> None:
    """Refuse an address that leads to several servers, of which one opened the region.

    A balancer gives each connection to another one, or to any, so that some new ones find out.
    """
    looks: list[bool] = []
    for _ in range(_LOOKS):
        transport.close()  # the next request goes over a new connection
        try:
            listed = transport.registered_regions(kind)
        except RestrictedApiError as error:  # of a gateway: Triton bars this with registering
            _log.debug("whether it is one server could not be found out: %s", error)
            return
        looks.append(any(each.get("name") == name for each in listed))
    if all(looks):
        return
    if any(looks):
        raise RegionLostError(
            f"{transport.url} leads to more than one server: a region that one of them has opened "
            "is not known to another",
            "use shared_memory='none', or the address of one of the servers",
        )
    raise RegionLostError(
        f"a region that the server at {transport.url} opened is not in its list of regions: the "
        "address leads to several servers, or its server does not list them",
        "use shared_memory='none', or the address of one of the servers",
    )


def _unregister_everywhere(transport: Transport, name: str, kind: MemoryKind) -> None:
    """Unregister a region at whichever server of an address has it, as far as they answer."""
    for _ in range(_BACKENDS):
        transport.close()
        try:
            transport.unregister(name, kind)
        except ServerTimeoutError:
            return
        except TritonicError as error:
            _log.debug("region %s was not unregistered: %s", name, error)


def _require(kind: SharedMemoryType, server: Mapping[str, Any], device: int) -> None:
    """Refuse a kind that this machine or the server does not have, without trying it."""
    require_supported(kind, device)
    extensions = server.get("extensions")
    if isinstance(extensions, list) and f"{kind}_shared_memory" not in extensions:
        name = "CUDA" if kind is SharedMemoryType.CUDA else kind
        raise SharedMemoryUnsupportedError(f"this server has no {name} shared memory")


def _about_cuda(has_gpu: bool) -> str:
    if not has_gpu:
        return "CUDA shared memory needs a GPU, and none was found"
    return "CUDA shared memory is there for the asking: shared_memory='cuda'"
