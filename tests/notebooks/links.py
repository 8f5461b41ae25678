"""Where the notebooks can be opened: one address, written into every place that tells it.

::

    make links          # after the address in pyproject.toml was changed, or a notebook was added

The repository's public address stands in ``pyproject.toml`` alone, in ``[tool.tritonic_nb]``. From
it come the README's badges and table, and in each notebook the line with links and the cell that
installs the package in Google Colab. ``test_links.py`` fails where one differs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import quote

import nbformat
from nbformat import NotebookNode

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["COLAB_ID", "NOTEBOOKS", "README", "dressed", "main", "requirement", "with_links"]

_ROOT = Path(__file__).parents[2]
README = _ROOT / "README.md"
NOTEBOOKS = sorted((_ROOT / "notebooks").glob("*.ipynb"))
LINKS_ID = "links"
COLAB_ID = "colab"

_ADDRESS = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["tritonic_nb"]
_GITHUB, _BRANCH = _ADDRESS["github"], _ADDRESS["branch"]
_NOBODY = "OWNER/"
_NOT_YET = """
(The repository has no public address yet: these links lead nowhere until it stands in
`pyproject.toml`, under `[tool.tritonic_nb]`, and `make links` was run.)
"""
_COLAB = """\
# In Google Colab this installs tritonic_nb; anywhere else it does nothing.
import os

if "COLAB_RELEASE_TAG" in os.environ:
    %pip install --quiet "{requirement}"
    from google.colab import output

    output.enable_custom_widget_manager()\
"""


def main() -> int:
    """Write the links into the README and every notebook."""
    README.write_text(with_links(README.read_text()))
    for path in NOTEBOOKS:
        nbformat.write(dressed(nbformat.read(path, as_version=4), path.name), path)
    return 0


def requirement() -> str:
    """Name the package for pip as it is had from the repository."""
    return f"tritonic-nb @ git+https://github.com/{_GITHUB}@{_BRANCH}"


def dressed(notebook: NotebookNode, name: str) -> NotebookNode:
    """Put a notebook's two cells, of links and for Colab, after its first; in place of older ones.

    Parameters
    ----------
    notebook
        It is changed.
    name
        Its file's name.
    """
    links = nbformat.v4.new_markdown_cell(
        f"Run this notebook [on Binder]({_binder(name)}) or [in Google Colab]({_colab(name)}), "
        "without installing anything.",
        id=LINKS_ID,
    )
    colab = nbformat.v4.new_code_cell(_COLAB.format(requirement=requirement()), id=COLAB_ID)
    for cell in notebook.cells:
        if cell.id == COLAB_ID:  # what was saved of it stays
            colab.update({key: cell[key] for key in ("metadata", "outputs", "execution_count")})
    rest = [cell for cell in notebook.cells if cell.id not in {LINKS_ID, COLAB_ID}]
    notebook.cells = [rest[0], links, colab, *rest[1:]]
    return notebook


def with_links(readme: str) -> str:
    """Write the README's badges and its table of notebooks."""
    first = NOTEBOOKS[0].name
    badges = (
        f"[![Run on Binder](https://mybinder.org/badge_logo.svg)]({_binder(first)})\n"
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"({_colab(first)})\n"
    )
    lines = ["| notebook | run it |", "|---|---|"]
    for path in NOTEBOOKS:
        number = int(path.name.split("-")[0])
        lines.append(
            f"| {number}. [{_title(path)}](notebooks/{path.name}) "
            f"| [Binder]({_binder(path.name)}) · [Colab]({_colab(path.name)}) |"
        )
    table = "\n".join(lines) + "\n"
    if _GITHUB.startswith(_NOBODY):
        table += _NOT_YET
    return _replaced(_replaced(readme, "badges", badges), "notebooks", table)


def _replaced(text: str, part: str, by: str) -> str:
    """Exchange what stands between two marks."""
    start, end = f"<!-- {part}: written by make links -->\n", f"<!-- end of {part} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.S)
    text, count = pattern.subn(lambda _: start + by + end, text)
    if count != 1:
        raise ValueError(f"README.md needs the marks of {part!r} once, and has them {count} times")
    return text


def _title(path: Path) -> str:
    return str(nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].lstrip("# "))


def _binder(name: str) -> str:
    where = quote(f"notebooks/{name}", safe="")
    return f"https://mybinder.org/v2/gh/{_GITHUB}/{_BRANCH}?labpath={where}"


def _colab(name: str) -> str:
    return f"https://colab.research.google.com/github/{_GITHUB}/blob/{_BRANCH}/notebooks/{name}"


if __name__ == "__main__":
    sys.exit(main())
