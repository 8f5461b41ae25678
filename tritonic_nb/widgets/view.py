"""What shows a session's state and acts on it: the common part of choosers and tables."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from tritonic_nb.render.failure import failure_html
from tritonic_nb.render.markup import escape
from tritonic_nb.widgets.shown import Shown
from tritonic_nb.widgets.state import SessionState

__all__ = ["StateView", "status_html"]

_log = logging.getLogger("tritonic_nb.widgets")


class StateView(Shown):
    """A box that follows a session's state.

    Subclasses set their controls in :meth:`_show`, and take a person's choices with
    :meth:`_choose`, which tells those from what :meth:`_show` itself sets.

    Parameters
    ----------
    state
        The session's.
    children
        From top to bottom. The words about what is going on come after the first.
    place
        Which part of the panel it is.
    """

    def __init__(self, state: SessionState, children: Sequence[widgets.Widget], place: str) -> None:
        self.state = state
        self._place = place
        self._showing = threading.RLock()
        self._shows = False
        self._status = widgets.HTML()
        self._status.add_class("tnb-status")
        first, *others = children
        super().__init__([first, self._status, *others], place.replace(" ", "-"))
        state.look()
        state.observe(self._changed, ["now", "doing", "problem", "settled"])
        self._changed()

    def _hint(self) -> str:
        """Return what to say while nothing is done and nothing failed: one sentence."""
        return ""

    def _show(self) -> None:
        """Set the controls by what the state says now."""
        raise NotImplementedError

    def _choose(
        self, act: Callable[[Any], None], current: Callable[[], Any]
    ) -> Callable[[dict[str, Any]], None]:
        """Return an observer that acts on a person's choice, and only on that.

        Parameters
        ----------
        act
            Gets what was chosen.
        current
            Gives what is so already: to choose that is nothing to do.
        """

        def chosen(change: dict[str, Any]) -> None:
            with self._showing:  # what _show does in another thread is over then
                if self._shows:
                    return
            if change["new"] is not None and change["new"] != current():
                act(change["new"])

        return chosen

    def _changed(self, _: object = None) -> None:
        if self.frozen:
            return
        if self.state.now.closed:
            self.freeze()
            return
        with self._showing:
            self._shows = True
            try:
                self._show()
                self._status.value = status_html(self.state, self._place, self._hint())
            except Exception:  # one view is no reason for the others to stop
                _log.exception("a view of %s could not be drawn", self._place)
            finally:
                self._shows = False

    def _end(self) -> None:
        self.state.unobserve(self._changed, ["now", "doing", "problem", "settled"])
        self.state.leave()

    def _static(self) -> tuple[str, str]:
        text = self._hint()
        return text, f'<div class="tnb">{escape(text)}</div>'


def status_html(state: SessionState, place: str, hint: str = "") -> str:
    """Say in HTML what is being done or why it failed; escaped.

    Parameters
    ----------
    state
        The session's.
    place
        The part of the panel.
    hint
        What to say otherwise.
    """
    doing, problem = state.doing_at(place), state.problem
    if doing is not None:
        return f'<div class="tnb tnb-doing">{escape(doing.text)}</div>'
    if problem is not None and problem.place == place:
        return f'<div class="tnb-problem">{failure_html(problem.message, problem.remedy)}</div>'
    return f'<div class="tnb tnb-hint">{escape(hint)}</div>' if hint else ""
