"""A map over many processes or machines: chunks of items go out, their results come back."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import threading
import time
from asyncio import CancelledError as AsyncCancelledError
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from tritonic_nb.crew import Crew
from tritonic_nb.errors import (
    ArgumentError,
    ExecutorError,
    ImageReadError,
    ServerError,
    ServerStartError,
    ServerUnreachableError,
    SharedMemoryError,
    TritonicError,
    brief,
    check_whole,
)
from tritonic_nb.images import Pictures
from tritonic_nb.outposts import KEEP_S, Outpost, outpost
from tritonic_nb.parcel import Parcel
from tritonic_nb.recipe import SessionSpec
from tritonic_nb.render import Progress
from tritonic_nb.result import InferenceResult
from tritonic_nb.tensors import ModelSpec

__all__ = [
    "CHUNK",
    "Order",
    "check_repeatable",
    "checked_limits",
    "checked_order",
    "do_chunk",
    "named",
    "spread",
]

CHUNK = 16
"""How many items go to a worker together, unless somebody says."""

_WAKE_S = 0.2  # how long Ctrl-C may go unnoticed: its signal may come to another thread
_ASK_AGAIN_S = 1.0  # how many workers there are: clusters grow
_MOST_CHUNK_NBYTES = 8_000_000  # of arrays: Dask warns of more, as all of it passes its scheduler

_log = logging.getLogger("tritonic_nb.session")


@dataclass(frozen=True)
class Order:
    """What is done with each item; the same for all chunks.

    Attributes
    ----------
    spec
        The recipe of the worker's session.
    how
        The options of each inference, and what is applied to its result, or None.
    in_flight
        How many of a chunk are on their way at the same time.
    keep_s
        How long a worker keeps its session.
    """

    spec: Parcel
    how: Parcel
    in_flight: int
    keep_s: float


def checked_order(
    spec: SessionSpec,
    options: Mapping[str, Any],
    reduce: Callable[[InferenceResult], Any] | None,
    keep_s: float | None,
) -> Order:
    """Return an order, if it is one that can be sent.

    Raises
    ------
    ArgumentError
        If something of it is not.
    """
    if reduce is not None and not callable(reduce):
        raise ArgumentError(f"reduce is {brief(reduce)}", "give a function of one result")
    if keep_s is not None and not (isinstance(keep_s, int | float) and 0 <= keep_s < float("inf")):
        raise ArgumentError(f"keep_s is {brief(keep_s)}", "give seconds, from 0")
    return Order(
        Parcel.of(spec, "the session's recipe, with its server,"),
        Parcel.of((dict(options), reduce), "what is to be done with each item"),
        spec.in_flight,
        KEEP_S if keep_s is None else float(keep_s),
    )


def checked_limits(model: ModelSpec, chunk: int, ahead: int | None) -> tuple[int, int | None]:
    """Return how many items go together, and how many such chunks are on their way.

    Raises
    ------
    ArgumentError
        If these are no such numbers, or the model keeps sequences.
    """
    check_whole(chunk, 1, "chunk", "give how many items go to a worker together")
    if ahead is not None:
        check_whole(ahead, 1, "ahead", "give how many chunks may be on their way")
    check_repeatable(model)
    return chunk, ahead


def check_repeatable(model: ModelSpec) -> None:
    """Refuse a model with sequences: a lost worker's requests are sent again, in any order.

    Raises
    ------
    ArgumentError
        If it is one.
    """
    if model.stateful:
        raise ArgumentError(
            f"model {model.name!r} has sequences, whose requests must come in order and once",
            "use Session.map without an executor",
        )


# What a worker does


@dataclass(frozen=True)
class _Failed:
    """What is given for an item that failed."""

    error: Exception


@dataclass(frozen=True)
class _Done:
    """What came of a chunk's items, in order.

    A class of its own, so that Dask sends all of it in one piece.
    """

    values: list[Any]


def do_chunk(order: Order, items: list[Any]) -> _Done:
    """Do a chunk of items with this process's session; in a worker.

    Where the server of that session has gone, the items that got no answer are done once
    more, with a session opened anew; if there can be none, that is what is wrong with them.

    Parameters
    ----------
    order
        What to do.
    items
        The items.

    Raises
    ------
    TritonicError
        If the session cannot be opened. What is wrong with an item is its value.
    """
    values: list[Any] = [None] * len(items)
    left = _do(order, items, values, range(len(items)))
    if left:
        try:
            _do(order, items, values, left)
        except TritonicError as error:  # what was done is given, and what was not has its error
            _log.warning("no session could be opened anew: %s", error)
    return _Done(values)


def _do(order: Order, items: list[Any], values: list[Any], numbers: Sequence[int]) -> list[int]:
    """Do some items, and return those that got no answer, as their server has gone."""
    options, reduce = order.how.open()
    if reduce is None:
        options.pop("copy", None)  # what travels is a copy
    with _outpost(order) as post:
        results = post.infer_each((items[at] for at in numbers), options, order.in_flight)
        for at, result in zip(numbers, results, strict=True):
            values[at] = _kept(result, reduce)
        left = [at for at in numbers if _got_no_answer(values[at])]
        if left:
            _log.warning("the server at %s has gone; its session is given up", post.session.url)
            post.give_up()
    return left


@contextmanager
def _outpost(order: Order) -> Iterator[Outpost]:
    """Give this process's session; where it cannot be opened, say on which machine."""
    with ExitStack() as leaving:
        try:
            post = leaving.enter_context(outpost(order.spec, order.keep_s))
        except TritonicError as error:
            error.locate(f"on {socket.gethostname()}")
            raise
        except Exception as error:  # the user's function
            raise ServerStartError(
                f"on {socket.gethostname()}: the function that gives the server failed: "
                f"{type(error).__name__}: {error}",
                "try it there alone",
            ) from error
        yield post


def _kept(result: Any, reduce: Callable[[InferenceResult], Any] | None) -> Any:
    """Return what is sent back for an item."""
    if isinstance(result, Exception):
        # What is wrong there may be right elsewhere.
        if isinstance(result, ServerError | SharedMemoryError | ImageReadError):
            result.locate(f"on {socket.gethostname()}")
        return _Failed(_portable(result))
    if reduce is None:
        # A photo is larger than its file, which the caller has.
        return replace(result, images=())
    try:
        return reduce(result)
    except Exception as error:
        return _Failed(_portable(error))


def _portable(error: Exception) -> Exception:
    """Return an error that another process can read, without the frames that it came through."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what was just pickled
    except Exception:  # its class takes other arguments, or holds what cannot be sent
        return TritonicError(f"{type(error).__name__}: {error}")
    return error


def _got_no_answer(value: Any) -> bool:
    return isinstance(value, _Failed) and isinstance(value.error, ServerUnreachableError)


# What the caller does


@dataclass(eq=False)
class _Task:
    """A chunk on its way."""

    first: int
    items: list[Any]
    future: Any = None

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + len(self.items))


def spread(
    crew: Crew,
    order: Order,
    items: Iterator[Any],
    progress: Progress,
    *,
    limits: tuple[int, int | None],
    ordered: bool,
    return_exceptions: bool,
    dismiss: bool,
) -> Iterator[Any]:
    """Have items done by the workers of an executor, in chunks, and give what comes of them.

    Parameters
    ----------
    crew
        The workers.
    order
        What is done with each item.
    items
        Taken when there is room.
    progress
        Is told of each, and how it ended.
    limits
        How many items go to a worker together (fewer where their arrays are large); and how many
        such chunks are at most sent and not yet given, None for two for each worker.
    ordered
        Whether results come in the order of the items, or else as they come, each with its
        item's number.
    return_exceptions
        Whether an error is given in its place, instead of raised.
    dismiss
        Whether the workers are told at the end to close their sessions.

    Raises
    ------
    ExecutorError
        If the executor does not do some items.
    Exception
        What is wrong with an item, in its place; and what `items` raised, after the results
        of those before.
    """
    chunk, ahead = limits
    room, bell = _Room(crew, ahead, order.in_flight), threading.Event()
    waiting: deque[_Task] = deque()
    values: deque[Any] = deque()
    given, more = 0, True
    failure: Exception | None = None
    made: Exception | None = None
    with progress, closing(_chunks(items, chunk)) as chunks:
        try:
            while True:
                if more and len(waiting) < room.now():
                    try:
                        _submit(crew, order, next(chunks), waiting, bell)
                    except StopIteration:
                        more = False
                    except Exception as error:
                        more, failure = False, error
                if not waiting and not more:
                    break
                # Each turn sends one and gives one, as soon as one is there or no more may be sent.
                full = not more or len(waiting) >= room.now()
                ended = _ended(waiting, ordered, bell if full else None)
                if ended is None:
                    continue
                values.extend(_values(ended, given))
                for number in ended.numbers:
                    result = [_result(values.popleft(), number, return_exceptions)]
                    given += 1
                    progress.step()
                    yield result.pop() if ordered else (number, result.pop())
                del ended
        finally:
            values.clear()  # an error that is kept keeps this frame, and should keep no results
            _finish(crew, order, waiting, dismiss=dismiss)
        if failure is not None:
            try:
                if isinstance(failure, _Refused):  # by now it is known how many were given
                    made = _executor_error(failure.cause, failure.numbers, given)
                    raise made from failure.cause
                raise failure
            finally:
                failure = made = None  # its traceback has this frame


class _Refused(Exception):  # noqa: N818 - it stays in here
    """The executor did not take a chunk."""

    def __init__(self, numbers: range, cause: Exception) -> None:
        super().__init__()
        self.numbers = numbers
        self.cause = cause


class _Room:
    """How many chunks may be on their way; a cluster may grow meanwhile."""

    def __init__(self, crew: Crew, given: int | None, unknown: int) -> None:
        self._crew = crew
        self._given = given
        self._known = max(unknown, 2)
        self._asked = -_ASK_AGAIN_S

    def now(self) -> int:
        if self._given is not None:
            return self._given
        if time.monotonic() - self._asked >= _ASK_AGAIN_S:
            # Two for each, so that none waits for its next.
            with suppress(Exception):  # of a scheduler that is away
                self._known = 2 * self._crew.size() or self._known
            self._asked = time.monotonic()
        return self._known


def _chunks(items: Iterator[Any], most: int) -> Generator[_Task, None, None]:
    """Give chunks of items, which were not sent yet."""
    first, chunk, nbytes = 0, list[Any](), 0
    failure: Exception | None = None
    while True:
        try:
            chunk.append(next(items))
        except StopIteration:
            break
        except Exception as error:  # after what was taken before
            failure = error
            break
        nbytes += _nbytes_of(chunk[-1])
        if len(chunk) == most or nbytes >= _MOST_CHUNK_NBYTES:
            yield _Task(first, chunk)
            first, chunk, nbytes = first + len(chunk), [], 0
    if chunk:
        yield _Task(first, chunk)
    if failure is not None:
        raise failure


def _nbytes_of(item: Any) -> int:
    """Return the bytes of the arrays and pictures in an item."""
    if isinstance(item, Mapping):
        return sum(map(_nbytes_of, item.values()))
    if isinstance(item, list | tuple):
        return sum(map(_nbytes_of, item))
    if isinstance(item, Image.Image):  # it travels with its pixels
        return item.width * item.height * len(item.getbands())
    if isinstance(item, bytes | bytearray):
        return len(item)
    return item.nbytes if isinstance(item, np.ndarray) else 0


def _submit(
    crew: Crew, order: Order, task: _Task, waiting: deque[_Task], bell: threading.Event
) -> None:
    waiting.append(task)  # first: an interrupt is to find it
    try:
        task.future = crew.submit(do_chunk, order, task.items)
    except Exception as error:
        waiting.remove(task)
        raise _Refused(task.numbers, error) from error
    task.future.add_done_callback(lambda _: bell.set())


def _ended(waiting: deque[_Task], ordered: bool, bell: threading.Event | None) -> _Task | None:
    """Take a chunk that has ended: the first, or any; wait for it if there is a bell."""
    while True:
        if bell is not None:
            bell.clear()  # before it looks, so that none is missed
        for task in (waiting[0],) if ordered else tuple(waiting):
            if task.future.done():
                waiting.remove(task)
                return task
        if bell is None:
            return None
        bell.wait(_WAKE_S)


def _values(task: _Task, given: int) -> list[Any]:
    """Return what came of the items of a chunk that has ended."""
    try:
        values: list[Any] = task.future.result().values
        task.future = None  # and a cluster need not keep them any more
    except TritonicError as error:  # no session: the same for all of them
        error.locate(named(task.numbers))
        raise
    except (Exception, AsyncCancelledError) as error:
        failed = _executor_error(error, task.numbers, given)
        if isinstance(error, BrokenExecutor):  # nor does it do any others
            raise failed from error
        failed.__cause__ = error
        return [_Failed(failed) for _ in task.numbers]
    return [_with_pictures(value, item) for value, item in zip(values, task.items, strict=True)]


def _result(value: Any, number: int, return_exceptions: bool) -> Any:
    """Return what is given for an item, or raise its error."""
    if not isinstance(value, _Failed):
        return value
    error = value.error
    if isinstance(error, ExecutorError):  # says which
        pass
    elif isinstance(error, TritonicError):
        error.locate(f"item {number}")
    elif hasattr(error, "add_note"):  # from Python 3.11 on
        error.add_note(f"item {number}")
    if return_exceptions:
        return error
    try:
        raise error
    finally:
        del error, value  # its traceback has this frame: they would keep one another


def _executor_error(error: BaseException, numbers: range, given: int) -> ExecutorError:
    """Return our error for one of an executor, about a chunk."""
    name = type(error).__name__
    if isinstance(error, BrokenExecutor):
        message = f"a worker died, and with it the executor ({name}): {named(numbers)} and all "
        message += f"others that were not given are not done; {given} were given before"
        remedy = "make a new executor and map the rest; Dask does a lost worker's items again"
    else:
        said = _in_short(error)
        told = f"{name}: {said}" if said else name
        message = f"{named(numbers)} were not done: {told}"
        remedy = (
            "the executor's own log tells more; an item on which workers die must be left out, and "
            "what reduce returns must be something that can be pickled"
        )
    made = ExecutorError(message, remedy)
    made.items, made.given = numbers, given
    return made


def _in_short(error: BaseException) -> str:
    """Return an error's text; of a traceback that Dask puts in, what it is and what it comes to."""
    lines = [" ".join(line.split()) for line in str(error).strip().splitlines()]
    return f"{lines[0]} … {lines[-1]}" if "Traceback" in str(error) else " ".join(lines)


def named(numbers: range) -> str:
    """Name items by their numbers, for a message."""
    return f"items {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"item {numbers[0]}"


def _with_pictures(value: Any, item: Any) -> Any:
    """Return a result with the pictures that went in, which did not travel back."""
    if not isinstance(value, InferenceResult) or value.transform is None or value.images:
        return value
    sources = item if isinstance(item, list | tuple) else (item,)
    return replace(value, images=Pictures(sources)) if all(map(_is_picture, sources)) else value


def _is_picture(source: Any) -> bool:
    """Whether it can be read as one picture here, as far as its kind tells."""
    if isinstance(source, np.ndarray):
        return source.ndim == 2 or (source.ndim == 3 and source.shape[-1] in (1, 3, 4))
    return isinstance(source, str | bytes | os.PathLike | Image.Image)


def _finish(crew: Crew, order: Order, waiting: deque[_Task], *, dismiss: bool) -> None:
    """Cancel what has not begun, and have the workers close their sessions."""
    futures = [task.future for task in waiting if task.future is not None]
    waiting.clear()
    try:
        crew.cancel(futures)
        if dismiss:
            crew.dismiss(order.spec.digest)
    # A cluster that has gone; its sessions end with their processes.
    except (Exception, AsyncCancelledError) as error:
        _log.info("the workers were not told that the map has ended: %r", error)
