"""The benchmark of maps over a cluster runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_runs() -> None:
    """It prints a figure for each claim; it fails where one of its own checks does."""
    found = subprocess.run(
        [sys.executable, "-m", "tritonic_nb.benchmark", "--spread", "--quick"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    for claim in (
        r"ratio \d\.\d\d", r"each item once, nothing left", r"4 kB, there and back: -?\d",
        r"limited to 1\.07 GB: \d+ s",
    ):  # fmt: skip
        assert re.search(claim, found.stdout), found.stdout
