"""A Dask array through a model, block by block: :func:`map_blocks`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import (
    ArgumentError,
    ServerUnreachableError,
    TensorNameError,
    TensorShapeError,
    TritonicError,
    brief,
    check_whole,
)
from tritonic_nb.inputs import check_batch_size
from tritonic_nb.outposts import KEEP_S, Outpost, outpost
from tritonic_nb.parcel import Parcel
from tritonic_nb.recipe import ServerPlace, SessionSpec
from tritonic_nb.session import Session
from tritonic_nb.spread import check_repeatable, named
from tritonic_nb.tensors import ModelSpec, TensorSpec, numpy_dtype

__all__ = ["map_blocks"]

_USUAL_BATCH = 8

_log = logging.getLogger("tritonic_nb.session")


def map_blocks(
    session: Session | SessionSpec,
    array: Any,
    *,
    output: str | None = None,
    server: ServerPlace | None = None,
    secrets: bool | None = None,
    batch: int | None = None,
    keep_s: float = KEEP_S,
    **options: Any,
) -> Any:
    """Run a model over a Dask array, and return one of its outputs as another one.

    Nothing is computed until the array that is returned is, and then block by block, so that
    neither has to fit into memory. Whoever computes a block (a thread here, a worker
    elsewhere) opens a session by the recipe on first use, and keeps it for the next block.

    Parameters
    ----------
    session
        A session with its model chosen, or its :attr:`~tritonic_nb.Session.spec`, which is
        opened here to look at the model.
    array
        A Dask array of items along its first axis: of tensors, or of pictures as
        :meth:`~tritonic_nb.Session.infer` takes them. Or what has one as its ``data``, such
        as an :class:`xarray.DataArray`.
    output
        The output; needed where the model has several.
    server, secrets
        As for :meth:`~tritonic_nb.Session.map` with an executor; of a recipe, what it has
        goes to the workers.
    batch
        How many items go in one request; by default as many as the model takes, up to 8.
    keep_s
        How long whoever computes blocks keeps its session after the last, in seconds.
    options
        As for :meth:`~tritonic_nb.Session.infer`, such as `transform` and `timeout`.

    Returns
    -------
    dask.array.Array
        With the same chunks along the first axis. Its datatype and shape are the model's;
        where that has dynamic dimensions, those that one item of zeros gives, which is
        inferred at once.

    Raises
    ------
    ArgumentError
        If an argument is of the wrong form, or Dask is not installed.
    TensorNameError
        If the model has several inputs, or several outputs and none is named.
    TritonicError
        As :meth:`~tritonic_nb.Session.infer`, when it is computed.

    Examples
    --------
    >>> pictures = dask.array.from_zarr("pictures.zarr")  # [n, 224, 224, 3], uint8
    >>> logits = tritonic_nb.map_blocks(session, pictures, output="logits")
    >>> logits.to_zarr("logits.zarr")
    """
    array = _dask_array(array)
    if batch is not None:
        check_whole(batch, 1, "batch", "give how many items go in one request")
    spec = _recipe(session, server, secrets)
    with _opened(session, spec, keep_s) as here:
        model = here.model_info
        block = _Block.of(model, array, _chosen_output(model, output), batch, options)
        if any(size < 0 for size in block.shape):
            block = block.probed(here, np.zeros((1, *array.shape[1:]), array.dtype))
    # Along other axes an item is in one piece.
    whole = array.rechunk(dict.fromkeys(range(1, array.ndim), -1))
    return whole.map_blocks(
        _Order(Parcel.of(spec, "the session's recipe"), block, spec.in_flight, keep_s),
        dtype=block.dtype,
        chunks=(whole.chunks[0], *((size,) for size in block.shape)),
        drop_axis=list(range(1, whole.ndim)),
        new_axis=list(range(1, 1 + len(block.shape))),
        meta=np.empty((0,) * (1 + len(block.shape)), block.dtype),
        token="infer",  # noqa: S106 - the beginning of its keys
    )


@dataclass(frozen=True)
class _Block:
    """How a block of items goes through a session.

    Attributes
    ----------
    output, shape, dtype
        The output, and what it has for one item.
    batch
        How many items are one request's tensor; 0 where an item is a tensor by itself.
    listed
        Whether items are given one by one (pictures), or are a tensor together.
    options
        Of each inference.
    """

    output: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    batch: int
    listed: bool
    options: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        model: ModelSpec,
        array: Any,
        output: TensorSpec,
        batch: int | None,
        options: Mapping[str, Any],
    ) -> _Block:
        """Return how the items of an array go through a model."""
        spec = _only_input(model)
        check_repeatable(model)
        alike = spec.rank == array.ndim
        if model.max_batch_size and batch is not None:
            check_batch_size(model, batch)
        if spec.batched or (alike and spec.shape[0] < 0):
            usual = min(model.max_batch_size or _USUAL_BATCH, _USUAL_BATCH)
            together = usual if batch is None else batch
        else:
            together = 1 if alike and spec.shape[0] == 1 else 0
        return cls(
            output.name,
            output.shape[1:] if together else output.shape,
            numpy_dtype(output.datatype),
            together,
            not alike or array.dtype != numpy_dtype(spec.datatype),
            {**options, "outputs": [output.name], "copy": False},
        )

    def probed(self, session: Session, item: npt.NDArray[Any]) -> _Block:
        """Return the same, with the shape that the output has for an item."""
        ((_, found),) = self._pieces(item)
        values = self._values(session.infer(found, **self.options)[self.output], 1)
        return replace(self, shape=values.shape[1:], dtype=values.dtype)

    def infer(self, post: Outpost, items: npt.NDArray[Any], in_flight: int) -> Any:
        """Return the output for a block of items."""
        made = np.empty((len(items), *self.shape), self.dtype)
        pieces = list(self._pieces(items))
        results = post.infer_each((piece for _, piece in pieces), self.options, in_flight)
        with closing(results):  # a part that fails ends it: an error may be kept, with its frames
            for (part, _), result in zip(pieces, results, strict=True):
                first, last = part.start, min(part.stop, len(items)) - 1
                if isinstance(result, Exception):
                    if isinstance(result, TritonicError):
                        result.locate(f"{named(range(first, last + 1))} of a block")
                    raise result
                made[part] = self._values(result[self.output], 1 + last - first)
        return made

    def _pieces(self, items: npt.NDArray[Any]) -> Iterator[tuple[slice, Any]]:
        """Give what goes in one request, and where its results go."""
        for first in range(0, len(items), self.batch or 1):
            part = slice(first, first + (self.batch or 1))
            some = items[part]
            together = list(some) if self.listed else some
            yield part, together if self.batch else some[0]

    def _values(self, values: Any, count: int) -> npt.NDArray[Any]:
        """Return an output's values, checked to be one for each item."""
        array = np.asarray(values)
        array = array if self.batch else array[np.newaxis]
        fits = len(array.shape) == 1 + len(self.shape) and all(
            want in (-1, have) for have, want in zip(array.shape[1:], self.shape, strict=True)
        )
        if not fits or len(array) != count:
            raise TensorShapeError(
                f"output {self.output!r} is {list(array.shape)} for {count} items, and "
                f"{[count, *self.shape]} is needed: the same for each item",
                "map_blocks is for outputs of one size; use Session.map for others",
            )
        return array


@dataclass(frozen=True)
class _Order:
    """What is done with a block; it is sent to whoever computes it."""

    spec: Parcel
    block: _Block
    in_flight: int
    keep_s: float

    def __call__(self, items: npt.NDArray[Any]) -> Any:
        array = np.asarray(items)
        try:
            return self._done(array)
        except ServerUnreachableError as error:
            _log.warning("%s; the block is done again, with a session opened anew", error.message)
        return self._done(array)

    def _done(self, items: npt.NDArray[Any]) -> Any:
        with outpost(self.spec, self.keep_s) as post:
            try:
                return self.block.infer(post, items, self.in_flight)
            except ServerUnreachableError:
                post.give_up()
                raise


def _recipe(
    session: Session | SessionSpec, server: ServerPlace | None, secrets: bool | None
) -> SessionSpec:
    if isinstance(session, Session):
        return session.spec_with_secrets().for_workers(server, secrets=secrets)
    if not isinstance(session, SessionSpec):
        raise ArgumentError(f"{brief(session)} is no session", "give a Session, or its spec")
    return session if server is None else session.at(server)


@contextmanager
def _opened(session: Session | SessionSpec, spec: SessionSpec, keep_s: float) -> Iterator[Session]:
    """Give a session to look at the model with."""
    if isinstance(session, Session):
        yield session
        return
    with outpost(Parcel.of(spec, "the session's recipe"), keep_s) as post:
        yield post.session


def _dask_array(array: Any) -> Any:
    try:
        import dask.array
    except ImportError as error:
        raise ArgumentError(
            f"map_blocks needs Dask, which is not installed here: {error}",
            "pip install 'tritonic-nb[dask]'",
        ) from error
    # An xarray.DataArray has a Dask array as its data; asking a NumPy array gives its buffer.
    found = array if isinstance(array, dask.array.Array) else getattr(array, "data", None)
    if not isinstance(found, dask.array.Array):
        raise ArgumentError(
            f"a {type(array).__name__} is no Dask array",
            "dask.array.from_array(array, chunks=...) or from_zarr(...) makes one; of an "
            "xarray.DataArray, .chunk(...)",
        )
    if not found.ndim:
        raise ArgumentError("the array has no axis of items", "give one item for each row")
    return found


def _only_input(model: ModelSpec) -> TensorSpec:
    if len(model.inputs) != 1:
        raise TensorNameError(
            f"model {model.name!r} has {len(model.inputs)} inputs, and map_blocks gives it one "
            "array",
            "use Session.map with mappings, each of an array for each input",
        )
    return next(iter(model.inputs.values()))


def _chosen_output(model: ModelSpec, name: str | None) -> TensorSpec:
    if name is not None:
        return model.output(name)
    if len(model.outputs) != 1:
        raise TensorNameError(
            f"model {model.name!r} has {len(model.outputs)} outputs",
            f"name one: map_blocks(..., output=...), of {', '.join(model.outputs)}",
        )
    return next(iter(model.outputs.values()))
