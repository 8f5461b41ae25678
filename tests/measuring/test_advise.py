"""Advice with figures, on a real server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.model_folders import python_model
from tritonic_nb import Session
from tritonic_nb.measuring import Advice

Open = Callable[..., Session]

WAITING = """import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        time.sleep(0.02)
        tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", tensor)])
"""
CONFIG = """max_batch_size: 0
input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
instance_group [ {{ count: {count} kind: KIND_CPU }} ]
"""


def tensor(nbytes: int = 4_000_000) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random((1, nbytes // 4), np.float32)


def topics(found: Advice) -> dict[str, Any]:
    return {each.topic: each for each in found.recommendations}


def waiting(server: Any, tmp_path: Path, open_session: Open, count: int) -> Session:
    """Open a session with a model that waits, with some instances."""
    name = f"advised_{count}"
    server.add(name, python_model(tmp_path / name, WAITING, CONFIG.format(count=count)))
    return open_session(name)


def test_the_wire_for_a_large_tensor_is_advised_against(open_session: Open) -> None:
    """With how much faster shared memory is, and the code that goes there."""
    session = open_session("identity_fp32", shared_memory="none")
    found = session.advise(tensor(), seconds=4, progress=False)
    way = topics(found)["way"]
    assert way.do == 'session.set_shared_memory("system")'
    assert way.gain > 1.5
    assert found.to_do[0] == way
    assert topics(found)["outputs"].text.startswith("the 4 MB belong in regions")
    assert "batch" not in topics(found)  # the model takes none
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["recommendations"][0]["topic"] == "way"
    assert way.text in repr(found)


def test_what_is_right_stays(open_session: Open) -> None:
    """A session that goes the best way already is told so, whichever pair that is."""
    session = open_session("identity_fp32", shared_memory="system")
    assert topics(session.advise(tensor(), seconds=2, progress=False))["way"].do == ""
    session.set_shared_memory("none", output="system")
    way = topics(session.advise(tensor(), seconds=5, progress=False))["way"]
    assert way.do == 'session.set_shared_memory("system")'


def test_regions_that_are_too_large_are_found(open_session: Open) -> None:
    """With what they are and what is needed; several of the same size are none."""
    session = open_session("identity_fp32")
    small = tensor(65_536)
    list(session.map([small] * 8, in_flight=4, progress=False))
    regions = topics(session.advise(small, seconds=1, progress=False))["regions"]
    assert regions.do == ""
    session.infer(tensor(8_000_000))
    session.infer(tensor(8_000_000))
    regions = topics(session.advise(small, seconds=1, progress=False))["regions"]
    assert "16 MB for one request, which needs 131 kB" in regions.text
    assert regions.do == "session.unregister()"
    exec(regions.do, {"session": session})  # noqa: S102 - what it says is to be code
    assert not session.regions


def test_more_in_flight_help_a_model_with_two_instances(
    server: Any, tmp_path: Path, open_session: Open
) -> None:
    """About twice as many; and with four in flight the wait for an instance is one more turn."""
    session = waiting(server, tmp_path, open_session, 2)
    found = topics(session.advise(np.ones(4, np.float32), seconds=12, progress=False))
    assert 1.5 < found["in flight"].gain < 2.5
    assert found["in flight"].do.startswith("session.map(items, in_flight=")
    assert "2 instances, which have it for 2" in found["instances"].text


def test_one_instance_is_the_limit_of_a_model_that_waits(
    server: Any, tmp_path: Path, open_session: Open
) -> None:
    """A request waits for three others, and the processors are idle."""
    session = waiting(server, tmp_path, open_session, 1)
    found = topics(session.advise(np.ones(4, np.float32), seconds=12, progress=False))
    assert found["in flight"].gain == 1
    text = found["instances"].text
    assert "may help" in text
    waits_ms = float(text.split(" waits ")[1].split(" ms")[0])
    assert 45 < waits_ms < 75  # three times twenty


def test_what_there_is_no_time_for_says_how_much_it_takes(
    server: Any, tmp_path: Path, open_session: Open
) -> None:
    """Instead of taking it."""
    session = waiting(server, tmp_path, open_session, 1)
    found = topics(session.advise(np.ones(4, np.float32), seconds=1, progress=False))
    assert "for want of time: give seconds=" in found["in flight"].text


def test_ctrl_c_ends_it_with_what_was_found(
    open_session: Open,
    shm_names: Callable[[], set[str]],
    ctrl_c_after: Callable[[float], None],
) -> None:
    """The way first; nothing is left."""
    session = open_session("identity_fp32")
    before = shm_names()
    ctrl_c_after(1.5)
    found = session.advise(tensor(), seconds=60, precision=1e-9, progress=False)
    assert found.interrupted
    assert "stopped by hand" in repr(found)
    assert "way" in topics(found)
    assert shm_names() == before


def test_lanes_that_an_interrupt_left_go_with_the_session(
    open_session: Open, transport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at every step of their removal, they are the session's to remove."""
    session = open_session("identity_fp32")
    unregister = type(session._setup.link.transport).unregister
    calls = []

    def interrupted(self: Any, name: str, kind: Any = "system") -> None:
        calls.append(name)
        if len(calls) <= 6:
            raise KeyboardInterrupt
        unregister(self, name, kind)

    monkeypatch.setattr(type(session._setup.link.transport), "unregister", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.compare(tensor(4096), ["system", "system", "none"], seconds=0.1, progress=False)
    for _ in range(3):  # what is interrupted can be repeated
        with contextlib.suppress(KeyboardInterrupt):
            session.close()
    own = {name for name in calls if name}
    assert not own & {region["name"] for region in transport.registered_regions()}
    with pytest.raises(tritonic_nb.errors.SessionClosedError):
        session.compare(tensor(4096))


def test_what_runs_out_of_memory_is_told_and_the_rest_goes_on(
    server: Any, tmp_path: Path, open_session: Open
) -> None:
    """As when a backend's pools grow in the middle of it: batches of four, here, from the fifth."""
    code = WAITING.replace("        time.sleep(0.02)\n", "").replace(
        '        tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()\n',
        '        tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()\n'
        "        self.fours = getattr(self, 'fours', 0) + (len(tensor) == 4)\n"
        "        if len(tensor) == 4 and self.fours > 4:\n"
        "            words = 'Failed to increase the shared memory pool size'\n"
        "            return pb_utils.InferenceResponse(error=pb_utils.TritonError(words))\n",
    )
    config = CONFIG.format(count=1).replace("max_batch_size: 0", "max_batch_size: 4")
    server.add("crowded", python_model(tmp_path / "crowded", code, config))
    session = open_session("crowded")
    found = topics(session.advise(np.ones((1, 4), np.float32), seconds=4, progress=False))
    assert found["batch"].text.startswith("not measured: inference with model 'crowded': ")
    assert "in flight" in found
    assert session.infer(np.ones((1, 4), np.float32))["OUTPUT0"].shape == (1, 4)


def test_a_queue_that_is_too_short_for_more_in_flight_is_told(
    server: Any, tmp_path: Path, open_session: Open
) -> None:
    """What was found before is not lost."""
    config = CONFIG.format(count=1).replace("max_batch_size: 0", "max_batch_size: 4")
    config += "dynamic_batching { default_queue_policy { max_queue_size: 1 } }\n"
    server.add("short", python_model(tmp_path / "short", WAITING, config))
    session = open_session("short")
    found = topics(session.advise(np.ones((1, 4), np.float32), seconds=4, progress=False))
    assert "Exceeds maximum queue size" in found["in flight"].text
    assert found["in flight"].text.startswith("not measured: ")
    assert "batch" in found
