"""Where the time of a small inference goes."""

from __future__ import annotations

import cProfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import numpy as np

from tritonic_nb.benchmark.endpoint import Endpoint
from tritonic_nb.benchmark.session_ways import SessionCopies
from tritonic_nb.benchmark.ways import opened

__all__ = ["HotPath", "Row", "profile"]

_CALLS = 500
_LAPS = ("prepare_ms", "copy_in_ms", "request_ms", "copy_out_ms", "total_ms")


@dataclass(frozen=True)
class Row:
    """One function: its calls for each inference, and its time in microseconds.

    `own_us` is spent in the function itself, `whole_us` with all that it calls. The
    profiler makes Python's functions slower, and what they wait for not.
    """

    function: str
    calls: float
    own_us: float
    whole_us: float


@dataclass(frozen=True)
class HotPath:
    """Where the time of ``session.infer(x)`` goes.

    Attributes
    ----------
    laps_us
        The medians of the result's own timings, taken without a profiler.
    rows
        The functions, those with the most time of their own first.
    """

    laps_us: dict[str, float]
    rows: Sequence[Row]


def profile(endpoint: Endpoint, nbytes: int, count: int = 16) -> HotPath:
    """Profile the inference of one tensor, and list the `count` costliest functions."""
    with opened((SessionCopies,), endpoint, nbytes) as (way,):
        assert isinstance(way, SessionCopies)  # noqa: S101 - as it was asked for
        session, array = way.session, way.array
        timings = [session.infer(array).timings for _ in range(_CALLS)]
        profiler = cProfile.Profile()
        profiler.enable()
        for _ in range(_CALLS):
            session.infer(array)
        profiler.disable()
    laps = {
        lap.removesuffix("_ms"): float(np.median([getattr(each, lap) for each in timings]) * 1e3)
        for lap in _LAPS
    }
    return HotPath(laps, _rows(profiler)[:count])


def _rows(profiler: cProfile.Profile) -> list[Row]:
    rows = [
        Row(
            _name(entry.code),
            entry.callcount / _CALLS,
            entry.inlinetime * 1e6 / _CALLS,
            entry.totaltime * 1e6 / _CALLS,
        )
        for entry in profiler.getstats()
    ]
    return sorted(rows, key=lambda row: row.own_us, reverse=True)


def _name(code: str | CodeType) -> str:
    """Return a function's name, and of its path no more than the folder and the file."""
    if isinstance(code, str):  # one that is written in C
        return code.strip("<>")
    return f"{'/'.join(Path(code.co_filename).parts[-2:])} {code.co_name}"
