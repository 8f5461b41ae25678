"""Which way a tensor should go: ways compared, swept over sizes, and explained by stage."""

from __future__ import annotations

from tritonic_nb.measuring.advice import Advice, Recommendation, advise
from tritonic_nb.measuring.comparison import (
    LONGEST_S,
    Comparison,
    Measured,
    checked_effort,
    checked_seconds,
    compare,
)
from tritonic_nb.measuring.estimates import Ratio
from tritonic_nb.measuring.explanation import ExplainedWay, Explanation, explain
from tritonic_nb.measuring.lane import Bench
from tritonic_nb.measuring.resized import in_batch, of_size
from tritonic_nb.measuring.sweep import Crossing, Sweep, checked_sizes, crossing_of, sweep
from tritonic_nb.measuring.way import WAYS, Way

__all__ = [
    "LONGEST_S",
    "WAYS",
    "Advice",
    "Bench",
    "Comparison",
    "Crossing",
    "ExplainedWay",
    "Explanation",
    "Measured",
    "Ratio",
    "Recommendation",
    "Sweep",
    "Way",
    "advise",
    "checked_effort",
    "checked_seconds",
    "checked_sizes",
    "compare",
    "crossing_of",
    "explain",
    "in_batch",
    "of_size",
    "sweep",
]
