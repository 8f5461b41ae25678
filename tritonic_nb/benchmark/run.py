"""One run of the benchmark, from the server's start to its report."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tritonic_nb.benchmark.bare_ways import BareSocket
from tritonic_nb.benchmark.depth import measure_throughput
from tritonic_nb.benchmark.endpoint import Endpoint, endpoint_at
from tritonic_nb.benchmark.hotpath import profile
from tritonic_nb.benchmark.machine import this_machine
from tritonic_nb.benchmark.memory import measure_memory
from tritonic_nb.benchmark.overhead import measure_overhead
from tritonic_nb.benchmark.report import Report
from tritonic_nb.benchmark.rounds import MOST_ROUNDS, Plan, run_rounds
from tritonic_nb.benchmark.targets import LARGE_NBYTES, PICTURE_NBYTES
from tritonic_nb.benchmark.ways import opened, ways_to
from tritonic_nb.memory import SharedMemoryType, require_supported
from tritonic_nb.render import human_bytes
from tritonic_nb.server import Server
from tritonic_nb.session import Session

__all__ = ["FULL", "QUICK", "Amount", "run"]

_PAIRS_OF_REGIONS = 7  # of the ways that have regions: they are open together


@dataclass(frozen=True)
class Amount:
    """How much is measured.

    Attributes
    ----------
    sizes
        Of the tensors, in bytes.
    seconds
        For the rounds of all sizes together; a few rounds there are in any case.
    rounds
        The most rounds of each size.
    connections
        Over which a session's own share is measured.
    depth_rounds, depth_items
        For requests in flight: the rounds, and the inferences of each.
    """

    sizes: tuple[int, ...]
    seconds: float
    rounds: int
    connections: int
    depth_rounds: int
    depth_items: int


FULL = Amount(
    sizes=(4096, 16_384, 65_536, PICTURE_NBYTES, 4_000_000, LARGE_NBYTES, 64_000_000),
    seconds=220.0,
    rounds=MOST_ROUNDS,
    connections=40,
    depth_rounds=5,
    depth_items=32,
)
"""Three to five minutes on two cores."""

QUICK = Amount(
    sizes=(4096, PICTURE_NBYTES, 4_000_000),
    seconds=5.0,
    rounds=6,
    connections=8,
    depth_rounds=1,
    depth_items=8,
)
"""Half a minute at most; its figures are only a first look."""


def run(
    amount: Amount,
    *,
    url: str | None = None,
    grpc_url: str | None = None,
    model: str = "identity_fp32",
    profiled: bool = False,
    progress: Callable[[str], None],
) -> Report:
    """Measure.

    Parameters
    ----------
    amount
        How much.
    url, grpc_url
        Another server than the embedded one, as ``host:port``.
    model
        One that answers one FP32 tensor of two dynamic dimensions with itself.
    profiled
        Whether to look where a small inference spends its time.
    progress
        Called with a line of text for each step.

    Raises
    ------
    SharedMemoryUnsupportedError
        If this is not Linux.
    TritonicError
        If the server, or a way to it, cannot be used.
    """
    require_supported(SharedMemoryType.SYSTEM)
    machine = this_machine()
    # Only the order in which ways take turns: the same one each time, so that runs compare.
    shuffle = random.Random(0)  # noqa: S311
    with endpoint_at(url, grpc_url, model) as (endpoint, server):
        ways, left_out = ways_to(endpoint)
        report = Report(endpoint, machine, ways, left_out=left_out)
        sizes = _fitting(amount, endpoint, server, report)
        _measure_sizes(sizes, amount, report, shuffle, progress)
        if not sizes:
            return report
        progress("what a session adds")
        report.overhead = measure_overhead(endpoint, sizes[0], amount.connections)
        progress("memory")
        whole = [way for way in ways if way is not BareSocket]  # which makes nothing of the reply
        report.memory[sizes[-1]] = measure_memory(whole, endpoint, sizes[-1])
        progress("requests in flight")
        report.throughput, missing = measure_throughput(
            server, rounds=amount.depth_rounds, items=amount.depth_items, shuffle=shuffle
        )
        report.left_out += [missing] if missing else []
        if profiled:
            progress("profile")
            report.hot_path = profile(endpoint, sizes[0])
    return report


def _measure_sizes(
    sizes: list[int],
    amount: Amount,
    report: Report,
    shuffle: random.Random,
    progress: Callable[[str], None],
) -> None:
    """Measure all ways size by size; what the small ones leave of the time is the large ones'."""
    until = time.perf_counter() + amount.seconds
    for index, nbytes in enumerate(sizes):
        progress(human_bytes(nbytes))
        seconds = (until - time.perf_counter()) / (len(sizes) - index)
        with opened(report.ways, report.endpoint, nbytes) as ways:
            plan = Plan(seconds, amount.rounds)
            report.sizes[nbytes] = run_rounds(ways, plan, shuffle)


def _fitting(
    amount: Amount, endpoint: Endpoint, server: Server | None, report: Report
) -> list[int]:
    """Return the sizes that there is room for, and tell the report of the others."""
    fitting = []
    for nbytes in sorted(amount.sizes):
        shape = (1, nbytes // 4)
        with Session(server or endpoint.url, endpoint.model, headers=endpoint.headers) as session:
            needed = session.preflight(
                {endpoint.input: shape, endpoint.output: shape}, in_flight=_PAIRS_OF_REGIONS
            )
        if needed:
            fitting.append(nbytes)
        else:
            report.left_out.append(
                f"{human_bytes(nbytes)} were left out: {'; '.join(needed.problems)}"
            )
    return fitting
