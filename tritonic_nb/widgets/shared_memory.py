"""A chooser for how tensors travel."""

from __future__ import annotations

import ipywidgets as widgets

from tritonic_nb.memory import SharedMemoryType
from tritonic_nb.widgets.state import SessionState
from tritonic_nb.widgets.view import StateView

__all__ = ["SharedMemoryChooser"]

_NAMES = {
    "None": SharedMemoryType.NONE,
    "System": SharedMemoryType.SYSTEM,
    "CUDA": SharedMemoryType.CUDA,
    "Auto": SharedMemoryType.AUTO,
}


class SharedMemoryChooser(StateView):
    """None (over the wire), System, CUDA or Auto; the choice acts at once.

    Below it stands what the session does now, and why. What cannot be had is refused with
    the reason, and the session goes on as before.
    """

    def __init__(self, state: SessionState) -> None:
        self._buttons = widgets.ToggleButtons(
            options=list(_NAMES.items()), value=None, description="Shared memory"
        )
        super().__init__(state, [self._buttons], "shared memory")
        choose = self._choose(state.choose_shared_memory, lambda: state.now.requested)
        self._buttons.observe(choose, "value")

    def _show(self) -> None:
        # While something is on its way, what was asked for is what is pressed.
        if self.state.doing_at("shared memory") is None:
            self._buttons.value = self.state.now.requested

    def _hint(self) -> str:
        return self.state.now.reason
