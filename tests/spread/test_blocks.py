"""A Dask array through a model, block by block, with a real Triton server."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray
import zarr

import tritonic_nb
from tests.model_folders import python_model
from tests.spread import jobs
from tests.spread.conftest import eventually, left_of
from tests.spread.test_dask import pids_of, servers_of
from tritonic_nb import samples
from tritonic_nb.errors import (
    ArgumentError,
    BatchSizeError,
    TensorDatatypeError,
    TensorNameError,
    TensorShapeError,
    TritonicError,
)
from tritonic_nb.images import load_image

Open = Callable[..., tritonic_nb.Session]

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True, scope="module")
def _zarrs_threads(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The threads that zarr starts on first use, and keeps, are there before."""
    if hasattr(zarr, "config"):  # from its version 3 on
        zarr.config.set({"threading.max_workers": 1})
    folder = tmp_path_factory.mktemp("zarr") / "any.zarr"
    zarr.save(folder, np.zeros(1))
    zarr.load(folder)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Blocks are computed by two threads, which end with the test (those of Dask stay)."""
    with ThreadPoolExecutor(2) as pool, dask.config.set(pool=pool, scheduler="threads"):
        yield


def mapped(session: Any, array: Any, **options: Any) -> Any:
    """Map with what every test gives."""
    return tritonic_nb.map_blocks(session, array, **{"secrets": True, **options})


def test_blocks_give_what_infer_gives(classifier: tritonic_nb.Session) -> None:
    """Tensors in blocks of any length, and of pieces along other axes; datatype and shape first."""
    tensors = RNG.random((21, 3, 224, 224), np.float32)
    array = da.from_array(tensors, chunks=(8, 1, 224, 100))
    logits = mapped(classifier, array, output="logits")
    assert (logits.shape, logits.dtype, logits.chunks[0]) == ((21, 1000), np.float32, (8, 8, 5))
    want = [classifier.infer(tensors[n : n + 8])["logits"] for n in (0, 8, 16)]
    assert np.array_equal(logits.compute(), np.concatenate(want))
    maps = mapped(classifier, array, output="class_activation", batch=3)
    assert maps.shape == (21, 7, 7)
    assert np.allclose(maps[20].compute(), classifier.infer(tensors[20:])["class_activation"][0],
                       atol=1e-4)  # fmt: skip


def test_pictures_become_tensors_on_the_way(classifier: tritonic_nb.Session) -> None:
    """An array of pixels is taken as infer takes a list of pictures; a transform may be given."""
    picture = np.asarray(load_image(samples.image("cat")))
    pixels = da.from_array(np.stack([picture, picture[:, ::-1]] * 3), chunks=(4, -1, -1, -1))
    found = mapped(classifier, pixels, output="logits").compute()
    want = classifier.infer([picture, picture[:, ::-1]])["logits"]
    assert np.allclose(found, np.concatenate([want] * 3), atol=1e-4)
    other = classifier.transform
    assert other is not None
    fit = "pad" if other.fit != "pad" else "stretch"
    padded = mapped(classifier, pixels, output="logits", transform=other.replace(fit=fit)).compute()
    assert not np.allclose(padded, found, atol=1e-2)


def test_what_the_model_does_not_tell_is_found_by_one_item(open_session: Open) -> None:
    """Of a model with dynamic dimensions; one without a batch takes a block as it is."""
    session = open_session("identity_fp32")  # [any, any], no batch
    rows = RNG.random((30, 5), np.float32)
    same = mapped(session, da.from_array(rows, chunks=(7, 5)))
    assert same.shape == (30, 5)
    assert np.array_equal(same.compute(), rows)


def test_models_for_one_item_get_one_at_a_time(server: Any, tmp_path: Path) -> None:
    """Without a batch an item is a request; results are stacked."""
    code = (
        "import triton_python_backend_utils as pb_utils\n"
        "class TritonPythonModel:\n"
        "    def execute(self, requests):\n"
        "        return [pb_utils.InferenceResponse([pb_utils.Tensor('SUM',\n"
        "            pb_utils.get_input_tensor_by_name(r, 'X').as_numpy().sum(keepdims=True)\n"
        "            .reshape(1))]) for r in requests]\n"
    )
    config = """max_batch_size: 0
    input [ { name: "X" data_type: TYPE_FP32 dims: [ 4, 3 ] } ]
    output [ { name: "SUM" data_type: TYPE_FP32 dims: [ 1 ] } ]"""
    if isinstance(server, str):
        pytest.skip("needs a server to add a model to")
    server.add("spread_sum", python_model(tmp_path / "spread_sum", code, config))
    items = RNG.random((9, 4, 3), np.float32)
    with server.session(model="spread_sum") as session:
        sums = mapped(session, da.from_array(items, chunks=(4, -1, -1)))
        assert sums.shape == (9, 1)
        assert np.allclose(sums.compute()[:, 0], items.sum((1, 2)))


def test_a_store_on_a_cluster(client: Any, classifier: tritonic_nb.Session, tmp_path: Path) -> None:
    """A zarr store of pictures in, one of results out, on workers with servers of their own."""
    pixels = RNG.integers(0, 255, (48, 64, 64, 3), np.uint8)
    da.from_array(pixels, chunks=(8, 64, 64, 3)).to_zarr(tmp_path / "in.zarr")
    pids = pids_of(client)
    spec = classifier.spec_with_secrets()
    with dask.config.set(scheduler=client):
        logits = tritonic_nb.map_blocks(
            classifier, da.from_zarr(tmp_path / "in.zarr"), output="logits",
            server=jobs.own_server, keep_s=0.5,
        )  # fmt: skip
        logits.to_zarr(tmp_path / "out.zarr")
    with spec.open() as session:
        want = [session.infer(list(pixels[n : n + 8]))["logits"] for n in range(0, 48, 8)]
    found = zarr.open_array(tmp_path / "out.zarr", mode="r")[:]
    assert np.array_equal(found, np.concatenate(want))
    assert eventually(lambda: not left_of(pids) and not servers_of(pids))


def test_an_xarray_goes_in_by_its_data(open_session: Open) -> None:
    """A DataArray with chunks is taken; the result is a Dask array, to be named again."""
    rows = xarray.DataArray(RNG.random((12, 4), np.float32), dims=("time", "x"))
    session = open_session("identity_fp32")
    same = mapped(session, rows.chunk(time=5))
    assert np.array_equal(rows.copy(data=same).compute(), rows)
    with pytest.raises(ArgumentError, match="no Dask array"):
        mapped(session, rows)


def test_a_recipe_suffices(open_session: Open) -> None:
    """It is opened here to look at the model, and stays for the blocks that are computed here."""
    spec = open_session("identity_fp32").spec_with_secrets()
    rows = RNG.random((6, 4), np.float32)
    same = tritonic_nb.map_blocks(spec, da.from_array(rows, chunks=(2, 4)), keep_s=0.2)
    assert np.array_equal(same.compute(), rows)


def test_no_items_are_no_inference(classifier: tritonic_nb.Session) -> None:
    """An array without items gives one without results."""
    none = da.from_array(np.zeros((0, 3, 224, 224), np.float32), chunks=(1, 3, 224, 224))
    assert mapped(classifier, none, output="logits").compute().shape == (0, 1000)


def test_what_cannot_be_right_is_refused_at_once(
    classifier: tritonic_nb.Session, open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is computed: no Dask array, no session, the wrong output, batch, model."""
    array = da.zeros((4, 3, 224, 224), dtype=np.float32)
    with pytest.raises(ArgumentError, match="a ndarray is no Dask array"):
        mapped(classifier, np.zeros((4, 3, 224, 224), np.float32), output="logits")
    with pytest.raises(ArgumentError, match="no axis of items"):
        mapped(classifier, da.zeros(()), output="logits")
    with pytest.raises(ArgumentError, match="is no session"):
        mapped("localhost:8000", array)
    with pytest.raises(TensorNameError, match="has 3 outputs"):
        mapped(classifier, array)
    with pytest.raises(TensorNameError):
        mapped(classifier, array, output="scores")
    with pytest.raises(BatchSizeError):
        mapped(classifier, array, output="logits", batch=100)
    with pytest.raises(ArgumentError, match="batch"):
        mapped(classifier, array, output="logits", batch=0)
    with pytest.raises(TensorNameError, match="2 inputs"):
        mapped(open_session("simple"), array, output="OUTPUT0")
    with pytest.raises(ArgumentError, match="has sequences"):
        mapped(open_session("simple_sequence"), array, output="OUTPUT")
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(ArgumentError, match=r"pip install 'tritonic-nb\[dask\]'"):
        mapped(classifier, array, output="logits")


def test_an_error_says_which_items(classifier: tritonic_nb.Session) -> None:
    """When it is computed: items that do not fit the model, or an unlike output."""
    with pytest.raises((TensorShapeError, TensorDatatypeError), match="items 0 to 1 of a block"):
        mapped(classifier, da.zeros((2, 5), dtype=np.float32), output="logits").compute()


def test_an_error_that_is_kept_keeps_no_thread(classifier: tritonic_nb.Session) -> None:
    """What else of the block is on its way ends, as does who does it."""
    before = set(threading.enumerate())
    blocks = mapped(classifier, da.zeros((8, 5), dtype=np.float32), output="logits", batch=1)
    with pytest.raises(TritonicError) as caught:
        blocks.compute(scheduler="synchronous")
    assert eventually(
        lambda: all(
            each.name != "tritonic_nb-worker" for each in set(threading.enumerate()) - before
        ),
        seconds=3,
    ), caught


def test_a_server_that_dies_is_started_anew(open_session: Open) -> None:
    """A block that gets no answer is done again, with a session opened anew."""
    rows = RNG.random((6, 4), np.float32)
    session = open_session("identity_fp32")
    same = mapped(session, da.from_array(rows, chunks=(2, 4)), server=_one_server, keep_s=30)
    assert np.array_equal(same.compute(), rows)
    os.kill(_started[-1].pid, signal.SIGKILL)
    assert np.array_equal(same.compute(), rows)
    assert len(_started) == 2


_started: list[tritonic_nb.Server] = []


def _one_server() -> tritonic_nb.Server:
    _started.append(tritonic_nb.serve(progress=None))
    return _started[-1]
