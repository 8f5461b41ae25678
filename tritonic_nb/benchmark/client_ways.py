"""The ways through NVIDIA's client library, tritonclient, used as its examples use it."""

from __future__ import annotations

import os
import secrets
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from tritonclient import http
from tritonclient.utils import shared_memory, triton_to_np_dtype

from tritonic_nb.benchmark.endpoint import Endpoint
from tritonic_nb.benchmark.way import Way

try:
    from tritonclient import grpc
except (ImportError, RuntimeError):  # it is an extra, and says RuntimeError where it is missing
    grpc = None

__all__ = ["ClientGrpc", "ClientHttp", "ClientSharedMemory", "ClientSharedMemoryCopy", "has_grpc"]


def has_grpc(endpoint: Endpoint) -> str:
    """Return why there is no way by gRPC, or ``""`` where there is one."""
    if grpc is None:
        return "tritonclient has no gRPC here: pip install 'tritonclient[grpc]'"
    return "" if endpoint.grpc_url else "no --grpc-url was given"


class ClientHttp(Way):
    """The tensor in the bodies of an HTTP request and its reply."""

    key = "client_http"
    label = "tritonclient HTTP"
    timed = "set_data_from_numpy, infer, as_numpy"
    library: ClassVar[ModuleType] = http

    def _open(self) -> None:
        endpoint = self.endpoint
        self.client = self._connected()
        self._held.callback(self._hang_up)
        self.input = self.library.InferInput(endpoint.input, list(self.shape), "FP32")
        self.output = self._requested()

    def _connected(self) -> Any:
        return http.InferenceServerClient(self.endpoint.url)

    def _requested(self) -> Any:
        return http.InferRequestedOutput(self.endpoint.output, binary_data=True)

    def exchange(self) -> Any:
        """Put the tensor into a request, infer, and take the answer out of the reply."""
        self.input.set_data_from_numpy(self.array)
        result = self.client.infer(self.endpoint.model, [self.input], outputs=[self.output])
        return result.as_numpy(self.endpoint.output)

    def reconnect(self) -> None:
        """Begin with a new client, which has a connection of its own."""
        self._hang_up()
        self.client = self._connected()

    def _hang_up(self) -> None:
        self.client.close()


class ClientGrpc(ClientHttp):
    """The tensor in the messages of gRPC."""

    key = "client_grpc"
    label = "tritonclient gRPC"
    library = grpc

    def _connected(self) -> Any:
        most = grpc.MAX_GRPC_MESSAGE_SIZE
        return grpc.InferenceServerClient(
            self.endpoint.grpc_url,
            channel_args=[
                ("grpc.max_send_message_length", most),  # as they are without channel_args
                ("grpc.max_receive_message_length", most),
                # Else a new client at times goes on with the connection of the one before.
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )

    def _requested(self) -> Any:
        return grpc.InferRequestedOutput(self.endpoint.output)


class ClientSharedMemory(ClientHttp):
    """Two regions made with the library's utilities; the answer is a view of the second."""

    key = "client_shm"
    label = "tritonclient shm, a view"
    timed = "set_shared_memory_region, infer, get_contents_as_numpy (a view)"
    copies: ClassVar[int | None] = 1

    def _open(self) -> None:
        super()._open()
        self.into = self._region("input", self.input)
        self.back = self._region("output", self.output)

    def _region(self, direction: str, tensor: Any) -> Any:
        """Make a region, register it, and name it in the request."""
        name = f"benchmark-{os.getpid()}-{secrets.token_hex(8)}-{direction}"
        key, headers = f"/{name}", self.endpoint.headers
        made = shared_memory.create_shared_memory_region(name, key, self.nbytes, create_only=True)
        self._held.callback(shared_memory.destroy_shared_memory_region, made)
        self.client.register_system_shared_memory(name, key, self.nbytes, headers=headers)
        self._held.callback(self._unregister, name)
        tensor.set_shared_memory(name, self.nbytes)
        return made

    def _unregister(self, name: str) -> None:
        # By a client of its own: an interrupt may have left the other in mid-exchange.
        with self._connected() as client:
            client.unregister_system_shared_memory(name, headers=self.endpoint.headers)

    def exchange(self) -> Any:
        """Write the region, infer, and look at the other region."""
        shared_memory.set_shared_memory_region(self.into, [self.array])
        result = self.client.infer(self.endpoint.model, [self.input], outputs=[self.output])
        output = result.get_output(self.endpoint.output)
        return shared_memory.get_contents_as_numpy(
            self.back, triton_to_np_dtype(output["datatype"]), output["shape"]
        )


class ClientSharedMemoryCopy(ClientSharedMemory):
    """The same, with a copy of the answer that outlives the next request."""

    key = "client_shm_copy"
    label = "tritonclient shm, own copies"
    timed = "the same, and np.array() of the view"
    copies = 2

    def exchange(self) -> Any:
        """Write the region, infer, and copy what lies in the other region."""
        return np.array(super().exchange())
