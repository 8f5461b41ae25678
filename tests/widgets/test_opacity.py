"""The slider for the opacity of what lies over a picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tritonic_nb
from tritonic_nb import samples
from tritonic_nb.errors import ArgumentError
from tritonic_nb.render import Picture
from tritonic_nb.widgets import opacity_slider

HEAT = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)


def over_the_cat(**options: Any) -> Picture:
    return tritonic_nb.picture(HEAT, as_="heatmap", source=samples.image("cat"), **options)


def pixels(picture: Picture) -> np.ndarray[Any, np.dtype[np.float64]]:
    with Image.open(io.BytesIO(picture.png)) as image:
        return np.asarray(image.convert("RGB"), np.float64)


@pytest.mark.parametrize("as_", ["heatmap", "probability", "segmentation"])
@pytest.mark.parametrize("opacity", [0.25, 0.6])
def test_mixing_two_pictures_is_drawing_with_an_opacity(as_: str, opacity: float) -> None:
    """What the browser mixes of nothing and all of it is the picture with that opacity."""
    values = np.arange(49).reshape(7, 7) % 3 if as_ == "segmentation" else HEAT
    drawn = tritonic_nb.picture(
        values, name="x", as_=as_, source=samples.image("cat"), opacity=opacity
    )
    assert drawn.at_opacity is not None
    bare, covered = pixels(drawn.at_opacity(0.0)), pixels(drawn.at_opacity(1.0))
    mixed = bare + (covered - bare) * opacity
    assert np.abs(bare - covered).max() > 50
    assert np.quantile(np.abs(mixed - pixels(drawn)), 0.99) <= 2


def test_the_slider_changes_one_rule() -> None:
    """A move changes the opacity of the upper layer and sends nothing else."""
    box = opacity_slider(over_the_cat(), 0.4)
    slider, style, layers = box.children
    assert slider.value == 0.4
    assert "opacity: 0.40" in style.value
    token = style.value.split(".")[1].split(" ")[0]
    assert f'class="{token}"' in layers.value
    before = layers.value
    slider.value = 0.85
    assert "opacity: 0.85" in style.value
    assert layers.value == before
    assert len(style.value) < 80


def test_two_sliders_are_two() -> None:
    """Each has a layer of its own on the page."""
    first, second = (opacity_slider(over_the_cat()).children[1].value for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    "picture",
    [
        lambda: tritonic_nb.picture(HEAT, name="heat"),
        lambda: tritonic_nb.picture(np.arange(10.0), name="logits"),
    ],
)
def test_without_anything_over_a_picture_it_says_so(picture: Any) -> None:
    """What has no picture below it has no opacity to change."""
    with pytest.raises(ArgumentError, match="nothing lies over") as caught:
        opacity_slider(picture())
    assert "source=" in caught.value.remedy


def test_without_a_notebook_there_is_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    """In a script show(slider=True) prints what the picture shows."""
    tritonic_nb.show(HEAT, name="heat", source=samples.image("cat"), slider=True)
    assert "heat" in capsys.readouterr().out
