"""How much of a picture is seen through what lies over it, by a slider."""

from __future__ import annotations

import secrets
from typing import Any

import ipywidgets as widgets

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render import Picture

__all__ = ["opacity_slider"]


def opacity_slider(picture: Picture, opacity: float = 0.6) -> widgets.VBox:
    """Show what lies over a picture with a slider for its opacity.

    The picture is drawn twice, with nothing and with all of it. The browser mixes the
    two, which is just what drawing it with that opacity would give; a move of the
    slider sends some sixty bytes.

    Parameters
    ----------
    picture
        One with something over a photograph: a heat map, a mask or a segmentation that
        was given its `source`.
    opacity
        At first, 0 to 1.

    Returns
    -------
    ipywidgets.VBox
        Lives as long as its kernel: a saved notebook does not show it. Keep the picture
        itself for that.

    Raises
    ------
    ArgumentError
        If nothing lies over the picture, or the opacity is not from 0 to 1.
    """
    if picture.at_opacity is None:
        raise ArgumentError(
            "nothing lies over this picture whose opacity could be changed",
            "give the picture that the tensor was made from: source=..., for a heat map, a mask "
            "or a segmentation",
        )
    bare, covered = picture.at_opacity(0.0), picture.at_opacity(1.0)
    token = f"tnb-cover-{secrets.token_hex(6)}"
    layers = widgets.HTML(
        f'<div style="position:relative;display:flow-root">{bare.html}'
        f'<div class="{token}" aria-hidden="true" style="position:absolute;top:0;left:0;right:0">'
        f"{covered.html}</div></div>"
    )
    style = widgets.HTML(_rule(token, opacity))
    slider = widgets.FloatSlider(
        value=opacity, min=0.0, max=1.0, step=0.05, description="opacity", readout_format=".0%"
    )

    def moved(change: dict[str, Any]) -> None:
        style.value = _rule(token, change["new"])

    slider.observe(moved, "value")
    return widgets.VBox([slider, style, layers])


def _rule(token: str, opacity: float) -> str:
    return f"<style>.{token} {{ opacity: {opacity:.2f} }}</style>"
