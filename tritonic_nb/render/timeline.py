"""How something went over time: stacked areas, lines and marks over one axis of seconds.

Drawn with the same means as the bars: in CSS pixels on a light card of its own, which a
dark page shows as it is. The names stand beside each panel, in its order from top to
bottom, so that nothing can overlap. Colours are those of Okabe and Ito ("Color Universal
Design", 2008), which people with any colour vision tell apart; marks differ in form, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.human import human_bytes
from tritonic_nb.render.image import ROUNDED, encode_png
from tritonic_nb.render.markup import escape, fill
from tritonic_nb.render.picture import Picture, data_uri
from tritonic_nb.render.plot import (
    EDGE,
    FACE,
    MARGIN,
    MUTED,
    TEXT,
    TRACK,
    draw_text,
    draw_title,
    new_card,
    rendered,
)
from tritonic_nb.render.scales import LinearScale

if TYPE_CHECKING:  # Matplotlib is imported when something is drawn
    from matplotlib.figure import Figure

__all__ = ["Layer", "MarkRow", "Panel", "RateRow", "fold", "timeline"]

_LEFT = 78  # of the plots, for the numbers at their side
_NAMES = 216  # at the right of the plots, for the names
_GAP = 14  # from the plots to the names
_HEADING = 30  # above each panel
_ROW = 16  # from one mark row, or name, to the next
_BELOW = 48  # under the last panel: the axis
_SIZE = 8.5  # of all texts but the titles, in points
_LEAST_WIDTH = 480
_SECONDS_STEP = 56
_STACK_HEIGHT = 150
_LINES_HEIGHT = 84

_OWN = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_MORE = "#f0e442"
_OTHERS = ("#5f6b76", "#8b96a1", "#aeb7c0")
_REST = "#cfd5db"
_FREE = "#f1f3f5"
_LINES = (("#0072b2", "-"), ("#d55e00", (0, (5, 1.5))), ("#009e73", (0, (1.5, 1.2))),
          ("#59636e", (0, (6, 1.5, 1.5, 1.5))))  # fmt: skip
_WARNING = "#b3261e"
_MARKS = {
    "switch": ("s", "#7b3294"),
    "register": ("^", "#009e73"),
    "grow": ("D", "#0072b2"),
    "unregister": ("v", "#8a5a00"),
    "error": ("X", _WARNING),
}
_BARS = "#5f6b76"
_MOST_GUIDES = 24
_LEAST_TOP = 1000.0  # bytes: where an axis ends at least
_MOST_OTHERS = 3

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """One area or one line.

    Attributes
    ----------
    name
        Stands beside the panel.
    values
        One number for each time; NaN where it is not known.
    kind
        Of an area: ``"own"``, ``"more"`` (smaller ones of these together), ``"other"`` (grey),
        or ``"rest"``: what is known to be there and not by whom.
    low
        Whether it matters how low it was, and not how high.
    """

    name: str
    values: Sequence[float] | Numbers
    kind: str = "own"
    low: bool = False

    @property
    def extreme(self) -> float:
        """The number that stands beside its name: the peak, or the least."""
        return _least(self.values) if self.low else _peak(self.values)


@dataclass(frozen=True)
class Panel:
    """A plot with its own vertical axis, which begins at 0.

    Attributes
    ----------
    title
        Above it.
    areas
        Stacked, the first one at the bottom. Of many only the largest are named.
    lines
        At most four.
    total
        The most that there can be; what is not taken of it is drawn as free.
    warn_at
        Where a line warns.
    percent
        Whether the numbers are percent of 100, and not bytes.
    """

    title: str
    areas: Sequence[Layer] = ()
    lines: Sequence[Layer] = ()
    total: float | None = None
    warn_at: float | None = None
    percent: bool = False

    def text(self, value: float) -> str:
        """Write a number of this panel for people."""
        if self.percent:
            return f"{value:.0f} %"
        return human_bytes(round(value)) if value else "0"


@dataclass(frozen=True)
class MarkRow:
    """Marks at moments: ``"switch"``, ``"register"``, ``"grow"``, ``"unregister"``, ``"error"``.

    Attributes
    ----------
    kind
        Its name, which chooses form and colour.
    times
        In seconds.
    count
        How many there were, which may be more than are marked.
    """

    kind: str
    times: Sequence[float]
    count: int


@dataclass(frozen=True)
class RateRow:
    """How many of something there were from one time to the next.

    Attributes
    ----------
    name
        What was counted.
    counts
        One for each time: since the time before.
    count
        All of them.
    """

    name: str
    counts: Sequence[float] | Numbers
    count: int


def timeline(
    times: Sequence[float],
    panels: Sequence[Panel],
    *,
    title: str,
    marks: Sequence[MarkRow] = (),
    rate: RateRow | None = None,
    width: int = 720,
) -> Picture:
    """Draw panels below one another, over one axis of seconds.

    Parameters
    ----------
    times
        In seconds, in order; at least one.
    panels
        At least one.
    title
        Above all.
    marks, rate
        Rows of events above the panels.
    width
        On the page, in CSS pixels, at least 480.

    Returns
    -------
    Picture
        A light card, also on dark pages; its text is the same in numbers.

    Raises
    ------
    ArgumentError
        If there is nothing to draw, a panel has numbers for other times, or it is too
        narrow.
    """
    if width < _LEAST_WIDTH:
        raise ArgumentError(f"width is {width}", f"use at least {_LEAST_WIDTH} pixels")
    _check(times, panels, rate)
    panels = [_folded(panel) for panel in panels]
    rows = len(marks) + (rate is not None)
    top = MARGIN + 26 + (rows * _ROW + 6 if rows else 0)
    height = top + sum(_HEADING + _height(panel) for panel in panels) + _BELOW
    figure = new_card(width, round(height))
    draw_title(figure, title)
    right = width - MARGIN - _NAMES - _GAP
    place = _Place(figure, _scale_of(times, _LEFT, right), np.asarray(times, float))
    marks = [_within(row, place.x) for row in marks]
    guides = [time for row in marks for time in row.times]
    _draw_axis(place, height - _BELOW)
    if rows:
        _draw_seconds(place, MARGIN + 26, MARGIN + 26 + rows * _ROW)
    _draw_rows(place, MARGIN + 26, marks, rate)
    for panel in panels:
        top += _HEADING
        _draw_panel(place, panel, top, guides if len(guides) <= _MOST_GUIDES else ())
        top += _height(panel)
    png, alt = encode_png(rendered(figure)), _text(title, panels, marks, rate)
    html = fill("drawn", source=data_uri(png), alt=escape(alt), width=str(width), rounded=ROUNDED)
    return Picture(png, alt, width=width, html=html)


def _within(row: MarkRow, x: LinearScale) -> MarkRow:
    """Leave out marks that are beside the axis: of what was so long ago there are no numbers."""
    return MarkRow(row.kind, [t for t in row.times if x.low <= t <= x.high], row.count)


def _check(times: Sequence[float], panels: Sequence[Panel], rate: RateRow | None) -> None:
    if not len(times) or not panels:
        raise ArgumentError("there is nothing to draw", "give at least one time and one panel")
    named: list[tuple[str, Sequence[float] | Numbers]] = [
        (layer.name, layer.values) for panel in panels for layer in (*panel.areas, *panel.lines)
    ]
    for name, values in [*named, *([(rate.name, rate.counts)] if rate else [])]:
        if len(values) != len(times):
            raise ArgumentError(
                f"{name!r} has {len(values)} numbers for {len(times)} times", "give one for each"
            )


# --- what is drawn -----------------------------------------------------------------------------


def _scale_of(times: Sequence[float], start: float, end: float) -> LinearScale:
    low, high = float(times[0]), float(times[-1])
    if 0 < low < high / 20:  # it began at 0, and the first number came a moment later
        low = 0.0
    return LinearScale(low, high if high > low else low + 1, start, end)


@dataclass(frozen=True)
class _Place:
    """Where everything is drawn: the figure, the axis of time, and the times."""

    figure: Figure
    x: LinearScale
    times: Numbers

    def words(self, x: float, y: float, text: str, **how: Any) -> float:
        return draw_text(self.figure, x, y, text, **{"size": _SIZE, "color": MUTED, **how})

    def line(self, xs: Any, ys: Any, color: str, width: float, **how: Any) -> None:
        from matplotlib.lines import Line2D

        given = {"linestyle": "-", "marker": "", "zorder": 3, **how}
        self.figure.axes[0].add_line(Line2D(xs, ys, color=color, linewidth=width, **given))

    def area(self, low: Any, high: Any, color: str, *, zorder: float = 2) -> None:
        xs = self.x(self.times)
        if len(xs) == 1:  # one moment is drawn as all of the time
            xs, low, high = (
                np.array([self.x.start, self.x.end]),
                np.repeat(low, 2),
                np.repeat(high, 2),
            )
        self.figure.axes[0].fill_between(
            xs, low, high, facecolor=color, edgecolor=FACE, linewidth=0.5, zorder=zorder
        )


def fold(kinds: Sequence[str], peaks: Sequence[float]) -> list[tuple[str, str, list[int]]]:
    """Choose which of many areas are put together, so that each that is left has its colour.

    Parameters
    ----------
    kinds, peaks
        Of each area, as :class:`Layer` has them.

    Returns
    -------
    list of (str, str, list of int)
        From bottom to top: what to call those that are together (empty for one that stays),
        the kind, and which areas.
    """
    chosen = []
    for kind, most, word, together in (
        ("own", len(_OWN), "more", "more"),
        ("other", _MOST_OTHERS - 1, "others", "other"),
    ):
        found = [index for index, each in enumerate(kinds) if each == kind]
        by_size = sorted(found, key=lambda index: peaks[index], reverse=True)
        kept = set(by_size[:most])
        rest = [index for index in found if index not in kept]
        chosen += [("", kind, [index]) for index in found if index in kept]
        if len(rest) == 1 and kind == "other":  # its name takes no more room
            chosen.append(("", kind, rest))
        elif rest:
            chosen.append((f"{len(rest)} {word}", together, rest))
    return [
        *chosen,
        *(("", kind, [n]) for n, kind in enumerate(kinds) if kind not in ("own", "other")),
    ]


def _folded(panel: Panel) -> Panel:
    """Put the smaller ones of many areas together."""
    areas = []
    peaks = [_peak(area.values) for area in panel.areas]
    for name, kind, chosen in fold([area.kind for area in panel.areas], peaks):
        values = [np.asarray(panel.areas[index].values, float) for index in chosen]
        one = name or panel.areas[chosen[0]].name
        areas.append(Layer(one, np.nansum(values, axis=0) if name else values[0], kind))
    return Panel(panel.title, areas, panel.lines, panel.total, panel.warn_at, panel.percent)


def _colors(areas: Sequence[Layer]) -> list[str]:
    """Return a colour for each area: the own ones in colours, others in greys."""
    own, others = iter(_OWN), iter(_OTHERS)
    colors = {"own": lambda: next(own), "other": lambda: next(others)}
    plain = {"more": _MORE, "rest": _REST}
    return [plain.get(area.kind) or colors[area.kind]() for area in areas]


def _peak(values: Sequence[float] | Numbers) -> float:
    numbers = np.asarray(values, float)
    known = numbers[np.isfinite(numbers)]
    return float(known.max(initial=0.0))


def _least(values: Sequence[float] | Numbers) -> float:
    numbers = np.asarray(values, float)
    known = numbers[np.isfinite(numbers)]
    return float(known.min()) if known.size else 0.0


def _stack(panel: Panel) -> list[Numbers]:
    """Return the upper edge of each area; what is not known counts as nothing."""
    values = [np.nan_to_num(np.asarray(area.values, float)) for area in panel.areas]
    return list(np.cumsum(values, axis=0)) if values else []


def _names(panel: Panel) -> int:
    free = panel.total is not None and bool(panel.areas)
    return len(panel.areas) + len(panel.lines) + free


def _height(panel: Panel) -> int:
    return max(_STACK_HEIGHT if panel.areas else _LINES_HEIGHT, _names(panel) * _ROW + 6)


def _top_value(panel: Panel) -> tuple[float, bool]:
    """Return where the vertical axis ends, and whether that is all there can be."""
    if panel.percent:
        return 100.0, True
    stack = _stack(panel)
    peaks = [_peak(line.values) for line in panel.lines] + ([_peak(stack[-1])] if stack else [])
    peak = max(peaks, default=0.0)
    if panel.total and peak >= 0.3 * panel.total:
        return max(panel.total, peak), True
    return max(peak * 1.25, _LEAST_TOP), False


def _draw_seconds(place: _Place, top: float, bottom: float) -> None:
    """Draw a faint line for each number of the axis."""
    for second in place.x.steps(_SECONDS_STEP):
        at = place.x(second)
        place.line((at, at), (top, bottom), TRACK, 0.8, zorder=1)


def _draw_axis(place: _Place, bottom: float) -> None:
    """Write the seconds below all panels."""
    for second in place.x.steps(_SECONDS_STEP):
        at = place.x(second)
        half = _width(place, f"{second:g}") / 2
        place.words(at - half, bottom + 18, f"{second:g}")
    caption = "seconds"
    middle = (place.x.start + place.x.end) / 2 - _width(place, caption) / 2
    place.words(middle, bottom + 34, caption)


def _draw_rows(place: _Place, top: float, marks: Sequence[MarkRow], rate: RateRow | None) -> None:
    left, names = place.x.start, place.x.end + _GAP
    for index, row in enumerate(marks):
        y = top + _ROW * (index + 0.5)
        form, color = _MARKS.get(row.kind, ("o", MUTED))
        place.words(left - 8, y + 4, row.kind, right=True)
        xs = [place.x(time) for time in row.times]
        place.line(
            xs, [y] * len(xs), color, 0, linestyle="", marker=form, markersize=5,
            markeredgewidth=0, clip_on=False, zorder=5,
        )  # fmt: skip
        place.words(names, y + 4, f"{row.count:,}")
    if rate is not None:
        _draw_rate(place, top + _ROW * len(marks), rate)


def _draw_rate(place: _Place, top: float, rate: RateRow) -> None:
    """Draw how many there were as steps, as high as the row where they were most."""
    bottom = top + _ROW - 1
    place.words(place.x.start - 8, bottom - 3, rate.name, right=True)
    counts, times = np.nan_to_num(np.asarray(rate.counts, float)), place.times
    spans = np.diff(times, prepend=times[0])
    rates = np.divide(counts, spans, out=np.zeros_like(counts), where=spans > 0)
    most = float(rates.max(initial=0.0))
    place.line((place.x.start, place.x.end), (bottom, bottom), EDGE, 0.8)
    if most > 0:
        heights = bottom - rates / most * (_ROW - 4)
        place.figure.axes[0].fill_between(
            place.x(times), bottom, heights, step="pre", facecolor=_BARS, linewidth=0, zorder=3
        )
    fastest = f", at most {most:,.3g}/s" if most < 1000 else f", at most {most:,.0f}/s"
    place.words(place.x.end + _GAP, bottom - 3, f"{rate.count:,}{fastest if most else ''}")


def _draw_panel(place: _Place, panel: Panel, top: float, guides: Sequence[float]) -> None:
    bottom = top + _height(panel)
    high, whole = _top_value(panel)
    y = LinearScale(0, high, bottom - 6, top)
    _draw_heading(place, panel, top - 12, y, whole)
    start, end = place.x.start, place.x.end
    _draw_seconds(place, top, y.start + 4)
    for value in y.steps(22 if not panel.areas else 30):
        at = y(value)
        place.line((start, end), (at, at), EDGE if value == 0 else TRACK, 0.8, zorder=1)
        place.words(start - 8, at + 4, panel.text(value), right=True)
    if panel.areas:
        _draw_areas(place, panel, y, whole)
    for line, (color, dashes) in zip(panel.lines, _LINES, strict=False):
        ys = y(np.asarray(line.values, float))
        xs = place.x(place.times)
        if len(xs) == 1:
            xs, ys = (start, end), np.repeat(ys, 2)
        place.line(xs, ys, color, 1.6, linestyle=dashes, zorder=4)
    for time in guides:
        place.line((place.x(time),) * 2, (top, y.start), MUTED, 0.5, zorder=4, alpha=0.4)
    if panel.warn_at is not None and panel.warn_at <= high:
        at = y(panel.warn_at)
        place.line((start, end), (at, at), _WARNING, 1.0, linestyle=(0, (4, 2)), zorder=4)
    _draw_names(place, panel, top)


def _draw_areas(place: _Place, panel: Panel, y: LinearScale, whole: bool) -> None:
    edges = _stack(panel)
    low: Any = np.zeros(len(place.times))
    for edge, color in zip(edges, _colors(panel.areas), strict=True):
        place.area(y(low), y(edge), color)
        low = edge
    if whole and panel.total is not None:
        place.area(y(low), y(np.maximum(low, panel.total)), _FREE, zorder=1.5)


def _draw_heading(place: _Place, panel: Panel, y: float, scale: LinearScale, whole: bool) -> None:
    taken = place.words(MARGIN, y, panel.title, color=TEXT, bold=True, size=9)
    notes = []
    if panel.total is not None and panel.areas and not whole:
        notes.append("zoomed in")
    if panel.warn_at is not None and panel.warn_at <= scale.high:
        notes.append(f"dashed: warning from {panel.text(panel.warn_at)} on")
    end = place.x.end + _GAP + _NAMES
    end -= 12 + place.words(end, y, "peak", right=True)
    left = MARGIN + taken + 12
    if notes:
        place.words(left, y, "; ".join(notes), room=end - left)


def _draw_names(place: _Place, panel: Panel, top: float) -> None:
    """Write the names beside a panel, as they lie above one another."""
    areas = list(zip(panel.areas, _colors(panel.areas), strict=True))[::-1]
    row = 0
    for area, color in areas:
        _draw_name(place, top + row * _ROW, area.name, panel.text(_peak(area.values)), color=color)
        row += 1
    if panel.total is not None and panel.areas:
        least = max(0.0, panel.total - _peak(_stack(panel)[-1]))
        _draw_name(place, top + row * _ROW, "free, at least", panel.text(least), color=_FREE)
        row += 1
    for line, (color, dashes) in zip(panel.lines, _LINES, strict=False):
        text = panel.text(line.extreme)
        _draw_name(place, top + row * _ROW, line.name, text, color=color, dashes=dashes)
        row += 1


def _draw_name(
    place: _Place, top: float, name: str, value: str, *, color: str, dashes: Any = None
) -> None:
    from matplotlib.patches import Rectangle

    left, right, y = place.x.end + _GAP, place.x.end + _GAP + _NAMES, top + 8
    if dashes is None:
        box = Rectangle((left, y - 5), 12, 10, facecolor=color, edgecolor=EDGE, linewidth=0.6)
        place.figure.axes[0].add_patch(box)
    else:
        place.line((left - 4, left + 15), (y, y), color, 1.8, linestyle=dashes)
    taken = place.words(right, y + 4, value, right=True)
    place.words(left + 20, y + 4, name, color=TEXT, room=right - left - 20 - taken - 8)


def _width(place: _Place, text: str) -> float:
    """Return the width of a text, by writing it and taking it away again."""
    width = place.words(0, 0, text)
    place.figure.axes[0].texts[-1].remove()
    return width


def _text(
    title: str, panels: Sequence[Panel], marks: Sequence[MarkRow], rate: RateRow | None
) -> str:
    lines = [title]
    for panel in panels:
        parts = [f"{each.name} {panel.text(each.extreme)}" for each in (*panel.areas, *panel.lines)]
        lines.append(f"{panel.title}, peaks: {', '.join(parts)}")
    counts = [f"{row.kind} {row.count:,}" for row in marks]
    counts += [f"{rate.name} {rate.count:,}"] if rate is not None else []
    return "\n".join([*lines, *([f"events: {', '.join(counts)}"] if counts else [])])
