"""A histogram small enough for a line of text."""

from __future__ import annotations

from collections.abc import Sequence

from tritonic_nb.render.markup import fill

__all__ = ["blocks", "svg"]

_BLOCKS = "▁▂▃▄▅▆▇█"
_BAR = 4  # pixels on the page
_HEIGHT = 14
_LEAST = 2  # of a bar that stands for something


def blocks(counts: Sequence[int]) -> str:
    """Draw counts as block characters, the lowest one for none at all."""
    most = max(counts, default=0)
    last = len(_BLOCKS) - 1
    # At least the second one for what is there, however little.
    return "".join(_BLOCKS[max(1, round(c / most * last)) if c else 0] for c in counts)


def svg(counts: Sequence[int]) -> str:
    """Draw counts as bars in the colour of the text around them.

    It holds no text, so that nothing is left of it where a site removes pictures.
    """
    most = max(counts, default=0)
    path = "".join(
        f"M{index * _BAR} {_HEIGHT}v-{max(_LEAST, round(count / most * _HEIGHT))}"
        f"h{_BAR - 1}V{_HEIGHT}z"
        for index, count in enumerate(counts)
        if count
    )
    return fill(
        "sparkline", width=str(max(1, len(counts) * _BAR - 1)), height=str(_HEIGHT), path=path
    )
