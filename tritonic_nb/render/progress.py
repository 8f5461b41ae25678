"""How far something has come: a bar while it goes on, a line of text in the end."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from tritonic_nb.render.markup import escape, shown

__all__ = ["Progress"]

_LONGEST_REASON = 200

_log = logging.getLogger("tritonic_nb")


class Progress:
    """The progress of some items, shown while a ``with`` block lasts.

    In a notebook a bar that gives way to a line of text, so that a saved notebook
    tells how it ended; in a terminal a bar; elsewhere nothing. A bar that cannot be
    shown stops no one.

    Parameters
    ----------
    total
        How many there will be; None if nobody knows.
    show
        Whether to show anything.
    unit
        What one of them is called.
    """

    def __init__(self, total: int | None = None, *, show: bool = True, unit: str = "item") -> None:
        self._total = total
        self._show = show
        self._unit = unit
        self._done = 0
        self._started = 0.0
        self._bar: _TerminalBar | _NotebookBar | None = None

    def step(self) -> None:
        """Count one more."""
        self._done += 1
        if self._bar is not None:
            self._try(self._bar.step)

    def summary(self, error: BaseException | None = None) -> str:
        """Return what there is to say in the end, in one line.

        Parameters
        ----------
        error
            What ended it before the last item.
        """
        items = f"{self._done} {self._unit}{'' if self._done == 1 else 's'}"
        seconds = time.perf_counter() - self._started
        if error is None:
            counts = self._done and self._unit == "item"  # the rate of others is of no use
            rate = f", {_three_digits(self._done / seconds)} items/s" if counts else ""
            return f"{items} in {_three_digits(seconds)} s{rate}"
        of = f"{self._done} of {self._total} {self._unit}s" if self._total is not None else items
        reason = _reason(error)
        return f"stopped after {of}{': ' if reason else ''}{reason}"

    def __enter__(self) -> Progress:
        self._started = time.perf_counter()
        if self._show:
            self._try(self._open)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        bar = self._bar
        if bar is not None:
            self._try(lambda: bar.close(self.summary(error)))

    def _open(self) -> None:
        if _in_notebook():
            try:
                self._bar = _NotebookBar(self._total, self._unit)
            except ImportError:  # no widgets here
                self._bar = _TerminalBar(self._total, self._unit)
        elif getattr(sys.stderr, "isatty", lambda: False)():
            self._bar = _TerminalBar(self._total, self._unit)

    def _try(self, show: Callable[[], None]) -> None:
        try:
            show()
        except Exception as error:  # a terminal that has gone, or a library's own fault
            self._bar = None
            _log.debug("the progress is not shown: %r", error)


class _TerminalBar:
    """A bar of characters on standard error, which stays."""

    def __init__(self, total: int | None, unit: str) -> None:
        from tqdm.std import tqdm

        self._bar = _calm(tqdm)(
            total=total, unit=unit, file=sys.stderr, leave=True, dynamic_ncols=True
        )

    def step(self) -> None:
        self._bar.update()

    def close(self, _summary: str) -> None:
        self._bar.close()


class _NotebookBar:
    """A widget, which a line of text replaces in the end: a saved one would say 0 %."""

    def __init__(self, total: int | None, unit: str) -> None:
        if find_spec("ipywidgets") is None:
            raise ImportError("there is no ipywidgets")
        from IPython.display import display
        from tqdm.notebook import tqdm

        self._bar = _calm(tqdm)(total=total, unit=unit, display=False)
        self._handle = display(self._bar.container, display_id=True)  # type: ignore[no-untyped-call]

    def step(self) -> None:
        self._bar.update()

    def close(self, summary: str) -> None:
        said = {"text/plain": shown(summary), "text/html": f"<p>{escape(summary)}</p>"}
        self._handle.update(said, raw=True)
        container = self._bar.container
        self._bar.close()
        for widget in (*container.children, container):
            for part in ("style", "layout"):  # they are widgets, too
                getattr(widget, part, widget).close()
            widget.close()


def _calm(bar: Any) -> Any:
    """Return a class of bars that has no thread of its own and touches no multiprocessing.

    tqdm's own lock chooses how the process starts others, which is the user's to choose.
    """
    from tqdm.std import TqdmDefaultWriteLock

    return type(
        bar.__name__, (bar,), {"monitor_interval": 0, "_lock": TqdmDefaultWriteLock.th_lock}
    )


def _in_notebook() -> bool:
    """Whether there is a kernel, and so most likely a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


def _reason(error: BaseException) -> str:
    if isinstance(error, GeneratorExit):  # nobody wants more of them
        return ""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    message = getattr(error, "message", None)
    if not isinstance(message, str) or not message:
        try:
            message = f"{type(error).__name__}: {error}"
        except Exception:  # the user's own errors may say anything, or fail to
            message = type(error).__name__
    text = " ".join(message.split())
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"


def _three_digits(number: float) -> str:
    decimals = 2 if number < 10 else 1 if number < 100 else 0
    return f"{number:.{decimals}f}"
