"""What a session adds to its request: the same request with and without it."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import numpy as np

from tritonic_nb.benchmark.bare_ways import Prepared
from tritonic_nb.benchmark.endpoint import Endpoint
from tritonic_nb.benchmark.rounds import quiet, timed_ms
from tritonic_nb.benchmark.session_ways import SessionCopies, transport_of
from tritonic_nb.benchmark.ways import opened
from tritonic_nb.transport import InferReply, PreparedRequest

__all__ = ["Overhead", "measure_overhead"]

_PAIRS = 10  # over each connection
_WARM_UPS = 2
_AT_HAND = 1000


@dataclass(frozen=True)
class Overhead:
    """What ``session.infer(x)`` takes longer than the prepared request, in milliseconds.

    Attributes
    ----------
    nbytes
        The bytes of the tensor.
    differences_ms
        One for each connection: of the medians of both, taken in turn over that one.
    at_hand_ms
        What ``session.infer(x)`` takes, both copies included, when the reply is there at
        once: the same code without a wait, in which a server on the same cores takes their
        caches.
    """

    nbytes: int
    differences_ms: list[float]
    at_hand_ms: float

    @property
    def median_ms(self) -> float:
        """The median over all connections."""
        return float(np.median(self.differences_ms))

    @property
    def spread_ms(self) -> tuple[float, float]:
        """The tenth and the ninetieth percentile."""
        low, high = np.percentile(self.differences_ms, (10, 90))
        return float(low), float(high)


def measure_overhead(endpoint: Endpoint, nbytes: int, connections: int) -> Overhead:
    """Measure what a session adds, over connections that both ways share."""
    differences = []
    with opened((SessionCopies, Prepared), endpoint, nbytes) as (session, prepared), quiet():
        assert isinstance(session, SessionCopies)  # noqa: S101 - as they were asked for
        assert isinstance(prepared, Prepared)  # noqa: S101
        prepared.transport = transport_of(session.session)
        for _ in range(connections):
            session.reconnect()
            for _ in range(_WARM_UPS):
                session.exchange()
                prepared.exchange()
            pairs = [(timed_ms(session), timed_ms(prepared)) for _ in range(_PAIRS)]
            with_session, without = np.median(pairs, axis=0)
            differences.append(float(with_session - without))
            gc.collect()
        at_hand_ms = _at_hand_ms(session)
    return Overhead(nbytes, differences, at_hand_ms)


def _at_hand_ms(session: SessionCopies) -> float:
    """Time inferences whose reply is that of one before."""
    transport = transport_of(session.session)
    send = transport.infer
    replies: list[InferReply] = []

    def remember(prepared: PreparedRequest, timeout_s: float) -> InferReply:
        replies.append(send(prepared, timeout_s))
        return replies[-1]

    try:
        vars(transport)["infer"] = remember
        session.exchange()
        vars(transport)["infer"] = lambda *_: replies[-1]
        return float(np.median([timed_ms(session) for _ in range(_AT_HAND)]))
    finally:
        vars(transport).pop("infer", None)
