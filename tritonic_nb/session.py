"""The session: the one object that a notebook works with."""

from __future__ import annotations

import logging
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial, wraps
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, cast, overload

import numpy.typing as npt

from tritonic_nb import flight, measuring, render, spread
from tritonic_nb.attribute import attribute
from tritonic_nb.call import Call, Link, Options, Setup, Stopwatch, checked_timeout, places_of
from tritonic_nb.choice import Choice, choose, try_region
from tritonic_nb.crew import crew_of
from tritonic_nb.errors import (
    ArgumentError,
    ModelError,
    ModelNotFoundError,
    ModelNotReadyError,
    NoSpaceError,
    RegionLostError,
    RegionTooSmallError,
    RestrictedApiError,
    ServerRefusedError,
    SessionClosedError,
    SharedMemoryError,
    TensorNameError,
    TritonicError,
    brief,
    check_whole,
)
from tritonic_nb.examples import example_inputs
from tritonic_nb.frames import open_frames
from tritonic_nb.images import ImageTransform
from tritonic_nb.inputs import OPTIONS, Prepared, noted, prepare, transform_of
from tritonic_nb.leftovers import Leftovers, ServerRegion, find_leftovers, server_regions
from tritonic_nb.measuring import Advice, Bench, Comparison, Explanation, Sweep
from tritonic_nb.memory import (
    Region,
    RegionDescriptor,
    RegionListing,
    SharedMemoryType,
    Tensor,
    device_uuids,
    require_supported,
)
from tritonic_nb.models import ModelStatus, checked_model, described, models_of
from tritonic_nb.monitoring import (
    Devices,
    EventHook,
    Recording,
    descendants,
    device_holders_text,
    devices,
    holders_text,
    with_cuda_indices,
)
from tritonic_nb.preflight import PoolOwner, Preflight, preflight
from tritonic_nb.recipe import ServerPlace, SessionSpec
from tritonic_nb.regions import Need, RegionSet, Slot, answered
from tritonic_nb.result import InferenceResult
from tritonic_nb.routine import ReadyRequest, Routine, pattern_of, plain_arrays
from tritonic_nb.sizes import TensorSize, sizes_of
from tritonic_nb.tensors import ModelSpec, TensorSpec, codec
from tritonic_nb.transport import (
    InferReply,
    InferRequest,
    PreparedRequest,
    SSLOptions,
    Transport,
    connect,
    protocol_for,
)
from tritonic_nb.views import InputViews
from tritonic_nb.watching import watch_session
from tritonic_nb.workers import InferenceFuture, Workers

if TYPE_CHECKING:  # ipywidgets is imported when something is shown
    from tritonic_nb.widgets.monitor import Monitor
    from tritonic_nb.widgets.namespace import SessionWidgets
    from tritonic_nb.widgets.panel import Panel

__all__ = ["ServerAddress", "Session"]

_MOST_TENSORS_SHOWN = 8  # of each kind, in what a session says of itself
_MOST_GROWTHS = 3  # of an output in one inference; each runs the model once more

_P = ParamSpec("_P")

_log = logging.getLogger("tritonic_nb.session")


def _noted(
    infer: Callable[Concatenate[Session, _P], InferenceResult],
) -> Callable[Concatenate[Session, _P], InferenceResult]:
    """Tell those who watch of each inference; while nobody does it costs next to nothing."""

    @wraps(infer)
    def told(session: Session, /, *args: _P.args, **kwargs: _P.kwargs) -> InferenceResult:
        if not session._events.watched:
            return infer(session, *args, **kwargs)
        try:
            result = infer(session, *args, **kwargs)
        except BaseException as error:
            session._events.note_error(error)
            raise
        session._events.note_inference()
        return result

    return told


class ServerAddress(Protocol):
    """What a session needs to know of a server that is given as an object."""

    @property
    def url(self) -> str:
        """``host:port``."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers to send with every request."""

    # For ``protocol="grpc"`` it has a ``grpc_url``, too.


class Session(render.Described):
    """Inference through shared memory with one Triton server.

    Parameters
    ----------
    server
        The server's address, ``"localhost:8000"`` or with ``http://``,
        ``https://``, ``grpc://`` or ``grpcs://``; or an object with ``url`` (for
        gRPC, ``grpc_url``) and ``headers``, such as the
        :class:`~tritonic_nb.Server` that :func:`~tritonic_nb.serve` gives.
    model, version
        The model to use; None to choose later with :meth:`use`. Version
        ``""`` lets the server choose.
    shared_memory
        How tensors travel: ``"system"``, ``"cuda"``, ``"none"`` (over the
        wire) or ``"auto"``: on connecting it is tried which of them works with this
        server, and :attr:`shared_memory_reason` tells what came of it. The others are
        strict: what cannot be had is an error.
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
    protocol
        ``"http"`` or ``"grpc"``, which needs ``pip install 'tritonic-nb[grpc]'`` and
        has another port, Triton's 8001. An address with ``grpc://`` means it.
    load
        Whether a model that is not loaded is loaded on demand. By default it
        is on a server given as an object (one of yours), and not at an address.
        The same holds for one that a server, restarted, does not have any more.
    mode
        The permissions of the regions' files. A server that runs as another
        user needs ``0o666`` (or ``0o660`` and a common group), and then others
        on this machine can read and change the tensors.
    in_flight
        How many requests of :meth:`submit`, and of each :meth:`map` and
        :meth:`stream`, are on their way at the same time, from 1 to 256. Each has
        regions of its own.
    compression
        ``"gzip"`` or ``"deflate"``: makes what tensors go over the wire smaller, where a slow
        network costs more than the processor's time on both sides: those of requests from
        64 KiB on, and over HTTP those of replies (over gRPC that is a setting of the
        server's). Masks, texts and pictures of 8 bits shrink well, activations in FP32
        hardly. Nothing in shared memory is compressed.
    retries
        How often a request is sent again, from 0 to 100, after pauses from 0.1 s up to 5 s
        within its time limit, where that can do nothing twice: it never left, or the server,
        or a gateway before it, said that it was too busy; never an inference that it may
        have begun with.

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
    A session can be used from several threads. Their inferences are in flight at
    the same time, each with regions of its own, and wait for one another only
    where there is no memory for more.

    What it holds, in ``/dev/shm`` and at the server, goes with :meth:`close`, at
    the end of a ``with`` block, when it is garbage-collected, or when the
    interpreter exits; a small process sees to it where the interpreter is
    killed. After an error it can be used as before.

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
        shared_memory: SharedMemoryType | str = SharedMemoryType.AUTO,
        output_shared_memory: SharedMemoryType | str | None = None,
        device: int = 0,
        timeout: float = 60.0,
        verbose: bool = False,
        headers: Mapping[str, str] | None = None,
        ssl: SSLOptions | bool = False,
        protocol: str = "http",
        load: bool | None = None,
        mode: int = 0o600,
        in_flight: int = 4,
        compression: str | None = None,
        retries: int = 0,
    ) -> None:
        if verbose:
            _log_to_stream()
        self._lock = threading.RLock()  # of what changes the session; inferences do without
        self._depth = 0  # of steps within steps that hold it
        self._reloading = threading.Lock()
        self._pid = os.getpid()
        self._switching = threading.Lock()  # for as long as a setup takes to be exchanged
        self._timeout_s = checked_timeout(timeout)
        self._in_flight = flight.checked_in_flight(in_flight)
        self._load = load
        self._compression = compression
        self._retries = retries
        self._mode = _checked_mode(mode)
        self._events = EventHook()
        self._widgets: SessionWidgets | None = None
        # What there is to close: the link in use, and others that come or go.
        self._links: list[Link] = []
        self._lent: list[RegionSet] = []  # to those who measure
        kinds, device = _checked_kinds(shared_memory, device, output_shared_memory)
        link = self._link_to(server, headers, ssl, protocol)
        self._setup = Setup(link, kinds, device, owner=server, load=self._loads(server))
        # Through a weak reference: a session that is forgotten is to go at once.
        self._views = InputViews(weakref.ref(self), self._setup.link.held)
        self._closing = False
        self._finalizer = weakref.finalize(
            self, _close_forgotten, self._links, self._lent, self._events, self._pid
        )
        # After the finalizer: at exit they stop before the regions go.
        self._workers = Workers(self._in_flight)
        try:
            self._setup = self._joined(self._setup)
            self._cleared = self._clear_leftovers(self._setup)
            if model is not None:
                self.use(model, version)
        except BaseException:
            self.close()
            raise

    def _link_to(
        self,
        server: str | ServerAddress,
        headers: Mapping[str, str] | None,
        ssl: SSLOptions | bool,
        protocol: str,
    ) -> Link:
        """Return the way to a server, which was not asked anything yet."""
        protocol = protocol_for(protocol, server)
        url, own_headers = _address(server, protocol)
        if headers is not None and not isinstance(headers, Mapping):
            raise ArgumentError(
                f"the headers are {brief(headers)}", "give a mapping: {'NAME': 'VALUE'}"
            )
        options = {True: SSLOptions(), False: None}[ssl] if isinstance(ssl, bool) else ssl
        sent = {**own_headers, **(headers or {})}
        transport = connect(
            url,
            sent,
            options,
            protocol,
            compression=self._compression,
            retries=self._retries,
        )
        regions = RegionSet(transport, mode=self._mode, holders=_holders, note=self._events.note)
        link = Link(transport, protocol, regions, url, sent, options)
        self._links.append(link)
        return link

    def _loads(self, server: str | ServerAddress) -> bool:
        """Whether models are loaded on demand at a server."""
        return not isinstance(server, str) if self._load is None else self._load

    def _joined(self, setup: Setup) -> Setup:
        """Ask a server who it is, and find out which way works with it."""
        setup = replace(setup, server=setup.link.transport.server_metadata())
        return replace(setup, choice=self._chosen(setup))

    def _clear_leftovers(self, setup: Setup) -> Leftovers | None:
        """Clear what dead sessions left; None where a session has no shared memory."""
        if {setup.kind("input"), setup.kind("output")} <= {SharedMemoryType.NONE}:
            return None
        cleared = _cleared_leftovers(setup.link.transport)
        if cleared:  # nobody asked for it, so it is told
            _log.warning("cleared %s", cleared)
        return cleared

    @property
    def _transport(self) -> Transport:
        return self._setup.link.transport

    @property
    def _regions(self) -> RegionSet:
        return self._setup.link.regions

    # The server

    @property
    def server(self) -> str | ServerAddress:
        """What was given as the server: an address, or an object that has one."""
        return cast("str | ServerAddress", self._setup.owner)

    @property
    def url(self) -> str:
        """The server's address, as :class:`Session` takes it; a password in it is left out."""
        return self._transport.url

    @property
    def protocol(self) -> str:
        """What the session speaks with the server: ``"http"`` or ``"grpc"``."""
        return self._setup.link.protocol

    @property
    def spec(self) -> SessionSpec:
        """The session's recipe, which opens the same one elsewhere; it has no secrets.

        Headers, and a name and password in the address, are left out:
        :meth:`spec_with_secrets` carries them.

        Examples
        --------
        >>> pickle.dumps(session.spec)  # and in another process:
        >>> with spec.open() as same: ...
        """
        return self.spec_with_secrets().without_secrets()

    def spec_with_secrets(self) -> SessionSpec:
        """Return the session's recipe, with the headers and the password that it uses.

        Its repr does not show them. Whoever gets the recipe (a file, a scheduler, a worker)
        has them.
        """
        setup = self._setup
        link, model = setup.link, setup.model
        kinds = {direction: str(kind) for direction, kind in setup.kinds.items()}
        ours = not isinstance(setup.owner, str)  # elsewhere it is an address, and still ours
        return SessionSpec(
            server=link.address,
            model=None if model is None else model.name,
            version="" if model is None else model.version,
            shared_memory=kinds["input"],
            output_shared_memory=None if kinds["output"] == kinds["input"] else kinds["output"],
            device=setup.device,
            timeout=self._timeout_s,
            headers=link.headers,
            ssl=False if link.ssl is None else link.ssl,
            protocol=link.protocol,
            load=(True if ours else None) if self._load is None else self._load,
            mode=self._mode,
            in_flight=self._in_flight,
            compression=self._compression,
            retries=self._retries,
        )

    def connect(
        self,
        server: str | ServerAddress,
        model: str | None = None,
        *,
        version: str = "",
        headers: Mapping[str, str] | None = None,
        ssl: SSLOptions | bool = False,
        protocol: str | None = None,
    ) -> ModelSpec | None:
        """Go on with another server, or with the same one anew.

        First the new server is asked who it is, the kind of shared memory is chosen (anew,
        as it was asked for, and tried with a real region), and the model is looked up. Only
        then the regions at the old server are removed. If anything fails, all stays as it
        was, with the old server.

        Inferences that have begun end with the old server; the others go to the new one,
        those that were submitted and wait included. Arrays of :attr:`inputs` stay readable
        and are not sent any more: take new ones.

        Parameters
        ----------
        server
            As for :class:`Session`. A server that was given as an object is let go.
        model, version
            The model to use there. By default the one in use is used there, too; a server
            on which it cannot be used is connected to without a model, and a warning and
            the session's card say why.
        headers, ssl
            As for :class:`Session`. What the old server was sent never goes to the new one:
            give them again where they are needed.
        protocol
            As for :class:`Session`; by default what the address says (``http://``,
            ``grpc://``), and else as before.

        Returns
        -------
        ModelSpec or None
            The model in use now; None where there is none.

        Raises
        ------
        ServerUnreachableError
            If no Triton answers there.
        ModelNotFoundError, ModelNotReadyError, ModelLoadError
            If `model` is given and cannot be used there.
        SharedMemoryUnsupportedError, RegionNotVisibleError, SharedMemoryDisabledError
            If shared memory of the kind that was asked for (and not ``"auto"``) does not
            work with that server: ``set_shared_memory("auto")`` first.
        RestrictedApiError
            If it keeps its shared memory to itself.
        ArgumentError
            If an argument is of the wrong form.

        Notes
        -----
        Other parameters of the session stay: time limit, `mode`, `in_flight`, `compression`,
        `retries`, and `load` where it was given (else a model is loaded on demand where
        `server` is an object). It waits up to two seconds for inferences that have begun, and
        longer ones remove their regions when they end.

        Examples
        --------
        >>> session.connect("gpu-box:8000", "resnet50")
        """
        named = None if model is None else checked_model(model, version)
        with self._open():
            before = self._setup
            self._close_other_links()  # of a call that was interrupted
            try:
                link = self._link_to(server, headers, ssl, _protocol(protocol, server, before))
                setup = self._joined(
                    Setup(
                        link, before.kinds, before.device,
                        owner=server, load=self._loads(server),
                    )
                )  # fmt: skip
                self._try_kinds(setup)
                if named is not None:
                    spec = described(link.transport, *named, load=setup.load)
                    setup = replace(setup, model=spec)
                elif before.model is not None:
                    setup = _with_model_of(before.model, setup)
                cleared = self._clear_leftovers(setup)
                self._usable()
                self._exchange_setup(setup)
            except BaseException:
                self._close_other_links()
                raise
            self._cleared = cleared
            without = f"; no model is in use: {setup.unchosen}" if setup.unchosen else ""
            self._events.note("switch", f"server: {self.url}{without}")
            self._views.drop()
            self._close_other_links()
            if self._closing:  # by another thread, which did not know of this link
                setup.link.close()
            self._usable()
            return setup.model

    def _try_kinds(self, setup: Setup) -> None:
        """Have a server open a region of each kind that was asked for by name."""
        named = set(setup.kinds.values()) - {SharedMemoryType.AUTO, SharedMemoryType.NONE}
        for kind in named:
            try:
                try_region(setup.link.transport, kind, setup.device, mode=self._mode)
            except NoSpaceError as error:  # which may be another by the next time
                _log.info("whether the server opens a region could not be tried: %s", error)

    def _exchange_setup(self, setup: Setup, before: Setup | None = None) -> bool:
        """Go by something else from now on.

        Parameters
        ----------
        setup
            What to go by.
        before
            Only if it is still this one that the session goes by.

        Returns
        -------
        bool
            Whether it does.
        """
        with self._switching:
            if before is not None and self._setup is not before:
                return False
            self._setup = setup
            return True

    def _close_other_links(self) -> None:
        """Close all links but the one in use."""
        for link in list(self._links):
            if link is not self._setup.link:
                link.close()
                self._links.remove(link)

    @property
    def server_version(self) -> str:
        """What answers there, by name and version, such as ``"triton 2.51.0"``."""
        told = self._setup.server
        return f"{told.get('name', 'server')} {told.get('version', '')}".strip()

    def server_regions(self) -> tuple[ServerRegion, ...]:
        """Return all shared-memory regions that the server has registered, and whose they are.

        Those of this session, of other sessions (with their process), of dead ones
        (``"orphan"``, which :meth:`clear_leftovers` clears), and of other clients.

        Raises
        ------
        RestrictedApiError
            If the server keeps its shared memory to itself.
        ServerUnreachableError, ServerTimeoutError, ServerRefusedError
            If there is no reply, or a refusal.

        Notes
        -----
        Where a region's file is gone and its process, too, it is tried whether the server
        has the same ``/dev/shm``, with a small region that is removed again; what came of it
        holds for a minute.
        """
        self._usable()
        return server_regions(self._transport, {region.name for region in self.regions})

    def clear_leftovers(self) -> Leftovers:
        """Clear the regions of dead sessions, in ``/dev/shm`` and at the server.

        Opening a session does so, too. Regions of sessions that live, and of other
        clients, are left alone. Where the server keeps its shared memory to itself, or is
        away, only ``/dev/shm`` is cleared.

        Returns
        -------
        Leftovers
            What was cleared; False where there was nothing.
        """
        with self._open():
            cleared = _cleared_leftovers(self._transport)
            if cleared:
                self._events.note("unregister", f"cleared {cleared}", sum(cleared.files.values()))
            return cleared

    # The model

    @attribute
    def model_info(self) -> ModelSpec:
        """The model in use: inputs, outputs, datatypes, shapes, batch limit, backend, state.

        Raises
        ------
        ArgumentError
            If none was chosen yet.
        """
        return self._setup.chosen

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

    @property
    def has_model(self) -> bool:
        """Whether a model was chosen."""
        return self._setup.model is not None

    def models(self) -> tuple[ModelStatus, ...]:
        """Return the models of the server's repository, loaded or not.

        Raises
        ------
        RestrictedApiError
            If the server keeps its repository to itself.
        """
        self._usable()
        return models_of(self._transport)

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
        named = checked_model(model, version)
        with self._open():
            setup = self._setup
            loads = setup.load if load is None else load
            spec = described(setup.link.transport, *named, load=loads)
            self._change(replace(setup, model=spec, learned={}, unchosen=""))
            _log.debug("using %s: %s", model, spec)
            self._events.note("switch", f"using model {model}")
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
            self._events.note("switch", f"loaded model {name}")
            model_now = self._setup.model
            if model_now is not None and model_now.name == name:
                self.use(name, model_now.version)

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
            model_now = self._setup.model
            if model_now is not None and model_now.name == name:
                self._change(
                    replace(self._setup, model=replace(model_now, state="UNAVAILABLE"), learned={})
                )
            self._events.note("switch", f"unloaded model {name}")

    def _change(self, setup: Setup) -> None:
        """Go by something else from now on, and let go of the regions of before."""
        self._exchange_setup(setup)
        self._views.drop()
        self._regions.retire_all()

    # Shared memory

    @property
    def shared_memory(self) -> SharedMemoryType:
        """How inputs travel: ``SYSTEM``, ``CUDA`` or ``NONE``, with ``"auto"`` too."""
        return self._setup.kind("input")

    @property
    def output_shared_memory(self) -> SharedMemoryType:
        """How outputs travel."""
        return self._setup.kind("output")

    @property
    def requested_shared_memory(self) -> SharedMemoryType:
        """What was asked for, for inputs: as :attr:`shared_memory`, or ``AUTO``."""
        return self._setup.kinds["input"]

    @property
    def requested_output_shared_memory(self) -> SharedMemoryType:
        """What was asked for, for outputs: as :attr:`output_shared_memory`, or ``AUTO``."""
        return self._setup.kinds["output"]

    @property
    def shared_memory_reason(self) -> str:
        """What ``"auto"`` chose and why, as a sentence; or what was asked for."""
        choice = self._setup.choice
        return f"{self._kinds_text()}, as asked for" if choice is None else str(choice)

    @property
    def device(self) -> int:
        """The CUDA device for CUDA shared memory."""
        return self._setup.device

    def devices(self) -> Devices:
        """Return the GPUs of this machine, with the memory that is free and used now.

        Returns
        -------
        Devices
            A sequence, in the order of NVIDIA's management library (NVML): name, UUID,
            bytes of memory, driver, and ``cuda_index``, the number to give as `device`.
            Empty where there is none, with the ``reason`` and an ``explanation``.
        """
        found = devices(refresh=True)
        return with_cuda_indices(found, device_uuids()) if found else found

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

        Examples
        --------
        >>> session.set_shared_memory("cuda", device=1)
        >>> session.set_shared_memory("cuda", output="system")  # the answer is read on the host
        """
        with self._open():
            kinds, device = _checked_kinds(kind, device, output)
            setup = replace(self._setup, kinds=kinds, device=device)
            self._change(replace(setup, choice=self._chosen(setup)))
            self._events.note("switch", f"shared memory: {self._shared_memory_text()}")

    @property
    def regions(self) -> tuple[RegionDescriptor, ...]:
        """The regions that the session has now, inputs and outputs.

        Those whose request was given up (after a timeout, or an interrupt) are
        listed as ``"quarantined"`` until the server has let go of them.
        """
        return RegionListing(self._regions.describe())

    @attribute
    def inputs(self) -> InputViews:
        """The inputs as arrays that lie in shared memory, to be filled in place.

        ``session.inputs["INPUT0"][:] = data``, then ``session.infer()``.
        """
        return self._views

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
        return self._register_all("input", shapes, batch, nbytes)

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
        return self._register_all("output", shapes, batch, nbytes)

    def preflight(
        self,
        shapes: Mapping[str, Sequence[int]] | None = None,
        *,
        batch: int = 1,
        nbytes: Mapping[str, int] | None = None,
        in_flight: int = 1,
        shared_memory: SharedMemoryType | str | None = None,
        device: int | None = None,
    ) -> Preflight:
        """Tell what an inference will need, and whether it fits, before anything is made.

        Parameters
        ----------
        shapes
            The whole shape of tensors with dynamic dimensions, inputs and outputs.
        batch
            The batch.
        nbytes
            The bytes of ``BYTES`` tensors, lengths included (4 for each element).
        in_flight
            How many requests at the same time.
        shared_memory, device
            Another way than the session's, to ask about beforehand.

        Returns
        -------
        Preflight
            True where it fits; it shows each tensor's part, what Triton's Python
            backend will use besides (where the server is an embedded one), and the
            room in ``/dev/shm``, in memory and on the device.

        Raises
        ------
        TensorShapeError, TensorNameError, BatchSizeError
            If a shape does not fit the model.
        TensorShapeError
            If the size of an input is not known.
        """
        setup = self._usable()
        model = setup.chosen
        kinds, device = _parsed_kinds(
            self.shared_memory if shared_memory is None else shared_memory,
            setup.device if device is None else device,
            self.output_shared_memory if shared_memory is None else shared_memory,
        )
        # Auto is system memory wherever it can be had.
        kinds = {
            direction: SharedMemoryType.SYSTEM if each is SharedMemoryType.AUTO else each
            for direction, each in kinds.items()
        }
        if not isinstance(in_flight, int) or in_flight < 1:
            raise ArgumentError(f"in_flight is {brief(in_flight)}", "give a number from 1")
        sizes = sizes_of(model, ("input", "output"), shapes=shapes, nbytes=nbytes, batch=batch)
        for size in sizes:
            if size.direction == "input":
                size.required_nbytes()
        return preflight(
            model,
            [_with_learned(size, setup.learned) for size in sizes],
            kinds,
            device=device,
            in_flight=in_flight,
            there=setup.link.regions.count,
            pools=setup.owner if isinstance(setup.owner, PoolOwner) else None,
        )

    def unregister(self, tensor: str | RegionDescriptor | None = None) -> None:
        """Unregister and remove regions. The next inference that needs them makes new ones.

        A request in flight keeps its regions until it ends.

        Parameters
        ----------
        tensor
            An input or output of the model in use, which loses all of its regions; or one
            region, by its name or as :attr:`regions` gives it. By default all go. For an
            input that is filled in place, its array stays readable and is not sent any more.

        Raises
        ------
        TensorNameError
            If there is no tensor and no region of that name.
        ArgumentError
            If the region is not there any more, or `tensor` is something else.
        """
        with self._open():
            if tensor is None:
                self._views.drop()
                self._regions.retire_all()
                return
            wanted = self._named_regions(tensor)
            arrays, regions = self._views.given(self._setup.link.held)
            for name in arrays:  # one may lie in no region
                if name == tensor or (name in regions and wanted(regions[name])):
                    self._views.let_go(name)
            self._regions.retire_some(wanted)

    def _named_regions(self, named: str | RegionDescriptor) -> Callable[[Region], bool]:
        """Return what tells of a region whether it is meant."""
        if not isinstance(named, str | RegionDescriptor):
            raise ArgumentError(
                f"{brief(named)} is neither a tensor's name nor a region",
                "give a tensor's name, or one of session.regions",
            )
        name = named if isinstance(named, str) else named.name
        there = self.regions
        if any(region.name == name for region in there):
            return lambda region: region.name == name
        model = self._setup.model
        tensors = {region.tensor for region in there}
        known = {*tensors, *(() if model is None else (*model.inputs, *model.outputs))}
        if isinstance(named, str) and name in known:
            return lambda region: region.tensor == name
        has = f"there are regions of {', '.join(sorted(tensors))}" if there else "there are none"
        if isinstance(named, RegionDescriptor):
            raise ArgumentError(
                f"this session has no region {name!r} any more", f"see session.regions; {has}"
            )
        raise TensorNameError(
            f"there is no tensor and no region {brief(name)}; {has}",
            f"give one of {', '.join(sorted(known)) or 'session.regions'}",
        )

    def _register_all(
        self,
        direction: str,
        shapes: Mapping[str, Sequence[int]] | None,
        batch: int,
        nbytes: Mapping[str, int] | None,
    ) -> tuple[RegionDescriptor, ...]:
        with self._open():
            setup = self._setup
            regions = setup.link.regions
            sizes = sizes_of(setup.chosen, (direction,), shapes=shapes, nbytes=nbytes, batch=batch)
            needed = {size.spec.name: size.required_nbytes() for size in sizes}
            if direction == "input":
                self._views.expect({s.spec.name: s.shape for s in sizes if s.shape is not None})
            with regions.slot() as slot:
                had = {region.name for region in regions.describe()}
                try:
                    made = [
                        self._place(slot, setup, (direction, name), size, self._timeout_s)
                        for name, size in needed.items()
                    ]
                except TritonicError:
                    slot.discard_all_but(had)
                    raise
                return RegionListing(region.describe() for region in made if region is not None)

    def _place(
        self,
        slot: Slot,
        setup: Setup,
        tensor: tuple[str, str],
        nbytes: int,
        timeout_s: float,
    ) -> Region | None:
        """Return a region with room for a tensor, or None where it goes over the wire."""
        direction, name = tensor
        kind = setup.kind(direction)
        # Triton refuses a zero-byte tensor in shared memory and takes it over the wire.
        if kind is SharedMemoryType.NONE or nbytes == 0:
            return None
        try:
            return slot.place(Need(direction, name, nbytes, kind, setup.device), timeout_s)
        except (SharedMemoryError, RestrictedApiError) as error:
            if setup.kinds[direction] is not SharedMemoryType.AUTO:
                raise
            if not isinstance(error, NoSpaceError):  # which may be another by the next time
                self._give_up_sharing(setup, error)
            _log.warning("%s %r goes over the wire: %s", direction, name, error.message)
            return None

    @property
    def view_slot(self) -> Slot:
        """The slot of what is filled in place; for :attr:`inputs`."""
        return self._setup.link.held

    def place_view(self, tensor: str, nbytes: int) -> tuple[Slot, Region | None]:
        """Return that slot, and its region for an input or None; for :attr:`inputs`."""
        setup = self._usable()
        slot = setup.link.held
        return slot, self._place(slot, setup, ("input", tensor), nbytes, self._timeout_s)

    def _give_up_sharing(self, setup: Setup, error: TritonicError) -> None:
        """Let tensors go over the wire from now on, unless that was changed meanwhile."""
        choice = Choice(SharedMemoryType.NONE, error.message)
        if self._exchange_setup(replace(setup, choice=choice), setup):
            self._events.note("switch", f"shared memory: {self._shared_memory_text()}")

    def _chosen(self, setup: Setup) -> Choice | None:
        """Find out which way works, where that is left to the session."""
        if SharedMemoryType.AUTO not in setup.kinds.values():
            return None
        choice = choose(
            setup.link.transport,
            setup.server,
            device=setup.device,
            mode=self._mode,
            has_gpu=_has_gpu,
        )
        _log.debug("auto: %s", choice)
        return choice

    # Inference

    @_noted
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
            None sends what lies in :attr:`inputs`. Arrays must have the model's
            datatype and rank; lists of numbers are converted if they fit. Arrays on a
            CUDA device (CuPy, PyTorch, JAX, anything with DLPack or
            ``__cuda_array_interface__``) go into a CUDA region without touching the
            host, and are copied to the host where the input goes another way. An
            input that looks like a picture also takes one: a path, a
            ``PIL.Image``, the bytes of a file, an array of pixels (``[H, W]`` or
            ``[H, W, channels]`` of uint8, floats from 0 to 1, or
            bool; of uint8 also with the channels first), or a list of these,
            which becomes a batch.
        outputs
            The outputs to ask for; all by default.
        transform
            How a picture becomes the tensor: an :class:`ImageTransform`, the
            name of a preset, or None for :attr:`transform`.
        copy
            False gives read-only views of shared memory, without a copy, where
            an output came through it (``BYTES`` are always copies): NumPy arrays, and
            for CUDA shared memory a :class:`~tritonic_nb.DeviceArray`, which CuPy,
            PyTorch and JAX take as it is. They stay readable for as long as they, or
            what was made of them, are kept; the session uses another region meanwhile.
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
        first time, and where there is no room for it, and through a region of
        its size from then on. If it outgrows that, Triton runs the model and
        refuses to hand over the result; the region is grown and the request
        sent again (never for a model with sequences, whose unsized outputs stay
        on the wire).
        """
        given = {} if parameters is None else {"parameters": parameters}
        return self._infer_by(
            self._usable(),
            inputs,
            named,
            outputs=outputs,
            transform=transform,
            copy=copy,
            timeout=timeout,
            options=Options(
                request_id, sequence_id, sequence_start, sequence_end, priority, **given
            ),
        )

    def _infer_by(
        self,
        setup: Setup,
        inputs: Any,
        named: Mapping[str, Any],
        *,
        outputs: Sequence[str] | None,
        transform: ImageTransform | str | None,
        copy: bool,
        timeout: float | None,
        options: Options,
    ) -> InferenceResult:
        """Run the model once by a setup, the session's own or one beside it."""
        link = setup.link
        watch = Stopwatch(self._timeout_s if timeout is None else checked_timeout(timeout))
        filled, lent = ({}, {}) if inputs is not None or named else self._views.given(link.held)
        in_place = bool(filled)
        routine, prepared = self._understood(
            setup, filled or inputs, named, outputs, transform, in_place=in_place
        )
        call = Call(setup, setup.chosen, prepared.tensors, routine, lent, in_place, options)
        watch.lap()
        with link.regions.slot() as slot:
            ready = self._fill(slot, call, watch)
            watch.lap()
            sent, reply = self._exchange(slot, call, watch, ready)
            watch.lap()
            arrays = self._collect(slot, call, sent.request, reply, copy=copy)
            watch.lap()
            again = ready if ready is not None and sent is ready.prepared else None
            places = again.places if again is not None else None
            # A model may leave an output out.
            if places is None or len(places) != len(prepared.tensors) + len(arrays):
                places = places_of(sent.request, prepared.tensors, arrays)
            ready = again or call.ready(slot, sent, places)
        routine.keep(ready)
        link.regions.settle()  # the server answers: a good time for what it is owed
        if link.regions.closed:  # by another thread, before the connection was kept
            link.transport.close()
        return InferenceResult(
            model=reply.model or call.model.name,
            version=reply.version,
            request_id=reply.request_id,
            outputs=cast("Mapping[str, npt.NDArray[Any]]", arrays),  # or much like them
            timings=watch.timings(reply.moments),
            places=places,
            wire_nbytes=reply.sent_nbytes + reply.received_nbytes,
            images=prepared.images,
            transform=prepared.transform,
            labels=call.model.labels,
            reply_nbytes=reply.received_nbytes,
        )

    # Measuring

    def compare(
        self,
        inputs: Any = None,
        /,
        ways: Any = measuring.WAYS,
        *,
        seconds: float = 10.0,
        precision: float = 0.05,
        copy: bool = True,
        outputs: Sequence[str] | None = None,
        transform: ImageTransform | str | None = None,
        timeout: float | None = None,
        progress: bool = True,
        **named: Any,
    ) -> Comparison:
        """Measure which way is the fastest for these inputs: the wire, system or CUDA memory.

        The same inferences go over each way that works here, in turns and in random order, each
        round over another connection, so that what disturbs the machine disturbs all ways
        alike. It ends when the intervals of the ratios are narrow, or the time is up; Ctrl-C ends
        it with what has been found. The session itself, its regions and the way that it
        uses, stay as they are.

        Parameters
        ----------
        inputs, named
            As for :meth:`infer`. Pictures become tensors once, beforehand. Where nothing is
            given, what lies in :attr:`inputs`; and where nothing does, random values, with one
            for each dynamic dimension.
        ways
            Some of ``"none"`` (over the wire), ``"system"`` and ``"cuda"``; or pairs of them,
            for the inputs and the outputs: ``("system", "none")``. The first that works here is
            what the others are compared with. The same one twice tells how much chance there is.
        seconds
            The time limit, up to 3600. Every way has its turn at least once.
        precision
            How narrow the intervals of 95 % confidence shall be: 0.05 means 5 % to either side.
        copy
            Whether results are copied out of shared memory, as for :meth:`infer`.
        outputs, transform, timeout
            As for :meth:`infer`.
        progress
            Whether to show the rounds as they go by.

        Returns
        -------
        Comparison
            The medians, p99, throughput, processor time, memory and bytes of each way, ratios
            with intervals, a verdict in plain words, and a picture of it.

        Raises
        ------
        SharedMemoryError, RestrictedApiError
            If none of the ways works here. (Those that do not, while others do, are left out, and
            the comparison says why.)
        ServerRefusedError
            If the outputs differ between the ways.
        ArgumentError
            If an argument is out of range, or the model keeps sequences, which must not get a
            request twice.
        TritonicError
            As :meth:`infer` raises.

        Examples
        --------
        >>> session.compare(images=batch).verdict
        "system shared memory is 3.2 times as fast as the wire, for model 'resnet50' at batch 8 ..."
        """
        setup = self._usable()
        effort = measuring.checked_effort(seconds, precision)
        tensors, batch = self._tensors(setup, inputs, named, transform)
        bench = self._bench(setup, outputs=outputs, copy=copy, timeout=timeout)
        return measuring.compare(
            bench, ways, tensors, batch=batch, effort=effort, progress=progress
        )

    def sweep(
        self,
        inputs: Any = None,
        /,
        *,
        batch: Iterable[int] | None = None,
        sizes: Iterable[int] | None = None,
        ways: Any = measuring.WAYS,
        seconds: float = 30.0,
        precision: float = 0.05,
        copy: bool = True,
        outputs: Sequence[str] | None = None,
        transform: ImageTransform | str | None = None,
        timeout: float | None = None,
        progress: bool = True,
        **named: Any,
    ) -> Sweep:
        """Compare ways over sizes, and find out from which size on one pays.

        Parameters
        ----------
        inputs, named
            As for :meth:`compare`; their elements are repeated, or cut off, to the sizes.
        batch
            The batches to measure.
        sizes
            Instead of batches, the bytes of all inputs together: the last dynamic dimension of
            each input is stretched; of a model without one, the batch.
        ways, precision, copy, outputs, transform, timeout, progress
            As for :meth:`compare`.
        seconds
            The time limit of all sizes together. Where the ways cross between two sizes,
            two more are measured between them.

        Returns
        -------
        Sweep
            The comparisons by size, the crossing point, a verdict in plain words, and a
            picture of time and bandwidth against size.

        Raises
        ------
        ArgumentError
            If neither batches nor sizes are given, or both, or the model has one size only.
        TritonicError
            As :meth:`compare` raises.

        Examples
        --------
        >>> session.sweep(sizes=[4_096, 65_536, 1_000_000, 16_000_000])
        """
        if (batch is None) == (sizes is None):
            raise ArgumentError(
                "a sweep goes over batches or over sizes",
                "give batch=[1, 2, 4] or sizes=[4096, 65536, 1000000]",
            )
        by = "batch" if sizes is None else "size"
        chosen = (
            measuring.checked_sizes(batch, "batch")
            if sizes is None
            else measuring.checked_sizes(sizes, "sizes")
        )
        setup = self._usable()
        effort = measuring.checked_effort(seconds, precision)
        tensors, _ = self._tensors(setup, inputs, named, transform)
        bench = self._bench(setup, outputs=outputs, copy=copy, timeout=timeout)
        return measuring.sweep(
            bench, ways, tensors, by=by, sizes=chosen, effort=effort, progress=progress
        )

    def explain(
        self,
        inputs: Any = None,
        /,
        ways: Any = measuring.WAYS,
        *,
        requests: int = 40,
        seconds: float = 20.0,
        progress: bool = True,
        copy: bool = True,
        outputs: Sequence[str] | None = None,
        transform: ImageTransform | str | None = None,
        timeout: float | None = None,
        **named: Any,
    ) -> Explanation:
        """Tell where the time of one request goes, stage by stage, on both sides.

        The client's stages are its own clock's; the server's are Triton's counters. An embedded
        server that was given as an object also writes a trace, which tells when each stage
        began. Tracing is on for the model while this runs, and as before afterwards.

        Parameters
        ----------
        inputs, named
            As for :meth:`infer`, pictures included; where nothing is given, as for
            :meth:`compare`.
        ways
            As for :meth:`compare`; they are shown under one another.
        requests
            How many over each way, from 4. What is shown is the mean over the middle half of
            them by their length.
        seconds
            The time limit, after which fewer requests must do; every way has a quarter of them
            at least. Ctrl-C ends it with what has been found.
        progress
            Whether to show the turns as they go by.
        copy, outputs, transform, timeout
            As for :meth:`infer`.

        Returns
        -------
        Explanation
            The stages with their times and the bytes that they move, as a table and a picture,
            and a sentence for each way on what dominates and what would help.

        Raises
        ------
        TritonicError
            As :meth:`compare` raises.

        Examples
        --------
        >>> session.explain(images="photo.jpg")
        >>> session.explain(images=batch)["system"]["copy in"].ms
        0.31
        """
        setup = self._usable()
        limit_s = measuring.checked_seconds(seconds)
        tensors, batch = self._tensors(setup, inputs, named, transform)
        given = {"transform": transform, "named": named}
        if inputs is None and not named:
            inputs, given = tensors, {}
        bench = self._bench(setup, outputs=outputs, copy=copy, timeout=timeout, **given)
        return measuring.explain(
            bench, ways, inputs,
            batch=batch, requests=requests, seconds=limit_s, progress=progress,
        )  # fmt: skip

    def advise(
        self,
        inputs: Any = None,
        /,
        *,
        seconds: float = 20.0,
        precision: float = 0.05,
        copy: bool = True,
        outputs: Sequence[str] | None = None,
        transform: ImageTransform | str | None = None,
        timeout: float | None = None,
        progress: bool = True,
        **named: Any,
    ) -> Advice:
        """Measure what would make these inferences faster, and what would not.

        The way; outputs through regions or over the wire; regions that are larger than what goes
        through them; larger batches; more requests in flight; the server's number of instances.

        Parameters
        ----------
        inputs, named, precision, copy, outputs, transform, timeout
            As for :meth:`compare`.
        seconds
            The time for all of it, about.
        progress
            Whether to show the steps as they go by.

        Returns
        -------
        Advice
            A sentence with figures on each topic, and the code that follows it.

        Raises
        ------
        TritonicError
            As :meth:`compare` raises.

        Examples
        --------
        >>> session.advise(images=batch).to_do
        """
        setup = self._usable()
        effort = measuring.checked_effort(seconds, precision)
        tensors, batch = self._tensors(setup, inputs, named, transform)
        bench = self._bench(setup, outputs=outputs, copy=copy, timeout=timeout)
        return measuring.advise(
            bench, tensors, batch=batch, effort=effort, regions=self.regions, progress=progress
        )

    def _tensors(
        self,
        setup: Setup,
        inputs: Any,
        named: Mapping[str, Any],
        transform: ImageTransform | str | None,
    ) -> tuple[dict[str, Tensor], int]:
        """Return what is to be measured with as tensors, and the batch."""
        model = setup.chosen
        if inputs is None and not named:
            filled, _ = self._views.given(setup.link.held)
            inputs = {name: array.copy() for name, array in filled.items()} or example_inputs(model)
        prepared = prepare(model, inputs, named, transform)
        return dict(prepared.tensors), prepared.batch

    def _bench(self, setup: Setup, **options: Any) -> Bench:
        """Return what measuring needs of this session."""

        def infer(setup: Setup, inputs: Any, **options: Any) -> InferenceResult:
            self._usable()
            given = {"named": {}, "transform": None, **options}
            return self._infer_by(setup, inputs, **given, options=Options())

        def new_regions() -> RegionSet:
            made = RegionSet(
                setup.link.transport, mode=self._mode, holders=_holders, note=self._events.note
            )
            self._lent.append(made)
            return made

        def end_regions(regions: RegionSet) -> None:
            regions.close()
            self._lent.remove(regions)

        if not isinstance(options.get("outputs"), str | None):
            options["outputs"] = tuple(options["outputs"])  # it is asked for again and again
        return Bench(
            setup, infer, new_regions, end_regions, options,
            server_pids=self._server_pids(),
            trace_file=getattr(self.server, "trace_file", None),
        )  # fmt: skip

    def _server_pids(self) -> tuple[int, ...]:
        """Return the server's processes, where they are known to be of this machine."""
        pid = getattr(self.server, "pid", None)
        return (pid, *descendants(pid)) if isinstance(pid, int) else ()

    # Several at a time

    def submit(self, inputs: Any = None, /, **options: Any) -> InferenceFuture:
        """Run the model once, in the background.

        Never waits: of all that were submitted, `in_flight` are on their way at the
        same time, and the others in the order of their coming.

        Parameters
        ----------
        inputs
            As for :meth:`infer`; they must be given. Arrays are read when the turn
            has come: do not change them before the result is there.
        options
            As for :meth:`infer`, inputs by name included. The time limit counts from
            the turn on.

        Returns
        -------
        InferenceFuture
            ``result()`` waits for the :class:`~tritonic_nb.InferenceResult` or raises
            what :meth:`infer` would; ``cancel()`` works as long as its turn has not
            come. ``await session.submit(...)`` works, too. :meth:`close` cancels
            those that wait.

        Raises
        ------
        ArgumentError
            Without inputs: what lies in :attr:`inputs` might change meanwhile.
        SessionClosedError
            If the session was closed.

        Examples
        --------
        >>> futures = [session.submit(picture) for picture in pictures]
        >>> results = [future.result() for future in futures]
        """
        self._usable()
        if inputs is None and not options.keys() - OPTIONS:
            raise ArgumentError(
                "nothing was given to submit; what lies in session.inputs may change meanwhile",
                "give the inputs, or use infer(), which waits",
            )
        return self._workers.submit(partial(self.infer, noted(inputs), **noted(options))).future

    @overload
    def map(
        self, items: Iterable[Any], /, *, executor: None = None, **options: Any
    ) -> Iterator[InferenceResult]: ...

    @overload
    def map(self, items: Iterable[Any], /, *, executor: Any, **options: Any) -> Iterator[Any]: ...

    def map(
        self,
        items: Iterable[Any],
        /,
        *,
        in_flight: int | None = None,
        progress: bool = True,
        total: int | None = None,
        return_exceptions: bool = False,
        executor: Any = None,
        server: ServerPlace | None = None,
        secrets: bool | None = None,
        chunk: int = spread.CHUNK,
        ahead: int | None = None,
        ordered: bool = True,
        reduce: Callable[[InferenceResult], Any] | None = None,
        keep_s: float | None = None,
        **options: Any,
    ) -> Iterator[Any]:
        """Run the model on each of many items, several at a time; results come in order.

        Here, or, with an `executor`, in other processes and on other machines, each beside a
        Triton of its own.

        While the server works on some, others are prepared (pictures are read
        and made tensors), so that neither waits for the other. The next item is taken
        before a result is given: one that depends on a result needs ``in_flight=1``.

        Parameters
        ----------
        items
            Each is what :meth:`infer` takes as its inputs: an array, a picture's path,
            a mapping of arrays by name. They may be a generator without an end: at
            most `in_flight` are taken whose results were not given yet. Arrays must
            not be changed before their results are there.
        in_flight
            How many are on their way at the same time, where it differs from the
            session's; with an executor, of each worker. For a model with sequences only
            1, which keeps their order.
        progress
            Whether to show it: as a bar in a notebook, which ends as a line of text,
            or in a terminal.
        total
            How many items there are, for the progress, where ``len(items)`` does not tell.
        return_exceptions
            Whether an error is given in its place and all goes on, instead of raised.
        options
            As for :meth:`infer`, the same for all; inputs by name included.
        executor
            What has others do the work: a Dask ``Client``, or an executor as
            :mod:`concurrent.futures` has them. Each worker process opens one session by
            :attr:`spec`, on first use. Items are sent to it: paths are read there, and a Dask
            future (such as ``client.scatter`` gives) is resolved there. An item may be done
            twice where a worker was lost; its result is given once. What follows is for this.
        server
            Where a worker's Triton is. By default at the same address, seen from there:
            ``"localhost:8000"`` is each machine's own. A function is called once in each
            worker, and returns an address or a server, which ends with the worker's session.
        secrets
            Whether the session's headers, and a password in its address, go to the workers,
            and on the way through a scheduler. None is an error if there are any
            and no `server` is given, and False leaves them out.
        chunk
            How many items go to a worker together; fewer where their arrays or pictures are
            large.
        ahead
            How many chunks are at most sent and not given yet; by default two for each
            thread of the workers.
        ordered
            False gives results as their chunks end, as pairs of an item's number and its
            result.
        reduce
            A function that a worker applies to each result. What it returns is sent back and
            given instead: all that is not needed stays where it is.
        keep_s
            How long a worker keeps a session that nobody uses, and its server, in seconds. By
            default to the end of this map if they can be told (by Dask), or else 10.

        Yields
        ------
        InferenceResult
            In the order of the items. Those of an executor are copies; pictures that were
            given stay where they were, and are read again when they are shown.

        Raises
        ------
        ArgumentError
            If an argument is of the wrong form; at once.
        TritonicError
            As :meth:`infer`, in the item's place, with its number, counted from 0. An
            error that `items` itself raises comes as it is, after the results of what
            was taken before.
        ExecutorError
            If the executor did not do some items. Dask does a lost worker's items again, a
            few times; executors of :mod:`concurrent.futures` are broken then.
        SessionClosedError
            If the session was closed; never given as a result.

        Notes
        -----
        When it ends early (an error, Ctrl-C, ``break``), nothing new begins, and what
        is on its way ends in the background. With ``copy=False`` a result has its
        region for as long as it is kept, so that keeping them all takes memory for all.

        Examples
        --------
        >>> for result in session.map(paths):
        ...     print(result.top_k(1))

        >>> client = dask.distributed.Client("scheduler:8786")
        >>> best = session.map(paths, executor=client, reduce=lambda result: result.top_k(1)[0])
        """
        model = self._usable().chosen
        iterator, known = flight.checked_items(items)
        if total is not None:
            check_whole(total, 0, "total", "give how many items there are")
        if executor is not None:
            most = flight.in_flight_of(model, in_flight, self._in_flight)
            return spread.spread(
                crew_of(executor),
                spread.checked_order(
                    replace(self.spec_with_secrets(), in_flight=most).for_workers(
                        server, secrets=secrets
                    ),
                    options,
                    reduce,
                    keep_s,
                ),
                iterator,
                render.Progress(known if total is None else total, show=progress),
                limits=spread.checked_limits(model, chunk, ahead),
                ordered=ordered,
                return_exceptions=return_exceptions,
                dismiss=keep_s is None,
            )
        elsewhere = {
            "server": server, "secrets": secrets, "ahead": ahead, "reduce": reduce,
            "keep_s": keep_s, "ordered": None if ordered else False,
            "chunk": None if chunk == spread.CHUNK else chunk,
        }  # fmt: skip
        for name, value in elsewhere.items():
            if value is not None:
                raise ArgumentError(f"{name} is for the workers of an executor", "give executor=")
        return flight.in_order(
            flight.jobs_of(self.infer, map(noted, iterator), noted(options)),
            flight.in_flight_of(model, in_flight, self._in_flight),
            render.Progress(known if total is None else total, show=progress),
            return_exceptions=return_exceptions,
        )

    def stream(
        self,
        source: Any,
        /,
        *,
        every: int = 1,
        limit: int | None = None,
        in_flight: int | None = None,
        progress: bool = True,
        return_exceptions: bool = False,
        **options: Any,
    ) -> Iterator[InferenceResult]:
        """Run the model on the pictures of a folder, an animation or a video, in order.

        They are read one after the other, never all at once, several ahead.

        Parameters
        ----------
        source
            The path of a folder of pictures (in the order of their names, 2 before 10;
            hidden files and folders in it are left out), of an animated GIF, WebP or
            PNG, of a TIFF file with pages, or of a video, for which PyAV is needed:
            ``pip install 'tritonic-nb[video]'``. Paths of pictures are taken, too.
        every
            2 for each second frame, and so on.
        limit
            The most frames.
        in_flight, progress, return_exceptions
            As for :meth:`map`. An animation or a video ends at a frame that cannot be
            read: what follows it is not to be had.
        options
            As for :meth:`infer`, the same for all.

        Yields
        ------
        InferenceResult
            In order, each with its :attr:`~tritonic_nb.InferenceResult.source`: the file,
            the frame and its time.

        Raises
        ------
        ArgumentError
            If an argument is of the wrong form; at once.
        ImageReadError, ImageTooLargeError
            At once if there is nothing that can be read; in its place, with the file, if
            a picture or frame cannot.
        TritonicError
            As :meth:`map`.

        Examples
        --------
        >>> for result in session.stream("holiday.mp4", every=30):
        ...     print(result.source, result.top_k(1))
        """
        model = self._usable().chosen
        frames, total = open_frames(source, every=every, limit=limit)
        return flight.in_order(
            flight.jobs_of_frames(self.infer, frames, options),
            flight.in_flight_of(model, in_flight, self._in_flight),
            render.Progress(total, show=progress),
            return_exceptions=return_exceptions,
        )

    # Watching

    def watch(
        self,
        *,
        hz: float = 2.0,
        warn_at: float = 0.9,
        metrics_url: str | None = None,
        show: bool = True,
    ) -> Recording:
        """Record the memory that a block takes, and show it afterwards.

        ``/dev/shm`` with this session's regions by tensor and other holders by owner, the
        machine's memory, this process and the server (if it runs here), the GPUs, and what
        the session did: register, grow, unregister, inferences, errors.

        Parameters
        ----------
        hz
            How often to look, in times a second, from 1 to 10.
        warn_at
            From which part of ``/dev/shm`` on picture and summary warn, above 0 and up to 1.
        metrics_url
            Where a server on another machine publishes its metrics, such as
            ``"http://HOST:8002/metrics"``: they are recorded too, as the server's. Nothing
            is asked there unless it is given.
        show
            Whether to show the recording at the end of the block: as a picture and a
            summary in a notebook; elsewhere the summary is printed.

        Returns
        -------
        Recording
            To be used once, in a ``with`` statement. It ends with the block, or with the
            session.

        Raises
        ------
        ArgumentError
            If an argument is out of range.
        SessionClosedError
            If the session was closed.

        Examples
        --------
        >>> with session.watch(hz=5) as w:
        ...     results = list(session.map(paths))
        >>> w.peaks["shm/used"], w.counts
        (1409124, {'register': 2, 'infer': 40})
        """
        self._usable()
        me = weakref.ref(self)  # a session that is forgotten is to go at once
        return watch_session(
            partial(_regions_of, me), partial(_server_of, me), self._events,
            hz=hz, warn_at=warn_at, metrics_url=metrics_url, show=show,
        )  # fmt: skip

    def monitor(
        self,
        *,
        hz: float = 2.0,
        span_s: float = 60.0,
        warn_at: float = 0.9,
        metrics_url: str | None = None,
    ) -> Monitor:
        """Show memory as it moves, also while a cell is busy.

        Parameters
        ----------
        hz
            How often to look, in times a second, from 1 to 10.
        span_s
            How far back the plot goes, in seconds, from 5 to 1800.
        warn_at
            From which part of ``/dev/shm`` on it warns, above 0 and up to 1.
        metrics_url
            As for :meth:`watch`.

        Returns
        -------
        Monitor
            Shows itself as the last line of a cell. When the session is closed, or by
            ``freeze()``, it becomes a picture, which a saved notebook keeps.

        Raises
        ------
        ArgumentError
            If an argument is out of range.
        SessionClosedError
            If the session was closed.
        """
        from tritonic_nb.widgets.monitor import Monitor

        recording = self.watch(hz=hz, warn_at=warn_at, metrics_url=metrics_url, show=False)
        return Monitor(recording, span_s)

    # Widgets

    @property
    def widgets(self) -> SessionWidgets:
        """The parts of :meth:`panel`, each of which stands alone in a cell.

        ``address``, ``model``, ``shared_memory`` and ``device`` choose; ``run`` sends
        something to the model; ``regions`` and ``log`` show. Those of one session agree,
        with one another and with what code does.

        Examples
        --------
        >>> session.widgets.shared_memory
        """
        from tritonic_nb.widgets.namespace import SessionWidgets

        self._usable()
        with self._switching:  # and not the other lock, which a load has for minutes
            if self._widgets is None:
                self._widgets = SessionWidgets(self, self._events)
            return self._widgets

    def panel(self, *, metrics_url: str | None = None) -> Panel:
        """Return a panel of widgets for this session: choose, run, register, watch.

        Choosers for the server's address, the model, the kind of shared memory and the
        device; a view to run the model on pictures and arrays; the regions here and at the
        server; memory as it moves; a log. What is chosen acts at once, and what code does
        shows. It freezes to a picture, which a saved notebook keeps, when it or the session
        is closed.

        Parameters
        ----------
        metrics_url
            As for :meth:`monitor`, where the server is on another machine.

        Raises
        ------
        ArgumentError
            If that is no address.
        SessionClosedError
            If the session was closed.

        Examples
        --------
        >>> session.panel()
        """
        return self.widgets.panel(metrics_url)

    # What infer() does

    def _understood(
        self,
        setup: Setup,
        inputs: Any,
        named: Mapping[str, Any],
        outputs: Sequence[str] | None,
        transform: ImageTransform | str | None,
        *,
        in_place: bool,
    ) -> tuple[Routine, Prepared]:
        """Return what was given as tensors, checked; no check is made twice."""
        model = setup.chosen
        arrays = plain_arrays(model, inputs, named) if transform is None else None
        pattern = None if arrays is None else pattern_of(arrays, outputs, in_place=in_place)
        known = setup.routines.get(pattern)
        if arrays is not None and known is not None:
            return known, Prepared(arrays, known.batch)
        prepared = prepare(model, inputs, named, transform)
        routine = Routine.of(_wanted(model, outputs), prepared.batch)
        if pattern is not None and not prepared.images:
            setup.routines.add(pattern, routine)
        return routine, prepared

    def _fill(self, slot: Slot, call: Call, watch: Stopwatch) -> ReadyRequest | None:
        """Give the request its regions, and write the inputs to them.

        Where there is no memory for one more request at the same time, it waits
        until another one has ended.

        Returns
        -------
        ReadyRequest or None
            The request itself, where such a one was sent before.
        """
        ready = call.resume(slot)
        if ready is not None:
            if not call.in_place:
                for name, array in call.tensors.items():
                    slot.write(ready.regions["input", name], array)
            self._bring(slot, call)
            return ready
        regions = call.setup.link.regions
        while True:
            ends = regions.ends
            try:
                self._fill_once(slot, call, watch)
            except NoSpaceError:
                slot.give_back()  # nobody waits while others need what he holds
                ends += 1  # that was one
                if not regions.enter_crowd(slot, watch.left_s()):
                    raise
                if not regions.wait_for_room(slot, ends, watch.left_s()):
                    raise
            else:
                regions.leave_crowd(slot)
                self._bring(slot, call)
                return None

    def _bring(self, slot: Slot, call: Call) -> None:
        """Have all inputs in place before the request goes out."""
        for region in call.lent.values():
            slot.bring(region)
        slot.finish_copies()

    def _fill_once(self, slot: Slot, call: Call, watch: Stopwatch) -> None:
        for name, array in call.tensors.items():
            if call.in_place:
                slot.borrow(call.lent.get(name))
                continue
            nbytes = codec.encoded_nbytes(array)
            region = self._place(slot, call.setup, ("input", name), nbytes, watch.left_s())
            if region is not None:
                slot.write(region, array)
        for output, known in call.routine.known_nbytes.items():
            nbytes = self._guessed_nbytes(call, output) if known is None else known
            tensor = ("output", output)
            try:
                region = self._place(slot, call.setup, tensor, nbytes, watch.left_s())
            except NoSpaceError as error:
                if known is not None:
                    raise
                # It may be smaller this time: by wire, as an output of unknown size comes at first.
                call.setup.learned.pop(output, None)
                _log.info("output %r goes over the wire: %s", output, error.message)
                continue
            if region is not None:
                call.room[output] = region.slot_nbytes if known is None else known

    def _guessed_nbytes(self, call: Call, output: str) -> int:
        """Return the room for an output whose size the model does not tell; 0 for the wire."""
        learned = 0 if call.model.stateful else call.setup.learned.get(output, 0)
        return max(learned, call.setup.link.regions.spare_nbytes("output", output))

    def _exchange(
        self, slot: Slot, call: Call, watch: Stopwatch, ready: ReadyRequest | None
    ) -> tuple[PreparedRequest, InferReply]:
        """Send a request, again where something had to be mended first."""
        transport = call.setup.link.transport
        mended: set[str] = set()
        turns = 0
        prepared = None if ready is None else ready.prepared
        while True:  # each turn mends something, or raises
            request = prepared or transport.prepare(call.request(slot))
            prepared = None
            try:
                return request, _send(transport, slot, request, watch.left_s())
            except RegionLostError as error:
                if "regions" in mended:
                    raise
                mended.add("regions")
                _log.info("the server lost a region (%s); registering again", error.message)
                self._register_again(slot, call, watch)
            except (ModelNotFoundError, ModelNotReadyError):
                if "model" in mended or not self._reload(call):
                    raise
                mended.add("model")
            except RegionTooSmallError as error:
                turns += 1
                if call.model.stateful or turns > _MOST_GROWTHS * len(call.routine.outputs):
                    raise
                self._grow(slot, call, error, watch)

    def _register_again(self, slot: Slot, call: Call, watch: Stopwatch) -> None:
        """Register the request's regions anew; with auto, or go over the wire."""
        try:
            slot.register_again(watch.left_s())
        except (SharedMemoryError, RestrictedApiError) as error:
            if SharedMemoryType.AUTO not in call.setup.kinds.values():
                raise
            self._give_up_sharing(call.setup, error)
            _log.warning("from now on tensors go over the wire: %s", error.message)
            slot.discard_all_but()

    def _reload(self, call: Call) -> bool:
        """Load the model again on a server that was restarted, if that is wanted.

        Returns
        -------
        bool
            Whether it is there now.
        """
        now, model, transport = self._setup, call.model, call.setup.link.transport
        if not now.load or now.link is not call.setup.link:  # the session has left that server
            return False
        if now.model is None or now.model.name != model.name or now.model.state != "READY":
            return False
        with self._reloading:  # once, however many requests found it missing
            if not transport.model_ready(model.name, model.version):
                _log.info("the server has model %s no more; loading it again", model.name)
                transport.load_model(model.name)
        return True

    def _grow(self, slot: Slot, call: Call, error: RegionTooSmallError, watch: Stopwatch) -> None:
        """Give the output that did not fit a larger region."""
        room = call.room.get(error.tensor, 0)
        if not 0 < room < error.needed_nbytes:
            raise error
        # Twice as much as now, so that outputs that grow little by little do not
        # cost a second inference each time.
        size = max(error.needed_nbytes, 2 * room)
        call.room[error.tensor] = size
        tensor = ("output", error.tensor)
        try:
            region = self._place(slot, call.setup, tensor, size, watch.left_s())
        except NoSpaceError as refused:
            region = None
            _log.info("output %r goes over the wire: %s", error.tensor, refused.message)
        if region is None:
            slot.discard(*tensor)
        else:
            call.setup.learned[error.tensor] = size

    def _collect(
        self, slot: Slot, call: Call, request: InferRequest, reply: InferReply, *, copy: bool
    ) -> dict[str, Tensor]:
        """Return the reply's arrays, from the wire and from the regions."""
        arrays: dict[str, Tensor] = {}
        learned = call.setup.learned
        for requested in request.outputs:
            name = requested.name
            if name not in reply.outputs:  # a model may leave an output out
                continue
            output = reply.outputs[name]
            array: Tensor | None = output.array
            region = slot.regions.get(("output", name))
            if array is None and requested.region is not None and region is not None:
                array = slot.read(
                    region, output.datatype, output.shape, nbytes=requested.region.nbytes, copy=copy
                )
            if array is None:
                raise SharedMemoryError(
                    f"output {name!r} of model {request.model!r} came neither over the wire nor "
                    "in a region",
                    "this is a fault of the server; use shared_memory='none'",
                )
            if call.routine.known_nbytes[name] is None:
                learned[name] = max(learned.get(name, 0), codec.encoded_nbytes(array))
            arrays[name] = array
        slot.finish_copies()
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
        # Without the lock, which another thread may have while its server takes its time.
        if not self.closed:
            self._closing = True
            self._workers.close()
            self._views.drop()
            _close(self._links, self._lent, self._events)
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
        """Hold the lock of a session that is open, and tell those who watch of an error."""
        self._usable()  # before the lock, which in a forked child nobody would ever let go
        with self._lock:
            self._usable()
            self._depth += 1
            try:
                yield
            except TritonicError as error:
                if self._depth == 1:  # one step of a larger one
                    self._events.note_error(error)
                raise
            finally:
                self._depth -= 1

    def _usable(self) -> Setup:
        """Return what an inference goes by, if the session is open."""
        if self._pid != os.getpid():
            raise SessionClosedError(
                f"this session with {self._transport.url} belongs to the process that this one was "
                "forked from: both would write to the same memory",
                "open a new Session in this process",
            )
        if self._closing:
            raise SessionClosedError(
                f"this session with {self._transport.url} was closed", "open a new Session"
            )
        return self._setup

    # What it says of itself

    def _described(self) -> render.Description:
        rows = [
            ("server", f"{self._transport.url}, Triton {self._setup.server.get('version', '?')}")
        ]
        model = self._setup.model
        if self._setup.unchosen:
            rows.append(("model", f"none: {self._setup.unchosen}"))
        if model is not None:
            batch = f", batches up to {model.max_batch_size}" if model.max_batch_size else ""
            state = "" if self.closed else f", {model.state.lower()}"
            rows.append(("model", f"{model.name} ({model.backend}{batch}{state})"))
            rows += _tensor_rows("input", model.inputs)
            rows += _tensor_rows("output", model.outputs)
        rows.append(("shared memory", self._shared_memory_text()))
        if self._cleared:
            rows.append(("cleared", str(self._cleared)))
        tables = RegionListing(self._regions.describe()).tables()
        of = "" if model is None else f" of {model.name}"
        return f"Session{of}{' (closed)' if self.closed else ''}", rows, tables

    def _shared_memory_text(self) -> str:
        text = self._kinds_text()
        if self._setup.choice is not None:
            text += f" (auto: {self._setup.choice.reason})"
        return text

    def _kinds_text(self) -> str:
        kinds = [str(self.shared_memory), str(self.output_shared_memory)]
        return kinds[0] if kinds[0] == kinds[1] else f"{kinds[0]}, outputs {kinds[1]}"


def _tensor_rows(kind: str, tensors: Mapping[str, TensorSpec]) -> list[tuple[str, str]]:
    """Return a row for each tensor of a model, or of the first where there are many."""
    rows = [(kind, str(spec)) for spec in islice(tensors.values(), _MOST_TENSORS_SHOWN)]
    more = len(tensors) - len(rows)
    return [*rows, (kind, f"… and {more} more: session.model_info")] if more else rows


def _address(server: str | ServerAddress, protocol: str) -> tuple[str, dict[str, str]]:
    if isinstance(server, str):
        return server, {}
    try:
        url: str = server.url if protocol == "http" else server.grpc_url  # type: ignore[attr-defined]
        return url, dict(server.headers)
    except Exception as error:  # it is asked for what it is, and may be anything
        raise ArgumentError(
            f"{type(server).__name__} is not a server: {error}",
            "give 'host:port', or a Server as tritonic_nb.serve() gives",
        ) from error


def _with_model_of(before: ModelSpec, setup: Setup) -> Setup:
    """Return the setup with the model that was in use before, or with why it cannot be."""
    try:
        model = described(setup.link.transport, before.name, before.version, load=setup.load)
    except (ModelError, RestrictedApiError, ServerRefusedError) as error:
        url = setup.link.transport.url
        _log.warning("no model is in use at %s: %s", url, error)
        return replace(setup, unchosen=f"{error.message} (at {url})")
    return replace(setup, model=model)


def _protocol(asked: str | None, server: object, before: Setup) -> str:
    """Return which protocol to speak with another server."""
    if asked is not None:
        return asked
    is_http = isinstance(server, str) and server.lower().startswith(("http://", "https://"))
    return "http" if is_http else before.link.protocol


def _send(
    transport: Transport, slot: Slot, request: PreparedRequest, timeout_s: float
) -> InferReply:
    slot.sent = True
    try:
        reply = transport.infer(request, timeout_s)
    except TritonicError as error:
        slot.sent = not answered(error) and getattr(error, "sent", True)
        raise
    slot.sent = False
    return reply


def _with_learned(size: TensorSize, learned: Mapping[str, int]) -> TensorSize:
    """Return the size of an output as it was seen, where the model does not tell."""
    seen = learned.get(size.spec.name) if size.direction == "output" else None
    return size if size.nbytes is not None else replace(size, nbytes=seen)


def _wanted(model: ModelSpec, names: Sequence[str] | None) -> list[TensorSpec]:
    """Return the outputs to ask for."""
    if names is None:
        return list(model.outputs.values())
    if not isinstance(names, str | Iterable):
        raise ArgumentError(f"outputs is {brief(names)}", "give a list of names")
    try:
        wanted = (names,) if isinstance(names, str) else tuple(names)
    except Exception as error:  # whatever stands there instead of a list
        raise ArgumentError(
            f"outputs is {brief(names)}: {error}", "give a list of names"
        ) from error
    if not wanted:
        raise ArgumentError("no output is asked for", "leave outputs out to get all of them")
    return [model.output(name) for name in wanted]


def _checked_kinds(
    kind: SharedMemoryType | str, device: int, output: SharedMemoryType | str | None
) -> tuple[dict[str, SharedMemoryType], int]:
    """Return the same as :func:`_parsed_kinds`, if this machine has such memory."""
    kinds, device = _parsed_kinds(kind, device, output)
    for each in set(kinds.values()):
        require_supported(each, device)
    return kinds, device


def _parsed_kinds(
    kind: SharedMemoryType | str, device: int, output: SharedMemoryType | str | None
) -> tuple[dict[str, SharedMemoryType], int]:
    """Return how inputs and outputs travel, and the device."""
    kinds = {
        "input": SharedMemoryType.parse(kind),
        "output": SharedMemoryType.parse(kind if output is None else output),
    }
    if not isinstance(device, int) or device < 0:
        raise ArgumentError(f"device {brief(device)} is not a device number", "count from 0")
    return kinds, device


def _checked_mode(mode: int) -> int:
    if not isinstance(mode, int) or mode & 0o600 != 0o600 or mode & ~0o666:
        shown = f"{mode:#o}" if isinstance(mode, int) else brief(mode)
        raise ArgumentError(
            f"mode {shown} is not one for a region: its owner reads and writes it, nobody runs it",
            "give 0o600, 0o660 or 0o666",
        )
    return mode


def _holders(kind: SharedMemoryType, device: int) -> str:
    """Tell who holds the most of the memory of a kind, for the message of an error."""
    if kind is not SharedMemoryType.CUDA:
        return holders_text()
    uuids = device_uuids()
    return device_holders_text(uuids[device], label=f"CUDA device {device}") if uuids else ""


def _cleared_leftovers(transport: Transport) -> Leftovers:
    """Clear what dead sessions left, at a server as far as it tells what it has."""
    try:
        cleared = find_leftovers(transport).clear(transport)
    except TritonicError as error:  # a server that keeps its shared memory to itself
        _log.debug("the server was not searched for regions of dead sessions: %s", error)
        cleared = find_leftovers().clear()
    return cleared


def _regions_of(session: Callable[[], Session | None]) -> Sequence[RegionDescriptor]:
    """Return the regions that a session has now, if it is still there."""
    found = session()
    return () if found is None else found._regions.describe()


def _server_of(session: Callable[[], Session | None]) -> object:
    """Return what a session was given as its server, if it is still there."""
    found = session()
    return None if found is None else found._setup.owner


def _has_gpu() -> bool:
    """Whether there is a GPU, asked without CUDA: who has used that cannot fork any more."""
    return bool(devices())


def _close(links: Sequence[Link], lent: Sequence[RegionSet], events: EventHook) -> None:
    try:
        with ExitStack() as closing:  # each, whatever becomes of the others
            for link in list(links):
                closing.callback(link.close)
            for regions in list(lent):
                closing.callback(regions.close)
    finally:
        events.close()  # last, so that who watches sees the memory given back


def _close_forgotten(
    links: Sequence[Link], lent: Sequence[RegionSet], events: EventHook, owner_pid: int
) -> None:
    """Close what a session left open when it was collected, or at exit."""
    if os.getpid() != owner_pid:  # a forked child: all of it is still its parent's
        return
    try:
        warnings.warn(
            f"a Session with {links[0].transport.url} was never closed; use `with`, or close()",
            ResourceWarning,
            stacklevel=2,
        )
    finally:  # the warning may be an error
        _close(links, lent, events)


def _log_to_stream() -> None:
    """Show the package's log, once, however many sessions are verbose."""
    logger = logging.getLogger("tritonic_nb")
    logger.setLevel(logging.DEBUG)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        logger.addHandler(handler)
