"""Arrays of a CUDA device: taken from other libraries and handed out, without a copy."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from cuda.core.utils import StridedMemoryView

from tests.fake_cuda import FakeCuda
from tritonic_nb.errors import TensorDatatypeError, TensorShapeError
from tritonic_nb.memory import DeviceArray, cudart, dlpack
from tritonic_nb.tensors.dtypes import DATATYPES, numpy_dtype

NUMERIC = [numpy_dtype(d) for d in DATATYPES if d != "BYTES"]
SHAPES: list[tuple[int, ...]] = [(2, 3), (3, 1, 2), (7,), (), (2, 0, 3)]


class DevicePointer:
    """An array of another library on the second fake device, as yet without its contents."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.shape, self.dtype, self.nbytes = array.shape, array.dtype, array.nbytes
        self.address = cudart.allocate(1, max(1, array.nbytes), "theirs", [])
        self._late = np.ascontiguousarray(array)

    def arrive(self, stream: int | None = None) -> None:
        """Have the contents written: at once, or when a stream gets to it."""
        cuda: Any = cudart._bindings()
        copy = (self.address, self._late.ctypes.data, self.nbytes)
        if stream is None:
            ctypes.memmove(*copy)
        else:
            cuda.streams[stream].append(copy)


class WithDlpack(DevicePointer):
    """One that speaks DLPack alone, as JAX does."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        super().__init__(array)
        self.asked: list[tuple[Any, int]] = []  # on which stream, and on which device

    def __dlpack_device__(self) -> tuple[int, int]:
        return (dlpack.CUDA, 1)

    def __dlpack__(self, *, stream: Any = None, **_more: Any) -> Any:
        cuda: Any = cudart._bindings()
        self.asked.append((stream, cuda.current))
        self.arrive(stream)
        return dlpack.capsule_of(
            self, self.address, self.shape, self.dtype, self.__dlpack_device__()
        )


class WithInterface(DevicePointer):
    """One that speaks the CUDA Array Interface alone, as Numba does."""

    def __init__(self, array: npt.NDArray[Any], **more: Any) -> None:
        super().__init__(array)
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            **more,
        }


def test_a_capsule_is_read_by_others_as_it_was_meant() -> None:
    """NumPy and cuda.core read our capsules: every datatype, any rank, of host and device."""
    for dtype in NUMERIC:
        for shape in SHAPES:
            array = np.ones(shape, dtype)

            class Exporter:
                def __init__(self, array: npt.NDArray[Any], device: tuple[int, int]) -> None:
                    self.array, self.device = array, device

                def __dlpack__(self, **_options: Any) -> Any:
                    a = self.array
                    return dlpack.capsule_of(self, a.ctypes.data, a.shape, a.dtype, self.device)

                def __dlpack_device__(self) -> tuple[int, int]:
                    return self.device

            view = StridedMemoryView.from_dlpack(Exporter(array, (dlpack.CUDA, 3)), stream_ptr=-1)
            assert (view.shape, view.dtype, view.ptr) == (shape, dtype, array.ctypes.data)
            assert view.device_id == 3
            assert view.is_device_accessible
            if dtype != ml_dtypes.bfloat16:  # which NumPy does not read
                back = np.from_dlpack(Exporter(array, (1, 0)))
                assert back.dtype == dtype
                assert back.shape == shape
                assert np.shares_memory(back, array) or not array.size


def test_capsules_of_others_are_read(cuda: FakeCuda) -> None:
    """What NumPy and cuda.core say in a capsule is what we read."""
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    for exporter in (array, StridedMemoryView.from_dlpack(array, stream_ptr=-1)):
        told = dlpack.read_capsule(exporter.__dlpack__())
        assert told.address == array.ctypes.data
        assert (told.shape, told.dtype, told.device_type) == ((2, 3), np.int16, 1)
    turned = dlpack.read_capsule(array.T.__dlpack__())
    assert (turned.shape, turned.strides) == ((3, 2), (1, 3))
    with pytest.raises(ValueError, match="PyCapsule"):
        dlpack.read_capsule("no capsule")
    complex_numbers = np.ones(2, np.complex64)
    with pytest.raises(ValueError, match="no counterpart"):
        dlpack.read_capsule(complex_numbers.__dlpack__())


def test_a_capsule_keeps_its_owner_until_it_is_let_go_of() -> None:
    """Taken or not, a capsule keeps the memory for as long as it or its taker lives."""

    class Owner:
        pass

    owner: Any = Owner()
    gone = weakref.ref(owner)
    array = np.ones(3, np.float32)
    capsule: Any = dlpack.capsule_of(owner, array.ctypes.data, (3,), array.dtype, (1, 0))
    del owner
    gc.collect()
    assert gone() is not None

    class Given:
        def __init__(self, capsule: Any) -> None:
            self.capsule = capsule

        def __dlpack__(self, **_options: Any) -> Any:
            return self.capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    taken: Any = np.from_dlpack(Given(capsule))
    part: Any = taken[1:]
    del capsule, taken
    gc.collect()
    assert gone() is not None
    del part
    gc.collect()
    assert gone() is None


def test_host_arrays_are_none_of_a_device(cuda: FakeCuda) -> None:
    """Arrays, lists, texts and DLPack of the host are no arrays of a device."""
    on_host = StridedMemoryView.from_dlpack(np.ones(3), stream_ptr=-1)
    for value in (np.ones(3), [1, 2], "cat.jpg", b"x", None, 3, on_host, np.float32(1)):
        assert DeviceArray.of(value) is None


MAKERS: list[Callable[[npt.NDArray[Any]], DevicePointer]] = [WithDlpack, WithInterface]


@pytest.mark.parametrize("maker", MAKERS)
def test_arrays_of_other_libraries_are_taken(
    cuda: FakeCuda, maker: Callable[[npt.NDArray[Any]], DevicePointer]
) -> None:
    """Every datatype and rank, without a copy until somebody wants one."""
    for dtype in NUMERIC:
        if dtype == ml_dtypes.bfloat16 and maker is WithInterface:
            continue  # which has no name for it
        for shape in SHAPES:
            array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
            theirs = maker(array)
            theirs.arrive()
            cuda.calls.clear()
            taken = DeviceArray.of(theirs)
            assert taken is not None
            assert (taken.shape, taken.dtype, taken.device) == (shape, dtype, 1)
            assert (taken.size, taken.nbytes, taken.ndim) == (array.size, array.nbytes, array.ndim)
            assert "cudaMemcpyAsync" not in cuda.names()
            assert taken.to_numpy().tobytes() == array.tobytes()
            cuda.cudaFree(theirs.address)
    assert cuda.context == 0


def test_what_another_stream_still_writes_is_waited_for(cuda: FakeCuda) -> None:
    """DLPack's producer is asked on the array's device; the copy waits for what it still does."""
    theirs = WithDlpack(np.arange(5, dtype=np.float32))
    taken = DeviceArray.of(theirs)
    assert taken is not None
    assert theirs.asked == [(1, 1)]
    np.testing.assert_array_equal(taken.to_numpy(), np.arange(5))
    assert cuda.context == 0
    taken = None
    gc.collect()
    assert not cuda.events
    cuda.cudaFree(theirs.address)


def test_what_was_taken_in_one_thread_is_ready_in_another(cuda: FakeCuda) -> None:
    """A stream is a thread's own to a library: what waits is noted where the array was taken."""
    theirs = WithDlpack(np.arange(5, dtype=np.float32))
    taken = DeviceArray.of(theirs)
    assert taken is not None
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(taken.to_numpy()))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(got[0], np.arange(5))
    assert len(theirs.asked) == 1
    cuda.cudaFree(theirs.address)


@pytest.mark.parametrize("more", [{"stream": 2}, {"stream": 77}, {"version": 2}])
def test_the_interface_s_stream_is_waited_for(cuda: FakeCuda, more: dict[str, Any]) -> None:
    """A stream that is named is; before version 3, where none is named, all of the device."""
    theirs = WithInterface(np.arange(3, dtype=np.float32), **more)
    theirs.arrive(more.get("stream", 5))
    taken = DeviceArray.of(theirs)
    assert taken is not None
    np.testing.assert_array_equal(taken.to_numpy(), np.arange(3))
    cuda.cudaFree(theirs.address)


def test_an_interface_that_needs_no_waiting_gets_none(cuda: FakeCuda) -> None:
    """A stream of None says that the array is there."""
    theirs = WithInterface(np.ones(3, np.float32), stream=None)
    theirs.arrive()
    cuda.calls.clear()
    taken = DeviceArray.of(theirs)
    assert taken is not None
    taken.to_numpy()
    assert not {"cudaStreamWaitEvent", "cudaDeviceSynchronize"} & set(cuda.names())
    cuda.cudaFree(theirs.address)


def test_a_library_that_refuses_dlpack_is_asked_the_other_way(cuda: FakeCuda) -> None:
    """Where DLPack is refused and there is the CUDA Array Interface, that is taken."""

    class Both(WithInterface):
        def __dlpack_device__(self) -> tuple[int, int]:
            return (dlpack.CUDA, 1)

        def __dlpack__(self, **_options: Any) -> Any:
            raise BufferError("on a different device")

    theirs = Both(np.arange(3, dtype=np.float32))
    theirs.arrive()
    taken = DeviceArray.of(theirs)
    assert taken is not None
    np.testing.assert_array_equal(taken.to_numpy(), np.arange(3))
    cuda.cudaFree(theirs.address)


def test_what_does_not_tell_where_it_is_is_no_array_of_a_device() -> None:
    """Arrays spread over several devices, or on other kinds of them, go their way of before."""

    class Spread:
        def __dlpack_device__(self) -> tuple[int, int]:
            raise BufferError("on several devices")

    assert DeviceArray.of(Spread()) is None


def test_capsules_that_die_with_an_error_pending_or_at_exit() -> None:
    """A capsule that nobody takes neither swallows an error nor ends the interpreter."""
    program = """
import sys
import numpy as np
from tests.fake_cuda import FakeCuda, installed
from tests.memory.test_device_array import WithDlpack
from tritonic_nb.memory import DeviceArray, dlpack

with installed(FakeCuda()):
    theirs = WithDlpack(np.arange(3, dtype=np.float32))
    array = DeviceArray.of(theirs)
    for wrong in (
        lambda: dict(a=array.__dlpack__(), b=undefined),
        lambda: (array.__dlpack__(), 1 / 0),
        lambda: np.from_dlpack(array),
    ):
        try:
            wrong()
        except (NameError, ZeroDivisionError, RuntimeError, BufferError) as error:
            print(type(error).__name__)

class Host:
    def __dlpack__(self, **options):
        return dlpack.capsule_of(self, kept.ctypes.data, (3,), kept.dtype, (1, 0))

    def __dlpack_device__(self):
        return (1, 0)

kept = np.arange(3.0)
cycle = [np.from_dlpack(Host())]
cycle.append(cycle)
sys.last_of_all = np.from_dlpack(Host())
np.last_of_all = np.from_dlpack(Host())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    errors = done.stdout.split()
    assert errors[:2] == ["NameError", "ZeroDivisionError"]
    assert errors[2] in ("RuntimeError", "BufferError")
    assert not done.stderr


def test_strides_that_say_nothing_count_as_contiguous(cuda: FakeCuda) -> None:
    """Dimensions of one item may have any step; others make an array that is refused."""
    array = np.zeros((1, 3, 1, 2), np.float32)
    good: list[tuple[int, ...] | None] = [None, (24, 8, 8, 4), (4, 8, 4, 4), (1000, 8, -4, 4)]
    for strides in good:
        assert DeviceArray.of(WithInterface(array, strides=strides)) is not None
    empty = np.zeros((0, 3), np.float32)
    assert DeviceArray.of(WithInterface(empty, strides=(4, 400))) is not None
    for strides in ((24, 4, 8, 12), (24, -8, 8, 4), (24, 16, 8, 4)):
        with pytest.raises(TensorShapeError, match="'IN': .* CUDA device 1 is not contiguous") as e:
            DeviceArray.of(WithInterface(array, strides=strides), "IN")
        assert "ascontiguousarray" in e.value.remedy
    for memory in list(cuda.device_memory):
        cuda.cudaFree(memory)


def test_a_library_that_refuses_is_our_error(cuda: FakeCuda) -> None:
    """What a library raises (a tensor that needs gradients) is told with the input's name."""

    class Refuses(WithDlpack):
        def __dlpack__(self, **_options: Any) -> Any:
            raise BufferError("Can't export tensors that require gradient")

    theirs = Refuses(np.ones(3, np.float32))
    with pytest.raises(TensorDatatypeError, match="'IN': Refuses .*require gradient") as caught:
        DeviceArray.of(theirs, "IN")
    assert "detach" in caught.value.remedy
    with pytest.raises(TensorDatatypeError, match="no counterpart"):
        DeviceArray.of(WithInterface(np.ones(3, np.complex64)), "IN")
    for memory in list(cuda.device_memory):
        cuda.cudaFree(memory)


def test_it_is_handed_out_by_both_protocols(cuda: FakeCuda) -> None:
    """What we hand out is taken again by DLPack and by the CUDA Array Interface."""
    theirs = WithDlpack(np.arange(6, dtype=np.float32).reshape(2, 3))
    theirs.arrive()
    ours = DeviceArray(theirs.address, (2, 3), np.dtype(np.float32), 1, theirs)
    assert ours.__dlpack_device__() == (2, 1)
    view = StridedMemoryView.from_dlpack(ours, stream_ptr=-1)
    assert (view.ptr, view.shape, view.device_id) == (theirs.address, (2, 3), 1)
    interface = ours.__cuda_array_interface__
    assert interface["data"] == (theirs.address, False)
    assert interface["stream"] is None  # all of it is there

    class OnlyInterface:
        __cuda_array_interface__ = interface

    again = DeviceArray.of(OnlyInterface())
    assert again is not None
    np.testing.assert_array_equal(again.to_numpy(), np.arange(6).reshape(2, 3))
    with pytest.raises(BufferError):
        ours.__dlpack__(dl_device=(1, 0))
    with pytest.raises(BufferError):
        ours.__dlpack__(copy=True)
    bf16 = DeviceArray(theirs.address, (2,), np.dtype(ml_dtypes.bfloat16), 1, theirs)
    assert not hasattr(bf16, "__cuda_array_interface__")
    cuda.cudaFree(theirs.address)


def test_numpy_gets_a_copy_and_parts_are_views(cuda: FakeCuda) -> None:
    """np.asarray copies; items and ranges of the first dimension are views; the rest says how."""
    theirs = WithDlpack(np.arange(24, dtype=np.int32).reshape(4, 3, 2))
    theirs.arrive()
    ours = DeviceArray.of(theirs)
    assert ours is not None
    host = np.arange(24, dtype=np.int32).reshape(4, 3, 2)
    np.testing.assert_array_equal(np.asarray(ours), host)
    assert np.asarray(ours, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="without a copy"):
        np.array(ours, copy=False)
    for part in (0, -1, 3, slice(1, 3), slice(None), slice(3, 1), slice(-2, None)):
        np.testing.assert_array_equal(np.asarray(ours[part]), host[part])
    assert len(ours) == 4
    assert repr(ours) == "DeviceArray([4, 3, 2], int32, CUDA device 1)"
    for bad, error in ((4, IndexError), (-5, IndexError), (slice(0, 4, 2), TypeError)):
        with pytest.raises(error):
            ours[bad]
    with pytest.raises(TypeError, match="cupy"):
        ours[0, 1]
    cuda.cudaFree(theirs.address)
