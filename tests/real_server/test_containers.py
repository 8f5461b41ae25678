"""A server that does not see our /dev/shm, as one in another container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import tritonic_nb
from tests.own_shm import WHY_NOT, own_dev_shm
from tests.test_cli import free_port
from tritonic_nb import SharedMemoryType
from tritonic_nb.errors import NoSpaceError, RegionNotVisibleError

ONES = np.ones((1, 16), np.int32)


pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "never")


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of an open server whose /dev/shm is not ours."""
    port = free_port()
    command = [sys.executable, "-m", "tritonic_nb.cli", "serve", "simple", "--open"]
    with subprocess.Popen(
        [*own_dev_shm("64m"), *command, "--http-port", str(port)],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        while "Ctrl-C" not in (line := process.stdout.readline()):
            assert line, "the server did not start"
        yield f"127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_server_that_cannot_open_the_region_is_told(
    elsewhere: str, shm_names: Callable[[], set[str]]
) -> None:
    """The error names --ipc=host and the wire; nothing is left; the wire works."""
    with tritonic_nb.Session(elsewhere, "simple", shared_memory="system") as session:
        with pytest.raises(RegionNotVisibleError, match=r"(?s)INPUT0.*--ipc=host.*'none'"):
            session.infer(INPUT0=ONES, INPUT1=ONES)
        assert not shm_names()
        session.set_shared_memory("none")
        assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2


def test_auto_goes_over_the_wire(elsewhere: str, shm_names: Callable[[], set[str]]) -> None:
    """With auto the answer comes over the wire, the reason is shown, nothing is left."""
    with tritonic_nb.Session(elsewhere, "simple", shared_memory="auto") as session:
        assert session.infer(INPUT0=ONES, INPUT1=ONES).shared_nbytes == 0
        assert session.shared_memory is SharedMemoryType.NONE
        assert "does not see this machine's /dev/shm" in session.shared_memory_reason
        assert session.shared_memory_reason.partition(": ")[2] in repr(session)
        assert not shm_names()


def test_a_small_dev_shm_is_an_error_and_not_a_bus_error(elsewhere: str, tmp_path: Path) -> None:
    """In 1 MB of /dev/shm a 4 MB region is our error, and the interpreter lives on."""
    script = """
import sys
from tritonic_nb.errors import NoSpaceError
from tritonic_nb.memory import SharedMemoryType, create_region
kept = create_region(SharedMemoryType.SYSTEM, "small", "input", 600_000)
for size in (4_000_000, 600_000):
    try:
        create_region(SharedMemoryType.SYSTEM, "big", "input", size)
    except NoSpaceError as error:
        assert "--shm-size" in error.remedy
        print(error.message)
    else:
        sys.exit("no error")
kept.close()
create_region(SharedMemoryType.SYSTEM, "big", "input", 600_000).close()
"""
    done = subprocess.run(
        [*own_dev_shm("1m"), sys.executable, "-c", script],
        capture_output=True, text=True, check=False, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert NoSpaceError.__name__ not in done.stderr
    first, second = done.stdout.splitlines()
    assert "needs 4000000 bytes" in first
    assert "of 1.05 MB" in second
