"""All ways together: which there are, opening them, and proof that each answers rightly."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Sequence

import numpy as np
from tritonclient.utils import InferenceServerException

from tritonic_nb.benchmark.bare_ways import BareSocket, Prepared
from tritonic_nb.benchmark.client_ways import (
    ClientGrpc,
    ClientHttp,
    ClientSharedMemory,
    ClientSharedMemoryCopy,
    has_grpc,
)
from tritonic_nb.benchmark.endpoint import Endpoint
from tritonic_nb.benchmark.interrupts import held_back
from tritonic_nb.benchmark.session_ways import (
    SessionCopies,
    SessionFilled,
    SessionInPlace,
    SessionWire,
)
from tritonic_nb.benchmark.way import Way, tensor
from tritonic_nb.errors import ServerRefusedError, ServerUnreachableError

__all__ = ["WAYS", "opened", "ways_to"]

WAYS: Sequence[type[Way]] = (
    BareSocket,
    Prepared,
    SessionInPlace,
    SessionFilled,
    SessionCopies,
    ClientSharedMemory,
    ClientSharedMemoryCopy,
    SessionWire,
    ClientHttp,
    ClientGrpc,
)
"""Every way, in the order in which they are shown."""


def ways_to(endpoint: Endpoint) -> tuple[list[type[Way]], list[str]]:
    """Return the ways that there are to a server, and in sentences what is missing."""
    missing = has_grpc(endpoint)
    ways = [way for way in WAYS if way is not ClientGrpc or not missing]
    return ways, [f"tritonclient gRPC was left out: {missing}"] if missing else []


@contextlib.contextmanager
def opened(kinds: Sequence[type[Way]], endpoint: Endpoint, nbytes: int) -> Iterator[list[Way]]:
    """Open ways for tensors of one size, see that each answers rightly, and close them.

    Raises
    ------
    ServerRefusedError
        If an answer is not what was sent, or NVIDIA's library cannot do its part.
    ServerUnreachableError
        If the server went away meanwhile.
    """
    first, second = tensor(nbytes, seed=1), tensor(nbytes, seed=2)
    ways: list[Way] = []
    stack = contextlib.ExitStack()
    try:
        for kind in kinds:
            with held_back():
                way = kind(endpoint, nbytes)
                stack.callback(way.close)
                ways.append(way)
                for sent in (second, first):  # two, so that no answer is one of before
                    _check(way, sent)
        yield ways
    except BaseException as error:
        # A view that a failed exchange still has would keep tritonclient's region from closing.
        traceback.clear_frames(error.__traceback__)
        # Of its CUDA utilities, the class is there only with cuda-python.
        if isinstance(error, InferenceServerException) or (
            type(error).__name__ == "CudaSharedMemoryException"
        ):
            raise ServerRefusedError(f"tritonclient: {error}") from error
        if isinstance(error, OSError):  # from a socket, tritonclient's or the bare one
            raise ServerUnreachableError(
                f"the server at {endpoint.url} was lost: {error}", "look whether it still runs"
            ) from error
        raise
    finally:
        with held_back():
            stack.close()


def _check(way: Way, sent: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    way.put(sent)
    answer = way.answer(way.exchange())
    if answer.dtype != sent.dtype or not np.array_equal(answer, sent):
        raise ServerRefusedError(
            f"{way.label}: model {way.endpoint.model!r} did not answer {sent.nbytes} bytes with "
            "themselves",
            "name a model that answers one FP32 tensor of two dynamic dimensions with itself",
        )
