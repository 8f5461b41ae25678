"""The last samples: a ring buffer, bounded in number and in bytes."""

from __future__ import annotations

import math
import threading
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

__all__ = ["Frame", "History"]

_OVERHEAD_NBYTES = 300  # of a frame: its objects without the numbers
_MOST_NAMES = 1000  # of which extremes are kept: processes come and go


@dataclass(frozen=True)
class Frame:
    """All that was known at one moment.

    Attributes
    ----------
    time_s
        As `time.monotonic` tells it, in seconds.
    names
        Of the series, such as ``"shm/used"``.
    numbers
        One for each name.
    """

    time_s: float
    names: tuple[str, ...]
    numbers: Sequence[float]

    @property
    def nbytes(self) -> int:
        """About what it takes. Its names are those of the frame before, mostly."""
        return 8 * len(self.numbers) + _OVERHEAD_NBYTES

    def values(self) -> dict[str, float]:
        """Return the numbers by name."""
        return dict(zip(self.names, self.numbers, strict=True))


class History:
    """The last frames. Safe to share between threads.

    Parameters
    ----------
    most_frames, most_nbytes
        Where the oldest are dropped.

    Attributes
    ----------
    dropped
        How many frames were dropped.
    """

    def __init__(self, most_frames: int = 36_000, most_nbytes: int = 16 * 2**20) -> None:
        self._most_frames = most_frames
        self._most_nbytes = most_nbytes
        self._lock = threading.Lock()
        self._frames: deque[Frame] = deque()
        self._nbytes = 0
        self._extremes: dict[str, tuple[float, float]] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def nbytes(self) -> int:
        """About what the frames take, in bytes."""
        return self._nbytes

    def renew_lock(self) -> None:
        """Have a lock that nobody holds: in a forked child its holder may be gone."""
        self._lock = threading.Lock()

    def frames(self) -> tuple[Frame, ...]:
        """Return the frames, the oldest first."""
        with self._lock:
            return tuple(self._frames)

    def since(self, time_s: float) -> tuple[Frame, ...]:
        """Return the frames that are newer than a moment, the oldest first."""
        with self._lock:
            newer = takewhile(lambda frame: frame.time_s > time_s, reversed(self._frames))
            return tuple(newer)[::-1]

    def extremes(self) -> dict[str, tuple[float, float]]:
        """Return the least and the most of each series, over dropped frames, too."""
        with self._lock:
            return dict(self._extremes)

    def append(self, time_s: float, values: Mapping[str, float]) -> None:
        """Add a frame."""
        with self._lock:
            self._add(time_s, values)

    def complete(self, values: Mapping[str, float]) -> None:
        """Add to the newest frame what became known a moment later."""
        with self._lock:
            if self._frames:
                newest = self._frames.pop()
                self._nbytes -= newest.nbytes
                self._add(newest.time_s, {**newest.values(), **values})

    def _add(self, time_s: float, values: Mapping[str, float]) -> None:
        names = tuple(values)
        if self._frames and self._frames[-1].names == names:
            names = self._frames[-1].names  # one tuple for all of them
        frame = Frame(time_s, names, array("d", values.values()))
        self._frames.append(frame)
        self._nbytes += frame.nbytes
        for name, value in values.items():
            if name in self._extremes or len(self._extremes) < _MOST_NAMES:
                low, high = self._extremes.get(name, (math.inf, -math.inf))
                self._extremes[name] = (min(low, value), max(high, value))
        while len(self._frames) > 1 and (
            len(self._frames) > self._most_frames or self._nbytes > self._most_nbytes
        ):
            self._nbytes -= self._frames.popleft().nbytes
            self.dropped += 1
