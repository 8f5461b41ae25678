"""An error as a box: what failed, and what to do about it."""

from __future__ import annotations

from tritonic_nb.render.markup import escape, fill, stylesheet

__all__ = ["failure_html"]


def failure_html(message: str, remedy: str = "") -> str:
    """Draw an error.

    Parameters
    ----------
    message
        What failed.
    remedy
        What to do about it; may be empty.

    Returns
    -------
    str
        HTML with its own style, which screen readers read out when it appears. Both
        texts are escaped.
    """
    todo = f'<div class="tnb-remedy"><b>What to do:</b> {escape(remedy)}</div>' if remedy else ""
    return fill("failure", style=stylesheet(), message=escape(message), remedy=todo)
