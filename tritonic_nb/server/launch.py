"""Brings a tritonserver up: its command line, its ports, and the wait until it is ready."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tritonic_nb.errors import RuntimeUnavailableError, ServerStartError
from tritonic_nb.server.child import ServerProcess, group, open_files
from tritonic_nb.server.locate import find_tritonserver
from tritonic_nb.server.orphans import FOLDER_PREFIX
from tritonic_nb.server.repository import Repository
from tritonic_nb.server.runtime import Runtime, clean_environment, prepare

__all__ = [
    "LOOPBACK",
    "Installation",
    "Launch",
    "Ports",
    "find_installation",
    "launch",
    "relaunch",
    "request",
    "trace_file_of",
]

LOOPBACK = "127.0.0.1"
PORT_ATTEMPTS = 4
READY_POLL_S = 0.01
LOG_LINES = 12
TCP_LISTEN = "0A"
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+@%=-]+")
RESTRICTED_APIS = "model-repository,shared-memory,trace,logging"
# A gRPC client has to send the name that was configured with this in front. With
# it in HTTP's configuration and without it in gRPC's, one header opens both.
GRPC_PREFIX = "triton-grpc-protocol-"
HEADER = "tritonic-nb-key"


@dataclass(frozen=True)
class Ports:
    """The ports of the three services; 0 for any that is free."""

    http: int
    grpc: int
    metrics: int

    @property
    def any_free(self) -> bool:
        """Whether another choice may help when one is taken."""
        return 0 in (self.http, self.grpc, self.metrics)

    def chosen(self) -> Ports:
        """Return the same with a free port for each 0.

        Raises
        ------
        ServerStartError
            One that was asked for is taken.
        """
        given = [number for number in (self.http, self.grpc, self.metrics) if number]
        if len(set(given)) < len(given):
            raise ServerStartError(
                f"HTTP, gRPC and metrics were given the ports {self.http}, {self.grpc} and "
                f"{self.metrics}, and each needs one of its own",
                "give different ports, or 0 for a free one",
            )
        with contextlib.ExitStack() as held:
            # All are held until all are chosen, so that none is chosen twice.
            numbers = [
                held.enter_context(bound(number, service)).getsockname()[1]
                for number, service in (
                    (self.http, "http"),
                    (self.grpc, "grpc"),
                    (self.metrics, "metrics"),
                )
            ]
        return Ports(*numbers)


def bound(number: int, service: str) -> socket.socket:
    """Return a socket that holds a port of this machine's loopback."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers do: a port whose last connection was closed a moment ago is free.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, number))
    except (OSError, OverflowError) as error:
        holder.close()
        raise ServerStartError(
            f"the server cannot use port {number} for {service}: {error}",
            f"leave {service}_port out to get a free one, or find out who has it: "
            f"`ss -ltnp 'sport = :{number}'`",
        ) from None
    return holder


@dataclass(frozen=True)
class Installation:
    """A tritonserver on this machine, and how it wants to be started.

    Attributes
    ----------
    program
        The tritonserver.
    backends
        Its backends' folder; ``None`` where it knows its own.
    runtime
        Our environment, when the server is the one in it.
    allow_client_shm
        It has to be told that clients may use shared memory (Triton 2.68 and newer).
    auto_complete
        It completes models' configurations. For a model of the Python backend that
        means to start and to stop it once more, which takes more than a second.
    traces
        It can write down when each request passed which stage.
    """

    program: Path
    backends: Path | None
    runtime: Runtime | None
    allow_client_shm: bool
    auto_complete: bool
    traces: bool = False

    @property
    def onnx_backend(self) -> str:
        """The backend for ONNX files: the server's own where it has one."""
        folder = self.backends or self.program.parent.parent / "backends"
        return "onnxruntime" if (folder / "onnxruntime").is_dir() else "python"


def find_installation(
    given: str | os.PathLike[str] | None,
    *,
    auto_complete: bool | None,
    progress: Callable[[str], None] | None,
) -> Installation:
    """Return the tritonserver to start: named, installed, or the one of our environment.

    Raises
    ------
    RuntimeUnavailableError
        There is none, or the one that was named does not run.
    """
    program = find_tritonserver(given)
    if program is None:
        runtime = prepare(progress)
        return Installation(
            runtime.tritonserver,
            runtime.backends,
            runtime,
            allow_client_shm=False,
            auto_complete=bool(auto_complete),
            traces=True,
        )
    try:
        answer = subprocess.run(
            [program, "--help"],
            env=clean_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30.0,
            check=False,
        )
        usage = answer.stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        usage = str(error)
    if "--model-repository" not in usage:
        raise RuntimeUnavailableError(
            f"{program} does not run: {' '.join(usage.split())[:300]}",
            "repair or remove it, or name another one in TRITONIC_NB_TRITONSERVER",
        )
    beside = program.parent.parent / "backends"
    return Installation(
        program,
        beside if beside.is_dir() else None,
        None,
        allow_client_shm="--allow-client-shm" in usage,
        auto_complete=auto_complete is not False,
        traces="--trace-config" in usage,
    )


@dataclass(frozen=True)
class Launch:
    """A server that is up."""

    installation: Installation
    ports: Ports
    headers: Mapping[str, str]
    process: ServerProcess
    repository: Repository
    version: str


def launch(
    installation: Installation, ports: Ports, *, protected: bool, log_verbose: int, timeout: float
) -> Launch:
    """Start a server and wait until it answers; try other ports when one was snatched.

    Raises
    ------
    ServerStartError
        With the reason and the end of the server's log.
    """
    deadline = time.monotonic() + timeout
    for attempt in range(PORT_ATTEMPTS):
        chosen = ports.chosen()
        try:
            return launch_once(
                installation,
                chosen,
                protected=protected,
                log_verbose=log_verbose,
                deadline=deadline,
                timeout=timeout,
            )
        except _PortTakenError as taken:
            if not ports.any_free or attempt == PORT_ATTEMPTS - 1:
                raise ServerStartError(taken.message, taken.remedy) from None
    raise AssertionError


class _PortTakenError(ServerStartError):
    """Another process took a port between its choice and its use."""


def launch_once(
    installation: Installation,
    ports: Ports,
    *,
    protected: bool,
    log_verbose: int,
    deadline: float,
    timeout: float,
) -> Launch:
    """Start a server on ports that were free a moment ago."""
    secret = secrets.token_urlsafe(24) if protected else ""
    folder = server_folder()
    try:
        repository = Repository(folder / "repository")
        process = ServerProcess(
            command_line(installation, ports, repository.folder, secret, log_verbose),
            environment(installation, folder),
            folder,
            secret,
            stubs_only=installation.runtime is not None,
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    headers = {GRPC_PREFIX + HEADER: secret} if protected else {}
    with stopped_on_failure(process):
        version = wait_until_ready(process, ports, deadline, timeout)
    return Launch(installation, ports, headers, process, repository, version)


def relaunch(process: ServerProcess, ports: Ports, timeout: float) -> str:
    """Start a server again, on its ports and in its folder; return its version.

    Raises
    ------
    ServerStartError
        With the reason and the end of the server's log. The server is stopped then.
    """
    deadline = time.monotonic() + timeout
    with stopped_on_failure(process):
        if not process.restart():
            raise ServerStartError(
                f"the server at {LOOPBACK}:{ports.http} was stopped, and its models' folder is "
                "gone",
                "start another one with serve()",
            )
        try:
            return wait_until_ready(process, ports, deadline, timeout)
        except _PortTakenError as taken:
            raise ServerStartError(taken.message, taken.remedy) from None


@contextlib.contextmanager
def stopped_on_failure(process: ServerProcess) -> Iterator[None]:
    """Leave nothing of a server that did not come up."""
    try:
        yield
    except BaseException:
        process.stop(0.5)
        raise


def server_folder() -> Path:
    """Make the server's own folder, readable for this user alone.

    Triton starts its Python backend through a shell and quotes nothing, and that
    Python takes file names for ASCII: so the path must be a plain one.

    Raises
    ------
    ServerStartError
        The folder for temporary files has another name.
    """
    place = tempfile.gettempdir()
    if not PLAIN_PATH.fullmatch(place):
        raise ServerStartError(
            f"the folder for temporary files is {place!r}, and Triton cannot start its Python "
            "backend there: only ASCII letters, digits and ./_+@%=- do",
            "set TMPDIR to a folder with a plain name, such as /tmp, before Python starts",
        )
    return Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}_"))


def command_line(
    installation: Installation, ports: Ports, repository: Path, secret: str, log_verbose: int
) -> list[str]:
    """Return the server's command line, but for what its process adds."""
    command = [
        str(installation.program),
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        # Otherwise one model that fails to load makes the whole server "not ready".
        "--strict-readiness=false",
        "--exit-timeout-secs=3",
        f"--log-verbose={log_verbose}",
        f"--http-address={LOOPBACK}",
        f"--grpc-address={LOOPBACK}",
        f"--metrics-address={LOOPBACK}",
        f"--http-port={ports.http}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-port={ports.metrics}",
    ]
    if installation.backends is not None:
        # By a link, because the cache folder's path may be one that the shell splits.
        backends = repository.parent / "backends"
        backends.symlink_to(installation.backends)
        command.append(f"--backend-directory={backends}")
    if not installation.auto_complete:
        command.append("--disable-auto-complete-config")
    if installation.allow_client_shm:
        command.append("--allow-client-shm=true")
    if installation.traces:  # off until it is switched on for a model
        command += [
            f"--trace-config=triton,file={trace_file_of(repository)}",
            "--trace-config=mode=triton",
            "--trace-config=level=OFF",
        ]
    if secret:
        command += [
            f"--http-restricted-api={RESTRICTED_APIS}:{GRPC_PREFIX}{HEADER}={secret}",
            f"--grpc-restricted-protocol={RESTRICTED_APIS}:{HEADER}={secret}",
        ]
    return command


def trace_file_of(repository: Path) -> Path:
    """Return where a server writes traces, in the folder that it has for itself."""
    return repository.parent / "trace.json"


def environment(installation: Installation, folder: Path) -> dict[str, str]:
    """Return the server's environment variables."""
    if installation.runtime is None:
        return clean_environment(os.environ)
    python = folder / "python"
    python.mkdir()
    return installation.runtime.environment(python)


def wait_until_ready(process: ServerProcess, ports: Ports, deadline: float, timeout: float) -> str:
    """Wait until the server answers on all its ports; return its version.

    Raises
    ------
    ServerStartError
        It ended, or took too long.
    """
    while True:
        if not process.running:
            raise start_error(process)
        if listens(process.pid, ports):
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError):
                status, _ = request(ports.http, "GET", "/v2/health/ready")
                if status == 200:
                    return str(json.loads(request(ports.http, "GET", "/v2")[1])["version"])
        if time.monotonic() > deadline:
            raise ServerStartError(
                f"the server was not ready after {timeout:g} s; the end of its log:\n"
                f"{last_lines(process.log(since_start=True))}",
                "give it longer with timeout=..., or free the machine's processors",
            )
        time.sleep(READY_POLL_S)


def request(
    port: int,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float = 5.0,
) -> tuple[int, bytes]:
    """Send one request to the loopback, past any proxy; return status and body."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def start_error(process: ServerProcess) -> ServerStartError:
    """Make the error for a server that ended before it was ready."""
    log = process.log(since_start=True)
    message = (
        f"the server ended with code {process.returncode} before it was ready; "
        f"the end of its log:\n{last_lines(log)}"
    )
    if "already in use" in log.lower():
        return _PortTakenError(message, "start one with serve() on other ports, or on free ones")
    if "error while loading shared libraries" in log:
        return ServerStartError(
            message, "install the library that is named, or use another tritonserver"
        )
    return ServerStartError(
        message, "look in the log for the cause; serve(log_verbose=1) shows more"
    )


def last_lines(log: str) -> str:
    """Return the end of a log, indented, without the tables that say nothing about errors."""
    # A server that does not know an option says so, and then prints them all.
    said, _, _ = log.partition("\nUsage: tritonserver")
    lines = [line for line in said.splitlines() if line.strip() and line[0] not in "|+"]
    return "\n".join(f"  {line[:400]}" for line in lines[-LOG_LINES:] or ["(empty)"])


def listens(pid: int, ports: Ports) -> bool:
    """Tell whether a server itself listens on all three ports.

    Triton writes "Started ..." before it binds a port, and a stranger may answer on
    one that it then fails to get: so the kernel is asked. The process may be a
    script that started the server, in its process group.
    """
    if not pid:  # not started yet
        return False
    held: set[str] = set()
    for member in group(pid):
        try:
            held |= open_files(member)
        except PermissionError:
            return True
    rows = [
        row.split()
        for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
        if table.exists()  # there is no second one without IPv6
        for row in table.read_text(encoding="ascii").splitlines()[1:]
    ]
    own = {
        int(row[1].rpartition(":")[2], 16)
        for row in rows
        if row[3] == TCP_LISTEN and f"socket:[{row[9]}]" in held
    }
    return {ports.http, ports.grpc, ports.metrics} <= own
