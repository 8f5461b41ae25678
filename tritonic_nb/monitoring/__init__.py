"""What holds the memory, and how much of it; now, and over time."""

from __future__ import annotations

from tritonic_nb.monitoring.events import Event, EventHook, EventRecord
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
from tritonic_nb.monitoring.processes import cpu_s, descendants
from tritonic_nb.monitoring.recording import Recording
from tritonic_nb.monitoring.sampler import Reading, Source, Subscription, subscribe
from tritonic_nb.monitoring.shmfs import ShmFile, holders_text, shm_files

__all__ = [
    "Device",
    "DeviceHolder",
    "Devices",
    "Event",
    "EventHook",
    "EventRecord",
    "NvmlReason",
    "Reading",
    "Recording",
    "ShmFile",
    "Source",
    "Subscription",
    "cpu_s",
    "descendants",
    "device_holders",
    "device_holders_text",
    "devices",
    "holders_text",
    "shm_files",
    "subscribe",
    "with_cuda_indices",
]
