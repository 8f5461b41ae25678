"""Loopback servers that answer gRPC as they are told, and break whatever they like."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc

__all__ = ["Asked", "frame", "headers", "serving", "speaking"]

ACCEPTED = struct.pack(">I", 0)[1:] + bytes([4, 0]) + bytes(4)  # an empty SETTINGS frame


@dataclass(frozen=True)
class Asked:
    """One call that the server got: its method, message and metadata."""

    method: str
    message: bytes
    metadata: dict[str, Any]


# What the server says: a message, or a status and its text.
Answer = Callable[[Asked], "bytes | tuple[grpc.StatusCode, str]"]


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, answer: Answer, calls: list[Asked]) -> None:
        self._answer = answer
        self._calls = calls

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def handle(message: bytes, context: grpc.ServicerContext) -> bytes:
            method = details.method.rpartition("/")[2]
            asked = Asked(method, message, dict(details.invocation_metadata))
            self._calls.append(asked)
            said = self._answer(asked)
            return said if isinstance(said, bytes) else context.abort(*said)

        return grpc.unary_unary_rpc_method_handler(handle)


@contextmanager
def serving(
    answer: Answer, credentials: grpc.ServerCredentials | None = None, port: int = 0
) -> Iterator[tuple[str, list[Asked]]]:
    """Run a server of grpcio. Gives its address, and the calls that it got."""
    calls: list[Asked] = []
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, handlers=(_Handler(answer, calls),))
        address = f"127.0.0.1:{port}"
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        server.start()
        try:
            yield f"127.0.0.1:{port}", calls
        finally:
            server.stop(None).wait()


def frame(kind: int, flags: int, body: bytes = b"", stream: int = 1) -> bytes:
    """Return a frame of HTTP/2."""
    return (
        struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body
    )


def headers(**fields: str) -> bytes:
    """Return a HEADERS frame that ends the reply; an underscore stands for a hyphen."""
    block = b""
    for name, value in {"content_type": "application/grpc", **fields}.items():
        key = (":status" if name == "status" else name.replace("_", "-")).encode()
        block += b"\0" + bytes([len(key)]) + key + bytes([len(value)]) + value.encode()
    return frame(1, 5, block)


@contextmanager
def speaking(said: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Run a server that says the same frames to each call, and then hangs up.

    Gives its address, and what each connection sent.
    """
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer, suppress(OSError):  # the client may go away
                    peer.sendall(ACCEPTED)
                    received.append(_call(peer))
                    peer.sendall(said)
                    peer.settimeout(0.2)  # for the client to read it
                    while peer.recv(65536):
                        pass

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", received
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _call(peer: socket.socket) -> bytes:
    """Read until the end of the first call."""
    data = b""
    while not _ended(data[24:]):  # behind the preface
        more = peer.recv(65536)
        if not more:
            break
        data += more
    return data


def _ended(frames: bytes) -> bool:
    while len(frames) >= 9:
        length = int.from_bytes(frames[:3], "big")
        if frames[3] == 0 and frames[4] & 1:  # DATA with END_STREAM
            return len(frames) >= 9 + length
        frames = frames[9 + length :]
    return False
