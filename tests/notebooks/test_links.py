"""The public address stands in one place, and everything that tells it agrees."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from links import COLAB_ID, LINKS_ID, NOTEBOOKS, README, dressed, with_links


def test_the_readme_has_the_links() -> None:
    """Its badges and its table of notebooks are what ``make links`` writes."""
    assert README.read_text() == with_links(README.read_text()), "run `make links`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_has_its_links(path: Path) -> None:
    """It has the links to itself, and the cell for Colab, once each and where they belong."""
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells[1:3]] == [LINKS_ID, COLAB_ID]
    before = nbformat.writes(notebook)
    assert nbformat.writes(dressed(notebook, path.name)) == before, "run `make links`"
    assert path.name in notebook.cells[1].source


def test_links_between_notebooks_lead_somewhere() -> None:
    """A notebook that another one names is there."""
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            for target in re.findall(r"\]\(([^):#]+\.ipynb)", cell.source):
                assert (path.parent / target).exists(), f"{path.name}: {target}"
