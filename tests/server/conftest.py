"""Fixtures of the embedded server's tests: a real Triton."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tritonic_nb.server import Server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def embedded() -> Iterator[Server]:
    """Give a module's tests one protected server."""
    with serve() as running:
        yield running
