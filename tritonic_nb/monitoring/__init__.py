"""What holds the memory, and how much of it."""

from __future__ import annotations

from tritonic_nb.monitoring.nvml import (
    Device,
    DeviceHolder,
    Devices,
    NvmlReason,
    device_holders,
    device_holders_text,
    devices,
    with_cuda_indices,
)
from tritonic_nb.monitoring.shmfs import ShmFile, holders_text, shm_files

__all__ = [
    "Device",
    "DeviceHolder",
    "Devices",
    "NvmlReason",
    "ShmFile",
    "device_holders",
    "device_holders_text",
    "devices",
    "holders_text",
    "shm_files",
    "with_cuda_indices",
]
