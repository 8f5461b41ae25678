"""The ways that are compared where there is a GPU."""

from __future__ import annotations

import os
import secrets
import weakref
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tritonic_nb.benchmark.client_ways import ClientHttp
from tritonic_nb.benchmark.session_ways import SessionCopies, SessionInPlace, SessionWire
from tritonic_nb.benchmark.way import Array, Way
from tritonic_nb.memory import CopyStream, DeviceArray, cudart

try:
    from tritonclient.utils import cuda_shared_memory
except RuntimeError:  # it says so where cuda-python is missing
    cuda_shared_memory = None

__all__ = [
    "GPU_WAYS",
    "ClientCuda",
    "ClientCudaDevice",
    "DeviceMemory",
    "cuda_shared_memory",
    "ways_to_device",
]


class DeviceMemory:
    """Memory of a device that is no region, freed when nothing refers to it any more.

    Parameters
    ----------
    device, nbytes
        Where, and how many bytes.

    Attributes
    ----------
    address
        The device pointer.

    Raises
    ------
    NoSpaceError, SharedMemoryError
        If the device does not give it.
    """

    def __init__(self, device: int, nbytes: int) -> None:
        self.device = device
        held: list[Any] = []
        weakref.finalize(self, cudart.free, device, held).atexit = False
        self.address = cudart.allocate(device, nbytes, "a tensor of the benchmark", held)

    def fill(self, array: npt.NDArray[Any]) -> None:
        """Copy an array to it."""
        with CopyStream(self.device) as copies:
            copies.to_device(self.address, array)

    def array(self, shape: tuple[int, ...]) -> DeviceArray:
        """Return it as an array of float32, which keeps the memory."""
        return DeviceArray(self.address, shape, np.dtype(np.float32), self.device, self)


class SystemCopies(SessionCopies):
    """System shared memory, an array in and an array out: what the others are compared with."""

    key = "system"
    label = "system, host to host, own copies"


class SystemInPlace(SessionInPlace):
    """System shared memory, nothing copied by this process."""

    key = "system_in_place"
    label = "system, host to host, in place"


class CudaCopies(SessionCopies):
    """CUDA shared memory, an array of the host in and one out."""

    key = "cuda"
    label = "CUDA, host to host, own copies"
    timed = 'session.infer(x), shared_memory="cuda"'
    copies: ClassVar[int | None] = None
    kind = "cuda"


class CudaInPlace(CudaCopies):
    """The input filled in pinned memory beforehand, and the output read to the host."""

    key = "cuda_in_place"
    label = "CUDA, host to host, inputs pinned"
    timed = "session.infer(), session.inputs filled before"

    def put(self, array: Array) -> None:
        """Fill the input where it lies, in pinned memory."""
        self.session.inputs[self.endpoint.input][...] = array

    def exchange(self) -> Any:
        """Infer with what lies there."""
        return self.session.infer()[self.endpoint.output]


class CudaDevice(CudaCopies):
    """An array that is on the device already, and an answer that stays there."""

    key = "cuda_device"
    label = "CUDA, device to device"
    timed = "session.infer(x, copy=False), x on the device"

    def _open(self) -> None:
        super()._open()
        self._memory = DeviceMemory(self.endpoint.device, self.nbytes)
        self._given = self._memory.array(self.shape)

    def put(self, array: Array) -> None:
        """Bring the tensor to the device."""
        self._memory.fill(array)

    def exchange(self) -> Any:
        """Infer, and let the answer lie where it is."""
        return self.session.infer(self._given, copy=False)[self.endpoint.output]


class Wire(SessionWire):
    """Over HTTP."""

    key = "wire"
    label = "wire, host to host"


class ClientCuda(ClientHttp):
    """tritonclient's utilities for CUDA shared memory, as NVIDIA's examples use them."""

    key = "client_cuda"
    label = "tritonclient CUDA, host to host"
    timed = "set_shared_memory_region, infer, get_contents_as_numpy"

    def _open(self) -> None:
        super()._open()
        self.into = self._region("input", self.input)
        self.back = self._region("output", self.output)

    def _region(self, direction: str, tensor: Any) -> Any:
        """Make a region, register it, and name it in the request."""
        name = f"benchmark-{os.getpid()}-{secrets.token_hex(8)}-{direction}"
        device, headers = self.endpoint.device, self.endpoint.headers
        made = cuda_shared_memory.create_shared_memory_region(name, self.nbytes, device)
        self._held.callback(cuda_shared_memory.destroy_shared_memory_region, made)
        handle = cuda_shared_memory.get_raw_handle(made)
        self.client.register_cuda_shared_memory(name, handle, device, self.nbytes, headers=headers)
        self._held.callback(self._unregister, name)
        tensor.set_shared_memory(name, self.nbytes)
        return made

    def _unregister(self, name: str) -> None:
        # By a client of its own: an interrupt may have left the other in mid-exchange.
        with self._connected() as client:
            client.unregister_cuda_shared_memory(name, headers=self.endpoint.headers)

    def exchange(self) -> Any:
        """Write the region, infer, and read the other region."""
        cuda_shared_memory.set_shared_memory_region(self.into, [self.array])
        self.client.infer(self.endpoint.model, [self.input], outputs=[self.output])
        return self._read()

    def _read(self) -> npt.NDArray[Any]:
        read: npt.NDArray[Any] = cuda_shared_memory.get_contents_as_numpy(
            self.back, np.float32, self.shape
        )
        return read

    def close(self) -> None:
        """Remove what the way holds; the regions' memory goes with what refers to it."""
        super().close()
        self.into = self.back = None


class ClientCudaDevice(ClientCuda):
    """The same with a tensor on the device, by DLPack, and an answer that stays there."""

    key = "client_cuda_device"
    label = "tritonclient CUDA, device to device"
    timed = "set_shared_memory_region_from_dlpack, infer, as_shared_memory_tensor"

    def _open(self) -> None:
        super()._open()
        self._memory = DeviceMemory(self.endpoint.device, self.nbytes)
        self._given = self._memory.array(self.shape)

    def put(self, array: Array) -> None:
        """Bring the tensor to the device."""
        self._memory.fill(array)

    def exchange(self) -> Any:
        """Write the region from the device, infer, and let the answer lie where it is."""
        cuda_shared_memory.set_shared_memory_region_from_dlpack(self.into, [self._given])
        self.client.infer(self.endpoint.model, [self.input], outputs=[self.output])
        return cuda_shared_memory.as_shared_memory_tensor(self.back, "FP32", self.shape)

    def answer(self, given: Any) -> npt.NDArray[Any]:  # noqa: ARG002 - it lies in the region
        """Return what lies in the output's region."""
        return self._read()


GPU_WAYS: Sequence[type[Way]] = (
    SystemCopies,
    SystemInPlace,
    CudaCopies,
    CudaInPlace,
    CudaDevice,
    Wire,
    ClientCuda,
    ClientCudaDevice,
)
"""Every way, in the order in which they are shown."""


def ways_to_device() -> tuple[list[type[Way]], list[str]]:
    """Return the ways that there are, and in sentences what is missing."""
    if cuda_shared_memory is not None:
        return list(GPU_WAYS), []
    ways = [way for way in GPU_WAYS if not issubclass(way, ClientCuda)]
    return ways, ["tritonclient's CUDA utilities were left out: cuda-python is not installed"]
