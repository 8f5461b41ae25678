"""What a model takes and gives: :class:`TensorSpec` and :class:`ModelSpec`."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tritonic_nb import render
from tritonic_nb.errors import (
    ServerRefusedError,
    TensorDatatypeError,
    TensorNameError,
    TensorShapeError,
    brief,
)
from tritonic_nb.tensors.dtypes import item_nbytes

__all__ = ["ModelSpec", "TensorSpec"]

_MOST_ITEMS = 2**31 - 1  # Triton's max_batch_size has 32 bits
_LONGEST_DIM = 2**63 - 1  # and a dimension 64


@dataclass(frozen=True)  # whose repr is what makes it again: short, and good in a list
class TensorSpec(render.Described):
    """One input or output of a model.

    Attributes
    ----------
    name
        The tensor's name.
    datatype
        Triton's datatype, such as ``"FP32"``.
    shape
        The whole shape of an array, the batch included; -1 where any size will do.
    batched
        Whether the first dimension is the batch that Triton's
        ``max_batch_size`` speaks of.
    optional
        Whether a request may leave the input out.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    batched: bool = False
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {self.dims}"

    def _described(self) -> render.Description:
        rows = [
            ("datatype", self.datatype),
            ("shape", self.dims),
            ("bytes per item" if self.batched else "bytes", _nbytes_text(self)),
            *([("optional", "yes")] if self.optional else []),
        ]
        return f"TensorSpec {self.name}", rows, ()

    @property
    def dims(self) -> str:
        """The shape in words: ``[batch, 3, any, any]``."""
        dims = ("batch" if i == 0 and self.batched else "any" if d < 0 else str(d)
                for i, d in enumerate(self.shape))  # fmt: skip
        return f"[{', '.join(dims)}]"

    @property
    def rank(self) -> int:
        """The number of dimensions, the batch included."""
        return len(self.shape)

    def concrete_shape(
        self, *, batch: int = 1, shape: Sequence[int] | None = None
    ) -> tuple[int, ...] | None:
        """Return the shape with every dimension known, or None where one is not.

        Parameters
        ----------
        batch
            The size of the batch, for a batched tensor.
        shape
            A whole shape to use instead of the model's, checked against it.

        Raises
        ------
        TensorShapeError
            If `shape` does not fit the model's.
        """
        if shape is not None:
            try:
                concrete = tuple(operator.index(d) for d in shape)
                if any(abs(d) > _LONGEST_DIM for d in concrete):
                    raise TypeError("no array is as long")
            except Exception as error:  # the caller's own objects may raise anything
                raise TensorShapeError(
                    f"{self.name!r} cannot have the shape {brief(shape)}", "give whole numbers"
                ) from error
            self.check_shape(concrete)
            return concrete
        dims = (operator.index(batch), *self.shape[1:]) if self.batched else self.shape
        return None if any(d < 0 for d in dims) else dims

    def nbytes_of(self, shape: Sequence[int]) -> int | None:
        """Return the bytes of an array of `shape`, or None for ``BYTES``."""
        item = item_nbytes(self.datatype)
        return None if item is None else item * math.prod(shape)

    def check_shape(self, shape: Sequence[int]) -> None:
        """Compare a shape with the model's.

        Raises
        ------
        TensorShapeError
            If the rank or a fixed dimension differs, or a dimension is negative.
        """
        got = list(shape)
        if len(got) != self.rank:
            raise TensorShapeError(
                f"{self.name!r} has rank {self.rank} in the model, {self.dims}, "
                f"and the array has rank {len(got)}, {got}",
                self._rank_remedy(len(got)),
            )
        for axis, (have, want) in enumerate(zip(got, self.shape, strict=True)):
            if have < 0 or (want >= 0 and have != want):
                raise TensorShapeError(
                    f"{self.name!r} is {self.dims} in the model and the array is {got}: "
                    f"dimension {axis} is {have}"
                    + (f" where the model has {want}" if want >= 0 else ""),
                    "reshape, resize or pad the array to the model's shape (any = any size)",
                )

    def _rank_remedy(self, rank: int) -> str:
        if self.batched and rank == 1 and self.shape[1:] == (1,):
            return "give each item of the batch a row of its own: array[:, np.newaxis]"
        if self.batched and rank == self.rank - 1:
            return "add the batch dimension: array[np.newaxis]"
        return f"give an array of {self.rank} dimensions"


@dataclass(frozen=True, repr=False)
class ModelSpec(render.Described):
    """A model as its server describes it.

    Attributes
    ----------
    name, version
        The model's name and the version that answers (``""`` lets the server choose).
    versions
        The versions that are loaded.
    backend
        The backend or platform that runs it, such as ``"python"``.
    max_batch_size
        The largest batch; 0 for a model without batching, None where the
        server keeps its configuration to itself.
    inputs, outputs
        The tensors by name, in the model's order.
    state
        The server's word for it, such as ``"READY"``.
    stateful
        Whether requests belong to sequences (``sequence_batching``), so that
        one must never be sent twice.
    parameters
        The configuration's parameters, as text.
    """

    name: str
    version: str
    versions: tuple[str, ...]
    backend: str
    max_batch_size: int | None
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    state: str = "READY"
    stateful: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        inputs, outputs = (", ".join(map(str, t.values())) for t in (self.inputs, self.outputs))
        return f"{self.name} ({self.backend}): {inputs or 'nothing'} to {outputs or 'nothing'}"

    def _described(self) -> render.Description:
        batch = {None: "not told by the server", 0: "none"}.get(
            self.max_batch_size, f"up to {self.max_batch_size}"
        )
        rows = [
            ("version", self.version or "as the server chooses"),
            *([("loaded", ", ".join(self.versions))] if self.versions else []),
            ("backend", self.backend or "not told by the server"),
            ("batches", batch),
            ("state", self.state.lower()),
            *([("sequences", "yes: requests are never repeated")] if self.stateful else []),
            *([("parameters", ", ".join(self.parameters))] if self.parameters else []),
        ]
        table = render.Table(
            "tensors",
            ("name", "datatype", "shape", "bytes per item" if self.max_batch_size else "bytes"),
            [
                (f"{kind} {spec.name}", spec.datatype, spec.dims, _nbytes_text(spec))
                for kind, tensors in (("input", self.inputs), ("output", self.outputs))
                for spec in tensors.values()
            ],
        )
        return f"ModelSpec {self.name}", rows, [table]

    @classmethod
    def from_server(
        cls,
        metadata: Mapping[str, Any],
        config: Mapping[str, Any] | None,
        *,
        version: str = "",
        state: str = "READY",
    ) -> ModelSpec:
        """Read the replies of Triton's metadata and model-configuration calls.

        Parameters
        ----------
        metadata
            The reply of ``GET v2/models/NAME``.
        config
            The reply of ``GET v2/models/NAME/config``, or None where the
            server refuses it.
        version
            The version that was asked for.
        state
            The model's state in the repository's index.

        Raises
        ------
        ServerRefusedError
            If the replies are not of the form that Triton's protocol gives them.
        """
        try:
            return cls._read(metadata, config, version, state)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServerRefusedError(
                "the server describes the model in a form that cannot be read: "
                f"{type(error).__name__}, {error}",
                "check that it is a Triton server, and any proxy between",
            ) from error

    @classmethod
    def _read(
        cls,
        metadata: Mapping[str, Any],
        config: Mapping[str, Any] | None,
        version: str,
        state: str,
    ) -> ModelSpec:
        config_of = {} if config is None else config
        batch = (
            None
            if config is None
            else _whole(config_of.get("max_batch_size", 0), 0, _MOST_ITEMS, "max_batch_size")
        )
        optional = {t["name"] for t in config_of.get("input", ()) if t.get("optional")}

        def tensors(kind: str) -> dict[str, TensorSpec]:
            return {
                t["name"]: TensorSpec(
                    name=_text(t["name"], "a tensor's name"),
                    datatype=_text(t["datatype"], "a datatype"),
                    shape=_shape(t["shape"], batched=bool(batch)),
                    batched=bool(batch),
                    optional=t["name"] in optional,
                )
                for t in metadata.get(kind, ())
            }

        return cls(
            name=_text(metadata["name"], "a model's name"),
            version=version,
            versions=tuple(str(v) for v in metadata.get("versions", ())),
            backend=str(config_of.get("backend") or metadata.get("platform", "")),
            max_batch_size=batch,
            inputs=tensors("inputs"),
            outputs=tensors("outputs"),
            state=state,
            stateful="sequence_batching" in config_of,
            parameters={
                key: str(value.get("string_value", ""))
                for key, value in config_of.get("parameters", {}).items()
            },
        )

    @cached_property
    def labels(self) -> tuple[str, ...] | None:
        """The class names of the ``labels`` parameter (a JSON list), or None."""
        try:
            names = json.loads(self.parameters["labels"])
        except (KeyError, ValueError, RecursionError):
            return None
        return tuple(str(n) for n in names) if isinstance(names, list) else None

    def input(self, name: str) -> TensorSpec:
        """Return an input by name.

        Raises
        ------
        TensorNameError
            If the model has none of that name.
        """
        return self._tensor("input", self.inputs, name)

    def output(self, name: str) -> TensorSpec:
        """Return an output by name.

        Raises
        ------
        TensorNameError
            If the model has none of that name.
        """
        return self._tensor("output", self.outputs, name)

    def _tensor(self, kind: str, tensors: Mapping[str, TensorSpec], name: str) -> TensorSpec:
        try:
            return tensors[name]
        except (KeyError, TypeError):  # TypeError: a list, say, which is no key at all
            raise TensorNameError(
                f"model {self.name!r} has no {kind} {brief(name)}",
                f"use one of its {kind}s: {', '.join(map(str, tensors.values())) or 'none'}",
            ) from None


def _nbytes_text(spec: TensorSpec) -> str:
    """Say how large a tensor is, whatever its server says that it is."""
    try:
        item = item_nbytes(spec.datatype)
    except TensorDatatypeError:
        return "not known"
    shape = spec.concrete_shape()
    if item is None:
        return "of any length"
    if shape is None:
        return f"{item} B each element"
    return render.human_bytes(item * math.prod(shape))


def _text(value: Any, what: str) -> str:
    """Return a text of a server's reply, which can be written, shown and sent again."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is {brief(value)}")
    value.encode()  # JSON can spell half characters, which nothing takes
    return value


def _whole(value: Any, lowest: int, highest: int, what: str) -> int:
    """Return a whole number of a server's reply."""
    number = int(value) if isinstance(value, str) else operator.index(value)
    if isinstance(value, bool) or not lowest <= number <= highest:
        raise ValueError(f"{what} is {brief(value)}")
    return number


def _shape(value: Any, *, batched: bool) -> tuple[int, ...]:
    if not isinstance(value, list) or (batched and not value):
        raise ValueError(f"a shape{' with a batch' if batched else ''} is {brief(value)}")
    return tuple(_whole(d, -1, _LONGEST_DIM, "a dimension") for d in value)
