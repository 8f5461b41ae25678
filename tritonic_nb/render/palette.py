"""Colours that tell things apart, for colour-blind people too.

The first seven are Okabe and Ito's (https://jfly.uni-koeln.de/color/), those after them
come from Paul Tol's muted scheme (https://personal.sron.nl/~pault/). A number has the same
colour in every picture.
"""

from __future__ import annotations

__all__ = ["BACKGROUND", "FIRST", "color_of", "rgb_of", "text_on"]

#: The colour of number 0, which most label maps use for what is nothing in particular.
BACKGROUND = "#c9ced4"

#: The colours that stay apart whatever a person's sight.
FIRST = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")

_MORE = ("#332288", "#882255", "#999933", "#44aa99", "#cc6677", "#117733", "#ddcc77", "#aa4499")
_ALL = FIRST + _MORE


def color_of(index: int) -> str:
    """Give a number's colour, as ``#rrggbb``.

    After fifteen the same colours come again, lighter, then darker.
    """
    if index == 0:
        return BACKGROUND
    turn, place = divmod((index - 1) % (3 * len(_ALL)), len(_ALL))
    red, green, blue = _parsed(_ALL[place])
    if turn == 1:
        red, green, blue = (round(x + (255 - x) * 0.45) for x in (red, green, blue))
    elif turn == 2:
        red, green, blue = (round(x * 0.6) for x in (red, green, blue))
    return f"#{red:02x}{green:02x}{blue:02x}"


def rgb_of(index: int) -> tuple[int, int, int]:
    """Give a number's colour as three levels from 0 to 255."""
    return _parsed(color_of(index))


def text_on(color: str) -> str:
    """Give black or white, whichever is read better on a colour."""
    parts = [x / 255 for x in _parsed(color)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"


def _parsed(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
