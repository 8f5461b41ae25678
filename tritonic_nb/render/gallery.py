"""Any tensor as the picture that suits it, with what was guessed written below.

:func:`picture_of` puts together what the other modules do: :mod:`guess` finds the kind,
one module for each family draws it, and the caption says what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tritonic_nb.errors import ArgumentError, check_whole
from tritonic_nb.render import boxes as box_module
from tritonic_nb.render import flow, maps, photos, plot, points, segmentation, signal, tables
from tritonic_nb.render.asked import shaped
from tritonic_nb.render.canvas import Canvas, Drawing, heading_height
from tritonic_nb.render.guess import guess
from tritonic_nb.render.image import ROUNDED, embedded_photo, encode_png
from tritonic_nb.render.kinds import KINDS, Guess
from tritonic_nb.render.markup import escape, fill, stylesheet
from tritonic_nb.render.overlay import Source
from tritonic_nb.render.picture import Picture, data_uri
from tritonic_nb.render.scores import score_form, softmax
from tritonic_nb.render.values import Values

__all__ = ["Wish", "picture_of"]

_OTHERWISE = {
    "image": ("features", "heatmap"),
    "heatmap": ("image", "table"),
    "features": ("heatmap", "segmentation"),
    "scores": ("signal", "table"),
    "segmentation": ("features", "heatmap"),
    "probability": ("heatmap", "segmentation"),
    "boxes": ("table", "heatmap"),
    "points": ("table", "signal"),
    "depth": ("heatmap", "image"),
    "flow": ("features", "heatmap"),
    "signal": ("histogram", "table"),
    "histogram": ("signal", "table"),
    "table": ("signal", "histogram"),
    "text": (),
}

# The order of the axes that each kind is drawn from.
_ORDERS = ("CHW", "HW", "C", "BD", "NPD", "PD", "CT", "T", "P", "D")
_TINTING = ("heatmap", "depth", "probability", "segmentation")  # those that cover a photograph
_BAR_WIDTH = 460


@dataclass(frozen=True)
class Wish:
    """How a tensor shall be shown; every part has a default.

    Attributes
    ----------
    kind
        One of :data:`~tritonic_nb.render.kinds.KINDS`; None to guess.
    labels
        The names of classes.
    source
        The picture that the tensor was made from, to draw over.
    model
        The model's name, which helps to guess.
    layout
        ``NCHW`` and so on, of an image.
    item
        Which one of a batch; None for the first, and for all of a batch of images.
    limits
        The numbers at the ends of the colours, or of the vertical axis.
    colormap
        A Matplotlib name.
    opacity
        Of what is laid over a picture, 0 to 1.
    count
        How many classes, feature maps or boxes.
    together
        Whether feature maps share one scale.
    scores, classes
        Of the boxes, where they are tensors of their own.
    box_form
        One of :data:`~tritonic_nb.render.boxes.FORMS`.
    """

    kind: str | None = None
    labels: Sequence[str] | None = None
    source: Source | None = None
    model: str = ""
    layout: str = ""
    item: int | None = None
    limits: tuple[float, float] | None = None
    colormap: str | None = None
    opacity: float = 0.6
    count: int | None = None
    together: bool = False
    scores: Any = None
    classes: Any = None
    box_form: str | None = None


def picture_of(thing: Any, name: str = "", wish: Wish | None = None) -> Picture:
    """Make the picture that suits a tensor.

    Parameters
    ----------
    thing
        An array, a DLPack tensor, a Pillow image, numbers, texts, nested lists.
    name
        The tensor's; it is the title, and helps to guess.
    wish
        How it shall be shown.

    Returns
    -------
    Picture
        With a caption that says what was guessed and why, the shape, the range of the
        values, and what was left out or averaged.

    Raises
    ------
    ArgumentError
        It is no tensor, cannot be shown as the kind that was asked for, or an option makes no
        sense.
    """
    wish = wish or Wish()
    _check(wish)
    values = Values.of(thing)
    found = (
        shaped(wish.kind, values, layout=wish.layout)
        if wish.kind
        else guess(values, name, model=wish.model, layout=wish.layout)
    )
    with np.errstate(all="ignore"):  # of NaN, infinities and the largest floats
        drawing, notes = _Order(values, found, name, wish).drawn()
    picture = _picture(drawing, name, _caption(values, found, [*notes, *drawing.notes], wish))
    if wish.source is None or found.kind not in _TINTING:
        return picture
    as_found = replace(wish, kind=found.kind)
    return replace(
        picture,
        at_opacity=lambda opacity: picture_of(thing, name, replace(as_found, opacity=opacity)),
    )


def _check(wish: Wish) -> None:
    if not 0 <= wish.opacity <= 1:
        raise ArgumentError(f"opacity is {wish.opacity}", "use a number from 0 to 1")
    if wish.count is not None:
        check_whole(wish.count, 1, "k", "ask for at least one")
    if wish.item is not None:
        check_whole(wish.item, 0, "item", "count items from 0")
    limits = wish.limits
    if limits is not None and not (
        len(limits) == 2 and np.isfinite(limits).all() and limits[0] < limits[1]
    ):
        raise ArgumentError(f"limits is {limits}", "give two numbers, the lower one first")


@dataclass
class _Order:
    """One tensor to be drawn."""

    values: Values
    found: Guess
    name: str
    wish: Wish
    notes: list[str] = field(default_factory=list)

    def drawn(self) -> tuple[Drawing, list[str]]:
        draw: Callable[[_Order], Drawing] = _DRAWERS[self.found.kind]
        return draw(self), self.notes

    def items(self) -> int:
        """How many items the axes ``N`` count."""
        count = 1
        for letter, side in zip(self.found.axes, self.values.shape, strict=False):
            count *= side if letter == "N" else 1
        return count

    def core(self, item: int | None = None, *, keep_items: bool = False) -> Values:
        """Take one item, leave out axes of one position, and put the rest in order."""
        axes, values = self.found.axes, self.values
        sides = [s for letter, s in zip(axes, values.shape, strict=True) if letter == "N"]
        places = iter(reversed(np.unravel_index(self._item() if item is None else item, sides)
                               if sides else ()))  # fmt: skip
        left = ""
        for axis in reversed(range(len(axes))):
            letter = axes[axis]
            if letter == "1":
                values = values.at(axis, 0)
            elif letter == "N" and not keep_items:
                values = values.at(axis, int(next(places)))
            else:
                left = letter + left
        order = next((o for o in _ORDERS if sorted(o) == sorted(left)), left)
        if self.found.kind == "image":
            order = left.replace("C", "") + "C" * ("C" in left)
        return values.arranged([left.index(letter) for letter in order])

    def _item(self) -> int:
        count, item = self.items(), self.wish.item or 0
        if item >= count:
            raise ArgumentError(
                f"item {item} was asked for, and {self.values} has {count}",
                f"count items from 0 to {count - 1}",
            )
        if count > 1:
            self.notes.append(f"item {item} of {count:,}")
        return item


def _draw_image(order: _Order) -> Drawing:
    count = order.items()
    if count > 1 and order.wish.item is None:
        items = [order.core(item) for item in range(min(count, 16))]
        return photos.photo_sheet(items, count, limits=order.wish.limits)
    return photos.photo(order.core(), limits=order.wish.limits)


def _draw_map(order: _Order) -> Drawing:
    wish = order.wish
    default = "inferno" if wish.source or order.found.kind == "depth" else "viridis"
    return maps.heat_map(
        order.core(), title=order.name, limits=wish.limits,
        colormap=wish.colormap or default, source=wish.source, opacity=wish.opacity,
    )  # fmt: skip


def _draw_features(order: _Order) -> Drawing:
    core = order.core()
    if len(core.shape) == 2:
        return _draw_map(order)
    wish = order.wish
    return maps.feature_grid(
        core, title=order.name, count=wish.count or 64, together=wish.together,
        limits=wish.limits, colormap=wish.colormap or "viridis",
    )  # fmt: skip


def _draw_probability(order: _Order) -> Drawing:
    wish, form = order.wish, order.found.form
    several = "C" in order.found.axes or order.items() > 1
    if several and (wish.item is None or "C" in order.found.axes):
        core = order.core(keep_items="C" not in order.found.axes)
        while len(core.shape) > 3:
            core = core.at(0, 0)
        limits = wish.limits or ((0.0, 1.0) if form == "probabilities" else None)
        grid = maps.feature_grid(
            core, title=order.name, count=wish.count or 64, together=True, limits=limits,
            ordered=False,
        )  # fmt: skip
        if form == "logits":
            order.notes.append("logits, drawn as they are")
        return grid
    return maps.probability(
        order.core(), title=order.name, form=form, source=wish.source, opacity=wish.opacity
    )


def _draw_segmentation(order: _Order) -> Drawing:
    wish = order.wish
    return segmentation.segmentation(
        order.core(), title=order.name, labels=wish.labels, source=wish.source,
        opacity=wish.opacity,
    )  # fmt: skip


def _draw_scores(order: _Order) -> Drawing:
    wish = order.wish
    row = order.core().read().astype(np.float64)
    form = score_form(row) if order.found.form != "counts" else "counts"
    percent, said = True, ""
    if form == "logits":
        row, said = softmax(row), "not probabilities yet (logits): softmax was applied"
    elif form == "log probabilities":
        row, said = np.exp(row), "logarithms of probabilities: the exponential was applied"
    elif form == "independent":
        said = "each from 0 to 1 by itself: no softmax"
    elif form == "counts":
        percent = False
    else:
        said = "probabilities already: no softmax"
    chosen = plot.top(_Names(wish.labels), row, count=wish.count or 5, percent=percent)
    heading = heading_height(order.name)
    height = 2 * plot.MARGIN - 8 + heading + plot.BAR_STEP * len(chosen)
    canvas = Canvas(_BAR_WIDTH, height, order.name)
    plot.draw_bars(
        canvas.figure(), chosen, plot.MARGIN, plot.MARGIN + heading, _BAR_WIDTH - 2 * plot.MARGIN
    )
    html = f'<ol class="tnb-bars" style="max-width:480px">\n{plot.bars_html(chosen)}\n</ol>'
    notes = (said, f"the best {len(chosen)} of {len(row):,}")
    return Drawing(
        canvas, plot.bars_text(chosen), tuple(filter(None, notes)), canvas.width, html=html
    )


class _Names(Sequence[str]):
    """Labels that name any number of classes, in whatever they were given."""

    def __init__(self, labels: Sequence[str] | None) -> None:
        self._labels = labels

    def __len__(self) -> int:
        return 1 << 62

    def __getitem__(self, index: Any) -> Any:
        return segmentation.label_of(self._labels, index)


def _draw_boxes(order: _Order) -> Drawing:
    wish, found = order.wish, order.found
    core = order.core()
    if len(core.shape) == 1:
        core = Values.of(core.read()[None])
    form = wish.box_form or found.form or "corners"
    if form == "corners" and "detection_boxes" in order.name:
        form = "corners, y first"  # as TensorFlow's detection models give them
    candidates = form == "candidates"
    read = box_module.read_boxes(
        core, form, scores=wish.scores, classes=wish.classes,
        objectness=candidates and found.axes.rstrip("1").endswith("D"),
    )  # fmt: skip
    order.notes.append(f"each {box_module.FORMS[form]}, in "
                       + ("parts of the picture" if read.unit else "pixels"))  # fmt: skip
    return box_module.boxes(
        read, title=order.name, labels=wish.labels, source=wish.source,
        count=wish.count or 60, apart=candidates,
    )  # fmt: skip


def _draw_points(order: _Order) -> Drawing:
    form = order.found.form
    if form.endswith("in turn"):
        each = int(form[0])
        row = order.core().read()
        thing: Any = row.reshape(-1, each)
    else:
        thing = order.core(keep_items=True)
        while len(thing.shape) > 3:
            thing = thing.at(0, 0)
    y_first = "movenet" in order.wish.model.lower()
    return points.points(thing, title=order.name, source=order.wish.source, y_first=y_first)


def _draw_flow(order: _Order) -> Drawing:
    return flow.flow(order.core(), title=order.name,
                     longest=order.wish.limits[1] if order.wish.limits else None)  # fmt: skip


def _draw_signal(order: _Order) -> Drawing:
    return signal.signal(order.core(), title=order.name, limits=order.wish.limits)


def _draw_histogram(order: _Order) -> Drawing:
    if order.values.is_text or order.values.size == 0:
        return _draw_table(order)
    return signal.histogram(order.values, title=order.name)


def _draw_table(order: _Order) -> Drawing:
    if order.values.is_text:
        return tables.text_table(order.values, title=order.name)
    return tables.numbers_table(order.values, title=order.name)


_DRAWERS: dict[str, Callable[[_Order], Drawing]] = {
    "image": _draw_image,
    "heatmap": _draw_map,
    "features": _draw_features,
    "scores": _draw_scores,
    "segmentation": _draw_segmentation,
    "probability": _draw_probability,
    "boxes": _draw_boxes,
    "points": _draw_points,
    "depth": _draw_map,
    "flow": _draw_flow,
    "signal": _draw_signal,
    "histogram": _draw_histogram,
    "text": _draw_table,
    "table": _draw_table,
}


def _caption(values: Values, found: Guess, notes: Sequence[str], wish: Wish) -> str:
    """Say what was guessed and why, what the tensor is, and what was done to draw it."""
    said = f"Seen as {KINDS[found.kind]}: {found.reason}."
    facts = [str(values)]
    if not values.is_text and values.size:
        facts.append(str(values.extent()))
    sentences = [said, ", ".join(facts) + "."]
    if notes:
        joined = "; ".join(note for note in notes if note)
        sentences.append(joined[:1].upper() + joined[1:] + ".")
    if values.distant is not None:
        copied = str(values.distant)
        sentences.append(copied[:1].upper() + copied[1:] + ".")
    others = [kind for kind in _OTHERWISE[found.kind] if _possible(kind, values)]
    if others and wish.kind is None:
        sentences.append("Otherwise: as_=" + " or ".join(f'"{kind}"' for kind in others) + ".")
    return " ".join(sentences)


def _possible(kind: str, values: Values) -> bool:
    try:
        shaped(kind, values)
    except ArgumentError:
        return False
    return True


def _picture(drawing: Drawing, name: str, caption: str) -> Picture:
    pixels = drawing.pixels()
    png = encode_png(pixels)
    titled = isinstance(drawing.canvas, Canvas) and not drawing.html
    title = name if not titled else ""
    alt = f"{name}: {drawing.alt}" if name else drawing.alt
    image = fill(
        "drawn",
        source=embedded_photo(pixels) if drawing.photo else data_uri(png),
        alt=escape(alt),
        width=str(drawing.width),
        rounded=ROUNDED if drawing.photo else "",
    )
    html = fill(
        "seen",
        style=stylesheet(),
        heading=f'<div class="tnb-heading">{escape(title)}</div>' if title else "",
        body=drawing.html or image,
        caption=escape(caption),
    )
    # Beside the HTML, which nearly everything shows, a photograph's full size would be most of a
    # saved notebook. (Maps are enlarged cell by cell, which makes no larger a file.)
    small = encode_png(pixels.reduce(plot.SCALE)) if drawing.photo else b""
    return Picture(png, f"{alt}\n{caption}", caption, drawing.width, html, drawing, small=small)
