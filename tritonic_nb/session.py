"""The session: the one object that a notebook works with."""

from __future__ import annotations

import difflib
import logging
import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol

import numpy.typing as npt

from tritonic_nb import render
from tritonic_nb.errors import (
    ArgumentError,
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    NoSpaceError,
    RegionLostError,
    RegionTooSmallError,
    RestrictedApiError,
    SessionClosedError,
    SharedMemoryError,
    TensorShapeError,
    TritonicError,
)
from tritonic_nb.images import ImageTransform
from tritonic_nb.inputs import check_batch_size, prepare, transform_of
from tritonic_nb.memory import Region, RegionDescriptor, SharedMemoryType, require_supported
from tritonic_nb.regions import RegionSet, answered
from tritonic_nb.result import InferenceResult, TensorPlace, Timings
from tritonic_nb.tensors import ModelSpec, TensorSpec, codec
from tritonic_nb.transport import (
    HttpTransport,
    InferReply,
    InferRequest,
    InputTensor,
    RegionSlice,
    RequestedOutput,
    SSLOptions,
    Transport,
)

__all__ = ["ModelStatus", "ServerAddress", "Session"]

_LONGEST_TIMEOUT_S = 1e6  # eleven days

_log = logging.getLogger("tritonic_nb.session")


class ServerAddress(Protocol):
    """What a session needs to know of a server that is given as an object."""

    @property
    def url(self) -> str:
        """``host:port``."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers to send with every request."""


@dataclass(frozen=True)
class ModelStatus:
    """A model in the server's repository.

    Attributes
    ----------
    name, version
        As the server lists them; the version is empty while it is not loaded.
    state
        ``"READY"``, ``"LOADING"``, ``"UNLOADING"``, ``"UNAVAILABLE"`` or, never
        loaded, ``""``.
    reason
        Why it is unavailable.
    """

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


class Session:
    """Inference through shared memory with one Triton server.

    Parameters
    ----------
    server
        The server's address, ``"localhost:8000"`` or with ``http://`` or
        ``https://``; or an object with ``url`` and ``headers``, such as the
        :class:`~tritonic_nb.Server` that :func:`~tritonic_nb.serve` gives.
    model, version
        The model to use; None to choose later with :meth:`use`. Version
        ``""`` lets the server choose.
    shared_memory
        How tensors travel: ``"system"``, ``"cuda"``, ``"none"`` (over the
        wire) or ``"auto"``.
    output_shared_memory
        The same for outputs, where it differs from the inputs.
    device
        The CUDA device, for CUDA shared memory.
    timeout
        The time limit of one inference, in seconds. Loading a model has its own,
        of ten minutes.
    verbose
        Log every request, register and unregister (logger ``tritonic_nb``)
        to the notebook or terminal; from then on, for the whole process.
    headers
        Sent with every request, such as the header that opens a restricted API.
    ssl
        True for an encrypted connection, or how it is made.
    load
        Whether a model that is not loaded is loaded on demand. By default it
        is on a server given as an object (one of yours), and not at an address.

    Raises
    ------
    ServerUnreachableError
        If no Triton answers there.
    ModelNotFoundError, ModelNotReadyError, ModelLoadError
        If the model cannot be used.
    SharedMemoryUnsupportedError, NoCudaDeviceError
        If this machine has no shared memory of that kind.
    ArgumentError
        If an argument is of the wrong form.

    Notes
    -----
    A session can be used from several threads; their inferences take turns.
    What it holds, in ``/dev/shm`` and at the server, goes with :meth:`close`,
    at the end of a ``with`` block, when it is garbage-collected, or when the
    interpreter exits. After an error it can be used as before.

    Examples
    --------
    >>> with tritonic_nb.serve() as server:
    ...     with Session(server, model="simple") as session:
    ...         x = np.arange(16, dtype=np.int32)[np.newaxis]
    ...         result = session.infer(INPUT0=x, INPUT1=x)
    >>> result["OUTPUT0"][0, :4]
    array([0, 2, 4, 6], dtype=int32)
    """

    def __init__(
        self,
        server: str | ServerAddress,
        model: str | None = None,
        *,
        version: str = "",
        shared_memory: SharedMemoryType | str = SharedMemoryType.SYSTEM,
        output_shared_memory: SharedMemoryType | str | None = None,
        device: int = 0,
        timeout: float = 60.0,
        verbose: bool = False,
        headers: Mapping[str, str] | None = None,
        ssl: SSLOptions | bool = False,
        load: bool | None = None,
    ) -> None:
        if verbose:
            _log_to_stream()
        url, own_headers = _address(server)
        options = SSLOptions() if ssl is True else ssl or None
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._owner = server  # kept: a Server that nobody holds stops
        self._timeout_s = _checked_timeout(timeout)
        self._load = not isinstance(server, str) if load is None else load
        self._auto_refused: TritonicError | None = None
        self._set_kinds(shared_memory, device, output_shared_memory)
        self._transport: Transport = HttpTransport(url, {**own_headers, **(headers or {})}, options)
        self._regions = RegionSet(self._transport)
        self._model: ModelSpec | None = None
        # The largest size seen of each output whose size the model does not tell.
        self._learned: dict[str, int] = {}
        self._finalizer = weakref.finalize(
            self, _close_forgotten, self._regions, self._transport, self._pid
        )
        try:
            self._server = self._transport.server_metadata()
            if model is not None:
                self.use(model, version)
        except BaseException:
            self.close()
            raise

    # The model

    @property
    def model_info(self) -> ModelSpec:
        """The model in use: inputs, outputs, datatypes, shapes, batch limit, backend, state.

        Raises
        ------
        ArgumentError
            If none was chosen yet.
        """
        if self._model is None:
            raise ArgumentError("no model is chosen", "choose one: session.use(MODEL)")
        return self._model

    @property
    def transform(self) -> ImageTransform | None:
        """How a picture becomes this model's input, or None where it takes no picture.

        Taken from the model's ``image_transform`` parameter and else derived
        from its shape and datatype.

        Raises
        ------
        ImageError
            If the parameter cannot be read.
        """
        return transform_of(self.model_info)

    def models(self) -> tuple[ModelStatus, ...]:
        """Return the models of the server's repository, loaded or not.

        Raises
        ------
        RestrictedApiError
            If the server keeps its repository to itself.
        """
        with self._open():
            index = self._transport.repository_index()
        fields = ("name", "version", "state", "reason")
        return tuple(ModelStatus(*(str(entry.get(f, "")) for f in fields)) for entry in index)

    def use(self, model: str, version: str = "", *, load: bool | None = None) -> ModelSpec:
        """Choose the model that :meth:`infer` asks.

        Regions of the model before are removed. If it fails, that model stays.

        Parameters
        ----------
        model, version
            The model; version ``""`` lets the server choose.
        load
            Whether to load it if it is not loaded; by default as the session does.

        Raises
        ------
        ModelNotFoundError, ModelNotReadyError, ModelLoadError
            If the model cannot be used.
        """
        if not isinstance(model, str) or not model:
            raise ArgumentError(f"{model!r} is no model's name", "give a name, see models()")
        with self._open():
            spec = self._describe(model, str(version), self._load if load is None else load)
            self._regions.retire(self._regions)
            self._learned.clear()
            self._model = spec
            _log.debug("using %s: %s", model, spec)
            return spec

    def load(self, model: str | None = None) -> None:
        """Load a model, or load it again after its files changed.

        Parameters
        ----------
        model
            By default the model in use.

        Raises
        ------
        ModelNotFoundError, ModelLoadError, RestrictedApiError
            If the server does not.
        """
        with self._open():
            name = self.model_info.name if model is None else model
            self._transport.load_model(name)
            if self._model is not None and self._model.name == name:
                self.use(name, self._model.version)

    def unload(self, model: str | None = None) -> None:
        """Unload a model; the next :meth:`use` or :meth:`load` brings it back.

        Parameters
        ----------
        model
            By default the model in use.
        """
        with self._open():
            name = self.model_info.name if model is None else model
            self._transport.unload_model(name)
            if self._model is not None and self._model.name == name:
                self._regions.retire(self._regions)
                self._model = replace(self._model, state="UNAVAILABLE")

    def _describe(self, model: str, version: str, load: bool) -> ModelSpec:
        if not self._transport.model_ready(model, version):
            self._make_ready(model, version, load)
        metadata = self._transport.model_metadata(model, version)
        try:
            config = self._transport.model_config(model, version)
        except RestrictedApiError:
            config = None
        return ModelSpec.from_server(metadata, config, version=version)

    def _make_ready(self, model: str, version: str, load: bool) -> None:
        try:
            listed = self.models()
        except RestrictedApiError as error:
            if load:
                self._transport.load_model(model)
                return
            raise ModelNotReadyError(
                f"model {model!r} is not ready, and the server does not tell whether it has it",
                f"check the name; {error.remedy}",
            ) from error
        found = [m for m in listed if m.name == model]
        if not found:
            names = sorted({m.name for m in listed})
            close = difflib.get_close_matches(model, names, n=1)
            raise ModelNotFoundError(
                f"the server's repository has no model {model!r}",
                (f"did you mean {close[0]!r}? " if close else "")
                + f"It has {', '.join(names) or 'no models'}",
            )
        ready = [m.version for m in found if m.state == "READY"]
        if version and ready:
            raise ModelNotFoundError(
                f"model {model!r} has no version {version!r} that is loaded",
                f"use version {' or '.join(ready)}, or '' for the server's choice",
            )
        if not load:
            reason = next((f" ({m.state}: {m.reason})" for m in found if m.reason), "")
            raise ModelNotReadyError(
                f"model {model!r} is not loaded{reason}",
                f"load it: Session(..., load=True), or session.load({model!r}) first",
            )
        try:
            self._transport.load_model(model)
        except ModelNotFoundError as error:  # though it is listed
            raise ModelLoadError(
                error.message,
                "its configuration or folder cannot be read; the server's log tells why "
                "(server.log for an embedded one)",
            ) from error

    # Shared memory

    @property
    def shared_memory(self) -> SharedMemoryType:
        """How inputs travel. ``AUTO`` turns to ``NONE`` where the server refuses regions."""
        return self._effective(self._kinds["input"])

    @property
    def output_shared_memory(self) -> SharedMemoryType:
        """How outputs travel."""
        return self._effective(self._kinds["output"])

    @property
    def device(self) -> int:
        """The CUDA device for CUDA shared memory."""
        return self._device

    def set_shared_memory(
        self,
        kind: SharedMemoryType | str,
        device: int = 0,
        *,
        output: SharedMemoryType | str | None = None,
    ) -> None:
        """Switch how tensors travel, from the next inference on.

        The regions of before are removed. If it fails, all stays as it was.

        Parameters
        ----------
        kind
            ``"system"``, ``"cuda"``, ``"none"`` or ``"auto"``.
        device
            The CUDA device.
        output
            The same for outputs, where it differs.

        Raises
        ------
        ArgumentError
            If there is no such kind.
        SharedMemoryUnsupportedError, NoCudaDeviceError
            If this machine has no such memory.
        """
        with self._open():
            self._set_kinds(kind, device, output)
            self._auto_refused = None
            self._regions.retire(self._regions)

    @property
    def regions(self) -> tuple[RegionDescriptor, ...]:
        """The regions that the session has now, inputs and outputs."""
        # Without the lock: it can be asked, and the session be shown, during an inference.
        return tuple(region.describe() for region in list(self._regions))

    def register_inputs(
        self,
        shapes: Mapping[str, Sequence[int]] | None = None,
        *,
        batch: int = 1,
        nbytes: Mapping[str, int] | None = None,
    ) -> tuple[RegionDescriptor, ...]:
        """Make and register the regions of all inputs beforehand.

        :meth:`infer` does it when needed; doing it before keeps the first
        inference as quick as the others. Over the wire there is nothing to do.

        Parameters
        ----------
        shapes
            The whole shape of inputs with dynamic dimensions.
        batch
            The batch to make room for.
        nbytes
            The bytes of ``BYTES`` inputs, lengths included (4 for each element).

        Raises
        ------
        TensorShapeError
            If a size is not known, or a shape does not fit the model.
        NoSpaceError, RegionNotVisibleError, SharedMemoryDisabledError, RestrictedApiError
            If the regions cannot be had; none is left.
        """
        return self._register_all("input", self.model_info.inputs, shapes, batch, nbytes)

    def register_outputs(
        self,
        shapes: Mapping[str, Sequence[int]] | None = None,
        *,
        batch: int = 1,
        nbytes: Mapping[str, int] | None = None,
    ) -> tuple[RegionDescriptor, ...]:
        """Make and register the regions of all outputs beforehand.

        Parameters and errors as for :meth:`register_inputs`.
        """
        return self._register_all("output", self.model_info.outputs, shapes, batch, nbytes)

    def unregister(self) -> None:
        """Unregister and remove all regions. The next inference makes new ones."""
        with self._open():
            self._regions.retire(self._regions)

    def _register_all(
        self,
        direction: str,
        specs: Mapping[str, TensorSpec],
        shapes: Mapping[str, Sequence[int]] | None,
        batch: int,
        nbytes: Mapping[str, int] | None,
    ) -> tuple[RegionDescriptor, ...]:
        with self._open():
            for name in (*(shapes or {}), *(nbytes or {})):
                getattr(self.model_info, direction)(name)
            check_batch_size(self.model_info, batch)
            for name, shape in (shapes or {}).items():
                if specs[name].batched and len(shape):
                    check_batch_size(self.model_info, shape[0])
            sizes = {
                name: _known_nbytes(spec, (shapes or {}).get(name), batch, (nbytes or {}).get(name))
                for name, spec in specs.items()
            }
            had = {region.name for region in self._regions}
            try:
                made = [
                    self._place(direction, name, size, self._timeout_s)
                    for name, size in sizes.items()
                ]
            except TritonicError:
                self._regions.retire([r for r in self._regions if r.name not in had])
                raise
            return tuple(region.describe() for region in made if region is not None)

    def _place(self, direction: str, tensor: str, nbytes: int, timeout_s: float) -> Region | None:
        """Return a region with room for a tensor, or None where it goes over the wire."""
        kind = self._effective(self._kinds[direction])
        # Triton refuses a zero-byte tensor in shared memory and takes it over the wire.
        if kind is SharedMemoryType.NONE or nbytes == 0:
            return None
        auto = kind is SharedMemoryType.AUTO
        try:
            return self._regions.ensure(
                direction,
                tensor,
                nbytes,
                SharedMemoryType.SYSTEM if auto else kind,
                self._device,
                timeout_s=timeout_s,
            )
        except (SharedMemoryError, RestrictedApiError) as error:
            if not auto:
                raise
            if not isinstance(error, NoSpaceError):  # which may be another by the next time
                self._auto_refused = error
            _log.warning("%s %r goes over the wire: %s", direction, tensor, error.message)
            return None

    def _effective(self, kind: SharedMemoryType) -> SharedMemoryType:
        refused = kind is SharedMemoryType.AUTO and self._auto_refused is not None
        return SharedMemoryType.NONE if refused else kind

    def _set_kinds(
        self,
        kind: SharedMemoryType | str,
        device: int,
        output: SharedMemoryType | str | None,
    ) -> None:
        kinds = {
            "input": SharedMemoryType.parse(kind),
            "output": SharedMemoryType.parse(kind if output is None else output),
        }
        if not isinstance(device, int) or device < 0:
            raise ArgumentError(f"device {device!r} is not a device number", "count from 0")
        for each in set(kinds.values()):
            require_supported(each, device)
        self._kinds, self._device = kinds, device

    # Inference

    def infer(
        self,
        inputs: Any = None,
        /,
        *,
        outputs: Sequence[str] | None = None,
        transform: ImageTransform | str | None = None,
        copy: bool = True,
        timeout: float | None = None,
        request_id: str = "",
        sequence_id: int | str = 0,
        sequence_start: bool = False,
        sequence_end: bool = False,
        priority: int = 0,
        parameters: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> InferenceResult:
        """Run the model once.

        Parameters
        ----------
        inputs
            Arrays by name; or, for a model with one input, the array alone.
            Arrays must have the model's datatype and rank; lists of numbers are
            converted if they fit. An input that looks like a picture also takes
            one: a path, a ``PIL.Image``, the bytes of a file, an array of pixels
            (``[H, W]`` or ``[H, W, channels]`` of uint8, floats from 0 to 1, or
            bool; of uint8 also with the channels first), or a list of these,
            which becomes a batch.
        outputs
            The outputs to ask for; all by default.
        transform
            How a picture becomes the tensor: an :class:`ImageTransform`, the
            name of a preset, or None for :attr:`transform`.
        copy
            False gives read-only views of shared memory, without a copy, where
            an output came through it (``BYTES`` are always copies). They stay
            readable for as long as they are kept; the session uses another
            region meanwhile.
        timeout
            The time limit in seconds for all that the server is asked, where it
            differs from the session's.
        request_id, sequence_id, sequence_start, sequence_end, priority, parameters
            As Triton's protocol has them. A `sequence_id` other than 0 makes
            the request part of a sequence.
        named
            Arrays by name, as an alternative to a mapping.

        Returns
        -------
        InferenceResult
            The outputs by name, with timings and how each tensor travelled.

        Raises
        ------
        TensorNameError, TensorDatatypeError, TensorShapeError, BatchSizeError
            If the inputs do not fit the model.
        ImageReadError, ImageTooLargeError
            If a picture cannot be used.
        NoSpaceError, RegionNotVisibleError, SharedMemoryDisabledError, RestrictedApiError
            If the shared memory cannot be had.
        ServerUnreachableError, ServerTimeoutError, ServerRefusedError, ModelNotReadyError
            If there is no reply, or a refusal.
        ModelFailedError
            If the model's own code failed.
        ArgumentError, SessionClosedError
            If an option is of the wrong form, or the session was closed.

        Notes
        -----
        An output whose size the model does not tell comes over the wire the
        first time and through a region of its size from then on. If it
        outgrows that, Triton runs the model and refuses to hand over the
        result; the region is grown and the request sent again (never for a
        model with sequences, whose unsized outputs stay on the wire).
        """
        with self._open():
            watch = _Stopwatch(self._timeout_s if timeout is None else _checked_timeout(timeout))
            prepared = prepare(self.model_info, inputs, named, transform)
            wanted = self._wanted(outputs)
            watch.lap("prepare")
            request = InferRequest(
                model=self.model_info.name,
                version=self.model_info.version,
                inputs=[self._input(n, array, watch) for n, array in prepared.tensors.items()],
                outputs=[self._requested(spec, prepared.batch, watch) for spec in wanted],
                request_id=request_id,
                sequence_id=sequence_id,
                sequence_start=sequence_start,
                sequence_end=sequence_end,
                priority=priority,
                parameters=parameters or {},
            )
            watch.lap("copy_in")
            request, reply = self._exchange(request, watch)
            watch.lap("request")
            arrays = self._collect(request, reply, copy=copy)
            watch.lap("copy_out")
            self._regions.settle()  # the server answers: a good time for what it is owed
            return InferenceResult(
                model=reply.model or request.model,
                version=reply.version,
                request_id=reply.request_id,
                outputs=arrays,
                timings=watch.timings(),
                places=_places(request, prepared.tensors, arrays),
                wire_nbytes=reply.sent_nbytes + reply.received_nbytes,
                images=prepared.images,
                transform=prepared.transform,
                labels=self.model_info.labels,
            )

    def _wanted(self, names: Sequence[str] | None) -> list[TensorSpec]:
        if isinstance(names, str):
            names = (names,)
        if names is not None and not names:
            raise ArgumentError("no output is asked for", "leave outputs out to get all of them")
        specs = self.model_info.outputs
        return list(specs.values()) if names is None else [self.model_info.output(n) for n in names]

    def _input(self, name: str, array: npt.NDArray[Any], watch: _Stopwatch) -> InputTensor:
        spec = self.model_info.input(name)
        region = self._place("input", name, codec.encoded_nbytes(array), watch.left_s())
        if region is None:
            return InputTensor(name, spec.datatype, array.shape, array=array)
        nbytes = region.write(array)
        return InputTensor(name, spec.datatype, array.shape, region=_slice(region, nbytes))

    def _requested(self, spec: TensorSpec, batch: int, watch: _Stopwatch) -> RequestedOutput:
        shape = spec.concrete_shape(batch=batch)
        nbytes = spec.nbytes_of(shape) if shape is not None else None
        if nbytes is None:
            had = self._regions.get("output", spec.name)
            learned = 0 if self.model_info.stateful else self._learned.get(spec.name, 0)
            nbytes = max(learned, had.slot_nbytes if had else 0)
        region = self._place("output", spec.name, nbytes, watch.left_s())
        if region is None:
            return RequestedOutput(spec.name)
        return RequestedOutput(spec.name, _slice(region, nbytes))

    def _exchange(
        self, request: InferRequest, watch: _Stopwatch
    ) -> tuple[InferRequest, InferReply]:
        """Send a request, again where the regions had to be mended first."""
        registered_again = False
        while True:  # each turn mends something, or raises
            try:
                return request, self._send(request, watch.left_s())
            except RegionLostError:
                if registered_again:
                    raise
                _log.info("the server lost the session's regions; registering them again")
                self._regions.register_again(watch.left_s())
                registered_again = True
            except RegionTooSmallError as error:
                if self.model_info.stateful:
                    raise
                request = self._grown(request, error, watch)

    def _send(self, request: InferRequest, timeout_s: float) -> InferReply:
        try:
            return self._transport.infer(request, timeout_s)
        except BaseException as error:
            if not answered(error):  # the server may still be at it, reading and writing
                slices = [t.region for t in request.inputs] + [t.region for t in request.outputs]
                names = {part.name for part in slices if part}
                self._regions.abandon([r for r in self._regions if r.name in names])
            raise

    def _grown(
        self, request: InferRequest, error: RegionTooSmallError, watch: _Stopwatch
    ) -> InferRequest:
        """Return the request with a larger region for the output that did not fit."""
        by_name = {output.name: output.region for output in request.outputs}
        region = by_name.get(error.tensor)
        if region is None or region.nbytes >= error.needed_nbytes:
            raise error
        # Twice as much as now, so that outputs that grow little by little do not
        # cost a second inference each time.
        size = max(error.needed_nbytes, 2 * region.nbytes)
        self._learned[error.tensor] = size
        placed = self._place("output", error.tensor, size, watch.left_s())
        by_name[error.tensor] = _slice(placed, size) if placed else None
        outputs = [RequestedOutput(name, part) for name, part in by_name.items()]
        return replace(request, outputs=outputs)

    def _collect(
        self, request: InferRequest, reply: InferReply, *, copy: bool
    ) -> dict[str, npt.NDArray[Any]]:
        """Return the reply's arrays, from the wire and from the regions."""
        arrays = {}
        for requested in request.outputs:
            name = requested.name
            if name not in reply.outputs:  # a model may leave an output out
                continue
            output = reply.outputs[name]
            array = output.array
            region = self._regions.get("output", name)
            if array is None and requested.region is not None and region is not None:
                array = region.read(
                    output.datatype, output.shape, nbytes=requested.region.nbytes, copy=copy
                )
            if array is None:
                raise SharedMemoryError(
                    f"output {name!r} of model {request.model!r} came neither over the wire nor "
                    "in a region",
                    "this is a fault of the server; use shared_memory='none'",
                )
            self._learned[name] = max(self._learned.get(name, 0), codec.encoded_nbytes(array))
            arrays[name] = array
        return arrays

    # The end

    @property
    def closed(self) -> bool:
        """Whether the session was closed."""
        return not self._finalizer.alive

    def close(self) -> None:
        """Unregister and remove everything the session holds; safe to repeat.

        In a forked child it does nothing: all of it is still the parent's.
        """
        if self._pid != os.getpid():
            return
        with self._lock:
            if not self.closed:
                _close(self._regions, self._transport)
                self._finalizer.detach()  # last: interrupted, it can be closed again

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Hold the lock of a session that is open."""
        if self._pid != os.getpid():  # before the lock, which nobody would ever let go here
            raise SessionClosedError(
                f"this session with {self._transport.url} belongs to the process that this one was "
                "forked from: both would write to the same memory",
                "open a new Session in this process",
            )
        with self._lock:
            if self.closed:
                raise SessionClosedError(
                    f"this session with {self._transport.url} was closed", "open a new Session"
                )
            yield

    # What it says of itself

    def __repr__(self) -> str:
        return render.plain(*self._described())

    def _repr_html_(self) -> str:
        return render.card(*self._described())

    def _described(self) -> tuple[str, list[tuple[str, str]], list[render.Table]]:
        rows = [("server", f"{self._transport.url}, Triton {self._server.get('version', '?')}")]
        model = self._model
        tables = []
        if model is not None:
            batch = f", batches up to {model.max_batch_size}" if model.max_batch_size else ""
            state = "" if self.closed else f", {model.state.lower()}"
            rows.append(("model", f"{model.name} ({model.backend}{batch}{state})"))
            rows += [("input", str(spec)) for spec in model.inputs.values()]
            rows += [("output", str(spec)) for spec in model.outputs.values()]
        rows.append(("shared memory", self._shared_memory_text()))
        regions = self.regions
        if regions:
            columns = ("tensor", "key", "bytes", "state")
            cells = [
                (f"{r.direction} {r.tensor}", r.key, render.human_bytes(r.nbytes), r.state)
                for r in regions
            ]
            tables.append(render.Table("regions", columns, cells, numeric=(2,)))
        return f"Session{' (closed)' if self.closed else ''}", rows, tables

    def _shared_memory_text(self) -> str:
        kinds = [str(self.shared_memory), str(self.output_shared_memory)]
        text = kinds[0] if kinds[0] == kinds[1] else f"{kinds[0]}, outputs {kinds[1]}"
        if self._auto_refused is not None:
            text += f" (auto: {self._auto_refused.message})"
        return text


class _Stopwatch:
    """Laps in milliseconds, and the time that is left."""

    def __init__(self, limit_s: float) -> None:
        self._started = self._last = time.perf_counter()
        self._limit_s = limit_s
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._laps[f"{name}_ms"] = (now - self._last) * 1e3
        self._last = now

    def left_s(self) -> float:
        return max(0.001, self._limit_s - (time.perf_counter() - self._started))

    def timings(self) -> Timings:
        return Timings(**self._laps, total_ms=(self._last - self._started) * 1e3)


def _address(server: str | ServerAddress) -> tuple[str, dict[str, str]]:
    if isinstance(server, str):
        return server, {}
    try:
        return server.url, dict(server.headers)
    except AttributeError as error:
        raise ArgumentError(
            f"{type(server).__name__} is not a server: {error}",
            "give 'host:port', or a Server as tritonic_nb.serve() gives",
        ) from error


def _checked_timeout(timeout: float) -> float:
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_TIMEOUT_S or isinstance(timeout, str):
        raise ArgumentError(
            f"timeout {timeout!r} is no number of seconds above 0 and up to {_LONGEST_TIMEOUT_S:g}",
            "give seconds, such as 60",
        )
    return seconds


def _known_nbytes(
    spec: TensorSpec, shape: Sequence[int] | None, batch: int, nbytes: int | None
) -> int:
    """Return the bytes to register for a tensor.

    Raises
    ------
    TensorShapeError
        If the model and the arguments together do not tell.
    """
    if nbytes is not None:
        if not isinstance(nbytes, int) or nbytes < 0:
            raise TensorShapeError(
                f"{spec.name!r} cannot have {nbytes!r} bytes", "give a whole number, 0 or more"
            )
        return nbytes
    concrete = spec.concrete_shape(batch=batch, shape=shape)
    known = spec.nbytes_of(concrete) if concrete is not None else None
    if known is not None:
        return known
    if spec.datatype == "BYTES":
        raise TensorShapeError(
            f"the size of {spec} is not known: BYTES elements have any length",
            f"pass nbytes={{{spec.name!r}: 1000}}, or how many it takes: 4 and its length for each "
            "element",
        )
    raise TensorShapeError(
        f"the size of {spec} is not known: it has dynamic dimensions",
        f"pass shapes={{{spec.name!r}: (...)}} with the whole shape",
    )


def _slice(region: Region, nbytes: int) -> RegionSlice:
    return RegionSlice(region.name, region.offset(0), nbytes)


def _places(
    request: InferRequest,
    inputs: Mapping[str, npt.NDArray[Any]],
    outputs: Mapping[str, npt.NDArray[Any]],
) -> dict[tuple[str, str], TensorPlace]:
    places = {}
    regions: dict[tuple[str, str], RegionSlice | None] = {
        **{("input", tensor.name): tensor.region for tensor in request.inputs},
        **{("output", output.name): output.region for output in request.outputs},
    }
    arrays = {("input", n): a for n, a in inputs.items()}
    arrays |= {("output", n): a for n, a in outputs.items()}
    for key, array in arrays.items():
        region = regions.get(key)
        nbytes = codec.encoded_nbytes(array)
        places[key] = TensorPlace(key[0], nbytes, region.name if region else "")
    return places


def _close(regions: RegionSet, transport: Transport) -> None:
    try:
        regions.close()
    finally:
        transport.close()


def _close_forgotten(regions: RegionSet, transport: Transport, owner_pid: int) -> None:
    """Close what a session left open when it was collected, or at exit."""
    if os.getpid() != owner_pid:  # a forked child: all of it is still its parent's
        return
    warnings.warn(
        f"a Session with {transport.url} was never closed; use `with`, or close()",
        ResourceWarning,
        stacklevel=2,
    )
    _close(regions, transport)


def _log_to_stream() -> None:
    """Show the package's log, once, however many sessions are verbose."""
    logger = logging.getLogger("tritonic_nb")
    logger.setLevel(logging.DEBUG)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        logger.addHandler(handler)
