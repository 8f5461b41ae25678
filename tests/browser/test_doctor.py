"""doctor() in a real JupyterLab: the page answers whether it shows widgets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from notebook_page import NotebookPage

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab_server import LabServer

NOTEBOOK = "doctor.ipynb"
CELLS = [
    "import time, tritonic_nb as tnb\nfound = tnb.doctor('127.0.0.1:1')\nfound",
    "asked = found.checks[-1]\ntime.sleep(1.5)",  # what comes meanwhile does not wait for it
]
ANSWERED = "this page shows them"


def test_the_page_tells_that_it_shows_widgets(
    lab: LabServer, open_notebook: Callable[..., NotebookPage]
) -> None:
    """The card's note becomes ok, the object says so, and the saved notebook has no widget."""
    page = open_notebook(lab.put(NOTEBOOK, CELLS))
    page.run_all()

    card = page.outputs(".tnb-card")
    card.get_by_text(ANSWERED).wait_for(timeout=20_000)
    assert card.count() == 1
    assert "No widget is shown" not in "".join(page.output_texts())
    page.execute("assert asked.status == 'note', asked")  # nobody waited
    page.execute(
        "told = found.checks[-1]\n"
        "assert (told.name, told.status, told.remedy) == ('widgets', 'ok', ''), told\n"
        f"assert {ANSWERED!r} in repr(found) and {ANSWERED!r} in str(found.document())\n"
        "import ipywidgets\n"
        "assert not [w for w in ipywidgets.Widget.widgets.values() if 'Probe' in type(w).__name__]"
    )
    page.save()
    page.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    saved = json.loads((lab.notebooks / NOTEBOOK).read_text())
    outputs = saved["cells"][0]["outputs"]
    assert ANSWERED in "".join(outputs[0]["data"]["text/plain"])
    assert not any("widget-view" in kind for output in outputs for kind in output["data"])
    assert page.error_texts() == []
    page.shut_down_kernel()
    assert page.console_errors == []
    assert page.foreign_requests() == []
