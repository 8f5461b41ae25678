"""The ways with less and less around them: a request prepared once, and a bare socket."""

from __future__ import annotations

import socket
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from tritonic_nb.benchmark.way import TIMEOUT_S, Array, Way
from tritonic_nb.errors import ServerRefusedError, ServerUnreachableError
from tritonic_nb.memory import Region, SharedMemoryType
from tritonic_nb.regions import Need, RegionSet
from tritonic_nb.transport import (
    HttpTransport,
    InferRequest,
    InputTensor,
    RegionSlice,
    RequestedOutput,
    Transport,
)

__all__ = ["BareSocket", "Prepared"]

_RECEIVE_NBYTES = 65536
_LENGTH = b"content-length:"


class Prepared(Way):
    """A request written once and sent again and again: a session's way without the session.

    Attributes
    ----------
    transport
        The way to the server; another one may be set before :meth:`exchange`.
    """

    key = "prepared"
    label = "prepared request"
    timed = "a copy in, transport.infer(prepared), a copy out"
    copies = 2

    def _open(self) -> None:
        endpoint = self.endpoint
        self.transport: Transport = HttpTransport(endpoint.url, endpoint.headers)
        self._held.callback(self.transport.close)
        regions = RegionSet(self.transport)
        self._held.callback(regions.close)
        slot = regions.slot(held=True)

        def placed(direction: str, name: str) -> tuple[Region, RegionSlice]:
            need = Need(direction, name, self.nbytes, SharedMemoryType.SYSTEM)
            region = slot.place(need, TIMEOUT_S)
            return region, RegionSlice(region.name, region.offset(0), self.nbytes)

        self.input, self.into = placed("input", endpoint.input)
        self.output, self.back = placed("output", endpoint.output)
        self._prepared = self.transport.prepare(
            InferRequest(
                endpoint.model,
                "",
                [InputTensor(endpoint.input, "FP32", self.shape, region=self.into)],
                [RequestedOutput(endpoint.output, self.back)],
            )
        )

    def exchange(self) -> Any:
        """Write the input, send the request, read the output."""
        self.input.write(self.array)
        self.transport.infer(self._prepared, TIMEOUT_S)
        return self.read()

    def read(self) -> npt.NDArray[Any]:
        """Return a copy of what lies in the output's region."""
        return np.asarray(self.output.read("FP32", self.shape, nbytes=self.nbytes))

    def reconnect(self) -> None:
        """Let the next exchange open a new connection."""
        self.transport.close()


class BareSocket(Prepared):
    """The same request as bytes over a plain socket: what no HTTP client can beat."""

    key = "socket"
    label = "bare socket"
    timed = "sendall(request), recv until the reply is whole; nothing read"
    copies = 0

    def _open(self) -> None:
        super()._open()
        self._message = self._written()
        self._reply_nbytes = 0
        self._socket: socket.socket | None = None
        self._held.callback(self.reconnect)

    def _written(self) -> bytes:
        endpoint, into, back = self.endpoint, self.into, self.back
        tensor = InferInput(endpoint.input, list(self.shape), "FP32")
        tensor.set_shared_memory(into.name, into.nbytes, into.offset)
        output = InferRequestedOutput(endpoint.output, binary_data=True)
        output.set_shared_memory(back.name, back.nbytes, back.offset)
        body, _ = InferenceServerClient.generate_request_body([tensor], outputs=[output])
        head = (
            f"POST {endpoint.infer_path} HTTP/1.1\r\nHost: {endpoint.url}\r\nAccept: */*\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + bytes(body)

    def put(self, array: Array) -> None:
        """Write the input to its region."""
        self.input.write(array)

    def exchange(self) -> None:
        """Send the request and receive the reply."""
        connected = self._socket
        if connected is None:
            self._first_exchange()
            return
        connected.sendall(self._message)
        got = 0
        while got < self._reply_nbytes:
            got += len(self._received(connected))

    def answer(self, given: Any) -> npt.NDArray[Any]:  # noqa: ARG002 - it lies in the region
        """Return what lies in the output's region."""
        return self.read()

    def reconnect(self) -> None:
        """Let the next exchange open a new connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _first_exchange(self) -> None:
        """Connect, and learn how long the reply to this request is: the same each time."""
        self._socket = connected = socket.create_connection(self.endpoint.address, TIMEOUT_S)
        # Blocking, with the kernel's own time limit: Python's costs a system call each time.
        connected.settimeout(None)
        limit = struct.pack("@ll", int(TIMEOUT_S), 0)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.sendall(self._message)
        reply = b""
        while b"\r\n\r\n" not in reply:
            reply += self._received(connected)
        head, _, body = reply.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        if lines[0].split(b" ")[1:2] != [b"200"]:
            raise ServerRefusedError(f"the bare socket's request was answered {lines[0]!r}")
        length = next(int(line[len(_LENGTH) :]) for line in lines if line.startswith(_LENGTH))
        while len(body) < length:
            body += self._received(connected)
        self._reply_nbytes = len(head) + 4 + length

    def _received(self, connected: socket.socket) -> bytes:
        received = connected.recv(_RECEIVE_NBYTES)
        if not received:
            raise ServerUnreachableError(f"{self.endpoint.url} closed the connection")
        return received
