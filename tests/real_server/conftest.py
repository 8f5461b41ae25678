"""The session's tests are run with both protocols."""

from __future__ import annotations

import pytest

from tests.conftest import skip_without


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    """What sessions speak."""
    return skip_without(request.param)
