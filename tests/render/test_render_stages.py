"""Bars for the stages of a run, and the box for an error."""

from __future__ import annotations

import re

from tritonic_nb.render.failure import failure_html
from tritonic_nb.render.stages import stages_html, stages_text

STAGES = (("prepare", 2.0), ("copy in", 1.0), ("request", 16.0), ("copy out", 1.0))


def test_each_bar_begins_where_the_last_one_ended() -> None:
    """Begin and length are parts of the whole, the numbers stand beside them in milliseconds."""
    html = stages_html(STAGES)
    found = re.findall(r"margin-left:([\d.]+)%;width:([\d.]+)%", html)
    assert found == [("0.0", "10.0"), ("10.0", "5.0"), ("15.0", "80.0"), ("95.0", "5.0")]
    for text in ("2.00 ms", "16.00 ms", "20.00 ms in all", "copy in"):
        assert text in html


def test_a_run_without_time_has_bars_without_length() -> None:
    """Nothing is divided by zero, also where there is no stage at all."""
    assert "width:0.0%" in stages_html([("prepare", 0.0)])
    assert "0.00 ms in all" in stages_html([])


def test_text_says_the_same() -> None:
    """One line, longer times without decimals."""
    assert stages_text([("prepare", 1234.5), ("request", 0.5)]) == (
        "time by stage, 1,235 ms in all: prepare 1,234 ms, request 0.50 ms"
    )


def test_names_and_notes_are_escaped() -> None:
    """Whatever stands in them is text."""
    html = stages_html([("<b>", 1.0)], "<i>")
    assert "&lt;b&gt;" in html
    assert "&lt;i&gt;" in html
    assert "<b>" not in html
    assert "<i>" not in html


def test_an_error_is_read_out_and_says_what_to_do() -> None:
    """An alert with the message and the remedy, escaped; without a remedy nothing is promised."""
    html = failure_html("no <file>", "give & take")
    assert 'role="alert"' in html
    assert "no &lt;file&gt;" in html
    assert "What to do:</b> give &amp; take" in html
    assert "What to do" not in failure_html("no file")
