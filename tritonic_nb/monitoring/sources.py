"""What there is to sample: each function returns a :class:`Source`.

Names of series are ``group/name``. All are bytes, except those that end in ``_percent``
and those of ``infer`` and ``triton``, which are counts where the name says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Protocol

from tritonic_nb.monitoring.holders import printable
from tritonic_nb.monitoring.nvml import Device, device_holders, devices
from tritonic_nb.monitoring.processes import descendants, file_text
from tritonic_nb.monitoring.sampler import Reading, Source
from tritonic_nb.monitoring.shmfs import ShmFile, owner_text, shm_files
from tritonic_nb.monitoring.triton_metrics import Metric, fetch_metrics, parse_metrics

__all__ = [
    "Room",
    "gpu_source",
    "holder_sources",
    "machine_source",
    "model_source",
    "process_source",
    "region_source",
    "room_source",
    "triton_source",
]

_PAGE_NBYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_OWNERS_S = 5.0
_MODELS_S = 2.0
_METRICS_S = 1.0
_MOST_HOLDERS = 12
_NO_SERVER = (
    "the server's process is not known here: it is for a server that tritonic_nb.serve() started"
)


class Room(Protocol):
    """How much room there is for memory, in bytes; `sys.maxsize` where nothing limits it."""

    @property
    def free_nbytes(self) -> int:
        """What is free in ``/dev/shm``."""

    @property
    def total_nbytes(self) -> int:
        """All of ``/dev/shm``."""

    @property
    def available_nbytes(self) -> int:
        """What this process can still get of the machine, or of its container."""

    @property
    def available_in(self) -> str:
        """Which of the two sets it, in words."""


def room_source(room: Callable[[], Room]) -> Source:
    """Tell how full ``/dev/shm`` is, and what this process can still get.

    ``shm/total``, ``shm/used``, ``shm/free``, ``memory/available``.
    """

    def read() -> Reading | str:
        try:
            now = room()
        except OSError as error:
            return f"there is no /dev/shm here ({error.strerror})"
        values: dict[str, float] = {}
        if now.total_nbytes < sys.maxsize:
            total, free = now.total_nbytes, now.free_nbytes
            values.update({"shm/total": total, "shm/used": total - free, "shm/free": free})
        if now.available_nbytes < sys.maxsize:
            values["memory/available"] = now.available_nbytes
        if not values:
            return (
                "what is mounted at /dev/shm has no size, and the kernel tells no limit of memory"
            )
        return Reading(values, {"memory/available": now.available_in})

    return Source("memory in /dev/shm", read)


def _read_machine() -> Reading | str:
    fields = {}
    for line in file_text("/proc/meminfo").splitlines()[:5]:  # the first ones are these
        name, _, rest = line.partition(":")
        fields[name] = rest.split()
    try:
        total, available = (int(fields[name][0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError, IndexError):
        return "this system does not tell its memory in /proc/meminfo"
    return Reading({"memory/total": total, "memory/used": total - available})


def machine_source() -> Source:
    """Tell of the machine's memory: ``memory/total`` and ``memory/used``.

    Used is what could not be given to somebody else (``MemTotal`` less ``MemAvailable``).
    """
    return Source("the machine's memory", _read_machine)


def region_source(regions: Callable[[], Mapping[str, int]]) -> Source:
    """Tell a session's regions by tensor: ``region/input INPUT0``, ``cuda0/input INPUT0``.

    Parameters
    ----------
    regions
        Gives the bytes by such a name.
    """
    return Source("the session's regions", lambda: Reading(dict(regions())))


def holder_sources(own: Callable[[], set[str]] | None = None) -> tuple[Source, Source]:
    """Tell who else holds memory in ``/dev/shm``: ``holder/python 99``.

    Whose a file is takes some 20 ms to find out, so that it is done every few seconds; how
    large it is, each time. A file that is new has no owner for as long.

    Parameters
    ----------
    own
        Gives the names of the files that are a session's own.
    """
    owners = _Owners(own or set)
    return (
        Source("owners of files in /dev/shm", owners.find, every_s=_OWNERS_S, slow=True),
        Source("other holders of /dev/shm", owners.read),
    )


class _Owners:
    """Whose the files in ``/dev/shm`` are, as it was found out last."""

    def __init__(self, own: Callable[[], set[str]]) -> None:
        self._own = own
        self._by_name: dict[str, str] = {}
        self._removed: list[ShmFile] = []  # by their names; those who have them keep them

    def find(self) -> Reading:
        files = shm_files()
        self._by_name = {file.name: owner_text(file) for file in files if not file.deleted}
        self._removed = [file for file in files if file.deleted]
        return self.read()

    def read(self) -> Reading:
        # All that were found, so that one that is gone has 0 and not what it had.
        owners = dict.fromkeys([*self._by_name.values(), *map(owner_text, self._removed)], 0)
        own = self._own()
        for file in shm_files(holders=False):
            owner = self._by_name.get(file.name)
            if owner is not None and file.name not in own:
                owners[owner] += file.nbytes
        for file in self._removed:
            if file.name not in own:
                owners[owner_text(file)] += file.nbytes
        largest = sorted(owners.items(), key=lambda item: -item[1])
        values = {f"holder/{who}": nbytes for who, nbytes in largest[:_MOST_HOLDERS]}
        rest = sum(nbytes for _, nbytes in largest[_MOST_HOLDERS:])
        return Reading({**values, "holder/others": rest} if rest else values)


def process_source(server_pid: Callable[[], int | None] | None) -> Source:
    """Tell the resident memory of this process and of a local server.

    ``resident/this process``, ``resident/server``. Shared memory that a process has
    touched is part of it.

    Parameters
    ----------
    server_pid
        Gives the server's process id; it, or what it gives, is None where there is none to
        be known.
    """

    def read() -> Reading | str:
        values = {}
        own = _resident_nbytes(os.getpid())
        if own is None:
            return "this system does not tell the memory of processes in /proc"
        values["resident/this process"] = own
        pid = None if server_pid is None else server_pid()
        if pid is not None and (server := _resident_nbytes(pid)) is not None:
            values["resident/server"] = server
        return Reading(values)

    return Source("resident memory", read)


def model_source(server_pid: Callable[[], int | None] | None) -> Source:
    """Tell the resident memory of a local server's models that are processes of their own.

    ``resident/models``: the sum over the processes that the server started, such as those
    of Triton's Python backend. What they share counts for each.

    Parameters
    ----------
    server_pid
        As for :func:`process_source`.
    """

    def read() -> Reading | str:
        server = None if server_pid is None else server_pid()
        if server is None:
            return _NO_SERVER
        sizes = [_resident_nbytes(pid) for pid in descendants(server)]
        return Reading({"resident/models": sum(size for size in sizes if size is not None)})

    return Source("the server's processes", read, every_s=_MODELS_S, slow=True)


def gpu_source(server_pid: Callable[[], int | None] | None = None) -> Source:
    """Tell of each GPU what NVML tells.

    ``gpu0/total``, ``gpu0/used``, ``gpu0/free``, ``gpu0/this process``, ``gpu0/server``,
    ``gpu0/busy_percent``. In a container NVML may not tell which process holds what.

    Parameters
    ----------
    server_pid
        As for :func:`process_source`.
    """

    def read() -> Reading | str:
        found = devices()
        if not found:
            return found.explanation
        pids = {os.getpid(): "this process"}
        server = None if server_pid is None else server_pid()
        if server is not None:
            pids[server] = "server"
        values: dict[str, float] = {}
        notes = {}
        for number, device in enumerate(found):
            notes[f"gpu{number}"] = f"GPU {device.index} ({device.name})"
            values.update(_of_gpu(f"gpu{number}", device, pids))
        return Reading(values, notes)

    return Source("GPUs", read, slow=True)


def _of_gpu(group: str, device: Device, pids: Mapping[int, str]) -> dict[str, float]:
    told = {
        "total": device.total_nbytes,
        "used": device.used_nbytes,
        "free": device.free_nbytes,
        "busy_percent": device.utilization_percent,
    }
    shares = {
        pids[holder.pid]: holder.nbytes
        for holder in device_holders(device.uuid or device.index)
        if holder.pid in pids
    }
    return {
        f"{group}/{name}": value for name, value in {**told, **shares}.items() if value is not None
    }


def triton_source(url: str) -> Source:
    """Tell what a Triton server publishes of itself, wherever it runs.

    ``triton/inference_count``, ``triton/failure_count``, ``triton/pending_count``, and of
    each GPU that the server publishes ``triton-gpu0/total``, ``triton-gpu0/used``,
    ``triton-gpu0/busy_percent``. They are marked as the server's: its GPUs may be those of
    another machine.

    Parameters
    ----------
    url
        The address of its metrics. Nothing else is asked.
    """

    def read() -> Reading | str:
        try:
            text = fetch_metrics(url)
        except (OSError, HTTPException, ValueError) as error:
            return f"the server's metrics at {url} cannot be read: {error or type(error).__name__}"
        metrics = list(parse_metrics(text))
        values = {
            f"triton/{name}": sum(m.value for m in metrics if m.name == metric)
            for name, metric in (
                ("inference_count", "nv_inference_count"),
                ("failure_count", "nv_inference_request_failure"),
                ("pending_count", "nv_inference_pending_request_count"),
            )
            if any(m.name == metric for m in metrics)
        }
        gpus, notes = _published_gpus(metrics)
        if not values and not gpus:
            return f"what {url} sends are no metrics of a Triton server with a model"
        return Reading({**values, **gpus}, notes)

    return Source("the server's metrics", read, every_s=_METRICS_S, slow=True)


def _published_gpus(metrics: list[Metric]) -> tuple[dict[str, float], dict[str, str]]:
    """Return the numbers of a server's GPUs, and what to call them."""
    kinds = {
        "nv_gpu_memory_total_bytes": ("total", 1.0),
        "nv_gpu_memory_used_bytes": ("used", 1.0),
        "nv_gpu_utilization": ("busy_percent", 100.0),  # from 0 to 1
    }
    of_gpus = [m for m in metrics if m.name in kinds and "gpu_uuid" in m.labels]
    uuids = sorted({m.labels["gpu_uuid"] for m in of_gpus})
    values: dict[str, float] = {}
    for metric in of_gpus:
        name, factor = kinds[metric.name]
        group = f"triton-gpu{uuids.index(metric.labels['gpu_uuid'])}"
        values[f"{group}/{name}"] = factor * metric.value
    notes = {
        f"triton-gpu{number}": f"the server's {printable(uuid)}"
        for number, uuid in enumerate(uuids)
    }
    return values, notes


def _resident_nbytes(pid: int) -> int | None:
    """Return the resident memory of a process, or None where it is not to be seen."""
    fields = file_text(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE_NBYTES if len(fields) > 1 and fields[1].isdigit() else None
