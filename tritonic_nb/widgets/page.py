"""Whether a page shows widgets: one that does says so to the kernel."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

import anywidget
from IPython.display import display, update_display

from tritonic_nb.widgets.shown import VIEW, asset

__all__ = ["show_and_ask"]

_FAILS = (
    "No widget is shown here. A saved notebook never shows one; in a live page: install ipywidgets "
    "and anywidget where JupyterLab runs (pip install ipywidgets anywidget), and load the page "
    "again."
)

_log = logging.getLogger("tritonic_nb.widgets")


class _Probe(anywidget.AnyWidget):
    """Shows nothing, and says that it was shown."""

    _esm = asset("page.js")


def show_and_ask(bundle: Any, answered: Callable[[], Any]) -> None:
    """Show something, and below it a widget; show the first anew once a page has shown the second.

    Nobody waits: the answer comes when the page has got that far, or never. A page that has no
    widgets shows a line there, which says what to do.

    Parameters
    ----------
    bundle
        What to show, as ``_repr_mimebundle_`` gives it.
    answered
        Called with the page's first answer; returns what to show from then on.
    """
    above, below = (f"tritonic_nb-{secrets.token_hex(8)}" for _ in range(2))
    probe = _Probe()

    def told(*_: Any) -> None:
        probe.on_msg(told, remove=True)  # several pages may show it
        try:
            _show(answered(), above, update=True)
            # A saved notebook would show the probe as a widget that it lacks.
            _show({"text/plain": "", "text/html": ""}, below, update=True)
        except Exception as error:  # nobody is there who could be told
            _log.warning("that this page shows widgets could not be told: %r", error)
        finally:
            probe.close()

    probe.on_msg(told)
    _show(bundle, above)
    view = {"version_major": 2, "version_minor": 0, "model_id": probe.model_id}
    _show({VIEW: view, "text/plain": _FAILS}, below)


def _show(bundle: Any, display_id: str, *, update: bool = False) -> None:
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, None)
    how: Callable[..., Any] = update_display if update else display
    how(data, metadata=metadata, raw=True, display_id=display_id)
