"""The notebooks are committed with outputs, and those are of the cells as they stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from saved import MADE_FROM, code_cells, faults, fingerprints

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_saved_with_outputs_of_its_own(path: Path) -> None:
    """They were made from these cells, can be shown by a static page, and tell of no machine."""
    notebook = nbformat.read(path, as_version=4)
    assert faults(notebook) == [], f"run `make notebooks NOTEBOOKS=notebooks/{path.name}`"
    assert any(cell.outputs for cell in code_cells(notebook))


def _change_a_cell(notebook: NotebookNode) -> None:
    code_cells(notebook)[0].source += "\n"


def _remove_a_cell(notebook: NotebookNode) -> None:
    notebook.cells.remove(code_cells(notebook)[0])


def _keep_times(notebook: NotebookNode) -> None:
    code_cells(notebook)[0].metadata["execution"] = {"iopub.execute_input": "2026-11-30T18:00:00Z"}


def _keep_a_widget(notebook: NotebookNode) -> None:
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Box()"}
    code_cells(notebook)[0].outputs.append(nbformat.v4.new_output("display_data", data=view))


def _keep_widget_state(notebook: NotebookNode) -> None:
    notebook.metadata["widgets"] = {}


def _tell_a_path(notebook: NotebookNode) -> None:
    text = "saved to /home/somebody/model.onnx\n"
    code_cells(notebook)[0].outputs.append(nbformat.v4.new_output("stream", text=text))


def _fail(notebook: NotebookNode) -> None:
    error = nbformat.v4.new_output("error", ename="NoSpaceError", evalue="", traceback=[])
    code_cells(notebook)[0].outputs.append(error)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_change_a_cell, "changed after its outputs were made"),
        (_remove_a_cell, "changed after its outputs were made"),
        (_keep_times, "the times of its execution"),
        (_keep_a_widget, "a static page cannot show"),
        (_keep_widget_state, "the state of widgets"),
        (_tell_a_path, "tells of a machine: '/home/somebody'"),
        (_fail, "failed with NoSpaceError"),
    ],
)
def test_what_is_wrong_is_found(spoil: Callable[[NotebookNode], None], said: str) -> None:
    """A notebook that was saved by hand, or changed, is told from one that is as it should be."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(f"print({n})") for n in range(2)]
    )
    for cell, fingerprint in zip(code_cells(notebook), fingerprints(notebook), strict=True):
        cell.metadata[MADE_FROM] = fingerprint
        cell.outputs = [nbformat.v4.new_output("stream", text="/dev/shm/tritonic_nb-1-a\n")]
    assert faults(notebook) == []

    spoil(notebook)

    assert any(said in fault for fault in faults(notebook))
