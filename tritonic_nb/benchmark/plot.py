"""The picture that the README shows: time against size, one line for each way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tritonic_nb.benchmark.rounds import Series
from tritonic_nb.benchmark.way import Way
from tritonic_nb.render import Picture, human_bytes
from tritonic_nb.render.curves import Curve, curves

__all__ = ["plot"]

# Colour, strong, dashed. The sessions are blue and green, tritonclient orange and purple, the
# floor is grey; those who see no red or no green can tell them apart, and what goes over the
# wire is dashed. What only explains another line has none.
_STYLES = {
    "session_in_place": ("#00795c", True, False),
    "session": ("#0060a8", True, False),
    "session_wire": ("#3f9bd8", False, True),
    "client_shm": ("#b87a00", False, False),
    "client_shm_copy": ("#c4500a", False, False),
    "client_http": ("#b5548f", False, True),
    "client_grpc": ("#6b3d8f", False, True),
    "socket": ("#6e7781", False, False),
}


def plot(ways: Sequence[type[Way]], sizes: Mapping[int, Mapping[str, Series]]) -> Picture:
    """Draw the medians of every way against the tensor's size.

    Parameters
    ----------
    ways
        Those to draw, as far as they have a line.
    sizes
        By the tensor's bytes and the way's key; at least one.
    """
    lines = []
    for way in ways:
        if way.key in _STYLES:
            color, strong, dashed = _STYLES[way.key]
            points = [(nbytes, series[way.key].median_ms) for nbytes, series in sizes.items()]
            lines.append(Curve(way.label, points, color, strong, dashed))
    return curves(
        lines,
        title="One tensor to Triton and back",
        x_label="size of the tensor",
        y_label="median, in milliseconds",
        x_text=lambda nbytes: human_bytes(int(nbytes)),
    )
