"""Asks a gRPC server to unregister regions, on behalf of the janitor, which has no gRPC.

Run as ``python -I -S errand.py`` by :mod:`tritonic_nb.memory.janitor`. On standard
input it reads a JSON list of calls to one server, each as
:meth:`tritonic_nb.transport.channel.Channel.address` describes it; they hold
secrets, which must not stand in a command line. On standard output it writes a
JSON list with what came of each.

It imports gRPC alone, and nothing of this package. How a channel is opened stands
here, so that a session's and this one are the same.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["metadata_of", "open_channel"]

_REQUEST_S = 5.0
# A region in use is asked for again, because starting this program takes longer than asking.
_IN_USE_S, _PAUSE_S = 5.0, 0.25
_CONNECT_S = 5.0
_LONGEST_ERROR_NBYTES = 2**24  # a model's traceback comes as metadata

# What makes connections alike.
_CONNECTION = ("target", "proxy", "encrypted", "ca_file", "cert_file", "key_file")

Call = Mapping[str, Any]


def open_channel(call: Call) -> Any:
    """Return a channel to a server.

    Parameters
    ----------
    call
        ``target``, ``proxy`` (whether the environment's may be used), ``encrypted``,
        ``ca_file``, ``cert_file`` and ``key_file``.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    import grpc

    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_metadata_size", _LONGEST_ERROR_NBYTES),
        ("grpc.absolute_max_metadata_size", _LONGEST_ERROR_NBYTES),
        ("grpc.enable_retries", 0),  # an inference must never run twice unasked
        ("grpc.enable_http_proxy", int(call["proxy"])),
        # Else a new channel would inherit how long another one waits before it connects again.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.min_reconnect_backoff_ms", int(_CONNECT_S * 1000)),  # it limits connecting, too
    ]
    if not call["encrypted"]:
        return grpc.insecure_channel(call["target"], options)
    certificates, chain, key = (
        Path(path).read_bytes() if (path := call[name]) else None
        for name in ("ca_file", "cert_file", "key_file")
    )
    # A certificate's file may hold its key, too.
    credentials = grpc.ssl_channel_credentials(certificates, key or chain, chain)
    return grpc.secure_channel(call["target"], credentials, options)


def metadata_of(headers: Mapping[str, str]) -> list[tuple[str, str | bytes]]:
    """Return headers as gRPC sends them: in lower case, and those that end in ``-bin`` as bytes."""
    return [
        (name.lower(), value.encode() if name.lower().endswith("-bin") else value)
        for name, value in headers.items()
    ]


def _ask(channel: Any, call: Call) -> str:
    """Make one call, and return what came of it in the janitor's words."""
    import grpc

    made = channel.unary_unary(call["method"])
    message = base64.b64decode(call["message"])
    try:
        made(message, timeout=_REQUEST_S, metadata=metadata_of(call["headers"]))
    except grpc.RpcError as error:
        return _outcome(error.code().name, error.details() or "")
    return "done"


def _outcome(status: str, text: str) -> str:
    # It does not know the region, or never lets us.
    if status in ("NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED") or "is restricted" in text:
        return "done"
    if "currently in use" in text:
        return "in use"
    if status == "UNAVAILABLE" and "Connection refused" in text:
        return "refused"
    return "silent" if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED") else "declined"


def _ask_all(calls: Sequence[Call]) -> list[str]:
    """Ask for each region: over one channel for those whose connection is made alike."""
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for number, call in enumerate(calls):
        kinds.setdefault(tuple(call.get(key) for key in _CONNECTION), []).append(number)
    answers: dict[int, str] = {}
    for numbers in kinds.values():
        answers.update(zip(numbers, _ask_over_one([calls[n] for n in numbers]), strict=True))
    return [answers[number] for number in range(len(calls))]


def _ask_over_one(calls: Sequence[Call]) -> list[str]:
    """Ask for each region, and for those in use again until the time is up."""
    answers: dict[int, str] = {}
    waiting = dict(enumerate(calls))
    give_up = time.monotonic() + _IN_USE_S
    channel = open_channel(calls[0])
    while True:
        for number, call in waiting.items():
            answer = answers[number] = _ask(channel, call)
            if answer in ("silent", "refused"):  # and so it is for those that come after
                return [answers.get(each, answer) for each in range(len(calls))]
        waiting = {each: call for each, call in waiting.items() if answers[each] == "in use"}
        if not waiting or time.monotonic() > give_up:
            return list(answers.values())
        time.sleep(_PAUSE_S)


def main() -> None:
    """Do what standard input says."""
    calls = json.load(sys.stdin)
    sys.path[:] = calls[0]["python_path"]
    json.dump(_ask_all(calls), sys.stdout)


if __name__ == "__main__":
    main()
