"""Ways compared on a real server: which there are, what is told of them, and what stays."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tests.conftest import BOTH
from tests.model_folders import python_model
from tritonic_nb import Session
from tritonic_nb.errors import (
    ArgumentError,
    BatchSizeError,
    SessionClosedError,
    TensorNameError,
)

Open = Callable[..., Session]

PICTURE_NBYTES = 602_112
ONE_IN_ONE_OUT = """max_batch_size: 0
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
RANDOM = """import numpy
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        given = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        made = numpy.random.rand(*given.shape).astype(numpy.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", made)])
"""


def tensor(nbytes: int = PICTURE_NBYTES) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random((1, nbytes // 4), np.float32)


@BOTH
def test_each_way_that_works_is_measured(open_session: Open) -> None:
    """Medians in their intervals, p99, throughput, processor time, bytes and memory of each."""
    session = open_session("identity_fp32")
    found = session.compare(tensor(), seconds=2, progress=False)
    assert [way.name for way in found.ways] == ["none", "system"]
    assert (found.input_nbytes, found.output_nbytes) == (PICTURE_NBYTES, PICTURE_NBYTES)
    for way in found.ways:
        assert 0 < way.low_ms <= way.median_ms <= way.high_ms
        assert way.median_ms <= way.p99_ms
        assert 0 < way.per_second <= 1100 / way.low_ms
        assert way.client_cpu_ms > 0
        assert PICTURE_NBYTES <= (way.buffer_nbytes or 0) < 6 * PICTURE_NBYTES  # the result
    wire, shared = found["none"], found["system"]
    assert shared.shared_nbytes == 2 * PICTURE_NBYTES
    assert shared.region_nbytes >= 2 * PICTURE_NBYTES
    assert shared.wire_nbytes < 1000
    assert shared.copied_nbytes == 2 * PICTURE_NBYTES + 2 * shared.wire_nbytes
    assert wire.shared_nbytes == wire.region_nbytes == 0
    assert wire.wire_nbytes > 2 * PICTURE_NBYTES
    assert wire.copied_nbytes == 2 * wire.wire_nbytes
    assert wire.ratio.value == 1


def test_what_does_not_work_here_is_left_out_with_its_reason(open_session: Open) -> None:
    """The others are compared all the same; asked for, it says why it is missing."""
    found = open_session("identity_fp32").compare(tensor(4096), seconds=0.2, progress=False)
    assert "CUDA device" in found.left_out["cuda"]
    assert "CUDA device" in repr(found)
    with pytest.raises(ArgumentError, match="CUDA device"):
        found["cuda"]


def test_the_session_stays_as_it_is(open_session: Open, shm_names: Callable[[], set[str]]) -> None:
    """Its regions, its way, and what lies in its inputs; nothing is left of the lanes."""
    session = open_session("identity_fp32")
    session.register_inputs({"INPUT0": (1, 1024)})
    session.inputs["INPUT0"][...] = 7
    before = (session.regions, session.shared_memory, session.model_info, shm_names())
    found = session.compare(seconds=0.2, progress=False)
    assert found.input_nbytes == 4096
    assert (session.regions, session.shared_memory, session.model_info, shm_names()) == before
    assert session.infer()["OUTPUT0"][0, 0] == 7


def test_a_way_with_itself_is_no_difference(open_session: Open) -> None:
    """The second one has a name of its own, and the verdict says that there is none."""
    session = open_session("identity_fp32")
    found = session.compare(tensor(), ("system", "system"), seconds=1.5, progress=False)
    assert [way.name for way in found.ways] == ["system", "system (2)"]
    assert found["system (2)"].label == "system shared memory (2)"
    assert "no difference" in found.verdict
    assert found.fastest is None


def test_inputs_and_outputs_may_go_different_ways(open_session: Open) -> None:
    """A pair names both; the bytes go as it says."""
    session = open_session("identity_fp32")
    found = session.compare(tensor(), [("system", "none"), "none"], seconds=0.3, progress=False)
    mixed = found["system, outputs none"]
    assert mixed.label == "system shared memory with outputs over the wire"
    assert mixed.shared_nbytes == PICTURE_NBYTES
    assert PICTURE_NBYTES < mixed.wire_nbytes < 1.01 * PICTURE_NBYTES


def test_pictures_and_batches(open_session: Open) -> None:
    """A picture becomes a tensor once; the batch is told."""
    session = open_session("classifier")
    cat = tritonic_nb.samples.image("cat")
    found = session.compare([cat, cat], seconds=0.5, progress=False)
    assert (found.model, found.batch) == ("classifier", 2)
    assert found.input_nbytes == 2 * PICTURE_NBYTES
    assert "at batch 2" in found.verdict


@pytest.mark.parametrize("model", ["simple", "simple_string", "identity_bf16", "simple_identity"])
def test_any_model_can_be_compared_without_inputs(open_session: Open, model: str) -> None:
    """Random values in its datatypes and shapes, texts included."""
    found = open_session(model).compare(seconds=0.2, progress=False)
    assert len(found.ways) == 2
    assert found.rounds >= 1


def test_the_time_is_kept_and_narrow_intervals_end_it(open_session: Open) -> None:
    """A wide interval is reached at once; a narrow one is not, and the time is up."""
    session = open_session("identity_fp32")
    quick = session.compare(tensor(4096), precision=1.0, seconds=60, progress=False)
    assert (quick.ended, quick.rounds) == ("precise", 10)
    short = session.compare(tensor(4096), precision=1e-6, seconds=0.3, progress=False)
    assert short.ended == "time"
    assert short.inferences >= short.rounds


def test_it_can_be_told_as_json(open_session: Open) -> None:
    """Numbers, texts, lists and mappings; what is infinite is null."""
    session = open_session("identity_fp32")
    found = session.compare(tensor(4096), seconds=0.01, progress=False)
    assert found.rounds < 6
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["ways"][1]["ratio"]["high"] is None
    assert document["verdict"] == found.verdict
    assert "too few rounds" in found.verdict
    assert document["model"] == "identity_fp32"


def test_it_shows_itself(open_session: Open) -> None:
    """As a table and a picture, and as text; names are escaped."""
    found = open_session("identity_fp32").compare(tensor(4096), seconds=0.3, progress=False)
    bundle, _ = found._repr_mimebundle_()  # type: ignore[misc]
    assert bundle["image/png"]
    assert found.verdict in bundle["text/plain"]
    assert "<table" in bundle["text/html"]
    assert found.picture().png.startswith(b"\x89PNG")


def test_models_that_answer_differently_are_not_called_unequal(
    server: Any, tmp_path: Path, open_session: Open
) -> None:
    """A random output is told of, and not compared."""
    folder = python_model(tmp_path / "answers_randomly", RANDOM, ONE_IN_ONE_OUT)
    server.add("answers_randomly", folder)
    session = open_session("answers_randomly")
    found = session.compare(np.ones((1,), np.float32), seconds=0.2, progress=False)
    assert "another output 'OUTPUT0' each time" in found.note


def test_ctrl_c_ends_it_with_what_was_found(
    open_session: Open,
    shm_names: Callable[[], set[str]],
    ctrl_c_after: Callable[[float], None],
) -> None:
    """After a whole round; the session and its regions are as before."""
    session = open_session("identity_fp32")
    before = shm_names()
    ctrl_c_after(1.0)
    found = session.compare(tensor(), precision=1e-9, seconds=30, progress=False)
    assert found.ended == "interrupted"
    assert "stopped by hand" in repr(found)
    assert shm_names() == before
    assert session.infer(tensor())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ways": "auto"}, "auto"),
        ({"ways": []}, "0 ways"),
        ({"ways": ["none"] * 9}, "9 ways"),
        ({"ways": 5}, "5"),
        ({"ways": ["wire"]}, "wire"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": "3"}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"seconds": 10**400}, "seconds"),
        ({"ways": b"none"}, "ways"),
        ({"precision": 0}, "precision"),
        ({"precision": 2}, "precision"),
    ],
)
def test_wrong_arguments_are_refused(
    open_session: Open, options: dict[str, Any], said: str
) -> None:
    """With what was given, before anything is made; the session goes on."""
    session = open_session("identity_fp32")
    with pytest.raises(ArgumentError, match=said):
        session.compare(tensor(4096), progress=False, **options)
    assert session.infer(tensor(4096))


def test_wrong_inputs_are_infers_errors(open_session: Open) -> None:
    """The same classes as infer raises, and nothing is left."""
    session = open_session("simple")
    with pytest.raises(TensorNameError):
        session.compare(NOTHING=np.zeros((1, 16), np.int32))
    with pytest.raises(BatchSizeError):
        session.compare(INPUT0=np.zeros((99, 16), np.int32), INPUT1=np.zeros((99, 16), np.int32))


def test_a_model_with_sequences_is_refused(open_session: Open) -> None:
    """It must not get a request twice."""
    with pytest.raises(ArgumentError, match="sequence"):
        open_session("simple_sequence").compare()


def test_if_no_way_works_it_is_the_first_ones_error(open_session: Open) -> None:
    """And the session goes on."""
    session = open_session("identity_fp32")
    with pytest.raises(tritonic_nb.errors.NoCudaDeviceError):
        session.compare(tensor(4096), "cuda")
    assert session.infer(tensor(4096))


def test_a_session_that_is_closed_meanwhile_ends_it(open_session: Open) -> None:
    """With its own error, and nothing is left."""
    session = open_session("identity_fp32")
    closing = threading.Timer(0.3, session.close)
    closing.start()
    with pytest.raises(SessionClosedError):
        session.compare(tensor(4096), precision=1e-9, seconds=30, progress=False)
    closing.join()
