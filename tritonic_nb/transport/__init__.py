"""The ways to a server: requests, replies and their errors."""

from __future__ import annotations

from tritonic_nb.transport.address import SSLOptions, is_loopback, without_password
from tritonic_nb.transport.base import (
    InferReply,
    InferRequest,
    InputTensor,
    MemoryKind,
    Moments,
    OutputTensor,
    PreparedRequest,
    RegionSlice,
    RequestedOutput,
    Transport,
)
from tritonic_nb.transport.http import HttpTransport
from tritonic_nb.transport.protocol import connect, protocol_for

__all__ = [
    "HttpTransport",
    "InferReply",
    "InferRequest",
    "InputTensor",
    "MemoryKind",
    "Moments",
    "OutputTensor",
    "PreparedRequest",
    "RegionSlice",
    "RequestedOutput",
    "SSLOptions",
    "Transport",
    "connect",
    "is_loopback",
    "protocol_for",
    "without_password",
]
