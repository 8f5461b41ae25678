"""Boxes of widgets that show themselves in a cell, and leave a picture behind there."""

from __future__ import annotations

import atexit
import logging
import secrets
import threading
import weakref
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import display, update_display

from tritonic_nb.render.markup import stylesheet

__all__ = ["VIEW", "Shown", "asset"]

VIEW = "application/vnd.jupyter.widget-view+json"
"""The media type by which a page shows a widget."""

_LONGEST_WAIT_S = 5.0

_log = logging.getLogger("tritonic_nb.widgets")


def asset(name: str) -> Path:
    """Return the path of a script or style sheet that lies beside this module."""
    return Path(__file__).with_name(name)


_exiting = threading.Event()
_all: weakref.WeakSet[Shown] = weakref.WeakSet()


class _Shield(anywidget.AnyWidget):
    """Keeps keys typed in the box around it from the notebook, and names what has no name."""

    _esm = asset("shield.js")
    _css = stylesheet() + asset("widgets.css").read_text(encoding="utf-8")


class Shown(widgets.VBox):  # type: ignore[misc]
    """A box of widgets that lives until it is frozen, and then stays as it was.

    A saved notebook cannot show a widget: its kernel is gone. So each cell that shows this
    box is given a display of its own, which :meth:`freeze` replaces by what :meth:`_static`
    says: HTML and text, which a saved notebook keeps.

    Parameters
    ----------
    children
        From top to bottom.
    name
        Of the box, for its CSS class ``tnb-NAME``.
    """

    def __init__(self, children: Sequence[widgets.Widget], name: str) -> None:
        self._displays: list[str] = []
        self._freezing = threading.Lock()
        self._frozen = False
        self._still = threading.Event()  # frozen to the end
        self._left: dict[str, str] = {}  # behind, once it is frozen
        super().__init__([_Shield(), *children])
        _all.add(self)
        _cut_off_in_time(get_ipython())
        for each in ("tnb-live", f"tnb-{name}"):
            self.add_class(each)

    @property
    def frozen(self) -> bool:
        """Whether it is a picture by now, or the interpreter exits."""
        return self._frozen or _exiting.is_set()

    def freeze(self) -> None:
        """Turn what is shown into a picture that a saved notebook keeps; safe to repeat."""
        with self._freezing:
            if self._frozen:
                return
            self._frozen = True
        try:
            self._end()
            if not _exiting.is_set():
                self._become_picture()
        finally:
            self._still.set()

    def _become_picture(self) -> None:
        bundle = self._bundle()
        for each in self._displays:
            try:
                update_display(bundle, raw=True, display_id=each)  # type: ignore[no-untyped-call]
            except Exception as error:  # nobody is there who could be told
                _log.warning("a cell could not be told that its view is frozen: %r", error)
        # For views that the kernel cannot reach by its displays: in another box, or in a page
        # that was loaded again.
        before = list(getattr(self, "children", ()))
        self.children = (widgets.HTML(bundle["text/html"]),)
        for each in before:
            _close_all(each)

    def close(self) -> None:
        """Freeze it, and end its connection to the browser; safe to repeat."""
        if _exiting.is_set():
            return
        if getattr(self, "_frozen", None) is not None:  # ipywidgets closes what failed to be made
            try:
                self.freeze()
            except Exception as error:  # at exit there may be nobody to tell
                _log.debug("a view could not be frozen: %r", error)
            self._still.wait(_LONGEST_WAIT_S)  # for another thread, such as the session's
            for each in self.children:
                _close_all(each)
            self.layout.close()
        super().close()

    def _end(self) -> None:
        """Stop what works for it; for those that have something to stop."""

    def _static(self) -> tuple[str, str]:
        """Return what to leave behind: text, and HTML that says the same, escaped already."""
        raise NotImplementedError

    def _bundle(self) -> dict[str, str]:
        """Return what stays, which is made once; the end of a session may wait for it."""
        if not self._left:
            try:
                text, html = self._static()
            except Exception:  # a view that cannot be drawn keeps no session from closing
                _log.exception("what %s leaves behind could not be drawn", type(self).__name__)
                text = "this view was frozen, and what it showed could not be drawn"
                html = f'<div class="tnb">{text}</div>'
            self._left = {"text/plain": text, "text/html": html}
        return self._left

    def _ipython_display_(self) -> None:
        if self._frozen:
            display(self._bundle(), raw=True)  # type: ignore[no-untyped-call]
            return
        self._displays.append(f"tritonic_nb-{secrets.token_hex(8)}")
        data = {
            "text/plain": repr(self),
            VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.model_id},
        }
        display(data, raw=True, display_id=self._displays[-1])  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{', frozen' if self._frozen else ''}>"


def _cut_off() -> None:
    """Tell pages nothing any more: the kernel shuts down, or the interpreter exits.

    The kernel's thread for messages ends before the interpreter does. What other threads
    send from then on goes out by itself, and gets into what the main thread sends.
    """
    _exiting.set()
    for shown in list(_all):
        for each in _inside(shown):
            each.comm = None


@cache
def _cut_off_in_time(shell: Any) -> None:
    """Have it done when a kernel is told to shut down."""

    def told(change: dict[str, Any]) -> None:
        if change["new"]:
            _cut_off()

    if shell is not None:
        shell.observe(told, "exit_now")


# What is registered last runs first, so that sessions which end at exit find it done.
atexit.register(_cut_off)


def _close_all(widget: widgets.Widget) -> None:
    """Close a widget and all that is in it."""
    for each in list(_inside(widget)):
        each.close()


def _inside(widget: widgets.Widget) -> Iterator[Any]:
    yield widget
    for each in getattr(widget, "children", ()):
        yield from _inside(each)
    # Each widget comes with models for its layout and style.
    for name in ("layout", "style"):
        if isinstance(part := getattr(widget, name, None), widgets.Widget):
            yield part
