"""Throughput against the number of requests in flight, with ``Session.map``."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb import samples
from tritonic_nb.benchmark.rounds import quiet
from tritonic_nb.server import Server
from tritonic_nb.session import Session

__all__ = ["DEPTHS", "SEQUENTIAL", "Throughput", "measure_throughput"]

DEPTHS = (1, 2, 4, 8)
SEQUENTIAL = 0
"""Stands among the depths for ``session.infer`` in a plain loop."""

_WAIT_S = 0.02
_INSTANCES = 2
_CONFIG = f"""backend: "python"
max_batch_size: 0
input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ 1 ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 1 ] }} ]
instance_group [ {{ count: {_INSTANCES} kind: KIND_CPU }} ]
"""
_CODE = f'''"""Waits, as a model does that asks somebody else, and answers with its input."""

import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        time.sleep({_WAIT_S})
        tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", tensor)])
'''


@dataclass(frozen=True)
class Throughput:
    """Inferences per second of one model, for each round, by the number in flight.

    Attributes
    ----------
    model
        ``"waits"`` or ``"computes"``.
    what
        What the model does.
    per_second
        By depth, with :data:`SEQUENTIAL` among them.
    """

    model: str
    what: str
    per_second: Mapping[int, Sequence[float]]

    def median(self, depth: int) -> float:
        """Return the median over the rounds."""
        return float(np.median(self.per_second[depth]))

    def ratio(self, depth: int) -> float:
        """Return how many times as fast as sequential it is: the median over the rounds."""
        pairs = zip(self.per_second[depth], self.per_second[SEQUENTIAL], strict=True)
        return float(np.median([deep / plain for deep, plain in pairs]))


def measure_throughput(
    server: Server | None, *, rounds: int, items: int, shuffle: random.Random
) -> tuple[list[Throughput], str]:
    """Measure a model that waits and one that computes.

    Parameters
    ----------
    server
        The embedded server, to which the models are added; None for another.
    rounds
        How often each depth.
    items
        The inferences of one run.
    shuffle
        Gives the order within a round.

    Returns
    -------
    list of Throughput, str
        Empty with the reason where it cannot be measured.
    """
    if server is None:
        return [], "requests in flight were left out: only the embedded server takes the models"
    measured = []
    with _models(server) as models:
        for name, (model, what, item) in models.items():
            with server.session(model=model) as session:
                runs = _rounds(session, [item] * items, rounds, shuffle)
                measured.append(Throughput(name, what, runs))
    return measured, ""


@contextmanager
def _models(server: Server) -> Iterator[Mapping[str, tuple[str, str, npt.NDArray[Any]]]]:
    """Add both models, with what each does and what it is asked."""
    with tempfile.TemporaryDirectory(prefix="tritonic_nb_") as folder:
        waiting = Path(folder) / "benchmark_waits"
        (waiting / "1").mkdir(parents=True)
        (waiting / "1" / "model.py").write_text(_CODE)
        (waiting / "config.pbtxt").write_text(_CONFIG)
        server.add("benchmark_waits", waiting)
        server.add("benchmark_computes", samples.classifier())
        picture = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
        yield {
            "waits": (
                "benchmark_waits",
                f"waits {_WAIT_S * 1e3:.0f} ms, {_INSTANCES} instances",
                np.ones(1, np.float32),
            ),
            "computes": ("benchmark_computes", "the sample classifier, 1 instance", picture),
        }


def _rounds(
    session: Session, items: Sequence[npt.NDArray[Any]], rounds: int, shuffle: random.Random
) -> dict[int, list[float]]:
    depths = (SEQUENTIAL, *DEPTHS)
    per_second: dict[int, list[float]] = {depth: [] for depth in depths}
    with quiet():
        for depth in depths:  # regions and connections are there from now on
            _per_second(session, items, depth)
        for _ in range(rounds):
            for depth in shuffle.sample(depths, len(depths)):
                per_second[depth].append(_per_second(session, items, depth))
    return per_second


def _per_second(session: Session, items: Sequence[npt.NDArray[Any]], depth: int) -> float:
    started = time.perf_counter()
    if depth == SEQUENTIAL:
        for item in items:
            session.infer(item)
    else:
        for _ in session.map(items, in_flight=depth, progress=False):
            pass
    return len(items) / (time.perf_counter() - started)
