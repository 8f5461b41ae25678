"""A chooser for the server's address."""

from __future__ import annotations

import ipywidgets as widgets

from tritonic_nb.widgets.state import SessionState
from tritonic_nb.widgets.view import StateView

__all__ = ["AddressChooser"]


class AddressChooser(StateView):
    """The server's address, to be changed; and whether it answers."""

    def __init__(self, state: SessionState) -> None:
        self._text = widgets.Text(
            description="Server", continuous_update=False, placeholder="localhost:8000"
        )
        self._button = widgets.Button(description="Connect")
        self._known = ("", -1)  # the address that the text was set to, and when
        row = widgets.HBox([self._text, self._button], layout={"flex_flow": "row wrap"})
        super().__init__(state, [row], "address")
        # Enter commits the text, and so does a click on the button, by taking the focus.
        self._text.observe(self._choose(state.connect, lambda: state.now.url), "value")
        self._button.on_click(self._connect)

    def _connect(self, _: object) -> None:
        if self.state.now.away and self.state.doing is None:
            self.state.connect(self._text.value)

    def _show(self) -> None:
        # What is being typed is left alone until the address is another, or one was refused.
        known = (self.state.now.url, self.state.settled)
        if self._known != known:
            self._text.value = self.state.now.url
        self._known = known

    def _hint(self) -> str:
        now = self.state.now
        return f"it does not answer: {now.away}" if now.away else f"connected, {now.server}"
