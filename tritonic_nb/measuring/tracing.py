"""Triton's own trace of a model's requests: when each passed which stage inside the server.

A server writes its traces to a file of its machine (the server's ``docs/user_guide/trace.md``),
with times of the clock that Python calls ``perf_counter``, so that they can be laid beside the
client's own. Only a server of this process is traced: its file lies in a folder that nobody
else has. The setting is the model's, and is put back.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonic_nb.errors import TritonicError
from tritonic_nb.transport import Transport

__all__ = ["TraceLog", "Traced", "trace_log"]

_LATE_S = 1.0  # for how long to wait for traces of requests that were answered
_POLL_S = 0.005
_SETTINGS = {
    "trace_level": ["TIMESTAMPS"],
    "trace_rate": ["1"],
    "trace_count": ["-1"],
    "log_frequency": ["1"],  # each trace is written at once, to a file of its own
}
_STAGES = (
    "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END",
)  # fmt: skip
# What reading a file raises that is still being written, or is none of the server's.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)

_log = logging.getLogger("tritonic_nb.measuring")


@dataclass(frozen=True)
class Traced:
    """When one request passed the stages inside the server, in seconds of ``perf_counter``.

    Attributes
    ----------
    queued, computing, input_ready, output_begun, computed
        It came to the queue; a model's instance took it; its inputs were there; the model
        was done; its outputs were there, and the server's books done: the reply may have
        begun to go out a moment before.
    """

    queued: float
    computing: float
    input_ready: float
    output_begun: float
    computed: float


class TraceLog:
    """The traces of a model that a server writes while they are on.

    Parameters
    ----------
    file
        The server's trace file; each trace is one beside it, with a number at its end.
    model
        The model. Other models' traces stay where they are.
    """

    def __init__(self, file: Path, model: str) -> None:
        self._file = file
        self._model = model
        self._before = set(self._files())
        self._found: dict[Path, Traced | None] = {}

    def take(self, count: int) -> list[Traced]:
        """Return the traces of the model's requests, in the order of their coming.

        Parameters
        ----------
        count
            How many there should be; it is waited a second for them.
        """
        until = time.monotonic() + _LATE_S
        while len(self._traces()) < count and time.monotonic() < until:
            self._look()
            time.sleep(_POLL_S)
        return sorted(self._traces(), key=lambda each: each.queued)

    def clear(self) -> None:
        """Remove the files of the model's traces."""
        self._look()
        for path, traced in self._found.items():
            if traced is not None:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def _traces(self) -> list[Traced]:
        return [each for each in self._found.values() if each is not None]

    def _look(self) -> None:
        for path in self._files():
            if path not in self._before and path not in self._found:
                with contextlib.suppress(*_UNREADABLE):
                    self._found[path] = _read(path.read_text(encoding="utf-8"), self._model)

    def _files(self) -> list[Path]:
        name = re.compile(rf"{re.escape(self._file.name)}\.\d+")
        try:
            return [each for each in self._file.parent.iterdir() if name.fullmatch(each.name)]
        except OSError:
            return []


@contextlib.contextmanager
def trace_log(
    transport: Transport, model: str, trace_file: Path | None
) -> Iterator[TraceLog | None]:
    """Have a server trace a model's requests.

    Parameters
    ----------
    transport
        The way to the server.
    model
        The model.
    trace_file
        The file that a server of this process writes its traces to; None for another server.

    Yields
    ------
    TraceLog or None
        None where the server is another one, does not trace, or traces the model already for
        somebody else.
    """
    before = _to_restore(transport, model, trace_file)
    if before is None or trace_file is None:
        yield None
        return
    log = TraceLog(trace_file, model)
    try:
        yield log if _switched_on(transport, model) else None
    finally:
        try:
            _restore(transport, model, before)
        finally:
            log.clear()


def _switched_on(transport: Transport, model: str) -> bool:
    try:
        transport.update_trace(model, _SETTINGS)
    except TritonicError as error:
        _log.debug("model %s is not traced: %s", model, error)
        return False
    return True


def _restore(transport: Transport, model: str, before: Mapping[str, list[str] | None]) -> None:
    """Put a model's setting back, also where it is interrupted meanwhile."""
    try:
        transport.update_trace(model, before)
    except TritonicError as error:  # the server has gone, and its setting with it
        _log.debug("the trace setting of model %s was not put back: %s", model, error)
    except BaseException:
        with contextlib.suppress(TritonicError):
            transport.update_trace(model, before)
        raise


def _to_restore(
    transport: Transport, model: str, trace_file: Path | None
) -> dict[str, list[str] | None] | None:
    """Return what is to be put back afterwards, or None where the model is not to be traced.

    A setting that is as it is for all models becomes None, which means just that.
    """
    # Triton's times are of the system's monotonic clock; so must ours be.
    if trace_file is None or (
        "CLOCK_MONOTONIC" not in time.get_clock_info("perf_counter").implementation
    ):
        return None
    try:
        common, own = transport.trace_settings(), transport.trace_settings(model)
    except TritonicError:  # it cannot, or does not let us
        return None
    if own.get("trace_file") != [str(trace_file)] or own.get("trace_mode") != ["triton"]:
        return None
    now = {name: own.get(name) for name in _SETTINGS}
    if now == _SETTINGS:  # left by one that was interrupted again and again
        return dict.fromkeys(_SETTINGS)
    if now["trace_level"] != ["OFF"]:
        return None
    return {name: None if value == common.get(name) else value for name, value in now.items()}


def _read(text: str, model: str) -> Traced | None:
    """Return the trace in a file, or None where it is another model's, or no inference's."""
    names: dict[Any, str] = {}
    children: set[Any] = set()
    times: dict[Any, dict[str, float]] = defaultdict(dict)
    for part in json.loads(text):
        which = part["id"]
        if "model_name" in part:
            names[which] = part["model_name"]
        if "parent_id" in part:
            children.add(which)
        for each in part.get("timestamps", ()):
            times[which][each["name"]] = each["ns"] / 1e9
    for which, found in times.items():
        if names.get(which) == model and which not in children and found.keys() >= set(_STAGES):
            return Traced(*(found[name] for name in _STAGES))
    return None
