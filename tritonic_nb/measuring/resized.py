"""The same inputs in another batch or size: their elements again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import ArgumentError
from tritonic_nb.inputs import check_batch_size
from tritonic_nb.memory import DeviceArray, Tensor, host_space
from tritonic_nb.render import human_bytes
from tritonic_nb.tensors import ModelSpec, codec

__all__ = ["in_batch", "of_size", "on_host"]

_COPIES = 6

Arrays = Mapping[str, npt.NDArray[Any]]


def in_batch(model: ModelSpec, arrays: Arrays, batch: int) -> dict[str, npt.NDArray[Any]]:
    """Return inputs in a batch of another size: the items in turn.

    Raises
    ------
    ArgumentError
        If the model takes no batches.
    BatchSizeError
        If it does not take such a batch.
    """
    if not model.max_batch_size:
        raise ArgumentError(
            f"model {model.name!r} takes no batches", "sweep it over sizes=[...], if it has several"
        )
    check_batch_size(model, batch)
    return {
        name: _stretched(array, 0, batch) if model.input(name).batched else array
        for name, array in arrays.items()
    }


def of_size(model: ModelSpec, arrays: Arrays, nbytes: int) -> dict[str, npt.NDArray[Any]]:
    """Return inputs that have about so many bytes together.

    The last dynamic dimension of each input is stretched or cut; where there is none, the batch.

    Raises
    ------
    ArgumentError
        If all dimensions are fixed and there is no batch.
        Or there is not enough memory.
    BatchSizeError
        If the batch would be larger than the model takes.
    """
    available = host_space().available_nbytes
    if nbytes > available // _COPIES:
        raise ArgumentError(
            f"inputs of {human_bytes(nbytes)} are too large: {human_bytes(available)} of memory are"
            f" available, and inputs, outputs and what carries them take {_COPIES} times as much",
            "choose smaller sizes",
        )
    factor = nbytes / max(1, sum(codec.encoded_nbytes(array) for array in arrays.values()))
    axes = {name: _dynamic_axis(model, name) for name in arrays}
    if all(axis is None for axis in axes.values()):
        if not model.max_batch_size:
            raise ArgumentError(
                f"the inputs of model {model.name!r} have one size only: "
                f"{', '.join(map(str, model.inputs.values()))}",
                "sweep a model with a dynamic dimension or batches",
            )
        batch = next(iter(arrays.values())).shape[0]
        return in_batch(model, arrays, max(1, round(batch * factor)))
    return {
        name: array if axis is None else _stretched(
            array, axis, max(1, round(array.shape[axis] * factor))
        )
        for (name, array), axis in zip(arrays.items(), axes.values(), strict=True)
    }  # fmt: skip


def on_host(array: Tensor) -> npt.NDArray[Any]:
    """Return a tensor as a NumPy array, copied from its device where it lies on one."""
    return array.to_numpy() if isinstance(array, DeviceArray) else array


def _dynamic_axis(model: ModelSpec, name: str) -> int | None:
    spec = model.input(name)
    axes = [at for at, dim in enumerate(spec.shape) if dim < 0 and not (spec.batched and at == 0)]
    return axes[-1] if axes else None


def _stretched(array: npt.NDArray[Any], axis: int, length: int) -> npt.NDArray[Any]:
    if array.shape[axis] == length:
        return array
    if array.shape[axis] == 0:
        raise ArgumentError("an input without elements has no other size", "give one with some")
    shape = (*array.shape[:axis], length, *array.shape[axis + 1 :])
    stretched = np.empty(shape, array.dtype)
    target, source = np.moveaxis(stretched, axis, 0), np.moveaxis(array, axis, 0)
    done = min(length, len(source))
    target[:done] = source[:done]
    while done < length:  # twice as much each time
        more = min(done, length - done)
        target[done : done + more] = target[:more]
        done += more
    return stretched
