"""Runs notebooks, and keeps what they show: ``make notebooks``.

::

    python tests/notebooks/save.py                       every notebook
    python tests/notebooks/save.py notebooks/02-*.ipynb

Each runs in a kernel of its own, with the assertions that ``make test`` makes. What is kept reads
well where nothing runs (GitHub, nbviewer): text, HTML and PNG pictures. Where a picture of all that
was shown is among an output, it stands for the HTML, because GitHub takes styles out of HTML.
"""

from __future__ import annotations

import base64
import io
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image
from saved import MADE_FROM, WIDGET, code_cells, faults, fingerprints

__all__ = ["main", "save"]

_NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
_TIMEOUT_S = 300
_COLOURS = 256
_UNSEEN = "No widget is shown here."
_IMAGE = re.compile(r"<img\b[^>]*>")
# What is still open becomes a picture when its session closes.
_CLOSE = """
import tritonic_nb
for _each in list(globals().values()):
    if isinstance(_each, tritonic_nb.Session):
        _each.close()
"""


def main(arguments: list[str]) -> int:
    """Save the notebooks that are named, or all; return 1 where one cannot be saved so."""
    failed = False
    for path in map(Path, arguments or sorted(map(str, _NOTEBOOKS.glob("*.ipynb")))):
        found = save(path)
        print(path.name, "saved" if not found else "NOT saved:", *found, sep="\n    ")
        failed = failed or bool(found)
    return int(failed)


def save(path: Path) -> list[str]:
    """Run a notebook and write it with its outputs, unless something is wrong with them.

    Parameters
    ----------
    path
        The notebook, which is replaced.

    Returns
    -------
    list of str
        What is wrong; nothing was written then.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell, outputs in zip(code_cells(notebook), _run(notebook, path.parent), strict=True):
        cell.outputs = [kept for output in outputs for kept in _static(output)]
    for number, cell in enumerate(code_cells(notebook), 1):
        cell.metadata.pop("execution", None)
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
    for cell, fingerprint in zip(code_cells(notebook), fingerprints(notebook), strict=True):
        cell.metadata[MADE_FROM] = fingerprint
    notebook.metadata.pop("widgets", None)
    found = faults(notebook)
    if not found:
        nbformat.write(notebook, path)
    return found


def _run(notebook: NotebookNode, folder: Path) -> list[list[NotebookNode]]:
    """Run the cells, each with its assertions after it; return what each has shown."""
    copy = nbformat.v4.new_notebook(metadata=notebook.metadata)
    own = []
    for cell in code_cells(notebook):
        own.append(nbformat.v4.new_code_cell(cell.source))
        checks = cell.metadata.get("nbmake", {}).get("post_cell_execute", [])
        copy.cells += [own[-1], nbformat.v4.new_code_cell("\n".join(checks))]
    copy.cells.append(nbformat.v4.new_code_cell(_CLOSE))
    NotebookClient(
        copy,
        timeout=_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
        record_timing=False,
    ).execute()
    return [cell.outputs for cell in own]


def _static(output: NotebookNode) -> list[NotebookNode]:
    """Keep of an output what a static page shows well."""
    if output.output_type == "stream":
        output.text = _anonymous(output.text)
        return [output]
    if output.output_type == "error":
        return [output]
    if WIDGET in output.data:
        # doctor()'s question to the page, which none answers here; all others were to freeze.
        return [] if output.data["text/plain"].startswith(_UNSEEN) else [output]
    data = {mime: _anonymous(text) for mime, text in output.data.items() if "image" not in mime}
    picture = output.data.get("image/png")
    if picture is None:
        output.data, output.metadata = data, {}
        return [output]
    output.data = {"text/plain": data["text/plain"], "image/png": _small(picture)}
    output.metadata = {
        mime: value for mime, value in output.metadata.items() if mime == "image/png"
    }
    # The picture has all but the tables; those follow.
    rest = _IMAGE.sub("", data.get("text/html", ""))
    if "<table" not in rest:
        return [output]
    return [output, nbformat.v4.new_output("display_data", data={"text/html": rest})]


def _anonymous(text: str) -> str:
    """Take the folders of this machine out of a text."""
    for folder, name in ((_NOTEBOOKS.parent, "."), (Path.home(), "~"), (tempfile.gettempdir(), "")):
        text = text.replace(str(folder), name)
    return text


def _small(picture: str) -> str:
    """Write a picture with a palette, which makes it two to three times as small."""
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    if image.mode == "RGBA":  # cards with round corners, made for a white page
        page = Image.new("RGB", image.size, "white")
        page.paste(image, mask=image.getchannel("A"))
        image = page
    file = io.BytesIO()
    # The colours that cover what is there, and not the commonest: scales of colours stay smooth.
    small = image.convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE)
    small.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
