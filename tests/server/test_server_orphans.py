"""What is left of a dead server is found and proven dead; nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_helpers import SHM, alive, lock_files, pools, run_script

from tests.waiting import eventually
from tritonic_nb.server import Server, serve
from tritonic_nb.server.orphans import Orphan, find_orphans, remove_orphan

SERVE_AND_DIE = """
import json, os, signal, sys
from pathlib import Path
from tritonic_nb.server import serve
server = serve(["simple"])
(stub,) = [int(pid) for file in Path(f"/proc/{server.pid}/task").glob("*/children")
           for pid in file.read_text().split()]
os.kill(stub, signal.SIGSTOP)
print(json.dumps({"pid": os.getpid(), "server": server.pid, "stub": stub,
                  "folder": str(server.repository.parent)}), flush=True)
os.kill(server._process._supervisor.pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


def make_old(*paths: Path) -> None:
    """Let files look as if they had been made some minutes ago."""
    for path in paths:
        os.utime(path, (time.time() - 300, time.time() - 300))


def paths_of(pid: int, folder: Path) -> set[Path]:
    """Return what is found of the dead servers of one process."""
    return {orphan.path for orphan in find_orphans() if orphan.pid == pid or orphan.path == folder}


def test_what_two_kills_leave_is_found_and_removed() -> None:
    """Kill -9 of kernel and supervisor leaves a folder and pools, which are orphans at last.

    Not while a process of the server lives, and not while they may be a newborn's.
    """
    told = json.loads(run_script(SERVE_AND_DIE).stdout)
    pid, folder = told["pid"], Path(told["folder"])
    try:
        assert eventually(lambda: not alive(told["server"]))
        (pool,) = pools(pid)
        (lock,) = lock_files(pid)
        make_old(folder / "server.log", SHM / lock)
        assert paths_of(pid, folder) == set()
        assert not remove_orphan(Orphan(folder, "folder", 0, pid))
        assert not remove_orphan(Orphan(SHM / pool, "pool", 0, pid))
    finally:
        os.kill(told["stub"], signal.SIGKILL)
    assert eventually(lambda: paths_of(pid, folder) == {folder, SHM / pool})
    os.utime(SHM / lock)
    assert paths_of(pid, folder) == {folder}
    make_old(SHM / lock)

    found = {orphan.kind: orphan for orphan in find_orphans() if orphan.pid == pid}
    assert found["pool"].nbytes == 2**20
    assert found["folder"].nbytes > 0
    for orphan in found.values():
        assert remove_orphan(orphan)
        assert remove_orphan(orphan)
    assert not folder.exists()
    assert not pools(pid) | lock_files(pid)
    assert paths_of(pid, folder) == set()


def test_a_live_server_is_no_orphan(embedded: Server) -> None:
    """However old its files are, and whoever looks, also from another PID namespace."""
    embedded._load(["simple"])
    folder, pid = embedded.repository.parent, os.getpid()
    (pool,) = embedded.pools()
    make_old(folder / "server.log", *(SHM / lock for lock in lock_files(pid)))
    assert paths_of(pid, folder) == set()
    for orphan in (Orphan(folder, "folder", 0, pid), Orphan(SHM / pool, "pool", 0, pid)):
        assert not remove_orphan(orphan)
    look = (
        "import sys; from tritonic_nb.server.orphans import find_orphans; "
        "sys.exit(any(orphan.pid == int(sys.argv[1]) for orphan in find_orphans()))"
    )
    command = [sys.executable, "-c", look, str(pid)]
    subprocess.run(command, check=True)
    if elsewhere := own_pid_namespace():
        subprocess.run([*elsewhere, *command], check=True)
    assert embedded.running
    assert (SHM / pool).exists()


def own_pid_namespace() -> list[str]:
    """Give the start of a command that runs the rest in a PID namespace, where that may be."""
    command = ["unshare", "--pid", "--fork"]
    if not shutil.which("unshare"):
        return []
    tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if tried.returncode == 0 else []


@pytest.fixture
def strangers() -> Iterator[dict[str, Path]]:
    """Give files that look like a dead server's and cannot be proven to be."""
    prefix = f"tritonic_nb_pool_1_{os.urandom(6).hex()}_"
    other = f"tritonic_nb_pool_1_{os.urandom(6).hex()}_"
    made = {
        "without a lock": SHM / f"{prefix}0",
        "beside a link": SHM / f"{other}0",
        "a link": SHM / f"{other}lock",
        "Triton's": SHM / f"triton_python_backend_shm_region_{os.urandom(6).hex()}",
    }
    for what, path in made.items():
        if what == "a link":
            path.symlink_to(made["without a lock"])
        else:
            path.touch(0o600)
            make_old(path)
    yield made
    for path in made.values():
        path.unlink()


def test_what_cannot_be_proven_is_left_alone(strangers: dict[str, Path]) -> None:
    """Pools without a lock, with a link for one, and with Triton's own prefix stay."""
    assert not {orphan.path for orphan in find_orphans()} & set(strangers.values())
    for path in strangers.values():
        assert not remove_orphan(Orphan(path, "pool", 0, 1))


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_another_users_files_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead server's folder and pools of another user are neither found nor removed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / "tritonic_nb_server_1_abc"
    folder.mkdir()
    log, lock = folder / "server.log", SHM / f"tritonic_nb_pool_1_{os.urandom(6).hex()}_lock"
    for path in (log, lock):
        path.touch(0o600)
        make_old(path)
    try:
        assert {orphan.path for orphan in find_orphans()} >= {folder, lock}
        os.chown(folder, 1, 1)
        os.chown(lock, 1, 1)
        assert not {orphan.path for orphan in find_orphans()} & {folder, lock}
        assert not remove_orphan(Orphan(folder, "folder", 0, 1))
        assert not remove_orphan(Orphan(lock, "pool", 0, 1))
    finally:
        lock.unlink()


def test_a_forked_child_does_not_keep_a_dead_servers_locks() -> None:
    """A child that outlives its kernel holds neither lock; the log it can read all the same."""
    with serve(progress=None) as server:
        child = os.fork()
        if child == 0:
            opened = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir()
                      if entry.is_symlink() and entry.exists()]  # fmt: skip
            held = [name for name in opened if name.endswith(("_lock", "server.log"))]
            os._exit(len(held) if "Started HTTPService" in server.log else 99)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert server.running
