"""A server's life: start, use, stop, and every other end."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server_helpers import alive, lock_files, pools, run_script

from tests.model_folders import python_model
from tests.waiting import eventually
from tritonic_nb.errors import (
    ModelLoadError,
    ModelNotFoundError,
    RuntimeUnavailableError,
    ServerStartError,
)
from tritonic_nb.server import Server, prepare, serve
from tritonic_nb.server.launch import (
    GRPC_PREFIX,
    HEADER,
    Ports,
    find_installation,
    launch_once,
    request,
)

REPOSITORY_INDEX = ("POST", "/v2/repository/index")


def port(server: Server) -> int:
    """Return the server's HTTP port."""
    return int(server.url.rpartition(":")[2])


def test_ready_within_five_seconds_and_gone_without_a_trace() -> None:
    """A prepared server is ready in less than 5 s; stop() leaves no process, pool or folder."""
    prepare()
    before, locks = pools(os.getpid()), lock_files(os.getpid())
    started = time.monotonic()
    server = serve()
    took_s = time.monotonic() - started
    try:
        assert took_s < 5.0
        server._load(["simple"])
        assert pools(os.getpid()) > before
        assert request(port(server), "GET", "/v2/health/ready")[0] == 200
        supervisor = server._process._supervisor.pid
        folder = server.repository.parent
    finally:
        server.stop()
    assert not server.running
    assert not alive(server.pid)
    assert not alive(supervisor)
    assert not folder.exists()
    assert pools(os.getpid()) == before
    assert lock_files(os.getpid()) == locks
    assert "successfully loaded 'simple'" in server.log
    server.stop()


def test_private_files_and_a_session_of_its_own(embedded: Server) -> None:
    """Its folder is 0700, its log 0600, and the kernel's signals do not reach it."""
    folder = embedded.repository.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "server.log").stat().st_mode) == 0o600
    assert os.getsid(embedded.pid) != os.getsid(0)
    assert os.getpgid(embedded.pid) != os.getpgid(0)


def test_loopback_only(embedded: Server) -> None:
    """All three services listen on 127.0.0.1 and nowhere else."""
    own = set()
    for entry in Path(f"/proc/{embedded.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed while they were read
            own.add(str(entry.readlink()))
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    listening = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own]
    assert len(listening) == 3
    # gRPC's socket speaks IPv6 too, bound to the IPv4 loopback.
    assert all(address.rpartition(":")[0].endswith("0100007F") for address in listening)


def test_protected_apis_want_the_header(embedded: Server) -> None:
    """Without the header the repository API is refused, with it it opens; inference is free."""
    status, body = request(port(embedded), *REPOSITORY_INDEX)
    assert status != 200
    assert b"restricted" in body
    assert request(port(embedded), *REPOSITORY_INDEX, embedded.headers)[0] == 200
    for method, path in (
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/trace/setting"),
        ("GET", "/v2/logging"),
    ):
        assert b"restricted" in request(port(embedded), method, path)[1]
        assert request(port(embedded), method, path, embedded.headers)[0] == 200
    assert request(port(embedded), "GET", "/v2")[0] == 200


def test_the_same_header_opens_grpc(embedded: Server) -> None:
    """The one header in ``headers`` opens the protected protocols over gRPC too."""
    grpc = pytest.importorskip("tritonclient.grpc")
    with grpc.InferenceServerClient(embedded.grpc_url) as client:
        with pytest.raises(Exception, match="restricted"):
            client.get_model_repository_index()
        assert client.get_model_repository_index(headers=embedded.headers)


def test_unprotected_needs_no_header() -> None:
    """protected=False opens every API and has no header to send."""
    with serve(protected=False) as server:
        assert server.headers == {}
        assert "open to whoever reaches the port" in server._repr_mimebundle_()["text/plain"]
        assert request(port(server), *REPOSITORY_INDEX)[0] == 200


def test_the_secret_is_not_shown() -> None:
    """Neither the reprs nor the log tell the header's value."""
    with serve(log_verbose=1) as server:
        (value,) = server.headers.values()
        request(port(server), *REPOSITORY_INDEX, server.headers)
        bundle = server._repr_mimebundle_()
        for text in (repr(server), *bundle.values(), server.log):
            assert value not in text
        assert f"running, pid {server.pid}" in bundle["text/plain"]
        assert "<Server" not in bundle["text/html"]
        assert "protected by a header" in bundle["text/html"]
    ended = server._repr_mimebundle_()
    for text in (repr(server), *ended.values()):
        assert "stopped" in text
        assert value not in text
    assert value not in server.log


def test_a_card_is_what_is_known(embedded: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card names addresses, state and models, what was added first, and asks nobody."""
    embedded._repr_mimebundle_()  # reads the templates
    monkeypatch.setattr(embedded._repository, "_added", {"zebra", "simple"})
    for kind, name in ((Path, "iterdir"), (os, "read"), (os, "stat"), (socket, "socket")):
        monkeypatch.setattr(kind, name, None)
    bundle, line = embedded._repr_mimebundle_(), repr(embedded)
    monkeypatch.undo()
    assert bundle["text/plain"].splitlines() == [
        "Server",
        "  Triton   2.51.0",
        f"  HTTP     {embedded.url}",
        f"  gRPC     {embedded.grpc_url}",
        f"  metrics  {embedded.metrics_url}",
        "  APIs     protected by a header",
        f"  state    running, pid {embedded.pid}",
        "  models   22: simple, zebra, simple_string, simple_int8, simple_identity, "
        "simple_sequence, and 16 more",
    ]
    assert bundle["text/html"].count('<th scope="row">') == 7
    assert line.startswith(f"<Server Triton 2.51.0 at {embedded.url}, ")
    assert "\n" not in line


def test_metrics_are_served(embedded: Server) -> None:
    """``metrics_url`` leads to Triton's metrics."""
    number = int(embedded.metrics_url.split(":")[2].split("/")[0])
    status, body = request(number, "GET", "/metrics")
    assert status == 200
    assert b"nv_" in body


def test_a_taken_port_is_named() -> None:
    """A port that is asked for and taken is an error that names it, at once."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        number = holder.getsockname()[1]
        with pytest.raises(ServerStartError, match=str(number)):
            serve(http_port=number)


def test_a_snatched_port_is_noticed(embedded: Server) -> None:
    """Any port lost between choice and use ends in an error, not in a stranger's server."""
    installation = find_installation(None, auto_complete=None, progress=None)

    def start(service: str) -> None:
        taken = {service: getattr(embedded._ports, service)}
        with pytest.raises(ServerStartError, match="already in use"):
            launch_once(
                installation,
                dataclasses.replace(Ports(0, 0, 0).chosen(), **taken),
                protected=True,
                log_verbose=0,
                deadline=time.monotonic() + 20,
                timeout=20,
            )

    with ThreadPoolExecutor() as threads:
        assert list(threads.map(start, ("http", "grpc", "metrics"))) == [None] * 3


def folders() -> set[Path]:
    """Return the folders of all servers that run now, or were not cleared up."""
    return set(Path(tempfile.gettempdir()).glob("tritonic_nb_server_*"))


def wrapper(folder: Path, *lines: str) -> Path:
    """Write a shell script that stands where a tritonserver would."""
    script = folder / "bin/tritonserver"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    script.chmod(0o700)
    return script


def real_server(folder: Path) -> str:
    """Return shell words that become the real server."""
    runtime = prepare()
    (folder / "env").mkdir()
    variables = runtime.environment(folder / "env")
    libraries = variables["LD_LIBRARY_PATH"]
    return f"LD_LIBRARY_PATH='{libraries}' exec '{runtime.tritonserver}'"


def test_a_server_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRITONIC_NB_TRITONSERVER names the program that is started."""
    script = wrapper(tmp_path, f'{real_server(tmp_path)} "$@"')
    monkeypatch.setenv("TRITONIC_NB_TRITONSERVER", str(script))
    with serve() as server:
        assert server.version == "2.51.0"
        assert server._installation.runtime is None


def test_a_failed_start_carries_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends at start is an error with its code and its last words."""
    script = wrapper(
        tmp_path,
        'case "$1" in --help) echo --model-repository; exit;; esac',
        f'{real_server(tmp_path)} "$@" --no-such-option',
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # others start servers meanwhile
    with pytest.raises(ServerStartError, match="no-such-option"):
        serve(tritonserver=script)
    assert not folders()


def test_a_slow_start_is_given_up(tmp_path: Path) -> None:
    """A server that is not ready within the timeout is stopped."""
    script = wrapper(
        tmp_path,
        'case "$1" in --help) echo --model-repository; exit;; esac',
        "echo getting up",
        "sleep 60",
    )
    with pytest.raises(ServerStartError, match=r"not ready after 0.5 s.*\n.*getting up"):
        serve(tritonserver=script, timeout=0.5)


def test_a_missing_program_is_refused(tmp_path: Path) -> None:
    """A tritonserver that is named and does not exist or run is an error that names it."""
    with pytest.raises(RuntimeUnavailableError, match="nowhere"):
        serve(tritonserver=tmp_path / "nowhere")
    with pytest.raises(RuntimeUnavailableError, match="libmissing"):
        serve(tritonserver=wrapper(tmp_path, "echo libmissing.so: cannot open", "exit 127"))


def test_an_unknown_teaching_model_is_refused_before_the_start() -> None:
    """A wrong name is an error that lists the right ones."""
    with pytest.raises(ModelNotFoundError, match="identity_fp32"):
        serve(["nonesuch"])


def test_a_model_that_fails_at_start_stops_the_server(tmp_path: Path) -> None:
    """A model of serve(models=...) that cannot load is an error with its own words."""
    model = python_model(tmp_path / "failing", "raise RuntimeError('out of luck')\n")
    before = pools(os.getpid())
    with pytest.raises(ModelLoadError, match="out of luck"):
        serve({"failing": model})
    assert pools(os.getpid()) == before


SERVE_AND_TELL = """
import json, os, signal, sys, time
from tritonic_nb.server import serve
server = serve(["simple"])
print(json.dumps({"pids": [server.pid, server._process._supervisor.pid],
                  "folder": str(server.repository.parent), "parent": os.getpid()}), flush=True)
"""


def nothing_left(told: dict[str, object]) -> bool:
    """Tell whether a child's server left neither process nor folder nor pool."""
    pids = told["pids"]
    assert isinstance(pids, list)
    return (
        not any(alive(pid) for pid in pids)
        and not Path(str(told["folder"])).exists()
        and not pools(int(str(told["parent"])))
        and not lock_files(int(str(told["parent"])))
    )


def test_a_killed_parent_leaves_nothing() -> None:
    """Kill -9 of the process that called serve() ends the server, its pools and its folder."""
    done = run_script(SERVE_AND_TELL + "os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL, done.stderr
    told = json.loads(done.stdout)
    assert eventually(lambda: nothing_left(told))


def test_a_forked_child_does_not_keep_it_alive() -> None:
    """A child forked after serve() neither holds the server nor ends it."""
    script = SERVE_AND_TELL + (
        "done, stopped = os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.close(1); os.close(2)\n"
        "    server.stop()\n"
        "    os.write(stopped, b'.')\n"
        "    time.sleep(30)\n"
        "    os._exit(0)\n"
        "os.read(done, 1)\n"
        "print(json.dumps([child, server.running]), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = run_script(script)
    first, second = done.stdout.splitlines()
    child, running = json.loads(second)
    try:
        assert running
        assert eventually(lambda: nothing_left(json.loads(first)))
        assert alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_end_of_the_interpreter_is_quiet() -> None:
    """A program that ends without stop() leaves nothing, and no warning."""
    done = run_script(SERVE_AND_TELL)
    assert (done.returncode, done.stderr) == (0, "")
    assert nothing_left(json.loads(done.stdout))


def test_a_forgotten_server_is_stopped_with_a_warning() -> None:
    """A server that nobody holds any more is stopped, and a ResourceWarning says so."""
    server = serve()
    pid, folder = server.pid, server.repository.parent
    with pytest.warns(ResourceWarning, match="not stopped"):  # noqa: PT031 - one act
        del server
        gc.collect()
    assert not alive(pid)
    assert not folder.exists()


def test_a_server_that_dies_is_noticed() -> None:
    """After the server's own end, running is False, the log speaks, and stop() clears up."""
    before = pools(os.getpid())
    with serve(["simple"]) as server:
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait(5.0) == -signal.SIGKILL
        assert not server.running
        assert "Started HTTPService" in server.log
        assert eventually(lambda: pools(os.getpid()) == before)
        folder = server.repository.parent
        assert folder.exists()
    assert not folder.exists()


def test_a_killed_supervisor_takes_the_server_with_it() -> None:
    """Kill -9 of the supervisor ends the server; stop() then removes what is left."""
    before = pools(os.getpid())
    with serve(["simple"]) as server:
        os.kill(server._process._supervisor.pid, signal.SIGKILL)
        assert server.wait(5.0) is not None
        assert eventually(lambda: not alive(server.pid))
        folder = server.repository.parent
    assert not folder.exists()
    assert eventually(lambda: pools(os.getpid()) == before)


def test_wait_tells_that_it_still_runs(embedded: Server) -> None:
    """wait() with a limit returns None while the server runs."""
    assert embedded.wait(0.01) is None


def test_the_supervisor_ends_at_once_without_orders() -> None:
    """A supervisor whose parent ends before it gave orders starts nothing."""
    from tritonic_nb.server.child import SUPERVISOR

    done = subprocess.run(
        [sys.executable, "-I", "-S", str(SUPERVISOR)], input=b"", timeout=10, check=False
    )
    assert done.returncode == 0


def test_header_names() -> None:
    """GRPC's prefix is part of the name in ``headers``, so that HTTP and gRPC share it."""
    assert GRPC_PREFIX + HEADER == "triton-grpc-protocol-tritonic-nb-key"
