"""The live plot of memory in a real JupyterLab."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from notebook_page import NotebookPage

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab_server import LabServer
    from playwright.sync_api import Locator

CELLS = (
    """
import time, tritonic_nb as tnb
from tritonic_nb.monitoring import Recording, Reading, Source
from tritonic_nb.widgets.monitor import Monitor

start = time.monotonic()

def read():
    used = 3e6 * (1 + (time.monotonic() - start) % 10)
    return Reading({"shm/used": used, "shm/total": 64e6, "shm/free": 64e6 - used,
                    "region/input <b>x</b>": used / 2})

def source():
    sources = [*tnb.watch()._sources, Source("made up", read)]
    return Recording(sources, hz=5, show=False, warn_at=0.01)

m = Monitor(source())
m
""",
    # Busy until the test has seen enough.
    """
from pathlib import Path
give_up = time.monotonic() + 60
while not Path("seen.txt").exists() and time.monotonic() < give_up:
    time.sleep(0.1)
""",
    "other = Monitor(source())\nother",
    "third = Monitor(source())\nthird",
)
_RUN = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
_PIXELS = "canvas => canvas.toDataURL()"
_INK = """canvas => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0, count = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) { sum += data[i]; count++; }
  return sum / count;
}"""


def test_the_plot_lives_and_leaves_a_picture(
    lab: LabServer, open_notebook: Callable[..., NotebookPage]
) -> None:
    """It moves while a cell is busy, obeys, survives a reload, and stays as a picture."""
    page = open_notebook(lab.put("monitor.ipynb", CELLS))
    page.page.evaluate(_RUN)
    plot = page.outputs(".tnb-plot").first
    plot.locator("canvas[role=img]").first.wait_for(timeout=30_000)
    _check_it_moves_while_busy(page, plot)
    (lab.notebooks / "seen.txt").touch()
    _check_words(plot)
    page.outputs(".tnb-plot").nth(2).wait_for(timeout=20_000)
    _check_pause(page, plot)
    _check_keyboard(page, plot)
    _check_downloads(page, plot)
    _check_theme_and_access(page, plot)

    # The button, and what a session does to it when it closes.
    pictures = page.outputs(".tnb-card img")
    page.outputs(".tnb-plot").nth(1).get_by_role("button", name="Freeze").press("Enter")
    pictures.first.wait_for(timeout=30_000)
    page.execute("third.recording.stop()")
    pictures.nth(1).wait_for(timeout=30_000)

    page.save()
    before = _samples(plot)
    _reload(page, plot)
    _until_samples(page, before)
    assert "<b>x</b>" in plot.inner_text()
    assert pictures.count() == 2
    plot.get_by_role("button", name="Freeze").press("Enter")
    pictures.nth(2).wait_for(timeout=30_000)
    assert page.outputs(".tnb-plot").count() == 0

    page.shut_down_kernel()
    page.page.reload()
    pictures.nth(1).wait_for(timeout=60_000)
    assert "Memory during" in (pictures.first.get_attribute("alt") or "")
    assert page.error_texts() == []
    assert page.console_errors == []
    assert page.foreign_requests() == []


def _check_it_moves_while_busy(page: NotebookPage, plot: Locator) -> None:
    first, canvas = _samples(plot), plot.locator("canvas[role=img]").first
    pixels = canvas.evaluate(_PIXELS)
    _until_samples(page, first + 25)  # five seconds
    assert page.cells.nth(1).locator(".jp-InputPrompt").inner_text() == "[*]:"
    assert canvas.evaluate(_PIXELS) != pixels


def _check_words(plot: Locator) -> None:
    """A warning in words, names as they are, and what is not to be seen."""
    warning = plot.get_by_role("status")
    assert re.search(r"Warning: \d+ % of /dev/shm is taken", warning.inner_text())
    text = plot.inner_text()
    assert "input <b>x</b>" in text
    assert "Resident memory of processes" in text
    label = plot.locator("canvas[role=img]").first.get_attribute("aria-label") or ""
    assert re.match(r"Shared memory \(/dev/shm\), 64 MB\. Now: free [\d.]+ MB", label)


def _check_pause(page: NotebookPage, plot: Locator) -> None:
    """It stands still, and then has what was sampled meanwhile."""
    pause = plot.get_by_role("button", name="Pause")
    pause.click()
    go_on = plot.get_by_role("button", name="Go on")
    go_on.wait_for()
    assert go_on.get_attribute("aria-pressed") == "true"
    plot.get_by_text("Paused.").wait_for()
    still = _samples(plot)
    page.page.wait_for_timeout(800)
    assert _samples(plot) == still
    go_on.click()
    _until_samples(page, still + 4)
    page.execute("assert not m.paused")


def _check_keyboard(page: NotebookPage, plot: Locator) -> None:
    """The span by keyboard, from where no key reaches the notebook."""
    plot.get_by_role("button", name="1 min").focus()
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("d")
    page.page.keyboard.press("d")
    page.page.keyboard.press("Enter")
    chosen = plot.get_by_role("button", name="5 min")
    assert chosen.get_attribute("aria-pressed") == "true"
    assert page.cells.count() == len(CELLS)
    page.execute("assert m.span_s == 300")
    page.execute("m.span_s = 30")
    plot.locator("button[aria-pressed=true]", has_text="30 s").wait_for()


def _check_downloads(page: NotebookPage, plot: Locator) -> None:
    """Both files, under names with the time."""
    for kind in ("CSV", "PNG"):
        with page.page.expect_download(timeout=30_000) as download:
            plot.get_by_role("button", name=f"Save {kind}").click()
        name = download.value.suggested_filename
        assert re.fullmatch(rf"memory-\d{{8}}-\d{{4}}\.{kind.lower()}", name)


def _check_theme_and_access(page: NotebookPage, plot: Locator) -> None:
    """It is drawn in the theme's colours when that changes; no serious barrier in either."""
    canvas = plot.locator("canvas[role=img]").nth(1)
    plot.locator("summary").click()
    plot.locator("tbody tr").first.wait_for()
    light = canvas.evaluate(_INK)
    assert page.barriers(".tnb-plot") == []
    page.change_theme("JupyterLab Dark")
    page.page.wait_for_timeout(500)
    assert canvas.evaluate(_INK) != light
    assert page.barriers(".tnb-plot") == []


def _reload(page: NotebookPage, plot: Locator) -> None:
    """Load the page again until the kernel hears it.

    On a busy machine JupyterLab (4.6) may send the widgets' messages of a page that was loaded
    again to a subshell that it has just deleted ("Unknown subshell_id", ipykernel says).
    """
    from playwright.sync_api import Error

    for _ in range(4):
        page.page.reload()
        plot.locator("canvas[role=img]").first.wait_for(timeout=60_000)
        try:
            plot.locator("xpath=self::*[@data-answered='true']").wait_for(timeout=6000)
        except Error:
            continue
        return
    raise AssertionError("the kernel never heard the page")


def _samples(plot: Locator) -> int:
    return int(plot.get_attribute("data-samples") or 0)


def _until_samples(page: NotebookPage, count: int) -> None:
    page.page.wait_for_function(
        f"() => Number(document.querySelector('.tnb-plot').dataset.samples) >= {count}",
        timeout=30_000,
    )
