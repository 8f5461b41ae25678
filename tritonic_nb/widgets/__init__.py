"""What a notebook can move and choose: widgets of ipywidgets."""

from __future__ import annotations

from tritonic_nb.widgets.opacity import opacity_slider

__all__ = ["opacity_slider"]
