"""Triton over gRPC.

The messages are those that tritonclient ships, the channel carries them. A request
is written once, as bytes, and its tensors travel as raw contents.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import (
    ArgumentError,
    NoReplyError,
    RegionInUseError,
    RegionKnownError,
    RegionLostError,
    ServerBusyError,
    SharedMemoryError,
    TritonicError,
    brief,
)
from tritonic_nb.tensors import codec
from tritonic_nb.tensors.dtypes import numpy_dtype
from tritonic_nb.transport.address import SSLOptions
from tritonic_nb.transport.base import (
    InferReply,
    InferRequest,
    MemoryKind,
    Moments,
    OutputTensor,
    PreparedRequest,
    RegionSlice,
)
from tritonic_nb.transport.channel import Channel
from tritonic_nb.transport.checks import (
    check_output_names,
    checked_name,
    doing_inference,
    unreadable,
)
from tritonic_nb.transport.compression import WORTH_NBYTES, checked_compression
from tritonic_nb.transport.faults import cuda_not_opened
from tritonic_nb.transport.retries import Retries

__all__ = ["GrpcTransport"]

_CONTROL_TIMEOUT_S = 30.0
_UNREGISTER_TIMEOUT_S = 5.0  # a server that hangs must not keep a session from closing
_LOAD_TIMEOUT_S = 600.0  # a large model takes minutes
_LETS_GO_S = (0.002, 0.008)  # how long to wait for the server to let go of a region
_MOST_NBYTES = 2**31 - 2**20  # of tensors in a message: protobuf ends at 2 GiB, with the rest
# Where tensors lie that are not raw; FP16 and BF16 always are.
_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_CHANGES = re.compile(r"Load|Unload|Register|Unregister|TraceSetting")  # all other calls only ask
_NONE = Retries()
_WIDER = {"int_contents": np.int32, "uint_contents": np.uint32}

_log = logging.getLogger("tritonic_nb.transport")


class GrpcTransport:
    """A :class:`~tritonic_nb.transport.base.Transport` over gRPC.

    Parameters
    ----------
    url
        ``host:port``, ``grpc://host:port`` or ``grpcs://host:port``.
    headers
        Sent with every call, such as the header that opens a restricted protocol.
    options
        For an encrypted connection.
    compression
        ``"gzip"`` or ``"deflate"`` for what tensors go over the wire, or None. Whether
        replies are compressed is a setting of the server's,
        ``--grpc-infer-response-compression-level``.
    retries
        How often a call of which nothing was done may be made again.

    Raises
    ------
    ArgumentError
        If one of them cannot be used, or what gRPC needs is not installed.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        options: SSLOptions | None = None,
        compression: str | None = None,
        retries: int = 0,
    ) -> None:
        self._retries = Retries(retries)
        self._compression = checked_compression(compression)
        self._pb = _messages()
        self._channel = Channel(url, headers, options)
        self.url = self._channel.url

    def server_metadata(self) -> dict[str, Any]:
        """``ServerMetadata``: the server's name, version and extensions."""
        reply = self._call("ServerMetadata", {}, "asking the server who it is")
        return {
            "name": reply.name,
            "version": reply.version,
            "extensions": list(reply.extensions),
        }

    def model_ready(self, model: str, version: str = "") -> bool:
        """``ModelReady``."""
        try:
            reply = self._call(
                "ModelReady", _model(model, version), f"asking whether model {model!r} is ready"
            )
        except (ArgumentError, NoReplyError, ServerBusyError):
            raise
        except TritonicError as error:
            _log.debug("%s", error)
            return False
        return bool(reply.ready)

    def model_metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """``ModelMetadata``."""
        doing = f"describing model {model!r}"
        reply: dict[str, Any] = _document(
            self._call("ModelMetadata", _model(model, version), doing)
        )
        return reply

    def model_config(self, model: str, version: str = "") -> dict[str, Any]:
        """``ModelConfig``."""
        doing = f"reading the configuration of model {model!r}"
        return _document(self._call("ModelConfig", _model(model, version), doing).config)

    def repository_index(self) -> list[dict[str, Any]]:
        """``RepositoryIndex``."""
        reply = self._call("RepositoryIndex", {}, "listing the model repository")
        return [
            {name: text for name, text in _document(model).items() if text}
            for model in reply.models
        ]

    def load_model(self, model: str) -> None:
        """``RepositoryModelLoad``."""
        self._call(
            "RepositoryModelLoad",
            {"model_name": checked_name(model, "a model")},
            f"loading model {model!r}",
            timeout_s=_LOAD_TIMEOUT_S,
        )

    def unload_model(self, model: str) -> None:
        """``RepositoryModelUnload``."""
        self._call(
            "RepositoryModelUnload",
            {"model_name": checked_name(model, "a model")},
            f"unloading model {model!r}",
        )

    def model_statistics(self, model: str, version: str = "") -> list[dict[str, Any]]:
        """``ModelStatistics``."""
        doing = f"reading the statistics of model {model!r}"
        reply = self._call("ModelStatistics", _model(model, version), doing)
        return [_document(each) for each in reply.model_stats]

    def trace_settings(self, model: str = "") -> dict[str, list[str]]:
        """``TraceSetting`` without changes."""
        doing = f"reading how requests of {f'model {model!r}' if model else 'models'} are traced"
        named = {"model_name": checked_name(model, "a model")} if model else {}
        reply = self._call("TraceSetting", named, doing)
        return {name: list(each.value) for name, each in reply.settings.items()}

    def update_trace(self, model: str, settings: Mapping[str, Sequence[str] | None]) -> None:
        """``TraceSetting``."""
        fields = {name: {"value": list(values or ())} for name, values in settings.items()}
        self._call(
            "TraceSetting",
            {"model_name": checked_name(model, "a model"), "settings": fields},
            f"changing how requests of model {model!r} are traced",
        )

    def registered_regions(self, kind: MemoryKind = "system") -> list[dict[str, Any]]:
        """``SystemSharedMemoryStatus``, or of ``Cuda``."""
        doing = f"listing the server's {kind} shared memory"
        reply = self._call(_region_method(kind, "Status"), {}, doing)
        return [_document(region) for region in reply.regions.values()]

    def register_system(self, name: str, key: str, nbytes: int, timeout_s: float) -> None:
        """``SystemSharedMemoryRegister``."""
        where = {"name": name, "key": key, "offset": 0, "byte_size": nbytes}
        self._register("system", where, timeout_s)

    def register_cuda(
        self, name: str, handle: bytes, device: int, nbytes: int, timeout_s: float
    ) -> None:
        """``CudaSharedMemoryRegister``."""
        where = {"name": name, "raw_handle": handle, "device_id": device, "byte_size": nbytes}
        try:
            self._register("cuda", where, timeout_s)
        except SharedMemoryError as error:
            raise cuda_not_opened(error, device) from error

    def _register(self, kind: MemoryKind, where: Mapping[str, Any], timeout_s: float) -> None:
        try:
            self._call(
                _region_method(kind, "Register"),
                where,
                f"registering region {where['name']!r} ({where['byte_size']} bytes)",
                timeout_s=timeout_s,
            )
        except RegionKnownError:
            _log.debug("region %s was registered already", where["name"])

    def unregister(self, name: str, kind: MemoryKind = "system") -> None:
        """``SystemSharedMemoryUnregister``, or of ``Cuda``.

        Over gRPC a reply may come a moment before the server has let go of the request's
        regions: one that is in use is asked for again.
        """
        if not name:  # Triton would unregister everybody's regions
            raise ArgumentError("a region to unregister needs a name")
        for pause_s in _LETS_GO_S:
            with contextlib.suppress(RegionInUseError):
                self._unregister(name, kind)
                return
            time.sleep(pause_s)
        self._unregister(name, kind)

    def _unregister(self, name: str, kind: MemoryKind) -> None:
        try:
            self._call(
                _region_method(kind, "Unregister"),
                {"name": name},
                f"unregistering region {name!r}",
                timeout_s=_UNREGISTER_TIMEOUT_S,
                retries=_NONE,
            )
        except RegionLostError:
            _log.debug("region %s was not registered", name)

    def unregister_call(self, name: str, kind: MemoryKind = "system") -> dict[str, object]:
        """Return what :meth:`unregister` sends, for another process to send."""
        method = _region_method(kind, "Unregister")
        message = getattr(self._pb, f"{method}Request")(name=name).SerializeToString()
        return self._channel.address(method, message)

    def prepare(self, request: InferRequest) -> PreparedRequest:
        """Write a ``ModelInferRequest``.

        Raises
        ------
        ArgumentError
            If the request's id, sequence, priority or parameters cannot be written, or
            its tensors are larger than a message.
        """
        checked_name(request.model, "a model")
        if request.version:
            checked_name(request.version, "a version")
        try:
            message = self._written(request).SerializeToString()
        except TritonicError:
            raise
        except Exception as error:  # the caller's own objects may raise anything
            raise ArgumentError(
                f"{doing_inference(request)}: the request cannot be written: {error}",
                "look at the request's id, sequence, priority and parameters: texts and numbers",
            ) from error
        return PreparedRequest(request, message, len(message))

    def infer(self, prepared: PreparedRequest, timeout_s: float) -> InferReply:
        """Send an inference and read its reply.

        Raises
        ------
        TritonicError
            As :meth:`~tritonic_nb.transport.channel.Channel.call` tells.
        """
        doing = doing_inference(prepared.request)
        begun = time.perf_counter()
        large = len(prepared.message) >= WORTH_NBYTES
        compression = self._compression if large else None
        data = self._retries.run(
            lambda left_s: self._send("ModelInfer", prepared.message, left_s, doing, compression),
            timeout_s,
        )
        ended = time.perf_counter()
        try:
            return self._infer_reply(data, prepared, Moments(begun, begun, ended, ended))
        except Exception as error:  # whatever reading it raises that is not of its form
            raise unreadable(doing, error) from error

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _call(
        self,
        method: str,
        fields: Mapping[str, Any],
        doing: str,
        timeout_s: float = _CONTROL_TIMEOUT_S,
        retries: Retries | None = None,
    ) -> Any:
        """Make a control call and return its reply's message."""
        message = getattr(self._pb, f"{method}Request")(**fields).SerializeToString()
        data = (retries or self._retries).run(
            lambda left_s: self._send(method, message, left_s, doing),
            timeout_s,
            asks_only=not _CHANGES.search(method),
        )
        try:
            return getattr(self._pb, f"{method}Response").FromString(data)
        except Exception as error:  # protobuf's own, which is no ValueError
            raise unreadable(doing, error) from error

    def _send(
        self,
        method: str,
        message: bytes,
        timeout_s: float,
        doing: str,
        compression: str | None = None,
    ) -> bytes:
        started = time.perf_counter()
        reply = self._channel.call(method, message, timeout_s, doing, compression)
        _log.debug(
            "%s %d bytes -> %d bytes, %.2f ms",
            method,
            len(message),
            len(reply),
            (time.perf_counter() - started) * 1e3,
        )
        return reply

    def _written(self, request: InferRequest) -> Any:
        """Return the request's message."""
        written = self._pb.ModelInferRequest(
            model_name=request.model, model_version=request.version, id=request.request_id
        )
        nbytes = 0
        for tensor in request.inputs:
            made = written.inputs.add(
                name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
            )
            if tensor.region is not None:
                _name_region(made.parameters, tensor.region)
            else:
                array = np.asarray(tensor.array)
                nbytes += codec.encoded_nbytes(array)
                if nbytes > _MOST_NBYTES:
                    raise ArgumentError(
                        f"{doing_inference(request)}: the tensors have {nbytes} bytes or more, and "
                        f"a message of gRPC takes {_MOST_NBYTES}",
                        "send them through shared memory, or with protocol='http'",
                    )
                written.raw_input_contents.append(_raw(array))
        for output in request.outputs:
            asked = written.outputs.add(name=output.name)
            if output.region is not None:
                _name_region(asked.parameters, output.region)
        _set_parameters(written.parameters, request)
        return written

    def _infer_reply(self, data: bytes, prepared: PreparedRequest, moments: Moments) -> InferReply:
        reply = self._pb.ModelInferResponse.FromString(data)
        check_output_names([output.name for output in reply.outputs])
        contents = list(reply.raw_output_contents)
        if contents and len(contents) != len(reply.outputs):
            raise ValueError(f"{len(contents)} contents of {len(reply.outputs)} outputs")
        raw = dict(zip((output.name for output in reply.outputs), contents, strict=False))
        in_regions = {output.name for output in prepared.request.outputs if output.region}
        return InferReply(
            model=reply.model_name,
            version=reply.model_version,
            request_id=reply.id,
            outputs={
                output.name: _output_tensor(output, raw.get(output.name), in_regions)
                for output in reply.outputs
            },
            sent_nbytes=prepared.nbytes,
            received_nbytes=len(data),
            moments=moments,
        )


def _messages() -> ModuleType:
    """Return the messages of Triton's protocol."""
    try:
        with _quiet():
            from tritonclient.grpc import service_pb2
    except (ImportError, RuntimeError) as error:  # tritonclient makes the one of the other
        raise ArgumentError(
            f"protocol 'grpc' needs packages that are not installed: {error.__cause__ or error}",
            "pip install 'tritonic-nb[grpc]', or use protocol='http'",
        ) from error
    messages: ModuleType = service_pb2
    return messages


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep gRPC from writing notes of its own to the notebook, unless somebody wants them.

    It looks once, when it is imported.
    """
    wanted = "GRPC_VERBOSITY" in os.environ
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        yield
    finally:
        if not wanted:
            os.environ.pop("GRPC_VERBOSITY", None)


def _region_method(kind: MemoryKind, action: str) -> str:
    return f"{kind.capitalize()}SharedMemory{action}"


def _model(model: str, version: str) -> dict[str, str]:
    named = {"name": checked_name(model, "a model")}
    return {**named, "version": checked_name(version, "a version")} if version else named


def _raw(array: npt.NDArray[Any]) -> bytes:
    """Return a tensor's bytes."""
    data = bytearray(codec.encoded_nbytes(array))
    codec.write(array, memoryview(data))
    return bytes(data)


def _name_region(parameters: Any, region: RegionSlice) -> None:
    parameters["shared_memory_region"].string_param = region.name
    parameters["shared_memory_byte_size"].int64_param = region.nbytes
    if region.offset:
        parameters["shared_memory_offset"].int64_param = region.offset


def _set_parameters(parameters: Any, request: InferRequest) -> None:
    """Write the parameters of a request, as tritonclient does."""
    from tritonclient.utils import (
        TRITON_RESERVED_REQUEST_PARAMS,
        TRITON_RESERVED_REQUEST_PARAMS_PREFIX,
    )

    if request.sequence_id not in (0, ""):
        in_text = isinstance(request.sequence_id, str)
        kind = "string_param" if in_text else "int64_param"
        setattr(parameters["sequence_id"], kind, request.sequence_id)
        parameters["sequence_start"].bool_param = request.sequence_start
        parameters["sequence_end"].bool_param = request.sequence_end
    if request.priority != 0:
        parameters["priority"].uint64_param = request.priority
    for name, value in dict(request.parameters).items():
        reserved = name.startswith(TRITON_RESERVED_REQUEST_PARAMS_PREFIX)
        if reserved or name in TRITON_RESERVED_REQUEST_PARAMS:
            raise ValueError(f"parameter {name!r} is one of Triton's own")
        kinds = ("bool", bool), ("int64", int), ("double", float), ("string", str)
        fitting = [kind for kind, python in kinds if isinstance(value, python)]
        if not fitting:
            raise TypeError(f"parameter {name!r} is {brief(value)}")
        setattr(parameters[name], f"{fitting[0]}_param", value)


def _output_tensor(output: Any, raw: bytes | None, in_regions: Collection[str]) -> OutputTensor:
    name, datatype, shape = output.name, output.datatype, tuple(output.shape)
    if min(shape, default=0) < 0:
        raise ValueError(f"the shape {list(shape)} of output {name!r}")
    numpy_dtype(datatype)  # or it is none of Triton's
    array: npt.NDArray[Any] | None = None
    if output.HasField("contents"):
        array = _listed(output.contents, datatype).reshape(shape)
    elif raw or (raw is not None and name not in in_regions):
        array = codec.decode(raw, datatype, shape, name=name)
        if codec.encoded_nbytes(array) != len(raw):
            raise ValueError(f"{len(raw)} bytes of output {name!r}, {datatype} {list(shape)}")
    return OutputTensor(name, datatype, shape, array)


def _listed(contents: Any, datatype: str) -> npt.NDArray[Any]:
    """Return the elements of a tensor that came as numbers."""
    field, dtype = _CONTENTS[datatype], numpy_dtype(datatype)
    came = np.array(getattr(contents, field), _WIDER.get(field, dtype))
    array = came.astype(dtype)
    if field in _WIDER and not np.array_equal(array, came):
        raise ValueError(f"numbers that are none of {datatype}")
    return array


def _document(message: Any) -> dict[str, Any]:
    """Return a message as the document that Triton's HTTP makes of it.

    Numbers of 64 bits are numbers there, and what has its default value is told, too.
    """
    return {
        field.name: _value(getattr(message, field.name), field)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _value(value: Any, field: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _value(each, field) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_value(each, field) for each in value]
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return _document(value) if hasattr(value, "DESCRIPTOR") else value
