"""The panel in a real JupyterLab: by mouse, by keyboard, from code, and without its server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from notebook_page import NotebookPage

import tritonic_nb

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab_server import LabServer
    from playwright.sync_api import Locator

CELLS = (
    """
import os, signal, time
import tritonic_nb as tnb
server = tnb.serve()
server.add("classifier", tnb.samples.classifier())
session = server.session(model="classifier", shared_memory="system")
panel = session.panel()
panel
""",
    "session.widgets.shared_memory",
)
CAT = re.compile("tabby|tiger cat|Egyptian cat")
VIEWS = ("Run", "Regions", "Memory", "Log")
WAIT_MS = 30_000


@pytest.fixture
def page(lab: LabServer, open_notebook: Callable[..., NotebookPage]) -> NotebookPage:
    """A notebook with a panel, run."""
    opened = open_notebook(lab.put("panel.ipynb", CELLS))
    opened.run_all()
    panel_of(opened).get_by_role("button", name="Auto", exact=True).wait_for(timeout=WAIT_MS)
    return opened


def panel_of(page: NotebookPage) -> Locator:
    return page.outputs(".tnb-panel").first


def button(page: NotebookPage, name: str) -> Locator:
    # An icon before the text is a letter of the name, too.
    return panel_of(page).get_by_role("button", name=re.compile(rf"^(\W\s*)?{name}$"))


def pressed(place: Locator, name: str) -> Locator:
    """A toggle button that is pressed."""
    return place.locator("button[aria-pressed=true]", has_text=re.compile(rf"^{name}$"))


def test_the_panel_obeys_follows_and_survives(page: NotebookPage, lab: LabServer) -> None:
    """One session through its panel: choose, upload, follow code, lose a server, reload, freeze."""
    _check_mouse(page)
    _check_keyboard(page)
    _check_upload(page)
    _check_code_is_followed(page)
    _check_regions(page)
    _check_access(page)
    _check_a_killed_server(page)
    assert page.error_texts() == []

    page.save()
    page.reload()
    button(page, "Regions").wait_for(timeout=2 * WAIT_MS)
    page.execute("session.set_shared_memory('none')")
    pressed(panel_of(page), "None").wait_for(timeout=WAIT_MS)

    # Frozen by its button, and by the end of the session.
    _freeze_after_a_reload(page)
    assert page.outputs(".tnb-classes").first.is_visible()
    page.execute("session.close()")
    page.outputs(".tnb-shared-memory button").first.wait_for(state="detached", timeout=WAIT_MS)
    page.shut_down_kernel()
    assert page.console_errors == []
    assert page.foreign_requests() == []


def test_a_saved_notebook_shows_what_was_frozen(page: NotebookPage, lab: LabServer) -> None:
    """After close(), saved and opened again without a kernel: the session's card, and its cat."""
    button(page, "Run once").click()
    panel_of(page).get_by_text(CAT).first.wait_for(timeout=WAIT_MS)
    page.execute("panel.close(); session.close()")
    page.outputs(".tnb-classes img").first.wait_for(timeout=WAIT_MS)
    page.save()
    page.shut_down_kernel()
    page.reload()
    page.outputs(".tnb-classes img").first.wait_for(timeout=2 * WAIT_MS)
    assert page.outputs(".tnb-card").first.is_visible()
    assert page.outputs("button").count() == 0
    assert "widget" not in " ".join(page.output_texts()).lower()
    assert page.console_errors == []


def test_a_narrow_page_has_all_of_it(
    lab: LabServer, open_notebook: Callable[..., NotebookPage]
) -> None:
    """At 600 pixels nothing is wider than the panel, in any of its views."""
    name = lab.put("narrow.ipynb", ["\n".join(CELLS)])
    page = open_notebook(name, viewport={"width": 600, "height": 900})
    page.run_all()
    page.execute("session.close(); session = server.session(model='classifier')")
    # The side bar takes a third of such a page, and people close it.
    page.page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    page.execute("panel = session.panel(); from IPython.display import display")
    page.page.evaluate(
        """() => { const cell = window.jupyterapp.shell.currentWidget.content.widgets[0];
                   cell.model.sharedModel.setSource('panel'); }"""
    )
    page.run_all()
    button(page, "Run").wait_for(timeout=WAIT_MS)
    for view in VIEWS:
        button(page, view).click()
        page.page.wait_for_timeout(500)
        wide = panel_of(page).evaluate(
            "e => [...e.querySelectorAll('*')].filter(x => x.checkVisibility() &&"
            " !x.closest('.tnb-scroll') && x.tagName !== 'OPTION' &&"
            " x.getBoundingClientRect().right > e.getBoundingClientRect().right + 2)"
            ".map(x => x.outerHTML.slice(0, 120))"
        )
        assert wide == [], view


def _freeze_after_a_reload(page: NotebookPage) -> None:
    """Press the button, in a page that the kernel hears.

    On a busy machine JupyterLab may send what a page says after a reload to a subshell that
    it has just deleted ("Unknown subshell_id", ipykernel says); another reload helps.
    """
    from playwright.sync_api import Error

    for _ in range(4):
        button(page, "Freeze").press("Enter")
        try:
            page.outputs(".tnb-panel button").first.wait_for(state="detached", timeout=8000)
        except Error:
            page.reload()
            button(page, "Regions").wait_for(timeout=2 * WAIT_MS)
            continue
        return
    raise AssertionError("the kernel never heard the page")


def _check_mouse(page: NotebookPage) -> None:
    """A click switches at once; the chooser in the other cell says the same."""
    alone = page.outputs(".tnb-shared-memory").last
    assert pressed(panel_of(page), "System").count() == 1
    button(page, "None").click()
    pressed(alone, "None").wait_for(timeout=WAIT_MS)
    page.execute("assert session.shared_memory == 'none'")
    # What cannot be had says why, and goes back.
    button(page, "CUDA").click()
    panel_of(page).get_by_text("What to do").first.wait_for(timeout=WAIT_MS)
    pressed(panel_of(page), "None").wait_for(timeout=WAIT_MS)


def _check_keyboard(page: NotebookPage) -> None:
    """Space presses, letters and arrows choose; none of it reaches the notebook."""
    cells = page.cells.count()
    button(page, "System").focus()
    page.page.keyboard.press("Space")
    pressed(panel_of(page), "System").wait_for(timeout=WAIT_MS)
    models = panel_of(page).get_by_label("Model", exact=True)
    models.focus()
    page.page.keyboard.press("ArrowDown")
    page.page.wait_for_function(
        "() => !document.querySelector('.tnb-panel .tnb-title')?.textContent"
        ".startsWith('classifier')",
        timeout=WAIT_MS,
    )
    for key in "dd":
        page.page.keyboard.press(key)
    page.page.wait_for_timeout(1500)  # or they were the beginning of a name
    page.page.keyboard.type("classifier", delay=20)
    page.page.wait_for_function(
        "() => document.querySelector('.tnb-panel .tnb-title')?.textContent"
        ".startsWith('classifier')",
        timeout=WAIT_MS,
    )
    page.execute("assert session.model_info.name == 'classifier'")
    assert page.cells.count() == cells


def _check_upload(page: NotebookPage) -> None:
    """A picture of this machine's goes up, and its class is seen."""
    button(page, "Upload").click()
    with page.page.expect_file_chooser(timeout=WAIT_MS) as chooser:
        panel_of(page).locator(".widget-upload").click()
    chooser.value.set_files(tritonic_nb.samples.image("cat"))
    panel_of(page).get_by_text("cat.jpg").first.wait_for(timeout=WAIT_MS)
    button(page, "Run once").click()
    panel_of(page).locator(".tnb-bar-label", has_text=CAT).first.wait_for(timeout=WAIT_MS)
    assert panel_of(page).locator("img[alt]").count() >= 1


def _check_code_is_followed(page: NotebookPage) -> None:
    """What code does is seen, and holds."""
    page.execute("session.set_shared_memory('none')")
    pressed(panel_of(page), "None").wait_for(timeout=WAIT_MS)
    page.execute("session.use('identity_fp32')")
    title = panel_of(page).locator(".tnb-title")
    title.get_by_text("identity_fp32").wait_for(timeout=WAIT_MS)
    page.execute("session.use('classifier'); session.set_shared_memory('system')")
    title.get_by_text("classifier").wait_for(timeout=WAIT_MS)


def _check_regions(page: NotebookPage) -> None:
    """They are registered, seen here and at the server, and one of them goes."""
    button(page, "Regions").click()
    button(page, "Register or grow").click()
    one = button(page, "Unregister the region of output logits")
    one.wait_for(timeout=WAIT_MS)
    panel_of(page).get_by_role("cell", name="this session").nth(3).wait_for(timeout=WAIT_MS)
    one.press("Enter")
    one.wait_for(state="detached", timeout=WAIT_MS)
    page.execute("assert 'logits' not in {r.tensor for r in session.regions}")


def _check_access(page: NotebookPage) -> None:
    """Each view without a serious barrier, in both themes."""
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        page.change_theme(theme)
        for view in VIEWS:
            button(page, view).click()
            page.page.wait_for_timeout(300)
            assert page.barriers(".tnb-panel") == [], (theme, view)


def _check_a_killed_server(page: NotebookPage) -> None:
    """It is seen to be away, an inference fails with a remedy, and its return is seen, too."""
    page.execute("os.kill(server.pid, signal.SIGKILL)")
    panel_of(page).get_by_text("does not answer").first.wait_for(timeout=WAIT_MS)
    button(page, "Run").click()
    button(page, "Run once").click()
    panel_of(page).get_by_role("alert").first.wait_for(timeout=WAIT_MS)
    page.execute("server.restart()")
    panel_of(page).get_by_text("connected, triton").wait_for(timeout=WAIT_MS)
    button(page, "Run once").click()
    panel_of(page).get_by_role("alert").first.wait_for(state="detached", timeout=WAIT_MS)
    button(page, "Log").click()
    panel_of(page).get_by_text("the server answers again").wait_for(timeout=WAIT_MS)
