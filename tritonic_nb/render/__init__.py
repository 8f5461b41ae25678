"""What people see: pictures, bars, cards and lines of text.

Array in, bytes out, display last. Everything here takes plain arrays and strings and
knows nothing of sessions, models or servers.
"""

from __future__ import annotations

from .classes import classification
from .image import blend, overlay, show
from .picture import Picture
from .plot import bars, top
from .reprs import Table, card, plain
from .tensor import human_bytes, summarise

__all__ = [
    "Picture",
    "Table",
    "bars",
    "blend",
    "card",
    "classification",
    "human_bytes",
    "overlay",
    "plain",
    "show",
    "summarise",
    "top",
]
