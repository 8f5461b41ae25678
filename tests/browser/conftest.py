"""A real JupyterLab and a real browser, shared; skipped where one of them is missing."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lab_server import LabServer
from notebook_page import NotebookPage

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    # Whatever a page asks for, no name but this machine's is looked up.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the Chromium; without what the browser tests need they are skipped."""
    for module in ("playwright", "jupyterlab"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the Python package {module} is missing: pip install '.[lab,test]'")
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(CHROMIUMS)} is on the PATH")
    return found


# A module's, and not the session's: until it ends, Playwright's event loop counts as
# running in the main thread, which would disturb tests that run one of their own.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """A JupyterLab on a copy of the notebooks."""
    server = LabServer.start(NOTEBOOKS, tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()


@pytest.fixture
def open_notebook(browser: Browser, lab: LabServer) -> Iterator[Callable[..., NotebookPage]]:
    """Open notebooks, in a theme, in pages that are closed after the test."""
    opened: list[NotebookPage] = []

    def open_one(notebook: str, theme: str = "JupyterLab Light", **context: Any) -> NotebookPage:
        lab.use_theme(theme)
        page = NotebookPage(browser, lab, **context)
        opened.append(page)
        page.open(notebook)
        return page

    yield open_one
    for page in opened:
        page.close()
    lab.shut_down_kernels()
