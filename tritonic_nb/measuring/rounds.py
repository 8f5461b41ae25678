"""Rounds: every lane once, in random order, over one connection; and then over a new one.

Triton ties a connection to one of its threads, and where the kernel puts that thread makes
one and the same request half as slow again. So all lanes of a round share a connection, their
times are compared within the round, and each round has another connection. Within its turn a
lane is asked several times, because the caches are another lane's at first.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tritonic_nb.measuring.estimates import Ratio, median_interval, ratio_of
from tritonic_nb.measuring.lane import Lane
from tritonic_nb.monitoring import cpu_s

__all__ = ["Effort", "Track", "ratios", "run_rounds"]

_FEWEST_ROUNDS = 10  # before intervals are trusted to end it
_MOST_ROUNDS = 400
_LOOK_EVERY = 5
_TURN_S = 0.03  # what a lane's turn lasts, about
_FEWEST, _MOST = 2, 10  # inferences that are timed in a turn
_SLOW_S, _VERY_SLOW_S = 0.05, 0.5  # an inference; caches and warming up matter little then


@dataclass(frozen=True)
class Effort:
    """How long to go on.

    Attributes
    ----------
    seconds
        No new turn begins after so many, once every lane has had one.
    precision
        Enough is when the intervals of all ratios are as narrow: 0.05 means 5 % to either side.
    """

    seconds: float
    precision: float


@dataclass
class Track:
    """What was measured of one lane: a list for each round.

    Attributes
    ----------
    times_s
        The times of the inferences.
    client_s, server_s
        The processor time for one inference, of this process and of the server's; the second
        is empty where it cannot be told.
    """

    times_s: list[list[float]] = field(default_factory=list)
    client_s: list[float] = field(default_factory=list)
    server_s: list[float] = field(default_factory=list)

    @property
    def all_s(self) -> list[float]:
        """All times."""
        return [each for times in self.times_s for each in times]

    @property
    def round_medians_s(self) -> list[float]:
        """The median of each round."""
        return [float(np.median(times)) for times in self.times_s]

    @property
    def median_s(self) -> float:
        """The median of the rounds' medians."""
        return float(np.median(self.round_medians_s))

    @property
    def interval_s(self) -> tuple[float, float]:
        """The interval of that median with 95 % confidence."""
        return median_interval(self.round_medians_s)

    @property
    def p99_s(self) -> float:
        """The time that one inference of a hundred exceeds; of fewer, nearly the longest."""
        return float(np.percentile(self.all_s, 99))


def run_rounds(
    lanes: Sequence[Lane],
    effort: Effort,
    *,
    reconnect: Callable[[], None],
    step: Callable[[], None],
    server_pids: Sequence[int] = (),
) -> tuple[list[Track], str]:
    """Measure lanes against one another.

    Parameters
    ----------
    lanes
        Open ones; the first is what the others are compared with.
    effort
        How long to go on.
    reconnect
        Is called before each round.
    step
        Is called after each round.
    server_pids
        The server's processes on this machine, whose processor time is measured.

    Returns
    -------
    list of Track, str
        A track for each lane, and what ended it: ``"precise"``, ``"time"`` or
        ``"interrupted"`` (by Ctrl-C, once there was a whole round).
    """
    tracks = [Track() for _ in lanes]
    shuffle = random.Random()  # noqa: S311 - an order, and no secret
    until = time.perf_counter() + effort.seconds
    done = 0
    try:
        while done < _MOST_ROUNDS:
            reconnect()
            for index in shuffle.sample(range(len(lanes)), len(lanes)):
                if done and time.perf_counter() > until:
                    return _whole(tracks, done), "time"
                _take_turn(lanes[index], tracks[index], server_pids)
            done += 1
            step()
            # Not after each: who looks again and again finds a narrow interval by chance.
            if (
                done >= _FEWEST_ROUNDS
                and done % _LOOK_EVERY == 0
                and _precise(tracks, effort.precision)
            ):
                break
    except KeyboardInterrupt:
        if not done:
            raise
        return _whole(tracks, done), "interrupted"
    return tracks, "precise"


def _take_turn(lane: Lane, track: Track, server_pids: Sequence[int]) -> None:
    """Time a few inferences of one lane, after some that are not timed."""
    typical_s = track.median_s if track.times_s else lane.typical_s
    for _ in range(_warm_ups(typical_s)):
        lane.infer()
    server_before, client_before = cpu_s(server_pids), time.process_time()
    times = [_timed_s(lane) for _ in range(_repeats(typical_s))]
    client_after, server_after = time.process_time(), cpu_s(server_pids)
    track.times_s.append(times)
    track.client_s.append((client_after - client_before) / len(times))
    if server_before is not None and server_after is not None:
        track.server_s.append(max(0.0, server_after - server_before) / len(times))


def _timed_s(lane: Lane) -> float:
    started = time.perf_counter()
    result = lane.infer()
    took = time.perf_counter() - started
    del result  # letting go of it is not part of it
    return took


def _warm_ups(typical_s: float) -> int:
    return 2 if typical_s < _SLOW_S else 1 if typical_s < _VERY_SLOW_S else 0


def _repeats(typical_s: float) -> int:
    if typical_s >= _VERY_SLOW_S:
        return 1
    return min(_MOST, max(_FEWEST, round(_TURN_S / typical_s)))


def _precise(tracks: Sequence[Track], precision: float) -> bool:
    """Whether there is nothing more to find out."""
    rounds = min(len(track.times_s) for track in tracks)
    compared = ratios(_whole(tracks, rounds))[1:]
    if not compared:  # one lane alone
        low, high = tracks[0].interval_s
        compared = [Ratio(1.0, low / tracks[0].median_s, high / tracks[0].median_s)]
    return all(each.within(precision) for each in compared)


def ratios(tracks: Sequence[Track]) -> list[Ratio]:
    """Return how many times as fast each track is as the first, that one included."""
    baseline = tracks[0].round_medians_s
    return [ratio_of(baseline, track.round_medians_s) for track in tracks]


def _whole(tracks: Sequence[Track], done: int) -> list[Track]:
    """Return tracks without a round that was not ended."""
    return [
        Track(track.times_s[:done], track.client_s[:done], track.server_s[:done])
        for track in tracks
    ]
