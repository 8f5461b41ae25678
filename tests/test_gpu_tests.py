"""The tests for a GPU, on a machine without one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TEST_URL

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(bool(TEST_URL), reason="they start a server of their own")
def test_they_run_with_a_fake_gpu() -> None:
    """All that needs no library and no driver passes: the tests themselves are sound."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/gpu", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        cwd=ROOT,
        env={**os.environ, "TRITONIC_NB_FAKE_GPU": "1"},
    )
    assert done.returncode == 0, done.stdout
    assert "a fake, which proves nothing about a GPU" in done.stdout
    passed = re.search(r"(\d+) passed", done.stdout.splitlines()[-1])
    assert passed is not None
    assert int(passed[1]) >= 90
