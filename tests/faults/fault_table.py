"""What a fault test counts, and the table of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

FULL = os.environ.get("TRITONIC_NB_FAULTS") == "full"
"""Whether the faults are tried at full length, which takes minutes, or only as a sample."""

_COLUMNS = ("fault", "trials", "survived", "bytes left", "regions left", "note")
_PROBLEMS_SHOWN = 8


def times(short: int, full: int) -> int:
    """Return how often to try, in the short form and at full length."""
    return full if FULL else short


@dataclass
class Row:
    """What was counted of one fault.

    Attributes
    ----------
    trials, survived
        How often it was tried, and how often without a problem.
    bytes_left, regions_left
        What was left in /dev/shm, and the names that were left there or at the server.
    problems
        What was wrong, in words.
    notes
        Figures worth knowing.
    """

    fault: str
    trials: int = 0
    survived: int = 0
    bytes_left: int = 0
    regions_left: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, problem: str = "", *, bytes_left: int = 0, regions_left: int = 0) -> None:
        """Count one trial, with what was wrong and what was left."""
        self.bytes_left += bytes_left
        self.regions_left += regions_left
        if not problem and (bytes_left or regions_left):
            problem = f"{bytes_left} bytes and {regions_left} regions were left"
        self.trials += 1
        if problem:
            self.problems.append(problem)
        else:
            self.survived += 1

    def count_all(self, good: int, problems: Iterable[str] = ()) -> None:
        """Count many trials that leave nothing to look at one by one."""
        self.trials += good
        self.survived += good
        for problem in problems:
            self.count(problem)

    def note(self, text: str) -> None:
        """Add a figure for the last column."""
        self.notes.append(text)

    def check(self) -> None:
        """Fail unless the fault was tried, and survived each time."""
        shown = "\n".join(self.problems[:_PROBLEMS_SHOWN])
        assert not self.problems, f"{len(self.problems)} of {self.trials} trials:\n{shown}"
        assert self.trials, f"{self.fault!r} was never tried"

    def add(self, other: Row) -> None:
        """Add the figures of another row of the same fault."""
        self.trials += other.trials
        self.survived += other.survived
        self.bytes_left += other.bytes_left
        self.regions_left += other.regions_left
        self.problems += other.problems
        self.notes += other.notes


Record = Callable[[str], AbstractContextManager[Row]]
"""Makes the row of a fault, and at the end of the ``with`` block checks it."""


def table(rows: Iterable[Row]) -> list[str]:
    """Return the lines of a table, with the rows of the same fault as one."""
    by_fault: dict[str, Row] = {}
    for row in rows:
        by_fault.setdefault(row.fault, Row(row.fault)).add(row)
    cells = [
        (
            row.fault,
            str(row.trials),
            str(row.survived),
            str(row.bytes_left),
            str(row.regions_left),
            "; ".join(row.notes),
        )
        for row in by_fault.values()
    ]
    widths = [max(len(line[i]) for line in (_COLUMNS, *cells)) for i in range(len(_COLUMNS))]
    return [
        "  ".join(
            # The first and the last are words, the others figures.
            cell.ljust(width) if i in (0, len(widths) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (_COLUMNS, *cells)
    ]
