"""What runs on the other host of ``tests/two_hosts.py``: a real server, reachable from outside.

The embedded server listens on its own loopback; doors at the host's address pass on what comes.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading

import tritonic_nb


def open_door(host: str, target: str) -> str:
    """Pass connections to an address of this host on to another one; return the address."""
    listener = socket.create_server((host, 0))
    inner, _, port = target.rpartition("/")[2].partition(":")

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            far = socket.create_connection((inner, int(port)))
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends in ((near, far), (far, near)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"{host}:{listener.getsockname()[1]}"


def main() -> None:
    """Serve from when the host has its address until standard input ends."""
    host = sys.stdin.readline().strip()
    with tritonic_nb.serve(["identity_fp32"], progress=None) as server:
        told = {
            "url": open_door(host, server.url),
            "grpc_url": open_door(host, server.grpc_url),
            "headers": dict(server.headers),
        }
        print(json.dumps(told), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
