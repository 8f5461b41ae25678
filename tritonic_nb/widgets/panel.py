"""Everything of a session in one cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets as widgets

from tritonic_nb.render.markup import escape
from tritonic_nb.widgets.address import AddressChooser
from tritonic_nb.widgets.device import DeviceChooser
from tritonic_nb.widgets.log import LogView
from tritonic_nb.widgets.model import ModelChooser
from tritonic_nb.widgets.regions import RegionsView
from tritonic_nb.widgets.run import RunView
from tritonic_nb.widgets.run_state import RunState
from tritonic_nb.widgets.shared_memory import SharedMemoryChooser
from tritonic_nb.widgets.shown import Shown
from tritonic_nb.widgets.state import SessionState
from tritonic_nb.widgets.view import StateView

if TYPE_CHECKING:
    from tritonic_nb.widgets.monitor import Monitor

__all__ = ["Panel"]


class Panel(StateView):
    """Choosers for a session's server, model, shared memory and device; and what it does.

    Made by :meth:`Session.panel <tritonic_nb.Session.panel>`. What is chosen acts at once;
    what code does to the session shows here. All panels of a session, and the choosers that
    stand alone, agree.

    Four views lie over one another: *Run* (pictures and arrays through the model), *Regions*
    (what is registered), *Memory* (a plot that moves) and *Log* (what happened). *Freeze*,
    :meth:`freeze`, :meth:`close` and the end of the session leave a picture behind, which a
    saved notebook keeps.
    """

    def __init__(self, state: SessionState, monitor: Callable[[], Monitor]) -> None:
        self._make_monitor = monitor
        self._monitor: Monitor | None = None
        self._run = RunView(RunState(state.session), state)
        self._memory = widgets.VBox()
        self._views: dict[str, widgets.Widget] = {
            "Run": self._run,
            "Regions": RegionsView(state),
            "Memory": self._memory,
            "Log": LogView(state),
        }
        self._title = widgets.HTML()
        freeze = widgets.Button(description="Freeze", layout={"width": "auto", "flex": "none"})
        freeze.on_click(lambda _: self.freeze())
        self._tabs = widgets.ToggleButtons(options=list(self._views), description="View")
        self._tabs.add_class("tnb-tabs")
        self._tabs.observe(lambda _: self._open_view(), "value")
        choosers: list[Shown] = [
            AddressChooser(state),
            ModelChooser(state),
            SharedMemoryChooser(state),
            DeviceChooser(state),
        ]
        head = widgets.HBox([self._title, freeze], layout={"justify_content": "space-between"})
        super().__init__(state, [head, *choosers, self._tabs, *self._views.values()], "panel")
        self._open_view()

    def _open_view(self) -> None:
        """Show the view that was chosen; the memory is sampled from its first time on."""
        if self._tabs.value == "Memory" and self._monitor is None:
            self._monitor = self._make_monitor()
            self._memory.children = (self._monitor,)
        for name, view in self._views.items():
            view.layout.display = None if name == self._tabs.value else "none"

    def _show(self) -> None:
        now = self.state.now
        model = now.model.name if now.model is not None else "no model"
        title = f"{model} at {now.url}"
        alarm = '<span class="tnb-alarm"> does not answer</span>' if now.away else ""
        self._title.value = (
            f'<div class="tnb tnb-title" role="heading" aria-level="3">{escape(title)}{alarm}</div>'
        )

    def _end(self) -> None:
        super()._end()
        self._run.state.close()
        if self._monitor is not None:
            self._monitor.freeze()

    def _static(self) -> tuple[str, str]:
        session = self.state.session
        parts = [(repr(session), session._repr_html_()), self._run._static()]
        if self._monitor is not None:
            parts.append(self._monitor._static())
        texts, htmls = zip(*parts, strict=True)
        return "\n\n".join(filter(None, texts)), "\n".join(htmls)
