"""Sessions with a real Triton server, over the real /dev/shm."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tritonic_nb
from tests.conftest import TEST_URL, brief_server, place_of
from tests.model_folders import python_model
from tritonic_nb import ImageTransform, SharedMemoryType, samples
from tritonic_nb.errors import (
    ArgumentError,
    BatchSizeError,
    ImageReadError,
    ModelFailedError,
    ModelNotFoundError,
    ModelNotReadyError,
    NoCudaDeviceError,
    NoSpaceError,
    RestrictedApiError,
    ServerTimeoutError,
    ServerUnreachableError,
    SessionClosedError,
    SharedMemoryUnsupportedError,
    TensorDatatypeError,
    TensorNameError,
    TensorShapeError,
)
from tritonic_nb.memory import region_nbytes
from tritonic_nb.memory.shm_file import SHM_DIR

Open = Callable[..., tritonic_nb.Session]
ONES = np.ones((1, 16), np.int32)

own_server = pytest.mark.skipif(
    bool(TEST_URL), reason="needs a server of its own to add models to, not TRITONIC_NB_TEST_URL"
)


# The model


def test_model_info_is_what_the_server_says(open_session: Open) -> None:
    """Inputs, outputs, datatypes, shapes, batch limit, backend and state are known."""
    info = open_session("simple").model_info
    assert info.name == "simple"
    assert info.max_batch_size == 8
    assert info.backend == "python"
    assert info.state == "READY"
    assert [str(t) for t in info.inputs.values()] == [
        "INPUT0 INT32 [batch, 16]",
        "INPUT1 INT32 [batch, 16]",
    ]
    assert list(info.outputs) == ["OUTPUT0", "OUTPUT1"]


def test_a_session_without_a_model_chooses_later(open_session: Open) -> None:
    """model=None is valid; infer says what is missing, and use() makes it work."""
    session = open_session()
    with pytest.raises(ArgumentError, match="no model is chosen"):
        session.infer(ONES)
    session.use("simple")
    assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2


def test_models_lists_the_repository(open_session: Open) -> None:
    """Loaded models have a version and a state, others are listed by name."""
    session = open_session("simple")
    states = {m.name: m for m in session.models()}
    assert states["simple"].state == "READY"
    assert states["simple"].version == "1"
    assert "identity_fp32" in states


def test_unload_and_load(open_session: Open) -> None:
    """An unloaded model is not ready, and works again once it is loaded."""
    session = open_session("simple_int8")
    ones = np.ones((1, 16), np.int8)
    session.unload()
    assert session.model_info.state == "UNAVAILABLE"
    with pytest.raises(ModelNotReadyError):
        session.infer(INPUT0=ones, INPUT1=ones)
    session.load()
    assert session.infer(INPUT0=ones, INPUT1=ones)["OUTPUT0"][0, 0] == 2


@own_server
def test_a_model_that_is_not_loaded_needs_leave(
    server: Any, open_session: Open, protocol: str
) -> None:
    """At an address nothing is loaded unasked; the error says load=True."""
    open_session("simple_identity").unload()
    with pytest.raises(ModelNotReadyError, match=r"load=True"):
        tritonic_nb.Session(model="simple_identity", **place_of(server, protocol))
    with tritonic_nb.Session(
        model="simple_identity", load=True, **place_of(server, protocol)
    ) as session:
        assert session.model_info.state == "READY"


def test_an_unknown_model_is_told_with_the_nearest_name(open_session: Open) -> None:
    """A misspelt model gets a suggestion and the list, and leaves the session as it was."""
    session = open_session("simple")
    with pytest.raises(ModelNotFoundError, match=r"'simpel'.*\n.*did you mean 'simple'"):
        session.use("simpel")
    assert session.model_info.name == "simple"


def test_an_unknown_version_is_told_with_those_that_are(open_session: Open) -> None:
    """A version that is not loaded is an error naming the one that is."""
    session = open_session("simple")
    with pytest.raises(ModelNotFoundError, match=r"(?s)version '9'.*use version 1"):
        session.use("simple", "9")


@own_server
def test_a_model_that_fails_to_load_tells_why(
    server: Any, open_session: Open, tmp_path: Path
) -> None:
    """The server's reason is in the error, and the session goes on."""
    code = "raise RuntimeError('no coffee left')\n"
    server.add("broken", python_model(tmp_path / "broken", code))
    session = open_session("simple")
    with pytest.raises(tritonic_nb.errors.ModelLoadError, match="no coffee left"):
        session.use("broken")
    assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2


# Regions


def test_tensors_lie_in_dev_shm(open_session: Open, shm_names: Callable[[], set[str]]) -> None:
    """Each tensor has a registered region under /dev/shm that goes when the session closes."""
    session = open_session("simple")
    assert not shm_names()
    result = session.infer(INPUT0=ONES, INPUT1=ONES)
    regions = session.regions
    assert {(r.direction, r.tensor) for r in regions} == {
        ("input", "INPUT0"), ("input", "INPUT1"), ("output", "OUTPUT0"), ("output", "OUTPUT1"),
    }  # fmt: skip
    assert shm_names() == {r.name for r in regions}
    for region in regions:
        assert region.kind is SharedMemoryType.SYSTEM
        assert region.state == "registered"
        assert region.key == f"/{region.name}"
        assert region.nbytes >= 64
        assert os.fstat(region.fd).st_size == region.nbytes
        assert region.address > 0
        assert region.device_id is None
    assert result.shared_nbytes == 4 * 64
    session.close()
    assert not shm_names()


def test_the_server_has_them_registered(open_session: Open, transport: Any) -> None:
    """What the session lists is what the server lists, and nothing stays after unregister()."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    ours = {r.name for r in session.regions}
    assert ours <= {r["name"] for r in transport.registered_regions()}
    session.unregister()
    assert not session.regions
    assert not ours & {r["name"] for r in transport.registered_regions()}


def test_regions_are_used_again(open_session: Open) -> None:
    """A second inference of the same or a smaller size makes no new region."""
    session = open_session("identity_fp32")
    session.infer(np.ones((50, 50), np.float32))
    session.infer(np.ones((50, 50), np.float32))  # by now the output's size is known
    names = [r.name for r in session.regions]
    assert len(names) == 2
    session.infer(np.ones((3, 7), np.float32))
    assert [r.name for r in session.regions] == names


def test_regions_grow_when_a_tensor_does(
    open_session: Open, shm_names: Callable[[], set[str]]
) -> None:
    """A larger tensor gets a larger region in place of the old one, in and out."""
    session = open_session("identity_fp32")
    for side in (10, 200, 300, 900):
        array = np.random.default_rng(side).random((side, side), np.float32)
        result = session.infer(array)
        assert np.array_equal(result["OUTPUT0"], array)
        assert len(shm_names()) <= 2
    assert {r.tensor for r in session.regions} == {"INPUT0", "OUTPUT0"}


def test_an_output_of_unknown_size_is_learned(open_session: Open) -> None:
    """It comes over the wire once, then through a region; when it outgrows it, that grows."""
    session = open_session("identity_fp32")
    small, large = np.ones((10, 10), np.float32), np.ones((99, 99), np.float32)
    key = ("output", "OUTPUT0")
    assert session.infer(small).places[key].region == ""
    assert session.infer(small).places[key].region != ""
    grown = session.infer(large)
    assert grown.places[key].region != ""
    assert np.array_equal(grown["OUTPUT0"], large)


def test_bytes_outputs_are_learned_too(open_session: Open) -> None:
    """BYTES outputs of any length end up in shared memory."""
    session = open_session("identity_bytes")
    for length in (1, 1, 5000, 5000, 20000):
        value = np.array([["x" * length, "y"]], dtype=object)
        result = session.infer(value)
        assert result["OUTPUT0"].tolist() == [[b"x" * length, b"y"]]
    assert result.places["output", "OUTPUT0"].region


def test_several_outputs_grow_in_one_inference(open_session: Open) -> None:
    """Two outputs of unknown size that both outgrow their regions need no second call."""
    session = open_session("edges")
    for side in (64, 64, 300, 900, 20):
        result = session.infer(np.zeros((side, side, 3), np.uint8))
        assert result["magnitude"].shape == (side, side)
        assert result["gradient"].shape == (side, side, 2)
    assert all(place.region for place in result.places.values())


def test_growing_leaves_room_to_grow(open_session: Open) -> None:
    """An output that grows little by little does not cost a second inference each time."""
    session = open_session("identity_uint8")
    session.register_outputs({"OUTPUT0": (1, 5000)})
    names = set()
    for length in range(5000, 16000, 1000):
        session.infer(np.zeros((1, length), np.uint8))
        names |= {r.name for r in session.regions if r.direction == "output"}
    assert len(names) <= 3


def test_register_inputs_and_outputs_beforehand(open_session: Open) -> None:
    """Regions registered beforehand are those that infer uses, the first time as well."""
    session = open_session("identity_fp32")
    made = session.register_inputs({"INPUT0": (20, 20)})
    made += session.register_outputs({"OUTPUT0": (20, 20)})
    assert [r.nbytes for r in made] == [region_nbytes(r.kind, 1600) for r in made]
    result = session.infer(np.ones((20, 20), np.float32))
    assert {p.region for p in result.places.values()} == {r.name for r in made}


def test_registering_an_unknown_size_is_an_error(open_session: Open) -> None:
    """Dynamic dimensions need shapes=, BYTES need nbytes=; unknown names are refused."""
    session = open_session("identity_fp32")
    with pytest.raises(TensorShapeError, match=r"dynamic dimensions.*\n.*shapes="):
        session.register_inputs()
    with pytest.raises(TensorNameError, match="NOPE"):
        session.register_inputs({"NOPE": (1,)})
    session.use("identity_bytes")
    with pytest.raises(TensorShapeError, match=r"any length.*\n.*nbytes="):
        session.register_outputs()
    assert session.register_outputs(nbytes={"OUTPUT0": 100})
    assert len(session.regions) == 1


def test_changing_the_model_removes_its_regions(
    open_session: Open, shm_names: Callable[[], set[str]]
) -> None:
    """use() starts without regions of the model before."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    session.use("identity_fp32")
    assert not shm_names()


def test_switching_at_run_time(open_session: Open, shm_names: Callable[[], set[str]]) -> None:
    """Both none and system give the same answer, and the wire leaves no region."""
    session = open_session("simple", shared_memory="SYSTEM")
    over_memory = session.infer(INPUT0=ONES, INPUT1=ONES)
    session.set_shared_memory("none")
    assert not shm_names()
    over_wire = session.infer(INPUT0=ONES, INPUT1=ONES)
    assert over_wire.shared_nbytes == 0
    assert np.array_equal(over_wire["OUTPUT0"], over_memory["OUTPUT0"])
    session.set_shared_memory(SharedMemoryType.SYSTEM)
    assert session.infer(INPUT0=ONES, INPUT1=ONES).shared_nbytes == over_memory.shared_nbytes


def test_outputs_may_stay_on_the_wire(open_session: Open) -> None:
    """Inputs through shared memory and outputs over the wire, when asked for."""
    session = open_session("simple", output_shared_memory="none")
    result = session.infer(INPUT0=ONES, INPUT1=ONES)
    assert result.places["input", "INPUT0"].region
    assert not result.places["output", "OUTPUT0"].region


def test_auto_is_system_memory_where_the_server_sees_it(open_session: Open) -> None:
    """With auto, tensors use shared memory beside the server, and it is said why."""
    session = open_session("simple", shared_memory="auto")
    assert session.shared_memory is SharedMemoryType.SYSTEM
    assert not session.regions  # what was tried has gone
    assert session.infer(INPUT0=ONES, INPUT1=ONES).shared_nbytes == 256
    assert session.shared_memory_reason.startswith("system shared memory: the server at ")
    assert "CUDA" in session.shared_memory_reason  # and why not that
    assert "opened a region of this machine's /dev/shm" in repr(session)


def test_auto_is_the_default_and_is_tried_when_it_is_asked_for(server: Any) -> None:
    """A session chooses by itself, on connecting and when it is switched back."""
    with tritonic_nb.Session(server, "simple", load=True) as session:
        assert session.shared_memory is SharedMemoryType.SYSTEM
        session.set_shared_memory("none")
        assert session.shared_memory is SharedMemoryType.NONE
        assert session.shared_memory_reason == "none, as asked for"
        session.set_shared_memory("auto", output="none")
        assert session.infer(INPUT0=ONES, INPUT1=ONES).shared_nbytes == 128
        assert session.shared_memory_reason.startswith("system shared memory: ")


@own_server
def test_auto_goes_over_the_wire_where_shared_memory_is_refused(
    server: Any, open_session: Open, protocol: str
) -> None:
    """Without the header the server restricts shared memory; auto says so and goes on."""
    open_session("simple")
    place = {**place_of(server, protocol), "headers": {}}
    with tritonic_nb.Session(model="simple", shared_memory="auto", **place) as session:
        result = session.infer(INPUT0=ONES, INPUT1=ONES)
        assert result.shared_nbytes == 0
        assert session.shared_memory is SharedMemoryType.NONE
        assert "restricted" in repr(session)


@own_server
def test_restricted_shared_memory_is_an_error_that_leaves_nothing(
    server: Any, open_session: Open, protocol: str, shm_names: Callable[[], set[str]]
) -> None:
    """Asked for by name, the refusal names the header; no region is left; the wire works."""
    open_session("simple")
    place = {**place_of(server, protocol), "headers": {}}
    with tritonic_nb.Session(model="simple", shared_memory="system", **place) as session:
        with pytest.raises(RestrictedApiError, match=r"expecting header.*\n.*headers="):
            session.infer(INPUT0=ONES, INPUT1=ONES)
        assert not shm_names()
        session.set_shared_memory("none")
        assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2


def test_cuda_without_a_device_leaves_the_session_as_it_was(open_session: Open) -> None:
    """Asking for CUDA says that no device was found, or that it comes later; system goes on."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    names = [r.name for r in session.regions]
    with pytest.raises((NoCudaDeviceError, SharedMemoryUnsupportedError)):
        session.set_shared_memory("cuda", device=0)
    assert [r.name for r in session.regions] == names
    assert session.infer(INPUT0=ONES, INPUT1=ONES).shared_nbytes == 256


@pytest.mark.parametrize("bad", ["gpu", "", 7])
def test_an_unknown_kind_is_refused(open_session: Open, bad: Any) -> None:
    """A kind that does not exist is an error that lists those that do."""
    with pytest.raises(ArgumentError, match="'none', 'system', 'cuda', 'auto'"):
        open_session("simple", shared_memory=bad)


def test_a_full_dev_shm_is_an_error_and_the_session_goes_on(
    open_session: Open, shm_names: Callable[[], set[str]]
) -> None:
    """More than /dev/shm has: our error with the figures, nothing left, and a small one works."""
    session = open_session("identity_uint8")
    space = os.statvfs(SHM_DIR)
    side = int((space.f_blocks * space.f_frsize) ** 0.5) + 1
    huge = np.broadcast_to(np.uint8(0), (side, side))  # no memory of its own
    with pytest.raises(NoSpaceError, match=r"needs \d{9,} bytes"):
        session.infer(huge)
    assert not shm_names()
    assert session.infer(np.ones((2, 2), np.uint8))["OUTPUT0"].sum() == 4


# Inference


def test_arrays_by_name_in_either_form(open_session: Open) -> None:
    """A mapping and keywords are the same, lists of numbers are taken."""
    session = open_session("simple")
    numbers = [list(range(16))]
    by_mapping = session.infer({"INPUT0": numbers, "INPUT1": ONES})
    by_keyword = session.infer(INPUT0=numbers, INPUT1=ONES)
    assert by_mapping["OUTPUT1"].tolist() == [[n - 1 for n in range(16)]]
    assert np.array_equal(by_mapping["OUTPUT1"], by_keyword["OUTPUT1"])


def test_only_the_outputs_that_were_asked_for(open_session: Open) -> None:
    """outputs= limits the request; an unknown one is refused."""
    session = open_session("simple")
    assert list(session.infer(INPUT0=ONES, INPUT1=ONES, outputs=["OUTPUT1"])) == ["OUTPUT1"]
    with pytest.raises(TensorNameError, match="no output 'NOPE'"):
        session.infer(INPUT0=ONES, INPUT1=ONES, outputs=["NOPE"])


def test_batches(open_session: Open) -> None:
    """Every batch up to the limit works; beyond it, and with unequal ones, it is our error."""
    session = open_session("simple")
    for batch in (1, 8, 3):
        array = np.arange(batch * 16, dtype=np.int32).reshape(batch, 16)
        assert np.array_equal(session.infer(INPUT0=array, INPUT1=array)["OUTPUT0"], 2 * array)
    nine = np.zeros((9, 16), np.int32)
    with pytest.raises(BatchSizeError, match="batch of 9 .* 1 to 8"):
        session.infer(INPUT0=nine, INPUT1=nine)
    with pytest.raises(BatchSizeError, match="INPUT0 9, INPUT1 1"):
        session.infer(INPUT0=nine, INPUT1=ONES)


@pytest.mark.parametrize(
    ("inputs", "error", "text"),
    [
        ({"INPUT0": ONES}, TensorNameError, "needs INPUT1 INT32"),
        ({"INPUT0": ONES, "INPUT2": ONES}, TensorNameError, "no input 'INPUT2'"),
        ({"INPUT0": ONES, "INPUT1": ONES.astype("f4")}, TensorDatatypeError, "INT32.*FP32"),
        ({"INPUT0": ONES, "INPUT1": np.int32(1)}, TensorShapeError, "rank 2.*rank 0"),
        ({"INPUT0": ONES, "INPUT1": np.array(1, np.int32)}, TensorShapeError, "rank 2.*rank 0"),
        ({"INPUT0": ONES, "INPUT1": ONES[0]}, TensorShapeError, "newaxis"),
        ({"INPUT0": ONES, "INPUT1": np.ones((1, 15), "i4")}, TensorShapeError, "15 where.*16"),
    ],
)
def test_wrong_inputs_are_our_errors_and_leave_nothing(
    open_session: Open,
    shm_names: Callable[[], set[str]],
    inputs: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    """Wrong names, datatypes and shapes are told before anything is sent or made."""
    session = open_session("simple")
    with pytest.raises(error, match=f"(?s){text}"):
        session.infer(inputs)
    assert not shm_names()
    assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2


def test_zero_sized_arrays_travel_on_the_wire(open_session: Open) -> None:
    """An empty array, which shared memory cannot hold, is sent and comes back."""
    for model, dtype in (("identity_fp32", np.float32), ("identity_bytes", object)):
        session = open_session(model)
        for shape in ((0, 5), (3, 0)):
            result = session.infer(np.empty(shape, dtype))
            assert result["OUTPUT0"].shape == shape
            assert result.shared_nbytes == 0


def test_results_are_the_callers_own(open_session: Open) -> None:
    """A result is not changed by the next inference, and can be written to."""
    session = open_session("simple")
    first = session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"]
    session.infer(INPUT0=5 * ONES, INPUT1=ONES)
    assert first[0, 0] == 2
    first[0, 0] = 9


def test_views_stay_as_they_were(open_session: Open) -> None:
    """copy=False gives read-only views that neither the next inference nor close() change."""
    session = open_session("simple")
    views = [session.infer(INPUT0=n * ONES, INPUT1=ONES, copy=False)["OUTPUT0"] for n in range(4)]
    session.close()
    assert [int(view[0, 0]) for view in views] == [1, 2, 3, 4]
    assert not views[0].flags.writeable


def test_regions_tell_which_of_them_an_array_holds(open_session: Open) -> None:
    """A part of a view is enough; it is over with the last of them, and a copy holds nothing."""
    session = open_session("simple")
    for _ in range(2):
        session.infer(INPUT0=ONES, INPUT1=ONES)
    assert not any(region.held for region in session.regions)
    few = session.infer(INPUT0=ONES, INPUT1=ONES, copy=False)["OUTPUT0"][0, :3]
    (held,) = (region for region in session.regions if region.held)
    assert (held.tensor, held.direction) == ("OUTPUT0", "output")
    assert "held by an array" in repr(session.regions)
    few = few.copy()
    assert not any(region.held for region in session.regions)
    session.register_inputs()
    session.inputs["INPUT0"][:] = 1
    assert "INPUT0" in {region.tensor for region in session.regions if region.held}


def test_results_without_a_copy_alternate_between_two_regions(open_session: Open) -> None:
    """A loop that keeps only its last view makes no region for each turn."""
    session = open_session("simple")
    names = set()
    for n in range(8):
        result = session.infer(INPUT0=n * ONES, INPUT1=ONES, copy=False)
        assert result["OUTPUT0"][0, 0] == n + 1
        names |= {r.name for r in session.regions if r.tensor == "OUTPUT0"}
    assert len(names) == 2


@pytest.mark.parametrize("kind", ["system", "none"])
def test_every_kind_of_text_arrives_as_its_bytes(open_session: Open, kind: str) -> None:
    """Text, bytes, and NumPy's own of both are the same, both ways of passing."""
    session = open_session("identity_bytes", shared_memory=kind)
    for given in (
        [[b"abc", "de"]],
        [list(np.array([b"abc", b"de"]))],
        np.array([[b"abc", b"de"]]),
        np.array([["abc", "de"]]),
        np.array([["abc", b"de"]], object),
    ):
        for _ in range(2):
            assert session.infer(given)["OUTPUT0"].tolist() == [[b"abc", b"de"]]


def test_a_sequence_keeps_its_state(open_session: Open) -> None:
    """Sequence id, start and end reach the model; its first answer is one more."""
    session = open_session("simple_sequence")
    answers = [
        session.infer(
            [[value]], sequence_id=42, sequence_start=value == 7, sequence_end=value == 9
        )["OUTPUT"].item()
        for value in (7, 8, 9)
    ]
    assert answers == [8, 8, 9]


def test_a_session_can_be_shared_by_threads(open_session: Open) -> None:
    """Threads take turns and each gets the answer to its own question."""
    session = open_session("simple")
    wrong: list[int] = []

    def ask(n: int) -> None:
        for _ in range(20):
            if session.infer(INPUT0=n * ONES, INPUT1=ONES)["OUTPUT0"][0, 0] != n + 1:
                wrong.append(n)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Pictures


@pytest.mark.parametrize(
    ("name", "classes"), [("cat", {281, 282, 285}), ("espresso", {967}), ("photographer", {872})]
)
@pytest.mark.parametrize("kind", ["system", "none"])
def test_pictures_are_classified(
    open_session: Open, name: str, classes: set[int], kind: str
) -> None:
    """The sample pictures get their classes, through shared memory and over the wire."""
    result = open_session("classifier", shared_memory=kind).infer(samples.image(name))
    best = result.top_k(5)
    assert best[0].index in classes
    assert best[0].label == samples.labels()[best[0].index]
    assert sum(p.score for p in best) <= 1
    assert (result.shared_nbytes > 10**6) == (kind == "system")


def test_every_form_of_a_picture_gives_the_same_answer(open_session: Open) -> None:
    """Path, bytes, PIL image, arrays of pixels and the ready tensor are the same picture."""
    session = open_session("classifier")
    path = samples.image("cat")
    with Image.open(path) as image:
        pixels = np.asarray(image)
        channels_first = pixels.transpose(2, 0, 1)
        forms = [
            path, str(path), path.read_bytes(), image, session.transform(path), [path],
            pixels, pixels / 255, channels_first, pixels[np.newaxis], channels_first[np.newaxis],
        ]  # fmt: skip
        logits = [session.infer(form)["logits"] for form in forms]
    for other in logits[1:]:
        assert np.allclose(other, logits[0], atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
def test_results_equal_onnxruntimes(open_session: Open, batch: int) -> None:
    """Every output is what onnxruntime itself computes from the same tensor."""
    import onnxruntime

    session = open_session("classifier")
    names = ["cat", "espresso", "photographer"][:batch]
    tensor = np.concatenate([session.transform(samples.image(name)) for name in names])
    reference = onnxruntime.InferenceSession(
        samples.classifier(), providers=["CPUExecutionProvider"]
    )
    outputs = [output.name for output in reference.get_outputs()]
    expected = dict(zip(outputs, reference.run(outputs, {"images": tensor}), strict=True))
    result = session.infer(tensor)
    assert set(result) == set(expected)
    for name, array in expected.items():
        assert np.allclose(result[name], array, rtol=1e-3, atol=1e-3), name


def test_a_list_of_pictures_is_a_batch(open_session: Open) -> None:
    """Several pictures go in one request, and each has its own classes."""
    session = open_session("classifier")
    result = session.infer([samples.image("espresso"), samples.image("photographer")])
    assert result["logits"].shape == (2, 1000)
    assert [result.top_k(1, item=i)[0].index for i in (0, 1)] == [967, 872]


def test_the_transform_is_derived_from_the_model_and_shown(open_session: Open) -> None:
    """Size, layout, datatype and values come from the model, and stand in the result."""
    session = open_session("classifier")
    assert "224" in str(session.transform)
    result = session.infer(samples.image("cat"))
    assert result.transform == session.transform
    assert str(session.transform) in repr(result)
    other = session.transform.replace(fit="stretch")
    assert session.infer(samples.image("cat"), transform=other).transform == other
    assert session.infer(samples.image("cat"), transform="0..1").transform != session.transform


def test_a_picture_for_a_model_without_pictures_is_refused(open_session: Open) -> None:
    """A path for a model of numbers is an error that says so."""
    session = open_session("simple_sequence")
    with pytest.raises(TensorShapeError, match="does not look like a picture"):
        session.infer(samples.image("cat"))
    with pytest.raises(ArgumentError, match="transform was given and no picture"):
        session.infer([[1]], transform=ImageTransform(8, 8))


def test_an_unreadable_picture_leaves_the_session_as_it_was(
    open_session: Open, tmp_path: Path
) -> None:
    """A text file named .png is our error; the next picture works."""
    session = open_session("classifier")
    fake = tmp_path / "fake.png"
    fake.write_text("not a picture")
    with pytest.raises(ImageReadError):
        session.infer(fake)
    assert session.infer(samples.image("espresso")).top_k(1)[0].index == 967


def test_edges_of_a_picture(open_session: Open) -> None:
    """The teaching model for images takes a picture as it is and gives maps of its size."""
    result = open_session("edges").infer(samples.image("cat"))
    with Image.open(samples.image("cat")) as image:
        width, height = image.size
    assert result["magnitude"].shape == (height, width)
    assert result["gradient"].shape == (height, width, 2)


# Trouble


def test_no_server_is_told_at_once() -> None:
    """An address where nothing listens is an error within a second, with what to do."""
    started = time.monotonic()
    with pytest.raises(ServerUnreachableError, match=r"http://127.0.0.1:9 *.*\n.*8000"):
        tritonic_nb.Session("127.0.0.1:9")
    assert time.monotonic() - started < 3


def test_something_else_at_the_address_is_told(server: Any) -> None:
    """A port that speaks HTTP but not Triton's protocol is told as such."""
    if TEST_URL:
        pytest.skip("only the embedded server tells its metrics address")
    with pytest.raises(ServerUnreachableError, match="is not Triton"):
        tritonic_nb.Session(server.metrics_url)


@own_server
def test_a_timeout_gives_the_region_up_and_goes_on(
    sleeper: str, open_session: Open, shm_names: Callable[[], set[str]]
) -> None:
    """After a timeout the regions of that request are never used again; the next one answers."""
    session = open_session(sleeper)
    session.infer(np.array([0], np.float32))
    before = shm_names()
    with pytest.raises(ServerTimeoutError, match=r"0\.3 s"):
        session.infer(np.array([1.5], np.float32), timeout=0.3)
    assert not before & shm_names()
    # The model has one instance: when this is answered, what was given up has ended, too.
    assert session.infer(np.array([0.25], np.float32))["SLEPT"].item() == 0.25


@own_server
def test_ctrl_c_ends_the_wait_within_half_a_second(sleeper: str, open_session: Open) -> None:
    """An interrupt is noticed while the server works, and the session goes on."""
    session = open_session(sleeper)
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.monotonic())
        # To this thread, so that it is not the signal itself that ends the other's wait.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        session.infer(np.array([1.7], np.float32))
    late = time.monotonic() - sent[0]
    timer.join()
    assert late < 1  # half a second, and as much again for a busy machine
    assert session.infer(np.array([0.25], np.float32))["SLEPT"].item() == 0.25
    session.unregister()


def test_a_server_that_hangs_is_given_up_in_time(
    protocol: str, shm_names: Callable[[], set[str]]
) -> None:
    """The time limit holds for making regions as well, and the session goes on afterwards."""
    with (
        brief_server(["simple"]) as server,
        tritonic_nb.Session(server, "simple", protocol=protocol) as session,
    ):
        for prepared in (False, True):
            if prepared:
                session.infer(INPUT0=ONES, INPUT1=ONES)
            os.kill(server.pid, signal.SIGSTOP)
            while Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                time.sleep(0.01)
            started = time.monotonic()
            with pytest.raises(ServerTimeoutError):
                session.infer(INPUT0=ONES, INPUT1=ONES, timeout=0.3)
            took = time.monotonic() - started
            os.kill(server.pid, signal.SIGCONT)
            assert took < 3  # and not the half minute of a control call
            assert not shm_names()
        assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2


def test_a_server_that_ended_does_not_keep_a_session_from_closing(
    protocol: str,
    shm_names: Callable[[], set[str]],
) -> None:
    """With its server gone a session closes at once, and leaves nothing."""
    with brief_server(["simple"]) as server:
        session = tritonic_nb.Session(server, "simple", protocol=protocol)
        session.infer(INPUT0=ONES, INPUT1=ONES)
    with pytest.raises(ServerUnreachableError):
        session.infer(INPUT0=ONES, INPUT1=ONES)
    started = time.monotonic()
    session.close()
    assert time.monotonic() - started < 3
    assert not shm_names()


def test_closing_can_be_interrupted_and_done_again(
    open_session: Open, shm_names: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of close() loses nothing: the next close() does the rest."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)

    def interrupted(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session._transport, "unregister", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.close()
    assert not session.closed
    session.close()
    assert session.closed
    assert not shm_names()


@pytest.mark.parametrize("step", ["register_system", "unregister"])
def test_growing_can_be_interrupted(
    open_session: Open, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Ctrl-C while a region is exchanged for a larger one leaves nothing that is unknown."""
    session = open_session("identity_fp32")
    session.infer(np.zeros((2, 2), np.float32))
    done = getattr(session._transport, step)

    def interrupted(*arguments: Any, **options: Any) -> None:
        done(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session._transport, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.infer(np.zeros((99, 99), np.float32))
    assert session.infer(np.ones((9, 9), np.float32))["OUTPUT0"].sum() == 81


def test_a_forked_child_cannot_use_its_parents_session(open_session: Open, transport: Any) -> None:
    """Parent and child would write to the same memory: the child is refused, and harms nothing."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    child = os.fork()
    if child == 0:
        try:
            session.infer(INPUT0=ONES, INPUT1=ONES)
        except SessionClosedError:
            session.close()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert {r.name for r in session.regions} <= {r["name"] for r in transport.registered_regions()}
    assert session.infer(INPUT0=ONES, INPUT1=ONES).shared_nbytes == 256


@own_server
def test_a_models_own_error_is_told_as_such(
    server: Any, open_session: Open, tmp_path: Path
) -> None:
    """What a model raises is its own error, whatever words are in it."""
    code = (
        "class TritonPythonModel:\n"
        "    def execute(self, requests):\n"
        "        raise RuntimeError('Unable to find shared memory region: not ready')\n"
    )
    tensor = "[{{ name: '{}', data_type: TYPE_FP32, dims: [1] }}]"
    config = f"input {tensor.format('X')}\noutput {tensor.format('Y')}\n"
    server.add("moody", python_model(tmp_path / "moody", code, config))
    session = open_session("moody")
    with pytest.raises(ModelFailedError, match="not ready"):
        session.infer([1.0])


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), 1e30, "5", None])
def test_impossible_time_limits_are_refused(open_session: Open, bad: Any) -> None:
    """A time limit that is none is our error, before anything is sent."""
    with pytest.raises(ArgumentError, match="seconds"):
        tritonic_nb.Session("127.0.0.1:9", timeout=bad)


def test_a_password_in_the_address_is_not_shown(address: Any, protocol: str) -> None:
    """Neither representation nor errors carry a password from the address."""
    place = place_of(address, protocol)
    session = tritonic_nb.Session(f"{protocol}://me:hunter2@{place['server']}")
    session.close()
    with pytest.raises(SessionClosedError) as caught:
        session.models()
    assert "hunter2" not in repr(session) + session._repr_html_() + str(caught.value)


def test_regions_that_somebody_unregistered_are_registered_again(
    open_session: Open, transport: Any
) -> None:
    """A region that the server lost is mended, and the inference answers."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    for region in session.regions:
        transport.unregister(region.name)
    assert session.infer(INPUT0=ONES, INPUT1=ONES)["OUTPUT0"][0, 0] == 2


def test_a_closed_session_says_so(open_session: Open) -> None:
    """After close() every call is our error; close() itself can be repeated."""
    session = open_session("simple")
    session.close()
    session.close()
    assert session.closed
    for call in (session.models, session.unregister, lambda: session.infer(ONES)):
        with pytest.raises(SessionClosedError):
            call()
    assert "closed" in repr(session)


def test_a_forgotten_session_is_collected_and_told(
    address: Any, protocol: str, transport: Any, shm_names: Callable[[], set[str]]
) -> None:
    """A session that nobody holds removes what it had, with a ResourceWarning."""

    def forget() -> None:
        session = tritonic_nb.Session(address, "simple", load=True, protocol=protocol)
        session.infer(INPUT0=ONES, INPUT1=ONES)
        del session
        gc.collect()

    with pytest.warns(ResourceWarning, match="never closed"):
        forget()
    assert not shm_names()


@own_server
def test_an_interpreter_that_ends_leaves_nothing(
    server: Any, protocol: str, transport: Any
) -> None:
    """A script that never closes its session leaves no file and no registration."""
    script = textwrap.dedent(f"""
        import numpy as np, tritonic_nb
        session = tritonic_nb.Session(
            model="simple", load=True, **{place_of(server, protocol)!r}
        )
        ones = np.ones((1, 16), np.int32)
        session.infer(INPUT0=ones, INPUT1=ones)
        print(*(r.name for r in session.regions))
    """)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )
    names = set(done.stdout.split())
    assert len(names) == 4
    assert not names & {r["name"] for r in transport.registered_regions()}
    assert not names & set(os.listdir(SHM_DIR))


# What it shows


def test_reprs_say_what_matters_and_do_no_io(
    open_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Text and HTML of session and result name model, tensors and regions; closed ones too."""
    session = open_session("simple")
    result = session.infer(INPUT0=ONES, INPUT1=ONES)
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "tritonic_nb"):
        shown = (repr(session), session._repr_html_())
    assert not caplog.records  # every request would be one
    for text in shown:
        assert "INPUT0 INT32 [batch, 16]" in text
        assert session.regions[0].key in text
    assert "OUTPUT0" in result._repr_html_()
    assert "shared memory" in repr(result)
    session.close()
    assert "simple" in repr(session)


def test_regions_and_models_are_tables(open_session: Open) -> None:
    """They are tuples as ever, and show themselves as tables."""
    session = open_session("simple")
    session.infer(INPUT0=ONES, INPUT1=ONES)
    assert isinstance(session.regions, tuple)
    assert len(repr(session.regions).splitlines()) == 2 + len(session.regions)
    models = session.models()
    assert isinstance(models, tuple)
    assert "simple" in {model.name for model in models}
    assert f"{len(models)} models, " in repr(models).splitlines()[0]
    assert "<table" in models._repr_html_()


def test_tab_completes_names(open_session: Open) -> None:
    """IPython offers the names of tensors behind a bracket and a quote."""
    from IPython.core.completer import IPCompleter, provisionalcompleter

    session = open_session("simple")
    result = session.infer(INPUT0=ONES, INPUT1=ONES)
    names = {
        "session": session, "result": result, "model": session.model_info,
        "difference": tritonic_nb.diff(result, result),
    }  # fmt: skip
    completer = IPCompleter(namespace=names, use_jedi=False)
    for begun, offered in (
        ('result["', {"OUTPUT0", "OUTPUT1"}),
        ('difference["', {"OUTPUT0", "OUTPUT1"}),
        ('session.inputs["', {"INPUT0", "INPUT1"}),
        ('session.model_info.outputs["', {"OUTPUT0", "OUTPUT1"}),
        ('model.inputs["', {"INPUT0", "INPUT1"}),
    ):
        with provisionalcompleter():
            found = {each.text for each in completer.completions(begun, len(begun))}
        assert found == offered, begun


def test_what_a_session_shows_of_many_tensors_is_short() -> None:
    """The first eight of each kind; the model has them all."""
    from tritonic_nb.session import _tensor_rows

    specs = {f"in{i}": tritonic_nb.TensorSpec(f"in{i}", "FP32", (1,)) for i in range(50)}
    rows = _tensor_rows("input", specs)
    assert len(rows) == 9
    assert rows[-1] == ("input", "… and 42 more: session.model_info")


def test_inputs_say_what_was_taken(open_session: Open) -> None:
    """Their names and shapes, and where the arrays lie; a closed session's are no error."""
    session = open_session("simple")
    session.inputs["INPUT0"][:] = 1
    said = repr(session.inputs).splitlines()
    assert said[0] == "InputViews of simple"
    assert "region tritonic_nb-" in said[2] or "over the wire" in said[2]
    assert "not taken yet" in said[3]
    assert "<table" in session.inputs._repr_html_()


def test_verbose_logs_requests_and_registrations(
    open_session: Open, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With verbose=True every request, register and unregister can be followed."""
    logger = logging.getLogger("tritonic_nb")
    handlers, level = list(logger.handlers), logger.level
    try:
        with caplog.at_level(logging.DEBUG, "tritonic_nb"):
            session = open_session("simple", verbose=True)
            session.infer(INPUT0=ONES, INPUT1=ONES)
            name = session.regions[0].name
            session.close()
    finally:
        logger.handlers, logger.level = handlers, level
    asked = {"http": "POST v2/models/simple/infer", "grpc": "ModelInfer 4"}
    assert asked[protocol] in caplog.text
    assert f"registered {name}" in caplog.text
    assert f"unregistered {name}" in caplog.text


def test_no_header_value_is_ever_shown(
    address: Any, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The secret of a protected server appears in no repr, log or error."""
    secret = "s3cr3t-value-of-a-header"  # noqa: S105
    place = place_of(address, protocol)
    own = place.pop("headers")
    with (
        caplog.at_level(logging.DEBUG),
        tritonic_nb.Session(
            model="simple", headers={**own, "x-mine": secret}, load=True, **place
        ) as session,
    ):
        session.infer(INPUT0=ONES, INPUT1=ONES)
        shown = repr(session) + session._repr_html_() + caplog.text
    assert secret not in shown
    for value in own.values():
        assert value not in shown


def test_nothing_warns(open_session: Open) -> None:
    """An ordinary inference of each kind raises no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = open_session("classifier")
        session.infer(samples.image("cat"))
        session.set_shared_memory("none")
        session.infer(samples.image("cat"))
