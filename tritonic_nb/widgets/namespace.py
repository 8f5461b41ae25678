"""A session's widgets, each to be placed where a notebook needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from tritonic_nb.monitoring import EventHook
from tritonic_nb.monitoring.triton_metrics import checked_metrics_url
from tritonic_nb.session import Session
from tritonic_nb.widgets.address import AddressChooser
from tritonic_nb.widgets.device import DeviceChooser
from tritonic_nb.widgets.log import LogView
from tritonic_nb.widgets.model import ModelChooser
from tritonic_nb.widgets.panel import Panel
from tritonic_nb.widgets.regions import RegionsView
from tritonic_nb.widgets.run import RunView
from tritonic_nb.widgets.run_state import RunState
from tritonic_nb.widgets.shared_memory import SharedMemoryChooser
from tritonic_nb.widgets.shown import Shown
from tritonic_nb.widgets.state import SessionState

__all__ = ["SessionWidgets"]

_View = TypeVar("_View", bound=Shown)


class SessionWidgets:
    """The parts of a session's panel, each of which stands alone in a cell.

    Made by :attr:`Session.widgets <tritonic_nb.Session.widgets>`. The same one may be shown
    in several cells; one that was frozen or closed is made anew when it is asked for again.

    Examples
    --------
    >>> session.widgets.shared_memory
    >>> ipywidgets.HBox([session.widgets.model, session.widgets.device])
    """

    def __init__(self, session: Session, hook: EventHook) -> None:
        self._session = session
        self._state = SessionState(session, hook)
        self._lock = threading.Lock()
        self._made: dict[str, Shown] = {}

    def __repr__(self) -> str:
        return "<widgets: address, device, log, model, regions, run, shared_memory>"

    @property
    def address(self) -> AddressChooser:
        """The server's address, to be changed; and whether it answers."""
        return self._one("address", lambda: AddressChooser(self._state))

    @property
    def device(self) -> DeviceChooser:
        """The GPUs with their free memory."""
        return self._one("device", lambda: DeviceChooser(self._state))

    @property
    def log(self) -> LogView:
        """The last events and errors."""
        return self._one("log", lambda: LogView(self._state))

    @property
    def model(self) -> ModelChooser:
        """The models of the server's repository."""
        return self._one("model", lambda: ModelChooser(self._state))

    @property
    def regions(self) -> RegionsView:
        """The session's regions, and what the server has registered."""
        return self._one("regions", lambda: RegionsView(self._state))

    @property
    def run(self) -> RunView:
        """An input, and what the model makes of it."""
        return self._one("run", lambda: RunView(RunState(self._session), self._state))

    @property
    def shared_memory(self) -> SharedMemoryChooser:
        """None, System, CUDA or Auto."""
        return self._one("shared_memory", lambda: SharedMemoryChooser(self._state))

    def panel(self, metrics_url: str | None = None) -> Panel:
        """Return a new panel; see :meth:`Session.panel <tritonic_nb.Session.panel>`."""
        if metrics_url is not None:
            checked_metrics_url(metrics_url)
        return Panel(self._state, partial(self._session.monitor, metrics_url=metrics_url))

    def _one(self, name: str, make: Callable[[], _View]) -> _View:
        with self._lock:
            made = self._made.get(name)
            if made is None or made.frozen:
                self._made[name] = made = make()
            return made
