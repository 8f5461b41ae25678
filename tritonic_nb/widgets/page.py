"""Whether a page shows widgets: a line that only such a page can show."""

from __future__ import annotations

import ipywidgets as widgets
from IPython.display import display

__all__ = ["show_line"]

_VIEW = "application/vnd.jupyter.widget-view+json"
_WORKS = "This line is a widget: this page shows them."
_FAILS = (
    "No widget is shown here. A saved notebook never shows one; in a live page: install ipywidgets "
    "where JupyterLab runs (pip install ipywidgets), and load the page again."
)


def show_line() -> None:
    """Show a line by a widget; where the page cannot, a text says what to do."""
    line = widgets.HTML(value=_WORKS)
    view = {"version_major": 2, "version_minor": 0, "model_id": line.model_id}
    display({_VIEW: view, "text/plain": _FAILS}, raw=True)  # type: ignore[no-untyped-call]
