"""The fault suite: what it counts, and the table at its end.

``TRITONIC_NB_FAULTS=full`` tries each fault at full length and prints the table;
otherwise each is tried a few times, and the table is shown with ``-v``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_table import FULL, Record, Row, table

_HERE = Path(__file__).parent
_FULL_TIMEOUT_S = 1800
_rows = pytest.StashKey[list[Row]]()


@pytest.fixture
def record(pytestconfig: pytest.Config) -> Record:
    """Count the trials of a fault, which is a row of the table; each has to be survived."""

    @contextlib.contextmanager
    def one_row(fault: str) -> Iterator[Row]:
        row = Row(fault)
        pytestconfig.stash.setdefault(_rows, []).append(row)
        yield row
        row.check()

    return one_row


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder more time at full length."""
    for item in items:
        if FULL and _HERE in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_FULL_TIMEOUT_S))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table."""
    rows = config.stash.get(_rows, [])
    if rows and (FULL or config.get_verbosity() > 0):
        terminalreporter.section("faults")
        for line in table(rows):
            terminalreporter.write_line(line)
