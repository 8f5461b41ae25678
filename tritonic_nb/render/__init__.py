"""What people see: pictures, bars, cards and lines of text.

Array in, bytes out, display last. Everything here takes plain arrays and strings and
knows nothing of sessions, models or servers.
"""

from __future__ import annotations

from tritonic_nb.render.classes import classification
from tritonic_nb.render.diff import Difference, compare
from tritonic_nb.render.image import blend, overlay, show
from tritonic_nb.render.markup import Rich
from tritonic_nb.render.picture import Picture, display
from tritonic_nb.render.plot import bars, top
from tritonic_nb.render.progress import Progress
from tritonic_nb.render.reprs import Cell, Described, Description, Table, card, line, plain
from tritonic_nb.render.tensor import Summary, human_bytes, summarise

__all__ = [
    "Cell",
    "Described",
    "Description",
    "Difference",
    "Picture",
    "Progress",
    "Rich",
    "Summary",
    "Table",
    "bars",
    "blend",
    "card",
    "classification",
    "compare",
    "display",
    "human_bytes",
    "line",
    "overlay",
    "plain",
    "show",
    "summarise",
    "top",
]
