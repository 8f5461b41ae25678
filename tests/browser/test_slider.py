"""The opacity slider in a real JupyterLab, moved by the keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from notebook_page import NotebookPage

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab_server import LabServer

CELL = """
import numpy as np, tritonic_nb as tnb
heat = np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)
tnb.show(heat, as_="heatmap", source=tnb.samples.image("cat"), slider=True)
"""


def test_the_layer_follows_the_slider(
    lab: LabServer, open_notebook: Callable[..., NotebookPage]
) -> None:
    """Arrow keys move the slider, the upper layer follows, and both layers lie on one another."""
    page = open_notebook(lab.put("slider.ipynb", [CELL]), "JupyterLab Dark")
    page.run_all()
    cover = page.outputs("[class^=tnb-cover]")
    cover.wait_for(timeout=20_000)
    assert cover.evaluate("e => getComputedStyle(e).opacity") == "0.6"
    lower, upper = (image.bounding_box() for image in page.outputs("img").all())
    assert lower == upper
    handle = page.outputs(".noUi-handle")
    handle.focus()
    for _ in range(4):
        page.page.keyboard.press("ArrowRight")
    page.page.wait_for_function(
        "() => getComputedStyle(document.querySelector('[class^=tnb-cover]')).opacity === '0.8'"
    )
    assert page.error_texts() == []
    page.shut_down_kernel()
    assert page.console_errors == []
    assert page.foreign_requests() == []
