"""The command tritonic-nb, as a person runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tritonic_nb
from tests.conftest import brief_server
from tritonic_nb import samples
from tritonic_nb.memory.shm_file import SHM_DIR

COMMAND = [sys.executable, "-m", "tritonic_nb.cli"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the server in the foreground and give what it printed when it was ready."""
    with subprocess.Popen(
        [*COMMAND, "serve", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        try:
            yield process, "".join(lines)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_the_demo_classifies_and_leaves_nothing() -> None:
    """Top-5, the bytes through /dev/shm, the time against plain HTTP; nothing stays."""
    with subprocess.Popen([*COMMAND, "demo"], stdout=subprocess.PIPE, text=True) as process:
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert re.search(r"^ *\d+\.\d%  (Egyptian cat|tiger cat|tabby) \(\d+\)$", printed, re.M)
    assert len(re.findall(r"^ *\d+\.\d%  ", printed, re.M)) == 5
    assert re.search(r"input +images +602 kB", printed)
    assert re.search(r"system shared memory +\d+\.\d+ ms, 1.41 MB in shared memory", printed)
    assert re.search(r"the wire +\d+\.\d+ ms, 0 B in shared memory", printed)
    ours = re.compile(rf"tritonic_nb.*[-_]{process.pid}[-_]")
    assert not [name for name in os.listdir(SHM_DIR) if ours.match(name)]


def test_the_demo_takes_a_picture() -> None:
    """A picture of one's own is classified instead."""
    done = run("demo", str(samples.image("espresso")))
    assert "espresso (967)" in done.stdout.splitlines()[3]


@pytest.mark.parametrize("bad", ["missing.png", __file__, "/dev/zero"])
def test_a_bad_picture_is_one_clear_error(bad: str) -> None:
    """No traceback, exit status 1, and what to do."""
    done = run("demo", bad)
    assert done.returncode == 1
    assert "What to do:" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_loads_nvidias_examples_and_opens_every_api(tmp_path: Path) -> None:
    """With --open the examples are loaded at the ports that were asked for, for any client."""
    port = free_port()
    with (
        serving("--open", "--http-port", str(port)) as (_, printed),
        tritonic_nb.Session(f"127.0.0.1:{port}", "simple") as session,
    ):
        ready = {m.name for m in session.models() if m.state == "READY"}
        assert ready == {
            "simple", "simple_string", "simple_identity", "simple_int8", "simple_sequence",
        }  # fmt: skip
        assert f"127.0.0.1:{port}" in printed


def test_serve_is_protected_unless_opened(tmp_path: Path) -> None:
    """The header is never printed; a private file has it, and opens the protected APIs."""
    file = tmp_path / "headers.json"
    model = str(samples.classifier())
    with serving("simple", model, "--headers-file", str(file)) as (_, printed):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        headers = json.loads(file.read_text())
        assert not any(value in printed for value in headers.values())
        url = re.search(r"HTTP +(\S+)", printed)
        assert url is not None
        with tritonic_nb.Session(url[1], samples.classifier().stem, headers=headers) as session:
            assert session.infer(samples.image("espresso")).shared_nbytes > 0
        with tritonic_nb.Session(url[1]) as session, pytest.raises(tritonic_nb.TritonicError):
            session.models()
    assert not file.exists()
    file.touch()
    refused = run("serve", "--headers-file", str(file))
    assert refused.returncode == 1
    assert "it exists" in refused.stderr


@pytest.mark.parametrize("port", ["80000", "x", "-1"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    """A port beyond 65535 is told as such, at once."""
    done = run("serve", f"--http-port={port}")
    assert done.returncode == 2
    assert "is no port" in done.stderr


def test_the_version_is_told() -> None:
    """--version prints it."""
    assert run("--version").stdout.split() == ["tritonic-nb", tritonic_nb.__version__]


def test_a_server_that_ends_by_itself_is_told() -> None:
    """When tritonserver is killed, the command ends with status 1 and its last lines."""
    with subprocess.Popen(
        [*COMMAND, "serve", "simple"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "Ctrl-C" not in process.stdout.readline():
            pass
        tritonserver = _tritonserver_of(process.pid)
        os.kill(tritonserver, signal.SIGKILL)
        assert process.wait(30) == 1
        assert "ended by itself" in process.stderr.read()


def _tritonserver_of(parent: int) -> int:
    """Find the tritonserver below a process: the child of its child."""
    for child in _children(parent):
        for grandchild in _children(child):
            if (Path("/proc") / str(grandchild) / "comm").read_text().strip() == "tritonserver":
                return grandchild
    raise AssertionError(f"process {parent} has no tritonserver")


def _children(pid: int) -> list[int]:
    tasks = Path("/proc", str(pid), "task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text().split()]


ORPHAN = """
import os, signal, numpy as np, tritonic_nb
from tritonic_nb.memory import lifeline
session = tritonic_nb.Session({url!r}, "simple", load=True)
ones = np.ones((1, 16), np.int32)
session.infer(INPUT0=ones, INPUT1=ones)
print(*(region.name for region in session.regions), flush=True)
os.kill(lifeline.janitor_pid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("protocol", ["HTTP", "gRPC"])
def test_clean_removes_what_the_dead_left_and_tells_it(protocol: str) -> None:
    """A kernel killed with its janitor leaves regions; --dry-run tells them, clean removes them."""
    with serving("simple", "--open") as (_, printed):
        url = re.search(rf"{protocol} +(\S+)", printed)[1]  # type: ignore[index]
        url = f"{protocol.lower()}://{url}"
        killed = subprocess.run(
            [sys.executable, "-c", ORPHAN.format(url=url)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        names = killed.stdout.split()
        assert len(names) == 4
        told = run("clean", "--dry-run", "--url", url)
        assert told.returncode == 0
        assert all(told.stdout.count(name) == 2 for name in names), told  # the file, the server
        assert "would be removed" in told.stdout
        assert all((SHM_DIR / name).exists() for name in names)
        done = run("clean", "--url", url)
        assert all(re.search(rf"region.* {name}  removed", done.stdout) for name in names)
        assert all(re.search(rf"registered.* {name}  removed", done.stdout) for name in names)
        assert not any((SHM_DIR / name).exists() for name in names)
        assert not any(name in run("clean", "--url", url).stdout for name in names)


def test_clean_leaves_the_living_alone() -> None:
    """The regions of a session that is open, and its server, are no leftovers."""
    with brief_server(["simple"], protected=False) as server, server.session() as session:
        session.use("simple")
        session.register_inputs()
        done = run("clean", "--url", server.url, "--runtimes", "--dry-run")
        assert done.returncode == 0
        assert not any(region.name in done.stdout for region in session.regions)
        assert str(server.repository) not in done.stdout
        assert run("clean", "--url", server.url).returncode == 0
        assert len(session.regions) == 2
        assert all((SHM_DIR / region.name).exists() for region in session.regions)


def test_clean_with_a_header_that_is_none(tmp_path: Path) -> None:
    """Without the header a protected server does not tell, and a file without one is refused."""
    with brief_server() as server:
        refused = run("clean", "--url", server.url)
        assert refused.returncode == 1
        assert "header" in refused.stderr
        wrong = tmp_path / "headers.json"
        wrong.write_text("[]")
        done = run("clean", "--url", server.url, "--headers-file", str(wrong))
        assert "has no headers" in done.stderr
        wrong.write_text(json.dumps(server.headers))
        assert run("clean", "--url", server.url, "--headers-file", str(wrong)).returncode == 0
