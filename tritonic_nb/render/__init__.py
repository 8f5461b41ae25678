"""What people see: pictures, bars, cards and lines of text.

Array in, bytes out, display last. Everything here takes plain arrays and strings and
knows nothing of sessions, models or servers.
"""

from __future__ import annotations

from tritonic_nb.render.classes import classification
from tritonic_nb.render.crossing import SweepLine, SweepPoint, crossing
from tritonic_nb.render.diff import Difference, compare
from tritonic_nb.render.gallery import Wish, picture_of
from tritonic_nb.render.guess import guess
from tritonic_nb.render.human import figures, human_bytes, human_ms, parsed_bytes
from tritonic_nb.render.image import blend, overlay, show
from tritonic_nb.render.kinds import KINDS, Guess
from tritonic_nb.render.markup import Rich
from tritonic_nb.render.overlay import Source
from tritonic_nb.render.picture import Picture, display, display_bundle, in_notebook
from tritonic_nb.render.plot import bars, top
from tritonic_nb.render.progress import Progress
from tritonic_nb.render.reprs import Cell, Described, Description, Table, card, line, plain
from tritonic_nb.render.scores import probabilities
from tritonic_nb.render.tensor import Summary, summarise
from tritonic_nb.render.values import Values
from tritonic_nb.render.versus import Contender, versus
from tritonic_nb.render.waterfall import RequestTimeline, Stage, waterfall

__all__ = [
    "KINDS",
    "Cell",
    "Contender",
    "Described",
    "Description",
    "Difference",
    "Guess",
    "Picture",
    "Progress",
    "RequestTimeline",
    "Rich",
    "Source",
    "Stage",
    "Summary",
    "SweepLine",
    "SweepPoint",
    "Table",
    "Values",
    "Wish",
    "bars",
    "blend",
    "card",
    "classification",
    "compare",
    "crossing",
    "display",
    "display_bundle",
    "figures",
    "guess",
    "human_bytes",
    "human_ms",
    "in_notebook",
    "line",
    "overlay",
    "parsed_bytes",
    "picture_of",
    "plain",
    "probabilities",
    "show",
    "summarise",
    "top",
    "versus",
    "waterfall",
]
