"""A chooser for the CUDA device."""

from __future__ import annotations

import ipywidgets as widgets

from tritonic_nb.monitoring import Device
from tritonic_nb.render import human_bytes
from tritonic_nb.widgets.state import SessionState
from tritonic_nb.widgets.view import StateView

__all__ = ["DeviceChooser"]


class DeviceChooser(StateView):
    """The GPUs with their free memory, for CUDA shared memory; off, and why, without one."""

    def __init__(self, state: SessionState) -> None:
        self._list = widgets.Dropdown(
            description="Device", layout={"width": "520px", "max_width": "calc(100% - 8px)"}
        )
        super().__init__(state, [self._list], "device")
        self._list.observe(self._choose(state.choose_device, lambda: state.now.device), "value")

    def _show(self) -> None:
        now = self.state.now
        options = [(_label(d), _number(d)) for d in now.devices] or [("no GPU", now.device)]
        # While something is on its way, what was asked for is what is shown.
        device = now.device if self.state.doing_at("device") is None else self._list.value
        if list(self._list.options) != options:
            self._list.options = options  # which chooses the first
        self._list.disabled = not now.devices
        numbers = [number for _, number in options]
        self._list.value = device if device in numbers else None

    def _hint(self) -> str:
        now = self.state.now
        if not now.devices:
            return now.devices.explanation
        busy = next((d for d in now.devices if _number(d) == now.device), None)
        return "" if busy is None else f"for CUDA shared memory; driver {busy.driver}"


def _number(device: Device) -> int:
    """Return the number that CUDA gives a device, or NVML's where that is not known."""
    return device.index if device.cuda_index is None else device.cuda_index


def _label(device: Device) -> str:
    text = f"{_number(device)}: {device.name}"
    if device.free_nbytes is None or device.total_nbytes is None:
        return text
    return f"{text}, {human_bytes(device.free_nbytes)} of {human_bytes(device.total_nbytes)} free"
