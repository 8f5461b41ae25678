"""The inputs' regions as arrays that the user fills: ``session.inputs``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tritonic_nb import render
from tritonic_nb.errors import (
    SessionClosedError,
    TensorDatatypeError,
    TensorShapeError,
    TritonicError,
)
from tritonic_nb.inputs import as_host_tensor, check_batch_size
from tritonic_nb.memory import Region
from tritonic_nb.regions import Slot
from tritonic_nb.tensors import ModelSpec, TensorSpec
from tritonic_nb.tensors.dtypes import numpy_dtype

__all__ = ["InputViews", "ViewOwner"]


class ViewOwner(Protocol):
    """The session, as far as its views know it."""

    @property
    def model_info(self) -> ModelSpec:
        """The model in use."""

    @property
    def view_slot(self) -> Slot:
        """The slot for the regions of inputs, which is another one at another server."""

    def place_view(self, tensor: str, nbytes: int) -> tuple[Slot, Region | None]:
        """Return that slot, and its region for an input; None for the wire."""


@dataclass(frozen=True)
class _Given:
    """An array that the user has, and the region that it lies in, if in one.

    The array is kept, so that it is what is sent for as long as it is the input's,
    whatever becomes of the region.
    """

    array: npt.NDArray[Any]
    region: Region | None


class InputViews(render.Described, Mapping[str, npt.NDArray[Any]]):
    """The model's inputs, each a writable array that lies in its region.

    ``session.inputs["INPUT0"][:] = data`` writes to shared memory itself, and
    ``session.infer()`` without inputs sends what lies there. No other
    inference uses these regions. With CUDA shared memory they are arrays in page-locked
    host memory, from which ``infer()`` copies to the device at full speed.

    An input with dynamic dimensions gets its shape from
    ``session.register_inputs(shapes)``, or from an array that is assigned:
    ``session.inputs["INPUT0"] = array``.

    After the model, the shapes, the kind of shared memory or the server changed, or after
    ``unregister()`` or ``close()``, arrays of before stay readable and are not
    sent any more: take new ones. Where the session sends tensors over the wire,
    or a region was lost, they are ordinary arrays and sent all the same.

    Parameters
    ----------
    owner
        Returns the session, or None when it is gone.
    slot
        The slot that holds the regions.
    """

    def __init__(self, owner: Callable[[], ViewOwner | None], slot: Slot) -> None:
        self._owner = owner
        self._slot = slot
        self._lock = threading.RLock()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._given: dict[str, _Given] = {}

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
        spec = self._model().input(name)
        with self._lock:
            shape = self._shapes.get(name) or spec.concrete_shape(batch=1)
            if shape is None and spec.datatype != "BYTES":
                raise TensorShapeError(
                    f"the shape of {spec} is not known: it has dynamic dimensions",
                    f"tell it first: session.register_inputs({{{name!r}: (...)}}), or assign an "
                    "array",
                )
            return self._array(spec, shape or ())

    def __setitem__(self, name: str, value: Any) -> None:
        """Copy an array of any shape that the model takes into the input's region.

        Raises
        ------
        TensorNameError, TensorDatatypeError, TensorShapeError, BatchSizeError
            If it does not fit the model.
        NoSpaceError, RegionNotVisibleError, SharedMemoryDisabledError, RestrictedApiError
            If the region cannot be had; the array of before stays the input's.
        """
        model = self._model()
        spec = model.input(name)
        array = as_host_tensor(value, spec)
        if spec.batched:
            check_batch_size(model, array.shape[0])
        with self._lock:
            self._array(spec, array.shape)[...] = array
            self._shapes[name] = array.shape

    def __iter__(self) -> Iterator[str]:
        return iter(self._model().inputs)

    def __len__(self) -> int:
        return len(self._model().inputs)

    def _described(self) -> render.Description:
        try:
            model = self._model()
        except TritonicError as error:
            return f"InputViews: {error.message}", (), ()
        given = dict(self._given)
        rows = [
            (name, spec.datatype, *_taken(given.get(name), spec))
            for name, spec in model.inputs.items()
        ]
        columns = ("name", "datatype", "shape", "array")
        return f"InputViews of {model.name}", (), [render.Table(None, columns, rows)]

    def _ipython_key_completions_(self) -> list[str]:
        try:
            return list(self)
        except TritonicError:  # without a session or a model there is nothing to name
            return []

    def _session(self) -> ViewOwner:
        owner = self._owner()
        if owner is None:
            raise SessionClosedError("the session of these inputs is gone", "open a new Session")
        return owner

    def _model(self) -> ModelSpec:
        return self._session().model_info

    def _array(self, spec: TensorSpec, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return the array that the user has, or one of this shape."""
        self._go_with(self._session().view_slot)
        had = self._given.get(spec.name)
        if had is not None and had.array.shape == shape:
            return had.array
        nbytes = spec.nbytes_of(shape)
        if nbytes is None:
            raise TensorDatatypeError(
                f"{spec} has no array to fill: BYTES elements have any length",
                f"pass them: session.infer({spec.name}=[...])",
            )
        slot, region = self._session().place_view(spec.name, nbytes)
        self._go_with(slot)
        if region is None:
            array = np.zeros(shape, numpy_dtype(spec.datatype))
        else:
            array = region.view(spec.datatype, shape)
        self._given[spec.name] = _Given(array, region)
        return array

    def _go_with(self, slot: Slot) -> None:
        """Let go of the arrays of another server, if the session has gone to this one's."""
        if slot is not self._slot:
            self.drop()
            self._slot = slot

    # What the session asks

    def expect(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Let go of all arrays, and remember the shapes of the next ones."""
        with self._lock:
            self.drop()
            self._go_with(self._session().view_slot)
            self._shapes = dict(shapes)

    def drop(self) -> None:
        """Let go of all arrays: none is sent from now on."""
        with self._lock:
            self._given.clear()
            self._shapes.clear()
            self._slot.give_back()

    def let_go(self, name: str) -> None:
        """Let go of the array of one input: it is not sent from now on."""
        with self._lock:
            self._given.pop(name, None)
            self._shapes.pop(name, None)
            self._slot.discard("input", name)

    def given(self, slot: Slot) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Region]]:
        """Return the arrays that the user has taken, and the regions of those in one.

        Parameters
        ----------
        slot
            The slot that the regions must be of; of another one there are none.
        """
        with self._lock:
            if slot is not self._slot:  # the session goes to another server just now
                return {}, {}
            arrays = {name: each.array for name, each in self._given.items()}
            regions = {
                name: each.region
                for name, each in self._given.items()
                if each.region is not None and each.region.state == "registered"
            }
        return arrays, regions


def _taken(given: _Given | None, spec: TensorSpec) -> tuple[str, str]:
    """Say of which shape an input's array is, and where it lies."""
    if given is None:
        return spec.dims, "not taken yet"
    where = "over the wire" if given.region is None else f"region {given.region.name}"
    return str(list(given.array.shape)), where
