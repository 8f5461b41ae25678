"""CUDA shared memory among the ways, with a fake GPU before a real server.

Its times say nothing of a GPU; that the ways are there, what they move, and that nothing is left
of them holds all the same.
"""

# ruff: noqa: F811 - fixtures that are imported

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import BOTH
from tests.cuda_fixtures import address, cuda, gpu_server, open_session  # noqa: F401
from tests.fake_cuda import FakeCuda

Open = Callable[..., tritonic_nb.Session]

NBYTES = 65_536


@pytest.fixture
def tensor() -> np.ndarray:
    """A tensor of 64 KiB."""
    return np.random.default_rng(0).random((1, NBYTES // 4), np.float32)


@BOTH
def test_all_three_ways_are_compared(open_session: Open, tensor: np.ndarray) -> None:
    """With the bytes that go through the device's memory."""
    session = open_session("identity_fp32")
    found = session.compare(tensor, seconds=0.5, progress=False)
    assert [way.name for way in found.ways] == ["none", "system", "cuda"]
    assert not found.left_out
    device = found["cuda"]
    assert device.label == "CUDA shared memory"
    assert device.shared_nbytes == 2 * NBYTES
    assert device.region_nbytes >= 2 * NBYTES
    assert session.shared_memory == "cuda"


def test_a_request_over_a_device_is_explained(open_session: Open, tensor: np.ndarray) -> None:
    """By the counters, as this server is told by its address; the stages are the request."""
    found = open_session("identity_fp32").explain(tensor, "cuda", requests=8, progress=False)
    (way,) = found.ways
    assert way["copy in"].nbytes == way["copy out"].nbytes == NBYTES
    assert way.sum_ms == pytest.approx(way.total_ms, rel=0.1)


def test_arrays_on_a_device_go_every_way(
    open_session: Open, tensor: np.ndarray, cuda: FakeCuda
) -> None:
    """Over the wire they are copied to the host first; the outputs are the same."""
    session = open_session("identity_fp32")
    result = session.infer(tensor)
    result = session.infer(tensor, copy=False)
    on_device = result["OUTPUT0"]
    assert isinstance(on_device, tritonic_nb.DeviceArray)
    found = session.compare(on_device, seconds=0.3, progress=False)
    assert [way.name for way in found.ways] == ["none", "system", "cuda"]
    swept = session.sweep(on_device, sizes=[1000, 4000], seconds=0.5, progress=False)
    assert list(swept.comparisons) == [1000, 4000]


def test_pairs_with_a_device(open_session: Open, tensor: np.ndarray) -> None:
    """Inputs through the device, outputs through the host's memory."""
    session = open_session("identity_fp32")
    found = session.compare(
        tensor, [("cuda", "system"), ("system", "none")], seconds=0.3, progress=False
    )
    assert found["cuda, outputs system"].shared_nbytes == 2 * NBYTES
    assert "through system shared memory" in found["cuda, outputs system"].label
