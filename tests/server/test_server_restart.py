"""A server that is started again is the same server: addresses, header, models."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_helpers import alive, lock_files, pools, run_script

from tests.model_folders import python_model
from tests.waiting import eventually
from tritonic_nb.errors import ModelLoadError, ServerStartError
from tritonic_nb.server import Server, serve
from tritonic_nb.server.launch import request
from tritonic_nb.server.process import loaded_by_log

MODEL = "class TritonPythonModel:\n    pass\n"
BODY = json.dumps(
    {
        "inputs": [
            {"name": f"INPUT{i}", "shape": [1, 16], "datatype": "INT32", "data": [1] * 16}
            for i in range(2)
        ]
    }
)


def port(server: Server) -> int:
    """Return the server's HTTP port."""
    return int(server.url.rpartition(":")[2])


def control(server: Server, name: str, action: str) -> None:
    """Load or unload a model as another program would: past the Server object."""
    path = f"/v2/repository/models/{name}/{action}"
    assert request(port(server), "POST", path, server.headers, timeout_s=20.0)[0] == 200


def ready(server: Server, name: str) -> bool:
    """Tell whether a model is loaded."""
    return request(port(server), "GET", f"/v2/models/{name}/ready")[0] == 200


def added(connection: http.client.HTTPConnection) -> bool:
    """Let the model simple add two vectors."""
    connection.request("POST", "/v2/models/simple/infer", BODY)
    answer = connection.getresponse()
    body = answer.read()
    return answer.status == 200 and json.loads(body)["outputs"][0]["data"][0] == 2


@pytest.fixture
def embedded_alone(tmp_path: Path) -> Iterator[Server]:
    """Give a server of the test's own with two loaded models, one by another program."""
    folder = python_model(tmp_path / "mine", MODEL)
    with serve(["simple"]) as running:
        running.add("mine", folder)
        control(running, "mine", "load")
        yield running
        running.stop(0.0)


def disturb(server: Server, how: str) -> None:
    """Bring the server into the state from which it is started again."""
    if how == "was killed":
        os.kill(server.pid, signal.SIGKILL)
    elif how == "hangs":
        os.kill(server.pid, signal.SIGSTOP)
    elif how == "lost its supervisor":
        os.kill(server._process._supervisor.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["runs", "was killed", "hangs", "lost its supervisor"])
def test_the_same_server_comes_back(embedded_alone: Server, how: str) -> None:
    """However it was, it comes back at its addresses with its models, though clients hold on.

    The models are those that were loaded, by whomever, and no others.
    """
    server = embedded_alone
    known = (server.url, server.grpc_url, server.metrics_url, server.headers, server.models)
    pid, supervisor, before = server.pid, server._process._supervisor.pid, server.pools()
    control(server, "simple_int8", "load")
    control(server, "simple_int8", "unload")
    assert eventually(lambda: "successfully unloaded 'simple_int8'" in server.log)
    client = http.client.HTTPConnection("127.0.0.1", port(server), timeout=10)
    assert added(client)
    disturb(server, how)

    server.restart()

    client.close()
    assert server.running
    assert server.pid != pid
    assert not alive(pid)
    assert not alive(supervisor)
    assert (server.url, server.grpc_url, server.metrics_url, server.headers, server.models) == known
    assert ready(server, "simple")
    assert ready(server, "mine")
    assert not ready(server, "simple_int8")
    assert not set(before) & set(server.pools())
    assert len(server.pools()) == 2
    assert server.log.count("Started HTTPService") == 2
    assert b"restricted" in request(port(server), "POST", "/v2/repository/index")[1]


def test_threads_go_on_after_a_restart(embedded_alone: Server) -> None:
    """Threads that infer meanwhile see errors of their connections, and then answers again."""
    server, stop = embedded_alone, threading.Event()
    unexpected: list[BaseException] = []
    answers = [0, 0]

    def infer(index: int) -> None:
        while not stop.is_set():
            client = http.client.HTTPConnection("127.0.0.1", port(server), timeout=10)
            try:
                while not stop.is_set():
                    answers[index] += added(client)
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
            except BaseException as error:
                unexpected.append(error)
            finally:
                client.close()

    def both_more_than(before: list[int]) -> bool:
        return answers[0] > before[0] and answers[1] > before[1]

    threads = [threading.Thread(target=infer, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert eventually(lambda: both_more_than([0, 0]))
        server.restart()
        so_far = list(answers)
        assert eventually(lambda: both_more_than(so_far))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not unexpected


def test_a_model_that_cannot_be_loaded_again_is_told(
    embedded_alone: Server, tmp_path: Path
) -> None:
    """Its error comes when the others are loaded, and once; the server stays."""
    server = embedded_alone
    shutil.rmtree(tmp_path / "mine")
    with pytest.raises(ModelLoadError, match=r"mine.*is gone"):
        server.restart()
    assert ready(server, "simple")
    os.kill(server.pid, signal.SIGKILL)
    server.wait(5.0)
    server.restart()
    assert ready(server, "simple")


def test_a_restart_that_fails_leaves_nothing() -> None:
    """Where a stranger has its port meanwhile, the server is stopped, and stays so."""
    before = pools(os.getpid()) | lock_files(os.getpid())
    server = serve()
    supervisor, folder = server._process._supervisor.pid, server.repository.parent
    os.kill(server.pid, signal.SIGKILL)
    server.wait(5.0)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port(server)))
        stranger.listen()
        with pytest.raises(ServerStartError, match="already in use") as caught:
            server.restart()
    assert type(caught.value) is ServerStartError
    assert not server.running
    assert not alive(supervisor)
    assert not folder.exists()
    assert pools(os.getpid()) | lock_files(os.getpid()) == before
    assert server.log.count("Started") > 0
    with pytest.raises(ServerStartError, match="was stopped"):
        server.restart()


def test_a_server_whose_supervisor_was_told_to_end_is_gone() -> None:
    """SIGTERM to the supervisor removes the server's folder: a restart says so."""
    server = serve()
    os.kill(server._process._supervisor.pid, signal.SIGTERM)
    server.wait(5.0)
    assert eventually(lambda: not server.repository.exists())
    with pytest.raises(ServerStartError, match="was stopped"):
        server.restart()
    server.stop()


def test_a_forked_child_may_not_restart_it() -> None:
    """A process that was forked from the server's gets an error, and the server goes on."""
    done = run_script(
        "import os, sys\n"
        "from tritonic_nb.errors import ServerStartError\n"
        "from tritonic_nb.server import serve\n"
        "server = serve()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try:\n"
        "        server.restart()\n"
        "    except ServerStartError as error:\n"
        "        os._exit(7 if 'forked' in error.message else 8)\n"
        "    os._exit(9)\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "sys.exit(0 if code == 7 and server.running else 1)\n"
    )
    assert done.returncode == 0, done.stderr


def test_the_log_tells_what_was_loaded() -> None:
    """Models count as loaded by what the log says last, or else by what is known."""
    log = "\"successfully loaded 'a'\"\n\"successfully unloaded 'b' version 1\"\nmore\n"
    assert loaded_by_log(log, ["b", "c"]) == {"a", "c"}
    assert loaded_by_log("", ["b"]) == {"b"}
