"""A real Triton server without a GPU, as one that has the fake GPU of tests/fake_cuda.py.

Everything goes to the real server as it came, over HTTP and gRPC, except for what
registers CUDA regions: as the fake's device memory is a file in /dev/shm, that becomes a
system region. Inference, offsets, sizes and refusals are the real server's own.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fake_cuda import FakeCuda

THREADS = "relay-"
"""How the names of a relay's threads begin, of which each HTTP connection has one."""


class Relay:
    """Stands before a server; a session takes it as one.

    Attributes
    ----------
    url, grpc_url, headers
        As a :class:`tritonic_nb.Server` has them.
    registered
        The CUDA regions, by name: what the server was told.
    refuse
        What it says to the next who registers a CUDA region, or None.
    """

    def __init__(self, server: Any, cuda: FakeCuda | None) -> None:
        self.server = server
        self.headers = dict(server.headers)
        self.cuda = cuda
        self.registered: dict[str, dict[str, Any]] = {}
        self.refuse: str | None = None
        self.url = self.grpc_url = ""

    def opened(self, name: str, told: dict[str, Any], file: str) -> None:
        """The server has opened a CUDA region."""
        self.registered[name] = told
        if self.cuda is not None:
            self.cuda.opened.add(file)

    def closed(self, name: str) -> None:
        """The server has let go of it."""
        told = self.registered.pop(name, None)
        if told is not None and self.cuda is not None:
            self.cuda.opened.discard(told["file"])

    def restarted(self) -> None:
        """The server's process is another one, which has nothing open."""
        for name in list(self.registered):
            self.closed(name)


@contextmanager
def relay(server: Any, cuda: FakeCuda | None, *, grpc: bool = False) -> Iterator[Relay]:
    """Stand before a server for the length of a block."""
    made = Relay(server, cuda)
    listener = _Listener(("127.0.0.1", 0), _handler(made))
    listener.daemon_threads = True
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
    thread.start()
    made.url = f"127.0.0.1:{listener.server_port}"
    stop_grpc = _serve_grpc(made) if grpc else None
    try:
        yield made
    finally:
        if stop_grpc is not None:
            stop_grpc()
        listener.shutdown()
        listener.server_close()
        thread.join()


class _Listener(ThreadingHTTPServer):
    def process_request_thread(self, *arguments: Any) -> None:
        threading.current_thread().name = f"{THREADS}http"
        super().process_request_thread(*arguments)


def _handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        disable_nagle_algorithm = True  # or each reply waits 40 ms for the head's receipt

        def log_message(self, *_arguments: Any) -> None:
            """Be silent."""

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, data = self._cuda(body) or self._forward(self.path, body)
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _forward(self, path: str, body: bytes) -> tuple[int, Any, bytes]:
            connection = http.client.HTTPConnection(relay.server.url, timeout=60)
            try:
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                headers["Content-Length"] = str(len(body))
                connection.request(self.command, path, body, headers)
                reply = connection.getresponse()
                return reply.status, reply.getheaders(), reply.read()
            finally:
                connection.close()

        def _cuda(self, body: bytes) -> tuple[int, Any, bytes] | None:
            parts = self.path.strip("/").split("/")
            if parts[:2] != ["v2", "cudasharedmemory"]:
                return None
            if parts[2:] == ["status"]:
                listed = [{"name": name, **told} for name, told in relay.registered.items()]
                return 200, [], json.dumps(listed).encode()
            name, action = parts[3], parts[4]
            path = f"/v2/systemsharedmemory/region/{name}/{action}"
            if action == "unregister":
                answer = self._forward(path, body)
                if answer[0] == 200:
                    relay.closed(name)
                return answer
            told = json.loads(body)
            handle = base64.b64decode(told["raw_handle"]["b64"])
            refusal, relay.refuse = relay.refuse, None
            if refusal is not None:
                return 400, [], json.dumps({"error": refusal}).encode()
            file = _file_of(handle)
            plain = {"key": f"/{file}", "offset": 0, "byte_size": told["byte_size"]}
            answer = self._forward(path, json.dumps(plain).encode())
            if answer[0] == 200:
                about = {"device_id": told["device_id"], "byte_size": told["byte_size"]}
                relay.opened(name, {**about, "file": file}, file)
            return answer

    return Handler


def _file_of(handle: bytes) -> str:
    assert len(handle) == 64
    return handle.rstrip(b"\0").decode()


def _serve_grpc(made: Relay) -> Callable[[], None]:
    """Relay gRPC, too, and return what stops it."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from tritonclient.grpc import service_pb2 as pb

    channel = grpc.insecure_channel(
        made.server.grpc_url,
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )

    def call(method: str, message: bytes, context: Any) -> bytes:
        metadata = [(k, v) for k, v in context.invocation_metadata() if k != "user-agent"]
        try:
            return bytes(channel.unary_unary(method)(message, metadata=metadata, timeout=60))
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
            raise

    def answer(method: str, message: bytes, context: Any) -> bytes:
        service, _, action = method.rpartition("/")
        if action == "CudaSharedMemoryRegister":
            told = pb.CudaSharedMemoryRegisterRequest.FromString(message)
            refusal, made.refuse = made.refuse, None
            if refusal is not None:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, refusal)
            file = _file_of(told.raw_handle)
            plain = pb.SystemSharedMemoryRegisterRequest(
                name=told.name, key=f"/{file}", offset=0, byte_size=told.byte_size
            )
            call(f"{service}/SystemSharedMemoryRegister", plain.SerializeToString(), context)
            about = {"device_id": told.device_id, "byte_size": told.byte_size, "file": file}
            made.opened(told.name, about, file)
            return b""
        if action == "CudaSharedMemoryUnregister":
            name = pb.CudaSharedMemoryUnregisterRequest.FromString(message).name
            call(f"{service}/SystemSharedMemoryUnregister", message, context)
            made.closed(name)
            return b""
        if action == "CudaSharedMemoryStatus":
            reply = pb.CudaSharedMemoryStatusResponse()
            for name, about in made.registered.items():
                region = reply.regions[name]
                region.name, region.device_id = name, about["device_id"]
                region.byte_size = about["byte_size"]
            return bytes(reply.SerializeToString())
        return call(method, message, context)

    class Everything(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            method = details.method
            return grpc.unary_unary_rpc_method_handler(
                lambda message, context: answer(method, message, context)
            )

    pool = ThreadPoolExecutor(8)
    barrier = threading.Barrier(9)  # all of its threads are there from the start
    for _ in range(8):
        pool.submit(barrier.wait)
    barrier.wait()
    server = grpc.server(pool, handlers=[Everything()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    made.grpc_url = f"127.0.0.1:{port}"

    def stop() -> None:
        server.stop(0).wait()
        channel.close()
        pool.shutdown()

    return stop
