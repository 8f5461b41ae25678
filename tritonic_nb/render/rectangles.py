"""Whether the columns of a tensor are rectangles, and of which form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tritonic_nb.render.values import Values

__all__ = ["box_form", "rest_fits", "some_rows"]


def some_rows(rows: Values, most: int) -> npt.NDArray[np.float64]:
    """Read at most so many rows, evenly spread, with all their columns."""
    step = max(1, -(-rows.shape[0] // most))
    columns = min(rows.shape[1], 512)
    block: npt.NDArray[np.float64] = rows[::step, :columns].astype(np.float64)
    return block


def box_form(block: npt.NDArray[np.float64], *, named: bool) -> str:
    """Tell whether four columns are rectangles, and how: ``corners``, ``centres`` or ``""``."""
    full = block[np.isfinite(block).all(axis=1) & (block != 0).any(axis=1)]
    if not len(full):
        return "corners" if named and len(block) else ""
    size = np.abs(full).max()
    if (full < -0.25 * size).mean() > 0.05:
        return ""
    if ((full[:, 2] > full[:, 0]) & (full[:, 3] > full[:, 1])).mean() >= 0.95:
        return "corners"
    inside = (full[:, :2] - full[:, 2:] / 2 > -0.1 * size).all(axis=1).mean() > 0.9
    return "centres" if named and inside and (full[:, 2:] > 0).mean() >= 0.95 else ""


def rest_fits(block: npt.NDArray[np.float64], start: int) -> bool:
    """Whether the columns beside a rectangle's can be scores, classes or numbers of items."""
    rest = np.delete(block, slice(start, start + 4), axis=1)
    for column in rest.T:
        unit = (column >= -1e-6).all() and (column <= 1 + 1e-6).all()
        if not unit and not (column == np.rint(column)).all():
            return False
    return True
