"""Fixtures of the embedded server's tests: a real Triton."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tritonic_nb.server import Server, serve


@pytest.fixture(scope="module")
def embedded() -> Iterator[Server]:
    """Give a module's tests one protected server."""
    with serve() as running:
        yield running
        # Unloading the models one after the other would take the whole grace of stop().
        running.stop(0.0)
