"""The panel's state and CUDA shared memory, against a real Triton server and a fake GPU."""

# ruff: noqa: F811 - fixtures that are imported

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import TEST_URL
from tests.cuda_fixtures import Open, address, cuda, gpu_server, open_session  # noqa: F401
from tests.widgets.eventually import eventually
from tests.widgets.test_state import settle
from tritonic_nb.memory import SharedMemoryType
from tritonic_nb.monitoring import Device, Devices
from tritonic_nb.widgets.regions import RegionsView
from tritonic_nb.widgets.state import SessionState

pytestmark = pytest.mark.skipif(
    bool(TEST_URL), reason="the fake GPU needs a server that is on this machine"
)
ONE = np.ones((1, 1000), np.float32)
DEVICES = Devices(
    (
        Device(0, "GPU-a", "One", 3 * 10**9, 10**9, 4 * 10**9, "570.1", cuda_index=1),
        Device(1, "GPU-b", "Other", 10**9, 3 * 10**9, 4 * 10**9, "570.1", cuda_index=0),
    )
)


def test_kind_and_device_are_chosen(open_session: Open) -> None:
    """System, CUDA and the other device, each with an inference through it."""
    session = open_session("identity_fp32", shared_memory="system", device=0)
    state = SessionState(session, session._events)
    state.look()
    settle(state, lambda: state.choose_shared_memory("cuda"))
    assert state.problem is None
    assert np.array_equal(session.infer(ONE)["OUTPUT0"], ONE)
    assert eventually(lambda: {r.device_id for r in state.now.regions} == {0})
    settle(state, lambda: state.choose_device(1))
    assert state.problem is None
    assert session.requested_shared_memory is SharedMemoryType.CUDA
    assert np.array_equal(session.infer(ONE)["OUTPUT0"], ONE)
    assert eventually(lambda: {r.device_id for r in state.now.regions} == {1})
    assert eventually(
        lambda: (
            ("cuda 1", "this session")
            in {(region.place, region.owner) for region in state.now.server_regions}
        )
    )
    view = RegionsView(state)
    rows = view._tables.tables[0]["rows"]
    assert {row["cells"][2] for row in rows} == {"cuda 1"}
    view.close()
    settle(state, lambda: state.choose_device(2))
    assert state.problem is not None
    assert state.problem.place == "device"
    assert state.now.device == 1
    state.leave()


def test_the_devices_are_offered_with_their_free_memory(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By CUDA's numbers, which are not those of NVML; one that is chosen is used."""
    session = open_session("identity_fp32", device=0)
    # What NVML's library says is tested in tests/monitoring/test_nvml.py.
    monkeypatch.setattr(session, "devices", lambda: DEVICES)
    chooser = session.widgets.device
    assert chooser._list.options == (
        ("1: One, 3 GB of 4 GB free", 1),
        ("0: Other, 1 GB of 4 GB free", 0),
    )
    assert chooser._list.value == 0
    assert not chooser._list.disabled
    chooser._list.value = 1
    assert eventually(lambda: session.device == 1)
    chooser.close()
