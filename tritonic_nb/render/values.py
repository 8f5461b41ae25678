"""Tensors of any library, of which only the parts that are drawn are read.

A picture never needs all of a large tensor: :class:`Values` hands out slices, and only
they are converted, or copied from a device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.render.datatype import datatype_name, triton_name
from tritonic_nb.render.distant import Distant, Index, P, leading, read_runs
from tritonic_nb.render.extent import Extent
from tritonic_nb.render.sampling import steps

__all__ = ["Values"]

# How many elements stand for all others where only their range is asked for.
_SAMPLE = 1 << 20
_DISTANT_SAMPLE = 1 << 16

_HOST, _CUDA = 1, 2  # DLPack's numbers for the memory of the processor and of CUDA devices


@dataclass(frozen=True)
class Values:
    """A tensor that is read slice by slice.

    Attributes
    ----------
    shape
        Of what is left after :meth:`at`, :meth:`squeezed` and :meth:`arranged`.
    datatype
        Triton's name, such as ``FP32``; NumPy's own where Triton has none.
    whole
        The shape as it was given, before anything was taken from it.
    distant
        What is copied of it, where it lies in another memory.
    """

    shape: tuple[int, ...]
    datatype: str
    whole: tuple[int, ...]
    _read: Callable[[Index], npt.NDArray[Any]]
    distant: Distant | None = None
    # The axes from the outermost on, where only parts along the first are at hand.
    _order: tuple[int, ...] = ()

    @classmethod
    def of(cls, thing: Any) -> Values:
        """Take whatever holds numbers or texts.

        Parameters
        ----------
        thing
            A NumPy array, anything that speaks DLPack or ``__array__`` (PyTorch, CuPy, JAX,
            also on a device), a Pillow image, a number, text, bytes, or nested lists of
            those. Nothing is copied; of what lies on a device nothing is read yet.

        Raises
        ------
        ArgumentError
            It is none of these.
        """
        if isinstance(thing, Values):
            return thing
        if isinstance(thing, Image.Image):
            wide = thing.mode.startswith("I") or thing.mode in ("F", "L", "RGB", "RGBA")
            thing = np.asarray(thing if wide else thing.convert("RGB"))
        if _on_device(thing):
            return cls._of_device(thing)
        return cls._of_array(_host_array(thing))

    @classmethod
    def _of_array(cls, array: npt.NDArray[Any]) -> Values:
        def read(index: Index) -> npt.NDArray[Any]:
            return _plain(np.asanyarray(array[index]))

        return cls(array.shape, datatype_name(array.dtype), array.shape, read)

    @classmethod
    def of_parts(
        cls,
        array: P,
        place: str,
        copy: Callable[[Sequence[P]], Sequence[npt.NDArray[Any]]],
    ) -> Values:
        """Take an array in another memory that gives parts along its first axis only.

        Parameters
        ----------
        array
            What has a shape, a NumPy dtype, and ``[i]`` and ``[i:j]``.
        place
            Where it lies, in words.
        copy
            Copies several parts of it into this memory.
        """
        whole, nbytes = tuple(array.shape), array.nbytes
        array, left_out = leading(array)
        shape = tuple(array.shape)
        distant = Distant(nbytes, place, left_out)

        def read(index: Index) -> npt.NDArray[Any]:
            return _plain(read_runs(array, copy, distant, index))

        name = datatype_name(array.dtype)
        return cls(shape, name, whole, read, distant, tuple(range(len(shape))))

    @classmethod
    def _of_device(cls, thing: Any) -> Values:
        """Take a tensor of a library that gives any part of it."""
        shape = tuple(int(side) for side in thing.shape)
        name = str(thing.dtype).rpartition(".")[2]  # "torch.float32"
        nbytes = math.prod(shape) * _item_nbytes(thing, name)
        distant = Distant(nbytes, _place(thing))

        def read(index: Index) -> npt.NDArray[Any]:
            # In words, because a slice is no key before Python 3.12.
            part = distant.parts([str(index)], lambda _keys: [_to_host(thing[index])])[0]
            return _plain(part)

        return cls(shape, triton_name(name) or name, shape, read, distant)

    @property
    def size(self) -> int:
        """How many elements."""
        return math.prod(self.shape)

    @property
    def is_text(self) -> bool:
        """Whether the elements are texts."""
        return self.datatype == "BYTES"

    @property
    def is_whole(self) -> bool:
        """Whether the datatype holds whole numbers or truth values."""
        return self.datatype == "BOOL" or bool(re.fullmatch(r"U?INT\d+", self.datatype))

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        """Read a part: numbers and slices with positive steps, as for an array."""
        given = index if isinstance(index, tuple) else (index,)
        return self._read(given + (slice(None),) * (len(self.shape) - len(given)))

    def read(self) -> npt.NDArray[Any]:
        """Read everything."""
        return self[()]

    def at(self, axis: int, position: int) -> Values:
        """Take one position of an axis, which is gone then."""

        def read(index: Index) -> npt.NDArray[Any]:
            return self._read((*index[:axis], position, *index[axis:]))

        shape = self.shape[:axis] + self.shape[axis + 1 :]
        order = tuple(each - (each > axis) for each in self._order if each != axis)
        return replace(self, shape=shape, _read=read, _order=order)

    def thinned(self, steps: Sequence[int]) -> Values:
        """Take every n-th position of each axis."""
        shape = tuple(-(-side // step) for side, step in zip(self.shape, steps, strict=True))

        def read(index: Index) -> npt.NDArray[Any]:
            full = []
            for part, step, side in zip(index, steps, shape, strict=True):
                if isinstance(part, slice):
                    start, stop, each = part.indices(side)
                    full.append(slice(start * step, max(stop - 1, 0) * step + 1, each * step)
                                if stop > start else slice(0, 0))  # fmt: skip
                else:
                    full.append(slice(part * step, part * step + 1))
            values = self._read(tuple(full))
            gone = tuple(axis for axis, part in enumerate(index) if not isinstance(part, slice))
            return values.squeeze(gone) if gone else values

        return replace(self, shape=shape, _read=read)

    def squeezed(self) -> Values:
        """Leave out all axes of one position."""
        values = self
        for axis in reversed(range(len(self.shape))):
            if self.shape[axis] == 1:
                values = values.at(axis, 0)
        return values

    def arranged(self, order: Sequence[int]) -> Values:
        """Put the axes in another order."""

        def read(index: Index) -> npt.NDArray[Any]:
            full: list[int | slice] = [0] * len(order)
            for axis, part in zip(order, index, strict=True):
                full[axis] = part
            kept = sorted(
                a for a, part in zip(order, index, strict=True) if isinstance(part, slice)
            )
            wanted = [a for a, part in zip(order, index, strict=True) if isinstance(part, slice)]
            values = self._read(tuple(full))
            turned: npt.NDArray[Any] = values.transpose([kept.index(axis) for axis in wanted])
            return turned

        shape = tuple(self.shape[axis] for axis in order)
        nesting = tuple(list(order).index(axis) for axis in self._order)
        return replace(self, shape=shape, _read=read, _order=nesting)

    def sample(self, most: int = _SAMPLE) -> npt.NDArray[Any]:
        """Read evenly spread elements, at most so many; fewer of a large array elsewhere."""
        if self.distant is not None and not self.distant.small:
            most = min(most, _DISTANT_SAMPLE)
        return self.thinned(self.steps(most)).read()

    def steps(self, most: int) -> tuple[int, ...]:
        """Tell how far apart to read on each axis to get at most so many elements."""
        return steps(self.shape, most, self._order)

    def extent(self, most: int = _SAMPLE) -> Extent:
        """Find the range of the values, of a sample of at most so many."""
        part = self.sample(most)
        return Extent.of(part, sampled=part.size < self.size)

    def __str__(self) -> str:
        return f"{self.datatype} {list(self.whole)}"


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give values of a dtype that everything can be done with."""
    if isinstance(array, np.ma.MaskedArray):
        array = np.ma.filled(array.astype(np.float64), np.nan)
    kind = array.dtype.kind
    if kind in "biuOSU":
        return array
    if kind == "f":
        return array.astype(np.float32) if array.dtype.itemsize < 4 else array
    if kind == "c":
        with np.errstate(all="ignore"):
            length: npt.NDArray[Any] = np.abs(array)
            return length
    if kind in "mM":
        return array.astype(np.int64)
    try:
        return array.astype(np.float32)  # bfloat16 and its like
    except (TypeError, ValueError):
        return array.astype(np.str_)


def _host_array(thing: Any) -> npt.NDArray[Any]:
    if isinstance(thing, np.ndarray):
        return thing
    if isinstance(thing, (str, bytes)):
        return np.array(thing, dtype=object)
    if hasattr(thing, "__dlpack__"):
        thing = _without_gradient(thing)
        try:
            return np.from_dlpack(thing)
        except (BufferError, RuntimeError, TypeError, ValueError):
            if hasattr(thing, "float"):  # PyTorch's bfloat16, which NumPy cannot take
                return _host_array(thing.float())
    try:
        array = np.asarray(thing)
    except Exception as error:  # whatever a stranger's __array__ raises
        raise ArgumentError(
            f"{brief(thing)} cannot be shown: {type(error).__name__}: {error}",
            "pass an array, or lists of equal lengths",
        ) from error
    if array.dtype.kind == "O" and array.ndim == 0:
        raise ArgumentError(
            f"a {type(thing).__name__} cannot be shown: it is no array",
            "pass an array, a DLPack tensor, a Pillow image, numbers or texts",
        )
    return array


def _on_device(thing: Any) -> bool:
    if isinstance(thing, np.ndarray) or not hasattr(thing, "shape"):
        return False
    if hasattr(thing, "__dlpack_device__"):
        return int(thing.__dlpack_device__()[0]) != _HOST
    return hasattr(thing, "__cuda_array_interface__")


def _place(thing: Any) -> str:
    """Say where a tensor of another library lies."""
    if not hasattr(thing, "__dlpack_device__"):
        return "a CUDA device"
    kind, number = thing.__dlpack_device__()
    return f"CUDA device {number}" if int(kind) == _CUDA else f"device {number}"


def _item_nbytes(thing: Any, name: str) -> int:
    size = getattr(thing, "itemsize", None) or getattr(thing.dtype, "itemsize", None)
    bits = re.search(r"\d+$", name)
    return int(size or (int(bits[0]) // 8 if bits else 1))


def _without_gradient(thing: Any) -> Any:
    return thing.detach() if hasattr(thing, "detach") else thing


def _to_host(part: Any) -> npt.NDArray[Any]:
    """Copy a part from its device, by whichever way its library has."""
    part = _without_gradient(part)
    for way in ("cpu", "get", "copy_to_host"):  # PyTorch, CuPy, Numba
        if callable(getattr(part, way, None)):
            return _host_array(getattr(part, way)())
    try:
        return np.from_dlpack(part, device="cpu")
    except (AttributeError, BufferError, TypeError, ValueError):  # TypeError: before NumPy 2.1
        return np.asarray(part)
