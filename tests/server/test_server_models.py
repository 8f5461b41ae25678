"""Models: the teaching models' answers, ONNX files, the user's own folders."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_files as onnx
import pytest
import tritonclient.http as triton

from tests.model_folders import python_model
from tritonic_nb import samples
from tritonic_nb.errors import (
    ArgumentError,
    ModelFileError,
    ModelLoadError,
    ServerStartError,
    ServerUnreachableError,
)
from tritonic_nb.server import NVIDIA_EXAMPLES, Server, prepare, serve
from tritonic_nb.server.repository import TEACHING_MODELS

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


class Caller:
    """Calls the models of a server over HTTP."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = triton.InferenceServerClient(server.url)

    def load(self, name: str) -> None:
        """Load a model."""
        self.client.load_model(name, headers=self.server.headers)

    def unload(self, name: str) -> None:
        """Unload a model."""
        self.client.unload_model(name, headers=self.server.headers)

    def infer(self, model: str, /, _options: dict[str, Any] | None = None, **arrays: Any) -> Any:
        """Send arrays, return the result."""
        inputs = []
        for name, array in arrays.items():
            datatype = next(key for key, dtype in DTYPES.items() if array.dtype == dtype)
            tensor = triton.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        return self.client.infer(model, inputs, **(_options or {}))

    def config(self, model: str) -> Any:
        """Return a loaded model's configuration."""
        return self.client.get_model_config(model)


@pytest.fixture
def caller(embedded: Server) -> Iterator[Caller]:
    """Give a client of the module's embedded."""
    caller = Caller(embedded)
    yield caller
    caller.client.close()


@pytest.fixture
def identity_onnx(tmp_path: Path) -> Path:
    """Write an ONNX file that answers an FP32 batch of 3 numbers with itself."""
    file = tmp_path / "x.onnx"
    file.write_bytes(
        onnx.model(
            "Identity",
            [onnx.Value("x", onnx.FLOAT, ["N", 3])],
            [onnx.Value("y", onnx.FLOAT, ["N", 3])],
            {"labels": 'a "cat"\nand a \\ dog: Müßiggang', "size": "3"},
        )
    )
    return file


def test_every_teaching_model_lies_there_unloaded(embedded: Server, caller: Caller) -> None:
    """The repository lists every teaching model, and none is loaded at start."""
    assert set(TEACHING_MODELS) <= set(embedded.models)
    assert set(NVIDIA_EXAMPLES) <= set(TEACHING_MODELS)
    index = caller.client.get_model_repository_index(headers=embedded.headers)
    assert {"edges", "identity_bf16"} <= {entry["name"] for entry in index}
    assert not [entry for entry in index if entry.get("state") == "READY"]


def test_loading_twice_loads_once(embedded: Server, caller: Caller) -> None:
    """A model that is loaded and did not change is not loaded again."""
    for _ in range(2):
        caller.load("identity_fp32")
    assert embedded.log.count("successfully loaded 'identity_fp32'") == 1
    caller.unload("identity_fp32")


def test_the_identity_for_devices_answers_host_tensors_too(caller: Caller) -> None:
    """identity_fp32_device takes what comes without a GPU, empty tensors included."""
    caller.load("identity_fp32_device")
    for shape in ((2, 3), (1, 100_000), (0, 4)):
        array = np.random.default_rng(0).random(shape, dtype=np.float32)
        got = caller.infer("identity_fp32_device", INPUT0=array).as_numpy("OUTPUT0")
        assert np.array_equal(got, array)
    caller.unload("identity_fp32_device")


@pytest.mark.parametrize("datatype", DTYPES)
def test_identity_answers_every_datatype(caller: Caller, datatype: str) -> None:
    """identity_* gives back what it was given, bit by bit."""
    name = f"identity_{datatype.lower()}"
    sent = np.arange(6).reshape(2, 3)
    array = np.array([[b"", b"a", b"\xff\x00"]], dtype=object)
    if datatype != "BYTES":
        array = sent.astype(DTYPES[datatype])
    caller.load(name)
    got = caller.infer(name, INPUT0=array).as_numpy("OUTPUT0")
    caller.unload(name)
    assert got.dtype == array.dtype
    assert np.array_equal(got, array)


def test_simple_adds_and_subtracts(caller: Caller) -> None:
    """The models simple, simple_int8 and simple_string give sum and difference, in batches."""
    left = np.arange(32, dtype=np.int8).reshape(2, 16)
    right = np.ones_like(left)

    def text(numbers: np.ndarray) -> np.ndarray:
        return np.array([str(n).encode() for n in numbers.ravel()], object).reshape(numbers.shape)

    for name, convert in (
        ("simple", lambda numbers: numbers.astype(np.int32)),
        ("simple_int8", lambda numbers: numbers),
        ("simple_string", text),
    ):
        caller.load(name)
        result = caller.infer(name, INPUT0=convert(left), INPUT1=convert(right))
        assert np.array_equal(result.as_numpy("OUTPUT0"), convert(left + right))
        assert np.array_equal(result.as_numpy("OUTPUT1"), convert(left - right))
    word = np.full((1, 16), b"seven", dtype=object)
    with pytest.raises(Exception, match="seven"):
        caller.infer("simple_string", INPUT0=word, INPUT1=word)


def test_simple_sequence_marks_the_start(caller: Caller) -> None:
    """Three sequences at once, one with a text for its id, each start with one more."""
    caller.load("simple_sequence")
    seen: dict[int | str, list[int]] = {7: [], 8: [], "nine": []}
    for step, number in enumerate((10, 20, 30)):
        for sequence, numbers in seen.items():
            options = {
                "sequence_id": sequence,
                "sequence_start": step == 0,
                "sequence_end": step == 2,
            }
            array = np.array([[number]], dtype=np.int32)
            numbers.append(
                int(caller.infer("simple_sequence", options, INPUT=array).as_numpy("OUTPUT")[0, 0])
            )
    assert list(seen.values()) == [[11, 20, 30]] * 3


def test_edges_finds_an_edge(caller: Caller) -> None:
    """Model edges: a vertical step of 255 has a slope of 127.5 per pixel across, none down."""
    image = np.zeros((5, 6, 3), dtype=np.uint8)
    image[:, 3:] = 255
    caller.load("edges")
    result = caller.infer("edges", image=image)
    gradient, magnitude = result.as_numpy("gradient"), result.as_numpy("magnitude")
    expected = np.tile(np.array([0, 0, 127.5, 127.5, 0, 0], dtype=np.float32), (5, 1))
    assert np.allclose(gradient[..., 0], expected, atol=1e-3)
    assert np.allclose(gradient[..., 1], 0, atol=1e-3)
    assert np.allclose(magnitude, expected, atol=1e-3)


def test_an_onnx_file_is_served(embedded: Server, caller: Caller, identity_onnx: Path) -> None:
    """A batched ONNX file needs no configuration; its metadata become parameters."""
    assert embedded.add("classifier", identity_onnx, parameters={"size": "4"}) == "classifier"
    assert "classifier" in embedded.models
    caller.load("classifier")
    config = caller.config("classifier")
    assert config["max_batch_size"] == 8
    assert config["input"][0]["dims"] == ["3"] or config["input"][0]["dims"] == [3]
    assert config["parameters"]["labels"]["string_value"] == 'a "cat"\nand a \\ dog: Müßiggang'
    assert config["parameters"]["size"]["string_value"] == "4"
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(caller.infer("classifier", x=array).as_numpy("y"), array)


def test_adding_again_replaces(embedded: Server, caller: Caller, identity_onnx: Path) -> None:
    """The same name again replaces the model, and one that is loaded is loaded again at once."""
    embedded.add("again", identity_onnx)
    caller.load("again")
    assert caller.config("again")["max_batch_size"] == 8
    embedded.add("again", identity_onnx, max_batch_size=2)
    assert caller.config("again")["max_batch_size"] == 2


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        (onnx.STRING, np.array([[b"caf\xc3\xa9", b""]], dtype=object)),
        (onnx.BOOL, np.array([[True, False]])),
        (onnx.FLOAT16, np.array([[0.5, 2]], dtype=np.float16)),
        (onnx.INT64, np.array([[1, -(2**40)]])),
        (onnx.DOUBLE, np.array([[0.1, 0.2]])),
    ],
)
def test_onnx_datatypes(
    embedded: Server, caller: Caller, tmp_path: Path, kind: int, array: np.ndarray
) -> None:
    """ONNX's datatypes, strings among them, pass through a model of fixed size."""
    file = tmp_path / "typed.onnx"
    ends = [[onnx.Value(name, kind, [1, 2])] for name in "xy"]
    file.write_bytes(onnx.model("Identity", *ends))
    embedded.add("typed", file)
    caller.load("typed")
    assert caller.config("typed")["max_batch_size"] == 0
    assert np.array_equal(caller.infer("typed", x=array).as_numpy("y"), array)


def test_a_vector_of_batches_and_a_scalar(embedded: Server, caller: Caller, tmp_path: Path) -> None:
    """A tensor that has no dimension but the batch, or none at all, is served as [1]."""
    for name, dims, array in (
        ("vector", ["N"], np.ones((2, 1), np.float32)),
        ("scalar", [], np.ones(1, np.float32)),
    ):
        file = tmp_path / f"{name}.onnx"
        ends = [[onnx.Value(end, onnx.FLOAT, dims)] for end in "xy"]
        file.write_bytes(onnx.model("Identity", *ends))
        assert embedded.add(file) == (name,)
        caller.load(name)
        assert np.array_equal(caller.infer(name, x=array).as_numpy("y"), array)


def test_onnx_runtimes_refusal_reaches_the_client(
    embedded: Server, caller: Caller, tmp_path: Path
) -> None:
    """A shape that only ONNX Runtime finds wrong comes back in its words."""
    file = tmp_path / "product.onnx"
    ends = [onnx.Value("a", onnx.FLOAT, ["n", "k"]), onnx.Value("b", onnx.FLOAT, ["k", "m"])]
    file.write_bytes(onnx.model("MatMul", ends, [onnx.Value("c", onnx.FLOAT, ["n", "m"])]))
    embedded.add("product", file)
    caller.load("product")
    assert caller.config("product")["max_batch_size"] == 0
    a, b = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    assert np.array_equal(caller.infer("product", a=a, b=b).as_numpy("c"), a @ b)
    with pytest.raises(Exception, match="MatMul"):
        caller.infer("product", a=a, b=a)


def test_broken_files_are_refused(embedded: Server, tmp_path: Path) -> None:
    """A missing, empty, broken or foreign file is an error that names it, in one line."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    empty = tmp_path / "empty.onnx"
    empty.touch()
    foreign = tmp_path / "weights.pt"
    foreign.touch()
    for file in (broken, empty, foreign, tmp_path / "missing.onnx"):
        with pytest.raises(ModelFileError, match=file.name) as caught:
            embedded.add("bad", file)
        assert "\n" not in caught.value.message
        assert caught.value.remedy
    assert "bad" not in embedded.models


def test_a_datatype_that_cannot_be_carried_is_refused(embedded: Server, tmp_path: Path) -> None:
    """BF16 through ONNX is refused with the tensor's name and a way out."""
    file = tmp_path / "bf16.onnx"
    ends = [[onnx.Value(name, onnx.BFLOAT16, [1, 2])] for name in ("left", "right")]
    file.write_bytes(onnx.model("Identity", *ends))
    with pytest.raises(ModelFileError, match=r"left.*bfloat16"):
        embedded.add("bad", file)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "x" * 200, "zwei worte", "simple"])
def test_unfit_names_are_refused(embedded: Server, identity_onnx: Path, name: str) -> None:
    """A name that cannot stand in a path, or is a teaching model's, is refused."""
    with pytest.raises(ArgumentError):
        embedded.add(name, identity_onnx)


def test_a_negative_batch_is_refused(embedded: Server, identity_onnx: Path) -> None:
    """max_batch_size below 0 is an error that tells the number."""
    with pytest.raises(ArgumentError, match="-1"):
        embedded.add("x", identity_onnx, max_batch_size=-1)


MODEL = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]
    def answer(self, request):
        array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array + 1)])
"""
CONFIG = """# name: "not this"
input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
name: "original" backend: "python"
"""


def model_folder(folder: Path) -> Path:
    """Write a model folder of a user's own."""
    (folder / "1").mkdir(parents=True)
    (folder / "1/model.py").write_text(MODEL)
    (folder / "config.pbtxt").write_text(CONFIG)
    return folder


def test_a_model_folder_is_served_under_any_name(
    embedded: Server, caller: Caller, tmp_path: Path
) -> None:
    """A folder that names its model otherwise is served under the name that was given."""
    folder = model_folder(tmp_path / "original")
    embedded.add("renamed", folder, parameters={"note": "added"})
    caller.load("renamed")
    assert caller.config("renamed")["parameters"]["note"]["string_value"] == "added"
    got = caller.infer("renamed", IN=np.zeros(2, np.float32)).as_numpy("OUT")
    assert got.tolist() == [1, 1]
    assert (folder / "config.pbtxt").read_text() == CONFIG


def test_a_repository_folder_adds_all_its_models(
    embedded: Server, caller: Caller, tmp_path: Path
) -> None:
    """add(path) of a model repository adds each of its models under its own name."""
    for name in ("plus", "another"):
        model_folder(tmp_path / name)
    (tmp_path / "notes").mkdir()
    assert embedded.add(tmp_path) == ("another", "plus")
    caller.load("plus")
    with pytest.raises(ModelFileError, match="another, plus"):
        embedded.add("one", tmp_path)


def test_a_folder_without_models_is_refused(embedded: Server, tmp_path: Path) -> None:
    """A folder that is neither a model nor a repository is refused."""
    with pytest.raises(ModelFileError, match="not a model folder"):
        embedded.add(tmp_path)


def test_a_folder_without_a_configuration(embedded: Server, tmp_path: Path) -> None:
    """Without a config.pbtxt a model needs a server that completes it."""
    (tmp_path / "auto/1").mkdir(parents=True)
    (tmp_path / "auto/1/model.py").write_text(
        MODEL
        + """
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [-1]})
        config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [-1]})
        config.set_max_batch_size(0)
        return config
"""
    )
    with pytest.raises(ModelFileError, match="auto_complete"):
        embedded.add("auto", tmp_path / "auto")
    with serve({"auto": tmp_path / "auto"}, auto_complete=True) as server:
        caller = Caller(server)
        assert json.dumps(caller.config("auto")).count("TYPE_FP32") == 2
        caller.client.close()
        server.stop(0.0)


def test_a_load_that_fails_leaves_the_server_ready(embedded: Server, tmp_path: Path) -> None:
    """One bad model is an error of its own; the server stays ready."""
    folder = model_folder(tmp_path / "bad")
    (folder / "1/model.py").write_text("import no_such_module\n")
    embedded.add(folder)
    with pytest.raises(ModelLoadError, match="no_such_module") as caught:
        embedded._load(["bad"])
    assert "NumPy and ONNX Runtime only" in caught.value.remedy
    assert "model.py(1)" in str(caught.value)
    assert "importlib" not in str(caught.value)
    with triton.InferenceServerClient(embedded.url) as client:
        assert client.is_server_ready()


def test_an_unreadable_configuration_is_explained(embedded: Server, tmp_path: Path) -> None:
    """Where Triton's answer names no reason, the error takes it from the log."""
    folder = model_folder(tmp_path / "garbled")
    (folder / "config.pbtxt").write_text("no_such_field: 1\n")
    embedded.add(folder)
    with pytest.raises(ModelLoadError, match="failed to read text proto"):
        embedded._load(["garbled"])


def test_a_stopped_server_takes_no_model(identity_onnx: Path) -> None:
    """add() on a stopped server is an error that says what to do."""
    with serve() as server:
        pass
    with pytest.raises(ServerUnreachableError, match="ended"):
        server.add("x", identity_onnx)
    assert server.models == ()


def test_paths_of_any_language_and_links(
    embedded: Server, caller: Caller, tmp_path: Path, identity_onnx: Path
) -> None:
    """An ONNX file with an umlaut and a space in its path, behind a link, is served."""
    folder = tmp_path / "Modèle für Jürgen"
    folder.mkdir()
    (folder / "ünï.onnx").symlink_to(identity_onnx)
    embedded.add("abroad", folder / "ünï.onnx")
    caller.load("abroad")


def test_a_broken_link_of_the_users_own_does_no_harm(embedded: Server, tmp_path: Path) -> None:
    """A link in a model folder that led nowhere from the start does not keep it from loading."""
    folder = model_folder(tmp_path / "linked")
    (folder / "1/data").symlink_to(tmp_path / "nowhere")
    embedded.add(folder)
    embedded._load(["linked"])
    (folder / "1/model.py").unlink()
    with pytest.raises(ModelLoadError, match=r"model.py is gone"):
        embedded._load(["linked"])


def test_a_users_model_folder_stays_as_it_is(
    embedded: Server, caller: Caller, tmp_path: Path
) -> None:
    """Python leaves nothing in the folder that was added."""
    code = "from helper import VALUE\n\n\nclass TritonPythonModel:\n    pass\n"
    folder = python_model(tmp_path / "mine", code)
    (folder / "1" / "helper.py").write_text("VALUE = 1\n")
    embedded.add("mine_untouched", folder)
    caller.load("mine_untouched")
    assert sorted(path.name for path in (folder / "1").iterdir()) == ["helper.py", "model.py"]


def test_nothing_beside_the_notebook_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files beside the notebook cannot take the place of what models import."""
    for name in ("random", "json", "numpy", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong file')\n")
    monkeypatch.chdir(tmp_path)
    with serve(["edges"]) as server:
        assert server.running


def test_a_temp_folder_that_triton_cannot_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TMPDIR with a space or a semicolon is told before the start, and nothing is left."""
    odd = tmp_path / "a b;c"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    with pytest.raises(ServerStartError, match="TMPDIR"):
        serve()
    assert not list(odd.iterdir())


def test_a_cache_folder_with_an_odd_path_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spaces, colons and umlauts in the cache folder's path do no harm."""
    odd = tmp_path / "ünï: c d;e"
    runtime = prepare()
    odd.mkdir()
    (odd / runtime.folder.name).symlink_to(runtime.folder)
    monkeypatch.setenv("TRITONIC_NB_CACHE", str(odd))
    monkeypatch.delenv("TRITONIC_NB_PYTHON", raising=False)
    with serve(["edges"]) as server:
        server.add("classifier", samples.classifier())
        server._load(["classifier"])
