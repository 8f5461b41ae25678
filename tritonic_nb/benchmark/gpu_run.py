"""One run of the benchmark with a GPU, from the server's start to its report."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tritonic_nb.benchmark.copy_rates import measure_copies
from tritonic_nb.benchmark.endpoint import Endpoint, endpoint_at
from tritonic_nb.benchmark.gpu_report import Gpu, GpuReport
from tritonic_nb.benchmark.gpu_targets import DEVICE_NBYTES
from tritonic_nb.benchmark.gpu_ways import ways_to_device
from tritonic_nb.benchmark.machine import this_machine
from tritonic_nb.benchmark.rounds import Plan, run_rounds
from tritonic_nb.benchmark.targets import LARGE_NBYTES, PICTURE_NBYTES
from tritonic_nb.benchmark.ways import opened
from tritonic_nb.errors import NoSpaceError
from tritonic_nb.memory import SharedMemoryType, device_memory, require_supported
from tritonic_nb.render import human_bytes
from tritonic_nb.server import Server
from tritonic_nb.session import Session

__all__ = ["FULL", "MODEL", "QUICK", "GpuAmount", "measure", "run_gpu"]

MODEL = "identity_fp32_device"
"""The teaching model that leaves a tensor where it lies."""

_SYSTEM_PAIRS = 2  # of regions, of the ways that have them: they are open together
_CUDA_PAIRS = 6  # with the tensors that two ways have on the device besides


@dataclass(frozen=True)
class GpuAmount:
    """How much is measured.

    Attributes
    ----------
    sizes
        Of the tensors, in bytes.
    seconds
        For the rounds of all sizes together; a few rounds there are in any case.
    rounds
        The most rounds of each size.
    copy_sizes, copy_rounds
        For the rates of copies: how much, and how often.
    """

    sizes: tuple[int, ...]
    seconds: float
    rounds: int
    copy_sizes: tuple[int, ...]
    copy_rounds: int


FULL = GpuAmount(
    sizes=(4096, 65_536, PICTURE_NBYTES, 4_000_000, LARGE_NBYTES, DEVICE_NBYTES, 256_000_000),
    seconds=200.0,
    rounds=40,
    copy_sizes=(PICTURE_NBYTES, LARGE_NBYTES, 256_000_000),
    copy_rounds=30,
)
"""Five minutes."""

QUICK = GpuAmount(
    sizes=(4096, PICTURE_NBYTES, DEVICE_NBYTES),
    seconds=10.0,
    rounds=6,
    copy_sizes=(LARGE_NBYTES,),
    copy_rounds=10,
)
"""Half a minute; its figures are only a first look."""


def run_gpu(
    amount: GpuAmount,
    *,
    device: int = 0,
    url: str | None = None,
    grpc_url: str | None = None,
    model: str = MODEL,
    progress: Callable[[str], None],
) -> GpuReport:
    """Measure.

    Parameters
    ----------
    amount
        How much.
    device
        The CUDA device.
    url, grpc_url
        Another server than the embedded one, as ``host:port``.
    model
        One that answers one FP32 tensor of two dynamic dimensions with itself, and
        leaves it on the device.
    progress
        Called with a line of text for each step.

    Raises
    ------
    NoCudaDeviceError
        If there is no such device.
    TritonicError
        If the server, or a way to it, cannot be used.
    """
    require_supported(SharedMemoryType.CUDA, device)
    with endpoint_at(url, grpc_url, model) as (found, server):
        return measure(replace(found, device=device), server, amount, progress)


def measure(
    endpoint: Endpoint,
    server: Server | None,
    amount: GpuAmount,
    progress: Callable[[str], None],
) -> GpuReport:
    """Measure at a server that runs.

    Parameters
    ----------
    endpoint
        The server, the model and the device.
    server
        The embedded server, where it is that.
    amount, progress
        As for :func:`run_gpu`.
    """
    machine = this_machine("cuda-bindings")
    # Only the order in which ways take turns: the same one each time, so that runs compare.
    shuffle = random.Random(0)  # noqa: S311
    ways, left_out = ways_to_device()
    report = GpuReport(endpoint, machine, _gpu(endpoint), ways, left_out=left_out)
    for nbytes in amount.copy_sizes:
        progress(f"copies of {human_bytes(nbytes)}")
        try:
            report.copies[nbytes] = measure_copies(
                endpoint.device, nbytes, amount.copy_rounds, shuffle
            )
        except NoSpaceError as error:
            left_out.append(f"copies of {human_bytes(nbytes)}: {error.message}")
    sizes = _fitting(amount, endpoint, server, left_out)
    until = time.perf_counter() + amount.seconds
    for index, nbytes in enumerate(sizes):
        progress(human_bytes(nbytes))
        seconds = (until - time.perf_counter()) / (len(sizes) - index)
        with opened(ways, endpoint, nbytes) as them:
            report.sizes[nbytes] = run_rounds(them, Plan(seconds, amount.rounds), shuffle)
    return report


def _gpu(endpoint: Endpoint) -> Gpu:
    """Return what is known of the device."""
    with Session(endpoint.url, headers=endpoint.headers, shared_memory="none") as session:
        devices = session.devices()
    _, nbytes = device_memory(endpoint.device)
    for each in devices:
        if each.cuda_index == endpoint.device:
            return Gpu(each.name, each.driver, nbytes)
    return Gpu(f"CUDA device {endpoint.device}", "", nbytes)


def _fitting(
    amount: GpuAmount, endpoint: Endpoint, server: Server | None, left_out: list[str]
) -> list[int]:
    """Return the sizes that there is room for, and tell of the others."""
    fitting = []
    with Session(
        server or endpoint.url, endpoint.model, headers=endpoint.headers, shared_memory="none"
    ) as session:
        for nbytes in sorted(amount.sizes):
            shapes = dict.fromkeys((endpoint.input, endpoint.output), (1, nbytes // 4))
            problems = [
                problem
                for kind, pairs in (("system", _SYSTEM_PAIRS), ("cuda", _CUDA_PAIRS))
                for problem in session.preflight(
                    shapes, in_flight=pairs, shared_memory=kind, device=endpoint.device
                ).problems
            ]
            if problems:
                left_out.append(f"{human_bytes(nbytes)}: {'; '.join(problems)}")
            else:
                fitting.append(nbytes)
    return fitting
