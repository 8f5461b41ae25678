"""Triton over HTTP.

tritonclient makes and parses the bodies of inference requests, the engine
carries them. The control calls go through the same engine: they are small
JSON documents, tritonclient's own HTTP client can neither be shared between
threads nor be interrupted, and one way out means one place for headers, time
limits and errors.
"""

from __future__ import annotations

import json
import logging
import operator
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from tritonclient.http import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    InferResult,
)
from tritonclient.utils import InferenceServerException

from tritonic_nb.errors import (
    ArgumentError,
    RegionKnownError,
    RegionLostError,
    ServerRefusedError,
    ServerUnreachableError,
    TritonicError,
    brief,
)
from tritonic_nb.tensors import TensorSpec, codec
from tritonic_nb.tensors.dtypes import TEXT_KINDS, numpy_dtype
from tritonic_nb.transport.base import (
    Engine,
    InferReply,
    InferRequest,
    InputTensor,
    OutputTensor,
    PreparedRequest,
    Reply,
    Request,
    RequestedOutput,
)
from tritonic_nb.transport.checks import (
    check_output_names,
    checked_headers,
    checked_name,
    doing_inference,
)
from tritonic_nb.transport.engine import CurlEngine, SSLOptions, base_url, without_password
from tritonic_nb.transport.faults import error_from_server

__all__ = ["HttpTransport"]

_CONTROL_TIMEOUT_S = 30.0
_UNREGISTER_TIMEOUT_S = 5.0  # a server that hangs must not keep a session from closing
_LOAD_TIMEOUT_S = 600.0  # a large model takes minutes
# What reading a reply raises that is not of the form that the protocol gives it.
_UNREADABLE = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError,
    MemoryError, struct.error, InferenceServerException,
)  # fmt: skip
_FAULT = "this is a fault of the server, or of a proxy between"
_HEADER_LENGTH = "Inference-Header-Content-Length"

_log = logging.getLogger("tritonic_nb.transport")


class HttpTransport:
    """A :class:`~tritonic_nb.transport.base.Transport` over HTTP.

    Parameters
    ----------
    url
        ``host:port``, ``http://host:port`` or ``https://host:port``.
    headers
        Sent with every request, such as the header that opens a restricted API.
    options
        For an encrypted connection.

    Raises
    ------
    ArgumentError
        If `url` is not an address.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str] | None = None, options: SSLOptions | None = None
    ) -> None:
        if options is not None and not isinstance(options, SSLOptions):
            raise ArgumentError(f"ssl is {brief(options)}", "pass True, or SSLOptions(ca_file=...)")
        full = base_url(url, options)
        self.url = without_password(full)
        self._engine: Engine = CurlEngine(full, checked_headers(headers), options)

    def server_metadata(self) -> dict[str, Any]:
        """``GET v2``: the server's name, version and extensions."""
        request = Request("GET", "v2")
        reply = self._send(request, _CONTROL_TIMEOUT_S)
        self._check(reply, "asking the server who it is")
        document = self._parsed(reply)
        if not isinstance(document, dict) or "version" not in document:
            raise self._not_triton(reply)
        return document

    def model_ready(self, model: str, version: str = "") -> bool:
        """``GET v2/models/M/ready``."""
        request = Request("GET", f"{_model_path(model, version)}/ready")
        return self._send(request, _CONTROL_TIMEOUT_S).status == 200

    def model_metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """``GET v2/models/M``."""
        doing = f"describing model {model!r}"
        reply: dict[str, Any] = self._control("GET", _model_path(model, version), doing)
        return reply

    def model_config(self, model: str, version: str = "") -> dict[str, Any]:
        """``GET v2/models/M/config``."""
        path = f"{_model_path(model, version)}/config"
        doing = f"reading the configuration of model {model!r}"
        reply: dict[str, Any] = self._control("GET", path, doing)
        return reply

    def repository_index(self) -> list[dict[str, Any]]:
        """``POST v2/repository/index``."""
        return self._list("POST", "v2/repository/index", "listing the model repository")

    def load_model(self, model: str) -> None:
        """``POST v2/repository/models/M/load``."""
        path = f"v2/repository/models/{_quoted(model, 'a model')}/load"
        self._control("POST", path, f"loading model {model!r}", timeout_s=_LOAD_TIMEOUT_S)

    def unload_model(self, model: str) -> None:
        """``POST v2/repository/models/M/unload``."""
        path = f"v2/repository/models/{_quoted(model, 'a model')}/unload"
        self._control("POST", path, f"unloading model {model!r}")

    def system_regions(self) -> list[dict[str, Any]]:
        """``GET v2/systemsharedmemory/status``."""
        path = "v2/systemsharedmemory/status"
        return self._list("GET", path, "listing the server's shared memory")

    def register_system(self, name: str, key: str, nbytes: int, timeout_s: float) -> None:
        """``POST v2/systemsharedmemory/region/NAME/register``."""
        try:
            self._control(
                "POST",
                f"v2/systemsharedmemory/region/{quote(name, safe='')}/register",
                f"registering region {name!r} ({nbytes} bytes)",
                {"key": key, "offset": 0, "byte_size": nbytes},
                timeout_s=timeout_s,
            )
        except RegionKnownError:
            _log.debug("region %s was registered already", name)

    def unregister_system(self, name: str) -> None:
        """``POST v2/systemsharedmemory/region/NAME/unregister``."""
        if not name:  # Triton would unregister everybody's regions
            raise ArgumentError("a region to unregister needs a name")
        try:
            self._control(
                "POST",
                _unregister_path(name),
                f"unregistering region {name!r}",
                timeout_s=_UNREGISTER_TIMEOUT_S,
            )
        except RegionLostError:
            _log.debug("region %s was not registered", name)

    def unregister_call(self, name: str) -> dict[str, object]:
        """Return what :meth:`unregister_system` sends, for another process to send."""
        return self._engine.address(_unregister_path(name))

    def prepare(self, request: InferRequest) -> PreparedRequest:
        """Write ``POST v2/models/M/infer``, with binary tensors.

        Raises
        ------
        ArgumentError
            If the request's id, sequence, priority or parameters cannot be written.
        """
        body, header_length = _request_body(request, doing_inference(request))
        headers = {"Content-Type": "application/octet-stream"}
        if header_length is not None:
            headers[_HEADER_LENGTH] = str(header_length)
        path = f"{_model_path(request.model, request.version)}/infer"
        return PreparedRequest(request, Request("POST", path, headers, body), len(body))

    def infer(self, prepared: PreparedRequest, timeout_s: float) -> InferReply:
        """Send an inference and read its reply.

        Raises
        ------
        TritonicError
            As the engine and :func:`~tritonic_nb.transport.faults.error_from_server` tell.
        """
        reply = self._send(prepared.message, timeout_s)
        doing = doing_inference(prepared.request)
        self._check(reply, doing)
        try:
            return _infer_reply(reply, prepared.nbytes)
        except _UNREADABLE as error:
            raise ServerRefusedError(
                f"{doing}: the server's reply cannot be read: {brief(error)}",
                _FAULT,
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._engine.close()

    def _control(
        self,
        method: str,
        path: str,
        doing: str,
        document: Mapping[str, Any] | None = None,
        timeout_s: float = _CONTROL_TIMEOUT_S,
    ) -> Any:
        body = json.dumps(document).encode() if document is not None else b""
        headers = {"Content-Type": "application/json"}
        reply = self._send(Request(method, path, headers, body), timeout_s)
        self._check(reply, doing)
        return self._parsed(reply)

    def _list(self, method: str, path: str, doing: str) -> list[dict[str, Any]]:
        """Send a control request whose reply is a list of objects."""
        found = self._control(method, path, doing)
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise ServerRefusedError(
                f"{doing}: the server's reply is no list of objects",
                _FAULT,
            )
        return found

    def _parsed(self, reply: Reply) -> Any:
        """Return a reply's JSON document; Triton's empty replies are empty ones."""
        try:
            document = json.loads(reply.body or b"{}")
            if rb"\ud" in reply.body.lower():  # perhaps half a character, which nothing takes
                json.dumps(document, ensure_ascii=False).encode()
            return document
        except (ValueError, RecursionError) as error:
            raise self._not_triton(reply) from error

    def _send(self, request: Request, timeout_s: float) -> Reply:
        started = time.perf_counter()
        reply = self._engine.send(request, timeout_s)
        _log.debug(
            "%s %s %d bytes -> %d, %d bytes, %.2f ms",
            request.method,
            request.path,
            len(request.body),
            reply.status,
            len(reply.body),
            (time.perf_counter() - started) * 1e3,
        )
        return reply

    def _check(self, reply: Reply, doing: str) -> None:
        if reply.status == 200:
            return
        if reply.status in (502, 504):  # Triton has no such replies
            raise ServerUnreachableError(
                f"{doing}: a gateway before the server answered in its place: HTTP {reply.status}, "
                f"{reply.body[:120].decode('utf-8', 'replace')!r}",
                "the server may or may not have done it: give the gateway more time, or go past it",
            )
        try:
            message = str(json.loads(reply.body)["error"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._not_triton(reply) from None
        raise error_from_server(message, doing)

    def _not_triton(self, reply: Reply) -> TritonicError:
        text = reply.body[:120].decode("utf-8", "replace")
        return ServerUnreachableError(
            f"what answers at {self.url} is not Triton: HTTP {reply.status}, {text!r}",
            "check the address, the port (Triton's HTTP port is 8000; its gRPC port, 8001, is for "
            "protocol='grpc') and any proxy between",
        )


def _model_path(model: str, version: str) -> str:
    path = f"v2/models/{_quoted(model, 'a model')}"
    return f"{path}/versions/{_quoted(version, 'a version')}" if version else path


def _quoted(name: str, what: str) -> str:
    """Return a name as one part of a path."""
    return quote(checked_name(name, what), safe="")


def _unregister_path(name: str) -> str:
    return f"v2/systemsharedmemory/region/{quote(name, safe='')}/unregister"


def _request_body(request: InferRequest, doing: str) -> tuple[bytes, int | None]:
    try:
        body, header_length = InferenceServerClient.generate_request_body(
            [_infer_input(tensor) for tensor in request.inputs],
            outputs=[_requested_output(output) for output in request.outputs],
            request_id=request.request_id,
            sequence_id=request.sequence_id,
            sequence_start=request.sequence_start,
            sequence_end=request.sequence_end,
            priority=request.priority,
            parameters=dict(request.parameters) or None,
        )
    except TritonicError:
        raise
    except Exception as error:  # the caller's own objects may raise anything
        raise ArgumentError(
            f"{doing}: the request cannot be written: {error}",
            "look at the request's id, sequence, priority and parameters: texts and numbers",
        ) from error
    return body, header_length


def _infer_input(tensor: InputTensor) -> InferInput:
    made = InferInput(tensor.name, list(tensor.shape), tensor.datatype)
    if tensor.region is not None:
        region = tensor.region
        return made.set_shared_memory(region.name, region.nbytes, region.offset)
    return made.set_data_from_numpy(_plain(np.asarray(tensor.array)))


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array as tritonclient knows it: native byte order, text as plain bytes."""
    if array.dtype.kind in TEXT_KINDS:
        elements = (codec.element_bytes(element) for element in array.flat)
        return np.fromiter(elements, np.object_, array.size).reshape(array.shape)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _requested_output(output: RequestedOutput) -> InferRequestedOutput:
    made = InferRequestedOutput(output.name, binary_data=True)
    if output.region is not None:
        region = output.region
        made.set_shared_memory(region.name, region.nbytes, region.offset)
    return made


def _infer_reply(reply: Reply, sent_nbytes: int) -> InferReply:
    header_length = reply.headers.get(_HEADER_LENGTH.lower())
    length = None if header_length is None else int(header_length)
    if length is not None and not 0 <= length <= len(reply.body):
        raise ValueError(f"a header of {length} bytes in a body of {len(reply.body)}")
    parsed = InferResult.from_response_body(reply.body, header_length=length)
    document = parsed.get_response()
    _check_outputs(document.get("outputs", ()), 0 if length is None else len(reply.body) - length)
    return InferReply(
        model=str(document.get("model_name", "")),
        version=str(document.get("model_version", "")),
        request_id=str(document.get("id", "")),
        outputs={
            output["name"]: _output_tensor(parsed, output) for output in document.get("outputs", ())
        },
        sent_nbytes=sent_nbytes,
        received_nbytes=len(reply.body),
    )


def _check_outputs(outputs: Sequence[Mapping[str, Any]], nbytes: int) -> None:
    """Refuse what tritonclient would read another tensor's bytes for."""
    check_output_names([output["name"] for output in outputs])
    sizes = [output.get("parameters", {}).get("binary_data_size", 0) for output in outputs]
    if any(operator.index(size) < 0 for size in sizes) or sum(sizes) != nbytes:
        raise ValueError(f"outputs of {brief(sizes)} bytes in {nbytes} bytes")


def _output_tensor(parsed: InferResult, output: Mapping[str, Any]) -> OutputTensor:
    name, shape = output["name"], tuple(operator.index(d) for d in output["shape"])
    if min(shape, default=0) < 0:
        raise ValueError(f"the shape {list(shape)} of output {name!r}")
    datatype = str(output["datatype"])
    numpy_dtype(datatype)  # or it is none of Triton's
    array = None
    if "binary_data_size" in output.get("parameters", {}):
        # tritonclient's arrays are read-only views of the reply; a result owns its arrays.
        array = np.array(parsed.as_numpy(name))
    elif "data" in output:
        # Not by tritonclient: it makes 1 of 1.5 and of "1" where the datatype is INT32.
        elements = np.array(output["data"], np.object_).ravel().tolist()
        flat = codec.as_tensor(elements, TensorSpec(name, datatype, (-1,)))
        array = _plain(flat).reshape(shape)
    return OutputTensor(name, datatype, shape, array)
