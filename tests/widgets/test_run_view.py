"""The widgets of a run, driven as a browser would: by the values of the controls."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from tritonic_nb import Session, samples
from tritonic_nb.widgets.run import RunView
from tritonic_nb.widgets.run_parts import CodeBlock, Steady
from tritonic_nb.widgets.run_state import RunState

Open = Callable[..., RunView]


@pytest.fixture
def open_view(open_session: Callable[..., Session]) -> Iterator[Open]:
    """Open views of states on sessions of their own."""
    opened: list[RunView] = []

    def open_one(model: str = "classifier", **variables: Any) -> RunView:
        session = open_session(model)
        opened.append(RunView(RunState(session, {"session": session, **variables})))
        return opened[-1]

    yield open_one
    for view in opened:
        view.state.close()
        view.close()


def inside(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from inside(child)


def control(view: RunView, description: str) -> Any:
    """Return the control with a description."""
    (found,) = (each for each in inside(view) if getattr(each, "description", None) == description)
    return found


def html(view: RunView) -> str:
    """Return all HTML that is shown."""
    return "\n".join(
        each.html if isinstance(each, Steady) else each.value
        for each in inside(view)
        if isinstance(each, Steady | widgets.HTML) and each.layout.display != "none"
    )


def code(view: RunView) -> str:
    (block,) = (each for each in inside(view) if isinstance(each, CodeBlock))
    return str(block.code)


def shown_controls(view: RunView) -> set[str]:
    """Return the descriptions of the controls that can be seen."""

    def seen(widget: Any) -> Iterator[str]:
        if widget.layout.display == "none":
            return
        if getattr(widget, "description", ""):
            yield widget.description
        for child in getattr(widget, "children", ()):
            yield from seen(child)

    return {name for child in view.children[1:] for name in seen(child)}


def until(condition: Callable[[], bool], timeout_s: float = 20) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def upload(view: RunView, name: str, content: bytes) -> None:
    """Do what the browser does when a file was chosen."""
    control(view, "Upload files").value = (
        {"name": name, "type": "", "size": len(content), "content": memoryview(content),
         "last_modified": datetime.now(timezone.utc)},
    )  # fmt: skip


def run(view: RunView) -> None:
    control(view, "Run once").click()
    assert view.state.wait(30)


def test_one_click_shows_the_cat(open_view: Open) -> None:
    """Pictures with words for them, the classes, the stages, the numbers and the code."""
    view = open_view()
    assert "not run yet" in html(view)
    run(view)
    shown = html(view)
    for text in ("Egyptian cat", 'alt="the picture itself"', "time by stage", "copy in",
                 "through shared memory", "1 run", "feature_maps"):  # fmt: skip
        assert text in shown
    assert shown.count("<img") == shown.count("alt=")
    assert code(view) == view.state.code


def test_a_model_of_numbers_shows_its_outputs(open_view: Open) -> None:
    """A model with two inputs runs with made-up values; there is no transform to edit."""
    view = open_view("simple")
    assert "Edit transform" not in shown_controls(view)
    assert control(view, "Sample").options == ("ramp", "random", "zeros")
    run(view)
    assert "OUTPUT0" in html(view)
    assert "OUTPUT1" in html(view)
    assert 'role="alert"' not in html(view)


def test_each_source_has_its_control(open_view: Open) -> None:
    """Only the chosen source's control is seen, and each control has a label."""
    view = open_view()
    own = {"sample": "Sample", "upload": "Upload files", "path": "Path", "variable": "Variable"}
    for source, label in own.items():
        control(view, "Input").value = source
        assert view.state.source == source
        assert shown_controls(view) & set(own.values()) == {label}
    controls = (widgets.Text, widgets.Dropdown, widgets.ToggleButtons, widgets.Textarea)
    for each in inside(view):
        if isinstance(each, controls):
            assert each.description


def test_an_upload_is_named_and_classified(open_view: Open) -> None:
    """A PNG from the browser; a corrupt one is an error, and after it all works."""
    view = open_view()
    control(view, "Input").value = "upload"
    file = io.BytesIO()
    with Image.open(samples.image("cat")) as image:
        image.save(file, "PNG")
    upload(view, "<b>cat.png", file.getvalue())
    run(view)
    assert "Egyptian cat" in html(view)
    assert "&lt;b&gt;cat.png (" in html(view)
    assert "<b>cat" not in html(view)
    upload(view, "broken.png", b"\x89PNG")
    run(view)
    assert 'role="alert"' in html(view)
    assert "broken.png" in html(view)
    assert "What to do:" in html(view)
    control(view, "Input").value = "sample"
    assert 'role="alert"' not in html(view)
    run(view)
    assert "Egyptian cat" in html(view)


def test_errors_are_escaped(open_view: Open) -> None:
    """What a person typed comes back as text."""
    view = open_view()
    control(view, "Input").value = "path"
    control(view, "Path").value = "/<script>alert(1)</script>"
    run(view)
    assert "&lt;script&gt;" in html(view)
    assert "<script>" not in html(view)


def test_variables_are_suggested_and_taken(open_view: Open) -> None:
    """The names of arrays are offered when variables are chosen; a new one after a run."""
    x = np.ones((1, 16), np.int32)
    view = open_view("simple", both={"INPUT0": x, "INPUT1": x}, number=3)
    control(view, "Input").value = "variable"
    assert control(view, "Variable").options == ("both",)
    control(view, "Variable").value = "both"
    run(view)
    assert (view.state.result["OUTPUT0"] == 2).all()
    view.state.namespace["x"] = x  # type: ignore[index]
    run(view)
    assert control(view, "Variable").options == ("both", "x")


def test_the_transform_is_edited_in_fields(open_view: Open) -> None:
    """A preset, a field, a refusal that leaves the last good one, and automatic again."""
    view = open_view()
    assert "Width" not in shown_controls(view)
    control(view, "Edit transform").value = True
    assert {"Preset", "Width", "Mean", "Fit"} <= shown_controls(view)
    assert control(view, "Mean").value == "127"
    control(view, "Preset").value = "imagenet"
    assert view.state.words in html(view)
    assert control(view, "Mean").value == "0.485, 0.456, 0.406"
    control(view, "Fit").value = "pad"
    assert (view.state.edited.fit, control(view, "Preset").value) == ("pad", "imagenet")
    before = view.state.edited
    control(view, "Width").value = "100"
    assert "width 100" in html(view)
    assert (view.state.edited, control(view, "Width").value) == (before, "224")
    control(view, "Std").value = "2"
    assert "width 100" not in html(view)
    assert control(view, "Preset").value == "edited"
    control(view, "Preset").value = "automatic"
    assert view.state.edited is None
    assert "automatic: " in html(view)
    run(view)
    assert "Egyptian cat" in html(view)


def test_two_views_agree(open_view: Open) -> None:
    """What one does shows in the other, and what code does in both."""
    view = open_view()
    other = RunView(view.state)
    control(view, "Input").value = "path"
    control(view, "Path").value = str(samples.image("espresso"))
    assert control(other, "Path").value == str(samples.image("espresso"))
    run(other)
    assert "espresso" in html(view)
    view.state.edit_transform("0..1")
    assert control(view, "Preset").value == control(other, "Preset").value == "0..1"
    other.close()
    run(view)


def test_keep_running_becomes_stop(open_view: Open) -> None:
    """The button stops it; the numbers move meanwhile and the last result is shown."""
    view = open_view()
    keep = control(view, "Keep running")
    keep.value = True
    assert until(lambda: "per second" in html(view))
    assert keep.description == "Stop"
    assert control(view, "Run once").disabled
    keep.value = False
    assert view.state.wait(10)
    assert keep.description == "Keep running"
    assert f"{view.state.count:,} runs" in html(view)
    assert "running" not in html(view)


def test_while_it_runs_little_is_sent(open_view: Open) -> None:
    """The same picture again and again is sent once; another one at once."""
    view = open_view()
    run(view)
    steady = [each for each in inside(view) if isinstance(each, Steady)]
    sent: list[int] = []
    for each in steady:
        each.observe(lambda change: sent.append(len(change["new"])), "html")
    control(view, "Keep running").value = True
    assert until(lambda: view.state.count > 30)
    assert sum(sent) == 0
    control(view, "Sample").value = "espresso"
    assert until(lambda: "espresso" in steady[0].html)
    control(view, "Stop").value = False
    assert view.state.wait(10)


def test_a_batch_is_shown_picture_by_picture(open_view: Open) -> None:
    """Of several pictures one is shown, which can be chosen."""
    view = open_view()
    assert "Picture" not in shown_controls(view)
    view.state.source = "path"
    view.state.path = [samples.image("cat"), samples.image("espresso")]
    run(view)
    assert "Egyptian cat" in html(view)
    assert control(view, "Picture").max == 2
    control(view, "Picture").value = 2
    assert "Egyptian cat" not in html(view)
    assert "espresso" in html(view)
    view.state.source = "sample"
    run(view)
    assert "Egyptian cat" in html(view)
    assert "Picture" not in shown_controls(view)


def test_frozen_it_leaves_its_last_result(open_view: Open) -> None:
    """Text and HTML of the result, with its pictures; nothing runs on."""
    view = open_view()
    run(view)
    control(view, "Keep running").value = True
    view.freeze()
    assert not view.state.keep_running
    (left,) = (each for each in view.children)
    assert "Egyptian cat" in left.value
    assert "time by stage" in left.value
    assert view.state.wait(10)
    run_after = view.state.result
    view.state.run_once()
    assert view.state.wait(10)
    assert view.state.result is not run_after  # the state is the caller's still


def test_frozen_before_a_run_it_says_so(open_view: Open) -> None:
    """Nothing was run, in words."""
    view = open_view()
    view.freeze()
    assert "No inference was run" in view.children[0].value


def test_no_widget_is_left(open_view: Open) -> None:
    """Closed, it leaves no widget and no observer behind."""
    before = _alive()
    view = open_view()
    run(view)
    view.close()
    assert not view.state._trait_notifiers.get("result", {}).get("change")
    assert not _alive() - before


def _alive() -> set[str]:
    """Return the ids of all widgets that are connected."""
    from ipywidgets.widgets.widget import _instances

    return set(_instances)


def test_controls_can_be_moved_from_any_thread(open_view: Open) -> None:
    """As the callbacks of a busy notebook do."""
    view = open_view()
    threads = [
        threading.Thread(target=setattr, args=(control(view, "Sample"), "value", name))
        for name in ("rocket", "page", "cat")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run(view)
    assert view.state.error is None
