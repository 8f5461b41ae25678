"""Arrays of a device in and out, by DLPack and by the CUDA Array Interface."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gpu_helpers import ByDlpack, ByInterface, OnDevice, same, sample
from gpu_libraries import KINDS

from tests.conftest import BOTH
from tritonic_nb import Session
from tritonic_nb.errors import TensorShapeError
from tritonic_nb.memory import DeviceArray
from tritonic_nb.tensors.dtypes import DATATYPES

Open = Callable[..., Session]
MODEL = "identity_fp32_device"
NUMERIC = [datatype for datatype in DATATYPES if datatype != "BYTES"]
PROTOCOLS = pytest.mark.parametrize("given", [ByDlpack, ByInterface])

# What libraries warn of is theirs.
pytestmark = pytest.mark.filterwarnings("default")


@BOTH
@PROTOCOLS
def test_an_array_of_a_device_goes_in(open_session: Open, given: type[OnDevice]) -> None:
    """By either protocol, of any size, into regions on the device and on the host."""
    session = open_session(MODEL, shared_memory="cuda")
    for kind in ("cuda", "system", "none"):
        session.set_shared_memory(kind)
        for shape in ((1, 1), (7, 33), (1000, 1000), (2, 0)):
            array = sample("FP32", shape)
            assert same(session.infer(given(array))["OUTPUT0"], array)


@pytest.mark.parametrize("datatype", NUMERIC)
def test_every_datatype_stays_on_the_device(open_session: Open, datatype: str) -> None:
    """In by DLPack, out as a DeviceArray, and in once more as it came."""
    array = sample(datatype, (3, 5))
    with open_session(f"identity_{datatype.lower()}", shared_memory="cuda") as session:
        session.register_outputs({"OUTPUT0": array.shape})
        first = session.infer(ByDlpack(array), copy=False)["OUTPUT0"]
        assert isinstance(first, DeviceArray)
        assert first.__dlpack_device__() == (2, 0)
        second = session.infer(first, copy=False)["OUTPUT0"]
        assert second.address != first.address
        assert same(first, array)
        assert same(second, array)
        del first, second


def test_a_chain_never_touches_the_host(open_session: Open) -> None:
    """Each answer is the next request's tensor, ten times, and then it is looked at."""
    array = sample("FP32", (100, 1000))
    session = open_session(MODEL, shared_memory="cuda")
    session.register_outputs({"OUTPUT0": array.shape})
    current: Any = ByDlpack(array)
    for _ in range(10):
        current = session.infer(current, copy=False)["OUTPUT0"]
        assert isinstance(current, DeviceArray)
    assert same(current, array)


def test_a_view_keeps_its_region_to_itself(open_session: Open) -> None:
    """Other inferences get another region; the view, and parts of it, stay as they were."""
    session = open_session(MODEL, shared_memory="cuda")
    arrays = [sample("FP32", (20, 100), seed) for seed in range(6)]
    session.register_outputs({"OUTPUT0": arrays[0].shape})
    views = [session.infer(array, copy=False)["OUTPUT0"] for array in arrays]
    assert len({view.address for view in views}) == len(views)
    part = views[0][3:5]
    del views[0]
    for array in arrays:
        session.infer(array)
    assert all(map(same, views, arrays[1:]))
    assert same(part, arrays[0][3:5])


def test_a_view_outlives_its_session(open_session: Open) -> None:
    """It stays readable after close(), and its memory goes with it."""
    session = open_session(MODEL, shared_memory="cuda")
    array = sample("FP32", (20, 100))
    session.register_outputs({"OUTPUT0": array.shape})
    view = session.infer(array, copy=False)["OUTPUT0"]
    session.close()
    assert same(view, array)


def test_what_is_not_contiguous_is_refused(open_session: Open) -> None:
    """With its steps, and with what to do; nothing is sent."""
    session = open_session(MODEL, shared_memory="cuda")
    array = sample("FP32", (4, 6))
    transposed = ByInterface(array, shape=(6, 4), strides=(4, 24))
    with pytest.raises(TensorShapeError, match=r"'INPUT0'.*not contiguous.*\[1, 6\].*\[4, 1\]"):
        session.infer(transposed)
    with pytest.raises(TensorShapeError, match="not contiguous"):
        session.infer(ByInterface(array, shape=(2, 6), strides=(48, 4)))


def test_the_step_of_one_item_says_nothing(open_session: Open) -> None:
    """A dimension of size 1 may have any stride, and an empty array any strides at all."""
    session = open_session(MODEL, shared_memory="cuda")
    array = sample("FP32", (1, 6))
    assert same(session.infer(ByInterface(array, strides=(4004, 4)))["OUTPUT0"], array)
    column = array.reshape(6, 1)
    assert same(session.infer(ByInterface(column, strides=(4, 128)))["OUTPUT0"], column)
    empty = np.empty((0, 6), np.float32)
    assert same(session.infer(ByInterface(empty, strides=(8, 8)))["OUTPUT0"], empty)


# With the libraries that people use


@pytest.fixture
def library(request: pytest.FixtureRequest, server: Any) -> Any:
    """A library, or the reason why not."""
    return KINDS[request.param]()


def libraries(*names: str) -> pytest.MarkDecorator:
    """Run a test with libraries, by name."""
    return pytest.mark.parametrize("library", names, indirect=True)


@libraries("torch", "cupy", "jax")
def test_a_library_gives_and_takes_by_dlpack(open_session: Open, library: Any) -> None:
    """Its array goes in, and the answer becomes one without a copy."""
    session = open_session(MODEL, shared_memory="cuda")
    for shape in ((1, 1), (3, 1000)):
        array = sample("FP32", shape)
        session.register_outputs({"OUTPUT0": shape})
        answer = session.infer(library.array(array), copy=False)["OUTPUT0"]
        taken = library.from_dlpack(answer)
        address = answer.address
        del answer
        session.infer(array + 1)  # goes elsewhere: what the library has pins the region
        assert same(library.numpy(taken), array)
        assert all(region.address != 0 for region in session.regions)
        assert address in {region.address for region in session.regions}
        del taken


@libraries("torch", "cupy")
def test_a_library_gives_and_takes_by_the_interface(open_session: Open, library: Any) -> None:
    """The same by the CUDA Array Interface alone."""
    session = open_session(MODEL, shared_memory="cuda")
    array = sample("FP32", (3, 1000))
    session.register_outputs({"OUTPUT0": array.shape})
    answer = session.infer(InterfaceOf(library.array(array)), copy=False)["OUTPUT0"]
    taken = library.from_interface(answer)
    del answer
    session.infer(array + 1)
    assert same(library.numpy(taken), array)
    del taken


class InterfaceOf:
    """A library's array that shows its CUDA Array Interface and nothing else."""

    def __init__(self, array: Any) -> None:
        self._array = array

    @property
    def __cuda_array_interface__(self) -> Any:
        return self._array.__cuda_array_interface__


@libraries("torch", "cupy")
@pytest.mark.parametrize("hide", [False, True], ids=["dlpack", "interface"])
def test_a_librarys_strides_are_looked_at(open_session: Open, library: Any, hide: bool) -> None:
    """Transposed is refused, a single row with an odd step is taken."""
    shown = InterfaceOf if hide else (lambda array: array)
    session = open_session(MODEL, shared_memory="cuda")
    array = sample("FP32", (4, 6))
    with pytest.raises(TensorShapeError, match="not contiguous"):
        session.infer(shown(library.transposed(library.array(array))))
    row = np.ascontiguousarray(array[:1])
    odd = library.oddly_strided(library.array(row))
    assert same(session.infer(shown(odd))["OUTPUT0"], row)


@libraries("torch", "cupy")
@pytest.mark.parametrize("hide", [False, True], ids=["dlpack", "interface"])
@pytest.mark.parametrize("kind", ["cuda", "system"])
def test_what_is_still_being_written_arrives_complete(
    open_session: Open,
    library: Any,
    hide: bool,
    kind: str,
) -> None:
    """The session waits for the stream on which the library still writes, and for no host."""
    session = open_session(MODEL, shared_memory=kind)
    zeros = np.zeros((16, 65_536), np.float32)
    session.infer(library.array(zeros))  # regions and stream are there: nothing else waits
    with library.side_stream():
        given = library.array(zeros)
        shown = InterfaceOf(given) if hide else given
        library.wait()
        library.keep_busy()
        library.add_one(given)
        assert library.busy()
        result = session.infer(shown)
    assert same(result["OUTPUT0"], zeros + 1)


@libraries("jax")
def test_what_jax_still_computes_arrives_complete(open_session: Open, library: Any) -> None:
    """JAX gives arrays out before they are computed."""
    session = open_session(MODEL, shared_memory="cuda")
    size = 4096
    session.infer(np.zeros((1, size), np.float32))
    given = library.slow_ones(size)
    assert not given.is_ready()
    assert same(session.infer(given)["OUTPUT0"], np.ones((1, size), np.float32))


@libraries("torch", "cupy")
def test_an_output_is_not_overwritten_while_a_kernel_reads_it(
    open_session: Open, library: Any
) -> None:
    """A view that was let go of has its memory to itself until queued kernels have run."""
    session = open_session(MODEL, shared_memory="cuda")
    first, second = (np.full((16, 65_536), value, np.float32) for value in (1, 2))
    session.register_outputs({"OUTPUT0": first.shape})
    kept = library.array(np.zeros_like(first))
    for _ in range(2):
        session.infer(second, copy=False)
    with library.side_stream():
        taken = library.from_dlpack(session.infer(first, copy=False)["OUTPUT0"])
        library.wait()
        library.keep_busy()
        library.copy_into(kept, taken)
        assert library.busy()
        del taken
        gc.collect()
        for _ in range(3):
            session.infer(second, copy=False)
        library.wait()
    assert same(library.numpy(kept), first)
