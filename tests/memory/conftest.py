"""A CUDA runtime for tests of memory, on machines with and without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fake_cuda import FakeCuda, installed


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    """Two fake devices of 256 MiB, which are given back all that was taken of them."""
    with installed(FakeCuda()) as fake:
        yield fake
