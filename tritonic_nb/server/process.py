"""The embedded server: started by :func:`serve`, held by a :class:`Server`.

The server runs in a process session of its own, under a small supervisor that
ends it when this process ends, in whatever way that happens.
"""

from __future__ import annotations

import atexit
import http.client
import json
import os
import re
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload
from urllib.parse import quote

from tritonic_nb.errors import (
    ArgumentError,
    ModelFileError,
    ModelLoadError,
    ModelNotFoundError,
    ServerStartError,
    ServerUnreachableError,
)
from tritonic_nb.render import Described, Description
from tritonic_nb.server.child import STOP_GRACE_S, ServerProcess
from tritonic_nb.server.launch import (
    LOOPBACK,
    Launch,
    Ports,
    find_installation,
    last_lines,
    launch,
    relaunch,
    request,
    trace_file_of,
)
from tritonic_nb.server.pools import pool_growth, pool_sizes, pools_of_model
from tritonic_nb.server.repository import (
    TEACHING_MODELS,
    is_model_folder,
    models_in,
    name_from_file,
    resolve_source,
)
from tritonic_nb.server.runtime import prepare, print_progress

if TYPE_CHECKING:
    from tritonic_nb.session import Session

__all__ = ["Server", "serve"]

LOAD_TIMEOUT_S = 120.0
NAMES_SHOWN = 6


def serve(
    models: Iterable[str] | Mapping[str, str | os.PathLike[str]] = (),
    *,
    protected: bool = True,
    http_port: int = 0,
    grpc_port: int = 0,
    metrics_port: int = 0,
    tritonserver: str | os.PathLike[str] | None = None,
    auto_complete: bool | None = None,
    log_verbose: int = 0,
    timeout: float = 60.0,
    progress: Callable[[str], None] | None = print_progress,
) -> Server:
    """Start a Triton server on this machine's loopback and wait until it is ready.

    The server is a ``tritonserver`` that is named or installed, or else the one
    of an isolated environment that is prepared on first use
    (:func:`tritonic_nb.server.prepare`). Its model repository holds small teaching
    models, unloaded. It ends with this process, in whatever way that ends.

    Parameters
    ----------
    models
        Teaching models to load, by name; or names with the ONNX files or model
        folders to add and load.
    protected
        Let only holders of a random header (:attr:`Server.headers`) load models,
        register shared memory, and change tracing and logging. Without it, whoever
        reaches the port can run Python code as this user. The header's value stands
        in the server's command line, which other users of this machine may read.
    http_port, grpc_port, metrics_port
        Ports; 0 for any free one.
    tritonserver
        A tritonserver program to use. Without it, the environment's
        ``TRITONIC_NB_TRITONSERVER`` is, then one on ``PATH``, then one in
        ``/opt/tritonserver/bin``.
    auto_complete
        Let Triton complete the configurations of models that have none or half a one.
        That costs each Python model more than a second when it is loaded; ``None``
        leaves it off for the prepared environment, and on for another tritonserver.
    log_verbose
        Triton's verbose logging level; 0 for none.
    timeout
        Seconds that the server is given to become ready. Preparing the
        environment does not count.
    progress
        Called with one line of text for each step of a preparation; ``None`` for
        silence.

    Returns
    -------
    Server
        It is ready, and its ``models`` are loaded.

    Raises
    ------
    RuntimeUnavailableError
        There is no tritonserver here and none can be prepared.
    ServerStartError
        A port is taken, or the server ended or was not ready in time.
    ModelNotFoundError
        There is no teaching model of that name.
    ModelFileError
        A file or folder in ``models`` cannot be served.
    ModelLoadError
        A model could not be loaded; the server was stopped.

    Examples
    --------
    >>> with serve(["simple"]) as server:  # doctest: +SKIP
    ...     print(server.url)
    """
    files = dict(models) if isinstance(models, Mapping) else {}
    names = (models,) if isinstance(models, str) else tuple(models)
    for name in names:
        if name not in files and name not in TEACHING_MODELS:
            raise ModelNotFoundError(
                f"there is no teaching model named {name!r}",
                f"choose from {', '.join(TEACHING_MODELS)}; or give a mapping of names to ONNX "
                "files or model folders",
            )
    installation = find_installation(tritonserver, auto_complete=auto_complete, progress=progress)
    up = launch(
        installation,
        Ports(http_port, grpc_port, metrics_port),
        protected=protected,
        log_verbose=log_verbose,
        timeout=timeout,
    )
    server = Server(up)
    try:
        for name, path in files.items():
            server.add(name, path)
        server._load(names)
    except BaseException:
        server.stop()
        raise
    return server


class Server(Described):
    """A running Triton server that belongs to this process. Made by :func:`serve`.

    Used as a context manager, it is stopped at the end of the block. Otherwise it
    is stopped by :meth:`stop`, or when this process ends, in whatever way. A
    process forked from this one sees the server and can neither stop nor restart it.

    Attributes
    ----------
    url
        Its HTTP address, ``"127.0.0.1:PORT"``, as tritonclient takes it.
    grpc_url
        Its gRPC address, of the same form.
    metrics_url
        Where it publishes its metrics, with ``http://``.
    headers
        The header that opens the protected APIs, over HTTP and over gRPC alike
        (its name has the prefix ``triton-grpc-protocol-`` for that reason); empty
        when the server is not protected. It stands in the server's command line,
        which other users of this machine may read.
    version
        Its version, such as ``"2.51.0"``.
    """

    url: str
    grpc_url: str
    metrics_url: str
    headers: dict[str, str]
    version: str

    def __init__(self, up: Launch) -> None:
        self.url = f"{LOOPBACK}:{up.ports.http}"
        self.grpc_url = f"{LOOPBACK}:{up.ports.grpc}"
        self.metrics_url = f"http://{LOOPBACK}:{up.ports.metrics}/metrics"
        self.headers = dict(up.headers)
        self.version = up.version
        self._ports = up.ports
        self._installation = up.installation
        self._process = up.process
        self._repository = up.repository
        self._loaded: set[str] = set()
        self._lock = threading.RLock()
        # One of its own: a load may hang with the server, and hold the other.
        self._restart_lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _abandon, up.process, self.url)
        # At the interpreter's end, _stop_all does it, without a complaint: a
        # notebook's server is meant to live that long.
        self._finalizer.atexit = False
        _held.add(up.process)

    @property
    def pid(self) -> int:
        """The process id of tritonserver itself; another one after a restart."""
        return self._process.pid

    @property
    def trace_file(self) -> Path | None:
        """Where the server writes traces while a model is traced; None where it cannot."""
        return trace_file_of(self._repository.folder) if self._installation.traces else None

    @property
    def running(self) -> bool:
        """Whether the server's process is alive."""
        return self._process.running

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models in its repository, loaded or not."""
        return self._repository.names()

    @property
    def repository(self) -> Path:
        """The folder of its model repository; it goes when the server stops."""
        return self._repository.folder

    @property
    def log(self) -> str:
        """What the server has written so far, over all restarts; kept after it has stopped."""
        return self._process.log()

    def pools(self) -> dict[str, int]:
        """Return what the models' processes share with the server in ``/dev/shm``.

        Each instance of a Python model has one such file, its pool. It grows with the
        tensors and does not shrink; unloading the model removes it.

        Returns
        -------
        dict of str to int
            The names of the files, and the bytes that they take.
        """
        return pool_sizes(self._process.pool_prefix)

    def pool_growth(
        self, model: str, input_nbytes: int, output_nbytes: int, in_flight: int = 1
    ) -> int:
        """Return how far a model's pools are expected to grow, in bytes.

        With Triton 2.51; one step (1 MiB) that should stay free is part of it. A
        model that keeps its tensors makes them larger.

        Parameters
        ----------
        model
            Its name; it need not be loaded.
        input_nbytes, output_nbytes
            The bytes of all inputs and of all outputs of one request.
        in_flight
            How many requests at the same time.
        """
        now = pools_of_model(self._process.pool_prefix, model)
        return pool_growth(now, input_nbytes, output_nbytes, in_flight)

    @overload
    def add(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        max_batch_size: int = ...,
        parameters: Mapping[str, str] | None = ...,
        replace: bool = ...,
    ) -> str: ...

    @overload
    def add(
        self,
        name: str | os.PathLike[str],
        path: None = ...,
        *,
        max_batch_size: int = ...,
        parameters: Mapping[str, str] | None = ...,
        replace: bool = ...,
    ) -> tuple[str, ...]: ...

    def add(
        self,
        name: str | os.PathLike[str],
        path: str | os.PathLike[str] | None = None,
        *,
        max_batch_size: int = 8,
        parameters: Mapping[str, str] | None = None,
        replace: bool = False,
    ) -> str | tuple[str, ...]:
        """Put a model into the server's repository.

        ``add("classifier", "x.onnx")`` and ``add("mine", "folder")`` add one model
        under a name; ``add("folder")`` adds a model under the file's or folder's own
        name, or every model of a model repository. A name that was added before is
        replaced, and loaded again if it was loaded.

        An ONNX file's configuration is derived from the file. When the first
        dimension of every input and output is dynamic (and has the same symbol,
        where it has one) the model is batched. Its metadata become the
        configuration's parameters.

        Parameters
        ----------
        name
            The model's name; or, alone, the path.
        path
            An ONNX file, a model folder (with a ``config.pbtxt`` or folders
            ``1``, ``2``, ...) or, without a name, a model repository. Files are
            linked, so they must stay where they are.
        max_batch_size
            The largest batch for an ONNX file that can be batched; 0 for none. A
            folder's own configuration decides for the folder.
        parameters
            Parameters for the model's configuration; they win over the file's own.
        replace
            Allow the name of a teaching model.

        Returns
        -------
        str or tuple of str
            The model's name; without ``path``, the names of all that were added.

        Raises
        ------
        ArgumentError
            The name cannot be used, or the batch size is negative.
        ModelFileError
            The file or folder is missing, broken or of a kind that cannot be served.
        RuntimeUnavailableError
            ONNX Runtime, which reads ONNX files, could not be prepared.
        ServerUnreachableError
            The server has ended.
        """
        if not isinstance(max_batch_size, int) or max_batch_size < 0:
            raise ArgumentError(
                f"max_batch_size is {max_batch_size!r}", "give 0 for no batching, or a number above"
            )
        source = resolve_source(name if path is None else path)
        texts = {str(key): str(value) for key, value in (parameters or {}).items()}
        with self._lock:
            self._require_running()
            if path is not None:
                given = os.fspath(name)
                self._add_one(given, source, max_batch_size, texts, replace=replace)
                self._load(name for name in (given,) if self._is_ready(name))
                return given
            sources = self._sources(source)
            for model, _ in sources:
                if model:  # before the first is added: all of them or none
                    self._repository.check_name(model, replace=replace)
            added = []
            for model, folder in sources:
                self._add_one(model, folder, max_batch_size, texts, replace=replace)
                added.append(model)
            self._load(name for name in added if self._is_ready(name))
            return tuple(added)

    def _sources(self, source: Path) -> list[tuple[str, Path]]:
        """Return names and places of the models at a path that was given alone."""
        if source.is_file():
            return [(name_from_file(source), source)]
        if is_model_folder(source):
            return [(source.name, source)]
        return [(folder.name, folder) for folder in models_in(source)] or [("", source)]

    def _add_one(
        self,
        name: str,
        source: Path,
        max_batch_size: int,
        parameters: Mapping[str, str],
        *,
        replace: bool,
    ) -> None:
        if source.is_dir() and not is_model_folder(source):
            inside = [folder.name for folder in models_in(source)]
            raise ModelFileError(
                f"{source} is not a model folder: it has neither a config.pbtxt nor a version's "
                "folder (1, 2 or so)"
                + (f"; it holds the models {', '.join(inside)}" if inside else ""),
                "add a model repository without a name: add(path)"
                if inside
                else "give an ONNX file, a model folder, or a folder of model folders",
            )
        self._repository.check_name(name, replace=replace)
        if source.is_dir():
            if not (source / "config.pbtxt").is_file() and not self._installation.auto_complete:
                raise ModelFileError(
                    f"{source} has no config.pbtxt, and this server does not complete one",
                    "write one, or start the server with serve(auto_complete=True)",
                )
            self._repository.add_folder(name, source, parameters=parameters)
            return
        if source.suffix.lower() != ".onnx":
            raise ModelFileError(
                f"{source} cannot be served: only ONNX files (*.onnx) are, and model folders",
                "export the model to ONNX, or write a model folder with a config.pbtxt for it",
            )
        self._repository.add_onnx(
            name,
            source,
            self._installation.runtime or prepare(),
            max_batch_size=max_batch_size,
            parameters=parameters,
            backend=self._installation.onnx_backend,
        )

    def session(self, **options: Any) -> Session:
        """Open a :class:`tritonic_nb.Session` with this server.

        Parameters
        ----------
        options
            Passed on to the session.
        """
        from tritonic_nb.session import Session

        return Session(self, **options)

    def stop(self, timeout: float = STOP_GRACE_S) -> None:
        """Stop the server and remove its files; does nothing when it is stopped.

        Parameters
        ----------
        timeout
            Seconds that it is given to end in order; after that it is killed.
        """
        self._finalizer.detach()
        self._process.stop(timeout)

    def restart(self, timeout: float = 60.0) -> None:
        """Start the server again, whether it ended, hangs or runs.

        What is left of it is killed: requests that it still works at get no answer. It
        comes back at the same addresses, with the same header and all its models, and
        those that were loaded are loaded again. Regions that were registered are not:
        their owners do that again. The log goes on.

        Parameters
        ----------
        timeout
            Seconds that it is given to become ready. Loading models does not count.

        Raises
        ------
        ServerStartError
            It was stopped before, it belongs to another process, or it ended or was
            not ready in time. Then it is stopped, and nothing is left of it.
        ModelLoadError
            The server is ready, and a model that was loaded before cannot be now.
        """
        if not self._process.owned:
            raise ServerStartError(
                f"the server at {self.url} belongs to the process that this one was forked from",
                "restart it there",
            )
        with self._restart_lock:
            names = self._loaded_models()
            self._loaded.clear()
            self.version = relaunch(self._process, self._ports, timeout)
            failures = []
            for name in names:
                try:
                    self._load([name])
                except ModelLoadError as error:
                    failures.append(error)
            if failures:  # after the others, which are none the worse
                raise failures[0]

    def _loaded_models(self) -> list[str]:
        """Return the models that are loaded, or were when the server ended."""
        ready = self._ready_models() if self.running else None
        if ready is None:
            ready = loaded_by_log(self._process.log(since_start=True), self._loaded)
        return [name for name in self.models if name in ready]

    def _ready_models(self) -> set[str] | None:
        """Ask the server which models are loaded; ``None`` when it does not answer."""
        try:
            _, body = request(
                self._ports.http, "POST", "/v2/repository/index", self.headers, timeout_s=1.0
            )
            return {entry["name"] for entry in json.loads(body) if entry.get("state") == "READY"}
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return None

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the server ends by itself or is stopped.

        Parameters
        ----------
        timeout
            Seconds to wait at most; ``None`` for no limit.

        Returns
        -------
        int or None
            Its exit code, negative for a signal; ``None`` when it still runs.
        """
        return self._process.wait(timeout)

    def _require_running(self) -> None:
        if not self.running:
            raise ServerUnreachableError(
                f"the server at {self.url} has ended", "start another one with serve()"
            )

    def _is_ready(self, name: str) -> bool:
        """Whether a model is loaded."""
        path = f"/v2/models/{quote(name, safe='')}/ready"
        try:
            return request(self._ports.http, "GET", path)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _load(self, names: Iterable[str]) -> None:
        """Load models, in order.

        Raises
        ------
        ModelLoadError
            The server could not; the message carries its reason.
        """
        for name in names:
            gone = self._repository.missing(name)
            if gone is not None:
                # Triton 2.51 would wait for ever for a Python model without its code.
                raise ModelLoadError(
                    f"model {name!r} could not be loaded: its file {gone} is gone",
                    "put it back, or add the model again from another place",
                )
            said_before = len(self.log)
            path = f"/v2/repository/models/{quote(name, safe='')}/load"
            try:
                status, body = request(
                    self._ports.http, "POST", path, self.headers, timeout_s=LOAD_TIMEOUT_S
                )
                reason = error_text(body)
            except (OSError, http.client.HTTPException) as error:
                status, reason = 0, f"no answer ({error})\n{last_lines(self.log)}"
            if "failed to poll" in reason:
                # A configuration that Triton cannot read: only the log says why.
                said = self.log[said_before:].splitlines()
                errors = [line for line in said if line[:1] == "E" or "ERROR" in line]
                reason = "\n".join([reason, *errors])
            if status != 200:
                raise ModelLoadError(
                    f"model {name!r} could not be loaded: {without_importlib(reason)}",
                    load_remedy(reason),
                )
            self._loaded.add(name)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        code = self._process.returncode
        state = f"pid {self.pid}" if code is None else self._end()
        guard = "protected" if self.headers else "not protected"
        return (
            f"<Server Triton {self.version} at {self.url}, gRPC {self.grpc_url}, {guard}, {state}>"
        )

    def _end(self) -> str:
        """Say how it ended. One that is stopped is killed in the end, which says nothing."""
        process = self._process
        return "stopped" if process.stopped else f"ended by itself with code {process.returncode}"

    def _described(self) -> Description:
        """Describe the server by what is known, without asking anyone."""
        code = self._process.returncode
        rows = [
            ("Triton", self.version),
            ("HTTP", self.url),
            ("gRPC", self.grpc_url),
            ("metrics", self.metrics_url),
            (
                "APIs",
                "protected by a header" if self.headers else "open to whoever reaches the port",
            ),
            ("state", f"running, pid {self.pid}" if code is None else self._end()),
        ]
        if code is None:
            added = self._repository.added
            names = (*added, *(name for name in TEACHING_MODELS if name not in added))
            more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            rows.append(("models", f"{len(names)}: {', '.join(names[:NAMES_SHOWN])}{more}"))
        return "Server", rows, ()


_held: weakref.WeakSet[ServerProcess] = weakref.WeakSet()


def _abandon(process: ServerProcess, url: str) -> None:
    """Stop a server that nobody holds any more."""
    left = process.running and process.owned
    process.stop(0.0)
    if left:
        warnings.warn(f"the server at {url} was not stopped", ResourceWarning, stacklevel=2)


@atexit.register
def _stop_all() -> None:
    """Stop every server at the interpreter's end, at once: nobody is left to ask it."""
    for process in list(_held):
        process.stop(0.0)


def loaded_by_log(log: str, known: Iterable[str]) -> set[str]:
    """Return the models that a server's log says are loaded.

    Parameters
    ----------
    log
        What it wrote. Triton can be told to write less.
    known
        Models that were loaded, which count unless the log says that they were unloaded.
    """
    loaded = set(known)
    for word, name in re.findall(r"successfully (loaded|unloaded) '([^']+)'", log):
        (loaded.add if word == "loaded" else loaded.discard)(name)
    return loaded


def without_importlib(reason: str) -> str:
    """Leave out of a model's traceback what is Python's own part in every import."""
    lines = [line for line in reason.splitlines() if "<frozen importlib" not in line]
    return "\n".join(lines).rstrip(" ;\n")


def load_remedy(reason: str) -> str:
    """Tell what to do about a model that could not be loaded."""
    if "No module named" in reason:
        return (
            "a model runs in the server's own Python, which has NumPy and ONNX Runtime only: do "
            "without the module, or export the model to ONNX"
        )
    return "mend the model's files; serve(log_verbose=1) makes the server say more"


def error_text(body: bytes) -> str:
    """Return the server's own words from the body of an answer."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace") or "no reason given"
