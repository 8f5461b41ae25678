"""What the panel shows of a session, and what it does with it; without any widget.

A session and what is shown of it go two ways. Code changes the session, its event hook
tells, and :attr:`SessionState.now` is replaced soon after. A person chooses something, one
of the methods here puts it in a line, and one thread does it: no callback of a widget ever
waits for a server, and with it the kernel. Whatever an action did or did not do, what
follows is what the session then *is*.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import traitlets

from tritonic_nb.errors import SessionClosedError, TritonicError, brief
from tritonic_nb.leftovers import ServerRegion
from tritonic_nb.memory import RegionDescriptor, SharedMemoryType
from tritonic_nb.models import ModelStatus
from tritonic_nb.monitoring import Devices, Event, EventHook, EventRecord
from tritonic_nb.session import ServerAddress, Session
from tritonic_nb.tensors import ModelSpec, TensorSpec
from tritonic_nb.widgets.server_watch import ServerAnswer, ServerWatch
from tritonic_nb.widgets.written import sizes_in

__all__ = ["Doing", "Problem", "SessionState", "Snapshot", "sized"]

_SETTLE_S = 0.05  # events come in groups: an inference may register five regions
_LONGEST_WAIT_S = 2.0  # at the end, for an action that is on its way; and for a server's answer
_MOST_EVENTS = 100

_Size = TypeVar("_Size")

_log = logging.getLogger("tritonic_nb.widgets")


@dataclass(frozen=True)
class Doing:
    """What is being done, in words, and the part of the panel that asked for it."""

    place: str
    text: str


@dataclass(frozen=True)
class Problem:
    """What could not be done, why, and what to do about it."""

    place: str
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A session as it was at one moment.

    Attributes
    ----------
    url, server
        The address, and what answers there, such as ``"triton 2.51.0"``.
    away
        Why the server cannot be reached; empty while it can.
    requested, reason
        The kind of shared memory that was asked for, and what came of it, as a sentence.
    device, devices
        The CUDA device, and those that there are, or why there are none.
    model
        The one in use, or None.
    models, models_reason
        Those of the server's repository, or why they are not known.
    regions
        The session's own.
    server_regions, server_regions_reason
        All that the server has registered, or why that is not known.
    events
        The last ones, the newest first, each with the time of day in seconds since 1970.
    closed
        Whether the session is.
    """

    url: str = ""
    server: str = ""
    away: str = ""
    requested: SharedMemoryType = SharedMemoryType.AUTO
    reason: str = ""
    device: int = 0
    devices: Devices = field(default_factory=Devices)
    model: ModelSpec | None = None
    models: tuple[ModelStatus, ...] = ()
    models_reason: str = ""
    regions: tuple[RegionDescriptor, ...] = ()
    server_regions: tuple[ServerRegion, ...] = ()
    server_regions_reason: str = ""
    events: tuple[Event, ...] = ()
    closed: bool = False


def sized(spec: TensorSpec) -> bool:
    """Whether a model tells the size of a tensor, for a given batch."""
    shape = spec.concrete_shape()
    return shape is not None and spec.nbytes_of(shape) is not None


def _bare(url: str) -> str:
    """Return an address without the scheme that one without a scheme means."""
    return url.removeprefix("http://").removeprefix("grpc://").rstrip("/")


def _addresses(server: ServerAddress) -> set[str]:
    """Return where a server is by now, which may have been started anew elsewhere."""
    found = set()
    for name in ("url", "grpc_url"):
        with suppress(Exception):  # it may be anybody's object
            found.add(_bare(getattr(server, name)))
    return found


def _without(names: Container[str], sizes: Mapping[str, _Size]) -> dict[str, _Size]:
    return {name: size for name, size in sizes.items() if name not in names}


@dataclass
class _Action:
    doing: Doing
    job: Callable[[], object]
    before: Problem | None  # what was told when it was asked for, and is over with it


class SessionState(traitlets.HasTraits):
    """A session as its panels see it, shared by all of them.

    Each trait is replaced and never changed. ``doing`` is the action that runs; those that
    wait are told by :meth:`doing_at`. ``settled`` counts the actions that are over, so that
    a control whose choice was refused learns that it has to go back.

    Parameters
    ----------
    session
        The session.
    hook
        Where it tells what happens.
    """

    now = traitlets.Instance(Snapshot)
    doing = traitlets.Instance(Doing, allow_none=True)
    problem = traitlets.Instance(Problem, allow_none=True)
    settled = traitlets.Int()

    def __init__(self, session: Session, hook: EventHook) -> None:
        super().__init__(now=Snapshot())
        self._latest = self.now
        self.session = session
        self._hook = hook
        self._record = EventRecord(notify=self._woken)
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._line: deque[_Action] = deque()
        self._running: _Action | None = None
        self._servers: dict[str, ServerAddress] = {}
        self._viewers = 0
        self._thread: threading.Thread | None = None
        self._server = ServerWatch(session, self._answered)
        self._clock = time.time() - time.monotonic()
        self._refresh()

    # Who looks

    def look(self) -> None:
        """Keep it up to date for one more who looks; :meth:`leave` ends it."""
        with self._lock:
            self._viewers += 1
            if self._viewers > 1 or self._latest.closed:
                return
            self._hook.start(self._record, self._session_ended)
            self._server.ask_soon()
            self._start()
        self._refresh()

    def leave(self) -> None:
        """One less looks. With the last one the thread ends, and nothing is asked any more."""
        with self._lock:
            self._viewers -= 1
            last = self._viewers == 0
            thread = self._thread
            if last:  # still under the lock: whoever looks next is told again
                self._hook.stop(self._record)
        if last:
            self._wake.set()
            if thread is not None and thread is not threading.current_thread():
                thread.join(_LONGEST_WAIT_S)
                self._server.wait(_LONGEST_WAIT_S)

    # What can be done

    def choose_shared_memory(self, kind: SharedMemoryType | str) -> None:
        """Have tensors travel another way."""
        chosen, session = SharedMemoryType.parse(kind), self.session
        self._do(
            "shared memory",
            f"switching to {chosen} …",
            lambda: session.set_shared_memory(chosen, session.device),
        )

    def choose_device(self, device: int) -> None:
        """Use another device for CUDA shared memory."""
        session = self.session
        self._do(
            "device",
            f"switching to CUDA device {device} …",
            lambda: session.set_shared_memory(
                session.requested_shared_memory,
                device,
                output=session.requested_output_shared_memory,
            ),
        )

    def choose_model(self, model: str, version: str = "") -> None:
        """Use another model, loaded on demand where the session does that."""
        text = f"{model}, version {version}" if version else model
        self._do("model", f"switching to {text} …", lambda: self.session.use(model, version))

    def load(self, model: str, version: str = "") -> None:
        """Load a model, and use it."""

        def job() -> None:
            self.session.load(model)
            self.session.use(model, version)

        self._do("model", f"loading {model} …", job)

    def unload(self, model: str) -> None:
        """Unload a model."""
        self._do("model", f"unloading {model} …", lambda: self.session.unload(model))

    def connect(self, url: str) -> None:
        """Go to another server, or back to one.

        A server that the session was given as an object is known by its address again, with
        the headers that open it; to no other address do they go. At the address where the
        session is already it is asked whether it answers: headers and certificates that were
        given with an address are the session's own, and stay.
        """
        wanted = url.strip()

        def job() -> None:
            server = self._known_server(wanted)
            if server is not None:
                self.session.connect(server)
            elif _bare(wanted) != _bare(self.session.url):
                self.session.connect(wanted)
            # else it is asked anyway when an action is over

        shown = wanted.rpartition("@")[2]  # without a password
        self._do("address", f"connecting to {shown} …", job)

    def _known_server(self, url: str) -> ServerAddress | None:
        """Return the object that the session was given for an address, if it is still there."""
        server = self._servers.get(_bare(url))
        return server if server is not None and _bare(url) in _addresses(server) else None

    def register(self, batch: int = 1, sizes: str = "") -> None:
        """Make and register the regions for such a request; those that are too small grow.

        Parameters
        ----------
        batch
            The batch.
        sizes
            Of the tensors whose size the model does not tell, as :func:`sizes_in` reads
            them. Outputs without one get their regions after the first inference.
        """
        self._do("regions", "registering …", lambda: self._register(batch, sizes))

    def _register(self, batch: int, sizes: str) -> None:
        outputs = self.session.model_info.outputs
        shapes, nbytes = sizes_in(sizes)
        self.session.register_inputs(
            _without(outputs, shapes), batch=batch, nbytes=_without(outputs, nbytes)
        )
        told = {name for name, spec in outputs.items() if sized(spec)} | {*shapes, *nbytes}
        if outputs.keys() <= told:
            self.session.register_outputs(
                {name: shapes[name] for name in outputs if name in shapes},
                batch=batch,
                nbytes={name: nbytes[name] for name in outputs if name in nbytes},
            )

    def unregister(self, region: str | None = None) -> None:
        """Unregister and remove a region, by its name; all of them by default."""
        self._do("regions", "unregistering …", lambda: self.session.unregister(region))

    def clear_leftovers(self) -> None:
        """Unregister and remove what dead sessions left."""
        self._do("regions", "clearing …", self.session.clear_leftovers)

    def refresh(self) -> None:
        """Ask the server again, now."""
        self._server.ask_soon()
        self._wake.set()

    def _do(self, place: str, text: str, job: Callable[[], object]) -> None:
        """Put something in the line."""
        with self._lock:
            if self._latest.closed:
                return
            self._line.append(_Action(Doing(place, text), job, self.problem))
            self._start()
        self._wake.set()
        self._tell_doing()

    def doing_at(self, place: str) -> Doing | None:
        """Return what a part of the panel asked for, and runs or waits; None if nothing does."""
        return next((each for each in self._asked() if each.place == place), None)

    def _asked(self) -> list[Doing]:
        """Return what runs, and then what waits."""
        with self._lock:
            running = [] if self._running is None else [self._running]
            return [each.doing for each in (*running, *self._line)]

    def _tell_doing(self) -> None:
        """Tell who looks what runs now; without a lock, as :meth:`_update` does."""
        while self.doing is not (doing := next(iter(self._asked()), None)):
            self.doing = doing

    # The thread

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tritonic_nb-panel", daemon=True)
            self._thread.start()

    def _woken(self) -> None:
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(max(0.0, self._server.due_s - time.monotonic()))
            with self._lock:
                if self._latest.closed or not (self._viewers or self._line):
                    self._thread = None
                    return
                action = self._running = self._line.popleft() if self._line else None
            if action is not None:
                self._act(action)
                continue
            self._wake.clear()  # before it looks: what happens meanwhile wakes it again
            if not self._line:
                time.sleep(_SETTLE_S)
                if time.monotonic() >= self._server.due_s:
                    self._server.ask()
                self._look_again()

    def _look_again(self) -> None:
        """Look at the session, whatever comes of it."""
        try:
            self._refresh()
        except SessionClosedError:
            pass
        except Exception:  # a fault of ours, or of one who observes: the thread goes on
            _log.exception("the session at %s could not be looked at", self._latest.url)

    def _act(self, action: _Action) -> None:
        problem = None
        self._tell_doing()
        try:
            action.job()
        except TritonicError as error:
            problem = Problem(action.doing.place, error.message, error.remedy)
        except Exception as error:  # a fault of ours: the panel goes on all the same
            _log.exception("%s failed", action.doing.text)
            problem = Problem(
                action.doing.place,
                f"{action.doing.text} failed: {type(error).__name__}: {brief(str(error))}",
                "this is a fault of tritonic_nb; the log of tritonic_nb.widgets has the details",
            )
        self._server.ask(_LONGEST_WAIT_S)
        self._look_again()
        if problem is not None or self.problem is action.before:
            self.problem = problem  # and what failed since it was asked for stays said
        with self._lock:
            self._running = None
        self._tell_doing()
        self.settled += 1

    def _answered(self, answer: ServerAnswer) -> None:
        """Take note of what the server says, or that it does not."""
        was_away = self._latest.away
        if answer.away:
            self._update(away=answer.away)
        else:
            self._update(
                away="",
                models=answer.models,
                models_reason=answer.models_reason,
                server_regions=answer.regions,
                server_regions_reason=answer.regions_reason,
            )
        if answer.away and not was_away:
            self._hook.note("error", answer.away, remedy="start the server again")
        elif was_away and not answer.away:
            self._hook.note("switch", "the server answers again")

    def _refresh(self) -> None:
        """Look at the session itself, which costs next to nothing."""
        session, before = self.session, self._latest
        url, server = session.url, session.server
        if not isinstance(server, str) and _bare(url) in _addresses(server):
            self._servers[_bare(url)] = server
        self._update(
            url=url,
            server=session.server_version,
            requested=session.requested_shared_memory,
            reason=session.shared_memory_reason,
            device=session.device,
            # Where there is none it takes a while to find that out, and none appears.
            devices=session.devices() if before.devices or not before.url else before.devices,
            model=session.model_info if session.has_model else None,
            regions=tuple(session.regions),
            events=tuple(
                replace(event, time_s=event.time_s + self._clock)
                for event in self._record.events[-_MOST_EVENTS:][::-1]
            ),
            closed=before.closed or session.closed,
        )

    def _session_ended(self) -> None:
        """Show what is left of it: nothing that could be done."""
        with self._lock:
            self._line.clear()
        self.doing = None
        self._update(regions=(), closed=True)
        self._wake.set()

    def _update(self, **changes: Any) -> None:
        """Replace some of what is known, and tell who looks; without a lock, as they may ask."""
        with self._lock:
            self._latest = replace(self._latest, **changes)
        while self.now != self._latest:  # another thread may have told of an older one
            self.now = self._latest
