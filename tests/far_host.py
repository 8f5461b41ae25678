"""What runs on the other host of ``tests/two_hosts.py``: a real server, reachable from outside.

The embedded server listens on its own loopback; doors at the host's address pass on what comes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import sys
import threading
from collections.abc import Callable

import tritonic_nb


def open_door(host: str, target: str) -> str:
    """Pass connections to an address of this host on to another one; return the address."""
    inner, _, port = target.rpartition("/")[2].partition(":")
    return _listen(host, lambda near: _join(near, (inner, int(port))))


def open_proxy(host: str) -> str:
    """Be a forward proxy for plain HTTP; return the address."""

    def serve(near: socket.socket) -> None:
        head, _, rest = _read_head(near).partition(b"\r\n\r\n")
        request, *lines = head.split(b"\r\n")
        method, where, version = request.split()
        scheme, _, rest_of_it = where.partition(b"://")
        assert scheme == b"http"  # as a proxy is asked
        netloc, _, path = rest_of_it.partition(b"/")
        outer, _, port = netloc.decode().partition(":")
        lines = [line for line in lines if not line.lower().startswith(b"connection:")]
        first = b" ".join((method, b"/" + path, version))
        # One request for each connection, so that each is read here.
        whole = b"\r\n".join((first, *lines, b"Connection: close", b"", rest))
        _join(near, (outer, int(port)), whole)

    return _listen(host, serve)


def _read_head(near: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = near.recv(1 << 16)
        if not data:
            raise ConnectionError("a request without an end")
        head += data
    return head


def _listen(host: str, serve: Callable[[socket.socket], None]) -> str:
    """Serve each connection in a thread of its own; return the address."""
    listener = socket.create_server((host, 0))

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            threading.Thread(target=serve, args=[near], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"{host}:{listener.getsockname()[1]}"


def _join(near: socket.socket, target: tuple[str, int], first: bytes = b"") -> None:
    """Pass on what comes from both sides, after some first bytes."""
    far = socket.create_connection(target)
    for each in (near, far):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    far.sendall(first)
    for ends in ((near, far), (far, near)):
        threading.Thread(target=_pump, args=ends, daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 18):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def balance(*targets: str) -> str:
    """Pass each connection on to the next of some targets; return the address."""
    turns = itertools.cycle(targets)

    def serve(near: socket.socket) -> None:
        inner, _, port = next(turns).rpartition("/")[2].partition(":")
        _join(near, (inner, int(port)))

    return _listen("127.0.0.1", serve)


def main() -> None:
    """Serve from when the host has its address until standard input ends."""
    host = sys.stdin.readline().strip()
    with tritonic_nb.serve(["identity_fp32", "identity_uint8"], progress=None) as server:
        told = {
            "url": open_door(host, server.url),
            "grpc_url": open_door(host, server.grpc_url),
            "proxy": open_proxy(host),
            "headers": dict(server.headers),
            "pid": server.pid,
        }
        print(json.dumps(told), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1:]:  # a balancer before these
        print(balance(*sys.argv[1:]), flush=True)
        sys.stdin.read()
    else:
        main()
