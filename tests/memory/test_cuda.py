"""CUDA regions: made as one transaction, checked, copied in part, freed last."""

from __future__ import annotations

import gc
import os
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from cuda.bindings import runtime as real

from tests.fake_cuda import MIB, FakeCuda
from tritonic_nb.errors import (
    NoCudaDeviceError,
    NoSpaceError,
    RegionTooSmallError,
    SharedMemoryError,
    SharedMemoryUnsupportedError,
    TensorShapeError,
)
from tritonic_nb.memory import DeviceArray, Region, SharedMemoryType, create_region
from tritonic_nb.memory.copies import CopyStream
from tritonic_nb.memory.shm_file import SHM_DIR
from tritonic_nb.tensors.dtypes import DATATYPES, numpy_dtype

ERRORS = real.cudaError_t


def made(nbytes: int, **options: Any) -> Region:
    """Return a region on the second device."""
    return create_region(SharedMemoryType.CUDA, "x", "input", nbytes, device=1, **options)


def through(region: Region, array: npt.NDArray[Any], **options: Any) -> npt.NDArray[Any]:
    """Write an array to a region and read it back."""
    with CopyStream(1) as copies:
        nbytes = region.write(array, copies=copies)
        datatype = {v: k for k, v in ((d, numpy_dtype(d)) for d in DATATYPES)}[array.dtype]
        back = region.read(datatype, array.shape, nbytes=nbytes, copies=copies, **options)
    assert isinstance(back, np.ndarray)
    return back


def test_a_region_is_made_in_order_and_freed_at_the_end(cuda: FakeCuda) -> None:
    """Memory on the chosen device, then its handle; freed once; the device is as before."""
    region = made(10_000)
    names = cuda.names()
    assert names.index("cudaMalloc") < names.index("cudaIpcGetMemHandle")
    assert ("cudaSetDevice", 1) in cuda.calls
    (memory,) = cuda.device_memory.values()
    assert memory.device == 1
    described = region.describe()
    assert (described.device_id, described.address, described.key, described.fd) == (
        1,
        memory.address,
        "",
        None,
    )
    assert memory.path is not None
    assert region.handle.rstrip(b"\0").decode() == memory.path.name
    region.close()
    region.close()
    assert cuda.names().count("cudaFree") == 1
    assert cuda.context == 0
    assert cuda.contexts == {1}  # none on the first device
    assert not cuda.left()
    assert described.state == "created"
    assert region.describe().state == "closed"


def test_its_file_proves_that_its_owner_lives(cuda: FakeCuda) -> None:
    """A page of its name, for its owner alone, is in /dev/shm as long as the region is there."""
    region = made(MIB)
    path = SHM_DIR / region.name
    status = path.stat()
    assert status.st_mode & 0o777 == 0o600
    assert status.st_size == 4096
    assert region.name.startswith(f"tritonic_nb-{os.getpid()}-")
    region.close()
    assert not path.exists()


def test_whichever_step_fails_nothing_is_left(cuda: FakeCuda) -> None:
    """Of all calls in making a region, each one that fails rolls back what was made before."""
    made(100).close()
    cuda.calls.clear()
    made(100).close()  # what is done once was done before
    steps = cuda.names()[: cuda.names().index("cudaFree")]
    steps = steps[: len(steps) - steps[::-1].index("cudaIpcGetMemHandle")]
    assert len(steps) > 5
    for number, step in enumerate(steps):
        if step.startswith("cuCtx"):  # which tells no more than that there is no context
            continue
        cuda.fail[step] = (steps[:number].count(step), ERRORS.cudaErrorUnknown)
        with pytest.raises(SharedMemoryError, match="cudaErrorUnknown"):
            made(100)
        gc.collect()
        assert not cuda.left(), (number, step)
        assert not list(SHM_DIR.glob(f"tritonic_nb-{os.getpid()}-*"))
        assert cuda.context == 0


def test_an_interrupt_between_the_calls_leaves_nothing(cuda: FakeCuda) -> None:
    """A Ctrl-C right after cudaMalloc returned frees what it gave."""
    inner = object.__getattribute__(cuda, "cudaIpcGetMemHandle")

    def interrupted(*_arguments: Any) -> Any:
        raise KeyboardInterrupt

    object.__setattr__(cuda, "cudaIpcGetMemHandle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(100)
    object.__setattr__(cuda, "cudaIpcGetMemHandle", inner)
    gc.collect()
    assert not cuda.left()
    assert not list(SHM_DIR.glob(f"tritonic_nb-{os.getpid()}-*"))


def test_what_cannot_be_had_says_why(cuda: FakeCuda) -> None:
    """No such device, no memory and no IPC are three errors, and nothing is left of them."""
    with pytest.raises(NoCudaDeviceError, match="no CUDA device 7"):
        create_region(SharedMemoryType.CUDA, "x", "input", 10, device=7)
    with pytest.raises(NoSpaceError, match=r"input 'x' needs \d+ bytes .* of process 5"):
        made(300 * MIB, holders=lambda kind, device: f"{kind} {device}: 1 GB of process 5")
    cuda.fail["cudaIpcGetMemHandle"] = ERRORS.cudaErrorNotSupported
    with pytest.raises(SharedMemoryUnsupportedError):
        made(10)
    gc.collect()
    assert not cuda.left()


@pytest.mark.parametrize("datatype", [d for d in DATATYPES if d != "BYTES"])
def test_every_datatype_comes_back(cuda: FakeCuda, datatype: str) -> None:
    """Arrays of each datatype come back bit for bit."""
    dtype = numpy_dtype(datatype)
    bits = np.random.default_rng(0).integers(0, 2, 6 * dtype.itemsize, np.uint8)
    array = bits.view(dtype).reshape(2, 3)
    region = made(array.nbytes)
    back = through(region, array)
    assert back.dtype == dtype
    assert back.tobytes() == array.tobytes()
    region.close()


def test_texts_come_back_whatever_their_length(cuda: FakeCuda) -> None:
    """BYTES of a size nobody knows are read in growing parts, and no further than need be."""
    short = np.array([[b"a", b""], ["ä", b"\0"]], np.object_)
    region = made(8 * MIB)
    with CopyStream(1) as copies:
        region.write(short, copies=copies)
        cuda.calls.clear()
        back = region.read("BYTES", (2, 2), nbytes=8 * MIB, copies=copies)
    assert back.tolist() == [[b"a", b""], ["ä".encode(), b"\0"]]  # type: ignore[union-attr]
    assert sum(c[3] for c in cuda.calls if c[0] == "cudaMemcpyAsync") <= 65536
    long = np.array([b"x" * 300_000, b"y"], np.object_)
    with CopyStream(1) as copies:
        nbytes = region.write(long, copies=copies)
        back = region.read("BYTES", (2,), nbytes=nbytes, copies=copies)
    assert back.tolist() == long.tolist()  # type: ignore[union-attr]
    with CopyStream(1) as copies, pytest.raises(TensorShapeError, match="'x'"):
        region.read("BYTES", (3,), nbytes=nbytes, copies=copies)
    region.close()


LAYOUTS = {
    "row-major": lambda a: a,
    "column-major": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "reversed": lambda a: a[::-1, ::-1],
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 5), (1500, 1000), (3, 4_000_000 // 4)])
def test_arrays_of_any_layout_arrive(cuda: FakeCuda, layout: str, shape: tuple[int, int]) -> None:
    """Small arrays and such as fill the staging more than once, of every memory layout."""
    array = LAYOUTS[layout](np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    region = made(array.nbytes)
    with CopyStream(1) as copies:
        region.write(array, copies=copies)
        copies.finish()
        back = region.read("FP32", shape, nbytes=array.nbytes, copies=copies)
    np.testing.assert_array_equal(back, array)
    region.close()


def test_the_staging_is_kept_and_bounded(cuda: FakeCuda) -> None:
    """Copies of 60 MB use as little pinned memory as one of 10 MB, and the next ones the same."""
    region = made(60 * MIB)
    array = np.arange(15 * MIB, dtype=np.float32)
    with CopyStream(1) as copies:
        for _ in range(3):
            region.write(array, copies=copies)
            back = region.read("FP32", array.shape, nbytes=array.nbytes, copies=copies)
            copies.finish()
            np.testing.assert_array_equal(back, array)
        assert sum(memory.nbytes for memory in cuda.pinned.values()) <= 8 * MIB
        assert cuda.names().count("cudaHostAlloc") <= 4
    region.close()
    gc.collect()
    assert not cuda.left()


def test_several_small_tensors_are_waited_for_once(cuda: FakeCuda) -> None:
    """The copies of one request end with one synchronisation, in and out."""
    regions = [made(4000) for _ in range(5)]
    arrays = [np.full(1000, n, np.float32) for n in range(5)]
    with CopyStream(1) as copies:
        for region, array in zip(regions, arrays, strict=True):
            region.write(array, copies=copies)
        copies.finish()
        assert cuda.names().count("cudaStreamSynchronize") == 1
        back = [r.read("FP32", (1000,), nbytes=4000, copies=copies) for r in regions]
        copies.finish()
        assert cuda.names().count("cudaStreamSynchronize") == 2
        copies.finish()  # nothing to wait for
        assert cuda.names().count("cudaStreamSynchronize") == 2
    assert [int(np.asarray(b)[0]) for b in back] == [0, 1, 2, 3, 4]
    for region in regions:
        region.close()


def test_only_the_part_that_is_needed_is_copied(cuda: FakeCuda) -> None:
    """A tensor of 400 bytes in a region of 1 MiB moves 400 bytes, each way."""
    region = made(MIB)
    cuda.calls.clear()
    through(region, np.ones(100, np.float32))
    assert [call[3] for call in cuda.calls if call[0] == "cudaMemcpyAsync"] == [400, 400]
    region.close()


def test_slots_are_offsets_within_bounds(cuda: FakeCuda) -> None:
    """Each slot has bytes of its own; what is too large for one is refused before any copy."""
    region = create_region(SharedMemoryType.CUDA, "x", "output", 100, slots=3, device=1)
    with CopyStream(1) as copies:
        for slot in range(3):
            region.write(np.full(25, slot, np.float32), slot=slot, copies=copies)
        copies.finish()
        for slot in range(3):
            back = region.read("FP32", (25,), nbytes=100, slot=slot, copies=copies)
            copies.finish()
            assert set(np.asarray(back)) == {slot}
        view = region.read("FP32", (25,), nbytes=100, slot=2, copy=False)
        assert isinstance(view, DeviceArray)
        assert view.address == region.describe().address + 2 * region.stride
        cuda.calls.clear()
        with pytest.raises(RegionTooSmallError, match="needs 104 bytes"):
            region.write(np.zeros(26, np.float32), copies=copies)
        with pytest.raises(TensorShapeError, match="104 bytes"):
            region.read("FP32", (26,), nbytes=100, copies=copies)
        with pytest.raises(TensorShapeError, match="which no array has"):
            region.read("FP32", (-1,), nbytes=100, copies=copies)
        with pytest.raises(IndexError):
            region.write(np.zeros(1, np.float32), slot=3, copies=copies)
        assert not cuda.calls
    del view
    region.close()


def test_a_pinned_array_is_copied_without_staging(cuda: FakeCuda) -> None:
    """The array of view() is pinned; bringing it to the device is one copy of its own bytes."""
    region = made(MIB)
    array = region.view("FP32", (300, 100))
    assert not array.any()
    array[...] = 7
    assert region.pinned()
    with CopyStream(1) as copies:
        cuda.calls.clear()
        region.bring(copies)
        copies.finish()
        copied = [call for call in cuda.calls if call[0] == "cudaMemcpyAsync"]
        assert [(call[2], call[3]) for call in copied] == [(array.ctypes.data, array.nbytes)]
        back = region.read("FP32", (300, 100), nbytes=array.nbytes, copies=copies)
    np.testing.assert_array_equal(back, array)
    region.close()
    array[...] = 8  # it stays writable after its region
    assert array[0, 0] == 8
    del array, copied
    gc.collect()
    assert not cuda.left()


def test_any_pinned_array_is_copied_without_staging(cuda: FakeCuda) -> None:
    """An array in page-locked memory of whoever's is copied from where it lies."""
    region = made(MIB)
    other = made(MIB)
    array = other.view("FP32", (100_000,))
    array[...] = np.arange(100_000)
    with CopyStream(1) as copies:
        cuda.calls.clear()
        region.write(array, copies=copies)
        copies.finish()
    sources = [call[2] for call in cuda.calls if call[0] == "cudaMemcpyAsync"]
    assert sources == [array.ctypes.data]
    region.close()
    other.close()


def test_a_view_keeps_the_memory_and_the_region(cuda: FakeCuda) -> None:
    """A view pins its region; after the region it stays readable, and its end frees the memory."""
    region = made(4000)
    array = np.arange(1000, dtype=np.float32)
    with CopyStream(1) as copies:
        region.write(array, copies=copies)
    view = region.read("FP32", (10, 100), nbytes=4000, copy=False)
    assert isinstance(view, DeviceArray)
    assert region.pinned()
    part = view[3]
    region.close()
    assert "cudaFree" not in cuda.names()
    np.testing.assert_array_equal(view.to_numpy(), array.reshape(10, 100))
    del view
    gc.collect()
    np.testing.assert_array_equal(part.to_numpy(), array[300:400])
    del part
    gc.collect()
    assert cuda.names().count("cudaFree") == 1
    assert not cuda.left()


def test_what_still_reads_a_view_on_the_device_is_waited_for(cuda: FakeCuda) -> None:
    """Once views have gone, the device is waited for before the region is used again, once."""
    region = made(400)
    region.await_readers()
    assert "cudaDeviceSynchronize" not in cuda.names()
    view: Any = region.read("FP32", (100,), nbytes=400, copy=False)
    region.await_readers()  # it is still pinned, and nobody may use it
    assert "cudaDeviceSynchronize" not in cuda.names()
    del view
    region.await_readers()
    region.await_readers()
    assert cuda.names().count("cudaDeviceSynchronize") == 1
    region.close()


def test_a_removed_region_says_so(cuda: FakeCuda) -> None:
    """What is asked of a region that was removed is an error of ours."""
    region = made(400)
    region.close()
    with CopyStream(1) as copies:
        for use in (
            lambda: region.write(np.ones(1, np.float32), copies=copies),
            lambda: region.read("FP32", (1,), nbytes=4, copies=copies),
            lambda: region.view("FP32", (1,)),
        ):
            with pytest.raises(SharedMemoryError, match="was removed meanwhile"):
                use()


@pytest.mark.parametrize("step", ["cudaMemcpyAsync", "cudaStreamSynchronize", "cudaHostAlloc",
                                  "cudaEventCreateWithFlags"])  # fmt: skip
def test_a_copy_that_fails_is_an_error_and_the_next_one_works(cuda: FakeCuda, step: str) -> None:
    """Whichever call of a copy fails, it is told, and nothing is left of it."""
    region = made(400)
    array = np.arange(100, dtype=np.float32)
    cuda.fail[step] = (0, ERRORS.cudaErrorUnknown)
    with pytest.raises(SharedMemoryError, match="cudaErrorUnknown"), CopyStream(1) as copies:
        region.write(array, copies=copies)
    np.testing.assert_array_equal(through(region, array), array)
    region.close()
    gc.collect()
    assert not cuda.left()


def test_what_was_begun_for_nobody_is_dropped(cuda: FakeCuda) -> None:
    """After an interrupt a stream is waited for, and copies nothing to arrays nobody has."""
    region = made(400)
    with CopyStream(1) as copies:
        region.write(np.ones(100, np.float32), copies=copies)
        copies.finish()
        target = region.read("FP32", (100,), nbytes=400, copies=copies)
        assert isinstance(target, np.ndarray)
        target[...] = -1
        copies.drop()
        assert (target == -1).all()
        back = region.read("FP32", (100,), nbytes=400, copies=copies)
        copies.finish()
        assert (np.asarray(back) == 1).all()
    region.close()


def test_bf16_is_no_matter_of_numpy_alone(cuda: FakeCuda) -> None:
    """BF16 of any value, NaN and infinities too, comes back from the device."""
    array = np.array([1.5, np.nan, np.inf, -0.0], ml_dtypes.bfloat16)
    region = made(array.nbytes)
    assert through(region, array).tobytes() == array.tobytes()
    region.close()
