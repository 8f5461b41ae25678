"""A CUDA runtime without a GPU: the few calls in use, behind the one seam of this package.

Device memory is a file in /dev/shm, so that a real Triton server can open it (through
tests/cuda_relay.py). Copies are as late as CUDA allows: nothing is copied before somebody
waits for it, and sources are read only then. What forgets to wait gets wrong bytes.
"""

# ruff: noqa: N802, N815, D102 - the names are CUDA's, and so is what they do

from __future__ import annotations

import contextlib
import ctypes
import itertools
import mmap
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cuda.bindings import driver
from cuda.bindings import runtime as real

SHM = Path("/dev/shm")
PREFIX = "fake_gpu-"
OK = real.cudaError_t.cudaSuccess
INVALID = real.cudaError_t.cudaErrorInvalidValue
MIB = 2**20
CONTEXT = 0x1000  # the address of the first device's primary context
WAIT = -1  # in a stream's list: wait for so many of another stream's
# How many values a function gives besides its status; with an error they are None.
VALUES = {
    "cudaGetDeviceCount": 1, "cudaGetDevice": 1, "cudaMemGetInfo": 2, "cudaGetDeviceProperties": 1,
    "cudaMalloc": 1, "cudaIpcGetMemHandle": 1, "cudaHostAlloc": 1, "cudaPointerGetAttributes": 1,
    "cudaStreamCreateWithFlags": 1, "cudaEventCreateWithFlags": 1,
}  # fmt: skip


class Memory:
    """Some memory: of a device, with a file, or pinned on the host."""

    def __init__(self, nbytes: int, device: int | None, path: Path | None = None) -> None:
        self.nbytes, self.device, self.path = nbytes, device, path
        if path is None:
            self._map = mmap.mmap(-1, nbytes)
        else:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            try:
                os.ftruncate(fd, nbytes)
                self._map = mmap.mmap(fd, nbytes)
            finally:
                os.close(fd)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def holds(self, address: int, nbytes: int = 1) -> bool:
        """Whether so many bytes from there on lie in it."""
        return self.address <= address and address + nbytes <= self.address + self.nbytes

    def free(self) -> None:
        """Give it back."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        with contextlib.suppress(BufferError):  # the view that told the address
            self._map.close()


class FakeCuda:
    """The functions of ``cuda.bindings.runtime`` that tritonic_nb calls.

    Attributes
    ----------
    calls
        Name and arguments of each, in order.
    fail
        The status that a function gives from now on, or at its nth call from now on.
    opened
        The names of device memory that a server has open; the relay keeps them.
    freed_while_open
        Those that were freed nevertheless, which is undefined with CUDA.
    contexts
        The devices that a context was made on, which costs their memory.
    """

    CUresult = driver.CUresult
    cudaError_t = real.cudaError_t
    cudaMemcpyKind = real.cudaMemcpyKind
    cudaMemoryType = real.cudaMemoryType

    def __init__(self, devices: int = 2, nbytes: int = 256 * MIB) -> None:
        self.devices, self.total = devices, nbytes
        self.calls: list[tuple[Any, ...]] = []
        self.fail: dict[str, Any] = {}
        self.opened: set[str] = set()
        self.freed_while_open: list[str] = []
        self.device_memory: dict[int, Memory] = {}
        self.pinned: dict[int, Memory] = {}
        self.contexts: set[int] = set()
        self.streams: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        self.live_streams: set[int] = set()
        self.events: dict[int, tuple[int, int]] = {}
        self._done: dict[int, int] = defaultdict(int)  # by stream: copies done so far
        self._numbers = itertools.count(1000)
        self._current = threading.local()
        self._lock = threading.RLock()

    # What a test looks at

    @property
    def context(self) -> int:
        """The address of this thread's context; 0 where it has none."""
        return int(getattr(self._current, "context", 0))

    @context.setter
    def context(self, address: int) -> None:
        self._current.context = address
        if address:
            self.contexts.add(address - CONTEXT)

    @property
    def current(self) -> int:
        """This thread's device: that of its context, or what the runtime would make one on."""
        return self.context - CONTEXT if self.context else getattr(self._current, "device", 0)

    def _initialise(self) -> int:
        """Make a context where the thread has none, as most functions do; return the device."""
        self.context = CONTEXT + self.current
        return self.current

    def names(self) -> list[str]:
        """Return the calls' names, in order."""
        return [call[0] for call in self.calls]

    def left(self) -> dict[str, int]:
        """Return what is still there, by kind."""
        kinds = {
            "device memory": len(self.device_memory),
            "pinned memory": len(self.pinned),
            "streams": len(self.live_streams),
            "events": len(self.events),
        }
        return {kind: count for kind, count in kinds.items() if count}

    def close(self) -> None:
        """Remove the files."""
        for memory in [*self.device_memory.values(), *self.pinned.values()]:
            memory.free()

    # The runtime

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith(("cuda", "cuCtx", "cuDevice")) or isinstance(found, type):
            return found

        def call(*arguments: Any) -> Any:
            with self._lock:
                self.calls.append((name, *arguments))
                status = self._failure(name)
                if status is None:
                    return found(*arguments)
                return (status, *(None,) * VALUES.get(name, 0))

        return call

    def _failure(self, name: str) -> Any:
        planned = self.fail.get(name)
        if isinstance(planned, tuple):  # (how many more calls go well, status)
            good, status = planned
            if good:
                self.fail[name] = (good - 1, status)
                return None
            del self.fail[name]
            return status
        return planned

    def cudaGetErrorString(self, status: Any) -> Any:
        return real.cudaGetErrorString(status)

    def cudaGetDeviceCount(self) -> Any:
        return (OK, self.devices)

    def cudaGetDevice(self) -> Any:
        return (OK, self.current)

    def cudaSetDevice(self, device: int) -> Any:
        if not 0 <= device < self.devices:
            return (real.cudaError_t.cudaErrorInvalidDevice,)
        self._current.device = device
        self.context = CONTEXT + device
        return (OK,)

    def cuCtxGetCurrent(self) -> Any:
        return (driver.CUresult.CUDA_SUCCESS, self.context)

    def cuCtxSetCurrent(self, context: int) -> Any:
        self.context = context
        return (driver.CUresult.CUDA_SUCCESS,)

    def cuDevicePrimaryCtxGetState(self, device: int) -> Any:
        return (driver.CUresult.CUDA_SUCCESS, 0, int(device in self.contexts))

    def cudaMemGetInfo(self) -> Any:
        self._initialise()
        return (OK, self.total - self._used(), self.total)

    def _used(self) -> int:
        # A copy: other threads make and free memory meanwhile.
        there = list(self.device_memory.values())
        return sum(m.nbytes for m in there if m.device == self.current)

    def cudaGetDeviceProperties(self, device: int) -> Any:
        raw = bytes([device + 1]) * 16
        return (OK, SimpleNamespace(uuid=SimpleNamespace(bytes=raw)))

    def cudaMalloc(self, nbytes: int) -> Any:
        if self._used() + nbytes > self.total:
            return (real.cudaError_t.cudaErrorMemoryAllocation, None)
        path = SHM / f"{PREFIX}{os.getpid()}-{next(self._numbers)}"
        memory = Memory(nbytes, self._initialise(), path)
        self.device_memory[memory.address] = memory
        return (OK, memory.address)

    def cudaFree(self, address: int) -> Any:
        memory = self.device_memory.pop(address, None)
        if memory is None or memory.path is None:
            return (INVALID,)
        self._finish_all()
        if memory.path.name in self.opened:
            self.freed_while_open.append(memory.path.name)
        memory.free()
        return (OK,)

    def cudaIpcGetMemHandle(self, address: int) -> Any:
        memory = self.device_memory[address]
        handle = real.cudaIpcMemHandle_t()
        assert memory.path is not None
        ctypes.memmove(handle.getPtr(), memory.path.name.encode().ljust(64, b"\0"), 64)
        return (OK, handle)

    def cudaHostAlloc(self, nbytes: int, _flags: int) -> Any:
        self._initialise()
        memory = Memory(nbytes, None)
        self.pinned[memory.address] = memory
        return (OK, memory.address)

    def cudaFreeHost(self, address: int) -> Any:
        memory = self.pinned.pop(address, None)
        if memory is None:
            return (INVALID,)
        self._finish_all()
        memory.free()
        return (OK,)

    def cudaPointerGetAttributes(self, address: int) -> Any:
        self._initialise()
        kinds = self.cudaMemoryType
        for memory in [*self.device_memory.values(), *self.pinned.values()]:
            if memory.holds(address):
                on_host = memory.device is None
                kind = kinds.cudaMemoryTypeHost if on_host else kinds.cudaMemoryTypeDevice
                return (OK, SimpleNamespace(type=kind, device=memory.device or 0))
        return (OK, SimpleNamespace(type=kinds.cudaMemoryTypeUnregistered, device=-1))

    def cudaStreamCreateWithFlags(self, _flags: int) -> Any:
        self._initialise()
        stream = next(self._numbers)
        self.live_streams.add(stream)
        return (OK, stream)

    def cudaStreamDestroy(self, stream: int) -> Any:
        if stream not in self.live_streams:
            return (INVALID,)
        self._finish(stream, len(self.streams[stream]))
        self.live_streams.remove(stream)
        return (OK,)

    def cudaStreamWaitEvent(self, stream: int, event: int, _flags: int) -> Any:
        if event not in self.events:
            return (INVALID,)
        self.streams[stream].append((WAIT, *self.events[event]))
        return (OK,)

    def cudaMemcpyAsync(self, target: int, source: int, nbytes: int, kind: Any, stream: int) -> Any:
        assert kind == real.cudaMemcpyKind.cudaMemcpyDefault
        self._initialise()
        if stream not in self.live_streams or not nbytes:
            return (INVALID,)
        inside = [
            memory
            for address in (target, source)
            for memory in self.device_memory.values()
            if memory.holds(address)
        ]
        if not all(m.holds(target, nbytes) or m.holds(source, nbytes) for m in inside):
            return (INVALID,)  # it would write beyond the end of a region
        self.streams[stream].append((target, source, nbytes))
        return (OK,)

    def cudaStreamSynchronize(self, stream: int) -> Any:
        self._initialise()
        self._finish(stream, len(self.streams[stream]))
        return (OK,)

    def cudaDeviceSynchronize(self) -> Any:
        self._finish_all()
        return (OK,)

    def cudaEventCreateWithFlags(self, _flags: int) -> Any:
        self._initialise()
        event = next(self._numbers)
        self.events[event] = (0, 0)
        return (OK, event)

    def cudaEventDestroy(self, event: int) -> Any:
        return (OK,) if self.events.pop(event, None) else (INVALID,)

    def cudaEventRecord(self, event: int, stream: int) -> Any:
        self.events[event] = (stream, len(self.streams[stream]))
        return (OK,)

    def cudaEventSynchronize(self, event: int) -> Any:
        self._finish(*self.events[event])
        return (OK,)

    def _finish(self, stream: int, count: int) -> None:
        for target, source, nbytes in self.streams[stream][self._done[stream] : count]:
            if target == WAIT:
                self._finish(source, nbytes)
            else:
                ctypes.memmove(target, source, nbytes)
        self._done[stream] = max(self._done[stream], count)

    def _finish_all(self) -> None:
        for stream in list(self.streams):
            self._finish(stream, len(self.streams[stream]))


@contextlib.contextmanager
def installed(fake: FakeCuda) -> Iterator[FakeCuda]:
    """Have tritonic_nb use it instead of CUDA."""
    from tritonic_nb.memory import cudart

    before = cudart._bindings, cudart._driver, cudart._primary
    cudart._bindings = cudart._driver = lambda: fake
    cudart._primary = {}
    try:
        yield fake
    finally:
        cudart._bindings, cudart._driver, cudart._primary = before
        fake.close()
