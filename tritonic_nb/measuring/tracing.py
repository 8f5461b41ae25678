"""Triton's own trace of a model's requests: when each passed which stage inside the server.

The server writes its traces to a file of its machine (the server's ``docs/user_guide/trace.md``),
with times of the clock that Python calls ``perf_counter``, so that they can be laid beside
the client's own, where both are on one machine. The setting is the model's, and is put back.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tritonic_nb.errors import TritonicError
from tritonic_nb.transport import Transport, is_loopback

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
    """The traces that a server writes while they are on."""

    def __init__(self, file: Path, model: str) -> None:
        self._file = file
        self._model = model
        self._before = set(self._files())

    def take(self, count: int) -> list[Traced]:
        """Return the traces since the last time, in the order of their coming.

        Parameters
        ----------
        count
            How many there should be; it is waited a second for them.
        """
        found: dict[Path, Traced | None] = {}
        until = time.monotonic() + _LATE_S
        while sum(each is not None for each in found.values()) < count:
            for path in self._files():
                if path not in self._before and path not in found:
                    with contextlib.suppress(OSError, ValueError):  # still being written
                        found[path] = _read(path.read_text(encoding="utf-8"), self._model)
            if time.monotonic() > until:
                break
            time.sleep(_POLL_S)
        self.clear()
        traced = [each for each in found.values() if each is not None]
        return sorted(traced, key=lambda each: each.queued)

    def clear(self) -> None:
        """Remove the files that were written since it is on."""
        for path in self._files():
            if path not in self._before:
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        name = re.compile(rf"{re.escape(self._file.name)}\.\d+")
        try:
            return [each for each in self._file.parent.iterdir() if name.fullmatch(each.name)]
        except OSError:
            return []


@contextlib.contextmanager
def trace_log(transport: Transport, model: str) -> Iterator[TraceLog | None]:
    """Have a server trace a model's requests, where it can and its file is ours to read.

    Gives None where the server does not trace, is elsewhere, or writes to a folder of
    somebody else's; or where tracing is on already, for others.
    """
    try:
        settings = transport.trace_settings(model)
    except TritonicError:  # it cannot, or does not let us
        settings = {}
    file = _file_of(transport, settings)
    if file is None:
        yield None
        return
    log = TraceLog(file, model)
    try:
        transport.update_trace(model, _SETTINGS)
    except TritonicError:
        yield None
        return
    try:
        yield log
    finally:
        try:
            transport.update_trace(model, dict.fromkeys(_SETTINGS))
        finally:
            log.clear()


def _file_of(transport: Transport, settings: Mapping[str, list[str]]) -> Path | None:
    """Return the file that a server writes its traces to, if it is ours."""
    # Triton's times are of the system's monotonic clock; so must ours be.
    if "CLOCK_MONOTONIC" not in time.get_clock_info("perf_counter").implementation:
        return None
    named = settings.get("trace_file", [""])[0]
    if settings.get("trace_level") != ["OFF"] or settings.get("trace_mode") != ["triton"]:
        return None
    if not named or not is_loopback(urlsplit(transport.url).hostname or ""):
        return None
    file = Path(named)
    try:
        ours = file.is_absolute() and file.parent.stat().st_uid == os.getuid()
    except OSError:
        return None
    return file if ours else None


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
