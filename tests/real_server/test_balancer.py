"""One address for several servers: each connection goes to the next."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import TEST_URL
from tritonic_nb.errors import RegionLostError

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(bool(TEST_URL), reason="it takes two servers of ours")


@pytest.fixture(scope="module")
def servers() -> Iterator[list[tritonic_nb.Server]]:
    """Two, open to whoever reaches them."""
    with (
        tritonic_nb.serve(["identity_fp32"], protected=False, progress=None) as one,
        tritonic_nb.serve(["identity_fp32"], protected=False, progress=None) as other,
    ):
        yield [one, other]


@contextmanager
def balancer(targets: list[str]) -> Iterator[str]:
    """Give an address whose connections go to the targets in turn."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.far_host", *targets],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_wire_is_taken_and_nothing_left(
    servers: list[tritonic_nb.Server], protocol: str
) -> None:
    """`auto` finds out, shared memory by name is refused, and all servers get work."""
    targets = [each.url if protocol == "http" else each.grpc_url for each in servers]
    with (
        balancer(targets) as address,
        tritonic_nb.Session(address, "identity_fp32", protocol=protocol) as session,
    ):
        assert session.shared_memory == "none"
        assert "leads to more than one server" in session.shared_memory_reason
        items = [np.full((1, 1000), number, np.float32) for number in range(40)]
        results = list(session.map(items, in_flight=4, progress=False))
        assert [int(result["OUTPUT0"][0, 0]) for result in results] == list(range(40))
        session.set_shared_memory("system")
        with pytest.raises(RegionLostError, match="use shared_memory='none'"):
            session.connect(address, "identity_fp32", protocol=protocol)
    for each in servers:
        with each.session() as session:
            assert session.server_regions() == ()
            (told,) = session._transport.model_statistics("identity_fp32")
            assert int(told["inference_stats"]["success"]["count"]) > 5
