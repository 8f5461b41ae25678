"""The inputs' regions as arrays that the user fills: ``session.inputs``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import TensorDatatypeError, TensorShapeError
from tritonic_nb.inputs import check_batch_size
from tritonic_nb.memory import Region
from tritonic_nb.regions import Slot
from tritonic_nb.tensors import ModelSpec, TensorSpec, codec
from tritonic_nb.tensors.dtypes import numpy_dtype

__all__ = ["InputViews"]


class InputViews(Mapping[str, npt.NDArray[Any]]):
    """The model's inputs, each a writable array that lies in its region.

    ``session.inputs["INPUT0"][:] = data`` writes to shared memory itself, and
    ``session.infer()`` without inputs sends what lies there. No other
    inference uses these regions.

    An input with dynamic dimensions gets its shape from
    ``session.register_inputs(shapes)``, or from an array that is assigned:
    ``session.inputs["INPUT0"] = array``.

    After the model, the shapes or the kind of shared memory changed, or after
    ``unregister()`` or ``close()``, arrays of before stay readable and are not
    sent any more: take new ones. Where the session sends tensors over the wire,
    they are ordinary arrays.

    Parameters
    ----------
    describe
        Returns the model in use.
    place
        Returns a slot's region for an input of so many bytes, or None for the wire.
    slot
        The slot that holds the regions.
    """

    def __init__(
        self,
        describe: Callable[[], ModelSpec],
        place: Callable[[Slot, str, int], Region | None],
        slot: Slot,
    ) -> None:
        self._describe = describe
        self._place = place
        self._slot = slot
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._arrays: dict[str, npt.NDArray[Any]] = {}  # of those on the wire
        self._given: dict[str, tuple[int, ...]] = {}  # those that the user has taken

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Return an input's array.

        Raises
        ------
        TensorNameError
            If the model has no such input.
        TensorShapeError
            If its shape is not known.
        TensorDatatypeError
            If it is ``BYTES``, which have no array of a fixed size.
        NoSpaceError, RegionNotVisibleError, SharedMemoryDisabledError, RestrictedApiError
            If the region cannot be had.
        """
        spec = self._describe().input(name)
        shape = self._shapes.get(name) or spec.concrete_shape(batch=1)
        if shape is None and spec.datatype != "BYTES":
            raise TensorShapeError(
                f"the shape of {spec} is not known: it has dynamic dimensions",
                f"tell it first: session.register_inputs({{{name!r}: (...)}}), or assign an array",
            )
        return self._array(spec, shape or ())

    def __setitem__(self, name: str, value: Any) -> None:
        """Copy an array of any shape that the model takes into the input's region."""
        model = self._describe()
        spec = model.input(name)
        array = codec.as_tensor(value, spec)
        if spec.batched:
            check_batch_size(model, array.shape[0])
        self._array(spec, array.shape)[...] = array
        self._shapes[name] = array.shape

    def __iter__(self) -> Iterator[str]:
        return iter(self._describe().inputs)

    def __len__(self) -> int:
        return len(self._describe().inputs)

    def __repr__(self) -> str:
        return f"InputViews({', '.join(map(str, self._describe().inputs.values()))})"

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _array(self, spec: TensorSpec, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        nbytes = spec.nbytes_of(shape)
        if nbytes is None:
            raise TensorDatatypeError(
                f"{spec} has no array to fill: BYTES elements have any length",
                f"pass them: session.infer({spec.name}=[...])",
            )
        region = self._place(self._slot, spec.name, nbytes)
        self._given[spec.name] = shape
        if region is not None:
            self._arrays.pop(spec.name, None)
            return region.view(spec.datatype, shape)
        had = self._arrays.get(spec.name)
        if had is None or had.shape != shape:
            had = self._arrays[spec.name] = np.zeros(shape, numpy_dtype(spec.datatype))
        return had

    # What the session asks

    def expect(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Let go of all arrays, and remember the shapes of the next ones."""
        self.drop()
        self._shapes = dict(shapes)

    def drop(self) -> None:
        """Let go of all arrays: none is sent from now on."""
        self._given.clear()
        self._arrays.clear()
        self._shapes.clear()
        self._slot.give_back()

    def given(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that the user has taken, as they are now."""
        specs = self._describe().inputs
        return {name: self._array(specs[name], shape) for name, shape in self._given.items()}

    def region(self, name: str) -> Region | None:
        """Return the region of an array that the user has taken."""
        return self._slot.regions.get(("input", name))
