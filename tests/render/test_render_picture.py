"""A picture shows itself, and has words for those who do not see it."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from tritonic_nb.render import Picture, show

PICTURE = show(
    np.zeros((4, 6), np.uint8), alt='a "black" <square>', caption="1 < 2 & so on", width=60
)


def test_the_bundle_has_text_html_and_png() -> None:
    """Every front end finds what it can show."""
    data, metadata = PICTURE._repr_mimebundle_()
    assert list(data) == ["text/plain", "text/html", "image/png"]
    assert data["text/plain"] == 'a "black" <square>'
    assert base64.b64decode(data["image/png"]) == PICTURE.png
    assert metadata == {"image/png": {"width": 60}}


def test_the_html_has_an_escaped_alternative_text_and_caption() -> None:
    """Words are text, never markup."""
    html = PICTURE._repr_mimebundle_()[0]["text/html"]
    assert 'alt="a &quot;black&quot; &lt;square&gt;"' in html
    assert "<figcaption>1 &lt; 2 &amp; so on</figcaption>" in html
    assert 'width="60"' in html


def test_include_and_exclude_are_obeyed() -> None:
    """IPython may ask for some kinds only."""
    assert list(PICTURE._repr_mimebundle_(include={"image/png"})[0]) == ["image/png"]
    assert "image/png" not in PICTURE._repr_mimebundle_(exclude={"image/png"})[0]


def test_it_saves_its_png(tmp_path: Path) -> None:
    """The file is the bytes."""
    assert PICTURE.save(tmp_path / "p.png").read_bytes() == PICTURE.png


def test_outside_a_notebook_display_prints_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    """A script gets text."""
    PICTURE.display()
    assert capsys.readouterr().out == 'a "black" <square>\n'


def test_ipython_takes_the_bundle() -> None:
    """IPython's own formatter finds the bundle and nothing warns."""
    formatters = pytest.importorskip("IPython.core.formatters")
    data, metadata = formatters.DisplayFormatter().format(PICTURE)
    assert {"text/plain", "text/html", "image/png"} <= set(data)
    assert metadata["image/png"] == {"width": 60}


def test_a_picture_is_a_value() -> None:
    """Two of the same bytes and words are equal."""
    assert Picture(b"x", "y") == Picture(b"x", "y")
    assert repr(Picture(b"x", "y")) == "y"
