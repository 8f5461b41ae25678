"""One inference on its way: what it goes by, what it asks, and how long it may take."""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy.typing as npt

from tritonic_nb.choice import Choice
from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.memory import DeviceArray, Region, SharedMemoryType, Tensor
from tritonic_nb.regions import RegionSet, Slot
from tritonic_nb.result import TensorPlace, Timings
from tritonic_nb.routine import ReadyRequest, Routine, Routines
from tritonic_nb.tensors import ModelSpec, codec
from tritonic_nb.transport import (
    InferRequest,
    InputTensor,
    Moments,
    PreparedRequest,
    RegionSlice,
    RequestedOutput,
    SSLOptions,
    Transport,
)

__all__ = ["Call", "Link", "Options", "Setup", "Stopwatch", "checked_timeout", "places_of"]

_LONGEST_TIMEOUT_S = 1e6  # eleven days


@dataclass(frozen=True, eq=False)
class Link:
    """The way to one server, and the regions that are registered there.

    Attributes
    ----------
    transport
        The way.
    protocol
        ``"http"`` or ``"grpc"``.
    regions
        The regions.
    address, headers, ssl
        What the way was made of, for another one like it. Secrets.
    held
        The place of those that the user fills in place.
    """

    transport: Transport
    protocol: str
    regions: RegionSet
    address: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssl: SSLOptions | None = None
    held: Slot = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "held", self.regions.slot(held=True))

    def close(self) -> None:
        """Remove the regions and close the connections; safe to repeat, and to interrupt."""
        try:
            self.regions.close()
        finally:
            self.transport.close()


@dataclass(frozen=True, eq=False)
class Setup:
    """What an inference goes by. Exchanged as a whole: others may be on their way."""

    link: Link
    kinds: Mapping[str, SharedMemoryType]
    device: int
    # What was given as the server. Kept: a Server that nobody holds stops.
    owner: object = field(default=None, repr=False)
    load: bool = False  # whether a model that is not loaded is loaded on demand
    server: Mapping[str, Any] = field(default_factory=dict)  # what it says of itself
    model: ModelSpec | None = None
    unchosen: str = ""  # why no model is in use, where another server's was
    # The largest size seen of each output whose size the model does not tell.
    learned: dict[str, int] = field(default_factory=dict)
    choice: Choice | None = None  # where the way was left to the session
    routines: Routines = field(default_factory=Routines, init=False, compare=False)

    def kind(self, direction: str) -> SharedMemoryType:
        """Return how inputs or outputs travel, whoever chose it."""
        asked = self.kinds[direction]
        if asked is not SharedMemoryType.AUTO:
            return asked
        return SharedMemoryType.NONE if self.choice is None else self.choice.kind

    @property
    def chosen(self) -> ModelSpec:
        """The model in use, or an error where none is."""
        if self.model is None:
            why = f": {self.unchosen}" if self.unchosen else ""
            raise ArgumentError(f"no model is chosen{why}", "choose one: session.use(MODEL)")
        return self.model


class Options(NamedTuple):
    """What a request carries besides its tensors, as Triton's protocol has it."""

    request_id: str = ""
    sequence_id: int | str = 0
    sequence_start: bool = False
    sequence_end: bool = False
    priority: int = 0
    parameters: Mapping[str, Any] = {}

    @property
    def none_given(self) -> bool:
        """Whether all are the defaults."""
        # The very objects: what a caller gave may be anything, and compare as it likes.
        return all(map(operator.is_, self, _NO_OPTIONS))


_NO_OPTIONS = Options()


@dataclass
class Call:
    """One inference on its way: what it asks, whichever regions it gets."""

    setup: Setup
    model: ModelSpec
    tensors: Mapping[str, Tensor]
    routine: Routine
    lent: Mapping[str, Region]  # the regions in which inputs lie already
    in_place: bool  # whether the inputs are those that the user fills in place
    options: Options
    room: dict[str, int] = field(default_factory=dict)  # of outputs in regions, in bytes

    def request(self, slot: Slot) -> InferRequest:
        """Return the request with the regions that the slot has now."""
        inputs, outputs = [], []
        for name, array in self.tensors.items():
            part = slot.slice("input", name, codec.encoded_nbytes(array))
            datatype = self.model.input(name).datatype
            by_wire = None if part else _in_host_memory(array)
            inputs.append(InputTensor(name, datatype, array.shape, by_wire, part))
        for spec in self.routine.outputs:
            part = slot.slice("output", spec.name, self.room.get(spec.name, 0))
            outputs.append(RequestedOutput(spec.name, part))
        return InferRequest(
            self.model.name, self.model.version, inputs, outputs, **self.options._asdict()
        )

    def resume(self, slot: Slot) -> ReadyRequest | None:
        """Return a request that is ready, with its regions in the slot, or None."""
        if not self.options.none_given:
            return None
        ready = self.routine.resume(slot, self.lent)
        if ready is not None:
            self.room.update(ready.room)
        return ready

    def ready(
        self,
        slot: Slot,
        prepared: PreparedRequest,
        places: Mapping[tuple[str, str], TensorPlace],
    ) -> ReadyRequest | None:
        """Return the request to be kept for the next time, or None where it is of no use then.

        Parameters
        ----------
        slot
            The slot, still with its regions.
        prepared
            The request.
        places
            How its tensors travelled, as far as they came.
        """
        request = prepared.request
        by_wire = any(tensor.region is None for tensor in request.inputs)
        # An output may get a region the next time, if it has a size by then.
        on_trial = any(
            output.region is None
            and self.setup.kind("output") is not SharedMemoryType.NONE
            and self.routine.known_nbytes[output.name] != 0
            for output in request.outputs
        )
        if by_wire or on_trial or not self.options.none_given:
            return None
        lent = {("input", name) for name in self.lent}
        own = {key: region for key, region in slot.regions.items() if key not in lent}
        known = self.routine.known_nbytes
        complete = len(places) == len(self.tensors) + len(known)  # a model may leave one out
        fixed = complete and None not in known.values()
        room = dict(self.room)
        return ReadyRequest(prepared, own, self.lent, room, places if fixed else None)


class Stopwatch:
    """Laps in milliseconds, and the time that is left."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._laps = [time.perf_counter()]

    def lap(self) -> None:
        """Note the end of a stage: in turn those of :class:`~tritonic_nb.result.Timings`."""
        self._laps.append(time.perf_counter())

    def left_s(self) -> float:
        """Return the time that is left, in seconds; always some, so that it is a limit."""
        return max(0.001, self._limit_s - (time.perf_counter() - self._laps[0]))

    def timings(self, moments: Moments) -> Timings:
        """Return the times of the four stages, of all of it, and of the exchange's parts.

        Parameters
        ----------
        moments
            When the request went and its reply came.
        """
        begun, prepared, written, answered, ended = self._laps
        return Timings(
            (prepared - begun) * 1e3,
            (written - prepared) * 1e3,
            (answered - written) * 1e3,
            (ended - answered) * 1e3,
            (ended - begun) * 1e3,
            (moments.begun - written) * 1e3,
            (moments.sent - moments.begun) * 1e3,
            (moments.first - moments.sent) * 1e3,
            (moments.last - moments.first) * 1e3,
            (answered - moments.last) * 1e3,
            begun,
        )


def checked_timeout(timeout: float) -> float:
    """Return a time limit in seconds.

    Raises
    ------
    ArgumentError
        If it is none.
    """
    try:
        seconds = float(timeout)
    except Exception:  # whatever it is, it is asked for a number
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_TIMEOUT_S or isinstance(timeout, str):
        raise ArgumentError(
            f"timeout {brief(timeout)} is no number of seconds above 0 and up to "
            f"{_LONGEST_TIMEOUT_S:g}",
            "give seconds, such as 60",
        )
    return seconds


def _in_host_memory(array: Tensor) -> npt.NDArray[Any]:
    return array.to_numpy() if isinstance(array, DeviceArray) else array


def places_of(
    request: InferRequest, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> dict[tuple[str, str], TensorPlace]:
    """Return how each tensor travelled, by direction and name."""
    regions: dict[tuple[str, str], RegionSlice | None] = {
        **{("input", tensor.name): tensor.region for tensor in request.inputs},
        **{("output", output.name): output.region for output in request.outputs},
    }
    return {
        (direction, name): _place(
            direction,
            codec.encoded_nbytes(array),
            region.name if (region := regions.get((direction, name))) else "",
            region.device if region else None,
        )
        for direction, arrays in (("input", inputs), ("output", outputs))
        for name, array in arrays.items()
    }


_place = lru_cache(maxsize=256)(TensorPlace)  # the same again and again
