"""The HTML templates and the style sheet, read from the package once."""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path
from string import Template

__all__ = ["escape", "fill", "stylesheet"]

_FOLDER = Path(__file__).resolve().parent


def escape(text: str) -> str:
    """Make text safe in HTML, in an element as well as in a quoted attribute."""
    return html.escape(str(text), quote=True)


def fill(name: str, **values: str) -> str:
    """Fill a template of ``templates/``; the values must be HTML already."""
    return _template(name).substitute(values)


@cache
def stylesheet() -> str:
    """Give the style sheet without comments and line breaks, as every output carries it."""
    css = (_FOLDER / "style.css").read_text(encoding="utf-8")
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    return re.sub(r"\s+", " ", css).strip()


@cache
def _template(name: str) -> Template:
    return Template(
        (_FOLDER / "templates" / f"{name}.html").read_text(encoding="utf-8").rstrip("\n")
    )
