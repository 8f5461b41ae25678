"""Which axis of a tensor is which, as far as its shape tells."""

from __future__ import annotations

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.kinds import Guess
from tritonic_nb.render.values import Values

__all__ = [
    "POINT_COUNTS",
    "channels_first",
    "channels_last",
    "coordinates",
    "core_axes",
    "expanded",
    "letters",
    "one_channel",
    "others",
]

# Numbers of points of well-known skeletons and faces.
POINT_COUNTS = frozenset((5, 14, 16, 17, 18, 21, 23, 25, 26, 33, 39, 68, 98, 106, 133, 468, 478))


def expanded(values: Values, core_axes: str) -> str:
    """Put a ``1`` where the tensor has an axis of one position."""
    letters = iter(core_axes)
    return "".join("1" if side == 1 else next(letters, "N") for side in values.shape)


def core_axes(found: Guess) -> str:
    """Leave out the axes of one position."""
    return found.axes.replace("1", "")


def letters(values: Values, layout: str) -> str:
    """Give the axes of a tensor whose layout is known; more axes in front count items."""
    name = layout.upper()
    rank = len(values.shape)
    if sorted(name.replace("N", "")) not in (["H", "W"], ["C", "H", "W"]) or name.count("N") > 1:
        raise ArgumentError(f"there is no layout {layout!r}", "use NCHW, NHWC, NHW, CHW, HWC or HW")
    core = name.replace("N", "")
    if rank < len(core):
        raise ArgumentError(
            f"{values} has {rank} axes, and layout {layout} has {len(name)}",
            "give the layout of this tensor, or none",
        )
    return "N" * (rank - len(core)) + core


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether the first of three axes seems to count channels."""
    count, rows, columns = shape
    if min(rows, columns) < 4:
        return False
    if rows == columns:
        return True
    if count == rows and columns > 4:
        return False
    return count < min(rows, columns) and not (columns <= 4 and rows >= 8)


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether the last of three axes seems to count channels."""
    rows, columns, count = shape
    if min(rows, columns) < 4 or channels_first(shape):
        return False
    return rows == columns or count < min(rows, columns)


def one_channel(shape: tuple[int, ...]) -> bool:
    """Whether there are several items of two axes and one channel."""
    return len(shape) == 4 and shape[0] > 1 and (shape[1] == 1) != (shape[3] == 1)


def others(axis: int) -> tuple[int, ...]:
    """Give the other two of three axes."""
    return tuple(i for i in range(3) if i != axis)


def coordinates(length: int) -> str:
    """Tell how many coordinates points of a flat row have, as ``2`` or ``3``."""
    for each in (3, 2, 5):
        if length % each == 0 and length // each in POINT_COUNTS:
            return str(each)
    return ""
