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
    """

    what: str
    limit: float
    at_most: bool
    unit: str
    measured: float | None

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
    small = sizes.get(smallest, {}) if smallest <= _SMALL_NBYTES else {}
    picture, large = sizes.get(PICTURE_NBYTES, {}), sizes.get(LARGE_NBYTES, {})
    own = "session", "client_shm_copy"
    comparisons: Sequence[tuple[str, float, Mapping[str, Series], tuple[str, str]]] = (
        ("small: Session, own copies / tritonclient shm, own copies", 0.6, small, own),
        ("small: Session, own copies / bare socket", 1.25, small, ("session", "socket")),
        ("602 kB: Session, own copies / tritonclient shm, own copies", 0.75, picture, own),
        ("24 MB: Session, own copies / tritonclient shm, own copies", 1.0, large, own),
        (
            "24 MB: Session, in place / tritonclient shm, a view",
            0.75, large, ("session_in_place", "client_shm"),
        ),
    )  # fmt: skip
    for what, limit, series, (ours, theirs) in comparisons:
        yield Target(what, limit, True, "x", _ratio(series, ours, theirs))
    for what, limit, series in (("602 kB", 3.0, picture), ("24 MB", 6.0, large)):
        faster = _ratio(series, "client_http", "session")
        yield Target(f"{what}: tritonclient HTTP / Session, own copies", limit, False, "x", faster)


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
