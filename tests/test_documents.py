"""What the documents under docs/ promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BLOCKS = re.findall(r"```yaml\n(.+?)```", (DOCS / "containers.md").read_text(), re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_recipes_can_be_read(block: str) -> None:
    """Each is YAML with something in it."""
    assert isinstance(yaml.safe_load(block), dict)


def test_there_are_recipes() -> None:
    """For Compose; those for Kubernetes are files of their own."""
    assert len(BLOCKS) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A relative link names a file, and a heading that it has."""
    for target, heading in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text()):
        found = page.parent / target if target else page
        assert found.exists(), target
        if heading:
            assert heading in anchors(found.read_text()), (target, heading)


def anchors(text: str) -> set[str]:
    """Return the names by which a page's headings can be linked to, as GitHub makes them."""
    lines = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}
