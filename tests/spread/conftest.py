"""A Dask cluster, whose processes and threads are another process's, and a client here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

import tritonic_nb
from tests import waiting
from tests.conftest import TEST_URL
from tests.spread import jobs
from tritonic_nb.memory.shm_file import SHM_DIR

ROOT = Path(__file__).parents[2]
# Clusters take their time on a busy machine.
eventually = partial(waiting.eventually, seconds=20.0)


@pytest.fixture(scope="package")
def client() -> Iterator[Any]:
    """A client of a cluster of two worker processes.

    One for all tests: the threads that a client leaves are there before each of them.
    """
    from distributed import Client

    with subprocess.Popen(
        [sys.executable, "-m", "tests.spread.cluster", "2"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with Client(process.stdout.readline().strip()) as client:
                called: list[Any] = []
                client.submit(abs, -1).add_done_callback(called.append)
                eventually(lambda: bool(called))
                yield client
        finally:
            process.stdin.close()
            process.wait(30)


@pytest.fixture(autouse=True, scope="package")
def _resource_tracker() -> None:
    """The process that multiprocessing starts with the first child, and keeps, is there before."""
    resource_tracker.ensure_running()


@pytest.fixture(autouse=True)
def _outposts_closed() -> Iterator[None]:
    """The sessions that tasks opened in this process are closed after each test."""
    yield
    tritonic_nb.close_outposts()


def left_of(pids: set[int]) -> set[str]:
    """Return what processes have left in /dev/shm: their regions, and their servers' pools."""
    marks = tuple(f"tritonic_nb{kind}{pid}{end}" for pid in pids
                  for kind, end in (("-", "-"), ("_pool_", "_")))  # fmt: skip
    return {path.name for path in SHM_DIR.iterdir() if path.name.startswith(marks)}


@pytest.fixture
def classifier(server: Any) -> Iterator[tritonic_nb.Session]:
    """A session with the classifier."""
    if TEST_URL:
        pytest.skip("the workers need the embedded server")
    with server.session(model="classifier") as session:
        yield session


__all__ = ["eventually", "jobs", "left_of"]
