"""Shared-memory regions of each kind."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tritonic_nb.errors import SharedMemoryUnsupportedError
from tritonic_nb.memory.listing import RegionListing
from tritonic_nb.memory.region import Region, RegionDescriptor, SharedMemoryType
from tritonic_nb.memory.space import Space, host_space

__all__ = [
    "PAGE_NBYTES",
    "Region",
    "RegionDescriptor",
    "RegionListing",
    "SharedMemoryType",
    "Space",
    "create_region",
    "device_memory",
    "host_space",
    "require_supported",
]

PAGE_NBYTES = 4096
"""Regions are whole pages, in bytes."""


def require_supported(kind: SharedMemoryType, device: int = 0) -> None:
    """Refuse a kind of shared memory that this machine does not have.

    Raises
    ------
    SharedMemoryUnsupportedError
        On a platform other than Linux.
    NoCudaDeviceError
        If `kind` is CUDA and there is no such device.
    """
    if kind in (SharedMemoryType.NONE, SharedMemoryType.AUTO):
        return
    if sys.platform != "linux":
        raise SharedMemoryUnsupportedError(
            f"{kind} shared memory with Triton needs Linux; this is {sys.platform}",
            "use shared_memory='none' (tensors travel over the wire), or run beside the server",
        )
    if kind is SharedMemoryType.CUDA:
        from tritonic_nb.memory.cuda import require_device

        require_device(device)


def device_memory(device: int) -> tuple[int, int]:
    """Return the free and the total memory of a CUDA device, in bytes.

    Raises
    ------
    NoCudaDeviceError
        If there is no such device.
    """
    from tritonic_nb.memory import cuda

    return cuda.device_memory(device)


def create_region(
    kind: SharedMemoryType,
    tensor: str,
    direction: str,
    slot_nbytes: int,
    *,
    slots: int = 1,
    device: int = 0,
    mode: int = 0o600,
    holders: Callable[[], str] | None = None,
) -> Region:
    """Make a region: create, reserve, map. The server does not know it yet.

    Parameters
    ----------
    kind
        ``SYSTEM`` or ``CUDA``.
    tensor, direction
        The tensor's name, and ``"input"`` or ``"output"``.
    slot_nbytes, slots
        The bytes of one slot (at least 1) and the number of slots.
    device
        The CUDA device.
    mode
        The permissions of a system region's file.
    holders
        Tells, for the message of an error, who holds the most of that memory.

    Raises
    ------
    SharedMemoryUnsupportedError, NoCudaDeviceError
        As :func:`require_supported` does.
    NoSpaceError
        If there is too little memory of that kind.
    """
    require_supported(kind, device)
    # Linux only: on other systems its module (fcntl) does not even import.
    from tritonic_nb.memory.system import SystemRegion

    return SystemRegion(tensor, direction, slot_nbytes, slots, mode=mode, holders=holders)
