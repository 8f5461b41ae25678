"""How large a model's tensors are for given shapes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tritonic_nb.errors import TensorNameError, TensorShapeError, brief
from tritonic_nb.inputs import check_batch_size
from tritonic_nb.tensors import ModelSpec, TensorSpec

__all__ = ["TensorSize", "sizes_of"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class TensorSize:
    """The size of one tensor, as far as it is known.

    Attributes
    ----------
    direction
        ``"input"`` or ``"output"``.
    spec
        The tensor.
    shape
        Its whole shape; None where a dimension is not known.
    nbytes
        Its bytes; None where they are not known.
    """

    direction: str
    spec: TensorSpec
    shape: tuple[int, ...] | None
    nbytes: int | None

    def required_nbytes(self) -> int:
        """Return the bytes.

        Raises
        ------
        TensorShapeError
            If they are not known.
        """
        if self.nbytes is not None:
            return self.nbytes
        if self.spec.datatype == "BYTES":
            raise TensorShapeError(
                f"the size of {self.spec} is not known: BYTES elements have any length",
                f"pass nbytes={{{self.spec.name!r}: 1000}}, or how many it takes: 4 and its length "
                "for each element",
            )
        raise TensorShapeError(
            f"the size of {self.spec} is not known: it has dynamic dimensions",
            f"pass shapes={{{self.spec.name!r}: (...)}} with the whole shape",
        )


def sizes_of(
    model: ModelSpec,
    directions: Sequence[str],
    *,
    shapes: Mapping[str, Sequence[int]] | None,
    nbytes: Mapping[str, int] | None,
    batch: int,
) -> list[TensorSize]:
    """Return the sizes of a model's inputs, outputs or both.

    Parameters
    ----------
    model
        The model.
    directions
        ``"input"``, ``"output"`` or both.
    shapes
        The whole shapes of tensors, by name, instead of the model's.
    nbytes
        The bytes of tensors, by name, instead of what follows from the shape.
    batch
        The batch.

    Raises
    ------
    TensorNameError
        If the model has no tensor of a name.
    TensorShapeError, BatchSizeError
        If a shape, a size or the batch does not fit the model.
    """
    shapes, nbytes = _mapping(shapes, "shapes"), _mapping(nbytes, "nbytes")
    specs = {d: model.inputs if d == "input" else model.outputs for d in directions}
    have = [name for each in specs.values() for name in each]
    for name in (*shapes, *nbytes):
        if name not in have:
            raise TensorNameError(
                f"model {model.name!r} has no {' or '.join(directions)} {brief(name)}",
                f"it has {', '.join(have)}",
            )
    check_batch_size(model, batch)
    return [
        _size(model, direction, spec, shapes.get(spec.name), nbytes.get(spec.name), batch)
        for direction in directions
        for spec in specs[direction].values()
    ]


def _size(  # noqa: PLR0917
    model: ModelSpec,
    direction: str,
    spec: TensorSpec,
    shape: Sequence[int] | None,
    nbytes: int | None,
    batch: int,
) -> TensorSize:
    whole = spec.concrete_shape(batch=batch, shape=shape)
    if shape is not None and whole and spec.batched:
        check_batch_size(model, whole[0])
    if nbytes is None:
        nbytes = spec.nbytes_of(whole) if whole is not None else None
    elif not isinstance(nbytes, int) or isinstance(nbytes, bool) or not 0 <= nbytes <= sys.maxsize:
        raise TensorShapeError(
            f"{spec.name!r} cannot have {brief(nbytes)} bytes",
            "give a whole number from 0, that a machine can have",
        )
    return TensorSize(direction, spec, whole, nbytes)


def _mapping(given: Mapping[str, _T] | None, what: str) -> Mapping[str, _T]:
    if given is not None and not isinstance(given, Mapping):
        raise TensorShapeError(
            f"{what} is {brief(given)}, and not by tensor", f"give {what}={{NAME: ...}}"
        )
    return given or {}
