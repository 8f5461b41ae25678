"""A model's counters at the server: how long its requests took there, by stage.

They are those of Triton's statistics extension (the server's
``docs/protocol/extension_statistics.md``), which counts in nanoseconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tritonic_nb.errors import TritonicError
from tritonic_nb.tensors import ModelSpec
from tritonic_nb.transport import Transport

__all__ = ["Counters", "ServerTimes"]

_LATE_S = 0.1  # the server answers before it has counted: for how long to wait for that
_POLL_S = 0.002
_SETTLED_S = 0.01
_NAMES = ("queue", "compute_input", "compute_infer", "compute_output", "success")


class ServerTimes(NamedTuple):
    """A request's time inside the server by its own counters, in milliseconds.

    The times are the mean of so many `requests`; where that is 0, the server tells nothing.
    """

    queue_ms: float
    compute_input_ms: float
    compute_ms: float
    compute_output_ms: float
    total_ms: float
    requests: int


class Counters:
    """What a model's counters tell of the time since they were looked at last.

    Parameters
    ----------
    transport
        The way to the server.
    model
        The model. Of one whose version the server chooses, all versions count.
    """

    def __init__(self, transport: Transport, model: ModelSpec) -> None:
        self._transport = transport
        self._model = model
        self._last: ServerTimes | None = None

    def settle(self) -> None:
        """Wait until requests that were answered before are counted."""
        until = time.monotonic() + _LATE_S
        self._last, before = self._now(), None
        while self._last is not None and self._last != before and time.monotonic() < until:
            time.sleep(_SETTLED_S)
            self._last, before = self._now(), self._last

    def since(self, count: int = 1) -> ServerTimes:
        """Return the mean of the requests since the last look.

        Parameters
        ----------
        count
            How many there were at least; it is waited a moment for them.
        """
        until = time.monotonic() + _LATE_S
        before, now = self._last, self._now()
        while before is not None and now is not None:
            if now.requests >= before.requests + count or time.monotonic() > until:
                break
            time.sleep(_POLL_S)
            now = self._now()
        self._last = now
        return _UNKNOWN if before is None or now is None else _between(before, now)

    def _now(self) -> ServerTimes | None:
        """Return all that was counted; None where the server does not tell."""
        try:
            return _counted(self._transport.model_statistics(self._model.name, self._model.version))
        except (TritonicError, AttributeError, TypeError, ValueError):  # or in another form
            return None


_UNKNOWN = ServerTimes(0.0, 0.0, 0.0, 0.0, 0.0, 0)


def _counted(statistics: Sequence[Mapping[str, Any]]) -> ServerTimes:
    """Add up the counters of a model's versions, in milliseconds."""
    told = [version.get("inference_stats", {}) for version in statistics]
    sums = [sum(float(each.get(name, {}).get("ns", 0)) for each in told) / 1e6 for name in _NAMES]
    requests = sum(int(each.get("success", {}).get("count", 0)) for each in told)
    return ServerTimes._make([*sums, requests])


def _between(before: ServerTimes, after: ServerTimes) -> ServerTimes:
    """Return the mean of what was counted between two looks."""
    count = after.requests - before.requests
    if count < 1:
        return _UNKNOWN
    means = [(late - early) / count for early, late in zip(before[:5], after[:5], strict=True)]
    return ServerTimes._make([*means, count])
