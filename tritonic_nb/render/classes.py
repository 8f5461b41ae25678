"""A classification on one card: the picture, what mattered in it, the likeliest classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from PIL import Image

from tritonic_nb.render import plot
from tritonic_nb.render.image import (
    Box,
    Pixels,
    as_rgb,
    blend,
    embedded_photo,
    encode_png,
    fit_within,
)
from tritonic_nb.render.markup import escape, fill, stylesheet
from tritonic_nb.render.picture import Picture

__all__ = ["classification"]

_WIDTH = 900
_GAP = 20
_CAPTION = 24
_NOTE = 20
_HEADING = 30
_NARROWEST = 120  # so that a caption has room below a slim picture


@dataclass(frozen=True)
class _Panel:
    image: Image.Image  # at plot.SCALE pixels for each on the page
    size: tuple[int, int]  # on the page
    caption: str
    alt: str

    @property
    def room(self) -> int:
        return max(self.size[0], _NARROWEST)


def classification(
    image: Pixels,
    labels: Sequence[str],
    probabilities: npt.ArrayLike,
    *,
    heat: npt.NDArray[Any] | None = None,
    box: Box | None = None,
    count: int = 5,
    title: str = "",
    note: str = "",
) -> Picture:
    """Show a classified picture: itself, its heat map if there is one, and the top classes.

    Parameters
    ----------
    image
        As for :func:`tritonic_nb.render.show`.
    labels
        The names of the classes.
    probabilities
        From 0 to 1, one for each class; not logits.
    heat, box
        As for :func:`tritonic_nb.render.blend`: a map ``[rows, columns]``, and the part
        of the picture that it covers, in the picture's pixels.
    count
        How many classes.
    title
        Above everything.
    note
        A line below everything, such as how the picture became a tensor.

    Returns
    -------
    Picture
        As HTML, pictures beside bars in the notebook's own colours; as PNG, one light
        card, 900 pixels wide on the page; as text, the classes.

    Raises
    ------
    ArgumentError
        As :func:`tritonic_nb.render.blend` and :func:`tritonic_nb.render.top`.
    """
    rgb = as_rgb(image)
    chosen = plot.top(labels, probabilities, count=count, percent=True)
    first = chosen[0].label if chosen else ""
    panels = _panels(rgb, heat, box, first)
    text = "\n".join(line for line in (title, plot.bars_text(chosen), note) if line)
    # Each pixel of the page once: the PNG is what a saved notebook falls back to, and
    # carries along everywhere.
    card = _composed(panels, chosen, title, note)
    return Picture(encode_png(card), text, width=_WIDTH, html=_html(panels, chosen, title, note))


def _panels(
    rgb: Image.Image, heat: npt.NDArray[Any] | None, box: Box | None, first: str
) -> list[_Panel]:
    size = fit_within(rgb.size, 280, 280) if heat is not None else fit_within(rgb.size, 400, 300)
    # Shrunk first: a heat map over the full size of a photograph takes a second.
    small = rgb.resize(
        (size[0] * plot.SCALE, size[1] * plot.SCALE), Image.Resampling.LANCZOS, reducing_gap=3.0
    )
    panels = [_Panel(small, size, f"{rgb.width} x {rgb.height} pixels", "the picture itself")]
    if heat is not None:
        if box is not None:
            across, down = small.width / rgb.width, small.height / rgb.height
            box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
        warm = blend(small, heat, box)
        caption = f"what spoke for {first}"
        panels.append(_Panel(warm, size, caption, f"heat map over the picture: {caption}"))
    return panels


def _html(panels: Sequence[_Panel], chosen: Sequence[plot.Bar], title: str, note: str) -> str:
    return fill(
        "classes",
        style=stylesheet(),
        heading=f'<div class="tnb-heading">{escape(title)}</div>' if title else "",
        figures="\n".join(
            fill(
                "figure",
                # JPEG, because a saved notebook carries it.
                source=embedded_photo(panel.image),
                alt=escape(panel.alt),
                room=str(panel.room),
                width=str(panel.size[0]),
                height=str(panel.size[1]),
                caption=escape(panel.caption),
            )
            for panel in panels
        ),
        bars=plot.bars_html(chosen),
        note=f'<div class="tnb-note">{escape(note)}</div>' if note else "",
    )


def _composed(
    panels: Sequence[_Panel], chosen: Sequence[plot.Bar], title: str, note: str
) -> Image.Image:
    heading = _HEADING if title else 0
    tallest = max(panel.size[1] + _CAPTION for panel in panels)
    inner = max(tallest, plot.BAR_STEP * len(chosen))
    below = plot.MARGIN + heading + inner
    figure = plot.new_card(_WIDTH, below + plot.MARGIN + (_NOTE if note else 0), scale=1)
    if note:
        room = _WIDTH - 2 * plot.MARGIN
        plot.draw_text(figure, plot.MARGIN, below + 14, note, room=room, size=8, color=plot.MUTED)
    if title:
        plot.draw_title(figure, title)
    top, left = plot.MARGIN + heading, plot.MARGIN
    places = []
    for panel in panels:
        places.append((left, top))
        under = top + panel.size[1] + 17
        plot.draw_text(
            figure, left, under, panel.caption, room=panel.room, size=8, color=plot.MUTED
        )
        left += panel.room + _GAP
    plot.draw_bars(figure, chosen, left, top, _WIDTH - plot.MARGIN - left)
    card = plot.rendered(figure)
    # Pasted rather than drawn: no second resampling.
    for panel, (x, y) in zip(panels, places, strict=True):
        card.paste(panel.image.resize(panel.size, Image.Resampling.BOX), (x, y))
    return card
