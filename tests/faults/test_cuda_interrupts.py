"""Ctrl-C at every moment of sessions with CUDA shared memory: nothing is lost there either."""

# ruff: noqa: F811 - fixtures that are imported

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import TEST_URL
from tests.cuda_fixtures import address, cuda, gpu_server, open_session  # noqa: F401
from tests.cuda_relay import Relay
from tests.fake_cuda import FakeCuda
from tests.faults.test_interrupts import (
    FULL,
    SMALL,
    again,
    close,
    first,
    grow,
    in_place,
    strike_everywhere,
    unregister,
)

STEP = 1 if FULL else 37  # how many lines lie between two interrupts

Open = Callable[..., tritonic_nb.Session]

pytestmark = pytest.mark.skipif(
    bool(TEST_URL), reason="the fake GPU stands before a server of ours, not TRITONIC_NB_TEST_URL"
)


def views(session: tritonic_nb.Session) -> Callable[[], object]:
    """Results that stay on the device."""
    again(session)

    def job() -> None:
        for n in range(3):
            result: Any = session.infer(n * SMALL, copy=False)["OUTPUT0"]
            assert np.asarray(result).sum() == n * SMALL.sum()

    return job


def switch(session: tritonic_nb.Session) -> Callable[[], object]:
    """Switch to another kind and another device."""
    session.infer(SMALL)

    def job() -> None:
        session.set_shared_memory("system")
        session.set_shared_memory("cuda", device=0, output="none")

    return job


@pytest.mark.timeout(1200 if FULL else 300)
@pytest.mark.parametrize("job", [first, again, grow, in_place, views, unregister, switch, close])
def test_an_interrupt_at_any_line(
    open_session: Open,
    cuda: FakeCuda,
    gpu_server: Relay,
    shm_names: Callable[[], set[str]],
    job: Callable[[tritonic_nb.Session], Callable[[], object]],
) -> None:
    """Wherever Ctrl-C strikes, the next inferences are right and close() leaves nothing."""

    def check(place: str) -> None:
        gc.collect()
        assert not shm_names(), place
        assert not gpu_server.registered, place
        assert not cuda.left(), place
        assert not cuda.freed_while_open, place

    line = strike_everywhere(open_session, job, STEP, check)
    assert line > 5 * STEP  # the job did run in the package's code
