"""Cards: the same facts in HTML and in text, every word escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tritonic_nb.render import Described, Description, Rich, Table, card, plain

ROWS = [("url", "http://localhost:8000"), ("model", "cats & dogs")]
TABLE = Table("Regions", ("name", "bytes"), [("input", "602 kB"), ("output", "4 kB")], numeric=(1,))


class _Balance(HTMLParser):
    """Checks that every tag that opens also closes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and data.strip():
            self.text.append(data.strip())


def parsed(html: str) -> _Balance:
    """Parse HTML and check its balance."""
    parser = _Balance()
    parser.feed(html)
    assert parser.open == []
    return parser


def test_a_card_says_everything_once_and_in_order() -> None:
    """Title, rows, tables."""
    assert parsed(card("Session", ROWS, [TABLE])).text == [
        "Session", "url", "http://localhost:8000", "model", "cats & dogs",
        "Regions", "(2)", "name", "bytes", "input", "602 kB", "output", "4 kB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "evil", ["</details><script>alert(1)</script>", "$style ${title} $$", "'\"&"]
)
def test_every_text_is_escaped(evil: str) -> None:
    """Neither markup nor a template's placeholder gets through."""
    html = card(evil, [(evil, evil)], [Table(evil, (evil,), [(evil,)])])
    assert "<script" not in html
    assert parsed(html).text.count(evil) == 6  # title, name, value, table, column and cell


def test_a_card_folds() -> None:
    """Open or not, as asked, for the card and each table."""
    assert '<details class="tnb tnb-card" open>' in card("t")
    assert '<details class="tnb tnb-card">' in card("t", open=False)
    assert '<details class="tnb-section">' in card("t", (), [Table("x", (), (), open=False)])


def test_colours_follow_the_theme() -> None:
    """JupyterLab's variables with fallbacks, and the dark pages that have no variables."""
    html = card("t")
    for needed in (
        "var(--jp-content-font-color1, var(--tnb-text-fallback))",
        'html[theme="dark"] .tnb',
        'body[data-jp-theme-light="false"] .tnb',
        "body.vscode-dark .tnb",
    ):
        assert needed in html


def test_every_rule_of_the_style_stays_inside() -> None:
    """No rule reaches the rest of the page."""
    style = card("t").split("<style>")[1].split("</style>")[0]
    for rule in style.split("}")[:-1]:
        assert all(".tnb" in selector for selector in rule.split("{")[0].split(","))


def test_plain_text_aligns_columns() -> None:
    """Names to the left, numbers to the right, no blanks at the ends."""
    assert plain("Session", ROWS, [TABLE]).splitlines() == [
        "Session",
        "  url    http://localhost:8000",
        "  model  cats & dogs",
        "  Regions (2)",
        "    name     bytes",
        "    input   602 kB",
        "    output    4 kB",
    ]


def test_plain_text_keeps_one_line_for_each_row() -> None:
    """A line break in a value does not break the card."""
    assert plain("a\nb", [("c", "d\n  e")]) == "a b\n  c  d e"


def test_a_repr_reads_no_file_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's own templates are read once."""
    card("t", ROWS, [TABLE])
    monkeypatch.setattr(Path, "read_text", None)
    assert "Session" in card("Session", ROWS, [TABLE])


def test_no_text_commands_a_terminal_or_spoils_a_notebook() -> None:
    """Control characters and half characters are marked, in HTML as in plain text."""
    parts = ("a\x1b[2Jb\x00", [("c\ud800d", "e\x7ff")])
    for said in (card(*parts), plain(*parts)):
        assert said.encode()
        assert "a\ufffd[2Jb\ufffd" in said
        assert "c\ufffdd" in said
        assert "e\ufffdf" in said


class Thing(Described):
    """Says of itself what is asked for."""

    def _described(self) -> Description:
        return "Thing <b>", [("a", Rich("1 & 2", "1 &amp; <i>2</i>"))], [TABLE]


def test_what_describes_itself_shows_text_and_html() -> None:
    """One description is the repr, the text and the HTML, and each is left out on demand."""
    thing = Thing()
    bundle = thing._repr_mimebundle_()
    assert bundle == {"text/plain": repr(thing), "text/html": thing._repr_html_()}
    assert repr(thing).startswith("Thing <b>\n  a  1 & 2\n")
    assert "Thing &lt;b&gt;" in thing._repr_html_()
    assert "<td>1 &amp; <i>2</i></td>" in thing._repr_html_()
    assert list(thing._repr_mimebundle_(include={"text/html"})) == ["text/html"]
    assert list(thing._repr_mimebundle_(exclude={"text/html"})) == ["text/plain"]


def test_an_only_table_needs_no_heading() -> None:
    """Without a title a table stands in the card itself."""
    table = Table(None, ("name",), [("x",)])
    assert parsed(card("1 thing", (), [table])).text == ["1 thing", "name", "x"]
    assert plain("1 thing", (), [table]) == "1 thing\n  name\n  x"


def test_long_tables_and_long_names_are_cut() -> None:
    """A server may have thousands of models, and names of a million letters."""
    rows = [(f"model {index} " + "x" * 10**5, "1") for index in range(5000)]
    table = Table("models", ("name", "bytes"), rows)
    for shown in (card("t" * 10**6, [("n", "v" * 10**6)], [table]), plain("t", (), [table])):
        assert len(shown) < 150_000
        assert "model 99 " in shown
        assert "model 100 " not in shown
        assert "… and 4,900 more" in shown
        assert "5000" in shown


def test_without_style_a_card_is_readable() -> None:
    """On GitHub, which removes styles, classes and SVG, all words are left, once each."""
    table = Table("outputs", ("name", "values"), [("x", Rich("▁█ min 0", "<svg></svg> min 0"))])
    html = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", card("Result", ROWS, [table]))
    html = re.sub(r' (class|style)="[^"]*"', "", html)
    assert parsed(html).text == [
        "Result", "url", "http://localhost:8000", "model", "cats & dogs",
        "outputs", "(1)", "name", "values", "x", "min 0",
    ]  # fmt: skip
    assert 'class="' not in html
