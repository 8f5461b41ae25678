"""What the pictures of measured times have in common: a card with its words, colours, checks.

The pictures are PNG files with a background of their own, which a dark page shows as they
are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.canvas import Canvas
from tritonic_nb.render.human import figures
from tritonic_nb.render.image import encode_png
from tritonic_nb.render.picture import Picture
from tritonic_nb.render.plot import FACE, MARGIN, TEXT, TRACK, text_width
from tritonic_nb.render.scales import LinearScale

__all__ = [
    "MARKERS",
    "SMALL",
    "begun",
    "check_numbers",
    "check_width",
    "colors_of",
    "draw_ms_axis",
    "draw_name",
    "finished",
    "interval_text",
    "wrapped",
]

#: Of all texts but titles, in points.
SMALL = 8.5

#: The form of each line's points, for those who see the lines' colours alike.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")

# Okabe and Ito's, the darkest first: those can be seen as thin lines on white.
_COLORS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5f6b76", "#332288",
)  # fmt: skip
_LEAST_WIDTH = 480
_WORD = re.compile(r"\d[\d.,]* \S{1,3}(?!\S)|\S+")  # a number stays with its unit
_TITLE_SIZE = 10
_TITLE_STEP = 18
_NOTE_STEP = 16
_DRAWN_WIDER = 0.97  # of the room: a long line is drawn a little wider than it was measured
_LONGEST = 2000  # characters of a text that is broken into lines


def begun(title: str, note: str, width: int, height: float) -> tuple[Canvas, float]:
    """Begin a card with its title above and its note below.

    Parameters
    ----------
    title, note
        Each is broken into lines where it is too long; the note may be empty.
    width
        In CSS pixels.
    height
        Of what will stand between the two.

    Returns
    -------
    Canvas, float
        The card, and where what stands between the two begins.
    """
    room = (width - 2 * MARGIN) * _DRAWN_WIDER
    heading = wrapped(title, room, size=_TITLE_SIZE, bold=True, most=2)
    below = wrapped(note, room, most=5)
    top = MARGIN + _TITLE_STEP * len(heading) + (6 if heading else 0)
    foot = _NOTE_STEP * len(below) + (8 if below else 0)
    canvas = Canvas(width, top + height + foot + MARGIN)
    for row, line in enumerate(heading):
        y = MARGIN + 12 + row * _TITLE_STEP
        canvas.text(MARGIN, y, line, room=room, size=_TITLE_SIZE, color=TEXT, bold=True)
    for row, line in enumerate(below):
        canvas.text(MARGIN, top + height + 18 + row * _NOTE_STEP, line, room=room)
    return canvas, float(top)


def finished(canvas: Canvas, lines: Iterable[str], width: int) -> Picture:
    """Make the picture of a card; of the lines that say the same, empty ones are left out."""
    alt = "\n".join(filter(None, (" ".join(line.split()) for line in lines)))
    return Picture(encode_png(canvas.pixels()), alt, width=width, drawn=canvas)


def wrapped(
    text: str, room: float, *, size: float = SMALL, bold: bool = False, most: int = 2
) -> list[str]:
    """Break a text into lines between its words; the last of `most` lines has all that is left."""
    lines: list[str] = []
    for word in _WORD.findall(" ".join(text[:_LONGEST].split())):
        longer = f"{lines[-1]} {word}" if lines else word
        fits = text_width(longer, size=size, bold=bold) <= room
        if lines and (fits or len(lines) == most):
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def draw_ms_axis(canvas: Canvas, scale: LinearScale, top: float, bottom: float) -> None:
    """Draw a faint line for each round number, the number below it, and the unit at the end."""
    values = _ticks(scale)
    for value in values:
        x = scale(value)
        canvas.line((x, x), (top, bottom + 3), TRACK)
        canvas.text(x, bottom + 16, f"{value:.6g}", align="centre")
    beside = scale(values[-1]) + text_width(f"{values[-1]:.6g}", size=SMALL) / 2 + 6
    canvas.text(max(beside, scale.end + 4), bottom + 16, "ms")


def _ticks(scale: LinearScale) -> list[float]:
    """Give round numbers whose words stay apart, as many as that allows."""
    values = [0.0]
    for least in (40, 60, 90, 140):
        values = scale.steps(least)
        widest = max(text_width(f"{value:.6g}", size=SMALL) for value in values)
        if widest + 10 <= least:
            break
    return values


def draw_name(
    canvas: Canvas,
    x: float,
    y: float,
    text: str,
    *,
    room: float,
    color: str = TEXT,
    align: str = "left",
) -> float:
    """Write a name on ground of its own, which hides the lines of an axis behind it.

    The width that was taken is given back.
    """
    if not text.strip():
        return 0.0
    taken = canvas.text(x, y, text, room=room, size=9, color=color, align=align)
    left = x if align == "left" else x - taken
    canvas.rectangle(left - 3, y - 11, taken + 6, 15, fill=FACE)
    return taken


def colors_of(given: Sequence[str]) -> list[str]:
    """Give a colour to each that has none, by its position.

    Raises
    ------
    ArgumentError
        One is no colour that Matplotlib knows.
    """
    from matplotlib.colors import is_color_like, to_hex

    for color in given:
        if color and not is_color_like(color):
            raise ArgumentError(f"there is no colour {color!r}", "write it as #rrggbb")
    return [
        to_hex(color) if color else _COLORS[index % len(_COLORS)]
        for index, color in enumerate(given)
    ]


def interval_text(times_ms: tuple[float, float, float], write: str = "{} ms ({} to {})") -> str:
    """Write a median and its interval with digits enough to tell them apart."""
    low, median, high = (_figures(time, times_ms) for time in times_ms)
    return write.format(median, low, high)


def check_width(width: int) -> None:
    """Refuse a width at which the words have no room."""
    if width < _LEAST_WIDTH:
        raise ArgumentError(f"width is {width}", f"use at least {_LEAST_WIDTH} pixels")


def check_numbers(
    owner: str, numbers: Iterable[float], *, above: bool = False, ordered: bool = False
) -> None:
    """Refuse numbers that are not finite, or below 0.

    Parameters
    ----------
    owner
        Whose they are, for the message.
    numbers
        What is asked.
    above
        Whether 0 is refused, too.
    ordered
        Whether each has to be as large as the one before.
    """
    given = list(numbers)
    for number in given:
        if not math.isfinite(number) or number < 0 or (above and number == 0):
            least = "above 0" if above else "at or above 0"
            raise ArgumentError(f"{owner} has the number {number}", f"give finite ones {least}")
    if ordered and given != sorted(given):
        listed = ", ".join(f"{number:g}" for number in given)
        raise ArgumentError(
            f"{owner} has the times {listed}", "give the lower end, the median and the upper end"
        )


def _figures(time: float, times_ms: tuple[float, float, float]) -> str:
    low, median, high = times_ms
    return figures(time, 3 if high - low >= 0.01 * median else 4)
