"""The panel's state machine on real sessions and the real server, without a browser."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances

import tritonic_nb
from tests.conftest import TEST_URL, brief_server
from tests.widgets.eventually import eventually
from tritonic_nb.errors import ArgumentError
from tritonic_nb.memory import SharedMemoryType
from tritonic_nb.widgets import server_watch
from tritonic_nb.widgets.state import SessionState

Open = Callable[..., tritonic_nb.Session]
NO_GPU = not tritonic_nb.monitoring.devices()


@pytest.fixture
def watched(open_session: Open) -> Iterator[Callable[..., SessionState]]:
    """Sessions' states, looked at until the test ends."""
    states = []

    def watch(*args: Any, **options: Any) -> SessionState:
        state = SessionState(session := open_session(*args, **options), session._events)
        state.look()
        states.append(state)
        return state

    yield watch
    for state in states:
        state.leave()


def settle(state: SessionState, act: Callable[[], None]) -> None:
    """Do something and wait until it is over."""
    before = state.settled
    act()
    assert eventually(lambda: state.settled > before)
    assert eventually(lambda: state.doing is None)


def one(count: int = 8) -> Any:
    return np.ones((1, count), np.float32)


@dataclass
class Moved:
    """A server that says where it is."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)


# Two views of one session


def test_what_code_does_shows(watched: Callable[..., SessionState]) -> None:
    """Another kind, another model, regions and errors of code are in the state soon after."""
    state = watched("identity_fp32")
    session = state.session
    assert state.now.requested is SharedMemoryType.SYSTEM
    session.set_shared_memory("none")
    assert eventually(lambda: state.now.requested is SharedMemoryType.NONE)
    session.set_shared_memory("system")
    session.use("simple")
    assert eventually(lambda: state.now.model is not None and state.now.model.name == "simple")
    session.register_inputs()
    assert eventually(lambda: {r.tensor for r in state.now.regions} == {"INPUT0", "INPUT1"})
    assert eventually(lambda: len(state.now.server_regions) >= 2)
    with pytest.raises(tritonic_nb.TritonicError):
        session.infer(INPUT0=one())
    assert eventually(lambda: state.now.events[0].kind == "error")
    assert state.now.events[0].remedy
    assert [e.text for e in state.now.events if e.text == "using model simple"]


def test_what_a_panel_does_holds_in_code(watched: Callable[..., SessionState]) -> None:
    """Choices of a panel are those of the session: the next inference goes by them."""
    state = watched("identity_fp32")
    settle(state, lambda: state.choose_shared_memory("none"))
    assert state.session.infer(one()).shared_nbytes == 0
    settle(state, lambda: state.choose_shared_memory("system"))
    assert state.session.infer(one()).shared_nbytes > 0
    settle(state, lambda: state.choose_model("simple_int8"))
    assert state.session.model_info.name == "simple_int8"
    assert state.problem is None


def test_several_states_agree(open_session: Open) -> None:
    """Two states of one session tell the same after a choice in one of them."""
    session = open_session("identity_fp32")
    first, second = (SessionState(session, session._events) for _ in range(2))
    for each in (first, second):
        each.look()
    first.choose_shared_memory("none")
    assert eventually(lambda: second.now.requested is SharedMemoryType.NONE)
    assert eventually(lambda: first.now.requested is SharedMemoryType.NONE)
    for each in (first, second):
        each.leave()


# Refusals


@pytest.mark.skipif(not NO_GPU, reason="this machine has a GPU, so that CUDA is not refused")
def test_a_refused_choice_says_why_and_changes_nothing(
    watched: Callable[..., SessionState],
) -> None:
    """Without a GPU, CUDA is a problem with its remedy; the session goes on as before."""
    state = watched("identity_fp32")
    state.session.infer(one())
    before = state.session.regions
    settle(state, lambda: state.choose_shared_memory("cuda"))
    assert state.problem is not None
    assert state.problem.place == "shared memory"
    assert "CUDA" in state.problem.message
    assert state.problem.remedy
    assert state.now.requested is SharedMemoryType.SYSTEM
    assert state.session.regions == before
    state.session.infer(one())
    settle(state, lambda: state.choose_shared_memory("none"))
    assert state.problem is None  # what is over is not told any more


def test_an_unknown_model_is_a_problem_of_the_models_part(
    watched: Callable[..., SessionState],
) -> None:
    """The model of before stays in use."""
    state = watched("identity_fp32")
    settle(state, lambda: state.choose_model("identity_fp23"))
    assert state.problem is not None
    assert state.problem.place == "model"
    assert "did you mean 'identity_fp32'" in state.problem.remedy
    assert state.session.model_info.name == "identity_fp32"


@pytest.mark.skipif(bool(TEST_URL), reason="the server that TRITONIC_NB_TEST_URL names is not ours")
def test_of_hundreds_of_models_an_error_names_some() -> None:
    """The list offers all of them; what is said of an unknown one stays short."""
    with brief_server() as server:
        for number in range(300):
            folder = Path(str(server.repository)) / f"model_{number:03}"
            (folder / "1").mkdir(parents=True)
            (folder / "config.pbtxt").write_text('backend: "python"')
        with server.session(model="identity_fp32") as session:
            chooser = session.widgets.model
            assert eventually(lambda: len(chooser._list.options) > 300)
            settle(chooser.state, lambda: chooser.state.choose_model("no such model"))
            assert chooser.state.problem is not None
            assert len(chooser.state.problem.remedy) < 1000
            assert "more: session.models()" in chooser.state.problem.remedy


def test_an_address_where_nobody_listens_is_a_problem(
    watched: Callable[..., SessionState],
) -> None:
    """The session stays where it was, and infers."""
    state = watched("identity_fp32")
    url = state.now.url
    settle(state, lambda: state.connect("127.0.0.1:9"))
    assert state.problem is not None
    assert state.problem.place == "address"
    assert state.now.url == url
    state.session.infer(one())


@pytest.mark.skipif(bool(TEST_URL), reason="the server that TRITONIC_NB_TEST_URL names is not ours")
def test_a_server_is_known_by_its_address_in_any_form(
    watched: Callable[..., SessionState],
) -> None:
    """Back at a server that was given as an object, with or without ``http://``: it is that."""
    state = watched("identity_fp32")
    server, url = state.session.server, state.now.url
    assert not isinstance(server, str)
    bare = url.removeprefix("http://")
    for address in (bare, url, f" {url}/ "):
        state.session.connect(url, headers=server.headers)
        assert state.session.server == url
        settle(state, lambda address=address: state.connect(address))
        assert state.problem is None
        assert state.session.server is server


@pytest.mark.skipif(bool(TEST_URL), reason="the server that TRITONIC_NB_TEST_URL names is not ours")
def test_a_server_that_moved_is_not_what_its_old_address_means(
    watched: Callable[..., SessionState],
) -> None:
    """Its headers do not go to whoever has the address now, and the session not elsewhere."""
    state = watched("identity_fp32")
    url = state.now.url
    moved = Moved("127.0.0.1:9")
    state._servers[url.removeprefix("http://")] = moved
    assert state._known_server(url) is None
    moved.url = url
    assert state._known_server(url) is moved


@pytest.mark.skipif(bool(TEST_URL), reason="the server that TRITONIC_NB_TEST_URL names is not ours")
def test_connecting_where_it_is_keeps_the_headers(watched: Callable[..., SessionState]) -> None:
    """A session that was opened with headers of its own still has them: it may load."""
    server = watched("identity_fp32").session.server
    assert not isinstance(server, str)
    with tritonic_nb.Session(server.url, "identity_fp32", headers=server.headers) as session:
        state = SessionState(session, session._events)
        state.look()
        settle(state, lambda: state.connect(session.url))
        assert state.problem is None
        assert session.models()
        assert session.model_info.name == "identity_fp32"
        state.leave()


def test_a_password_is_not_shown(watched: Callable[..., SessionState]) -> None:
    """What the panel says of an address is without the password in it."""
    state = watched("identity_fp32")
    said = []
    state.observe(lambda change: said.append(change["new"]), "doing")
    settle(state, lambda: state.connect("http://user:secret@127.0.0.1:9"))
    assert said[0].text == "connecting to 127.0.0.1:9 …"
    assert state.problem is not None
    assert "secret" not in f"{said} {state.problem} {state.now}"


def test_a_fault_of_ours_is_a_problem_and_not_the_end(
    watched: Callable[..., SessionState], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever an action raises is told, and the next one is done."""
    state = watched("identity_fp32")

    def fail() -> None:
        raise ZeroDivisionError("<b>")

    settle(state, lambda: state._do("regions", "trying …", fail))
    assert state.problem is not None
    assert "ZeroDivisionError" in state.problem.message
    settle(state, lambda: state.choose_shared_memory("none"))
    assert state.problem is None


# Models


def test_models_are_listed_with_their_state(watched: Callable[..., SessionState]) -> None:
    """Those of the repository, loaded or not; load and unload change it."""
    state = watched("identity_fp32")

    def state_of(name: str) -> str:
        return next((m.state for m in state.now.models if m.name == name), "?")

    assert eventually(lambda: state_of("identity_fp32") == "READY")
    settle(state, lambda: state.load("simple_int8"))
    assert state_of("simple_int8") == "READY"
    assert state.session.model_info.name == "simple_int8"
    settle(state, lambda: state.unload("simple_int8"))
    assert eventually(lambda: state_of("simple_int8") == "UNAVAILABLE")
    assert state.now.model is not None
    assert state.now.model.state == "UNAVAILABLE"


def test_what_is_not_loaded_can_be_loaded(watched: Callable[..., SessionState]) -> None:
    """On a server of somebody else a choice does not load; Load does."""
    state = watched("identity_fp32", load=False)
    if any(m.name == "simple_int8" and m.state == "READY" for m in state.session.models()):
        state.session.unload("simple_int8")
    settle(state, lambda: state.choose_model("simple_int8"))
    assert state.problem is not None
    assert "not loaded" in state.problem.message
    settle(state, lambda: state.load("simple_int8"))
    assert state.problem is None
    assert state.session.model_info.name == "simple_int8"


# Regions


def test_regions_are_registered_grown_and_unregistered(
    watched: Callable[..., SessionState],
) -> None:
    """By batch for a model that tells its sizes, one by one and all together."""
    state = watched("classifier")
    settle(state, lambda: state.register(1))
    assert state.problem is None
    first = {r.tensor: r.nbytes for r in state.now.regions}
    assert set(first) == {"images", "logits", "feature_maps", "class_activation"}
    settle(state, lambda: state.register(3))
    grown = {r.tensor: r.nbytes for r in state.now.regions}
    assert grown["images"] >= 3 * 3 * 224 * 224 * 4 > first["images"]
    name = next(r.name for r in state.now.regions if r.tensor == "logits")
    settle(state, lambda: state.unregister(name))
    assert {r.tensor for r in state.now.regions} == set(first) - {"logits"}
    settle(state, state.unregister)
    assert state.now.regions == ()
    mine = [r for r in state.now.server_regions if r.owner == "this session"]
    assert mine == []


def test_sizes_are_written_where_the_model_does_not_tell_them(
    watched: Callable[..., SessionState],
) -> None:
    """Shapes and bytes as a person writes them; what is not of the form is a problem."""
    state = watched("identity_fp32")
    settle(state, state.register)
    assert state.problem is not None
    assert "INPUT0" in state.problem.message
    settle(state, lambda: state.register(1, "INPUT0: 2 x 1000"))
    assert state.problem is None
    assert [r.tensor for r in state.now.regions] == ["INPUT0"]
    settle(state, lambda: state.register(1, "INPUT0: 2 x 1000; OUTPUT0: 2,1000"))
    assert {r.tensor for r in state.now.regions} == {"INPUT0", "OUTPUT0"}
    settle(state, lambda: state.register(1, "INPUT0 = much"))
    assert state.problem is not None
    assert "'INPUT0 = much'" in state.problem.message
    assert len(state.now.regions) == 2


# The thread


def test_a_choice_never_waits(watched: Callable[..., SessionState]) -> None:
    """While the session is busy with something else, a choice returns, and says what it does."""
    state = watched("identity_fp32")
    before = state.settled
    with state.session._lock:
        state.choose_shared_memory("none")
        state.choose_model("simple")
        assert state.doing is not None
        assert state.settled == before
    assert eventually(lambda: state.settled == before + 2)
    assert state.session.model_info.name == "simple"
    assert state.session.shared_memory is SharedMemoryType.NONE


def test_what_failed_stays_said_when_something_else_goes_well(
    watched: Callable[..., SessionState],
) -> None:
    """Of two actions in the line the first fails: its problem outlives the second's success."""
    state = watched("identity_fp32")
    said = []
    state.observe(lambda change: said.append(change["new"] and change["new"].place), "doing")
    before = state.settled
    with state.session._lock:
        state.choose_model("no such model")
        state.choose_shared_memory("none")
        assert eventually(lambda: state.doing is not None and state.doing.place == "model")
    assert eventually(lambda: state.settled == before + 2)
    assert eventually(lambda: state.doing is None)
    assert state.problem is not None
    assert state.problem.place == "model"
    assert said[-2:] == ["shared memory", None]


def test_a_thread_that_cannot_look_goes_on(
    watched: Callable[..., SessionState], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault while the session is looked at is not the end of the panel."""
    state = watched("identity_fp32")
    looked = threading.Event()

    def fail() -> None:
        looked.set()
        raise ZeroDivisionError

    monkeypatch.setattr(state, "_refresh", fail)
    state.session.set_shared_memory("none")
    assert looked.wait(20)
    monkeypatch.undo()
    settle(state, lambda: state.choose_model("simple"))
    assert eventually(lambda: state.now.model is not None and state.now.model.name == "simple")
    assert state.now.requested is SharedMemoryType.NONE


def test_who_looks_while_another_leaves_is_told(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view that opens while the last one closes hears of what happens all the same."""
    session = open_session("identity_fp32")
    state = SessionState(session, hook := session._events)
    state.look()
    stop = hook.stop

    def stop_late(record: Any) -> None:
        other = threading.Thread(target=state.look)
        other.start()
        other.join(0.5)  # it looks now if nothing keeps it from that
        stop(record)
        looking.append(other)

    looking: list[threading.Thread] = []
    monkeypatch.setattr(hook, "stop", stop_late)
    state.leave()
    monkeypatch.undo()
    looking[0].join()
    assert hook.watched
    session.set_shared_memory("none")
    assert eventually(lambda: state.now.requested is SharedMemoryType.NONE)
    assert state.now.events
    state.leave()


def test_widgets_are_made_while_a_model_loads(open_session: Open) -> None:
    """A cell that asks for a panel does not wait for what another thread does to the session."""
    session = open_session("identity_fp32")
    busy, over = threading.Event(), threading.Event()

    def load_for_long() -> None:
        with session._lock:
            busy.set()
            over.wait(20)

    other = threading.Thread(target=load_for_long)
    other.start()
    assert busy.wait(20)
    made: list[Any] = []
    asking = threading.Thread(target=lambda: made.append(session.panel()))
    asking.start()
    asking.join(10)
    there = list(made)
    over.set()
    other.join()
    asking.join()
    assert there
    made[0].close()


def test_nobody_looks_and_the_thread_ends(open_session: Open) -> None:
    """With the last who looks the thread is gone, and the session tells nobody any more."""
    session = open_session("identity_fp32")
    state = SessionState(session, session._events)
    for _ in range(3):
        state.look()
        state.look()
        assert [t for t in threading.enumerate() if t.name == "tritonic_nb-panel"]
        state.leave()
        state.leave()
        assert not [t for t in threading.enumerate() if t.name == "tritonic_nb-panel"]
        assert not session._events.watched


def test_a_closed_session_is_told_at_once(watched: Callable[..., SessionState]) -> None:
    """When close() returns the state says so; later choices do nothing."""
    state = watched("identity_fp32")
    state.session.infer(one())
    state.session.close()
    assert state.now.closed
    assert state.now.regions == ()
    state.choose_shared_memory("none")
    assert state.doing is None


@pytest.mark.skipif(bool(TEST_URL), reason="the server that TRITONIC_NB_TEST_URL names is not ours")
def test_a_killed_server_is_seen_and_its_return(tmp_path: Any) -> None:
    """It does not answer: the state says so, with an event; restarted, all works again."""
    with brief_server() as server, server.session(model="identity_fp32") as session:
        state = SessionState(session, session._events)
        state.look()
        session.infer(one())
        assert state.now.away == ""
        os.kill(server.pid, signal.SIGKILL)
        assert eventually(lambda: state.now.away != "")
        assert eventually(lambda: state.now.events[0].kind == "error")
        assert state.now.events[0].remedy
        settle(state, lambda: state.choose_model("simple"))
        assert state.problem is not None
        assert session.model_info.name == "identity_fp32"
        server.restart()
        assert eventually(lambda: state.now.away == "")
        assert np.array_equal(session.infer(one())["OUTPUT0"], one())
        settle(state, lambda: state.choose_model("simple"))
        assert state.problem is None
        state.leave()


@pytest.mark.skipif(bool(TEST_URL), reason="the server that TRITONIC_NB_TEST_URL names is not ours")
def test_a_server_that_hangs_is_told_and_left(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is away when patience ends, and the way to another one is free meanwhile."""
    monkeypatch.setattr(server_watch, "_PATIENCE_S", 1.0)
    with (
        brief_server() as hanging,
        hanging.session(model="identity_fp32", shared_memory="none") as session,
    ):
        state = SessionState(session, session._events)
        state.look()
        assert eventually(lambda: state.now.models != ())
        os.kill(hanging.pid, signal.SIGSTOP)
        try:
            assert eventually(lambda: "has not answered" in state.now.away)
            state.session.connect(server, "identity_fp32")
            assert eventually(lambda: state.now.away == "", within_s=10)
            assert np.array_equal(session.infer(one())["OUTPUT0"], one())
        finally:
            os.kill(hanging.pid, signal.SIGCONT)
        state.leave()


# Choosers, as models without a browser


def test_a_chooser_follows_and_acts_and_goes_back(open_session: Open) -> None:
    """The buttons follow code, act when pressed, and are what they were after a refusal."""
    session = open_session("identity_fp32")
    chooser = session.widgets.shared_memory
    buttons = chooser._buttons
    assert buttons.value is SharedMemoryType.SYSTEM
    session.set_shared_memory("none")
    assert eventually(lambda: buttons.value is SharedMemoryType.NONE)
    buttons.value = SharedMemoryType.SYSTEM
    assert eventually(lambda: session.shared_memory is SharedMemoryType.SYSTEM)
    assert eventually(lambda: "system" in chooser._status.value)
    if NO_GPU:
        buttons.value = SharedMemoryType.CUDA
        assert eventually(lambda: "What to do" in chooser._status.value)
        assert eventually(lambda: buttons.value is SharedMemoryType.SYSTEM)
    assert session.widgets.shared_memory is chooser
    chooser.close()
    assert session.widgets.shared_memory is not chooser
    session.widgets.shared_memory.close()


@pytest.mark.skipif(not NO_GPU, reason="this machine has a GPU")
def test_without_a_gpu_the_device_chooser_is_off_and_says_why(open_session: Open) -> None:
    """Disabled, with NVML's reason below it."""
    chooser = open_session("identity_fp32").widgets.device
    assert chooser._list.disabled
    assert "NVIDIA" in chooser._status.value
    chooser.close()


def test_the_model_chooser_offers_what_the_server_has(open_session: Open) -> None:
    """Each model with its state; choosing one uses it, and code's choice shows."""
    session = open_session("identity_fp32")
    chooser = session.widgets.model
    assert eventually(lambda: len(chooser._list.options) > 5)
    assert chooser._list.value == "identity_fp32"
    chooser._list.value = "simple"
    assert eventually(lambda: session.model_info.name == "simple")
    session.use("identity_fp32")
    assert eventually(lambda: chooser._list.value == "identity_fp32")
    assert {v: k for k, v in chooser._list.options}["simple"] == "simple (ready)"
    chooser.close()


def test_versions_are_in_the_order_of_their_numbers(open_session: Open) -> None:
    """Version 10 comes after version 2."""
    chooser = open_session("identity_fp32").widgets.model
    chooser._show_versions(["10", "2", "1"])
    assert [version for _, version in chooser._versions.options] == ["", "1", "2", "10"]
    chooser.close()


def test_load_is_about_the_model_that_was_chosen_last(open_session: Open) -> None:
    """Two choices that are refused one after the other: *Load* names the second."""
    session = open_session("identity_fp32", load=False)
    ready = {model.name for model in session.models() if model.state == "READY"}
    for name in {"simple_int8", "simple"} & ready:
        session.unload(name)
    chooser = session.widgets.model
    assert eventually(lambda: len(chooser._list.options) > 5)
    for name in ("simple_int8", "simple"):
        chooser._list.value = name
        assert eventually(lambda name=name: name in chooser._status.value)
        assert eventually(lambda: chooser.state.doing is None)
        assert chooser._load.description == f"Load {name}"
        assert chooser._list.value == "identity_fp32"
    chooser._load.click()
    assert eventually(lambda: session.model_info.name == "simple")
    assert eventually(lambda: chooser._list.value == "simple")
    chooser.close()


def test_a_list_that_changes_while_a_model_is_chosen_keeps_the_choice(open_session: Open) -> None:
    """What was pressed stays pressed while it is done, though the models' states change."""
    session = open_session("identity_fp32")
    chooser = session.widgets.model
    assert eventually(lambda: len(chooser._list.options) > 5)
    with session._lock:
        chooser._list.value = "simple"
        now = chooser.state.now
        others = tuple(replace(model, state="LOADING") for model in now.models)
        chooser.state._update(models=others)
        assert "simple (loading)" in dict(chooser._list.options)
        assert chooser._list.value == "simple"
    assert eventually(lambda: session.model_info.name == "simple")
    chooser.close()


def test_names_of_a_server_are_escaped(open_session: Open) -> None:
    """What a server or an error says is text in every view, never HTML."""
    session = open_session("identity_fp32")
    session._events.watched = False
    log = session.widgets.log
    session._events.note("error", "<script>alert(1)</script>", remedy="<img src=x>")
    assert eventually(lambda: "&lt;script&gt;" in log._list.value)
    assert "<script>" not in log._list.value
    assert "<img" not in log._list.value
    chooser = session.widgets.model
    chooser._list.options  # noqa: B018
    session.widgets._state.choose_model("<i>no such model</i>")
    assert eventually(lambda: "&lt;i&gt;" in chooser._status.value)
    assert "<i>" not in chooser._status.value
    chooser.close()
    log.close()


def test_a_panel_records_the_metrics_of_a_server_elsewhere(open_session: Open) -> None:
    """Where it is told where they are; what is no address is refused at once."""
    session = open_session("identity_fp32")
    with pytest.raises(ArgumentError, match="ftp"):
        session.panel(metrics_url="ftp://127.0.0.1/metrics")
    panel = session.panel(metrics_url="http://127.0.0.1:9/metrics")
    panel._tabs.value = "Memory"
    assert panel._monitor is not None
    missing = panel._monitor.recording
    assert eventually(lambda: "127.0.0.1:9" in missing.missing.get("the server's metrics", ""))
    panel.close()


def test_all_views_freeze_with_the_session_and_leave_no_widget(open_session: Open) -> None:
    """A closed session's views are pictures; nothing they consisted of is left."""
    before = set(_instances)
    session = open_session("classifier")
    views = [
        getattr(session.widgets, name)
        for name in ("address", "device", "log", "model", "regions", "run", "shared_memory")
    ]
    panel = session.panel()
    session.infer(tritonic_nb.samples.image("cat"))
    session.close()
    for view in (*views, panel):
        assert eventually(lambda view=view: view.frozen)
        view.close()
    assert not set(_instances) - before


def test_a_view_that_cannot_be_drawn_keeps_no_session_from_closing(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session closes, the other views freeze, and this one says what is the matter."""
    session = open_session("identity_fp32")
    log, model = session.widgets.log, session.widgets.model

    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(log, "_static", fail)
    session.close()
    assert session.closed
    assert log.frozen
    assert model.frozen
    assert "could not be drawn" in log._bundle()["text/html"]
    log.close()
    model.close()


def test_what_a_frozen_view_shows_is_what_was(open_session: Open) -> None:
    """Shown once more in a later cell, it is the same picture, whatever the session did since."""
    session = open_session("identity_fp32")
    chooser = session.widgets.shared_memory
    chooser.freeze()
    left = chooser._bundle()
    session.set_shared_memory("none")
    assert chooser._bundle() == left
    chooser.close()
