"""What a session asks of a server, whichever protocol carries it.

Two seams. :class:`Engine` moves one HTTP request and its reply, and knows
nothing of Triton. :class:`Transport` speaks Triton's operations in arrays and
regions; a session knows only this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy.typing as npt

__all__ = [
    "Body",
    "Engine",
    "InferReply",
    "InferRequest",
    "InputTensor",
    "MemoryKind",
    "Moments",
    "OutputTensor",
    "PreparedRequest",
    "RegionSlice",
    "Reply",
    "Request",
    "RequestedOutput",
    "Transport",
]

MemoryKind: TypeAlias = Literal["system", "cuda"]
"""Triton's two shared-memory extensions."""

Body: TypeAlias = bytes | memoryview
"""Bytes of a request or a reply; a view is of bytes (format ``B``) in one piece."""


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes
    ----------
    method
        ``"GET"`` or ``"POST"``.
    path
        The path after the host, without a leading slash.
    headers
        Names and values.
    body
        The bytes to send.
    attached_nbytes
        The bytes that follow the body: they are given when it is sent, to :meth:`Engine.send`.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    attached_nbytes: int = 0

    @property
    def nbytes(self) -> int:
        """The bytes of the body and of what is attached to it."""
        return len(self.body) + self.attached_nbytes


class Moments(NamedTuple):
    """When a request was sent and its reply came, in seconds of :func:`time.perf_counter`.

    Attributes
    ----------
    begun
        The sending began (opening a connection included).
    sent
        The system had taken all of the request. Where that is not known (libcurl, gRPC) it is
        the same as `begun`.
    first
        The first bytes of the reply had come. Where that is not known (gRPC) it is the
        same as `last`.
    last
        All of it had come.
    """

    begun: float
    sent: float
    first: float
    last: float


NO_MOMENTS = Moments(0.0, 0.0, 0.0, 0.0)


class Reply(NamedTuple):
    """One HTTP reply; `headers` has its names in lower case.

    A large body may be a writable view of memory that is the receiver's own from then on.
    """

    status: int
    headers: Mapping[str, str]
    body: Body
    moments: Moments = NO_MOMENTS


class Engine(Protocol):
    """Moves requests over connections that it keeps open. Safe to share between threads."""

    def write(self, request: Request) -> Any:
        """Return a request as it will be sent, once or many times; only :meth:`send` reads it."""

    def send(self, message: Any, timeout_s: float, attached: Sequence[Body] = ()) -> Reply:
        """Send what :meth:`write` gave and wait for its reply; Ctrl-C soon ends the wait.

        Parameters
        ----------
        message
            The request.
        timeout_s
            The time limit for the whole exchange, in seconds.
        attached
            What follows its body, as many bytes as it said. It is read while it is sent.

        Raises
        ------
        ServerUnreachableError, ServerTimeoutError
            If there is no reply, or not in time.
        """

    def address(self, path: str) -> dict[str, object]:
        """Return where and how a request would go, for another process to send it.

        Returns
        -------
        dict
            ``url``, ``headers``, ``ca_file``, ``cert_file``, ``key_file`` and
            ``verify``. It holds secrets: never show it.
        """

    def close(self) -> None:
        """Close the connections; safe to repeat."""


@dataclass(frozen=True)
class RegionSlice:
    """The part of a registered region that a tensor uses: name, offset and size in bytes.

    `device` is the number of the CUDA device that the region is on; None for system memory.
    """

    name: str
    offset: int
    nbytes: int
    device: int | None = None


@dataclass(frozen=True)
class InputTensor:
    """An input of a request: in a region, or (`region` None) as an array on the wire."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    array: npt.NDArray[Any] | None = None
    region: RegionSlice | None = None


@dataclass(frozen=True)
class RequestedOutput:
    """An output to ask for: into a region, or (None) over the wire."""

    name: str
    region: RegionSlice | None = None


class OutputTensor(NamedTuple):
    """An output of a reply; `array` is None where it lies in the region that was asked for."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    array: npt.NDArray[Any] | None


@dataclass(frozen=True)
class InferRequest:
    """Everything that one inference sends.

    Attributes
    ----------
    model, version
        The model; version ``""`` lets the server choose.
    inputs, outputs
        The tensors.
    request_id, sequence_id, sequence_start, sequence_end, priority, parameters
        As Triton's protocol has them; a `sequence_id` of 0 means no sequence.
    """

    model: str
    version: str
    inputs: Sequence[InputTensor]
    outputs: Sequence[RequestedOutput]
    request_id: str = ""
    sequence_id: int | str = 0
    sequence_start: bool = False
    sequence_end: bool = False
    priority: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedRequest:
    """An inference as it goes over the wire: made once, sent any number of times.

    What a contiguous array on the wire holds is read when it is sent, each time anew.

    Attributes
    ----------
    request
        What it was made of.
    message
        What the transport sends; nobody else knows its form. It holds secrets.
    nbytes
        The bytes of the message's body.
    """

    request: InferRequest
    message: Any = field(repr=False)
    nbytes: int


class InferReply(NamedTuple):
    """What came back.

    Attributes
    ----------
    model, version, request_id
        As the server gives them.
    outputs
        By name, in the server's order.
    sent_nbytes, received_nbytes
        The bodies of the request and the reply, in bytes.
    moments
        When it went and came.
    """

    model: str
    version: str
    request_id: str
    outputs: Mapping[str, OutputTensor]
    sent_nbytes: int
    received_nbytes: int
    moments: Moments


class Transport(Protocol):
    """Triton's operations. Every method raises this package's errors and no others.

    The dictionaries are the server's own JSON replies, as Triton's protocol
    documents describe them.
    """

    url: str

    def server_metadata(self) -> dict[str, Any]:
        """Return the server's name, version and extensions."""

    def model_ready(self, model: str, version: str = "") -> bool:
        """Return whether a model can be asked now."""

    def model_metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """Return the model's versions, inputs and outputs."""

    def model_config(self, model: str, version: str = "") -> dict[str, Any]:
        """Return the model's configuration."""

    def repository_index(self) -> list[dict[str, Any]]:
        """Return the repository's models with version, state and reason."""

    def load_model(self, model: str) -> None:
        """Load a model, or load it again."""

    def unload_model(self, model: str) -> None:
        """Unload a model."""

    def model_statistics(self, model: str, version: str = "") -> list[dict[str, Any]]:
        """Return the statistics of a model's versions; all of them where none is named."""

    def trace_settings(self, model: str = "") -> dict[str, list[str]]:
        """Return how the server traces a model's requests, each setting as a list of texts.

        Without a model, how it traces those that have no setting of their own.
        """

    def update_trace(self, model: str, settings: Mapping[str, Sequence[str] | None]) -> None:
        """Change how the server traces a model's requests; None means as for all models."""

    def registered_regions(self, kind: MemoryKind = "system") -> list[dict[str, Any]]:
        """Return the shared-memory regions of a kind that the server has registered."""

    def register_system(self, name: str, key: str, nbytes: int, timeout_s: float) -> None:
        """Register a system shared-memory region, at offset 0.

        One that the server knows already is not an error: nobody else has such names.
        """

    def register_cuda(
        self, name: str, handle: bytes, device: int, nbytes: int, timeout_s: float
    ) -> None:
        """Register a CUDA shared-memory region by its IPC handle of 64 bytes.

        Raises
        ------
        RegionNotVisibleError
            If the server cannot open the handle.
        """

    def unregister(self, name: str, kind: MemoryKind = "system") -> None:
        """Unregister one region; one the server does not know is not an error."""

    def unregister_call(self, name: str, kind: MemoryKind = "system") -> dict[str, object]:
        """Return what :meth:`unregister` sends, for another process to send.

        It is as :meth:`Engine.address` has it; or, where it is no HTTP request, it has a
        ``program`` to run that is given it. It holds secrets.
        """

    def prepare(self, request: InferRequest) -> PreparedRequest:
        """Write a request. Where its inputs lie in regions, it can be sent again and again."""

    def infer(self, prepared: PreparedRequest, timeout_s: float) -> InferReply:
        """Run one inference."""

    def close(self) -> None:
        """Close the connections; safe to repeat."""
