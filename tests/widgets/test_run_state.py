"""Running a model from a notebook, without a browser: sources, transforms, repeats, code."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tritonic_nb import ImageTransform, InferenceResult, Session, samples
from tritonic_nb.errors import ArgumentError, ImageError
from tritonic_nb.examples import EXAMPLES, ExampleValues
from tritonic_nb.tensors import DATATYPES, numpy_dtype
from tritonic_nb.widgets.run_source import usable_names
from tritonic_nb.widgets.run_state import RunState

CATS = {"Egyptian cat", "tiger cat", "tabby"}
Open = Callable[..., RunState]


@pytest.fixture
def open_state(open_session: Callable[..., Session]) -> Iterator[Open]:
    """Open states on sessions of their own; their variables are the second argument."""
    opened: list[RunState] = []

    def open_one(model: str | None = "classifier", **variables: Any) -> RunState:
        session = open_session(model)
        opened.append(RunState(session, {"session": session, **variables}))
        return opened[-1]

    yield open_one
    for state in opened:
        state.close()


def ran(state: RunState) -> InferenceResult:
    """Run once and return what came of it."""
    state.run_once()
    assert state.wait(30)
    assert state.error is None
    result = state.result
    assert isinstance(result, InferenceResult)
    return result


def failed(state: RunState) -> tuple[str, str]:
    """Run once and return the message and the remedy of its error."""
    state.run_once()
    assert state.wait(30)
    assert state.error is not None
    message, remedy = state.error
    return message, remedy


def is_cat(result: InferenceResult) -> bool:
    return result.top_k(1)[0].label in CATS


def executed(state: RunState) -> InferenceResult:
    """Run the code that the state gives, as a cell would, and return its result."""
    names = dict(state.namespace)
    exec(compile(state.code, "<cell>", "exec"), names)  # noqa: S102 - what a cell does
    result = names["result"]
    assert isinstance(result, InferenceResult)
    return result


def does_the_same(state: RunState) -> bool:
    """Whether the code gives the outputs that a run gives."""
    result, other = ran(state), executed(state)
    return list(result) == list(other) and all(
        np.array_equal(result[name], other[name]) for name in result
    )


def until(condition: Callable[[], bool], timeout_s: float = 20) -> bool:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def png(name: str = "cat") -> bytes:
    file = io.BytesIO()
    with Image.open(samples.image(name)) as image:
        image.save(file, "PNG")
    return file.getvalue()


# --- sources ---


def test_a_sample_picture_is_classified(open_state: Open) -> None:
    """At first a cat is chosen; its class, the stages and the count are told after a run."""
    state = open_state()
    assert (state.source, state.sample, state.samples) == ("sample", "cat", tuple(samples.images()))
    result = ran(state)
    assert is_cat(result)
    assert dict(state.stages) == result.timings.stages()
    assert sum(ms for _, ms in state.stages) == pytest.approx(result.timings.total_ms)
    assert (state.count, state.running) == (1, False)
    assert does_the_same(state)
    assert 'tnb.samples.image("cat")' in state.code


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize(
    "model",
    ["simple", "simple_int8", "simple_identity", "simple_sequence", "identity_bf16",
     "identity_fp16", "identity_bool", "identity_uint64"],
)  # fmt: skip
def test_values_are_made_up_for_other_models(open_state: Open, model: str, kind: str) -> None:
    """A model without pictures gets values in its datatype and shape; the code makes the same."""
    state = open_state(model)
    assert state.samples == EXAMPLES
    assert state.transform is None
    state.sample = kind
    assert does_the_same(state)


@pytest.mark.parametrize("kind", ["ramp", "zeros"])
def test_numbers_are_made_up_as_text(open_state: Open, kind: str) -> None:
    """Text that a model of numbers as text can read."""
    state = open_state("simple_string")
    state.sample = kind
    assert does_the_same(state)


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize("shape", [(1, 300), (2, 3), (1,), ()])
def test_code_makes_the_same_values(datatype: str, kind: str, shape: tuple[int, ...]) -> None:
    """For each datatype, the code of made-up values gives the array itself."""
    values = ExampleValues(kind, datatype, shape)
    names: dict[str, Any] = {}
    exec("\n".join([*values.imports(), f"made = {values.code()}"]), names)  # noqa: S102
    array = values.array()
    assert array.shape == shape
    assert array.dtype.kind == "U" if datatype == "BYTES" else array.dtype == numpy_dtype(datatype)
    assert np.array_equal(names["made"], array)
    assert names["made"].dtype == array.dtype


def test_made_up_values_have_the_sizes_that_are_asked_for(open_state: Open) -> None:
    """A dynamic dimension is 1, or what `sizes` says; what does not fit is an error."""
    state = open_state("identity_fp32")
    (name,) = state.session.model_info.inputs
    assert next(iter(ran(state).values())).shape == (1, 1)
    state.sizes = {name: (2, 3)}
    assert next(iter(ran(state).values())).shape == (2, 3)
    assert does_the_same(state)
    state.sizes = {name: (2, 3, 4)}
    assert "rank" in failed(state)[0]
    state.sizes = {"other": (1,)}
    assert "no input 'other'" in failed(state)[0]


def test_an_uploaded_picture_is_a_cat(open_state: Open, tmp_path: Path, monkeypatch: Any) -> None:
    """The bytes of a PNG are classified; the code reads the file beside the notebook."""
    state = open_state()
    state.source = "upload"
    state.uploads = (("my cat.png", png()),)
    assert is_cat(ran(state))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my cat.png").write_bytes(png())
    assert does_the_same(state)
    assert "must lie beside the notebook" in state.code


def test_several_uploads_are_a_batch(open_state: Open, tmp_path: Path, monkeypatch: Any) -> None:
    """Two pictures are inferred together, in their order."""
    state = open_state()
    state.source = "upload"
    files = {"a.png": png(), "b.png": png("espresso")}
    state.uploads = tuple(files.items())
    result = ran(state)
    assert result["logits"].shape[0] == 2
    assert result.top_k(1, item=0)[0].label in CATS
    assert result.top_k(1, item=1)[0].label == "espresso"
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert does_the_same(state)


def test_uploaded_arrays_go_to_the_inputs_that_they_are_called_by(
    open_state: Open, tmp_path: Path, monkeypatch: Any
) -> None:
    """A model with two inputs takes one file for each, in any order."""
    state = open_state("simple")
    state.source = "upload"
    ones = np.ones((1, 16), np.int32)
    files = {"INPUT1.npy": npy(ones), "INPUT0.npy": npy(3 * ones)}
    state.uploads = tuple(files.items())
    assert (ran(state)["OUTPUT1"] == 2).all()
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert does_the_same(state)
    state.uploads = (("x.npy", npy(ones)), ("INPUT0.npy", npy(ones)))
    assert "the files are x.npy, INPUT0.npy" in failed(state)[0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cat.png", b"\x89PNG\r\n\x1a\nnothing", "'cat.png'"),
        ("cat.png", png()[:2000], "'cat.png'"),
        ("x.npy", b"nothing", "'x.npy' cannot be read as an array"),
        ("x.npy", npy(np.array([{}], object), allow_pickle=True), "'x.npy' cannot be read"),
    ],
)
def test_a_corrupt_upload_is_named(open_state: Open, name: str, content: bytes, said: str) -> None:
    """The error names the file and says what to do; pickled objects are never loaded."""
    state = open_state()
    state.source = "upload"
    state.uploads = ((name, content),)
    message, remedy = failed(state)
    assert said in message
    assert remedy
    state.uploads = (("cat.png", png()),)
    assert state.error is None
    assert is_cat(ran(state))


@pytest.mark.parametrize("form", ["{}", "file://{}", "  {}\n\n"])
def test_a_local_path_is_read(open_state: Open, form: str) -> None:
    """As a path or as an address with file://; the code does the same."""
    state = open_state()
    state.source = "path"
    state.path = form.format(samples.image("cat"))
    assert is_cat(ran(state))
    assert does_the_same(state)


def test_paths_may_be_several_at_home_and_arrays(
    open_state: Open, tmp_path: Path, monkeypatch: Any
) -> None:
    """A list is a batch, ~ is the home folder, and .npy files are arrays."""
    state = open_state()
    state.source = "path"
    state.path = [samples.image("cat"), samples.image("rocket")]
    assert ran(state)["logits"].shape[0] == 2
    assert does_the_same(state)
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "x.npy", ImageTransform.preset("0..1", 224, 224)(samples.image("cat")))
    (tmp_path / "a b.png").write_bytes(png())
    for path in ("~/x.npy", "~/a b.png", f"file://{tmp_path}/a%20b.png"):
        state.path = path
        assert is_cat(ran(state))
        assert does_the_same(state)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "no path was given"),
        ("/nowhere/cat.png", "/nowhere/cat.png"),
        ("/nowhere/x.npy", "'/nowhere/x.npy' does not exist"),
        ("https://example.org/cat.png", "is a web address"),
        ("HTTP://example.org/cat.png", "is a web address"),
        ("ftp://example.org/x.npy", "is a web address"),
        ("file://elsewhere/cat.png", "another machine"),
        ("/tmp", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("\x00", "cannot be opened"),
    ],
)
def test_a_path_that_is_none_is_an_error(open_state: Open, path: str, said: str) -> None:
    """It says which and what to do, no request goes out, and the next run works."""
    state = open_state()
    state.source = "path"
    state.path = path
    message, remedy = failed(state)
    assert said in message
    assert remedy
    assert state.result is None
    compile(state.code, "<cell>", "exec")
    state.source = "sample"
    assert is_cat(ran(state))


def test_variables_are_inputs(open_state: Open) -> None:
    """An array, a picture, a mapping, and one variable for each input; the code does the same."""
    x = np.arange(16, dtype=np.int32)[np.newaxis]
    state = open_state("simple", a=x, b=2 * x, both={"INPUT0": x, "INPUT1": x})
    state.source = "variable"
    for text, difference in ("INPUT0=a, INPUT1=b", -x), ("INPUT1=a,INPUT0 = b", x), ("both", 0 * x):
        state.variable = text
        assert (ran(state)["OUTPUT1"] == difference).all()
        assert does_the_same(state)
    with Image.open(samples.image("cat")) as picture:
        state = open_state(picture=picture, pixels=np.asarray(picture))
        state.source = "variable"
        for name in ("picture", "pixels"):
            state.variable = name
            assert is_cat(ran(state))
            assert does_the_same(state)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no variable was named"),
        ("arry", "the notebook has no variable 'arry'"),
        ("array.T", "'array.T' is not the name of a variable"),
        ("open('x')", "is not the name of a variable"),
        ("INPUT0=array, array", "which variable is for which input"),
        ("lambda", "'lambda' is not the name"),
        ("array", "INT32"),  # of another datatype
        ("text", "INPUT0"),
        ("OTHER=array", "no input 'OTHER'"),
        ("strange", "does not convert: strange"),
    ],
)
def test_a_variable_that_is_no_input_is_an_error(open_state: Open, text: str, said: str) -> None:
    """Unknown names, anything but names, wrong datatypes, and objects that raise."""

    class Strange:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("strange")

    state = open_state(
        "identity_int32", array=np.zeros((1, 4), np.float32), text="nothing", strange=Strange()
    )
    state.source = "variable"
    state.variable = text
    message, remedy = failed(state)
    assert said in message
    assert remedy
    if text == "arry":
        assert "did you mean 'array'?" in remedy
    state.source = "sample"
    ran(state)


def test_suggestions_are_what_could_be_an_input() -> None:
    """Arrays, pictures and mappings of those; nothing private, no modules, no IPython's own."""
    x = np.zeros(3)
    with Image.open(samples.image("cat")) as picture:
        found = usable_names(
            {"x": x, "picture": picture, "both": {"a": x, "b": x}, "mixed": {"a": x, "b": 1},
             "empty": {}, "_x": x, "Out": {1: x}, "number": 3, "np": np, "kind": np.ndarray,
             "scalar": np.float32(1)}
        )  # fmt: skip
    assert found == ("both", "picture", "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [("source", "camera"), ("sample", "dog"), ("uploads", 3), ("uploads", [("x",)]), ("path", 3)],
)
def test_choices_that_are_none_are_refused(open_state: Open, name: str, value: Any) -> None:
    """With this package's error, and all stays as it was."""
    state = open_state()
    before = getattr(state, name)
    with pytest.raises(ArgumentError, match=name):
        setattr(state, name, value)
    assert getattr(state, name) == before


# --- the transform ---


def test_the_transform_is_edited_and_automatic_again(open_state: Open) -> None:
    """Presets, fields as numbers and as text, JSON; runs and code go by it."""
    state = open_state()
    automatic = state.session.transform
    assert (state.transform, state.edited, state.words) == (automatic, None, str(automatic))
    state.edit_transform("imagenet")
    assert state.words == str(ImageTransform.preset("imagenet", 224, 224))
    assert ran(state).transform == state.edited
    assert does_the_same(state)
    state.edit_transform(mean="0.5, 0.5,0.5", std="0.5", scale="1/255", fit="pad", fill="128")
    assert state.edited.mean == (0.5, 0.5, 0.5)
    assert (state.edited.scale, state.edited.fill) == (1 / 255, 128)
    assert does_the_same(state)
    state.edit_transform(ImageTransform(224, 224, colors="BGR").to_json())
    assert state.words.startswith("BGR")
    assert does_the_same(state)
    state.reset_transform()
    assert (state.transform, state.edited) == (automatic, None)
    assert ran(state).transform == automatic
    assert "transform" not in state.code


@pytest.mark.parametrize(
    ("changes", "fields", "said"),
    [
        (None, {"width": "100"}, "width 100"),
        (None, {"width": "wide"}, "width is 'wide'"),
        (None, {"width": -3}, "width is -3"),
        (None, {"std": "0"}, "std is 0"),
        (None, {"mean": "1, 2"}, "mean has 2 numbers for 3 channels"),
        (None, {"scale": "1/0"}, "scale is '1/0'"),
        (None, {"scale": "nan"}, "scale is nan"),
        (None, {"colors": "GRAY"}, "GRAY"),
        (None, {"datatype": "UINT8"}, "datatype UINT8"),
        (None, {"layout": "NHWC"}, "NHWC"),
        (None, {"colour": "RGB"}, "no colour"),
        ("imagnet", {}, "no preset 'imagnet'"),
        ("{", {}, "not JSON"),
        (3, {}, "transform is 3"),
    ],
)
def test_a_transform_that_does_not_fit_is_refused(
    open_state: Open, changes: Any, fields: dict[str, Any], said: str
) -> None:
    """The error names the field and the numbers, and the last good transform stays."""
    state = open_state()
    state.edit_transform("0..1")
    good, code = state.edited, state.code
    with pytest.raises((ArgumentError, ImageError), match=said) as caught:
        state.edit_transform(changes, **fields)
    assert caught.value.remedy
    assert (state.edited, state.transform, state.code) == (good, good, code)
    assert is_cat(ran(state))


def test_sides_that_follow_the_picture_are_taken(open_state: Open) -> None:
    """Width and height 0 are not refused beforehand; whether they fit, the run tells."""
    state = open_state()
    state.edit_transform(width=0, height=0)
    assert "[1, 3, 300, 451]" in failed(state)[0]


def test_an_edited_transform_goes_with_its_model(open_state: Open) -> None:
    """Another model has its own transform and samples, and the choices of before come back."""
    state = open_state()
    state.edit_transform("0..1")
    state.sample = "rocket"
    state.session.use("simple")
    state.model_changed()
    assert (state.transform, state.edited, state.sample) == (None, None, "ramp")
    assert state.words == "none: simple takes no picture"
    with pytest.raises(ArgumentError, match="takes no picture"):
        state.edit_transform("0..1")
    state.sample = "random"
    state.session.use("classifier")
    state.model_changed()
    assert (state.transform, state.sample) == (state.session.transform, "rocket")
    state.session.use("simple")
    assert ran(state).model == "simple"  # noticed without a word
    assert state.sample == "random"


def test_a_model_that_is_loaded_again_keeps_the_transform(open_state: Open) -> None:
    """The same model with the same inputs is no other one."""
    state = open_state()
    edited = state.edit_transform("0..1")
    state.session.use("classifier")
    state.model_changed()
    assert state.edited == edited


# --- running ---


def test_without_a_model_it_says_so(open_state: Open) -> None:
    """A session that has no model yet gives an error, and a comment as code."""
    state = open_state(None)
    assert "no model was chosen" in failed(state)[0]
    assert state.code.startswith("#")
    state.session.use("classifier")
    assert is_cat(ran(state))


def test_runs_are_in_a_thread_of_its_own_which_ends(open_state: Open) -> None:
    """What observes is called in one thread that is not the caller's, and goes after a while."""
    state = open_state()
    seen: set[threading.Thread] = set()
    state.observe(lambda _: seen.add(threading.current_thread()), "result")
    ran(state)
    ran(state)
    (thread,) = seen
    assert thread is not threading.current_thread()
    assert thread.daemon
    thread.join(10)
    assert not thread.is_alive()
    assert is_cat(ran(state))


def test_it_keeps_running_until_it_is_stopped(open_state: Open) -> None:
    """Count, rate and latency follow, at most five times a second, and in the end exactly."""
    state = open_state("simple")
    told: list[float] = []
    state.observe(lambda _: told.append(time.monotonic()), "count")
    state.keep_running = True
    time.sleep(1.5)
    assert state.running
    state.keep_running = False
    assert state.wait(10)
    assert not state.running
    assert state.count > len(told) > 2
    assert state.rate > 5
    assert 0 < state.latency_ms < 200
    assert min(b - a for a, b in pairwise(told[:-1])) > 0.15  # the last is told at once
    count = state.count
    time.sleep(0.3)
    assert state.count == count
    assert ran(state)
    assert state.count == count + 1


def test_while_it_runs_choices_are_followed(open_state: Open) -> None:
    """Another sample counts from the next repeat on."""
    state = open_state()
    state.keep_running = True
    assert until(lambda: state.count > 0)
    state.sample = "espresso"
    assert until(lambda: state.result.top_k(1)[0].label == "espresso")
    state.keep_running = False
    assert state.wait(10)


def test_an_error_ends_the_running(open_state: Open) -> None:
    """A model that is unloaded meanwhile stops it, which is told; run on change stays on."""
    state = open_state("simple_int8")
    state.run_on_change = state.keep_running = True
    assert until(lambda: state.count > 0)
    result = state.result
    state.session.unload()
    assert until(lambda: state.error is not None)
    assert state.wait(10)
    assert not state.keep_running
    assert not state.running
    assert state.run_on_change
    message, remedy = state.error
    assert "simple_int8" in message
    assert remedy
    assert state.result is not None
    assert state.result.model == result.model
    state.session.load()
    assert ran(state)


def test_any_change_runs_it_and_several_are_one(open_state: Open) -> None:
    """A burst of changes gives one run of the last; what the source does not use gives none."""
    state = open_state()
    state.run_on_change = True
    runs: list[str] = []
    state.observe(lambda change: runs.append(change["new"].top_k(1)[0].label), "result")
    for name in ("rocket", "page", "espresso"):
        state.sample = name
    assert until(lambda: bool(runs))
    assert state.wait(10)
    assert runs == ["espresso"]
    state.path = "/nowhere"
    state.variable = "nothing"
    time.sleep(0.4)
    assert state.wait(10)
    assert len(runs) == 1
    state.edit_transform("0..1")
    assert until(lambda: len(runs) == 2)
    state.source = "upload"  # nothing to run yet, and no error
    time.sleep(0.4)
    assert (len(runs), state.error) == (2, None)
    state.uploads = (("cat.png", png()),)
    assert until(lambda: len(runs) == 3)
    assert runs[-1] in CATS


def test_another_model_runs_on_change(open_state: Open) -> None:
    """The session's other model is asked once it is told."""
    state = open_state()
    state.run_on_change = True
    state.session.use("simple")
    state.model_changed()
    assert until(lambda: state.result is not None)
    assert state.wait(10)
    assert (state.result.model, state.count) == ("simple", 1)


def test_many_wishes_while_it_runs_are_one_more(open_state: Open) -> None:
    """Who asks does not wait, and what is asked meanwhile is done once."""
    state = open_state()
    for _ in range(50):
        state.run_once()
    assert state.wait(20)
    assert 1 <= state.count <= 3


@pytest.mark.parametrize("keeping", [False, True])
def test_closed_during_a_run_nothing_comes_any_more(open_state: Open, keeping: bool) -> None:
    """What is on its way ends unseen, the thread ends, and closing again does nothing."""
    state = open_state()
    if keeping:
        state.keep_running = True
    else:
        state.run_once()
    assert until(lambda: state.running)
    state.close()
    seen = state.count
    assert state.wait(10)
    state.close()
    state.run_once()
    state.keep_running = True
    time.sleep(0.2)
    assert state.count == seen
    assert not state.running


def test_a_closed_session_is_an_error(open_state: Open) -> None:
    """The running ends with the session, and says so."""
    state = open_state()
    state.keep_running = True
    assert until(lambda: state.count > 0)
    state.session.close()
    assert until(lambda: state.error is not None)
    assert "was closed" in state.error[0]
    assert not state.keep_running


def test_with_the_last_view_nothing_runs_by_itself(open_state: Open) -> None:
    """Two views may come and go; after the last one it stops."""
    state = open_state("simple")
    state.view_opened()
    state.view_opened()
    state.keep_running = state.run_on_change = True
    state.view_closed()
    assert state.keep_running
    state.view_closed()
    assert not state.keep_running
    assert not state.run_on_change
    assert state.wait(10)


# --- code ---


def test_code_has_the_notebooks_own_name_for_the_session(
    open_session: Callable[..., Session],
) -> None:
    """Whatever the notebook calls this very session; else `session`."""
    session = open_session("simple")
    other = open_session("simple")
    state = RunState(session, {"a": other, "_": session, "triton": session})
    assert "triton.infer(" in state.code
    assert "session.infer(" in RunState(session, {}).code


def test_code_is_safe_to_paste(open_state: Open) -> None:
    """Whatever a file is called, the code is a string in it and nothing that runs."""
    state = open_state()
    state.source = "upload"
    for name in ('a".png', "a'\".png", "a\nimport os.png", "a\\.png", "ä.png"):
        state.uploads = ((name, png()),)
        assert repr(name) in state.code or f'"{name}"' in state.code
        compile(state.code, "<cell>", "exec")
        assert "\nimport os" not in state.code
    state.source = "path"
    state.path = "https://example.org/a\rimport os"
    compile(state.code, "<cell>", "exec")
    assert state.code.startswith("# ")
    assert state.code.count("\n") == 1
