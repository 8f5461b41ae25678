"""What objects say of themselves, as a person sees it in JupyterLab, light and dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from notebook_page import NotebookPage, contrasts

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab_server import LabServer

NOTEBOOK = "cards.ipynb"
ALARMS = {"JupyterLab Light": "rgb(179, 38, 30)", "JupyterLab Dark": "rgb(255, 138, 128)"}
LEAST_CONTRAST = 4.5  # WCAG 2, level AA, for text of ordinary size
CELLS = [
    """
import numpy as np, tritonic_nb as tnb
from tritonic_nb.render import Summary
server = tnb.serve()
server.add("classifier", tnb.samples.classifier())
server""",
    """
session = server.session(model="classifier", shared_memory="system")
cat = session.infer(tnb.samples.image("cat"))
rocket = session.infer(tnb.samples.image("rocket"))
session""",
    "cat",
    "session.model_info",
    "session.model_info.input('images')",
    "session.regions",
    "session.regions[0]",
    "session.models()",
    "session.inputs",
    "tnb.diff(cat, rocket)",
    "tnb.diff(cat['logits'], rocket['logits'], names=('cat', 'rocket'))",
    "Summary.of(np.array([1, np.nan, np.inf]), 'region <b>r</b> at 0')",
    "tnb.show(cat['feature_maps'], name='feature_maps')",
    "tnb.show(cat['logits'], name='logits', labels=tnb.samples.labels())",
    "tnb.show(cat['logits'], as_='table')",
    "tnb.show(cat['class_activation'], source=tnb.samples.image('cat'), "
    "transform=session.transform)",
]


def test_cards_are_readable_in_both_themes(
    lab: LabServer, open_notebook: Callable[..., NotebookPage]
) -> None:
    """Each card is there, stands out from the page, and keeps to its cell, wide and narrow."""
    page = open_notebook(lab.put(NOTEBOOK, CELLS))
    page.run_all()

    assert page.error_texts() == []
    assert page.outputs(".tnb-card, .tnb-line").count() == len(CELLS)
    alarms = page.outputs(".tnb-alarm")
    assert [alarm.inner_text().replace("\xa0", " ") for alarm in alarms.all()] == [
        "1 NaN",
        "1 +Inf",
    ]
    for theme, alarm in ALARMS.items():
        page.change_theme(theme)
        cards = page.outputs(".tnb-card, .tnb-line").all()
        texts = [text for card in cards for text in contrasts(card)]
        assert len(texts) > 200
        assert [text for text in texts if text[0] < LEAST_CONTRAST] == [], theme
        assert alarms.first.evaluate("e => getComputedStyle(e).color") == alarm
    assert "region <b>r</b> at 0" in page.outputs(".tnb-line").inner_text()

    for width in (1200, 700):
        page.page.set_viewport_size({"width": width, "height": 900})
        for card in page.outputs(".tnb-card, .tnb-line").all():
            room = card.evaluate("e => e.closest('.jp-OutputArea-output').clientWidth")
            box = card.bounding_box()
            assert box is not None
            assert box["width"] <= room

    folded = page.outputs(".tnb-card").nth(1)
    height = folded.bounding_box()
    folded.locator("summary").first.click()
    assert not folded.locator("table").first.is_visible()
    assert height != folded.bounding_box()
    page.execute("session.close(); server.stop(0.0)")  # or the kernel's end takes seconds
    page.shut_down_kernel()
    assert page.console_errors == []
    assert page.foreign_requests() == []
