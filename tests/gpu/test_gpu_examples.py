"""NVIDIA's own examples of CUDA shared memory, unchanged, beside a session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tritonic_nb
from tests.fake_cuda import FakeCuda

EXAMPLES = ("simple_http_cudashm_client.py", "simple_grpc_cudashm_client.py")


@pytest.fixture(scope="module")
def folder() -> Path:
    """A checkout's src/python/examples of github.com/triton-inference-server/client."""
    named = os.environ.get("TRITONIC_NB_NVIDIA_EXAMPLES", "")
    if not named or not (Path(named) / EXAMPLES[0]).is_file():
        pytest.skip(
            "TRITONIC_NB_NVIDIA_EXAMPLES does not name the folder src/python/examples of NVIDIA's "
            "client repository"
        )
    return Path(named)


@pytest.fixture(scope="module")
def opened(fake: FakeCuda | None) -> Iterator[tritonic_nb.Server]:
    """A server whose APIs are open, as the examples need it."""
    if fake is not None:
        pytest.skip("the examples run in processes of their own, where no fake is")
    with tritonic_nb.serve(["simple"], protected=False) as server:
        yield server


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_passes(folder: Path, opened: tritonic_nb.Server, example: str) -> None:
    """It ends with success, and a session's inference before and after it is right."""
    url = opened.grpc_url if "grpc" in example else opened.url
    rows = np.arange(16, dtype=np.int32)[np.newaxis]

    def infer() -> bool:
        # Not kept: the examples unregister all regions, whosever they are.
        with tritonic_nb.Session(opened, "simple", shared_memory="cuda") as session:
            return np.array_equal(session.infer(INPUT0=rows, INPUT1=rows)["OUTPUT0"], 2 * rows)

    assert infer()
    done = subprocess.run(
        [sys.executable, str(folder / example), "-u", url],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS: cuda shared memory" in done.stdout
    assert infer()
