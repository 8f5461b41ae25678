"""A card to draw on: pictures, lines, words, a colour bar, a legend.

Positions are CSS pixels from the upper left corner. The words and the background are
:mod:`tritonic_nb.render.plot`'s, so that all pictures look alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.render import plot
from tritonic_nb.render.plot import EDGE, MARGIN, MUTED, SCALE, TEXT, text_width

if TYPE_CHECKING:  # Matplotlib is imported when something is drawn
    from matplotlib.figure import Figure

__all__ = ["Canvas", "Drawing", "Entry", "framed", "heading_height", "ramp"]

HEADING = 28  # what a title takes
_BAR_WIDTH = 14
_BAR_LONGEST = 260
_BESIDE = 18  # from a picture to what stands beside it
_LEGEND_STEP = 21
_SWATCH = 13
_SMALL = 8.5
_LEAST_WIDTH = 240


class Canvas:
    """A card of some size, and what is drawn on it.

    Parameters
    ----------
    width, height
        In CSS pixels.
    title
        Above everything; nothing where it is empty.
    """

    def __init__(self, width: float, height: float, title: str = "") -> None:
        self.width, self.height = round(width), round(height)
        self._figure = plot.new_card(self.width, self.height)
        self._pasted: list[tuple[Image.Image, int, int]] = []
        if title:
            plot.draw_title(self._figure, title)

    def image(self, image: Image.Image, x: float, y: float, *, below: bool = False) -> None:
        """Place pixels, :data:`~tritonic_nb.render.plot.SCALE` of them for each CSS pixel.

        Parameters
        ----------
        image
            As large as it shall be.
        x, y
            Its upper left corner.
        below
            Whether something is drawn over it; what is not is placed faster.
        """
        if below:
            _add_image(self._figure, image, x, y)
        else:
            self._pasted.append((image, round(x * SCALE), round(y * SCALE)))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        room: float = 1e6,
        size: float = _SMALL,
        color: str = MUTED,
        bold: bool = False,
        align: str = "left",
    ) -> float:
        """Write a line, its baseline at `y`; `align` is ``left``, ``right`` or ``centre``."""
        if align == "centre":
            x -= min(text_width(text, size=size, bold=bold), room) / 2
        return plot.draw_text(
            self._figure, x, y, text,
            room=room, size=size, color=color, bold=bold, right=align == "right",
        )  # fmt: skip

    def line(
        self,
        xs: npt.ArrayLike,
        ys: npt.ArrayLike,
        color: str,
        width: float = 1.0,
        *,
        opacity: float = 1.0,
        above: bool = False,
    ) -> None:
        """Draw a line through points, `width` points wide; NaN interrupts it."""
        from matplotlib.lines import Line2D

        self._figure.axes[0].add_line(
            Line2D(
                np.asarray(xs, float), np.asarray(ys, float),
                color=color, linewidth=width, linestyle="-", marker="", alpha=opacity,
                zorder=4 if above else 3, solid_joinstyle="round", solid_capstyle="round",
            )
        )  # fmt: skip

    def area(self, xs: Any, lows: Any, highs: Any, color: str, opacity: float = 1.0) -> None:
        """Fill what lies between two lines, with an edge that shows where they meet."""
        self._figure.axes[0].fill_between(
            xs, lows, highs, color=color, alpha=opacity, linewidth=0.7, zorder=3.5
        )

    def rectangle(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "none",
        edge: str = "none",
        line: float = 1.0,
        opacity: float = 1.0,
    ) -> None:
        """Draw a rectangle."""
        from matplotlib.patches import Rectangle

        self._figure.axes[0].add_patch(
            Rectangle(
                (x, y), width, height,
                facecolor=fill, edgecolor=edge, linewidth=line, alpha=opacity, zorder=3,
                joinstyle="miter",
            )
        )  # fmt: skip

    def dots(
        self, xs: npt.ArrayLike, ys: npt.ArrayLike, color: str, size: float = 6.0,
        *, hollow: bool = False, marker: str = "o",
    ) -> None:  # fmt: skip
        """Draw dots, `size` points across, with a white rim that shows them on any picture.

        `marker` is another form of Matplotlib's.
        """
        from matplotlib.lines import Line2D

        self._figure.axes[0].add_line(
            Line2D(
                np.asarray(xs, float), np.asarray(ys, float),
                linestyle="none", marker=marker, markersize=size, zorder=4.5,
                markerfacecolor="none" if hollow else color,
                markeredgecolor=color if hollow else "#ffffff", markeredgewidth=1.0,
            )
        )  # fmt: skip

    def pointer(self, x: float, y: float, color: str = TEXT) -> None:
        """Draw a small triangle that points up to a place."""
        from matplotlib.lines import Line2D

        self._figure.axes[0].add_line(
            Line2D([x], [y], color=color, linestyle="none", marker="^", markersize=5,
                   markeredgecolor="none", zorder=4)
        )  # fmt: skip

    def pixels(self) -> Image.Image:
        """Draw everything, mode ``RGBA``, :data:`SCALE` pixels for each CSS pixel."""
        drawn = plot.rendered(self._figure)
        for image, x, y in self._pasted:
            drawn.paste(image, (x, y), image if image.mode == "RGBA" else None)
        return drawn

    def figure(self) -> Figure:
        """Give the Matplotlib figure, with everything on it."""
        while self._pasted:
            image, x, y = self._pasted.pop(0)
            _add_image(self._figure, image, x / SCALE, y / SCALE)
        return self._figure


@dataclass(frozen=True)
class Entry:
    """One line of a legend: a colour, a name, and a value in words."""

    color: str
    name: str
    value: str = ""


@dataclass(frozen=True)
class Drawing:
    """What was drawn, and what is to be said about it.

    Attributes
    ----------
    canvas
        The card, or pixels without one: a plain picture.
    alt
        What it shows, for those who do not see it.
    notes
        What was done to the values before they were drawn, and what was left out.
    width
        On the page, in CSS pixels.
    html
        HTML to show in its place where HTML can be shown, in the notebook's own colours.
    photo
        Whether there is a photograph on the card, which a notebook carries as JPEG.
    """

    canvas: Canvas | Image.Image
    alt: str
    notes: tuple[str, ...]
    width: int
    html: str = ""
    photo: bool = False

    @classmethod
    def on_card(cls, canvas: Canvas, alt: str, *notes: str, photo: bool = False) -> Drawing:
        """Make one of a card; empty notes are left out."""
        return cls(canvas, alt, tuple(filter(None, notes)), canvas.width, photo=photo)

    def pixels(self) -> Image.Image:
        """Draw it."""
        return self.canvas if isinstance(self.canvas, Image.Image) else self.canvas.pixels()

    def figure(self) -> Figure:
        """Give a Matplotlib figure, to be changed or saved in another format."""
        if isinstance(self.canvas, Canvas):
            return self.canvas.figure()
        height = self.width * self.canvas.height / self.canvas.width
        figure = plot.new_figure(self.width, max(1, round(height)))
        figure.axes[0].imshow(
            np.asarray(self.canvas), extent=(0, self.width, height, 0),
            interpolation="nearest", aspect="auto",
        )  # fmt: skip
        return figure


def framed(
    image: Image.Image,
    *,
    title: str = "",
    bar: tuple[Image.Image, Sequence[str]] | None = None,
    legend: Sequence[Entry] = (),
    side: tuple[Image.Image, Sequence[str]] | None = None,
    below: bool = False,
) -> tuple[Canvas, float, float]:
    """Put a picture on a card, with what explains its colours at its right.

    Parameters
    ----------
    image
        :data:`SCALE` pixels for each CSS pixel.
    title
        Above it.
    bar
        The colours of a :func:`ramp`, and the numbers beside it from high to low.
    legend
        What each colour means.
    side
        Another small picture that explains the colours, and lines below it.
    below
        Whether something will be drawn over the picture.

    Returns
    -------
    Canvas, float, float
        The card, and where the picture's upper left corner is.
    """
    width, height = image.width / SCALE, image.height / SCALE
    heading = heading_height(title)
    inner, beside = height, 0.0
    if bar is not None:
        inner = max(inner, 84)
        words = max(text_width(text, size=_SMALL) for text in bar[1])
        beside = _BESIDE + _BAR_WIDTH + 7 + words
    if legend:
        inner = max(inner, _LEGEND_STEP * len(legend))
        beside = _BESIDE + _legend_width(legend)
    if side is not None:
        inner = max(inner, side[0].height / SCALE + 16 * len(side[1]) + 8)
        words = max((text_width(text, size=_SMALL) for text in side[1]), default=0)
        beside = _BESIDE + max(side[0].width / SCALE, words)
    room = max(
        width + beside, _LEAST_WIDTH - 2 * MARGIN, min(text_width(title, size=10, bold=True), 620)
    )
    canvas = Canvas(room + 2 * MARGIN, heading + inner + 2 * MARGIN, title)
    x, y = float(MARGIN), float(MARGIN + heading)
    canvas.image(image, x, y, below=below)
    right = x + width + _BESIDE
    if bar is not None:
        _draw_bar(canvas, (right, y, min(max(height, 84), _BAR_LONGEST)), *bar)
    for row, entry in enumerate(legend):
        _draw_entry(canvas, right, y + row * _LEGEND_STEP, entry, _legend_width(legend))
    if side is not None:
        canvas.image(side[0], right, y)
        for row, text in enumerate(side[1]):
            canvas.text(right, y + side[0].height / SCALE + 18 + row * 16, text)
    return canvas, x, y


def heading_height(title: str) -> int:
    """Tell how much of a card a title takes."""
    return HEADING if title else 0


def ramp(colors: Any) -> Image.Image:
    """Make the strip of a colour bar of colours ``[n, 3]``, the last on top."""
    strip = np.asarray(colors, np.float32)[::-1, None, :]
    return Image.fromarray(np.rint(strip).astype(np.uint8))


def _draw_bar(
    canvas: Canvas, place: tuple[float, float, float], strip: Image.Image, words: Sequence[str]
) -> None:
    x, y, height = place
    size = (_BAR_WIDTH * SCALE, round(height * SCALE))
    canvas.image(strip.resize(size, Image.Resampling.BILINEAR), x, y)
    for index, text in enumerate(words):
        at = y + height * index / max(1, len(words) - 1)
        down = {0: 9, len(words) - 1: 0}.get(index, 4) if len(words) > 1 else 4
        canvas.text(x + _BAR_WIDTH + 7, at + down, text, color=TEXT)


def _legend_width(legend: Sequence[Entry]) -> float:
    names = max(text_width(entry.name) for entry in legend)
    values = max(text_width(entry.value, size=_SMALL) for entry in legend)
    return min(260.0, _SWATCH + 8 + names + (14 + values if values else 0))


def _draw_entry(canvas: Canvas, x: float, y: float, entry: Entry, width: float) -> None:
    if entry.color:
        canvas.rectangle(x, y, _SWATCH, _SWATCH, fill=entry.color, edge=EDGE, line=0.6)
    taken = 0.0
    if entry.value:
        taken = 14 + canvas.text(x + width, y + 11, entry.value, align="right")
    room = width - _SWATCH - 8 - taken
    canvas.text(x + _SWATCH + 8, y + 11, entry.name, room=room + 1, size=9, color=TEXT)


def _add_image(figure: Figure, image: Image.Image, x: float, y: float) -> None:
    axes = figure.axes[0]
    across, down = axes.get_xlim(), axes.get_ylim()
    right, bottom = x + image.width / SCALE, y + image.height / SCALE
    axes.imshow(
        np.asarray(image), extent=(x, right, bottom, y),
        interpolation="nearest", aspect="auto", zorder=2,
    )  # fmt: skip
    axes.set_xlim(across)
    axes.set_ylim(down)
