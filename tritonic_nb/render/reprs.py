"""What an object says of itself: a card in HTML, and the same in plain text.

Both take plain strings and do no I/O, save for the package's own templates, which
are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tritonic_nb.render.markup import escape, fill, shown, stylesheet

__all__ = ["Table", "card", "plain"]


@dataclass(frozen=True)
class Table:
    """A table in a card.

    Parameters
    ----------
    title
        Stands above the table, with the number of its rows.
    columns
        The names of the columns.
    rows
        One string for each column.
    numeric
        The indices of the columns that are aligned to the right.
    open
        Whether the table is unfolded at first.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[int] = ()
    open: bool = True


def card(
    title: str,
    rows: Sequence[tuple[str, str]] = (),
    tables: Sequence[Table] = (),
    open: bool = True,  # noqa: A002 - the HTML attribute's own name
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
        title=escape(title),
        rows=fill("rows", body="\n".join(map(_row, rows))) if rows else "",
        tables="\n".join(map(_table, tables)),
    )


def plain(title: str, rows: Sequence[tuple[str, str]] = (), tables: Sequence[Table] = ()) -> str:
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
    lines = [_one_line(title), *_columns(rows, (), "  ")]
    for table in tables:
        lines.append(f"  {_one_line(table.title)} ({len(table.rows)})")
        lines.extend(_columns([table.columns, *table.rows], table.numeric, "    "))
    return "\n".join(lines)


def _row(row: tuple[str, str]) -> str:
    name, value = row
    return f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'


def _table(table: Table) -> str:
    return fill(
        "table",
        open=_open(table.open),
        title=escape(table.title),
        count=str(len(table.rows)),
        head="".join(
            f'<th scope="col"{_number(table, index)}>{escape(name)}</th>'
            for index, name in enumerate(table.columns)
        ),
        body="\n".join(
            "<tr>"
            + "".join(
                f"<td{_number(table, index)}>{escape(cell)}</td>" for index, cell in enumerate(row)
            )
            + "</tr>"
            for row in table.rows
        ),
    )


def _open(is_open: bool) -> str:
    return " open" if is_open else ""


def _number(table: Table, index: int) -> str:
    return ' class="tnb-number"' if index in table.numeric else ""


def _columns(rows: Sequence[Sequence[str]], numeric: Sequence[int], indent: str) -> list[str]:
    """Align rows of cells as columns of text."""
    cells = [[_one_line(cell) for cell in row] for row in rows]
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


def _one_line(text: str) -> str:
    return " ".join(shown(text).split())
