"""One request by stage, on a real server, with its trace and by its counters alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import BOTH, TEST_URL, place_of
from tritonic_nb import Session
from tritonic_nb.errors import ArgumentError
from tritonic_nb.measuring import Explanation
from tritonic_nb.measuring.tracing import trace_log
from tritonic_nb.transport import Transport

Open = Callable[..., Session]

STAGES = [
    "prepare", "copy in", "encode", "send", "queue", "compute input", "compute", "compute output",
    "reply", "decode", "copy out",
]  # fmt: skip
PICTURE_NBYTES = 602_112

needs_trace = pytest.mark.skipif(
    bool(TEST_URL), reason="a server that is only told by its address may not write traces"
)


def tensor(nbytes: int = PICTURE_NBYTES) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random((1, nbytes // 4), np.float32)


def check_sums(found: Explanation) -> None:
    """See that the stages are the request, and the server's its counters."""
    for way in found.ways:
        assert way.sum_ms == pytest.approx(way.total_ms, rel=0.1)
        counted = way.server
        assert counted.requests == way.used
        assert way["queue"].ms == pytest.approx(counted.queue_ms, abs=1e-6)
        assert way["compute input"].ms == pytest.approx(counted.compute_input_ms, abs=1e-6)
        assert way["compute"].ms == pytest.approx(counted.compute_ms, abs=1e-6)
        output = way["compute output"].ms + way.after_ms
        assert output == pytest.approx(counted.compute_output_ms, abs=1e-6)


@needs_trace
@BOTH
def test_the_stages_are_the_request_and_the_servers_are_its_counters(open_session: Open) -> None:
    """The sum of all is the wall time; the server's stages are what its counters say."""
    found = open_session("identity_fp32").explain(tensor(), requests=20)
    assert [way.name for way in found.ways] == ["none", "system"]
    assert all(way.traced for way in found.ways)
    assert all([stage.name for stage in way.stages] == STAGES for way in found.ways)
    check_sums(found)
    for way in found.ways:
        starts = [stage.start_ms for stage in way.stages]
        assert starts == sorted(starts)
        assert all(stage.ms >= 0 for stage in way.stages)
        assert (way.requests, way.used) == (20, 10)


@needs_trace
def test_it_tells_the_bytes_that_move(open_session: Open) -> None:
    """Through regions at the copies; over the wire in request and reply."""
    found = open_session("identity_fp32").explain(tensor(), requests=4)
    wire, shared = found["none"], found["system"]
    assert shared["copy in"].nbytes == shared["copy out"].nbytes == PICTURE_NBYTES
    assert (shared["send"].nbytes or 0) < 1000 > (shared["reply"].nbytes or 0)
    assert wire["encode"].nbytes == wire["decode"].nbytes == PICTURE_NBYTES
    assert (wire["send"].nbytes or 0) > PICTURE_NBYTES < (wire["reply"].nbytes or 0)
    assert wire["copy in"].nbytes is wire["copy out"].nbytes is None


@needs_trace
def test_a_picture_is_prepared_each_time(open_session: Open) -> None:
    """Its decoding is a stage; the model's own time is found, and said to be the longest."""
    found = open_session("classifier").explain(tritonic_nb.samples.image("cat"), "system")
    (way,) = found.ways
    assert way["prepare"].ms > way["copy in"].ms
    assert way.dominant.name == "compute"
    assert "the model itself" in found.sentence
    check_sums(found)


@needs_trace
def test_tracing_is_as_before_and_its_files_are_gone(
    server: Any, open_session: Open, transport: Transport
) -> None:
    """The model's own setting is put back, whatever happens; files of others stay."""
    session = open_session("identity_fp32")
    session.infer(tensor(4096))
    own = {"trace_rate": ["7"], "trace_count": ["55"]}
    transport.update_trace("identity_fp32", own)
    before = transport.trace_settings("identity_fp32")
    stranger = server.trace_file.with_name("trace.json.999999")
    stranger.write_text("[]")
    try:
        session.explain(tensor(4096), requests=4, progress=False)
        assert transport.trace_settings("identity_fp32") == before
        with (
            contextlib.suppress(KeyboardInterrupt),
            trace_log(transport, "identity_fp32", server.trace_file) as log,
        ):
            assert log is not None
            assert transport.trace_settings("identity_fp32")["trace_level"] == ["TIMESTAMPS"]
            session.infer(tensor(4096))
            assert len(log.take(1)) == 1
            raise KeyboardInterrupt
        assert transport.trace_settings("identity_fp32") == before
        assert list(server.trace_file.parent.glob("trace.json*")) == [stranger]
    finally:
        stranger.unlink()
        transport.update_trace("identity_fp32", dict.fromkeys(own))


class Interrupted:
    """A real transport whose changes of tracing are done, and then interrupted, some times."""

    def __init__(self, transport: Transport, times: int) -> None:
        self._transport, self._times = transport, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def update_trace(self, model: str, settings: Any) -> None:
        """Change it, and raise as Ctrl-C does."""
        if self._times >= 0:
            self._transport.update_trace(model, settings)
        self._times -= 1
        if self._times in (0, 1, 2):
            raise KeyboardInterrupt


@needs_trace
@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_interrupt_does_not_leave_tracing_on(
    server: Any, open_session: Open, transport: Transport, times: int
) -> None:
    """While it is switched on or off; and what was left at last, the next one puts right."""
    session = open_session("identity_fp32")
    before = transport.trace_settings("identity_fp32")
    interrupted: Any = Interrupted(transport, times)
    with (
        contextlib.suppress(KeyboardInterrupt),
        trace_log(interrupted, "identity_fp32", server.trace_file),
    ):
        pass
    with trace_log(transport, "identity_fp32", server.trace_file) as log:
        assert log is not None
    assert transport.trace_settings("identity_fp32") == before
    assert session.infer(tensor(4096))


def test_without_a_trace_the_counters_tell(server: Any, open_session: Open) -> None:
    """The ways there and back are one stage then; the server's are still its counters."""
    options = place_of(server, "http")
    open_session("identity_fp32")  # which loads it
    with Session(model="identity_fp32", **options) as session:
        found = session.explain(tensor(), requests=20, progress=False)
    assert not any(way.traced for way in found.ways)
    assert all(way["send and reply"].ms >= 0 for way in found.ways)
    assert "do not tell when a stage began" in found.notes[0]
    for way in found.ways:
        assert way.sum_ms == pytest.approx(way.total_ms, rel=0.1)
        assert way["queue"].ms == pytest.approx(way.server.queue_ms)
        assert way["compute output"].ms == pytest.approx(way.server.compute_output_ms)
        assert way.server.requests == way.used


def test_it_shows_itself_and_can_be_told_as_json(open_session: Open) -> None:
    """A picture, a table for each way, and a sentence for each."""
    found = open_session("identity_fp32").explain(tensor(4096), requests=4)
    bundle, _ = found._repr_mimebundle_()  # type: ignore[misc]
    assert bundle["image/png"]
    assert "compute input" in bundle["text/plain"]
    assert found.sentence.count("ms, ") >= 2
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["ways"][0]["stages"][0]["name"] == "prepare"


def test_wrong_arguments_are_refused(open_session: Open) -> None:
    """Too few requests, a stage or a way that is not there."""
    session = open_session("identity_fp32")
    with pytest.raises(ArgumentError, match="requests"):
        session.explain(tensor(4096), requests=1)
    found = session.explain(tensor(4096), "none", requests=4)
    with pytest.raises(ArgumentError, match="copy in"):
        found["none"]["nothing"]
    with pytest.raises(ArgumentError, match="none"):
        found["system"]


@BOTH
def test_timings_tell_the_parts_of_every_inference(open_session: Open) -> None:
    """They are all of it, in their order, over the wire and through shared memory."""
    for kind in ("none", "system"):
        session = open_session("identity_fp32", shared_memory=kind)
        for _ in range(3):
            timings = session.infer(tensor()).timings
            stages = timings.stages()
            assert sum(stages.values()) == pytest.approx(timings.total_ms)
            assert all(ms >= 0 for ms in stages.values())
            parts = [stages[name] for name in ("encode", "send", "wait", "receive", "decode")]
            assert sum(parts) == pytest.approx(timings.request_ms)
            assert timings.begun_s > 0
