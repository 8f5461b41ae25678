"""One inference on its way: what it goes by, what it asks, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.memory import Region, SharedMemoryType
from tritonic_nb.regions import Slot
from tritonic_nb.result import TensorPlace, Timings
from tritonic_nb.tensors import ModelSpec, TensorSpec, codec
from tritonic_nb.transport import InferRequest, InputTensor, RegionSlice, RequestedOutput

__all__ = ["Call", "Setup", "Stopwatch", "checked_timeout", "places_of"]

_LONGEST_TIMEOUT_S = 1e6  # eleven days


@dataclass(frozen=True)
class Setup:
    """What an inference goes by. Exchanged as a whole: others may be on their way."""

    kinds: Mapping[str, SharedMemoryType]
    device: int
    model: ModelSpec | None = None
    # The largest size seen of each output whose size the model does not tell.
    learned: dict[str, int] = field(default_factory=dict)

    @property
    def chosen(self) -> ModelSpec:
        """The model in use, or an error where none is."""
        if self.model is None:
            raise ArgumentError("no model is chosen", "choose one: session.use(MODEL)")
        return self.model


@dataclass
class Call:
    """One inference on its way: what it asks, whichever regions it gets."""

    setup: Setup
    tensors: Mapping[str, npt.NDArray[Any]]
    outputs: Sequence[TensorSpec]
    batch: int
    in_place: bool  # the inputs lie in their regions already
    lent: Mapping[str, Region]  # those regions
    options: Mapping[str, Any]
    room: dict[str, int] = field(default_factory=dict)  # of outputs in regions, in bytes

    @property
    def model(self) -> ModelSpec:
        """The model to ask."""
        return self.setup.chosen

    def known_nbytes(self, output: TensorSpec) -> int | None:
        """Return the bytes of an output, or None where the model does not tell."""
        shape = output.concrete_shape(batch=self.batch)
        return output.nbytes_of(shape) if shape is not None else None

    def request(self, slot: Slot) -> InferRequest:
        """Return the request with the regions that the slot has now."""
        inputs, outputs = [], []
        for name, array in self.tensors.items():
            part = slot.slice("input", name, codec.encoded_nbytes(array))
            datatype = self.model.input(name).datatype
            inputs.append(InputTensor(name, datatype, array.shape, None if part else array, part))
        for spec in self.outputs:
            part = slot.slice("output", spec.name, self.room.get(spec.name, 0))
            outputs.append(RequestedOutput(spec.name, part))
        return InferRequest(self.model.name, self.model.version, inputs, outputs, **self.options)


class Stopwatch:
    """Laps in milliseconds, and the time that is left."""

    def __init__(self, limit_s: float) -> None:
        self._started = self._last = time.perf_counter()
        self._limit_s = limit_s
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Note how long it was since the last lap."""
        now = time.perf_counter()
        self._laps[f"{name}_ms"] = (now - self._last) * 1e3
        self._last = now

    def left_s(self) -> float:
        """Return the time that is left, in seconds; always some, so that it is a limit."""
        return max(0.001, self._limit_s - (time.perf_counter() - self._started))

    def timings(self) -> Timings:
        """Return the laps."""
        return Timings(**self._laps, total_ms=(self._last - self._started) * 1e3)


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


def places_of(
    request: InferRequest,
    inputs: Mapping[str, npt.NDArray[Any]],
    outputs: Mapping[str, npt.NDArray[Any]],
) -> dict[tuple[str, str], TensorPlace]:
    """Return how each tensor travelled, by direction and name."""
    places = {}
    regions: dict[tuple[str, str], RegionSlice | None] = {
        **{("input", tensor.name): tensor.region for tensor in request.inputs},
        **{("output", output.name): output.region for output in request.outputs},
    }
    arrays = {("input", n): a for n, a in inputs.items()}
    arrays |= {("output", n): a for n, a in outputs.items()}
    for key, array in arrays.items():
        region = regions.get(key)
        nbytes = codec.encoded_nbytes(array)
        places[key] = TensorPlace(key[0], nbytes, region.name if region else "")
    return places
