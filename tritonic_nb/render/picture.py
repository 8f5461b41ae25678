"""A picture that shows itself in a notebook: bytes first, display last."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tritonic_nb.render.markup import escape, fill, offered, shown

if TYPE_CHECKING:  # Matplotlib is imported when something is drawn
    from matplotlib.figure import Figure

__all__ = ["Picture", "data_uri", "display", "display_bundle", "in_notebook"]


class Drawn(Protocol):
    """What a picture was drawn from."""

    def figure(self) -> Any:
        """Give a Matplotlib figure."""


@dataclass(frozen=True, repr=False)
class Picture:
    """A PNG file in memory, with words for those who do not see it.

    Parameters
    ----------
    png
        The bytes of the PNG file.
    alt
        What the picture shows, for screen readers and as the text representation.
    caption
        A line below the picture.
    width
        The width on the page in CSS pixels. Half the PNG's own width is crisp on a
        screen of high resolution.
    html
        Richer HTML to show instead of the PNG where HTML can be shown.
    drawn
        What it was drawn from, if it can be drawn as a figure.
    at_opacity
        Draws it with another opacity, 0 to 1, of what lies over a photograph; None where
        nothing does.
    small
        A smaller PNG file, with one pixel for each of the page, that a notebook carries beside
        the HTML for what shows no HTML; `png` itself where there is none.
    """

    png: bytes
    alt: str
    caption: str = ""
    width: int | None = None
    html: str = ""
    drawn: Drawn | None = field(default=None, compare=False)
    at_opacity: Callable[[float], Picture] | None = field(default=None, compare=False)
    small: bytes = field(default=b"", compare=False)

    def __repr__(self) -> str:
        return shown(self.alt)

    def figure(self) -> Figure:
        """Give a Matplotlib figure, to be changed or saved in another format.

        Its axes count CSS pixels from the upper left corner. It belongs to no window and
        is not known to pyplot.
        """
        if self.drawn is not None:
            figure: Figure = self.drawn.figure()
            return figure
        from tritonic_nb.render.plot import figure_of

        return figure_of(self.png, self.width)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the PNG file and give its path back.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        target = Path(path)
        target.write_bytes(self.png)
        return target

    def display(self) -> None:
        """Show the picture in the notebook; outside of one, print its text."""
        display(self)

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
        data = {
            "text/plain": shown(self.alt),
            "text/html": self.as_html(),
            "image/png": base64.b64encode(self.small or self.png).decode("ascii"),
        }
        metadata = {"image/png": {"width": self.width}} if self.width else {}
        return offered(data, include, exclude), metadata

    def as_html(self) -> str:
        """Give the HTML to show: its own, or the PNG with its words."""
        if self.html:
            return self.html
        return fill(
            "picture",
            source=data_uri(self.png),
            alt=escape(self.alt),
            width=f' width="{self.width}"' if self.width else "",
            caption=f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else "",
        )


def in_notebook() -> bool:
    """Whether there is a notebook, or IPython's terminal, to show things in."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return get_ipython() is not None


def display(thing: object) -> None:
    """Show anything in the notebook; outside of one, print its text."""
    if in_notebook():
        from IPython import display as ipython_display

        ipython_display.display(thing)  # type: ignore[no-untyped-call]
    else:
        print(thing)


def display_bundle(bundle: Any) -> None:
    """Show what an object's ``_repr_mimebundle_`` gave, with or without metadata."""
    from IPython import display as ipython_display

    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, None)
    ipython_display.display(data, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]


def data_uri(file: bytes, kind: str = "image/png") -> str:
    """Write a file as a ``data:`` address, so that HTML carries it along."""
    return f"data:{kind};base64,{base64.b64encode(file).decode('ascii')}"
