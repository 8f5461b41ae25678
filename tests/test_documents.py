"""What the documents under docs/ promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

DOCS = Path(__file__).parents[1] / "docs"
BLOCKS = re.findall(r"```yaml\n(.+?)```", (DOCS / "containers.md").read_text(), re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_recipes_can_be_read(block: str) -> None:
    """Each is YAML; where there are volumes, both containers have the memory of one at /dev/shm."""
    found = yaml.safe_load(block)
    assert isinstance(found, dict)
    text = yaml.safe_dump(found)
    if "emptyDir" in text:
        assert "medium: Memory" in text
        assert text.count("mountPath: /dev/shm") == 2


def test_there_are_recipes() -> None:
    """For Compose, Kubernetes and JupyterHub."""
    assert len(BLOCKS) == 3
