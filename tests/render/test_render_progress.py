"""Progress in a terminal, in a notebook, and where there is neither."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import textwrap
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render import Progress


def shown_in_a_terminal(code: str) -> str:
    """Run a program whose standard error is a terminal, and return what it showed there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "wb") as terminal:
        subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
            stderr=terminal,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )
        return os.read(screen.fileno(), 100_000).decode()


def test_a_terminal_has_a_bar() -> None:
    """On a terminal's standard error stands a bar, which stays, and no thread or lock is left."""
    said = shown_in_a_terminal("""
        import multiprocessing, threading
        from tritonic_nb.render import Progress
        with Progress(3) as progress:
            for _ in range(3):
                progress.step()
        assert threading.active_count() == 1
        multiprocessing.set_start_method("spawn")  # still the program's to choose
    """)
    assert "100%" in said
    assert "3/3" in said
    assert said.endswith("\r\n")


@pytest.mark.parametrize("where", [io.StringIO(), None, "closed"])
def test_elsewhere_nothing_is_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], where: Any
) -> None:
    """A log file gets no bar, and a standard error that is gone stops nobody."""
    if where == "closed":
        where = io.StringIO()
        where.close()
    monkeypatch.setattr(sys, "stderr", where)
    with Progress(3) as progress:
        progress.step()
    assert capfd.readouterr() == ("", "")


def test_the_summary_tells_how_it_went() -> None:
    """Items, seconds and rate; or after how many it stopped, and why, in one line."""
    with Progress(64, show=False) as progress:
        for _ in range(12):
            progress.step()
        assert "12 items in 0.0" in progress.summary()
        assert progress.summary().endswith(" items/s")
        told = progress.summary(ArgumentError("item 12: bad\n  <b>", "do"))
        assert told == "stopped after 12 of 64 items: item 12: bad <b>"
        assert progress.summary(ZeroDivisionError("x")).endswith(" items: ZeroDivisionError: x")
        assert progress.summary(KeyboardInterrupt()) == "stopped after 12 of 64 items: interrupted"
        assert progress.summary(GeneratorExit()) == "stopped after 12 of 64 items"
        assert len(progress.summary(ValueError("long " * 1000))) < 300
    with Progress(show=False) as progress:
        progress.step()
        assert progress.summary(GeneratorExit()) == "stopped after 1 item"
    with Progress(0, show=False) as progress:
        assert progress.summary().startswith("0 items in ")


def executed(cells: list[str], folder: Path, prelude: str = "") -> list[list[Any]]:
    """Run a notebook in a kernel, and return each cell's outputs as they would be saved."""
    from nbclient import NotebookClient

    made = [nbformat.v4.new_code_cell(code) for code in (prelude, *cells)]
    notebook = nbformat.v4.new_notebook(cells=made)
    path = folder / "notebook.ipynb"
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    nbformat.write(notebook, path)
    return [cell.outputs for cell in nbformat.read(path, 4).cells[1:]]


CELLS = [
    """
    from tritonic_nb.render import Progress
    with Progress(64) as progress:
        for _ in range(64):
            progress.step()
    """,
    """
    try:
        with Progress(64) as progress:
            for _ in range(12):
                progress.step()
            raise ValueError("<script>")
    except ValueError:
        pass
    """,
    """
    import threading
    names = [t.name for t in threading.enumerate() if type(t).__name__ == "TMonitor"]
    import ipywidgets
    print(names, [w for w in getattr(ipywidgets.widgets.widget, "_instances", {}).values()])
    """,
]


def test_a_saved_notebook_tells_how_it_ended(tmp_path: Path) -> None:
    """A notebook's saved output is the summary, as text and HTML, and no bar at 0 %."""
    good, bad, left = executed([textwrap.dedent(cell) for cell in CELLS], tmp_path)
    assert len(good) == 1
    assert set(good[0].data) == {"text/plain", "text/html"}
    assert good[0].data["text/plain"].startswith("64 items in ")
    assert "<p>64 items in " in good[0].data["text/html"]
    assert bad[0].data["text/plain"] == "stopped after 12 of 64 items: ValueError: <script>"
    assert "<script>" not in bad[0].data["text/html"]
    assert left[0].text == "[] []\n"  # neither a thread nor a widget
    assert "0%" not in str([good, bad])
    assert "widget-view" not in str([good, bad])  # which would be an error when it is reopened


def test_a_notebook_without_widgets_has_text(tmp_path: Path) -> None:
    """Where there is no ipywidgets, the bar is text and says in the end what it should."""
    prelude = "import sys; sys.modules['ipywidgets'] = None"
    (outputs,) = executed([textwrap.dedent(CELLS[0])], tmp_path, prelude)
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "64/64" in text
    assert "Warning" not in text
    assert not [output for output in outputs if output.output_type != "stream"]
