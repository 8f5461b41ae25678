"""Arrays to bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tritonic_nb.errors import TensorDatatypeError, TensorShapeError
from tritonic_nb.tensors import DATATYPES, TensorSpec, codec, datatype_of, numpy_dtype

NUMERIC = [d for d in DATATYPES if d != "BYTES"]


def spec(datatype: str, *shape: int, batched: bool = False) -> TensorSpec:
    return TensorSpec("x", datatype, shape, batched)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_the_table_is_its_own_inverse(datatype: str) -> None:
    """Every Triton datatype has one NumPy dtype, which leads back to it."""
    assert datatype_of(numpy_dtype(datatype)) == datatype


def test_an_unknown_datatype_is_refused_by_name() -> None:
    """A datatype that Triton does not have is an error that lists those it has."""
    with pytest.raises(TensorDatatypeError, match=r"'FP8' is not.*\n.*BF16"):
        numpy_dtype("FP8")


@given(st.data())
def test_numeric_bytes_come_back(data: st.DataObject) -> None:
    """Any numeric array is written and read back bit for bit."""
    datatype = data.draw(st.sampled_from(NUMERIC))
    dtype = numpy_dtype(datatype)
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, max_side=5))
    raw = data.draw(st.binary(min_size=int(np.prod(shape)) * dtype.itemsize,
                              max_size=int(np.prod(shape)) * dtype.itemsize))  # fmt: skip
    if datatype == "BOOL":
        raw = bytes(b & 1 for b in raw)
    array = np.frombuffer(raw, dtype).reshape(shape)
    target = bytearray(len(raw) + 8)
    assert codec.write(array, memoryview(target)) == len(raw) == codec.encoded_nbytes(array)
    assert codec.decode(target, datatype, shape, name="x").tobytes() == raw


@given(hnp.arrays(np.dtype(object), hnp.array_shapes(max_dims=3, max_side=4), elements=st.binary()))
def test_bytes_elements_come_back(array: np.ndarray) -> None:
    """BYTES elements of any length and content, zero bytes included, come back."""
    target = bytearray(codec.encoded_nbytes(array))
    assert codec.write(array, memoryview(target)) == len(target)
    assert np.array_equal(codec.decode(target, "BYTES", array.shape, name="x"), array)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(4, 6).T,
        np.arange(24, dtype=np.float32).reshape(4, 6)[::-1, ::2],
        np.broadcast_to(np.float32(3), (4, 5)),
        np.arange(6, dtype=">f4").reshape(2, 3),
    ],
    ids=["transposed", "strided", "broadcast", "big-endian"],
)
def test_any_memory_layout_is_written_in_row_major_order(array: np.ndarray) -> None:
    """The layout in memory makes no difference to what the server gets."""
    target = bytearray(array.nbytes)
    codec.write(array, memoryview(target))
    assert np.array_equal(codec.decode(target, "FP32", array.shape, name="x"), array)


def test_a_view_is_read_only() -> None:
    """A result without a copy cannot be written to by mistake."""
    view = codec.decode(bytearray(8), "FP32", (2,), name="x", copy=False)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_too_few_bytes_are_an_error_with_the_numbers(datatype: str) -> None:
    """A reply that is shorter than its shape is told, and never read beyond its end."""
    with pytest.raises(TensorShapeError, match=r"'x'.*(12 bytes.*8 bytes|3 elements.*8 bytes)"):
        codec.decode(b"\xff" * 8, datatype, (3,), name="x")


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("INT8", [300]),
        ("UINT8", [-1]),
        ("UINT8", [1.5]),
        ("INT32", [float("nan")]),
        ("INT64", [2**70]),
        ("FP32", ["a"]),
        ("FP32", ["1.5"]),
        ("FP32", [1e300]),
        ("FP32", [None]),
        ("FP32", [1 + 5j]),
        ("FP32", np.datetime64("2020-01-01")),
        ("BYTES", ["\ud800"]),
        ("FP32", [[1], [2, 3]]),
        ("BYTES", [1]),
        ("BYTES", [10**5000]),
        ("INT64", [2**53 + 1, 1.0]),  # NumPy makes 2**53 of the one because of the other
    ],
)
def test_numbers_that_do_not_fit_are_not_converted(datatype: str, value: list) -> None:
    """A list whose numbers the datatype cannot hold is an error, not a wrapped number."""
    with pytest.raises(TensorDatatypeError, match="x|BYTES"):
        codec.encoded_nbytes(codec.as_tensor(value, spec(datatype, -1)))


def test_a_mask_is_not_ignored() -> None:
    """A masked array is refused: what is under the mask would be sent."""
    masked = np.ma.masked_array(np.zeros(2, np.float32), [True, False])
    with pytest.raises(TensorDatatypeError, match="masked"):
        codec.as_tensor(masked, spec("FP32", 2))
    with pytest.raises(TensorDatatypeError, match="masked"):
        codec.as_tensor([masked, masked], spec("FP32", 2, 2))


def test_what_is_an_array_in_disguise_is_treated_as_one() -> None:
    """A memoryview or an object with __array__ keeps its datatype, and is not converted."""
    floats = memoryview(np.zeros(2))
    with pytest.raises(TensorDatatypeError, match="FP64"):
        codec.as_tensor(floats, spec("FP32", 2))
    assert codec.as_tensor(floats, spec("FP64", 2)).shape == (2,)


@pytest.mark.parametrize("error", [TypeError, RuntimeError, RecursionError])
def test_an_object_that_refuses_to_be_an_array_is_told(error: type[Exception]) -> None:
    """Arrays on a GPU raise whatever they like when NumPy asks for them."""

    class OnTheGpu:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise error("implicit conversion is not allowed, use .get()")

    for value in (OnTheGpu(), [OnTheGpu()]):
        with pytest.raises(TensorDatatypeError, match=r"'x' takes FP32.*use \.get\(\)"):
            codec.as_tensor(value, spec("FP32", -1))


@pytest.mark.parametrize("shape", [(2**63, 0), (1,) * 99])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_shapes_that_no_array_has_are_refused(datatype: str, shape: tuple[int, ...]) -> None:
    """Not even where they need no more bytes than there are."""
    with pytest.raises(TensorShapeError, match="fault of the server"):
        codec.decode(bytes(8), datatype, shape, name="x")


@pytest.mark.parametrize("shape", [(-1, -1), (2**40,)])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_impossible_shapes_are_refused(datatype: str, shape: tuple[int, ...]) -> None:
    """A negative or gigantic shape from a server allocates nothing."""
    with pytest.raises(TensorShapeError, match="fault of the server"):
        codec.decode(b"1234", datatype, shape, name="x")


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("BF16", [1.5, 2]), ("BOOL", [1, 0]), ("INT32", [True]), ("BYTES", ["a", b"b"])],
)
def test_numbers_that_fit_are_converted(datatype: str, value: list) -> None:
    """A list becomes an array of the model's datatype."""
    array = codec.as_tensor(value, spec(datatype, -1))
    assert datatype_of(array.dtype) == datatype
    assert array.tolist() == value


def test_an_array_of_another_datatype_is_refused_with_the_conversion() -> None:
    """A float64 array for an FP32 input is an error that shows how to convert."""
    with pytest.raises(TensorDatatypeError, match=r"FP64.*float64.*\n.*astype\(np.float32\)"):
        codec.as_tensor(np.zeros(3), spec("FP32", 3))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 1)])
def test_a_wrong_rank_names_the_models_rank(shape: tuple[int, ...]) -> None:
    """A wrong rank, no dimensions at all included, names both ranks."""
    with pytest.raises(TensorShapeError, match=rf"rank 2.*rank {len(shape)}"):
        codec.as_tensor(np.zeros(shape, np.float32), spec("FP32", -1, 3))


def test_a_missing_batch_dimension_is_told_as_such() -> None:
    """An array that lacks just the batch gets the remedy for it."""
    with pytest.raises(TensorShapeError, match="newaxis"):
        codec.as_tensor(np.zeros(3, np.float32), spec("FP32", -1, 3, batched=True))


def test_a_wrong_dimension_is_named() -> None:
    """The message says which dimension is wrong and what the model has."""
    with pytest.raises(TensorShapeError, match="dimension 1 is 4 where the model has 3"):
        codec.as_tensor(np.zeros((2, 4), np.float32), spec("FP32", -1, 3))


@pytest.mark.parametrize(
    "shape", [(3, 3000, 1000), (30, 300, 1000), (9_000_000,), (1, 1, 9_000_000)]
)
def test_large_arrays_are_copied_in_steps_and_whole(shape: tuple[int, ...]) -> None:
    """Whatever the shape and the layout, a copy in steps is the same as one at once."""
    array = np.random.default_rng(0).random(shape).astype(np.float32)
    for each in (array, array.T, array[::-1]):
        target = bytearray(each.nbytes)
        assert codec.write(each, memoryview(target)) == each.nbytes
        read = codec.decode(target, "FP32", each.shape, name="x")
        assert np.array_equal(read, each)
        assert read.flags.owndata
        assert read.flags.c_contiguous
