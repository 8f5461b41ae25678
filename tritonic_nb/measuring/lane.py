"""A lane: one way to a server, open for the inferences that are to be measured.

Lanes lie beside a session: they have its connections and its model, and regions of their own,
so that nothing of the session changes while they are there.
"""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tritonic_nb.call import Setup
from tritonic_nb.errors import ArgumentError, RestrictedApiError, SharedMemoryError
from tritonic_nb.measuring.way import Way, named_ways
from tritonic_nb.memory import require_supported
from tritonic_nb.regions import RegionSet
from tritonic_nb.result import InferenceResult

__all__ = ["Bench", "Lane", "Lanes"]

_tracing_allocations = threading.Lock()  # one at a time: it is the whole process's
_FIRST_INFERENCES = 2  # by the first one it may be found out how large an output is


@dataclass(frozen=True, eq=False)
class Lane:
    """One way, open.

    Attributes
    ----------
    name, way
        What it is called, and what it is.
    infer
        Runs the model once.
    regions
        Its regions.
    sample
        What an inference gave, in arrays of its own.
    typical_s
        What that took, in seconds.
    """

    name: str
    way: Way
    infer: Callable[[], InferenceResult]
    regions: RegionSet
    sample: InferenceResult
    typical_s: float

    @property
    def label(self) -> str:
        """What it is called in a sentence."""
        return self.way.label + self.name.removeprefix(self.way.name)

    @property
    def region_nbytes(self) -> int:
        """The bytes of its regions."""
        return sum(region.nbytes for region in self.regions.describe())

    def peak_nbytes(self) -> int | None:
        """Return how much Python allocates at most for one inference, in bytes.

        NumPy's arrays and all bytes that Python code makes count; what libraries allocate
        in C does not. Of other threads' allocations, those count too. None where somebody
        else traces allocations already, whose peak would be lost.
        """
        self.infer()  # over a connection that is there
        with _tracing_allocations:
            if tracemalloc.is_tracing():
                return None
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                self.infer()
                return max(0, tracemalloc.get_traced_memory()[1] - before)
            finally:
                tracemalloc.stop()


@dataclass(frozen=True)
class Lanes:
    """The ways that work here, open, and why the others do not."""

    open: Mapping[str, Lane]
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Bench:
    """What a session lends to those who measure.

    Attributes
    ----------
    setup
        What its inferences go by.
    infer
        Runs the model once by some setup with some inputs and options.
    new_regions, end_regions
        Make a set of regions at the server, and remove it.
    options
        How each inference is made: ``outputs``, ``copy``, ``transform``, ``timeout``.
    server_pids
        The server's processes, where they are known to be of this machine.
    trace_file
        Where a server of this process writes its traces.
    """

    setup: Setup
    infer: Callable[..., InferenceResult]
    new_regions: Callable[[], RegionSet]
    end_regions: Callable[[RegionSet], None]
    options: Mapping[str, Any]
    server_pids: Sequence[int] = ()
    trace_file: Path | None = None

    def reconnect(self) -> None:
        """Let the next inference open a new connection, where that costs little (HTTP)."""
        if self.setup.link.protocol == "http":
            self.setup.link.transport.close()

    @contextmanager
    def lanes(self, ways: Any, inputs: Any) -> Iterator[Lanes]:
        """Open ways, as far as they work here, and remove afterwards what they took.

        Parameters
        ----------
        ways
            As for :func:`~tritonic_nb.measuring.way.named_ways`.
        inputs
            What to infer with, as :meth:`Session.infer <tritonic_nb.Session.infer>` takes it.

        Raises
        ------
        SharedMemoryError, RestrictedApiError
            If none works: the error of the first.
        TritonicError
            If the model cannot be run with the inputs.
        """
        with self.open({name: (way, inputs) for name, way in named_ways(ways).items()}) as lanes:
            yield lanes

    @contextmanager
    def open(self, wanted: Mapping[str, tuple[Way, Any]]) -> Iterator[Lanes]:
        """Open lanes by name, each with its way and its inputs; otherwise as :meth:`lanes`."""
        if self.setup.chosen.stateful:
            raise ArgumentError(
                f"model {self.setup.chosen.name!r} keeps what requests of a sequence left: the "
                "same request cannot be sent to it again and again",
                "measure a model without sequence batching",
            )
        opened: dict[str, Lane] = {}
        refused: dict[str, SharedMemoryError | RestrictedApiError] = {}
        sets: list[RegionSet] = []
        try:
            for name, (way, inputs) in wanted.items():
                sets.append(self.new_regions())
                try:
                    opened[name] = self._open(name, way, sets[-1], inputs)
                except (SharedMemoryError, RestrictedApiError) as error:
                    refused[name] = error
            if not opened:
                raise next(iter(refused.values()))
            yield Lanes(opened, {name: error.message for name, error in refused.items()})
        finally:
            self._close(sets)

    def _close(self, sets: list[RegionSet]) -> None:
        """Remove the regions of all, whatever happens meanwhile.

        One that an interrupt left half removed goes with the session at the latest.
        """
        interrupted: BaseException | None = None
        for regions in reversed(sets):
            try:
                self.end_regions(regions)
            except BaseException as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted

    def _open(self, name: str, way: Way, regions: RegionSet, inputs: Any) -> Lane:
        before = self.setup
        for kind in {way.input, way.output}:
            require_supported(kind, before.device)
        link = replace(before.link, regions=regions)
        setup = replace(
            before,
            link=link,
            kinds={"input": way.input, "output": way.output},
            choice=None,
            learned={},
        )

        def infer() -> InferenceResult:
            return self.infer(setup, inputs, **self.options)

        for _ in range(_FIRST_INFERENCES):
            started = time.perf_counter()
            sample = self.infer(setup, inputs, **{**self.options, "copy": True})
            typical_s = time.perf_counter() - started
        return Lane(name, way, infer, regions, sample, typical_s)
