"""Tensors on a device are shown, and only what is drawn or sampled of them is copied."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tritonic_nb
from tests.fake_cuda import FakeCuda, installed
from tests.memory.test_device_array import WithDlpack, WithInterface
from tests.test_result import result
from tritonic_nb import samples
from tritonic_nb.errors import TensorShapeError
from tritonic_nb.images import load_image
from tritonic_nb.memory import DeviceArray
from tritonic_nb.viewer import values_of

DICE = np.random.default_rng(3)


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    """Two fake devices of 256 MiB."""
    with installed(FakeCuda()) as fake:
        yield fake
        gc.collect()  # what is still held of it, before the next one has the same numbers


def on_device(array: npt.NDArray[Any]) -> DeviceArray:
    """Return an array of ours on the second fake device."""
    theirs = WithDlpack(array)
    theirs.arrive()
    found = DeviceArray.of(theirs)
    assert found is not None
    return found


def copied(cuda: FakeCuda) -> int:
    """Return the bytes that were copied since the calls were cleared."""
    return sum(call[3] for call in cuda.calls if call[0] == "cudaMemcpyAsync")


ARRAYS: dict[str, npt.NDArray[Any]] = {
    "image": DICE.integers(0, 255, (1, 3, 40, 50)).astype(np.uint8),
    "scores": DICE.normal(size=(1, 1000)).astype(np.float32),
    "feature maps": DICE.normal(size=(1, 32, 14, 14)).astype(np.float16),
    "BF16": DICE.normal(size=(40, 50)).astype(ml_dtypes.bfloat16),
    "candidates": DICE.random((1, 84, 2000)).astype(np.float32),
    "one number": np.float32(2.5).reshape(()),
    "nothing": np.zeros((0, 5), np.float32),
    "a row": np.sin(np.arange(5000) / 9, dtype=np.float32),
}


@pytest.mark.parametrize("case", sorted(ARRAYS))
def test_it_looks_as_it_does_on_the_host(cuda: FakeCuda, case: str) -> None:
    """Pixels and caption are the same, but for where it was copied from."""
    array = ARRAYS[case]
    here = tritonic_nb.picture(array, name=case)
    there = tritonic_nb.picture(on_device(array), name=case)
    assert there.png == here.png
    assert there.caption.replace(" Copied from CUDA device 1.", "", 1) == here.caption
    assert there.caption != here.caption


@pytest.mark.parametrize("kind", [WithDlpack, WithInterface])
def test_arrays_of_others_are_shown(cuda: FakeCuda, kind: type) -> None:
    """DLPack and the CUDA Array Interface will do, without a way to take parts."""
    array = ARRAYS["image"]
    theirs = kind(array)
    theirs.arrive()
    assert tritonic_nb.picture(theirs).png == tritonic_nb.picture(array).png


def test_a_library_that_gives_parts_is_asked_for_them(cuda: FakeCuda) -> None:
    """Nothing else of its memory is touched: what is not contiguous is shown, too."""

    class Theirs:
        def __init__(self, array: npt.NDArray[Any]) -> None:
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 0)

        def __dlpack__(self, **_options: Any) -> Any:
            raise BufferError("not contiguous")

        def __getitem__(self, index: Any) -> Theirs:
            return Theirs(self.array[index])

        def get(self) -> npt.NDArray[Any]:
            asked.append(self.array.size)
            return self.array

    asked: list[int] = []
    array = DICE.normal(size=(500, 600, 8)).transpose(2, 1, 0)
    picture = tritonic_nb.picture(Theirs(array), as_="heatmap", item=2)
    assert picture.png == tritonic_nb.picture(array, as_="heatmap", item=2).png
    assert sum(asked) < array.size / 4
    assert "of 19.2 MB copied from CUDA device 0" in picture.caption


def test_of_a_batch_of_images_one_is_copied(cuda: FakeCuda) -> None:
    """The item shown, and a sample for the range of all."""
    batch = DICE.integers(0, 255, (32, 512, 512, 3)).astype(np.uint8)
    array = on_device(batch)
    cuda.calls.clear()
    picture = tritonic_nb.picture(array, item=7)
    assert picture.png == tritonic_nb.picture(batch, item=7).png
    assert copied(cuda) < 4 * batch[0].nbytes
    assert "of 25.2 MB copied from CUDA device 1" in picture.caption


LARGE = {
    "feature maps": ((1, 2048, 150, 150), 0.1, "the first 64 of 2,048"),
    "points": ((16_000_000, 2), 0.7, "only the first 8,388,608 of 16,000,000 are looked at"),
    "a row": ((1, 30_000_000), 0.7, "only the first 16,777,216 of 30,000,000 are looked at"),
    "map": ((7000, 6000), 0.7, "every 4th row and column"),
    "batch of images": ((40, 3, 600, 600), 0.6, "of 173 mb copied"),
}


@pytest.mark.parametrize("case", sorted(LARGE))
def test_of_a_large_tensor_a_part_is_copied(cuda: FakeCuda, case: str) -> None:
    """Runs along the first dimension, of bounded size; the caption says how much."""
    shape, most, said = LARGE[case]
    array = on_device(np.zeros(shape, np.float32))
    cuda.calls.clear()
    picture = tritonic_nb.picture(array, name=case)
    assert copied(cuda) <= most * array.nbytes
    assert said in picture.caption.lower()
    assert str(list(shape)) in picture.caption


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_part_is_what_numpy_gives(data: st.DataObject) -> None:
    """Whatever the index, runs along the first dimension are put together to the same."""
    shape = data.draw(st.lists(st.integers(1, 70), min_size=1, max_size=4).map(tuple))
    array = DICE.integers(0, 2**40, shape)
    index = tuple(
        data.draw(
            st.integers(0, side - 1)
            | st.builds(
                slice, st.integers(0, side), st.integers(0, side + 3), st.integers(1, side + 1)
            )
        )
        for side in shape
    )
    with installed(FakeCuda()):
        assert np.array_equal(values_of(on_device(array))[index], array[index])


def test_a_result_on_a_device_is_shown(cuda: FakeCuda) -> None:
    """Classes, masks and boxes of ``copy=False`` look as those of copies do."""
    outputs = {
        "logits": DICE.normal(size=(1, 1000)).astype(np.float32),
        "class_activation": DICE.random((1, 7, 7)).astype(np.float32),
        "boxes": np.array([[5, 5, 90, 80], [20, 30, 60, 70]], np.float32),
        "scores": np.array([0.9, 0.4], np.float32),
    }
    image = load_image(samples.image("cat"))
    here = dataclasses.replace(result(**outputs), images=(image,), labels=samples.labels())
    there = dataclasses.replace(here, outputs={name: on_device(x) for name, x in outputs.items()})
    shown = [[picture.png for picture in made.pictures()] for made in (here, there)]
    assert shown[0] == shown[1]
    assert len(shown[0]) == 2
    assert there.top_k(1) == here.top_k(1)


def test_what_is_handed_out_in_no_way_is_told(cuda: FakeCuda) -> None:
    """Not contiguous, and no parts of it: the error says how to make it so."""
    turned = WithInterface(np.zeros((4, 6)), strides=(8, 32))
    with pytest.raises(TensorShapeError, match="not contiguous"):
        tritonic_nb.picture(turned)
