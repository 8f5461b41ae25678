"""The calls of the CUDA runtime that are used here, each checked and its errors mapped once.

Everything that reaches CUDA goes through :func:`_bindings`. The names, the order of
arguments and the results are those of ``cuda.bindings.runtime`` (cuda-python), which
follow the CUDA Runtime API; error codes are explained in its section "Data types used by
CUDA Runtime".
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

from tritonic_nb.errors import (
    NoCudaDeviceError,
    NoSpaceError,
    SharedMemoryError,
    SharedMemoryUnsupportedError,
)
from tritonic_nb.render import human_bytes

__all__ = [
    "allocate",
    "allocate_pinned",
    "check_device",
    "copy",
    "create_event",
    "create_stream",
    "destroy_event",
    "destroy_stream",
    "device_count",
    "device_memory",
    "device_of",
    "device_uuids",
    "free",
    "free_pinned",
    "have_wait",
    "ipc_handle",
    "is_pinned",
    "on",
    "record",
    "wait_for_device",
    "wait_for_event",
    "wait_for_stream",
]

_HANDLE_NBYTES = 64  # CUDA_IPC_HANDLE_SIZE
_UUID_NBYTES = 16
_NON_BLOCKING = 1  # cudaStreamNonBlocking: takes no turns with the default stream
_NO_TIMING = 2  # cudaEventDisableTiming
_PORTABLE = 1  # cudaHostAllocPortable: pinned for every device
_WITHOUT = "use shared_memory='system' or 'none'"

# Of a process that has one of these, every later call of CUDA fails, too.
_BROKEN = (
    "cudaErrorIllegalAddress", "cudaErrorLaunchFailure", "cudaErrorECCUncorrectable",
    "cudaErrorHardwareStackError", "cudaErrorIllegalInstruction", "cudaErrorMisalignedAddress",
    "cudaErrorInvalidAddressSpace", "cudaErrorInvalidPc", "cudaErrorAssert",
    "cudaErrorLaunchTimeout", "cudaErrorContained", "cudaErrorMpsClientTerminated",
)  # fmt: skip
_ABSENT = {
    "cudaErrorInsufficientDriver": (
        "there is no NVIDIA driver, or one too old for this cuda-python",
        "install a driver (nvidia-smi tells its version; in a container: --gpus all), or a "
        "cuda-python of the driver's version",
    ),
    "cudaErrorNoDevice": (
        "the driver has no device for this process",
        "look at nvidia-smi and CUDA_VISIBLE_DEVICES; in a container: --gpus all",
    ),
    "cudaErrorSystemDriverMismatch": (
        "the driver's kernel module and its library are of different versions",
        "restart the machine, or load the module again",
    ),
    "cudaErrorInitializationError": (
        "CUDA cannot be initialised (it cannot in a forked child of a process that uses it)",
        "start this process anew instead of forking it (multiprocessing: 'spawn')",
    ),
    "cudaErrorDevicesUnavailable": (
        "the device is busy or taken: another process has it for itself (compute mode)",
        "wait for the other process, or `nvidia-smi -c DEFAULT`",
    ),
}
_NO_IPC = (
    "cudaErrorNotSupported", "cudaErrorInvalidValue", "cudaErrorMapBufferObjectFailed",
    "cudaErrorInvalidResourceHandle", "cudaErrorNotPermitted", "cudaErrorOperatingSystem",
)  # fmt: skip


# The primary context of each device that was used here, by its address.
_primary: dict[int, int] = {}


@contextlib.contextmanager
def on(device: int) -> Iterator[None]:
    """Have a device be this thread's current one, and afterwards what was current before.

    Current is the driver's context, which all libraries of a thread share, whichever
    runtime they have. Going back with ``cudaSetDevice`` would make a context on the device
    of before, some hundred megabytes, even if nobody ever used that one.

    Raises
    ------
    NoCudaDeviceError
        If there is no such device.
    """
    doing = f"using CUDA device {device}"
    before = _context(doing)
    if before and before == _primary.get(device):
        yield
        return
    # Where there is no context, the runtime would make one on the chosen device.
    chosen = device if before else int(_call("cudaGetDevice", doing))
    try:
        _call("cudaSetDevice", doing, device)
        _primary[device] = _context(doing)
        yield
    finally:
        if before:
            _set_context(before)
        elif chosen != device and _is_in_use(chosen):
            _call("cudaSetDevice", doing, chosen)
        elif device:  # the first device is what CUDA takes by itself
            _set_context(0)


def _context(doing: str) -> int:
    """Return the address of this thread's context, 0 where it has none."""
    if not _primary:  # the runtime says why there is no driver, and the driver's binding not
        _call("cudaGetDeviceCount", doing)
    driver = _driver()
    status, context = driver.cuCtxGetCurrent()
    # Before anything was initialised it is an error, and there is none.
    return int(context) if status == driver.CUresult.CUDA_SUCCESS else 0


def _is_in_use(device: int) -> bool:
    """Whether this process has a context on a device already."""
    driver = _driver()
    status, _flags, active = driver.cuDevicePrimaryCtxGetState(device)
    return bool(status == driver.CUresult.CUDA_SUCCESS and active)


def _set_context(context: int) -> None:
    driver = _driver()
    (status,) = driver.cuCtxSetCurrent(context)
    if status != driver.CUresult.CUDA_SUCCESS:
        raise SharedMemoryError(
            f"this thread's CUDA context of before is of no more use ({status.name})",
            "choose the device anew where you use CUDA yourself",
        )


def device_count() -> tuple[int, str]:
    """Return the number of CUDA devices and, where it is 0, why."""
    try:
        return int(_call("cudaGetDeviceCount", "counting the CUDA devices")), ""
    except NoCudaDeviceError as error:
        return 0, error.message
    except SharedMemoryError as error:
        return 0, error.message


def check_device(device: int) -> None:
    """Refuse a device that is not there.

    Raises
    ------
    NoCudaDeviceError
        With the reason, or the numbers that there are.
    """
    count = int(_call("cudaGetDeviceCount", ""))
    if count == 0:
        raise NoCudaDeviceError("no CUDA device was found: this machine has none", _WITHOUT)
    if not 0 <= device < count:
        there = "0" if count == 1 else f"0 to {count - 1}"
        raise NoCudaDeviceError(
            f"there is no CUDA device {device}: this process sees {count}, numbered {there}",
            f"name one of these, see session.devices(); or {_WITHOUT}",
        )


def device_memory(device: int) -> tuple[int, int]:
    """Return the free and the total memory of a device, in bytes."""
    with on(device):
        free, total = _call("cudaMemGetInfo", f"asking CUDA device {device} for its memory")
    return int(free), int(total)


def device_uuids() -> tuple[str, ...]:
    """Return the UUIDs of the devices in the order of CUDA's numbers, as NVML writes them.

    Empty where there is no device, or they cannot be asked.
    """
    count, _ = device_count()
    try:
        return tuple(_uuid(device) for device in range(count))
    except SharedMemoryError:
        return ()


def _uuid(device: int) -> str:
    properties = _call("cudaGetDeviceProperties", f"describing CUDA device {device}", device)
    raw = properties.uuid.bytes
    text = bytes(raw[:_UUID_NBYTES]).hex()
    return f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def allocate(
    device: int, nbytes: int, what: str, held: list[Any], holders: Callable[[], str] | None = None
) -> int:
    """Allocate device memory that can be shared with other processes, and return its address.

    Parameters
    ----------
    device, nbytes
        Where, and how many bytes.
    what
        What it is for, for the message of an error.
    held
        Gets what was made before anything else can happen, for :func:`free`.
    holders
        Tells who holds the most of the device's memory.

    Raises
    ------
    NoSpaceError
        With what is needed, what is free and who holds it.
    NoCudaDeviceError, SharedMemoryError
        If it fails otherwise.
    """
    runtime = _bindings()
    with on(device):
        # Of cudaMalloc: memory of cudaMallocAsync or of a pool has no IPC handle.
        held.extend(map(runtime.cudaMalloc, (nbytes,)))
    try:
        return _created(runtime, f"{what}: {human_bytes(nbytes)} on CUDA device {device}", held)
    except NoSpaceError:
        raise _no_space(device, nbytes, what, holders) from None


def _no_space(
    device: int, nbytes: int, what: str, holders: Callable[[], str] | None
) -> NoSpaceError:
    try:
        free, total = device_memory(device)
        there = f"{free} are free ({human_bytes(free)}) of {human_bytes(total)}"
    except SharedMemoryError:
        there = "its free memory is not known"
    held = holders() if holders else ""
    return NoSpaceError(
        f"{what} needs {nbytes} bytes ({human_bytes(nbytes)}) of CUDA device {device}, where "
        f"{there}" + (f"; {held}" if held else ""),
        "close what is not needed (other sessions, kernels, models), send smaller batches, choose "
        "another device, or use shared_memory='system'",
    )


def free(device: int, held: list[Any]) -> None:
    """Free device memory; it waits for what the device still does. Safe to repeat.

    Parameters
    ----------
    device
        Where it is.
    held
        As :func:`allocate` left it.
    """
    if held:
        with on(device):
            _give_back("cudaFree", f"freeing memory of CUDA device {device}", held)


def ipc_handle(device: int, address: int, what: str) -> bytes:
    """Return the 64 bytes by which another process opens device memory.

    Raises
    ------
    SharedMemoryUnsupportedError
        If this system has no CUDA IPC.
    """
    runtime = _bindings()
    with on(device):
        status, handle = runtime.cudaIpcGetMemHandle(address)
    if getattr(status, "name", "") in _NO_IPC:
        raise SharedMemoryUnsupportedError(
            f"{what}: CUDA device {device} gives no IPC handle for its memory ({status.name}: "
            f"{_explained(runtime, status)})",
            "CUDA IPC needs Linux itself (not WSL2) and a device that has it (a Jetson has not); "
            f"{_WITHOUT}",
        )
    if status != runtime.cudaError_t.cudaSuccess:
        raise _error(runtime, status, f"{what}: the IPC handle")
    # From cuda-bindings 13 on the struct shows its address alone.
    return ctypes.string_at(handle.getPtr(), _HANDLE_NBYTES)


def allocate_pinned(device: int, nbytes: int, held: list[Any]) -> int:
    """Allocate page-locked host memory, which devices copy at full speed.

    All devices can; it is `device` whose context has it.
    """
    runtime = _bindings()
    with on(device):
        held.extend(map(runtime.cudaHostAlloc, (nbytes,), (_PORTABLE,)))
    return _created(runtime, f"{human_bytes(nbytes)} of page-locked host memory", held)


def free_pinned(device: int, held: list[Any]) -> None:
    """Free page-locked host memory; see :func:`free`."""
    if held:
        with on(device):
            _give_back("cudaFreeHost", "freeing page-locked host memory", held)


def is_pinned(address: int) -> bool:
    """Whether host memory is page-locked already, whoever did it; within :func:`on`."""
    runtime = _bindings()
    status, attributes = runtime.cudaPointerGetAttributes(address)
    return bool(
        status == runtime.cudaError_t.cudaSuccess
        and attributes.type == runtime.cudaMemoryType.cudaMemoryTypeHost
    )


def device_of(address: int) -> int:
    """Return the number of the device whose memory an address is in."""
    doing = "looking at device memory"
    before = _context(doing)
    try:
        return int(_call("cudaPointerGetAttributes", doing, address).device)
    finally:
        _set_context(before)


def create_stream(device: int, held: list[Any]) -> int:
    """Make a stream of a device, which takes no turns with the default stream."""
    with on(device):
        return _create("cudaStreamCreateWithFlags", "making a CUDA stream", _NON_BLOCKING, held)


def destroy_stream(device: int, held: list[Any]) -> None:
    """Destroy the last stream that was made; what is on it ends first. Safe to repeat."""
    if held:
        with on(device):
            _give_back("cudaStreamDestroy", "destroying a CUDA stream", held)


def copy(target: int, source: int, nbytes: int, stream: int) -> None:
    """Begin to copy between any two addresses, of host or device, on a stream.

    This and what waits is to be called within :func:`on`.
    """
    runtime = _bindings()
    (status,) = runtime.cudaMemcpyAsync(
        target, source, nbytes, runtime.cudaMemcpyKind.cudaMemcpyDefault, stream
    )
    if status != runtime.cudaError_t.cudaSuccess:
        raise _error(runtime, status, f"copying {human_bytes(nbytes)} to or from a CUDA device")


def wait_for_stream(stream: int) -> None:
    """Wait until all that was put on a stream is done."""
    _call("cudaStreamSynchronize", "waiting for copies to or from a CUDA device", stream)


def wait_for_device(device: int) -> None:
    """Wait until a device has done all that this process gave it."""
    with on(device):
        _call("cudaDeviceSynchronize", f"waiting for CUDA device {device}")


def create_event(device: int, held: list[Any]) -> int:
    """Make an event of a device, without a time."""
    with on(device):
        return _create("cudaEventCreateWithFlags", "making a CUDA event", _NO_TIMING, held)


def destroy_event(device: int, held: list[Any]) -> None:
    """Destroy the last event that was made. Safe to repeat."""
    if held:
        with on(device):
            _give_back("cudaEventDestroy", "destroying a CUDA event", held)


def record(event: int, stream: int) -> None:
    """Have an event happen when a stream has done what was put on it so far."""
    _call("cudaEventRecord", "recording a CUDA event", event, stream)


def wait_for_event(event: int) -> None:
    """Wait until an event has happened."""
    _call("cudaEventSynchronize", "waiting for copies to or from a CUDA device", event)


def have_wait(stream: int, event: int) -> None:
    """Have what is put on a stream from now on wait until an event has happened."""
    _call("cudaStreamWaitEvent", "having a copy wait for its source", stream, event, 0)


def _bindings() -> Any:
    """Return the binding of the CUDA runtime: the one seam to CUDA.

    Raises
    ------
    NoCudaDeviceError
        If it is not installed, or does not load.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise NoCudaDeviceError(
            f"no CUDA device was found: cuda-python is not installed ({error})",
            f"pip install cuda-python, or {_WITHOUT}",
        ) from error
    return runtime


def _driver() -> Any:
    """Return the binding of the CUDA driver: its contexts alone are asked for here."""
    from cuda.bindings import driver

    return driver


def _call(function: str, doing: str, *arguments: Any) -> Any:
    """Call a function of the runtime and return its result: None, a value, or several."""
    runtime = _bindings()
    try:
        status, *values = getattr(runtime, function)(*arguments)
    except RuntimeError as error:  # the CUDA libraries themselves do not load
        raise NoCudaDeviceError(f"no CUDA device was found: {error}", _WITHOUT) from error
    if status != runtime.cudaError_t.cudaSuccess:
        raise _error(runtime, status, doing)
    return values[0] if len(values) == 1 else values or None


# What is made is in the caller's list as soon as it is there: between the return of a call
# and an assignment a Ctrl-C would lose it. list.extend(map(...)) is one step to Python, and
# so, but for a hair, is calling with what list.pop() gives.


def _create(function: str, doing: str, flags: int, held: list[Any]) -> int:
    runtime = _bindings()
    held.extend(map(getattr(runtime, function), (flags,)))
    return _created(runtime, doing, held)


def _created(runtime: Any, doing: str, held: list[Any]) -> int:
    """Return what was made last, or an error where it was not."""
    status, made = held[-1]
    if status != runtime.cudaError_t.cudaSuccess:
        held.pop()
        raise _error(runtime, status, doing)
    return int(made)


def _give_back(function: str, doing: str, held: list[Any]) -> None:
    """Call a function with what was made last, which is gone then, whatever it answers."""
    runtime = _bindings()
    call = getattr(runtime, function)
    status = runtime.cudaError_t.cudaSuccess
    with contextlib.suppress(IndexError):  # another thread did it
        (status,) = call(held.pop()[1])
    if status != runtime.cudaError_t.cudaSuccess:
        raise _error(runtime, status, doing)


def _error(runtime: Any, status: Any, doing: str) -> SharedMemoryError:
    """Return our error for a status of CUDA's."""
    name = getattr(status, "name", str(status))
    told = f"{name}: {_explained(runtime, status)}"
    before = f"{doing}: " if doing else ""
    if name in _ABSENT:
        why, remedy = _ABSENT[name]
        return NoCudaDeviceError(
            f"{before}no CUDA device was found: {why} ({name})", f"{remedy}; or {_WITHOUT}"
        )
    if name == "cudaErrorInvalidDevice":
        _, count = runtime.cudaGetDeviceCount()  # asked at once: this error may be its own
        return NoCudaDeviceError(
            f"{before}there is no such CUDA device; this process sees {count or 0} ({told})",
            f"see session.devices(), or {_WITHOUT}",
        )
    if name == "cudaErrorMemoryAllocation":
        return NoSpaceError(
            f"{before}there is not enough memory ({told})",
            f"close what is not needed, send smaller batches, or {_WITHOUT}",
        )
    if name in _BROKEN:
        return SharedMemoryError(
            f"{before}CUDA is of no more use in this process, after a fault in some code on the "
            f"device ({told})",
            "restart the kernel; until then shared_memory='system' works",
        )
    return SharedMemoryError(f"{before}{told}", _WITHOUT)


def _explained(runtime: Any, status: Any) -> str:
    try:
        return str(runtime.cudaGetErrorString(status)[1].decode("utf-8", "replace"))
    except Exception:
        return "no explanation"
