"""Triton over HTTP.

tritonclient makes the JSON heads of inference requests, once for those that differ only in
what their tensors hold; the tensors follow them as they lie in their arrays. The engine
carries both, and what comes back is read here. The control calls go through
the same engine: they are small JSON documents, tritonclient's own HTTP client can
neither be shared between threads nor be interrupted, and one way out means one place
for headers, time limits and errors.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from tritonclient.http import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
)

from tritonic_nb.errors import (
    ArgumentError,
    NoReplyError,
    RegionKnownError,
    RegionLostError,
    RestrictedApiError,
    ServerBusyError,
    ServerRefusedError,
    ServerUnreachableError,
    SharedMemoryError,
    TritonicError,
    brief,
)
from tritonic_nb.tensors import TensorSpec, codec
from tritonic_nb.tensors.dtypes import TEXT_KINDS, datatype_of, item_nbytes
from tritonic_nb.transport.address import SSLOptions, base_url, without_password
from tritonic_nb.transport.base import (
    Body,
    Engine,
    InferReply,
    InferRequest,
    InputTensor,
    MemoryKind,
    OutputTensor,
    PreparedRequest,
    RegionSlice,
    Reply,
    Request,
    RequestedOutput,
)
from tritonic_nb.transport.checks import (
    check_output_names,
    checked_headers,
    checked_name,
    doing_inference,
    unreadable,
)
from tritonic_nb.transport.compression import (
    WORTH_NBYTES,
    checked_compression,
    compressed,
    expanded,
)
from tritonic_nb.transport.engine import lasting, open_engine
from tritonic_nb.transport.faults import (
    LATER,
    busy_gateway,
    cuda_not_opened,
    error_from_server,
)
from tritonic_nb.transport.retries import Retries

__all__ = ["HttpTransport"]

_CONTROL_TIMEOUT_S = 30.0
_UNREGISTER_TIMEOUT_S = 5.0  # a server that hangs must not keep a session from closing
_LOAD_TIMEOUT_S = 600.0  # a large model takes minutes
# What reading a reply raises that is not of the form that the protocol gives it.
_UNREADABLE = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError,
    MemoryError,
)  # fmt: skip
_OK = 200
_OF_GATEWAYS = (429, 502, 503, 504)  # Triton has 503, too
_NOT_OF_TRITON = (401, 407, 429, 502, 504)  # whatever the reply holds
_NONE = Retries()
_SHORT_NBYTES = 4096  # of a reply's head that is kept in mind
_PLAIN = InferRequest("", "", (), ())  # with no options
_KEPT = 256  # heads of requests, and of replies
_NO_OPTIONS = ("", 0, False, False, 0)
_HEADER_LENGTH = "Inference-Header-Content-Length"

_log = logging.getLogger("tritonic_nb.transport")


@dataclass(frozen=True)
class _Written:
    """A request as the log calls it, as its engine sends it, with secrets, and as it was."""

    label: str
    message: Any = field(repr=False)
    request: Request = field(repr=False)

    @property
    def nbytes(self) -> int:
        """The bytes of its body."""
        return self.request.nbytes


class _Inference(NamedTuple):
    """What is written of an inference, and the tensors that follow it."""

    written: _Written
    attached: Sequence[Body]


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
    compression
        ``"gzip"`` or ``"deflate"`` for what tensors go over the wire, or None.
    retries
        How often a request of which nothing was done may be sent again.

    Raises
    ------
    ArgumentError
        If `url` is not an address.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        options: SSLOptions | None = None,
        compression: str | None = None,
        retries: int = 0,
    ) -> None:
        if options is not None and not isinstance(options, SSLOptions):
            raise ArgumentError(f"ssl is {brief(options)}", "pass True, or SSLOptions(ca_file=...)")
        full = base_url(url, options)
        self.url = without_password(full)
        self._engine: Engine = open_engine(full, checked_headers(headers), options)
        self._compression = checked_compression(compression)
        self._retries = Retries(retries)
        self._write = partial(_written_inference, self._engine, compression=self._compression)
        self._plain_inference = lru_cache(maxsize=_KEPT)(self._write)

    def server_metadata(self) -> dict[str, Any]:
        """``GET v2``: the server's name, version and extensions."""
        doing = "asking the server who it is"
        reply = self._answered(Request("GET", "v2"), doing, _CONTROL_TIMEOUT_S, asks_only=True)
        document = self._parsed(reply)
        if not isinstance(document, dict) or "version" not in document:
            raise self._not_triton(reply)
        return document

    def model_ready(self, model: str, version: str = "") -> bool:
        """``GET v2/models/M/ready``."""
        request = Request("GET", f"{_model_path(model, version)}/ready")

        def attempt(left_s: float) -> bool:
            reply = self._send(request, left_s)
            if reply.status in _OF_GATEWAYS:
                self._check(reply, f"asking whether model {model!r} is ready")
            return reply.status == _OK

        try:
            return self._retries.run(attempt, _CONTROL_TIMEOUT_S, asks_only=True)
        except (NoReplyError, ServerBusyError):
            raise
        except TritonicError as error:
            _log.debug("%s", error)
            return False

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

    def model_statistics(self, model: str, version: str = "") -> list[dict[str, Any]]:
        """``GET v2/models/M/stats``."""
        doing = f"reading the statistics of model {model!r}"
        path = f"{_model_path(model, version)}/stats"
        return _listed_objects(self._control("GET", path, doing), doing, "model_stats")

    def trace_settings(self, model: str = "") -> dict[str, list[str]]:
        """``GET v2/models/M/trace/setting``, or ``v2/trace/setting``."""
        doing = f"reading how requests of {f'model {model!r}' if model else 'models'} are traced"
        path = _model_path(model, "") if model else "v2"
        found = self._control("GET", f"{path}/trace/setting", doing)
        if not isinstance(found, dict):
            raise unreadable(doing, "it is no object")
        return {
            name: [str(each) for each in value] if isinstance(value, list) else [str(value)]
            for name, value in found.items()
        }

    def update_trace(self, model: str, settings: Mapping[str, Sequence[str] | None]) -> None:
        """``POST v2/models/M/trace/setting``."""
        self._control(
            "POST",
            f"{_model_path(model, '')}/trace/setting",
            f"changing how requests of model {model!r} are traced",
            {name: _setting(name, values) for name, values in settings.items()},
        )

    def registered_regions(self, kind: MemoryKind = "system") -> list[dict[str, Any]]:
        """``GET v2/systemsharedmemory/status``, or of ``cuda``."""
        path = f"v2/{kind}sharedmemory/status"
        return self._list("GET", path, f"listing the server's {kind} shared memory")

    def register_system(self, name: str, key: str, nbytes: int, timeout_s: float) -> None:
        """``POST v2/systemsharedmemory/region/NAME/register``."""
        where = {"key": key, "offset": 0, "byte_size": nbytes}
        self._register("system", name, nbytes, where, timeout_s)

    def register_cuda(
        self, name: str, handle: bytes, device: int, nbytes: int, timeout_s: float
    ) -> None:
        """``POST v2/cudasharedmemory/region/NAME/register``."""
        raw_handle = {"b64": base64.b64encode(handle).decode()}
        where = {"raw_handle": raw_handle, "device_id": device, "byte_size": nbytes}
        try:
            self._register("cuda", name, nbytes, where, timeout_s)
        except SharedMemoryError as error:
            raise cuda_not_opened(error, device) from error

    def _register(
        self, kind: MemoryKind, name: str, nbytes: int, where: Mapping[str, Any], timeout_s: float
    ) -> None:
        try:
            self._control(
                "POST",
                _region_path(kind, name, "register"),
                f"registering region {name!r} ({nbytes} bytes)",
                where,
                timeout_s=timeout_s,
            )
        except RegionKnownError:
            _log.debug("region %s was registered already", name)

    def unregister(self, name: str, kind: MemoryKind = "system") -> None:
        """``POST v2/systemsharedmemory/region/NAME/unregister``, or of ``cuda``."""
        if not name:  # Triton would unregister everybody's regions
            raise ArgumentError("a region to unregister needs a name")
        try:
            self._control(
                "POST",
                _region_path(kind, name, "unregister"),
                f"unregistering region {name!r}",
                timeout_s=_UNREGISTER_TIMEOUT_S,
                retries=_NONE,
            )
        except RegionLostError:
            _log.debug("region %s was not registered", name)

    def unregister_call(self, name: str, kind: MemoryKind = "system") -> dict[str, object]:
        """Return what :meth:`unregister` sends, for another process to send."""
        return self._engine.address(_region_path(kind, name, "unregister"))

    def prepare(self, request: InferRequest) -> PreparedRequest:
        """Write ``POST v2/models/M/infer``, with binary tensors.

        Contiguous arrays of numbers are not copied: they are read when the request is sent.

        Raises
        ------
        ArgumentError
            If the request's id, sequence, priority or parameters cannot be written.
        """
        path = f"{_model_path(request.model, request.version)}/infer"
        try:
            attached = [_elements(tensor) for tensor in request.inputs if tensor.region is None]
            inputs, outputs = _outlines(request, map(len, attached))
            if _has_options(request):
                written = self._write(path, inputs, outputs, request)
            else:
                written = self._plain_inference(path, inputs, outputs)
        except TritonicError:
            raise
        except Exception as error:  # the caller's own objects may raise anything
            raise ArgumentError(
                f"{doing_inference(request)}: the request cannot be written: {error}",
                "look at the request's id, sequence, priority and parameters: texts and numbers",
            ) from error
        return PreparedRequest(request, _Inference(written, attached), written.nbytes)

    def infer(self, prepared: PreparedRequest, timeout_s: float) -> InferReply:
        """Send an inference and read its reply.

        Raises
        ------
        TritonicError
            As the engine and :func:`~tritonic_nb.transport.faults.error_from_server` tell.
        """
        message: _Inference = prepared.message
        if self._compression and sum(map(len, message.attached)) >= WORTH_NBYTES:
            begun = time.monotonic()
            message = self._compressed(*message, self._compression)
            timeout_s = max(timeout_s - (time.monotonic() - begun), 0.001)
        return self._retries.run(partial(self._infer, message, prepared.request), timeout_s)

    def _infer(self, message: _Inference, request: InferRequest, timeout_s: float) -> InferReply:
        written, attached = message
        reply = self._exchange(written, attached, timeout_s)
        nbytes = written.nbytes, len(reply.body)
        doing = doing_inference(request)
        if "content-encoding" in reply.headers and reply.status not in _OF_GATEWAYS:
            reply = reply._replace(body=expanded(reply.body, reply.headers, doing))
        if reply.status != _OK:
            self._check(reply, doing)
        try:
            return _infer_reply(reply, *nbytes)
        except _UNREADABLE as error:
            raise unreadable(doing, error) from error

    def _compressed(
        self, written: _Written, attached: Sequence[Body], compression: str
    ) -> _Inference:
        """Write an inference anew, smaller, with what its tensors hold now."""
        request = written.request
        body = compressed([request.body, *attached], compression)
        headers = {**request.headers, "Content-Encoding": compression}
        smaller = Request(request.method, request.path, headers, b"", len(body))
        return _Inference(_written(self._engine, smaller), [body])

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
        *,
        asks_only: bool = False,
        retries: Retries | None = None,
    ) -> Any:
        body = json.dumps(document).encode() if document is not None else b""
        request = Request(method, path, {"Content-Type": "application/json"}, body)
        asks_only = asks_only or method == "GET"
        reply = self._answered(request, doing, timeout_s, asks_only=asks_only, retries=retries)
        return self._parsed(reply)

    def _answered(
        self,
        request: Request,
        doing: str,
        timeout_s: float,
        *,
        asks_only: bool,
        retries: Retries | None = None,
    ) -> Reply:
        """Send a control request and return the server's reply, which is no error."""

        def attempt(left_s: float) -> Reply:
            reply = self._send(request, left_s)
            self._check(reply, doing)
            return reply

        return (retries or self._retries).run(attempt, timeout_s, asks_only=asks_only)

    def _list(self, method: str, path: str, doing: str) -> list[dict[str, Any]]:
        """Send a control request that changes nothing and whose reply is a list of objects."""
        return _listed_objects(self._control(method, path, doing, asks_only=True), doing)

    def _parsed(self, reply: Reply) -> Any:
        """Return a reply's JSON document; Triton's empty replies are empty ones."""
        try:
            return _document(bytes(reply.body) or b"{}")
        except (ValueError, RecursionError) as error:
            raise self._not_triton(reply) from error

    def _send(self, request: Request, timeout_s: float) -> Reply:
        return self._exchange(_written(self._engine, request), (), timeout_s)

    def _exchange(self, written: _Written, attached: Sequence[Body], timeout_s: float) -> Reply:
        if not _log.isEnabledFor(logging.DEBUG):
            return self._engine.send(written.message, timeout_s, attached)
        started = time.perf_counter()
        reply = self._engine.send(written.message, timeout_s, attached)
        _log.debug(
            "%s -> %d, %d bytes, %.2f ms",
            written.label, reply.status, len(reply.body), (time.perf_counter() - started) * 1e3,
        )  # fmt: skip
        return reply

    def _check(self, reply: Reply, doing: str) -> None:
        if reply.status == _OK:
            return
        said = None if reply.status in _NOT_OF_TRITON else _said(reply)
        if said is None:
            raise self._of_gateway(reply, doing)
        error = error_from_server(said, doing)
        if reply.status == 403 and type(error) is ServerRefusedError:  # Triton names its header
            raise self._barred(reply, doing)
        raise error

    def _of_gateway(self, reply: Reply, doing: str) -> TritonicError:
        """Return our error for a reply that is not Triton's."""
        if busy_gateway(reply.status, _beginning(reply), reply.headers):
            busy = ServerBusyError(
                f"{doing}: what answers at {self.url} is too busy: HTTP {reply.status}, "
                f"{_beginning(reply)!r}",
                LATER,
            )
            busy.after_s = _after_s(reply.headers.get("retry-after", ""))
            return busy
        if reply.status in _OF_GATEWAYS:
            return ServerUnreachableError(
                f"{doing}: a gateway before the server answered in its place: HTTP {reply.status}, "
                f"{_beginning(reply)!r}",
                "the server may or may not have done it: give the gateway more time, or go past it",
            )
        if reply.status in (401, 403, 407):
            return self._barred(reply, doing)
        return self._not_triton(reply)

    def _barred(self, reply: Reply, doing: str) -> RestrictedApiError:
        return RestrictedApiError(
            f"{doing}: what answers at {self.url} did not let the request through to Triton: "
            f"HTTP {reply.status}, {_beginning(reply)!r}",
            "pass headers={'NAME': 'VALUE'} with what a gateway there demands, such as "
            "'Authorization': 'Bearer TOKEN'; a token may have expired",
        )

    def _not_triton(self, reply: Reply) -> TritonicError:
        return lasting(
            f"what answers at {self.url} is not Triton: HTTP {reply.status}, {_beginning(reply)!r}",
            "check the address, the port (Triton's HTTP port is 8000; its gRPC port, 8001, is for "
            "protocol='grpc') and any proxy between",
        )


def _written(engine: Engine, request: Request) -> _Written:
    label = f"{request.method} {request.path} {request.nbytes} bytes"
    return _Written(label, engine.write(request), request)


def _beginning(reply: Reply) -> str:
    """Return the first words of a reply that is none of Triton's."""
    return bytes(reply.body[:120]).decode("utf-8", "replace")


def _said(reply: Reply) -> str | None:
    """Return what Triton says in an error, or None where it is no error of Triton's."""
    try:
        return str(json.loads(bytes(reply.body))["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _after_s(told: str) -> float:
    """Return the seconds of a ``Retry-After``, which has them or a date; 0 for anything else."""
    if told.isascii() and told.isdigit():
        return float(told)
    try:
        return max(parsedate_to_datetime(told).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0


def _model_path(model: str, version: str) -> str:
    path = f"v2/models/{_quoted(model, 'a model')}"
    return f"{path}/versions/{_quoted(version, 'a version')}" if version else path


def _quoted(name: str, what: str) -> str:
    """Return a name as one part of a path."""
    return quote(checked_name(name, what), safe="")


def _setting(name: str, values: Sequence[str] | None) -> list[str] | str | None:
    """Return a trace setting as the server's HTTP takes it: levels as a list, all else alone."""
    if values is None:
        return None
    return list(values) if name == "trace_level" else values[0]


def _region_path(kind: MemoryKind, name: str, action: str) -> str:
    return f"v2/{kind}sharedmemory/region/{quote(name, safe='')}/{action}"


class _InputOutline(NamedTuple):
    """An input as a request's head tells it: with its region, or the bytes that follow."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    place: RegionSlice | int


def _outlines(
    request: InferRequest, sizes: Iterator[int]
) -> tuple[tuple[_InputOutline, ...], tuple[RequestedOutput, ...]]:
    """Return what the head of a request tells of its tensors, as keys of a mapping.

    Parameters
    ----------
    request
        The request.
    sizes
        Of the tensors that follow it, in bytes.
    """
    inputs = tuple(
        _InputOutline(
            tensor.name, tensor.datatype, tuple(tensor.shape), tensor.region or next(sizes)
        )
        for tensor in request.inputs
    )
    return inputs, tuple(request.outputs)


def _has_options(request: InferRequest) -> bool:
    """Whether a request carries anything besides its tensors."""
    # The very objects: what a caller gave may be anything, and compare as it likes.
    options = (
        request.request_id,
        request.sequence_id,
        request.sequence_start,
        request.sequence_end,
        request.priority,
    )
    none_given = all(map(operator.is_, options, _NO_OPTIONS))
    return not (none_given and type(request.parameters) is dict and not request.parameters)


def _written_inference(
    engine: Engine,
    path: str,
    inputs: Sequence[_InputOutline],
    outputs: Sequence[RequestedOutput],
    request: InferRequest = _PLAIN,
    *,
    compression: str | None,
) -> _Written:
    """Write what comes before the tensors, with the options of `request`.

    Outputs that come over the wire may come in `compression`.
    """
    body, _ = InferenceServerClient.generate_request_body(
        [_infer_input(tensor) for tensor in inputs],
        outputs=[_requested_output(output) for output in outputs],
        request_id=request.request_id,
        sequence_id=request.sequence_id,
        sequence_start=request.sequence_start,
        sequence_end=request.sequence_end,
        priority=request.priority,
        parameters=dict(request.parameters) or None,
    )
    headers = {"Content-Type": "application/octet-stream"}
    attached = [tensor.place for tensor in inputs if isinstance(tensor.place, int)]
    if attached:
        headers[_HEADER_LENGTH] = str(len(body))
    if compression and any(output.region is None for output in outputs):
        headers["Accept-Encoding"] = compression
    return _written(engine, Request("POST", path, headers, bytes(body), sum(attached)))


class _AttachedInput(InferInput):  # type: ignore[misc]  # it has no types
    """An input as tritonclient has it after ``set_data_from_numpy``, without a copy of it all."""

    def __init__(self, name: str, shape: list[int], datatype: str, nbytes: int) -> None:
        super().__init__(name, shape, datatype)
        self._parameters["binary_data_size"] = nbytes
        self._raw_data = b""  # none in the JSON either


def _infer_input(tensor: _InputOutline) -> InferInput:
    name, datatype, shape, place = tensor
    if isinstance(place, int):
        return _AttachedInput(name, list(shape), datatype, place)
    return InferInput(name, list(shape), datatype).set_shared_memory(
        place.name, place.nbytes, place.offset
    )


def _elements(tensor: InputTensor) -> memoryview:
    """Return an array's elements as they go over the wire: its own memory, or a copy.

    Raises
    ------
    ValueError
        If the array is not what the request says.
    """
    array = np.asarray(tensor.array)
    if datatype_of(array.dtype) != tensor.datatype or array.shape != tuple(tensor.shape):
        raise ValueError(
            f"input {tensor.name!r} is {tensor.datatype} {list(tensor.shape)}, and the array "
            f"{array.dtype} {list(array.shape)}"
        )
    if array.flags.c_contiguous and array.dtype.isnative and array.dtype.kind not in TEXT_KINDS:
        return array.reshape(-1).view(np.uint8).data
    elements = np.empty(codec.encoded_nbytes(array), np.uint8).data
    codec.write(array, elements)
    return elements


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


def _listed_objects(found: Any, doing: str, key: str = "") -> list[dict[str, Any]]:
    """Return a reply that is a list of objects, or has one under a key."""
    if key:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ServerRefusedError(
            f"{doing}: the server's reply is no list of objects",
            "this is a fault of the server, or of a proxy between",
        )
    return found


def _document(text: bytes) -> Any:
    """Return a JSON document, or raise ValueError or RecursionError."""
    document = json.loads(text)
    if rb"\ud" in text.lower():  # perhaps half a character, which nothing takes
        json.dumps(document, ensure_ascii=False).encode()
    return document


class _Output(NamedTuple):
    """An output as a reply's head tells it, and where its elements are.

    They follow the head, or are listed in it, or (neither) lie in a region.
    """

    tensor: OutputTensor
    binary_nbytes: int | None
    listed: Any


class _Head(NamedTuple):
    """The JSON part of a reply."""

    model: str
    version: str
    request_id: str
    outputs: tuple[_Output, ...]


def _infer_reply(reply: Reply, sent_nbytes: int, received_nbytes: int) -> InferReply:
    """Read a reply (the server's ``docs/protocol/extension_binary_data.md``)."""
    length = reply.headers.get(_HEADER_LENGTH.lower())
    at = len(reply.body) if length is None else int(length)
    if not 0 <= at <= len(reply.body):
        raise ValueError(f"a header of {at} bytes in a body of {len(reply.body)}")
    head = _read_head(bytes(reply.body[:at]))
    binary = memoryview(reply.body)
    outputs = {}
    for tensor, nbytes, listed in head.outputs:
        array = None
        if nbytes is not None:
            data = binary[at : at + nbytes]
            # What is most of a large body keeps it: of less, a copy, which keeps nothing else.
            own = not binary.readonly and 2 * nbytes > len(binary)
            read = codec.take if own else codec.decode
            array = read(data, tensor.datatype, tensor.shape, name=tensor.name)
            at += nbytes
        elif listed is not None:
            array = _listed(tensor, listed)
        outputs[tensor.name] = tensor if array is None else tensor._replace(array=array)
    if at != len(reply.body):
        raise ValueError(f"{len(reply.body) - at} bytes after the outputs")
    return InferReply(
        head.model,
        head.version,
        head.request_id,
        outputs,
        sent_nbytes,
        received_nbytes,
        reply.moments,
    )


def _read_head(text: bytes) -> _Head:
    # A request that is sent again gets the same text again, while its tensors are in regions.
    return _read_short_head(text) if len(text) <= _SHORT_NBYTES else _parse_head(text)


def _parse_head(text: bytes) -> _Head:
    document = _document(text)
    outputs = tuple(_read_output(output) for output in document.get("outputs", ()))
    check_output_names([output.tensor.name for output in outputs])
    name, version, request_id = (
        str(document.get(key, "")) for key in ("model_name", "model_version", "id")
    )
    return _Head(name, version, request_id, outputs)


_read_short_head = lru_cache(maxsize=_KEPT)(_parse_head)


def _read_output(output: Mapping[str, Any]) -> _Output:
    name, datatype = output["name"], output["datatype"]
    shape = tuple(operator.index(dimension) for dimension in output["shape"])
    if min(shape, default=0) < 0:
        raise ValueError(f"the output {brief(name)} of the shape {brief(shape)}")
    item = item_nbytes(datatype)  # an error for what is none of Triton's
    nbytes = output.get("parameters", {}).get("binary_data_size")
    if nbytes is not None and item is not None and nbytes != item * math.prod(shape):
        raise ValueError(f"{brief(nbytes)} bytes for {datatype} {brief(shape)}")
    if nbytes is not None and operator.index(nbytes) < 0:
        raise ValueError(f"{nbytes} bytes")
    return _Output(OutputTensor(name, datatype, shape, None), nbytes, output.get("data"))


def _listed(tensor: OutputTensor, listed: Any) -> npt.NDArray[Any]:
    """Return the array of elements that a reply lists."""
    # Each on its own: NumPy would make 1 of 1.5 and of "1" where the datatype is INT32.
    elements = np.array(listed, np.object_).ravel().tolist()
    flat = codec.as_tensor(elements, TensorSpec(tensor.name, tensor.datatype, (-1,)))
    return _plain(flat).reshape(tensor.shape)
