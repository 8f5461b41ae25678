"""What the project means to reach, compared with what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tritonic_nb.benchmark.depth import Throughput
from tritonic_nb.benchmark.overhead import Overhead
from tritonic_nb.benchmark.rounds import Series

__all__ = ["LARGE_NBYTES", "PICTURE_NBYTES", "Target", "evaluate"]

PICTURE_NBYTES = 602_112  # 1 x 3 x 224 x 224 x FP32
LARGE_NBYTES = 24_000_000
_SMALL_NBYTES = 65_536  # at most
_DEPTH = 4
_FLOOR = "socket"
_OURS = ("session", "session_in_place")
_SHORT = {
    "session": "Session, own copies",
    "session_in_place": "Session, in place",
    "client_shm": "tritonclient shm, a view",
    "client_shm_copy": "tritonclient shm, own copies",
    "client_http": "tritonclient HTTP",
    "socket": "bare socket",
}
# Size, one way, the other, the limit of their ratio, and whether it is to be at most that.
_COMPARISONS = (
    ("small", "session", "client_shm_copy", 0.6, True),
    ("small", "session", "socket", 1.25, True),
    ("602 kB", "session", "client_shm_copy", 0.75, True),
    ("24 MB", "session", "client_shm_copy", 1.0, True),
    ("24 MB", "session_in_place", "client_shm_copy", 0.75, True),
    ("24 MB", "session_in_place", "client_shm", 0.75, True),
    ("602 kB", "client_http", "session", 3.0, False),
    ("24 MB", "client_http", "session", 6.0, False),
)


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes
    ----------
    what
        What is compared with what.
    limit
        The figure to reach.
    at_most
        Whether `measured` is to be at most that, and not at least.
    unit
        ``"x"`` for a ratio, or ``"us"``.
    measured
        The figure; None where the run did not measure it.
    at_best
        What it would be if the session took no longer than the bare socket, which
        copies nothing: beyond that, it is the server that sets the figure. None where
        there is no such bound.
    """

    what: str
    limit: float
    at_most: bool
    unit: str
    measured: float | None
    at_best: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it was reached; None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit


def evaluate(
    sizes: Mapping[int, Mapping[str, Series]],
    overhead: Overhead | None,
    throughput: Sequence[Throughput],
) -> list[Target]:
    """Compare the targets with what was measured, by size and way and beyond."""
    return [*_by_size(sizes), *_by_depth(throughput), _added(overhead)]


def _by_size(sizes: Mapping[int, Mapping[str, Series]]) -> Iterator[Target]:
    smallest = min(sizes, default=0)
    named = {
        "small": sizes.get(smallest, {}) if smallest <= _SMALL_NBYTES else {},
        "602 kB": sizes.get(PICTURE_NBYTES, {}),
        "24 MB": sizes.get(LARGE_NBYTES, {}),
    }
    for size, over, under, limit, at_most in _COMPARISONS:
        series = named[size]
        yield Target(
            f"{size}: {_SHORT[over]} / {_SHORT[under]}",
            limit, at_most, "x",
            _ratio(series, over, under),
            _ratio(series, *(_FLOOR if key in _OURS else key for key in (over, under))),
        )  # fmt: skip


def _by_depth(throughput: Sequence[Throughput]) -> Iterator[Target]:
    by_model: Mapping[str, Throughput] = {each.model: each for each in throughput}
    for model, limit in (("waits", 1.6), ("computes", 1.0)):
        found = by_model.get(model)
        yield Target(
            f"map, {_DEPTH} in flight / sequential, a model that {model}",
            limit, False, "x", found.ratio(_DEPTH) if found else None,
        )  # fmt: skip


def _added(overhead: Overhead | None) -> Target:
    added = None if overhead is None else overhead.median_ms * 1e3
    return Target("what a session adds over the prepared request", 30.0, True, "us", added)


def _ratio(series: Mapping[str, Series], over: str, under: str) -> float | None:
    if over not in series or under not in series:
        return None
    return series[over].median_ms / series[under].median_ms
