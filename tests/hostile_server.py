"""A loopback server that answers as it is told, and breaks whatever it likes."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

__all__ = ["Answer", "Asked", "reply", "serving"]


@dataclass(frozen=True)
class Asked:
    """One request that the server got.

    Attributes
    ----------
    number
        How many came before it.
    connection
        The connection that it came over, from 1.
    path
        The path, with its leading slash.
    head
        The whole head, with all headers.
    body
        What followed it.
    """

    number: int
    connection: int
    path: str
    head: str
    body: bytes = b""


# What the server does with a request: bytes or pieces of them to send, or None to hang up.
Answer = Callable[[Asked], bytes | Iterable[bytes] | None]


def reply(body: bytes, status: int = 200, **headers: str) -> bytes:
    """Return a whole HTTP reply; an underscore in a header's name stands for a hyphen."""
    lines = [b"HTTP/1.1 %d Said" % status, b"Content-Length: %d" % len(body)]
    lines += [f"{name.replace('_', '-')}: {value}".encode() for name, value in headers.items()]
    return b"\r\n".join([*lines, b"", body])


@contextmanager
def serving(answer: Answer, *, keep: bool = True) -> Iterator[tuple[str, list[Asked]]]:
    """Run the server, which perhaps hangs up after each reply.

    Gives its address, and the requests that it got.
    """
    requests: list[Asked] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def connection(peer: socket.socket, number: int) -> None:
            # The client may go away whenever it has had enough.
            with peer, suppress(OSError):
                while (received := _received(peer)) is not None:
                    head, body = received
                    asked = Asked(len(requests), number, head.split()[1], head, body)
                    requests.append(asked)
                    said = answer(asked)
                    if said is None:
                        return
                    for piece in [said] if isinstance(said, bytes) else said:
                        peer.sendall(piece)
                    if not keep:
                        return

        def accept() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                peers.append(peer)
                thread = threading.Thread(target=connection, args=(peer, len(threads)))
                thread.start()
                threads.append(thread)

        peers: list[socket.socket] = []
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for peer in peers:  # a test that failed left its own open, and they end no thread
                with suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def _received(peer: socket.socket) -> tuple[str, bytes] | None:
    """Read one whole request and return its head and its body, or None at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = peer.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    pieces = [body]
    missing = int(length[1]) - len(body) if length else 0
    while missing > 0:
        more = peer.recv(min(missing, 65536))
        if not more:
            return None
        pieces.append(more)
        missing -= len(more)
    return head.decode("latin-1"), b"".join(pieces)
