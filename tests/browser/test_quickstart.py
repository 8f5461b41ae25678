"""The quickstart notebook as a person sees it: in JupyterLab, in a browser, light and dark."""

from __future__ import annotations

import base64
import io
import itertools
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from notebook_page import NotebookPage, contrasts
from PIL import Image

import tritonic_nb

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab_server import LabServer
    from playwright.sync_api import Locator

NOTEBOOK = "01-quickstart.ipynb"
SHM = Path("/dev/shm")
CATS = {"tabby", "tiger cat", "Egyptian cat"}
LEAST_CONTRAST = 4.5  # WCAG 2, level AA, for text of ordinary size
KERNEL_ENDS_S = 15.0


def test_the_quickstart_shows_a_classified_cat_and_leaves_nothing(
    lab: LabServer, open_notebook: Callable[..., NotebookPage]
) -> None:
    """Run as a whole, the quickstart shows its cards, readable, with no error and no traces.

    The session's card and the cat with its heat map and five bars are there, and a panel
    that runs; no cell and no console reports an error; nothing was asked of another machine;
    and with the kernel its regions, its server and their files are gone.
    """
    page = open_notebook(NOTEBOOK, "JupyterLab Dark")
    assert page.is_dark()

    page.run_all()

    assert page.error_texts() == []
    _check_session_card(page)
    _check_cat_card(page)
    _check_contrast(page)
    page.change_theme("JupyterLab Light")
    _check_contrast(page)
    regions = _region_files(page)
    _check_panel(page)
    _check_the_end(page, lab, regions)
    assert page.console_errors == []
    assert page.foreign_requests() == []


def _check_session_card(page: NotebookPage) -> None:
    """The session says what it talks to, and how tensors travel."""
    card = page.outputs(".tnb-card").filter(has_text=re.compile(r"^\s*Session"))
    assert card.count() == 1
    assert card.is_visible()
    rows = {
        row.locator("th").inner_text(): row.locator("td").inner_text()
        for row in card.locator("tr").all()
    }
    assert rows["model"].startswith("classifier")
    assert rows["shared memory"] == "system"
    assert "[batch, 3, 224, 224]" in rows["input"]


def _check_cat_card(page: NotebookPage) -> None:
    """From left to right: the cat, the same with a heat map, and five bars that fall."""
    card = page.outputs(".tnb-classes").first
    card.scroll_into_view_if_needed()
    picture, overlay = card.locator("img").all()
    bars = card.locator(".tnb-bars li").all()
    assert len(bars) == 5

    shown, warmed = _pixels(picture), _pixels(overlay)
    cat = Image.open(tritonic_nb.samples.image("cat")).convert("RGB")
    cat = cat.resize((shown.shape[1], shown.shape[0]), Image.Resampling.LANCZOS)
    assert np.abs(shown - np.asarray(cat, np.float64)).mean() < 6  # JPEG, and another filter
    assert warmed.shape == shown.shape
    assert np.abs(warmed - shown).mean() > 10

    assert bars[0].locator(".tnb-bar-label").inner_text() in CATS
    values = [float(bar.locator(".tnb-bar-value").inner_text().rstrip("%")) for bar in bars]
    assert values == sorted(values, reverse=True)
    for bar, value in zip(bars, values, strict=True):
        track, fill = (_box(bar.locator(f".tnb-bar-{part}")) for part in ("track", "fill"))
        assert fill["width"] == pytest.approx(track["width"] * value / 100, abs=1)

    places = [_box(each) for each in (picture, overlay, card.locator(".tnb-bars"))]
    for left, right in itertools.pairwise(places):
        assert left["x"] + left["width"] < right["x"]
        assert left["y"] == pytest.approx(right["y"], abs=30)


def _check_panel(page: NotebookPage) -> None:
    """At its end there is a panel that lives: a run shows the cat's class."""
    panel = page.outputs(".tnb-panel")
    panel.get_by_role("button", name="Run once").click()
    panel.locator(".tnb-bar-label").first.wait_for(timeout=30_000)
    assert panel.locator(".tnb-bar-label").first.inner_text() in CATS


def _check_contrast(page: NotebookPage) -> None:
    """Every text of every card stands out from what is behind it."""
    cards = page.outputs(".tnb-card, .tnb-classes").all()
    assert len(cards) >= 5
    texts = [text for card in cards for text in contrasts(card)]
    assert len(texts) > 50
    assert [text for text in texts if text[0] < LEAST_CONTRAST] == []


def _region_files(page: NotebookPage) -> list[Path]:
    """Read from the notebook's output which files the session had in /dev/shm."""
    files = re.findall(rf"{SHM}/\S+", "\n".join(page.output_texts()))
    assert len(files) == 5  # four of the classifier, the input of the model that echoes
    return [Path(file) for file in files]


def _check_the_end(page: NotebookPage, lab: LabServer, regions: list[Path]) -> None:
    """With the kernel, everything that it made on this machine goes."""
    assert lab.started_pids() != []
    page.shut_down_kernel()
    deadline = time.monotonic() + KERNEL_ENDS_S
    while lab.started_pids() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lab.started_pids() == []
    kernel = regions[0].name.split("-")[1]
    assert [path.name for path in SHM.glob(f"tritonic_nb*{kernel}*")] == []
    assert [path.name for path in regions if path.exists()] == []
    assert lab.temporary_files() == set()


def _pixels(image: Locator) -> np.ndarray:
    """Decode what an <img> shows, once the browser has it."""
    image.evaluate("image => image.decode()")
    source = image.get_attribute("src") or ""
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as opened:
        return np.asarray(opened.convert("RGB"), np.float64)


def _box(element: Locator) -> dict[str, float]:
    box = element.bounding_box()
    assert box is not None
    return {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}
