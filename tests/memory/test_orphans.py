"""Regions in /dev/shm whose owner is dead, and those that only look like it."""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tritonic_nb.memory import orphans
from tritonic_nb.memory.orphans import Orphan, find_orphans, is_orphan, remove_orphan
from tritonic_nb.memory.shm_file import SHM_DIR

NBYTES = 8192
# An owner that nobody cleans up after.
OWNER = """
import os, sys, time
from tritonic_nb.memory import SharedMemoryType, create_region, lifeline
lifeline.made = lambda name: None
region = create_region(SharedMemoryType.SYSTEM, "x", "input", int(sys.argv[1]))
print(region.name, flush=True)
"""


class Owner:
    """A process that has a region."""

    def __init__(self, script: str = "time.sleep(60)", *wrapper: str) -> None:
        command = [sys.executable, "-W", "ignore", "-c", OWNER + textwrap.dedent(script)]
        self.process = subprocess.Popen(
            [*wrapper, *command, str(NBYTES)], stdout=subprocess.PIPE, text=True
        )
        self.name = self.hear()
        self.path = SHM_DIR / self.name

    def hear(self) -> str:
        """Read a line that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it, and remove its region if it is still there."""
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self.name:
            self.path.unlink(missing_ok=True)


@pytest.fixture
def new_owner() -> Iterator[Callable[..., Owner]]:
    """Start owners, which end with the test."""
    owners = []

    def new(*arguments: str) -> Owner:
        owners.append(Owner(*arguments))
        return owners[-1]

    yield new
    for owner in owners:
        owner.end()


@pytest.fixture
def owner(new_owner: Callable[..., Owner]) -> Owner:
    return new_owner()


@pytest.fixture
def path() -> Iterator[Path]:
    """A path for a region of a process that has ended, with nothing there yet."""
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    made = SHM_DIR / f"tritonic_nb-{dead.pid}-{secrets.token_hex(8)}-x"
    yield made
    made.unlink(missing_ok=True)


def names() -> list[str]:
    return [orphan.name for orphan in find_orphans()]


def test_a_dead_owners_region_is_found_and_removed_once(owner: Owner) -> None:
    """It is an orphan with its memory and its owner's process id; then it is gone."""
    owner.kill()
    (found,) = (orphan for orphan in find_orphans() if orphan.name == owner.name)
    assert found == Orphan(owner.name, NBYTES, owner.process.pid)
    assert is_orphan(owner.name) is True
    assert remove_orphan(owner.name) is True
    assert not owner.path.exists()
    assert is_orphan(owner.name) is None
    assert remove_orphan(owner.name) is False


def test_a_live_owners_region_is_no_orphan(owner: Owner) -> None:
    """A region that is locked is neither found nor removed, and keeps its lock."""
    assert owner.name not in names()
    assert is_orphan(owner.name) is False
    assert remove_orphan(owner.name) is False
    assert owner.path.exists()


def test_a_dead_owners_forked_child_keeps_no_region_alive(
    new_owner: Callable[..., Owner],
) -> None:
    """What a forked child shares with its dead parent is an orphan."""
    owner = new_owner("""
        child = os.fork()
        if child: print(child, flush=True)
        time.sleep(60)
    """)
    child = int(owner.hear())
    try:
        assert is_orphan(owner.name) is False
        owner.kill()
        assert is_orphan(owner.name) is True
    finally:
        os.kill(child, 9)


def test_the_process_id_in_a_name_proves_nothing(path: Path) -> None:
    """A live process of that id makes no owner, and a dead one no orphan: the lock counts."""
    lives = path.with_name(path.name.replace(path.name.split("-")[1], str(os.getpid())))
    lives.write_bytes(b"x")
    assert is_orphan(lives.name) is True
    assert remove_orphan(lives.name) is True
    path.write_bytes(b"x")
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert is_orphan(path.name) is False
        assert remove_orphan(path.name) is False
    assert is_orphan(path.name) is True


def test_an_owner_in_another_process_namespace_lives(new_owner: Callable[..., Owner]) -> None:
    """A container that shares /dev/shm has other process ids, and its locks are seen."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    tried = subprocess.run([*unshare, "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no process namespaces here: {tried.stderr.strip()}")
    owner = new_owner("time.sleep(60)", *unshare)
    assert owner.name.split("-")[1] == "1"
    assert is_orphan(owner.name) is False
    assert owner.name not in names()
    owner.kill()
    deadline = time.monotonic() + 30
    while not is_orphan(owner.name):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert remove_orphan(owner.name) is True


def test_a_newborn_is_not_even_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file may be about to get its owner's lock, which must not be taken by then."""
    path.touch()
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", lambda *_: pytest.fail("locked"))
        assert is_orphan(path.name) is False
        assert remove_orphan(path.name) is False
    old = time.time() - 61
    os.utime(path, (old, old))
    assert is_orphan(path.name) is True
    assert path.name in names()
    assert remove_orphan(path.name) is True


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "sem.x", "tritonic_nb-", "tritonic_nb-1-0123456789abcdef",
        "tritonic_nb-1-0123456789ABCDEF-x", "tritonic_nb-x-0123456789abcdef-x",
        "tritonic_nb-1-0123456789abcdef-x/y", "tritonic_nb-1-0123456789abcdef-../y",
        "/dev/shm/tritonic_nb-1-0123456789abcdef-x", "tritonic_nb-1-0123456789abcdef-x\0",
        "tritonic_nb-1-0123456789abcdef-x\n", "tritonic_nb_pool_1_0123456789ab_x",
    ],
)  # fmt: skip
def test_only_names_of_regions_count(name: str) -> None:
    """Whatever has another name is no region, and is never touched."""
    assert is_orphan(name) is None
    assert remove_orphan(name) is False


def test_only_files_count(path: Path, tmp_path: Path) -> None:
    """A link, a folder and a pipe under a region's name are left alone."""
    target = tmp_path / "target"
    target.write_bytes(b"x")
    makers: list[tuple[Callable[[], None], Callable[[], None]]] = [
        (lambda: path.symlink_to(target), path.unlink),
        (path.mkdir, path.rmdir),
        (lambda: os.mkfifo(path), path.unlink),
    ]
    for make, unmake in makers:
        make()
        try:
            assert is_orphan(path.name) is None
            assert path.name not in names()
            assert remove_orphan(path.name) is False
            assert os.path.lexists(path)
        finally:
            unmake()
    assert target.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_region_is_left_alone(path: Path) -> None:
    """Whether somebody else's region is an orphan is not for this user to say."""
    path.write_bytes(b"x")
    os.chown(path, 65534, 65534)
    assert is_orphan(path.name) is False
    assert path.name not in names()
    assert remove_orphan(path.name) is False
    assert path.exists()


def test_two_who_look_do_not_see_each_other(path: Path) -> None:
    """Whoever looks does not make a region seem alive to another one who looks."""
    path.write_bytes(b"x")
    with orphans._unowned(path.name, fcntl.LOCK_SH) as fd:
        assert fd is not None
        assert is_orphan(path.name) is True
        assert remove_orphan(path.name) is False


def test_a_file_that_took_an_orphans_place_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the lock and the removal the file may have been removed and made again."""
    path.write_bytes(b"x")
    flock = fcntl.flock

    def replace_and_lock(fd: int, operation: int) -> None:
        flock(fd, operation)
        path.unlink()
        path.write_bytes(b"new")

    monkeypatch.setattr(fcntl, "flock", replace_and_lock)
    assert remove_orphan(path.name) is False
    assert path.read_bytes() == b"new"


def test_files_that_come_and_go_disturb_nobody(path: Path) -> None:
    """Regions that vanish while they are looked at raise nothing."""
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            path.write_bytes(b"x")
            path.unlink()

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        for _ in range(500):
            assert "" not in names()
            assert is_orphan(path.name) in (True, False, None)
    finally:
        stop.set()
        churning.join()


def test_without_a_shared_memory_folder_there_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where /dev/shm does not exist, nothing is found and nothing raised."""
    monkeypatch.setattr(orphans, "SHM_DIR", tmp_path / "none")
    assert find_orphans() == ()
    assert is_orphan("tritonic_nb-1-0123456789abcdef-x") is None
