"""Where the requests of the benchmark go: one server and one model that answers itself."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.server import Server, serve
from tritonic_nb.session import Session
from tritonic_nb.tensors import ModelSpec
from tritonic_nb.transport import HttpTransport

__all__ = ["Endpoint", "endpoint_at"]

_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9_.-]+):(?P<port>\d{1,5})")
_REMEDY = "name a model that answers one FP32 tensor of two dynamic dimensions with itself"


@dataclass(frozen=True)
class Endpoint:
    """One server and one model, as every way to it needs them.

    Attributes
    ----------
    url, grpc_url
        ``host:port``; without the second there is no gRPC.
    headers
        What opens the server's protected APIs. A secret.
    model, input, output
        The names of the model and of its two tensors.
    server_version
        Triton's version.
    embedded
        Whether the server is the embedded one, which takes models.
    device
        The CUDA device, for the ways through CUDA shared memory.
    """

    url: str
    grpc_url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    model: str = "identity_fp32"
    input: str = "INPUT0"
    output: str = "OUTPUT0"
    server_version: str = ""
    embedded: bool = False
    device: int = 0

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port of HTTP."""
        host, _, port = self.url.rpartition(":")
        return host, int(port)

    @property
    def infer_path(self) -> str:
        """The path of an inference, with a leading slash."""
        return f"/v2/models/{quote(self.model, safe='')}/infer"


@contextlib.contextmanager
def endpoint_at(
    url: str | None, grpc_url: str | None, model: str
) -> Iterator[tuple[Endpoint, Server | None]]:
    """Give the server at an address, or an embedded one that is started and stopped.

    Parameters
    ----------
    url, grpc_url
        ``host:port`` of a server whose APIs are open; None for an embedded one.
    model
        The model. The embedded server has it among its teaching models.

    Raises
    ------
    ArgumentError
        If an address is no ``host:port``, or the model is of another kind.
    TritonicError
        As :func:`~tritonic_nb.serve` and :class:`~tritonic_nb.Session` raise.
    """
    if url is None:
        if grpc_url is not None:
            raise ArgumentError("a gRPC address was given, and no HTTP address", "give --url too")
        with serve([model]) as server:
            start = Endpoint(server.url, server.grpc_url, server.headers, model, embedded=True)
            yield _asked(start), server
        return
    for each in (url, grpc_url):
        if each is not None and not _ADDRESS.fullmatch(each):
            raise ArgumentError(f"{brief(each)} is not an address", "give host:port")
    yield _asked(Endpoint(url, grpc_url or "", {}, model)), None


def _asked(start: Endpoint) -> Endpoint:
    """Return the endpoint with what the server tells of itself and of its model."""
    with Session(start.url, start.model, headers=start.headers, shared_memory="none") as session:
        input_name, output_name = _identity_tensors(session.model_info)
    with contextlib.closing(HttpTransport(start.url, start.headers)) as transport:
        version = str(transport.server_metadata()["version"])
    return replace(start, input=input_name, output=output_name, server_version=version)


def _identity_tensors(model: ModelSpec) -> tuple[str, str]:
    tensors = [*model.inputs.values(), *model.outputs.values()]
    kinds = [(spec.datatype, spec.rank, spec.batched) for spec in tensors]
    if len(model.inputs) != 1 or kinds != [("FP32", 2, False)] * 2:
        raise ArgumentError(
            f"model {model.name!r} cannot be measured: it has {', '.join(map(str, tensors))}",
            _REMEDY,
        )
    return tensors[0].name, tensors[1].name
