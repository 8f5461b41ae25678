"""What NVIDIA's management library (NVML) knows of this machine's GPUs.

NVML tells without a CUDA context, which would take some hundred megabytes of each
device. It comes with the driver; ``cuda.bindings.nvml`` of cuda-python speaks to it,
since cuda-bindings 13.2 and 12.9.6. ``cuda.core.system`` offers the same in objects;
it takes twice as long to import, and an attempt that failed is never made again there.

NVML numbers all GPUs in the order of the bus. CUDA numbers those of
``CUDA_VISIBLE_DEVICES`` in an order that ``CUDA_DEVICE_ORDER`` chooses. What both know
is the UUID: see :func:`with_cuda_indices`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import ParamSpec, TypeVar, overload

from tritonic_nb import render
from tritonic_nb.monitoring.holders import listed, printable, process_name, process_text
from tritonic_nb.render import human_bytes

__all__ = [
    "Device",
    "DeviceHolder",
    "Devices",
    "NvmlReason",
    "device_holders",
    "device_holders_text",
    "devices",
    "with_cuda_indices",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_NOT_TOLD = 2**64 - 1  # NVML_VALUE_NOT_AVAILABLE
# A process may come between the two calls that cuda-python makes for a list of them.
_ATTEMPTS = 3


class NvmlReason(str, Enum):
    """Why no GPU is to be seen."""

    NO_BINDING = "no binding"
    """cuda-python is not installed, or one that does not speak NVML."""
    NO_LIBRARY = "no library"
    """The driver's library is not there."""
    NO_DRIVER = "no driver"
    """The library is there, and the kernel has no driver loaded."""
    NO_PERMISSION = "no permission"
    """This user, or this container, may not talk to the driver."""
    VERSION_MISMATCH = "version mismatch"
    """The library and the loaded driver are of different versions."""
    NO_DEVICE = "no device"
    """The driver works and has no GPU."""
    FAILED = "failed"
    """Anything else; the explanation says what."""

    def __str__(self) -> str:
        return self.value


_EXPLANATIONS = {
    NvmlReason.NO_BINDING: "cuda-python is not installed, or is too old to speak to NVIDIA's "
    "management library: install cuda-python 13.2 (or 12.9.6) or newer",
    NvmlReason.NO_LIBRARY: "NVIDIA's management library (libnvidia-ml.so.1) was not found: it "
    "comes with the NVIDIA driver, and a container gets it with docker run --gpus all",
    NvmlReason.NO_DRIVER: "NVIDIA's management library is here, but no NVIDIA driver is loaded; a "
    "container gets it with docker run --gpus all",
    NvmlReason.NO_PERMISSION: "this process may not talk to the NVIDIA driver: it must read and "
    "write /dev/nvidiactl and /dev/nvidia0, and a container gets them with docker run --gpus all",
    NvmlReason.VERSION_MISMATCH: "NVIDIA's management library and the loaded NVIDIA driver are of "
    "different versions, as after an update: restart the machine, or the container",
    NvmlReason.NO_DEVICE: "the NVIDIA driver works and shows no GPU; a container gets them with "
    "docker run --gpus all",
    NvmlReason.FAILED: "NVIDIA's management library failed",
}
# By name, as some of them are raised by whatever loads the library for cuda-python.
_REASONS = {
    "AttributeError": NvmlReason.NO_BINDING,  # a module of an early version
    "DynamicLibNotFoundError": NvmlReason.NO_LIBRARY,
    "LibraryNotFoundError": NvmlReason.NO_LIBRARY,
    "DriverNotLoadedError": NvmlReason.NO_DRIVER,
    "NoPermissionError": NvmlReason.NO_PERMISSION,
    "OperatingSystemError": NvmlReason.NO_PERMISSION,  # blocked by cgroups
    "LibRmVersionMismatchError": NvmlReason.VERSION_MISMATCH,
    "GpuNotFoundError": NvmlReason.NO_DEVICE,
}


@dataclass(frozen=True)
class Device:
    """A GPU, or an instance of one that is partitioned (MIG).

    Attributes
    ----------
    index
        NVML's number of the GPU, which ``nvidia-smi`` shows; not CUDA's.
    uuid
        ``GPU-...``, or ``MIG-...`` for an instance; empty where NVML does not tell.
    name
        Such as ``NVIDIA H100 80GB HBM3``.
    free_nbytes, used_nbytes, total_nbytes
        Its memory, in bytes. The driver keeps some for itself that is neither free nor
        used. None where NVML does not tell, as with GPUs that have no memory of their
        own (Jetson, GB10); there ``cudaMemGetInfo`` does.
    driver
        The version of the driver; empty where NVML does not tell.
    utilization_percent
        For how much of the last moment (up to a second) the GPU worked, from 0 to 100.
        None where NVML does not tell, as for instances.
    parent_uuid
        For an instance, the GPU that it is part of; else empty.
    cuda_index
        CUDA's number of the device in this process, where it is known.
    """

    index: int
    uuid: str
    name: str
    free_nbytes: int | None
    used_nbytes: int | None
    total_nbytes: int | None
    driver: str
    utilization_percent: int | None = None
    parent_uuid: str = ""
    cuda_index: int | None = None


@dataclass(frozen=True)
class DeviceHolder:
    """A process that holds memory of a GPU.

    Attributes
    ----------
    pid
        Its number, as NVML tells it: in a container it may be that of the host.
    name
        Its command; empty where no process of that number may be seen from here.
    nbytes
        The memory that it holds, its CUDA context included; None where NVML does not
        tell, as for containers and with Windows' own memory management (WDDM, WSL).
    """

    pid: int
    name: str
    nbytes: int | None


@dataclass(frozen=True, repr=False)
class Devices(Sequence[Device]):
    """The GPUs that NVML shows, as they were when it was asked. False where there are none.

    Attributes
    ----------
    found
        The devices. Of a GPU that is partitioned, its instances stand for it.
    reason
        Why there are none; None where there are some.
    explanation
        The reason as a sentence for people; empty where there are some.
    """

    found: tuple[Device, ...] = ()
    reason: NvmlReason | None = None
    explanation: str = ""

    @overload
    def __getitem__(self, index: int) -> Device: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Device, ...]: ...
    def __getitem__(self, index: int | slice) -> Device | tuple[Device, ...]:
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)

    def __repr__(self) -> str:
        return render.plain(*self._described())

    def _repr_html_(self) -> str:
        return render.card(*self._described())

    def _described(self) -> tuple[str, list[tuple[str, str]], list[render.Table]]:
        if not self.found:
            return "No GPU", [("why", self.explanation)], []
        driver = self.found[0].driver
        title = f"GPUs, NVIDIA driver {driver}" if driver else "GPUs"
        columns = ["GPU", "name", "memory", "used", "free", "busy"]
        rows = [_cells(device) for device in self.found]
        if any(device.cuda_index is not None for device in self.found):
            columns.append("CUDA device")
            for row, device in zip(rows, self.found, strict=True):
                row.append(_text(device.cuda_index))
        numeric = [0, *range(2, len(columns))]
        return title, [], [render.Table("devices", columns, rows, numeric)]


def devices(*, refresh: bool = False) -> Devices:
    """Return the GPUs with the memory that is free and used now.

    NVML is opened once in a process and the devices are listed then; later calls only
    ask for what changes. Never raises: without NVML there are no devices, and the
    reason is told.

    Parameters
    ----------
    refresh
        Whether to list the devices anew and, where NVML could not be opened before, to
        try again: a driver may have been loaded meanwhile.
    """
    found = _library.look(refresh=refresh)
    if isinstance(found, _Unavailable):
        return Devices((), found.reason, found.explanation)
    return Devices(tuple(_device(found, board) for board in found.boards))


def with_cuda_indices(devices: Devices, uuids: Sequence[bytes | str]) -> Devices:
    """Return the devices with CUDA's numbers of them.

    Parameters
    ----------
    devices
        As :func:`devices` gives them.
    uuids
        Of the CUDA devices in CUDA's order: 16 bytes (``cudaDeviceProp.uuid.bytes``),
        or text with or without ``GPU-`` or ``MIG-``.

    Returns
    -------
    Devices
        The same in the same order; ``cuda_index`` is None where CUDA does not show a
        device. CUDA may name an instance by the UUID of its GPU: that tells which one
        where the GPU has only one.
    """
    numbers: dict[str, int] = {}
    for number, uuid in enumerate(uuids):
        numbers.setdefault(_digits(uuid), number)
    parents = [_digits(device.parent_uuid) for device in devices]

    def number_of(device: Device) -> int | None:
        parent = _digits(device.parent_uuid)
        by_parent = numbers.get(parent) if parent and parents.count(parent) == 1 else None
        return numbers.get(_digits(device.uuid), by_parent) if device.uuid else by_parent

    found = tuple(replace(device, cuda_index=number_of(device)) for device in devices)
    return replace(devices, found=found)


def device_holders(device: int | str) -> tuple[DeviceHolder, ...]:
    """Return the processes that hold memory of a GPU, the one with the most first.

    Those of which NVML does not tell how much come last. Never raises: empty where
    nobody holds any, and where NVML does not tell. In a container NVML may hide the
    processes of others. Early versions of cuda-python do not list those that only draw.

    Parameters
    ----------
    device
        The UUID of a GPU or an instance, or NVML's number of a GPU.
    """
    place = _place(device)
    if place is None:
        return ()
    calls, board = place
    held: dict[int, int | None] = {}
    for pid, nbytes in _processes(calls, board.handle):
        # One that computes and draws is in two lists, with all that it holds in each.
        held[pid] = max((n for n in (held.get(pid), nbytes) if n is not None), default=None)
    holders = (DeviceHolder(pid, process_name(pid), nbytes) for pid, nbytes in held.items())
    return tuple(
        sorted(holders, key=lambda each: (each.nbytes is None, -(each.nbytes or 0), each.pid))
    )


def device_holders_text(device: int | str, limit: int = 3, label: str = "") -> str:
    """Say in one line who holds the most memory of a GPU; empty if nobody is known to.

    For example: ``GPU 0 (NVIDIA H100 80GB HBM3) holds 12.3 GB of process 99 (python),
    2 GB of this process and 512 MB of 2 other processes``. Never raises.

    Parameters
    ----------
    device
        As for :func:`device_holders`.
    limit
        How many processes to name, at least 1.
    label
        What to call the device, such as ``CUDA device 1``, instead of NVML's number and
        its name.
    """
    holders = device_holders(device)
    if not holders:
        return ""
    parts = [
        f"{_amount([holder])} of {process_text(holder.pid, holder.name)}"
        for holder in holders[:limit]
    ]
    rest = holders[limit:]
    if rest:
        parts.append(f"{_amount(rest)} of {len(rest)} other process{'es' if len(rest) > 1 else ''}")
    return f"{label or _label(device)} holds {listed(parts)}"


class _Calls:
    """The few calls of NVML that are made, by way of cuda-python.

    Each may raise whatever cuda-python raises.
    """

    def __init__(self) -> None:
        from cuda.bindings import nvml

        nvml.init_v2()
        self._nvml = nvml

    def driver(self) -> str:
        return str(self._nvml.system_get_driver_version())

    def count(self) -> int:
        return int(self._nvml.device_get_count_v2())

    def handle(self, index: int) -> int:
        return int(self._nvml.device_get_handle_by_index_v2(index))

    def most_instances(self, handle: int) -> int:
        return int(self._nvml.device_get_max_mig_device_count(handle))

    def instance(self, handle: int, index: int) -> int:
        return int(self._nvml.device_get_mig_device_handle_by_index(handle, index))

    def uuid(self, handle: int) -> str:
        return str(self._nvml.device_get_uuid(handle))

    def name(self, handle: int) -> str:
        return str(self._nvml.device_get_name(handle))

    def memory(self, handle: int) -> tuple[int, int, int]:
        """Return the free, used and total bytes."""
        memory = self._nvml.device_get_memory_info_v2(handle)
        return int(memory.free), int(memory.used), int(memory.total)

    def utilization(self, handle: int) -> int:
        return int(self._nvml.device_get_utilization_rates(handle).gpu)

    def processes(self, kind: str, handle: int) -> list[tuple[int, int | None]]:
        """Return each process with the bytes that it holds."""
        ask = getattr(self._nvml, f"device_get_{kind}_running_processes_v3")
        pairs = ((int(each.pid), int(each.used_gpu_memory)) for each in ask(handle))
        return [(pid, None if nbytes == _NOT_TOLD else nbytes) for pid, nbytes in pairs]


@dataclass(frozen=True)
class _Board:
    """What does not change of a GPU or an instance."""

    handle: int
    index: int
    uuid: str
    name: str
    parent_uuid: str = ""


@dataclass(frozen=True)
class _Opened:
    """NVML, and what it listed.

    Attributes
    ----------
    boards
        What is shown: GPUs, and the instances of those that are partitioned.
    partitioned
        The GPUs that their instances stand for.
    """

    calls: _Calls
    driver: str
    boards: tuple[_Board, ...]
    partitioned: tuple[_Board, ...]

    def board(self, device: int | str) -> _Board | None:
        """Return a GPU by NVML's number, or a GPU or an instance by its UUID."""
        if isinstance(device, str):
            wanted = _digits(device)
            boards = self.boards + self.partitioned
            return next(
                (each for each in boards if each.uuid and _digits(each.uuid) == wanted), None
            )
        gpus = self.partitioned + self.boards
        return next((each for each in gpus if each.index == device), None)


@dataclass(frozen=True)
class _Unavailable:
    """Why there is no NVML, or no device."""

    reason: NvmlReason
    explanation: str


class _Library:
    """NVML as this process has it: opened once, or the reason why not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: _Calls | None = None
        self._found: _Opened | _Unavailable | None = None

    def look(self, *, refresh: bool = False) -> _Opened | _Unavailable:
        """Return what was found; the first time, and when it is to be anew, look."""
        with self._lock:
            if self._found is None or refresh:
                self._found = self._looked()
            return self._found

    def _looked(self) -> _Opened | _Unavailable:
        try:
            self._calls = self._calls or _Calls()
            return _opened(self._calls)
        except Exception as error:  # whatever it is, a machine without a GPU is a fine one
            self._calls = None
            return _unavailable(error)


def _opened(calls: _Calls) -> _Opened | _Unavailable:
    boards: list[_Board] = []
    partitioned: list[_Board] = []
    refused: Exception | None = None
    for index in range(calls.count()):
        try:
            handle = calls.handle(index)
        except Exception as error:  # lost, or not for this container
            refused = error
            continue
        gpu = _board(calls, handle, index)
        instances = list(_instances(calls, gpu))
        boards += instances or [gpu]
        partitioned += [gpu] if instances else []
    if refused is not None and not boards:
        raise refused
    if not boards:
        return _Unavailable(NvmlReason.NO_DEVICE, _EXPLANATIONS[NvmlReason.NO_DEVICE])
    driver = _asked(calls.driver) or ""
    return _Opened(calls, driver, tuple(boards), tuple(partitioned))


def _board(calls: _Calls, handle: int, index: int, parent: _Board | None = None) -> _Board:
    name = _asked(calls.name, handle) or (f"{parent.name} MIG" if parent else "NVIDIA GPU")
    uuid = _asked(calls.uuid, handle) or ""
    return _Board(handle, index, uuid, name, parent.uuid if parent else "")


def _instances(calls: _Calls, gpu: _Board) -> Iterator[_Board]:
    """Give the instances of a GPU: of the most that there could be, those there are."""
    for number in range(_asked(calls.most_instances, gpu.handle) or 0):
        handle = _asked(calls.instance, gpu.handle, number)
        if handle is not None:
            yield _board(calls, handle, gpu.index, gpu)


def _device(found: _Opened, board: _Board) -> Device:
    memory = _asked(found.calls.memory, board.handle)
    # Where the memory is the system's, some drivers say so, and some say that it is nothing.
    free, used, total = memory if memory and memory[2] else (None, None, None)
    return Device(
        index=board.index,
        uuid=board.uuid,
        name=board.name,
        free_nbytes=free,
        used_nbytes=used,
        total_nbytes=total,
        driver=found.driver,
        utilization_percent=_asked(found.calls.utilization, board.handle),
        parent_uuid=board.parent_uuid,
    )


def _processes(calls: _Calls, handle: int) -> Iterator[tuple[int, int | None]]:
    """Give the processes that compute or draw; one that does both is given twice."""
    for kind in ("compute", "graphics", "mps_compute"):
        for _ in range(_ATTEMPTS):
            found = _asked(calls.processes, kind, handle)
            if found is not None:
                yield from found
                break


def _asked(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
    """Return an answer; None where NVML has none: not supported, not allowed, too old."""
    try:
        return call(*args, **kwargs)
    except Exception:
        return None


def _unavailable(error: Exception) -> _Unavailable:
    known = _REASONS.get(type(error).__name__, NvmlReason.FAILED)
    reason = NvmlReason.NO_BINDING if isinstance(error, ImportError) else known
    told = reason in (NvmlReason.NO_BINDING, NvmlReason.FAILED)
    more = f" ({type(error).__name__}: {error})" if told else ""
    return _Unavailable(reason, _EXPLANATIONS[reason] + more)


def _digits(uuid: bytes | str) -> str:
    """Return what is the same in all ways to write a UUID."""
    text = uuid if isinstance(uuid, str) else uuid.hex()
    return text.removeprefix("GPU-").removeprefix("MIG-").replace("-", "").lower()


def _place(device: int | str) -> tuple[_Calls, _Board] | None:
    """Return what to ask, and for which GPU or instance; None if it is not to be seen."""
    found = _library.look()
    if isinstance(found, _Unavailable):
        return None
    board = found.board(device)
    return None if board is None else (found.calls, board)


def _label(device: int | str) -> str:
    place = _place(device)
    return f"GPU {place[1].index} ({printable(place[1].name)})" if place else "the GPU"


def _amount(holders: Sequence[DeviceHolder]) -> str:
    known = [holder.nbytes for holder in holders if holder.nbytes is not None]
    return human_bytes(sum(known)) if len(known) == len(holders) else "memory"


def _cells(device: Device) -> list[str]:
    used, total, free = device.used_nbytes, device.total_nbytes, device.free_nbytes
    if used is None or total is None or free is None:
        memory = ["not told", "", ""]
    else:
        memory = [
            human_bytes(total),
            f"{human_bytes(used)} ({used / total:.0%})",
            human_bytes(free),
        ]
    return [str(device.index), device.name, *memory, _text(device.utilization_percent, "%")]


def _text(number: int | None, unit: str = "") -> str:
    return "" if number is None else f"{number}{unit}"


_library = _Library()


def _forked() -> None:
    """Open NVML anew in a child: its parent's lock may be taken, its handles are the parent's."""
    global _library  # noqa: PLW0603 - one for each process
    _library = _Library()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
