"""What the README promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_ten_lines_run(tmp_path: Path) -> None:
    """The first example, run as it stands in an empty folder, finds a cat."""
    found = re.search(r"## Ten lines\n\n```python\n(.+?)```", README, re.S)
    assert found is not None
    assert len(found[1].strip().splitlines()) <= 10
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", found[1]],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cat" in done.stdout.splitlines()[0]
    assert re.search(r"^1409124 bytes through /dev/shm, \d{3} over the wire$", done.stdout, re.M)


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_links_to_files_lead_somewhere(document: str) -> None:
    """Every relative link of a document names a file of the project."""
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
