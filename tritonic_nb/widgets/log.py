"""The last events and errors of a session, with what to do about them."""

from __future__ import annotations

import time

import ipywidgets as widgets

from tritonic_nb.monitoring import Event
from tritonic_nb.render import human_bytes
from tritonic_nb.render.markup import escape
from tritonic_nb.widgets.state import SessionState
from tritonic_nb.widgets.view import StateView

__all__ = ["LogView"]


class LogView(StateView):
    """What happened to the session, the newest first: switches, regions, errors with remedies."""

    def __init__(self, state: SessionState) -> None:
        self._list = widgets.HTML()
        super().__init__(state, [self._list], "log")
        self.layout.observe(self._changed, "display")

    def _show(self) -> None:
        if self.layout.display == "none":  # in a panel, out of sight
            return
        self._list.value = log_html(self.state.now.events)

    def _static(self) -> tuple[str, str]:
        events = self.state.now.events
        return "\n".join(map(_text, events)) or "nothing has happened yet", log_html(events)


def log_html(events: tuple[Event, ...]) -> str:
    """Return events as an HTML list; escaped."""
    if not events:
        return '<div class="tnb tnb-hint">nothing has happened since this view was opened</div>'
    items = "".join(map(_item, events))
    return f'<ol class="tnb tnb-events" tabindex="0" aria-label="events">{items}</ol>'


def _item(event: Event) -> str:
    kind = f"tnb-event{' tnb-alarm' if event.kind == 'error' else ''}"
    remedy = (
        f'<div class="tnb-todo">What to do: {escape(event.remedy)}</div>' if event.remedy else ""
    )
    return (
        f'<li><time>{_clock(event)}</time> <span class="{kind}">{escape(event.kind)}</span> '
        f"<span>{escape(_words(event))}</span>{remedy}</li>"
    )


def _text(event: Event) -> str:
    remedy = f"\n  What to do: {event.remedy}" if event.remedy else ""
    return f"{_clock(event)} {event.kind} {_words(event)}{remedy}"


def _words(event: Event) -> str:
    return f"{event.text} ({human_bytes(event.nbytes)})" if event.nbytes else event.text


def _clock(event: Event) -> str:
    return time.strftime("%H:%M:%S", time.localtime(event.time_s))
