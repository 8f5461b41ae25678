"""Two parts of the view on a run that scripts draw: HTML that holds still, and code to copy."""

from __future__ import annotations

import anywidget
import traitlets

from tritonic_nb.widgets.shown import asset

__all__ = ["CodeBlock", "Steady"]


class Steady(anywidget.AnyWidget):
    """HTML that may change often: it neither flickers nor, while held, gets lower.

    Attributes
    ----------
    html
        Escaped already.
    held
        Whether its box keeps at least its height.
    """

    _esm = asset("steady.js")
    html = traitlets.Unicode("").tag(sync=True)
    held = traitlets.Bool(False).tag(sync=True)


class CodeBlock(anywidget.AnyWidget):
    """Python code, with a button that copies it.

    Attributes
    ----------
    code
        The source.
    """

    _esm = asset("code.js")
    _css = asset("run.css")
    code = traitlets.Unicode("").tag(sync=True)
