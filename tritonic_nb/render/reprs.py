"""What an object says of itself: a card in HTML, and the same in plain text.

Both take plain strings and do no I/O, save for the package's own templates, which are read
once. Without a style, as GitHub shows it, a card is a title that
folds, and tables.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tritonic_nb.render.markup import Rich, escape, fill, offered, shown, stylesheet
from tritonic_nb.render.picture import Picture

__all__ = [
    "Cell",
    "Described",
    "Description",
    "Table",
    "aligned",
    "card",
    "line",
    "plain",
    "table_html",
]

Cell: TypeAlias = str | Rich
"""What stands in a row or a table."""

_MOST_ROWS = 100
_LONGEST_CELL = 1000  # characters: a server may give names of any length


@dataclass(frozen=True)
class Table:
    """A table in a card.

    Parameters
    ----------
    title
        Stands above the table, with the number of its rows; None for a card's only table,
        which does not fold by itself.
    columns
        The names of the columns.
    rows
        One cell for each column. Of more than 100 the rest is only counted.
    numeric
        The indices of the columns that are aligned to the right.
    open
        Whether the table is unfolded at first.
    """

    title: str | None
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: Sequence[int] = ()
    open: bool = True


Description: TypeAlias = tuple[str, Sequence[tuple[str, Cell]], Sequence[Table]]
"""What :func:`card` and :func:`plain` take: a title, rows and tables."""


class Described:
    """Shows itself as a card in a notebook and as text in a terminal.

    A class says by ``_described`` what of, and by ``_drawn`` whether there is a picture to
    it, whose HTML stands in the card; they may do no I/O, and may not raise.
    """

    def _described(self) -> Description:
        raise NotImplementedError

    def _drawn(self) -> Picture | None:
        return None

    def __repr__(self) -> str:
        return plain(*self._described())

    def _repr_html_(self) -> str:
        return self._card(self._described())

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str] | tuple[dict[str, str], dict[str, dict[str, int]]]:
        described, picture = self._described(), self._drawn()
        data = {"text/plain": plain(*described), "text/html": self._card(described)}
        if picture is None:
            return offered(data, include, exclude)
        more, metadata = picture._repr_mimebundle_(["image/png"])
        return offered({**data, **more}, include, exclude), metadata

    def _card(self, described: Description) -> str:
        picture = self._drawn()
        return card(*described, figure="" if picture is None else picture.as_html())


def card(
    title: str,
    rows: Sequence[tuple[str, Cell]] = (),
    tables: Sequence[Table] = (),
    open: bool = True,  # noqa: A002 - the HTML attribute's own name
    figure: str = "",
) -> str:
    """Make a card that folds, as HTML that follows the notebook's theme.

    Parameters
    ----------
    title
        The first line, which stays when the card is folded.
    rows
        Names and values.
    tables
        Each folds by itself.
    open
        Whether the card is unfolded at first.
    figure
        HTML that stands between rows and tables: a picture.

    Returns
    -------
    str
        HTML with its own style. Every text is escaped. Where a site removes the style,
        a plain card and tables remain.
    """
    return fill(
        "card",
        style=stylesheet(),
        open=_open(open),
        title=escape(_short(title)),
        rows=fill("rows", body="\n".join(map(_row, rows))) if rows else "",
        figure=figure,
        tables="\n".join(map(table_html, tables)),
    )


def plain(title: str, rows: Sequence[tuple[str, Cell]] = (), tables: Sequence[Table] = ()) -> str:
    """Say in plain text what :func:`card` shows.

    Parameters
    ----------
    title, rows, tables
        As for :func:`card`.

    Returns
    -------
    str
        Lines without a final line break.
    """
    lines = [line(title), *aligned(rows, (), "  ")]
    for table in tables:
        indent = "  "
        if table.title is not None:
            lines.append(f"  {line(table.title)} ({len(table.rows)})")
            indent = "    "
        chosen = [table.columns, *table.rows[:_MOST_ROWS]]
        lines.extend(aligned(chosen, table.numeric, indent))
        lines.extend(f"{indent}{rest}" for rest in _rest(table))
    return "\n".join(lines)


def line(text: str) -> str:
    """Return a text as one line that can be shown, of bounded length."""
    return " ".join(shown(_short(text)).split())


def _row(row: tuple[str, Cell]) -> str:
    name, value = row
    return f'<tr><th scope="row">{escape(_short(name))}</th><td>{_html(value)}</td></tr>'


def table_html(table: Table) -> str:
    """Write a table as HTML, for a card with a style."""
    rows = [
        "".join(f"<td{_number(table, index)}>{_html(cell)}</td>" for index, cell in enumerate(row))
        for row in table.rows[:_MOST_ROWS]
    ]
    rows += [f'<td colspan="{len(table.columns)}">{rest}</td>' for rest in _rest(table)]
    head = "".join(
        f'<th scope="col"{_number(table, index)}>{escape(_short(name))}</th>'
        for index, name in enumerate(table.columns)
    )
    body = fill(
        "table",
        head=f"<thead><tr>{head}</tr></thead>" if head else "",
        body="\n".join(f"<tr>{row}</tr>" for row in rows),
    )
    if table.title is None:
        return body
    return fill(
        "section",
        open=_open(table.open),
        title=escape(_short(table.title)),
        count=str(len(table.rows)),
        body=body,
    )


def _rest(table: Table) -> list[str]:
    left_out = len(table.rows) - _MOST_ROWS
    return [f"… and {left_out:,} more"] if left_out > 0 else []


def _html(cell: Cell) -> str:
    return escape(_short(cell)) if isinstance(cell, str) else cell.html


def _open(is_open: bool) -> str:
    return " open" if is_open else ""


def _number(table: Table, index: int) -> str:
    return ' class="tnb-number"' if index in table.numeric else ""


def aligned(rows: Sequence[Sequence[Cell]], numeric: Sequence[int], indent: str = "") -> list[str]:
    """Align rows of cells as columns of text."""
    cells = [[line(cell if isinstance(cell, str) else cell.text) for cell in row] for row in rows]
    count = max((len(row) for row in cells), default=0)
    widths = [
        max((len(row[index]) for row in cells if index < len(row)), default=0)
        for index in range(count)
    ]
    return [
        indent
        + "  ".join(
            cell.rjust(widths[index]) if index in numeric else cell.ljust(widths[index])
            for index, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"
