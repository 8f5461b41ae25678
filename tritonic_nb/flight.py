"""Many inferences, several at a time, and their results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tritonic_nb.errors import ArgumentError, SessionClosedError, TritonicError, brief, check_whole
from tritonic_nb.frames import Frame
from tritonic_nb.render import Progress
from tritonic_nb.result import InferenceResult
from tritonic_nb.tensors import ModelSpec
from tritonic_nb.workers import Job, Task, Workers

__all__ = [
    "checked_in_flight",
    "checked_items",
    "in_flight_of",
    "in_order",
    "jobs_of",
    "jobs_of_frames",
]

_MOST_IN_FLIGHT = 256  # each has a thread and regions


def in_order(
    jobs: Generator[Job, None, None],
    most: int,
    progress: Progress,
    *,
    return_exceptions: bool = False,
    numbered: bool = True,
) -> Generator[InferenceResult, None, None]:
    """Do jobs, several at a time, and give their results in order.

    Parameters
    ----------
    jobs
        Taken one by one, when there is room.
    most
        How many are at most taken and not yet given, and so on their way.
    progress
        Is told of each, and how it ended.
    return_exceptions
        Whether an error is given in its place, instead of raised.
    numbered
        Whether an error says which item it is about.

    Raises
    ------
    Exception
        What a job raised, in its place; and what `jobs` raised, after the results of
        those before.
    """
    taken: deque[Task] = deque()
    given, more, failure = 0, True, None
    # One at a time needs no other thread: the caller's does it.
    with progress, closing(jobs), closing(Workers(most if most > 1 else 0)) as workers:
        try:
            while True:
                if more and len(taken) < most:
                    try:
                        taken.append(workers.submit(next(jobs)))
                    except StopIteration:
                        more = False
                    except Exception as error:
                        more, failure = False, error
                if not taken and not more:
                    break
                # Each turn takes one and gives one, as soon as the first is there or no
                # more may be taken.
                if len(taken) == most or not more or taken[0].future.done():
                    result = [
                        _result(
                            workers,
                            taken.popleft(),
                            given if numbered else None,
                            return_exceptions,
                        )
                    ]
                    given += 1
                    progress.step()
                    yield result.pop()  # and keep nothing of it meanwhile
        finally:
            taken.clear()  # an error that is kept keeps this frame, and should keep no results
        if failure is not None:
            try:
                raise failure
            finally:
                failure = None  # its traceback has this frame


def _result(workers: Workers, task: Task, number: int | None, return_exceptions: bool) -> Any:
    """Return what came of a job, when it is done."""
    try:
        return workers.finish(task)
    except Exception as error:
        if isinstance(error, TritonicError) and number is not None:
            error.locate(f"item {number}")
        # A session that is closed answers no item any more, of which there may be no end.
        if not return_exceptions or isinstance(error, SessionClosedError):
            raise
        return error
    finally:
        del task  # an error's traceback has this frame: they would keep one another, and regions


def jobs_of(
    infer: Callable[..., InferenceResult], items: Iterable[Any], options: Mapping[str, Any]
) -> Generator[Job, None, None]:
    """Give an inference for each item, taken when it is asked for."""
    for item in items:
        yield partial(_infer_item, infer, item, options)


def _infer_item(
    infer: Callable[..., InferenceResult], item: Any, options: Mapping[str, Any]
) -> InferenceResult:
    if item is None:  # which would send what lies in session.inputs
        raise ArgumentError("None is no input", "give arrays, pictures, or mappings by name")
    return infer(item, **options)


def jobs_of_frames(
    infer: Callable[..., InferenceResult], frames: Iterable[Frame], options: Mapping[str, Any]
) -> Generator[Job, None, None]:
    """Give an inference for each frame, which is read when it is asked for."""
    for frame in frames:
        yield partial(_infer_frame, infer, frame, options)
        del frame


def _infer_frame(
    infer: Callable[..., InferenceResult], frame: Frame, options: Mapping[str, Any]
) -> InferenceResult:
    return replace(infer(frame.picture, **options), source=frame.source)


def checked_items(items: Any) -> tuple[Iterator[Any], int | None]:
    """Return an iterator over items, and how many they are where that is known.

    Raises
    ------
    ArgumentError
        If it is a single item, or none at all.
    """
    if isinstance(items, (str, bytes, bytearray, os.PathLike)):
        raise ArgumentError(
            f"the items are {brief(items)}, which is one",
            "give a list; for a folder, an animation or a video use session.stream(PATH)",
        )
    if isinstance(items, Mapping) or (isinstance(items, np.ndarray) and not items.ndim):
        raise ArgumentError(f"the items are {brief(items)}, which is one", "give a list of such")
    try:
        iterator = iter(items)
    except TypeError as error:
        raise ArgumentError(
            f"the items are {brief(items)}: {error}", "give a list, or anything iterable"
        ) from error
    total = None
    with suppress(Exception):  # a generator has no length, and others may say anything
        total = len(items)
    return iterator, total


def checked_in_flight(in_flight: int) -> int:
    """Return how many requests may be in flight.

    Raises
    ------
    ArgumentError
        If it is no such number.
    """
    remedy = f"give a whole number from 1 to {_MOST_IN_FLIGHT}"
    check_whole(in_flight, 1, "in_flight", remedy)
    if in_flight > _MOST_IN_FLIGHT:
        raise ArgumentError(f"in_flight is {brief(in_flight)}", remedy)
    return in_flight


def in_flight_of(model: ModelSpec, given: int | None, usual: int) -> int:
    """Return how many requests to a model may be in flight when order counts.

    Raises
    ------
    ArgumentError
        If more than one is asked for and the model has sequences.
    """
    most = usual if given is None else checked_in_flight(given)
    if not model.stateful or most == 1:
        return most
    if given is None:
        return 1
    raise ArgumentError(
        f"in_flight is {most} and model {model.name!r} has sequences: with several requests in "
        "flight their order at the server is not certain",
        "use in_flight=1, or session.submit() for different sequences",
    )
