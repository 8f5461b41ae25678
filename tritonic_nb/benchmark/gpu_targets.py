"""The targets for a GPU: what is to be reached, and what was. All are ratios of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tritonic_nb.benchmark.copy_rates import CopyRate
from tritonic_nb.benchmark.rounds import Series
from tritonic_nb.benchmark.targets import LARGE_NBYTES, Target

__all__ = ["DEVICE_NBYTES", "evaluate_gpu"]

DEVICE_NBYTES = 64_000_000
_SMALL_NBYTES = 65_536  # at most

# What, one rate, the other, the limit of their ratio, and its unit.
_RATES = (
    ("from session.inputs / the link", "pinned_in", "link_in", 85.0, "%"),
    ("from an ordinary array / the link", "array_in", "link_in", 85.0, "%"),
    ("write / tritonclient's, rate", "array_in", "client_in", 2.0, "x"),
    ("read / tritonclient's, rate", "array_out", "client_out", 2.0, "x"),
)


def evaluate_gpu(
    sizes: Mapping[int, Mapping[str, Series]], copies: Mapping[int, Mapping[str, CopyRate]]
) -> Iterator[Target]:
    """Compare the targets with what was measured.

    Parameters
    ----------
    sizes
        By the tensor's bytes and the way's key.
    copies
        By bytes and the copy's key.
    """
    large = sizes.get(DEVICE_NBYTES, {})
    for other, what, limit in (("system", "system, host arrays", 5.0), ("wire", "the wire", 20.0)):
        yield Target(
            f"64 MB: {what} / CUDA, device to device",
            limit, False, "x", _ratio(large, other, "cuda_device"),
        )  # fmt: skip
    rates = copies.get(LARGE_NBYTES, {})
    for what, over, under, limit, unit in _RATES:
        measured = None
        if over in rates and under in rates:
            measured = rates[over].gb_per_s / rates[under].gb_per_s
            measured *= 100.0 if unit == "%" else 1.0
        yield Target(f"24 MB: {what}", limit, False, unit, measured)
    smallest = min(sizes, default=0)
    small = sizes.get(smallest, {}) if smallest <= _SMALL_NBYTES else {}
    yield Target(
        "small: CUDA / system, host to host, own copies",
        1.1, True, "x", _ratio(small, "cuda", "system"),
    )  # fmt: skip


def _ratio(series: Mapping[str, Series], over: str, under: str) -> float | None:
    if over not in series or under not in series:
        return None
    return series[over].median_ms / series[under].median_ms
