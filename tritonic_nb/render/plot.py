"""Bars, drawn with Matplotlib's objects: no pyplot, no state that others share.

Every text, colour and size is given here, because a notebook may have changed
Matplotlib's defaults; a PNG file carries its own background, because it cannot follow
a change of theme.
"""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFont

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.image import encode_png
from tritonic_nb.render.markup import escape, fill, stylesheet
from tritonic_nb.render.picture import Picture

if TYPE_CHECKING:  # Matplotlib is imported when something is drawn
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

__all__ = [
    "Bar",
    "bars",
    "bars_html",
    "bars_text",
    "draw_bars",
    "figure_of",
    "new_card",
    "new_figure",
    "rendered",
    "text_width",
    "top",
]

SCALE = 2  # pixels of the PNG for each pixel on the page: crisp on screens of high resolution
MARGIN = 18
BAR_STEP = 38  # from one bar to the next

FACE = "#ffffff"
EDGE = "#d9dde2"
TEXT = "#1f2328"
MUTED = "#59636e"
TRACK = "#e6e9ec"
STRONG = "#2e7d4f"
WEAK = "#86a893"

_DPI = 100
_LONGEST_LABEL = 80
_MEASURED = 100  # the size in pixels at which a text is measured


@dataclass(frozen=True)
class Bar:
    """One bar: its label, its value in words, and its length as a part of the track."""

    label: str
    value: str
    fraction: float


def bars(
    labels: Sequence[str],
    values: npt.ArrayLike,
    *,
    title: str = "",
    count: int = 5,
    percent: bool = False,
    width: int = 420,
) -> Picture:
    """Draw the largest values as horizontal bars, the largest on top.

    Parameters
    ----------
    labels, values, count, percent
        As for :func:`top`.
    title
        Above the bars.
    width
        On the page, in CSS pixels, at least 160.

    Returns
    -------
    Picture
        As HTML it follows the notebook's theme; as PNG it is a light card.

    Raises
    ------
    ArgumentError
        As :func:`top`, or a width that is too small.
    """
    if width < 160:
        raise ArgumentError(f"width is {width}", "use at least 160 pixels")
    chosen = top(labels, values, count=count, percent=percent)
    heading = 30 if title else 0
    figure = new_card(width, 2 * MARGIN - 8 + heading + BAR_STEP * max(1, len(chosen)))
    if title:
        draw_title(figure, title)
    draw_bars(figure, chosen, MARGIN, MARGIN + heading, width - 2 * MARGIN)
    html = fill(
        "classes",
        style=stylesheet(),
        heading=f'<div class="tnb-heading">{escape(title)}</div>' if title else "",
        figures="",
        bars=bars_html(chosen),
        note="",
    )
    text = "\n".join([*([title] if title else []), bars_text(chosen)])
    return Picture(encode_png(rendered(figure)), text, width=width, html=html)


def top(
    labels: Sequence[str], values: npt.ArrayLike, *, count: int = 5, percent: bool = False
) -> list[Bar]:
    """Choose the largest values and put them in words.

    Parameters
    ----------
    labels
        A name for each value; where there are fewer, the rest is called "class 7".
    values
        Numbers, of any shape, taken in order. NaN comes last.
    count
        How many.
    percent
        Whether the values are parts of 1. The track then stands for 1, otherwise for
        the largest magnitude.

    Raises
    ------
    ArgumentError
        Not numbers, or a count below 1.
    """
    if count < 1:
        raise ArgumentError(f"count is {count}", "use at least 1")
    try:
        numbers = np.asarray(values).astype(np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"the values are not numbers: {error}", "pass an array") from error
    # Stable, so that of equal values the first class comes first.
    order = np.argsort(-np.where(np.isnan(numbers), -np.inf, numbers), kind="stable")[:count]
    chosen = numbers[order]
    finite = np.abs(chosen[np.isfinite(chosen)])
    longest = 1.0 if percent else float(finite.max(initial=0.0)) or 1.0
    return [
        Bar(
            _label(labels, int(index)),
            _value(value, percent),
            min(1.0, abs(value) / longest) if math.isfinite(value) else 0.0,
        )
        for index, value in zip(order, chosen.tolist(), strict=True)
    ]


def bars_html(chosen: Sequence[Bar]) -> str:
    """Write bars as the items of an HTML list."""
    return "\n".join(
        fill(
            "bar",
            full=escape(bar.label),
            label=escape(_shortened(bar.label, _LONGEST_LABEL)),
            value=escape(bar.value),
            percent=f"{bar.fraction * 100:.1f}",
        )
        for bar in chosen
    )


def bars_text(chosen: Sequence[Bar]) -> str:
    """Write bars as lines of text."""
    width = max((len(bar.value) for bar in chosen), default=0)
    return "\n".join(
        f"{bar.value.rjust(width)}  {_shortened(bar.label, _LONGEST_LABEL)}" for bar in chosen
    )


# --- drawing; positions are CSS pixels from the upper left corner ------------------------------


def new_card(width: int, height: int, *, scale: int = SCALE) -> Figure:
    """Begin a figure: a card with its own background, transparent outside its corners.

    Its size is in CSS pixels, each of which is `scale` pixels of the PNG.
    """
    from matplotlib.patches import FancyBboxPatch

    figure = new_figure(width, height, scale=scale)
    figure.axes[0].add_patch(
        FancyBboxPatch(
            (1, 1), width - 2, height - 2, boxstyle="round,pad=0,rounding_size=8",
            facecolor=FACE, edgecolor=EDGE, linewidth=0.8,
        )
    )  # fmt: skip
    return figure


def new_figure(width: int, height: int, *, scale: int = SCALE) -> Figure:
    """Begin a figure without a background, whose axes count CSS pixels from the upper left."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(width / _DPI, height / _DPI), dpi=_DPI * scale, facecolor="none", linewidth=0
    )
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return figure


def figure_of(png: bytes, width: int | None) -> Figure:
    """Make a figure of a PNG file, which is `width` CSS pixels wide or as wide as it is."""
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGBA"))
    across = width or pixels.shape[1]
    down = max(1, round(across * pixels.shape[0] / pixels.shape[1]))
    figure = new_figure(across, down)
    figure.axes[0].imshow(
        pixels, extent=(0, across, down, 0), interpolation="antialiased", aspect="auto"
    )
    return figure


def draw_title(figure: Figure, title: str) -> None:
    """Write a card's title."""
    room = figure.get_figwidth() * _DPI - 2 * MARGIN
    draw_text(figure, MARGIN, MARGIN + 12, title, room=room, size=10, bold=True)


def draw_text(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    *,
    room: float = math.inf,
    size: float = 9,
    color: str = TEXT,
    bold: bool = False,
    right: bool = False,
) -> float:
    """Write one line, its baseline at `y`, to the right of `x` or ending there.

    Text that is wider than `room` is shortened. The width that was taken is given back.
    """
    text = _drawable(" ".join(text.split()), bold)
    width = text_width(text, size=size, bold=bold)
    while width > room and len(text) > 1:
        text = _shortened(text, min(len(text) - 1, int(len(text) * room / width)))
        width = text_width(text, size=size, bold=bold)
    figure.axes[0].text(
        x, y, text,
        fontproperties=_font(bold), fontsize=size, color=color, zorder=5,
        horizontalalignment="right" if right else "left", verticalalignment="baseline",
        parse_math=False, usetex=False,
    )  # fmt: skip
    return width


def text_width(text: str, *, size: float = 9, bold: bool = False) -> float:
    """Return the width of a line of text in CSS pixels.

    Measured with Pillow, which takes a twentieth of the time that Matplotlib does.
    """
    return _measure(bold).getlength(text[:1000]) / _MEASURED * size * _DPI / 72


def draw_bars(figure: Figure, chosen: Sequence[Bar], x: float, y: float, width: float) -> None:
    """Draw bars below one another, each under its label and value."""
    for index, bar in enumerate(chosen):
        strong, line = index == 0, y + index * BAR_STEP + 11
        color = TEXT if strong else MUTED
        taken = draw_text(figure, x + width, line, bar.value, color=color, bold=strong, right=True)
        draw_text(figure, x, line, bar.label, room=width - taken - 14, bold=strong)
        _draw_stroke(figure, x, line + 8, width, TRACK)
        if bar.fraction > 0:
            _draw_stroke(figure, x, line + 8, width * bar.fraction, STRONG if strong else WEAK)


def _draw_stroke(figure: Figure, x: float, y: float, width: float, color: str) -> None:
    """Draw a bar with round ends: a line, which takes a tenth of the time of a patch."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    height = 6.0
    if width <= height:
        low = Rectangle((x, y), max(width, 1.0), height, color=color, linewidth=0, zorder=3)
        figure.axes[0].add_patch(low)
        return
    ends = (x + height / 2, x + width - height / 2)
    figure.axes[0].add_line(
        Line2D(
            ends, (y + height / 2, y + height / 2), color=color, linewidth=height * 72 / _DPI,
            linestyle="-", marker="", solid_capstyle="round", zorder=3,
        )
    )  # fmt: skip


def rendered(figure: Figure) -> Image.Image:
    """Draw a figure and give its pixels, mode ``RGBA``.

    Not ``savefig``: that obeys settings which a notebook may have changed.
    """
    canvas: Any = figure.canvas
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba()).copy())


# --- words -------------------------------------------------------------------------------------


def _label(labels: Sequence[str], index: int) -> str:
    text = " ".join(str(labels[index]).split()) if index < len(labels) else ""
    return text or f"class {index}"


def _value(value: float, percent: bool) -> str:
    if math.isnan(value):
        return "NaN"
    if percent and math.isfinite(value):
        return f"{value:.1%}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(0, length - 1)].rstrip() + "…"


@cache
def _font(bold: bool) -> FontProperties:
    """Give the font that comes with Matplotlib, so that no search for fonts is needed."""
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return FontProperties(fname=str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name))


@cache
def _measure(bold: bool) -> ImageFont.FreeTypeFont:
    file = str(_font(bold).get_file())
    return ImageFont.truetype(file, _MEASURED, layout_engine=ImageFont.Layout.BASIC)


@cache
def _glyphs(bold: bool) -> frozenset[int]:
    from matplotlib.font_manager import get_font

    return frozenset(get_font(str(_font(bold).get_file())).get_charmap())


def _drawable(text: str, bold: bool) -> str:
    """Replace what the font lacks (CJK, emoji), which Matplotlib would warn about."""
    glyphs = _glyphs(bold)
    return "".join(
        character if ord(character) in glyphs and unicodedata.category(character)[0] != "C" else "□"
        for character in text
    )
