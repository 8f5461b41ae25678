"""The view on a run: choose an input, run the model, and see what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from tritonic_nb.errors import TritonicError
from tritonic_nb.render import human_bytes
from tritonic_nb.render.failure import failure_html
from tritonic_nb.render.markup import escape
from tritonic_nb.widgets.run_outcome import Outcome
from tritonic_nb.widgets.run_parts import CodeBlock
from tritonic_nb.widgets.run_state import SOURCES, RunState
from tritonic_nb.widgets.run_transform import TransformEditor
from tritonic_nb.widgets.shown import Shown
from tritonic_nb.widgets.state import SessionState, Snapshot

__all__ = ["RunView"]


class RunView(Shown):
    """Widgets to run a session's model: its input, the transform, the outcome and the code.

    It shows itself in a cell, and can stand in another box. Several views of one state agree.

    Parameters
    ----------
    state
        What it shows and changes. It stays the caller's to close; where nobody closes it,
        its thread ends by itself, and with the last view nothing runs any more.
    session_state
        Tells of another model that code or another view chose, and of the session's end,
        with which this freezes.

    Examples
    --------
    >>> RunView(RunState(session))  # doctest: +SKIP
    """

    def __init__(self, state: RunState, session_state: SessionState | None = None) -> None:
        self.state = state
        self._session_state = session_state
        self._source = _SourceChooser(state)
        self._transform = TransformEditor(state)
        self._buttons = _Buttons(state)
        self._outcome = Outcome(state)
        self._code = CodeBlock(code=state.code)
        state.observe(self._follow_code, "code")
        state.view_opened()
        super().__init__(
            [self._source, self._transform, self._buttons, self._outcome, self._code], "run"
        )
        if session_state is not None:
            session_state.look()
            session_state.observe(self._follow_session, "now")

    def _follow_session(self, change: dict[str, Any]) -> None:
        now: Snapshot = change["new"]
        if now.closed:
            self.freeze()
        elif change["old"].model != now.model:
            self.state.model_changed()

    def _follow_code(self, change: dict[str, Any]) -> None:
        self._code.code = change["new"]

    def _end(self) -> None:
        if self._session_state is not None:
            self._session_state.unobserve(self._follow_session, "now")
            self._session_state.leave()
        for each in (self._source, self._transform, self._buttons, self._outcome):
            each.leave()
        self.state.unobserve(self._follow_code, "code")
        self.state.view_closed()

    def _static(self) -> tuple[str, str]:
        return self._outcome.static()


class _SourceChooser(widgets.VBox):  # type: ignore[misc]
    """Where the input comes from, and the control for that."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._kind = widgets.ToggleButtons(
            description="Input",
            options=[(each.capitalize(), each) for each in SOURCES],
            value=state.source,
        )
        self._kind.style.button_width = "auto"
        self._sample = widgets.Dropdown(description="Sample", layout=_wide("420px"))
        self._upload = widgets.FileUpload(
            description="Upload files", tooltip="Choose files", accept="image/*,.npy",
            multiple=True, layout=widgets.Layout(width="auto"),
        )  # fmt: skip
        self._files = widgets.HTML()
        self._files.add_class("tnb-files")
        self._path = widgets.Textarea(
            description="Path", rows=2, continuous_update=False,
            placeholder="~/pictures/cat.jpg, one path in a line",
            layout=_wide("560px"),
        )  # fmt: skip
        self._variable = widgets.Combobox(
            description="Variable", continuous_update=False, layout=_wide("420px"),
            placeholder="x, or INPUT0=a, INPUT1=b",
        )  # fmt: skip
        self._help = widgets.HTML()
        self._failure = widgets.HTML()
        self._controls = {
            "sample": self._sample,
            "upload": widgets.HBox(
                [self._upload, self._files],
                layout=widgets.Layout(flex_flow="row wrap", align_items="center"),
            ),
            "path": self._path,
            "variable": self._variable,
        }
        super().__init__([self._kind, *self._controls.values(), self._help, self._failure])
        self._observe_controls()
        state.observe(self._follow, _WATCHED)
        state.observe(self._suggest, ["source", "running"])
        self._follow()
        self._suggest()

    def leave(self) -> None:
        """Follow the state no more."""
        self._state.unobserve(self._follow, _WATCHED)
        self._state.unobserve(self._suggest, ["source", "running"])

    def _observe_controls(self) -> None:
        for control, name in (
            (self._kind, "source"),
            (self._sample, "sample"),
            (self._path, "path"),
            (self._variable, "variable"),
        ):
            control.observe(self._setter(name), "value")
        self._upload.observe(self._uploaded, "value")

    def _setter(self, name: str) -> Callable[[dict[str, Any]], None]:
        def chosen(change: dict[str, Any]) -> None:
            if change["new"] is not None:  # a list of choices that was replaced
                self._set(name, change["new"])

        return chosen

    def _set(self, name: str, value: Any) -> None:
        try:
            setattr(self._state, name, value)
            self._failure.value = ""
        except TritonicError as error:
            self._failure.value = failure_html(error.message, error.remedy)

    def _uploaded(self, change: dict[str, Any]) -> None:
        files = tuple((file["name"], bytes(file["content"])) for file in change["new"])
        if files:
            self._set("uploads", files)

    def _follow(self, _: object = None) -> None:
        state = self._state
        self._kind.value = state.source
        for name, control in self._controls.items():
            control.layout.display = None if name == state.source else "none"
        if tuple(self._sample.options) != state.samples:
            self._sample.options = state.samples
        if state.sample in state.samples:
            self._sample.value = state.sample
        self._path.value = state.path
        self._variable.value = state.variable
        self._files.value = escape(
            ", ".join(f"{name} ({human_bytes(len(content))})" for name, content in state.uploads)
        )
        self._help.value = escape(_HELP_OF[state.source])

    def _suggest(self, _: object = None) -> None:
        """Offer the variables that there are by now."""
        if self._state.source == "variable":
            self._variable.options = self._state.variables()


_WATCHED = ["source", "sample", "samples", "path", "variable", "uploads"]
_HELP_OF = {
    "sample": "",
    "upload": "Pictures, of which several are a batch, or arrays as .npy files.",
    "path": "Files of the machine that the kernel runs on: pictures, or arrays as .npy files.",
    "variable": "The name of an array, a picture, or a mapping of inputs; Enter takes it.",
}


def _wide(width: str) -> widgets.Layout:
    return widgets.Layout(width=width, max_width="100%")


class _Buttons(widgets.HBox):  # type: ignore[misc]
    """What to do: run once, on change, or for as long as it is wanted."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        auto = {"width": "auto"}
        self._once = widgets.Button(
            description="Run once", icon="play", button_style="primary", layout=auto
        )
        self._on_change = widgets.ToggleButton(
            description="Run on change", icon="refresh", layout=auto
        )
        self._keep = widgets.ToggleButton(description="Keep running", icon="repeat", layout=auto)
        super().__init__(
            [self._once, self._on_change, self._keep],
            layout=widgets.Layout(flex_flow="row wrap"),
        )
        self._once.on_click(lambda _: state.run_once())
        self._links = [("run_on_change", self._on_change), ("keep_running", self._keep)]
        for name, button in self._links:
            button.observe(lambda change, name=name: setattr(state, name, change["new"]), "value")
        state.observe(self._follow, [name for name, _ in self._links])
        self._follow()

    def leave(self) -> None:
        """Follow the state no more."""
        self._state.unobserve(self._follow, [name for name, _ in self._links])

    def _follow(self, _: object = None) -> None:
        for name, button in self._links:
            button.value = getattr(self._state, name)
        keeps = self._state.keep_running
        self._keep.description = "Stop" if keeps else "Keep running"
        self._keep.icon = "stop" if keeps else "repeat"
        self._keep.button_style = "danger" if keeps else ""
        self._once.disabled = keeps
