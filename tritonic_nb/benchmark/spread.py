"""A map over a Dask cluster on this machine, beside what one would write by hand."""

from __future__ import annotations

import logging
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb import samples
from tritonic_nb.benchmark.large import LIMIT_NBYTES, Large, measure_large
from tritonic_nb.benchmark.rounds import quiet
from tritonic_nb.errors import ArgumentError, ServerRefusedError
from tritonic_nb.memory.shm_file import KEY_PREFIX, SHM_DIR
from tritonic_nb.render import human_bytes
from tritonic_nb.result import InferenceResult
from tritonic_nb.server import Server, serve
from tritonic_nb.session import Session

__all__ = ["FULL", "QUICK", "SpreadAmount", "SpreadReport", "measure_spread"]

_CHUNK = 16
_MODEL = "classifier"


@dataclass(frozen=True)
class SpreadAmount:
    """How much is measured.

    Attributes
    ----------
    pictures
        In each run.
    workers
        The cluster's processes, each with a server.
    rounds
        Of the map and the loop by hand, in turns.
    small
        Items for the overhead.
    nbytes
        Of the large data set.
    """

    pictures: int = 2000
    workers: int = 2
    rounds: int = 3
    small: int = 2000
    nbytes: int = 4 * 10**9


FULL = SpreadAmount()
QUICK = SpreadAmount(pictures=96, rounds=1, small=160, nbytes=5 * 10**7)


@dataclass
class SpreadReport:
    """What came of it.

    Attributes
    ----------
    amount
        How much was measured.
    map_per_s, loop_per_s
        Pictures per second of each round, over the cluster and by hand.
    overhead_ms
        For one item beyond its inference, with one worker and one request at a time: of a tensor
        of 4 kB, and of a path.
    killed_s, plain_s
        Seconds for all pictures with a worker killed half-way, and without.
    large
        Of the data set that is larger than its process.
    """

    amount: SpreadAmount
    map_per_s: list[float]
    loop_per_s: list[float]
    overhead_ms: dict[str, float]
    killed_s: float
    plain_s: float
    large: Large

    @property
    def ratio(self) -> float:
        """How many times as fast as the loop by hand the map is: the median over the rounds."""
        pairs = zip(self.map_per_s, self.loop_per_s, strict=True)
        return statistics.median(one / other for one, other in pairs)

    def text(self) -> str:
        """Return it as lines for a terminal."""
        amount = self.amount
        rounds = ", ".join(
            f"{one:.1f} to {other:.1f}"
            for one, other in zip(self.map_per_s, self.loop_per_s, strict=True)
        )
        return "\n".join(
            (
                f"{amount.pictures} pictures through the classifier, {amount.workers} Dask "
                f"workers with a server each, chunks of {_CHUNK}:",
                f"  pictures per second, session.map to a ThreadPoolExecutor loop: {rounds}",
                f"  ratio {self.ratio:.2f} (target: at least 0.9); all results equal",
                f"  with a worker killed half-way {self.killed_s:.1f} s instead of "
                f"{self.plain_s:.1f} s; each item once, nothing left",
                "overhead for an item beyond its inference (target: at most 2 ms):",
                *(f"  {what}: {ms:.2f} ms" for what, ms in self.overhead_ms.items()),
                f"{human_bytes(self.large.nbytes)} of pictures through a process limited to "
                f"{human_bytes(LIMIT_NBYTES)}: {self.large.seconds:.0f} s, at its peak "
                f"{human_bytes(self.large.peak_nbytes)} resident",
            )
        )


def measure_spread(amount: SpreadAmount, progress: Callable[[str], None]) -> SpreadReport:
    """Measure all of it.

    Parameters
    ----------
    amount
        How much.
    progress
        Told each step.

    Raises
    ------
    ArgumentError
        If Dask is not installed.
    ServerRefusedError
        If results are not what they should be, or something is left.
    """
    with _servers(amount.workers) as servers:
        with _bench(servers, amount) as bench, quiet():
            map_per_s, loop_per_s = bench.rounds(progress)
            progress("what an item costs beyond its inference")
            overhead_ms = bench.overhead()
            progress("a worker is killed half-way")
            killed_s = bench.with_a_kill()
        progress(f"{human_bytes(amount.nbytes)} through a process of {human_bytes(LIMIT_NBYTES)}")
        large = measure_large(servers[0], _MODEL, amount.nbytes)
    plain_s = amount.pictures / statistics.median(map_per_s)
    return SpreadReport(amount, map_per_s, loop_per_s, overhead_ms, killed_s, plain_s, large)


@contextmanager
def _bench(servers: Sequence[Server], amount: SpreadAmount) -> Iterator[_Bench]:
    """Give a cluster, and sessions with the servers that its workers have, too."""
    places = [(server.url, server.headers) for server in servers]
    with ExitStack() as closing:
        client = closing.enter_context(_client(amount.workers))
        sessions = [
            closing.enter_context(server.session(model=_MODEL, in_flight=2)) for server in servers
        ]
        yield _Bench(client, sessions, partial(_place_of_worker, places), amount)


class _Place:
    """A server as a session takes it: its address, and what opens its APIs."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.url = url
        self.headers = headers


def _place_of_worker(places: Sequence[tuple[str, dict[str, str]]]) -> _Place:
    """Return where the server of this Dask worker is."""
    from distributed import get_worker

    name = str(get_worker().name)
    return _Place(*places[int(name) if name.isdecimal() else 0])


@contextmanager
def _servers(count: int) -> Iterator[list[Server]]:
    with ExitStack() as stopping:
        made = []
        for _ in range(count):
            made.append(stopping.enter_context(serve(["identity_fp32"])))
            made[-1].add(_MODEL, samples.classifier())
        yield made
        for server in made:
            server.stop(0.0)  # nobody asks it any more


@contextmanager
def _client(workers: int) -> Iterator[Any]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise ArgumentError(
            f"there is no Dask: {error}", "pip install 'tritonic-nb[dask]'"
        ) from error
    made: Any = distributed  # whose functions have no types
    # As docs/spread.md advises: two threads, so that one chunk begins while another ends; and
    # without Dask's own setting of malloc, with which each large array is new memory.
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}),
        made.LocalCluster(
            n_workers=workers,
            threads_per_worker=2,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        made.Client(cluster) as client,
    ):
        yield client


@dataclass
class _Bench:
    """The cluster, a session with each server, and what tells a worker which is its own."""

    client: Any
    sessions: list[Session]
    server: Callable[[], _Place]
    amount: SpreadAmount

    @property
    def paths(self) -> list[Path]:
        """The pictures."""
        return list(islice(cycle(samples.images().values()), self.amount.pictures))

    def rounds(self, progress: Callable[[str], None]) -> tuple[list[float], list[float]]:
        """Return pictures per second over the cluster, and by hand, in turns."""
        map_per_s: list[float] = []
        loop_per_s: list[float] = []
        warm = self.paths[: 2 * _CHUNK * self.amount.workers]
        self._by_map(warm, keep_s=60.0)
        self._by_hand(warm)
        for number in range(self.amount.rounds):
            progress(f"round {number + 1} of {self.amount.rounds}: the map, and a loop by hand")
            ways = [self._by_map, self._by_hand]
            found = {}
            for way in ways if number % 2 else reversed(ways):
                started = time.perf_counter()
                results = way(self.paths)
                per_s = len(results) / (time.perf_counter() - started)
                (map_per_s if way == self._by_map else loop_per_s).append(per_s)
                found[way.__name__] = results
            one, other = found.values()
            if not all(map(np.array_equal, one, other)):
                raise ServerRefusedError("the map gave other results than the loop by hand")
        return map_per_s, loop_per_s

    def _by_map(self, paths: Sequence[Path], **options: Any) -> list[npt.NDArray[Any]]:
        results = self.sessions[0].map(
            paths, executor=self.client, server=self.server, chunk=_CHUNK, in_flight=2,
            outputs=["logits"], progress=False, **{"keep_s": 60.0, **options},
        )  # fmt: skip
        return [result["logits"] for result in results]

    def _by_hand(self, paths: Sequence[Path]) -> list[npt.NDArray[Any]]:
        def infer(number: int) -> npt.NDArray[Any]:
            session = self.sessions[number % len(self.sessions)]
            return session.infer(paths[number], outputs=["logits"])["logits"]

        with ThreadPoolExecutor(2 * len(self.sessions)) as pool:
            return list(pool.map(infer, range(len(paths))))

    def with_a_kill(self) -> float:
        """Return the seconds for all pictures where a worker is killed half-way."""
        pids = set(self.client.run(os.getpid).values())
        started = time.perf_counter()
        results = self.sessions[0].map(
            self.paths, executor=self.client, server=self.server, chunk=_CHUNK, in_flight=2,
            reduce=_best, ordered=False, progress=False,
        )  # fmt: skip
        given: list[tuple[int, int]] = list(islice(results, self.amount.pictures // 2))
        killed = min(pids)
        os.kill(killed, signal.SIGKILL)
        given += results
        seconds = time.perf_counter() - started
        pictures = list(samples.images().values())
        best = [_best(self.sessions[0].infer(path)) for path in pictures]
        once = sorted(number for number, _ in given) == list(range(self.amount.pictures))
        if not once or any(found != best[number % len(best)] for number, found in given):
            raise ServerRefusedError("not every item was given once with its result")
        if left := _left_of(pids):
            raise ServerRefusedError(f"the killed worker has left {', '.join(left)}")
        return seconds

    def overhead(self) -> dict[str, float]:
        """Return what an item costs beyond its inference: one worker, one request at a time."""
        one = self.client.get_executor(workers=[next(iter(self.client.nthreads()))])
        tensor = np.ones((1, 1024), np.float32)
        count = self.amount.small
        self.sessions[0].use("identity_fp32")
        found = {"a tensor of 4 kB, there and back": self._overhead([tensor] * count, one)}
        self.sessions[0].use(_MODEL)
        some = self.paths[: max(_CHUNK * 4, count // 10)]
        found["a picture's path, and its 1,000 scores back"] = self._overhead(
            some, one, outputs=["logits"]
        )
        return found

    def _overhead(self, items: Sequence[Any], executor: Any, **options: Any) -> float:
        given = {
            "executor": executor, "server": self.server, "chunk": _CHUNK, "in_flight": 1,
            "progress": False, "keep_s": 5.0, **options,
        }  # fmt: skip
        list(self.sessions[0].map(items[: 2 * _CHUNK], **given))
        started = time.perf_counter()
        inferences_ms = [result.timings.total_ms for result in self.sessions[0].map(items, **given)]
        took_ms = (time.perf_counter() - started) * 1e3
        return float(took_ms / len(items) - statistics.mean(inferences_ms))


def _best(result: InferenceResult) -> int:
    return result.top_k(1)[0].index


def _left_of(pids: set[int]) -> list[str]:
    """Return the regions of dead processes in /dev/shm, after two seconds for their janitors."""
    marks = tuple(f"{KEY_PREFIX}{pid}-" for pid in pids if not Path(f"/proc/{pid}").exists())
    for _ in range(40):
        left = [each.name for each in SHM_DIR.iterdir() if each.name.startswith(marks)]
        if not left or not marks:
            return []
        time.sleep(0.05)
    return left
