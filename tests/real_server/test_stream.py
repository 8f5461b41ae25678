"""Streams of pictures from folders, animations and videos, with a real Triton server."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

import tritonic_nb
from tritonic_nb import samples
from tritonic_nb.errors import ArgumentError, ImageReadError, SessionClosedError

Open = Callable[..., tritonic_nb.Session]
NAMES = ["cat", "espresso", "rocket"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three sample pictures, in an order of its own."""
    made = tmp_path / "pictures"
    made.mkdir()
    for number, name in zip((1, 2, 10), NAMES, strict=True):
        shutil.copy(samples.image(name), made / f"{number} {name}.jpg")
    return made


def shrunk(name: str) -> Image.Image:
    """Return a sample picture of 320 by 240 pixels."""
    with Image.open(samples.image(name)) as image:
        return image.convert("RGB").resize((320, 240))


def collect(results: Iterator[tritonic_nb.InferenceResult], given: list[Any]) -> None:
    """Put each result into a list as it comes."""
    for result in results:
        given.append(result)


def best(result: tritonic_nb.InferenceResult) -> str:
    """Return the name of the best class."""
    return result.top_k(1)[0].label


def test_a_folder_is_classified_in_order(open_session: Open, folder: Path) -> None:
    """Each result tells its picture's file, and is what infer() says of it."""
    session = open_session("classifier")
    results = list(session.stream(folder))
    assert [Path(result.source.path).name for result in results if result.source] == [
        "1 cat.jpg", "2 espresso.jpg", "10 rocket.jpg",
    ]  # fmt: skip
    assert list(map(best, results)) == [best(session.infer(samples.image(n))) for n in NAMES]
    assert "10 rocket.jpg, picture 2" in repr(results[2])
    assert "10 rocket.jpg, picture 2" in results[2]._repr_html_()
    assert session.infer(samples.image("cat")).source is None


def test_a_broken_picture_is_told_with_file_and_number(open_session: Open, folder: Path) -> None:
    """Results before it are given; with return_exceptions those after it as well."""
    (folder / "2 espresso.jpg").write_bytes(samples.image("espresso").read_bytes()[:3000])
    session = open_session("classifier")
    given: list[Any] = []
    with pytest.raises(ImageReadError, match=r"^item 1: '.*2 espresso\.jpg' cannot be decoded"):
        collect(session.stream(folder), given)
    assert len(given) == 1
    first, second, third = session.stream(folder, return_exceptions=True)
    assert isinstance(second, ImageReadError)
    assert [best(first), best(third)] == [best(session.infer(samples.image(n))) for n in NAMES[::2]]


def test_a_video_is_classified(open_session: Open, tmp_path: Path) -> None:
    """Of a video with two scenes each second frame is classified, with its time."""
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(5), options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.bit_rate = 4_000_000
        for name in ["cat"] * 6 + ["espresso"] * 6:
            container.mux(stream.encode(av.VideoFrame.from_image(shrunk(name))))
        container.mux(stream.encode())
    session = open_session("classifier")
    results = list(session.stream(tmp_path / "v.mp4", every=2))
    wanted = [best(session.infer(shrunk(name))) for name in ["cat"] * 3 + ["espresso"] * 3]
    assert list(map(best, results)) == wanted
    assert len(set(wanted)) == 2
    times = [result.source.time_s for result in results if result.source]
    assert times == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6, 2.0])


def test_an_animated_gif_is_classified(open_session: Open, tmp_path: Path) -> None:
    """Frames of a GIF are classified in order, and limit stops early."""
    frames = [shrunk(name) for name in ["rocket", "cat", "rocket", "cat"]]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    session = open_session("classifier")
    results = list(session.stream(tmp_path / "a.gif", limit=3))
    first, second, third = map(best, results)
    assert first == third != second
    assert [str(result.source) for result in results] == [
        f"a.gif, frame {n} at 0.{n}0 s" for n in range(3)
    ]


def test_wrong_arguments_are_refused_at_once(open_session: Open, folder: Path) -> None:
    """Errors of the source and of numbers come from stream() itself, not from its results."""
    session = open_session("classifier")
    with pytest.raises(ImageReadError, match=r"nowhere.* cannot be opened"):
        session.stream(folder / "nowhere")
    with pytest.raises(ArgumentError, match="every"):
        session.stream(folder, every=0)
    with pytest.raises(ArgumentError, match="in_flight"):
        session.stream(folder, in_flight=0)
    with pytest.raises(ArgumentError, match="no model is chosen"):
        open_session().stream(folder)
    session.close()
    with pytest.raises(SessionClosedError):
        session.stream(folder)


def test_a_notebook_shows_how_a_stream_went(server: Any, folder: Path, tmp_path: Path) -> None:
    """The saved output of a stream is one line of text, whether it went well or not."""
    url, headers = (server, {}) if isinstance(server, str) else (server.url, dict(server.headers))
    cells = [
        f"""
        import tritonic_nb
        session = tritonic_nb.Session({url!r}, "classifier", headers={headers!r}, load=True)
        """,
        f"best = [result.top_k(1)[0].label for result in session.stream({str(folder)!r})]",
        "for result in session.map([[1.0]] * 5):\n    pass",
        "(await session.submit(tritonic_nb.samples.image('cat'))).top_k(1)[0].label == best[0]",
        "session.close()",
    ]
    made = [nbformat.v4.new_code_cell(textwrap.dedent(cell)) for cell in cells]
    made[2].metadata["tags"] = ["raises-exception"]
    notebook = nbformat.v4.new_notebook(cells=made)
    NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    nbformat.write(notebook, tmp_path / "notebook.ipynb")
    _, good, bad, awaited, _ = nbformat.read(tmp_path / "notebook.ipynb", 4).cells
    (shown,) = good.outputs
    assert shown.data["text/plain"].startswith("3 items in ")
    assert set(shown.data) == {"text/plain", "text/html"}
    assert bad.outputs[0].data["text/plain"].startswith("stopped after 0 of 5 items: item 0: ")
    assert bad.outputs[1].output_type == "error"
    assert awaited.outputs[0].data["text/plain"] == "True"
