"""The live plot of memory without a browser: what it sends, what it keeps, when it ends."""

from __future__ import annotations

import gc
import io
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tritonic_nb
from tritonic_nb.errors import ArgumentError, SessionClosedError
from tritonic_nb.monitoring import Reading, Recording, Source, sampler
from tritonic_nb.monitoring.events import KINDS
from tritonic_nb.monitoring.feed import LONGEST_S, TIERS, Feed, thinned
from tritonic_nb.monitoring.history import Frame
from tritonic_nb.render import timeline
from tritonic_nb.widgets import monitor as module
from tritonic_nb.widgets.monitor import Monitor
from tritonic_nb.widgets.shown import asset

Open = Callable[..., tritonic_nb.Session]


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == sampler.THREAD]


def until(true: Callable[[], Any], limit_s: float = 15.0) -> None:
    give_up = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.fixture
def made() -> Iterator[list[Monitor]]:
    """Monitors that are closed after the test."""
    monitors: list[Monitor] = []
    yield monitors
    for each in monitors:
        each.close()


def told(values: dict[str, float]) -> Source:
    return Source("told", lambda: Reading(dict(values)))


SHM = {"shm/used": 4e6, "shm/total": 64e6, "shm/free": 60e6, "region/input x": 3e6}


class Listened:
    """A monitor with the messages that its plot sent."""

    def __init__(self, made: list[Monitor], *sources: Source, hz: float = 10, **options: Any):
        self.messages: list[dict[str, Any]] = []
        self.buffers: list[Any] = []
        warn_at = options.pop("warn_at", 0.9)
        chosen = sources or (told(SHM),)
        self.recording = Recording(chosen, hz=hz, warn_at=warn_at, show=False)
        begin = self.recording.begin
        self.recording.begin = lambda _: None  # type: ignore[method-assign, assignment]
        self.monitor = Monitor(self.recording, **options)
        made.append(self.monitor)
        self.monitor._plot.send = self._keep  # type: ignore[method-assign]
        self.recording.begin = begin  # type: ignore[method-assign]
        begin(self.monitor._sampled)

    def _keep(self, content: dict[str, Any], buffers: Any = None) -> None:
        json.dumps(content)
        self.messages.append(content)
        self.buffers.append(buffers)

    def samples(self) -> int:
        """Count those that were sent."""
        return sum(len(each.get("samples", ())) for each in list(self.messages))

    def ask(self, **content: Any) -> None:
        """Send what a page would."""
        self.monitor._asked(None, content, [])


# What is sent


def test_each_sample_is_sent_once_and_in_short(made: list[Monitor]) -> None:
    """Names and panels come with the first one only; after that some sixty bytes."""
    one = Listened(made)
    until(lambda: one.samples() >= 5)
    first, *others = one.messages
    assert first["names"] == list(SHM)
    assert [panel["title"] for panel in first["panels"]] == ["Shared memory (/dev/shm), 64 MB"]
    assert all(set(each) == {"samples"} for each in others)
    assert all(len(json.dumps(each)) < 120 for each in others)
    times = [float(row.split(",")[0]) for each in one.messages for row in each["samples"]]
    assert times == sorted(set(times))
    assert others[0]["samples"][0].split(",")[1:] == ["4000000", "64000000", "60000000", "3000000"]


def test_the_state_has_all_there_is_whenever_it_is_asked_for(made: list[Monitor]) -> None:
    """A page that is loaded again gets the history; no update ever carries it."""
    one = Listened(made)
    plot = one.monitor._plot
    before = len(plot.get_state()["history"]["samples"])
    until(lambda: one.samples() >= before + 3)
    state = plot.get_state()["history"]
    assert len(state["samples"]) >= before + 3
    assert state["names"] == list(SHM)
    assert state["panels"][0]["within"] == 0
    json.dumps(state)
    one.monitor.span_s = 30
    assert set(plot.get_state(["span_s"])) == {"span_s"}
    assert not plot._states_to_send


def test_panels_are_those_of_the_picture(made: list[Monitor]) -> None:
    """One plan for both: the same titles and names, from bottom to top."""
    values = {
        **SHM, "holder/python <9>": 0.5e6, "resident/this process": 5e6, "memory/used": 9e6,
        "memory/total": 10e6, "gpu0/used": 5e6, "gpu0/total": 8e6, "gpu0/server": 2e6,
        "gpu0/busy_percent": 50.0,
    }  # fmt: skip
    one = Listened(made, told(values))
    until(lambda: one.samples() >= 2)
    panels = one.monitor._plot.get_state()["history"]["panels"]
    one.monitor.freeze()
    picture = one.recording.picture()
    assert picture is not None
    drawn = [line.partition(", peaks: ") for line in str(picture).splitlines()[1:]]
    assert [panel["title"] for panel in panels] == [title for title, _, _ in drawn]
    for panel, (_, _, text) in zip(panels, drawn, strict=True):
        names = [layer["name"] for layer in (*panel["areas"], *panel["lines"])]
        assert [name for name in names if name in text] == names


def test_colours_are_those_of_the_picture() -> None:
    """On a light page."""
    css = asset("monitor.css").read_text()
    light = dict(re.findall(r"--tnb-([\w-]+): (#\w+)", css.partition("html[theme")[0]))
    assert [light[f"own-{n}"] for n in range(6)] == list(timeline._OWN)
    assert [light[f"other-{n}"] for n in range(3)] == list(timeline._OTHERS)
    assert [light[f"line-{n}"] for n in range(4)] == [color for color, _ in timeline._LINES]
    assert {kind: light[f"mark-{kind}"] for kind in KINDS} == {
        kind: color for kind, (_, color) in timeline._MARKS.items()
    }
    assert (light["more"], light["rest"]) == (timeline._MORE, timeline._REST)


def test_kinds_of_events_and_tiers_are_the_browsers(made: list[Monitor]) -> None:
    """Events go as numbers: both ends count alike."""
    script = asset("monitor.js").read_text()
    found = re.search(r"const KINDS = (\[.*\]);", script)
    assert found is not None
    assert tuple(json.loads(found[1])) == KINDS
    state = Listened(made).monitor._plot.get_state()
    assert [list(each) for each in state["tiers"]] == [list(each) for each in TIERS]


def test_the_script_makes_no_html_of_names() -> None:
    """Names of processes and tensors are put in as text, whatever they are."""
    script = asset("monitor.js").read_text()
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    assert not re.findall(r"https?://", script)


# What is kept


def frames(hz: float, seconds: float) -> list[Frame]:
    return [
        Frame(n / hz, ("shm/used", "shm/free"), (float(n % 7), float(n % 5)))
        for n in range(int(hz * seconds))
    ]


@pytest.mark.parametrize("hz", [2, 10])
def test_what_is_old_is_kept_in_coarse(hz: float) -> None:
    """At most 1300 samples of half an hour; peaks of what is taken, lows of what is free."""
    kept = thinned(frames(hz, LONGEST_S))
    assert len(kept) <= 60 * hz + 240 + 375 + 5
    newest = kept[-1].time_s
    assert [f.time_s for f in kept if newest - f.time_s < 60] == [
        f.time_s for f in frames(hz, LONGEST_S) if newest - f.time_s < 60
    ]
    oldest = kept[10].values()
    assert oldest["shm/used"] == 6
    assert oldest["shm/free"] == 0
    assert thinned([]) == []


def test_thousands_of_samples_leave_no_growth() -> None:
    """All there is stays bounded, names of processes that come and go included."""
    recording = Recording([told(SHM)], hz=10, show=False)
    feed = Feed(recording)
    recording._begun_s = time.monotonic() - 4000
    sizes, messages = [], []
    for n in range(6000):
        values = {**SHM, f"holder/python {n // 20}": 1e6}
        recording.history.append(recording.begun_s + n / 2, values)
        messages.append(len(json.dumps(feed.new())))
        if n % 1000 == 999:
            gc.collect()
            sizes.append((len(json.dumps(feed.all())), len(feed._names), len(gc.get_objects())))
    assert max(size for size, _, _ in sizes) < 400_000
    assert max(names for _, names, _ in sizes) < 500
    assert sizes[-1][2] - sizes[-2][2] < 3 * 1100  # the history's own frames
    assert sorted(messages)[len(messages) // 2] < 3000


def test_many_events_are_a_bounded_message(open_session: Open, made: list[Monitor]) -> None:
    """Some are marked, and all are counted."""
    session = open_session("identity_fp32")
    monitor = session.monitor(hz=1)
    made.append(monitor)
    for n in range(3000):
        session._events.note("error", f"{n}")
    message = monitor._plot.feed.new() or monitor._plot.all()
    assert len(message.get("events", ())) <= 300
    until(lambda: monitor._plot.all()["counts"].get("error") == 3000)
    assert len(json.dumps(monitor._plot.all()["events"])) < 10_000


def test_events_of_a_pause_are_told_once(open_session: Open, made: list[Monitor]) -> None:
    """They come with all there is when it goes on, and not once more afterwards."""
    session = open_session("identity_fp32")
    monitor = session.monitor(hz=10)
    made.append(monitor)
    feed = monitor._plot.feed
    monitor.pause()
    session._events.note("error", "while it stands still")
    caught_up = feed.catch_up()
    assert len(caught_up["events"]) == 1
    until(lambda: len(monitor.recording.history.since(feed._told_s)) > 0)
    assert "events" not in (feed.new() or {})
    session._events.note("error", "afterwards")
    until(lambda: len(monitor.recording.history.since(feed._told_s)) > 0)
    assert len((feed.new() or {})["events"]) == 1


# What can be done with it


def test_it_stands_still_and_goes_on(made: list[Monitor]) -> None:
    """Nothing is sent meanwhile, samples are taken, and then all of them are there."""
    one = Listened(made)
    until(lambda: one.samples() >= 2)
    one.monitor.pause()
    assert one.monitor.paused
    still = len(one.monitor._plot.get_state()["history"]["samples"])
    time.sleep(0.15)
    sent, taken = one.samples(), len(one.recording.history)
    until(lambda: len(one.recording.history) >= taken + 3)
    assert one.samples() == sent
    assert len(one.monitor._plot.get_state()["history"]["samples"]) == still
    one.monitor.resume()
    assert not one.monitor.paused
    everything = next(each for each in one.messages if each.get("kind") == "all")
    assert len(everything["samples"]) >= taken + 3
    until(lambda: one.messages[-1].get("kind") != "all")


def test_how_far_back_it_goes_can_be_set(made: list[Monitor]) -> None:
    """In seconds, and within bounds, by code as by the page."""
    one = Listened(made, span_s=30)
    assert one.monitor.span_s == 30
    one.monitor.span_s = 300
    assert one.monitor._plot.span_s == 300
    one.monitor._plot.set_state({"span_s": 1800})
    assert one.monitor.span_s == 1800
    for wrong in (0, 4, 1801, math.nan, "60", None, True):
        with pytest.raises(ArgumentError, match="5 to 1800"):
            one.monitor.span_s = wrong
    assert one.monitor.span_s == 1800


def test_arguments_are_checked() -> None:
    """Before anything is sampled."""
    for options in ({"hz": 0.5}, {"span_s": 1}, {"warn_at": 0}):
        with pytest.raises(ArgumentError):
            tritonic_nb.monitor(**options)
    assert not threads()


def test_what_was_recorded_can_be_had(made: list[Monitor], tmp_path: Path) -> None:
    """As a table, a file, a picture, and in the browser as a download."""
    one = Listened(made)
    until(lambda: one.samples() >= 2)
    assert list(one.monitor.to_pandas().columns) == list(SHM)
    assert one.monitor.to_csv(tmp_path / "m.csv").read_text().startswith("time_s,shm/used")
    with Image.open(one.monitor.save(tmp_path / "m.png")) as image:
        assert image.format == "PNG"
    assert one.monitor.peaks["shm/used"] == 4_000_000
    assert (one.monitor.events, one.monitor.missing) == ((), {})
    assert one.monitor.recording is one.recording
    one.ask(kind="csv", view="v")
    one.ask(kind="png", view="v")
    files = [
        (message, buffers) for message, buffers in zip(one.messages, one.buffers, strict=False)
        if message.get("kind") == "file"
    ]  # fmt: skip
    (csv, (text,)), (png, (data,)) = files
    assert re.fullmatch(r"memory-\d{8}-\d{4}\.csv", csv["name"])
    assert re.fullmatch(r"memory-\d{8}-\d{4}\.png", png["name"])
    assert {csv["view"], png["view"]} == {"v"}
    assert text.decode().startswith("time_s,shm/used")
    assert Image.open(io.BytesIO(data)).format == "PNG"


@pytest.mark.parametrize(
    "content", [None, 7, {}, {"kind": "x"}, {"kind": "look", "newest": "?"}, {"kind": []}]
)
def test_a_page_that_sends_nonsense_does_no_harm(made: list[Monitor], content: Any) -> None:
    """It is ignored."""
    one = Listened(made)
    one.monitor._asked(None, content, [])
    until(lambda: one.samples() >= 2)


def test_what_fails_is_a_sentence_on_the_page(made: list[Monitor]) -> None:
    """And no traceback somewhere."""
    one = Listened(made, Source("x", lambda: "there is none"))
    one.ask(kind="png", view="v")
    (said,) = [each for each in one.messages if each.get("kind") == "failed"]
    assert "nothing to draw" in said["text"]
    until(lambda: {"x": "there is none"} in [each.get("missing") for each in one.messages])


def test_a_page_that_missed_much_gets_all_there_is(made: list[Monitor]) -> None:
    """And one that is up to date gets nothing more."""
    one = Listened(made)
    until(lambda: one.samples() >= 2)
    one.ask(kind="look", newest=one.monitor._plot.feed.told_s)
    assert not [each for each in one.messages if each.get("kind") == "all"]
    assert [each for each in one.messages if each.get("kind") == "heard"]
    one.ask(kind="look", newest=None)
    one.ask(kind="look", newest=-100)
    assert len([each for each in one.messages if each.get("kind") == "all"]) == 2


# When it ends


def test_freezing_leaves_a_picture_and_no_thread(made: list[Monitor]) -> None:
    """Hostile names are escaped; nothing is sent any more."""
    one = Listened(made, told({**SHM, "region/<script>alert(1)</script>": 2e6}))
    until(lambda: one.samples() >= 2)
    one.ask(kind="freeze")
    assert one.monitor.frozen
    assert not threads()
    bundle = one.monitor._bundle()
    assert 'src="data:image/png;base64,' in bundle["text/html"]
    assert "<script>" not in bundle["text/html"]
    assert "shared memory" in bundle["text/plain"]
    sent = len(one.messages)
    one.monitor.close()
    assert len(one.messages) == sent


def test_it_freezes_with_its_session(open_session: Open, made: list[Monitor]) -> None:
    """With what happened in it, and the memory given back in its last sample."""
    session = open_session("identity_fp32")
    monitor = session.monitor(hz=10)
    made.append(monitor)
    session.infer(np.ones((1, 8), np.float32))
    session.close()
    until(lambda: monitor.frozen)
    assert not threads()
    assert "1 infer" in monitor._bundle()["text/plain"]
    assert "data:image/png" in monitor._bundle()["text/html"]
    with pytest.raises(SessionClosedError):
        session.monitor()
    until(lambda: "tritonic_nb-freezes" not in {t.name for t in threading.enumerate()})


def test_when_nobody_looks_nothing_is_sampled(
    made: list[Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until somebody looks again."""
    one = Listened(made)
    until(lambda: one.samples() >= 2)
    monkeypatch.setattr(module, "_UNSEEN_S", 0.0)
    until(lambda: not threads())
    assert one.recording.suspended
    assert not one.monitor.frozen
    monkeypatch.setattr(module, "_UNSEEN_S", 600.0)
    taken = len(one.recording.history)
    one.ask(kind="look", newest=1e9)
    until(lambda: len(one.recording.history) >= taken + 3)
    assert threads()
    one.monitor.close()
    assert not threads()
    one.ask(kind="look", newest=None)  # a message on its way
    assert not threads()


def test_importing_the_package_imports_no_widgets() -> None:
    """Who does not look pays nothing for it."""
    script = """
import sys, tritonic_nb
loaded = {"ipywidgets", "anywidget", "IPython", "matplotlib"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
