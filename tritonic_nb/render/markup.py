"""The HTML templates and the style sheet, read from the package once."""

from __future__ import annotations

import html
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

__all__ = ["Rich", "escape", "fill", "offered", "shown", "stylesheet", "unbroken"]

_UNBROKEN = 30  # characters
_FOLDER = Path(__file__).resolve().parent
# Control characters, with which a text could command a terminal, and half characters
# (JSON can spell them), which no notebook can save. Line breaks and tabs are fine.
_NOT_SHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Rich:
    """Words, and the HTML that says the same, escaped already."""

    text: str
    html: str

    @classmethod
    def unbroken(cls, text: str) -> Rich:
        """Return words that stay on one line, such as a shape."""
        return cls(text, unbroken(text))


def shown(text: object) -> str:
    """Return text with a mark in the place of each character that cannot be shown."""
    return _NOT_SHOWN.sub("\ufffd", str(text))


def escape(text: str) -> str:
    """Make text safe in HTML, in an element as well as in a quoted attribute."""
    return html.escape(shown(text), quote=True)


def unbroken(text: str) -> str:
    """Make text safe in HTML, and keep it on one line unless it is long."""
    html_text = escape(text)
    return html_text.replace(" ", "&nbsp;") if len(text) <= _UNBROKEN else html_text


def fill(name: str, **values: str) -> str:
    """Fill a template of ``templates/``; the values must be HTML already."""
    return _template(name).substitute(values)


def offered(
    data: Mapping[str, str], include: Container[str] | None, exclude: Container[str] | None
) -> dict[str, str]:
    """Return what a notebook asks for of the representations, by media type."""
    return {
        kind: text
        for kind, text in data.items()
        if (include is None or kind in include) and (exclude is None or kind not in exclude)
    }


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
