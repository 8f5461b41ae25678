"""How sure the verdicts of ``Session.compare`` and the crossings of ``Session.sweep`` are.

The same comparisons again and again, on a model that answers with what it gets: a way with
itself, which should find no difference; two ways, which should come to the same verdict each
time; and the ratios and the crossing that the benchmark's own rounds find in the same run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tritonic_nb.benchmark.endpoint import Endpoint, endpoint_at
from tritonic_nb.benchmark.rounds import Plan, run_rounds
from tritonic_nb.benchmark.session_ways import SessionCopies, SessionWire
from tritonic_nb.benchmark.way import tensor
from tritonic_nb.benchmark.ways import opened
from tritonic_nb.measuring import Crossing, crossing_of
from tritonic_nb.render import human_bytes
from tritonic_nb.session import Session

__all__ = ["Sureness", "measure_sureness", "sureness_text"]

_SIZES = (4096, 602_112, 4_000_000)
_SWEPT = (1024, 4096, 16_384, 65_536, 262_144, 1_000_000)
_SAME, _VERDICTS, _SWEEPS = 20, 10, 3
_SECONDS = 3.0  # of a comparison, at most


@dataclass
class Sureness:
    """What came of the comparisons.

    Attributes
    ----------
    same
        For each size, in how many of the runs a way with itself was called no difference.
    verdicts
        For each size, how often each way was called the fastest; ``""`` for none.
    ratios
        For each size, the ratio of each comparison divided by the benchmark's.
    crossings
        Of each sweep, and of the benchmark's rounds just before it.
    runs
        How many runs of each there were.
    """

    same: dict[int, int] = field(default_factory=dict)
    verdicts: dict[int, Counter[str]] = field(default_factory=dict)
    ratios: dict[int, list[float]] = field(default_factory=dict)
    crossings: list[tuple[Crossing, Crossing]] = field(default_factory=list)
    runs: tuple[int, int, int] = (_SAME, _VERDICTS, _SWEEPS)


def measure_sureness(
    progress: Callable[[str], None],
    *,
    runs: tuple[int, int, int] = (_SAME, _VERDICTS, _SWEEPS),
    seconds: float = _SECONDS,
) -> Sureness:
    """Measure with an embedded server; some five minutes.

    Parameters
    ----------
    progress
        Called with a line of text for each step.
    runs
        How often a way with itself, two ways, and sweeps.
    seconds
        Of one comparison, at most.
    """
    found = Sureness(runs=runs)
    same, verdicts, sweeps = runs
    with (
        endpoint_at(None, None, "identity_fp32") as (endpoint, _),
        Session(endpoint.url, endpoint.model, headers=endpoint.headers) as session,
    ):
        for nbytes in _SIZES:
            array = tensor(nbytes)
            progress(f"a way with itself, {human_bytes(nbytes)}")
            alike = [
                session.compare(array, ("system", "system"), seconds=seconds, progress=False)
                for _ in range(same)
            ]
            found.same[nbytes] = sum("no difference" in each.verdict for each in alike)
            progress(f"two ways, {human_bytes(nbytes)}")
            by_rounds = _ratio(endpoint, nbytes, seconds)
            compared = [
                session.compare(array, ("none", "system"), seconds=seconds, progress=False)
                for _ in range(verdicts)
            ]
            found.verdicts[nbytes] = Counter(each.fastest or "" for each in compared)
            found.ratios[nbytes] = [each["system"].ratio.value / by_rounds for each in compared]
        for number in range(sweeps):
            progress(f"sweep {number + 1}")
            ratios = [_ratio(endpoint, nbytes, seconds) for nbytes in _SWEPT]
            swept = session.sweep(
                tensor(4096), sizes=_SWEPT, ways=("none", "system"), progress=False,
                seconds=seconds * len(_SWEPT),
            )  # fmt: skip
            found.crossings.append((swept.crossings["system"], crossing_of(_SWEPT, ratios)))
    return found


def sureness_text(found: Sureness) -> str:
    """Return what was found as tables in Markdown."""
    same, verdicts, _ = found.runs
    rows = [
        f"| {human_bytes(nbytes)} | {count} of {same} | {_verdicts(found.verdicts[nbytes])} of "
        f"{verdicts} | {_range(found.ratios[nbytes])} |"
        for nbytes, count in found.same.items()
    ]
    sweeps = [
        f"| {_size(mine)} | {_size(rounds)} | {_times(mine, rounds)} |"
        for mine, rounds in found.crossings
    ]
    return "\n".join(
        [
            "| tensor | a way with itself: no difference | two ways: the same verdict | "
            "ratio, of the benchmark's |",
            "|---|---|---|---|",
            *rows,
            "",
            "| crossing by sweep | by the benchmark's rounds | ratio |",
            "|---|---|---|",
            *sweeps,
        ]
    )


def _ratio(endpoint: Endpoint, nbytes: int, seconds: float) -> float:
    """Return how many times as fast shared memory is by the benchmark's own rounds."""
    shuffle = random.Random(0)  # noqa: S311 - an order, and no secret
    with opened((SessionWire, SessionCopies), endpoint, nbytes) as ways:
        series = run_rounds(ways, Plan(seconds), shuffle)
    return series[SessionWire.key].median_ms / series[SessionCopies.key].median_ms


def _verdicts(counts: Mapping[str, int]) -> str:
    most = max(counts, key=lambda name: counts[name])
    return f"{most or 'no difference'} in {counts[most]}"


def _range(ratios: Sequence[float]) -> str:
    return f"{np.min(ratios):.2f} to {np.max(ratios):.2f}"


def _size(found: Crossing) -> str:
    if found.found:
        return human_bytes(round(found.size))
    return "below all sizes" if found.size == 0 else "above all sizes"


def _times(mine: Crossing, rounds: Crossing) -> str:
    both = mine.found and rounds.found
    if both:
        return f"{mine.size / rounds.size:.2f}"
    return "" if mine.found or rounds.found else "the same"
