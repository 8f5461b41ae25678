"""Numbers and texts that are read rather than seen: the first rows and columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tritonic_nb.render.canvas import Canvas, Drawing, heading_height
from tritonic_nb.render.extent import number
from tritonic_nb.render.markup import shown
from tritonic_nb.render.plot import EDGE, MARGIN, MUTED, TEXT, text_width
from tritonic_nb.render.reprs import Table, aligned, table_html
from tritonic_nb.render.values import Values

__all__ = ["numbers_table", "text_table"]

_ROWS = 12
_COLUMNS = 8
_TEXTS = 20
_LONGEST = 120  # characters of a text
_STEP = 22
_GAP = 22
_WIDEST = 700


def numbers_table(thing: Any, *, title: str = "") -> Drawing:
    """Show the first numbers of a tensor of any shape.

    Parameters
    ----------
    thing
        Any numbers. Of more than two axes the last two are shown, at the first position of
        the others; a single row is wrapped.
    title
        Above them.
    """
    values = Values.of(thing)
    if values.size == 0:
        return _drawn(title, [], [["no element: " + str(values)]], "empty tensor", ())
    notes = []
    core = values
    while len(core.shape) > 1 and core.shape[0] == 1:
        core = core.at(0, 0)
    while len(core.shape) > 2:
        axis = 0
        if core.shape[0] > 1 and "the first of the leading axes" not in notes:
            notes.append("the first of the leading axes")
        core = core.at(axis, 0)
    if len(core.shape) == 0:
        return _drawn(title, [], [[_word(core.read().item())]], "one number", ())
    if len(core.shape) == 1:
        count = core.shape[0]
        few = core[: _ROWS * _COLUMNS].tolist()
        rows = [few[at : at + _COLUMNS] for at in range(0, len(few), _COLUMNS)]
        heads = ["", *(f"+{at}" for at in range(len(rows[0])))] if len(rows) > 1 else []
        cells = [[f"{at * _COLUMNS:,}"] * bool(heads) + list(map(_word, row))
                 for at, row in enumerate(rows)]  # fmt: skip
        if len(few) < count:
            notes.append(f"the first {len(few)} of {count:,} numbers")
        return _drawn(title, heads, cells, f"{count:,} numbers", notes)
    down, across = core.shape
    block = core[:_ROWS, :_COLUMNS].tolist()
    heads = ["", *(f"{at}" for at in range(min(across, _COLUMNS)))]
    cells = [[f"{at}", *map(_word, row)] for at, row in enumerate(block)]
    if down > _ROWS or across > _COLUMNS:
        notes.append(f"the first {len(block)} of {down:,} rows")
        notes.append(
            f"the first {len(block[0])} of {across:,} columns" if across > _COLUMNS else ""
        )
    return _drawn(title, heads, cells, f"{down:,} rows of {across:,} numbers", notes)


def text_table(thing: Any, *, title: str = "") -> Drawing:
    r"""Show the first texts of a tensor, each in a row.

    Parameters
    ----------
    thing
        Texts of any shape; bytes are read as UTF-8, and what is none is written as ``\xff``.
    title
        Above them.
    """
    values = Values.of(thing)
    if values.size == 0:
        return _drawn(title, [], [["no element: " + str(values)]], "empty tensor", ())
    count = values.size
    core = values
    while len(core.shape) > 1 and core.shape[0] == 1:
        core = core.at(0, 0)
    texts = _first_texts(core)
    cells = [[f"{at}", _text(text)] for at, text in enumerate(texts)]
    notes = [f"the first {len(texts)} of {count:,} texts"] if len(texts) < count else []
    if any(len(_decoded(text)) > _LONGEST for text in texts):
        notes.append(f"cut after {_LONGEST} characters")
    head = ["", "text"]
    return _drawn(title, head, cells, f"{count:,} text{'s' * (count != 1)}", notes, left=True)


def _first_texts(values: Values) -> list[Any]:
    """Read the first texts in order, not all of them."""
    index = []
    left = _TEXTS
    for side in reversed(values.shape):
        index.append(slice(0, min(side, max(1, left))))
        left //= max(1, side)
    taken: list[Any] = values[tuple(reversed(index))].reshape(-1).tolist()
    return taken[:_TEXTS]


def _decoded(text: Any) -> str:
    if isinstance(text, bytes):
        return text[: 4 * _LONGEST + 4].decode("utf-8", "backslashreplace")
    return str(text)


def _text(text: Any) -> str:
    line = " ".join(shown(_decoded(text)).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**12 else f"{value:.4g}"
    if isinstance(value, float):
        return number(value) if not abs(value) < 1e6 else f"{value:.4g}"
    return _text(value)


def _drawn(
    title: str,
    heads: Sequence[str],
    cells: Sequence[Sequence[str]],
    alt: str,
    notes: Sequence[str],
    *,
    left: bool = False,
) -> Drawing:
    lines = [list(heads), *map(list, cells)] if heads else list(map(list, cells))
    count = max(map(len, lines))
    numeric = () if left else range(count)
    widths = [max(text_width(line[at]) for line in lines if at < len(line)) for at in range(count)]
    spare = _WIDEST - 2 * MARGIN - sum(widths) - _GAP * (count - 1)
    if spare < 0:  # the widest column gives way
        widest = widths.index(max(widths))
        widths[widest] = max(60.0, widths[widest] + spare)
    width = max(240.0, text_width(title, size=10, bold=True), sum(widths) + _GAP * (count - 1))
    heading = heading_height(title)
    canvas = Canvas(
        min(_WIDEST, width + 2 * MARGIN), heading + len(lines) * _STEP + 2 * MARGIN - 6, title
    )
    for row, line in enumerate(lines):
        head = bool(heads) and row == 0
        y = MARGIN + heading + row * _STEP + 12
        if row:
            above = y - 16
            canvas.line([MARGIN, canvas.width - MARGIN], [above, above], EDGE, 0.6)
        x = float(MARGIN)
        for at, cell in enumerate(line):
            muted = head or (bool(heads) and at == 0)
            end = x if left else x + widths[at]
            canvas.text(
                end, y, cell, room=widths[at] + 1, size=9,
                color=MUTED if muted else TEXT, align="left" if left else "right",
            )  # fmt: skip
            x += widths[at] + _GAP
    text = "\n".join([alt, *aligned(lines, numeric)])
    html = table_html(Table(None, heads, cells, numeric))
    return Drawing(canvas, text, tuple(filter(None, notes)), canvas.width, html=html)
