"""Shared-memory regions of each kind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from tritonic_nb.errors import SharedMemoryUnsupportedError
from tritonic_nb.memory import cudart
from tritonic_nb.memory.copies import CopyStream
from tritonic_nb.memory.cudart import device_uuids
from tritonic_nb.memory.device_array import DeviceArray, Tensor
from tritonic_nb.memory.listing import RegionListing
from tritonic_nb.memory.region import Region, RegionDescriptor, SharedMemoryType
from tritonic_nb.memory.space import HOW_TO_ENLARGE, Space, host_space

__all__ = [
    "HOW_TO_ENLARGE",
    "PAGE_NBYTES",
    "CopyStream",
    "DeviceArray",
    "Region",
    "RegionDescriptor",
    "RegionListing",
    "SharedMemoryType",
    "Space",
    "Tensor",
    "create_region",
    "device_memory",
    "device_uuids",
    "host_space",
    "region_nbytes",
    "require_supported",
]

PAGE_NBYTES = 4096
"""Regions of system memory are whole pages, in bytes."""
_CUDA_UNIT_NBYTES = 2 * 2**20


def region_nbytes(kind: SharedMemoryType, nbytes: int) -> int:
    """Return the bytes of a region with room for a tensor.

    System memory comes in pages. Device memory is shared in units of 2 MiB: with a smaller
    allocation CUDA IPC would hand out its neighbours in the unit, too (CUDA C++ Programming
    Guide, "Interprocess Communication").

    Parameters
    ----------
    kind
        ``SYSTEM`` or ``CUDA``.
    nbytes
        The bytes of the tensor.
    """
    unit = _CUDA_UNIT_NBYTES if kind is SharedMemoryType.CUDA else PAGE_NBYTES
    return -(-nbytes // unit) * unit


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
        cudart.check_device(device)


def device_memory(device: int) -> tuple[int, int]:
    """Return the free and the total memory of a CUDA device, in bytes.

    Raises
    ------
    NoCudaDeviceError
        If there is no such device.
    """
    cudart.check_device(device)
    return cudart.device_memory(device)


def create_region(
    kind: SharedMemoryType,
    tensor: str,
    direction: str,
    slot_nbytes: int,
    *,
    slots: int = 1,
    device: int = 0,
    mode: int = 0o600,
    holders: Callable[[SharedMemoryType, int], str] | None = None,
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
        Tells, for the message of an error, who holds the most of the memory of a kind, on
        a device.

    Raises
    ------
    SharedMemoryUnsupportedError, NoCudaDeviceError
        As :func:`require_supported` does.
    NoSpaceError
        If there is too little memory of that kind.
    SharedMemoryError
        If it cannot be made for another reason.
    """
    require_supported(kind, device)
    held = None if holders is None else partial(holders, kind, device)
    # Linux only: on other systems these modules (fcntl) do not even import.
    if kind is SharedMemoryType.CUDA:
        from tritonic_nb.memory.cuda import CudaRegion

        return CudaRegion(tensor, direction, slot_nbytes, slots, device=device, holders=held)
    from tritonic_nb.memory.system import SystemRegion

    return SystemRegion(tensor, direction, slot_nbytes, slots, mode=mode, holders=held)
