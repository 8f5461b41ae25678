"""What a saved notebook is: outputs that a static page can show, made from the cells as they are.

The metadata of each code cell tells what its outputs were made from: ``made_from`` is a hash of
the cell's source and of those before it, since a cell shows what the earlier ones led to.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import io
import re
import socket
from collections.abc import Iterator
from typing import Any

from nbformat import NotebookNode
from PIL import Image

__all__ = ["MADE_FROM", "WIDGET", "code_cells", "faults", "fingerprints", "in_all"]

MADE_FROM = "made_from"
WIDGET = "application/vnd.jupyter.widget-view+json"
_MIMES = {"text/plain", "text/html", "image/png"}
_MOST_NBYTES = 1_500_000  # of a notebook: GitHub shows larger ones slowly, or not at all
# /dev/shm is what the notebooks are about; everything else tells of a machine.
_PATH = re.compile(r"(?<![\w.~/-])/(?:home|Users|root|tmp|var|opt|mnt|srv|work|usr/local)/[\w.-]+")
_NAMES_OF_NOBODY = {"root", "user", "jovyan", "runner", "localhost"}


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """List the cells with code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def fingerprints(notebook: NotebookNode) -> list[str]:
    """Hash each code cell's source, together with those before it."""
    digest, found = hashlib.sha256(), []
    for cell in code_cells(notebook):
        digest.update(cell.source.encode() + b"\0")
        found.append(digest.hexdigest()[:16])
    return found


def faults(notebook: NotebookNode) -> list[str]:
    """Tell, in sentences, what keeps a notebook from being a saved one."""
    return [*_of_notebook(notebook), *_of_cells(notebook)]


def _of_notebook(notebook: NotebookNode) -> Iterator[str]:
    if "widgets" in notebook.metadata:
        yield "the notebook has the state of widgets"
    nbytes = sum(
        len(str(text)) for cell in code_cells(notebook) for _, text in in_all(cell.outputs)
    )
    if nbytes > _MOST_NBYTES:
        yield f"the outputs have {nbytes:,} bytes, more than {_MOST_NBYTES:,}"


def _of_cells(notebook: NotebookNode) -> Iterator[str]:
    for cell, fingerprint in zip(code_cells(notebook), fingerprints(notebook), strict=True):
        where = f"cell {cell.id}"
        if cell.metadata.get(MADE_FROM) != fingerprint:
            yield f"{where}: it, or one before it, was changed after its outputs were made"
        if "execution" in cell.metadata:
            yield f"{where}: it has the times of its execution"
        for output in cell.outputs:
            yield from (f"{where}: {fault}" for fault in _of_output(output))


def _of_output(output: NotebookNode) -> Iterator[str]:
    if output.output_type == "error":
        yield f"it failed with {output.ename}"
    for mime in set(output.get("data", {})) - _MIMES:
        yield f"an output is {mime}, which a static page cannot show"
    for mime, text in in_all([output]):
        if mime == "image/png":
            Image.open(io.BytesIO(base64.b64decode(text))).verify()
        elif mime in _MIMES:
            yield from (f"an output tells of a machine: {found!r}" for found in _telling(text))


def _telling(text: str) -> Iterator[str]:
    """Find paths, this machine's name and this user's."""
    yield from _PATH.findall(text)
    for name in {getpass.getuser(), socket.gethostname()} - _NAMES_OF_NOBODY:
        if re.search(rf"\b{re.escape(name)}\b", text):
            yield name


def in_all(outputs: list[NotebookNode]) -> Iterator[tuple[str, Any]]:
    """Go through what outputs hold, by its media type."""
    for output in outputs:
        if output.output_type == "stream":
            yield "text/plain", output.text
        yield from output.get("data", {}).items()
