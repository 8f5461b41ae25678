"""A chooser for the model."""

from __future__ import annotations

import ipywidgets as widgets

from tritonic_nb.models import ModelStatus
from tritonic_nb.widgets.state import SessionState
from tritonic_nb.widgets.view import StateView

__all__ = ["ModelChooser"]

_ANY = ""  # the version that the server chooses


class ModelChooser(StateView):
    """The models of the server's repository with their state; choose, load and unload.

    A model that is chosen is used at once; one that is not loaded is loaded where the
    session does that on demand, and else stays chosen for *Load*.
    """

    def __init__(self, state: SessionState) -> None:
        self._wanted = ""  # chosen, and not in use: it is not loaded, say
        self._list = widgets.Dropdown(description="Model", layout={"width": "auto"})
        self._versions = widgets.Dropdown(description="Version", layout={"width": "auto"})
        self._load = widgets.Button(description="Load")
        self._unload = widgets.Button(description="Unload")
        self._refresh = widgets.Button(description="Refresh")
        row = widgets.HBox(
            [self._list, self._versions, self._load, self._unload, self._refresh],
            layout={"flex_flow": "row wrap"},
        )
        super().__init__(state, [row], "model")
        self._list.observe(self._choose(self._use, self._in_use), "value")
        self._versions.observe(self._choose(self._use_version, self._version_in_use), "value")
        self._load.on_click(lambda _: state.load(self._target()))
        self._unload.on_click(lambda _: state.unload(self._target()))
        self._refresh.on_click(lambda _: state.refresh())

    def _use(self, model: str) -> None:
        self._wanted = model
        self.state.choose_model(model)

    def _use_version(self, version: str) -> None:
        self.state.choose_model(self._in_use(), version)

    def _in_use(self) -> str:
        model = self.state.now.model
        return "" if model is None else model.name

    def _version_in_use(self) -> str:
        model = self.state.now.model
        return _ANY if model is None else model.version

    def _target(self) -> str:
        """Return the model that *Load* and *Unload* are about."""
        return self._wanted or self._in_use()

    def _show(self) -> None:
        now, busy = self.state.now, self._is_busy()
        if not busy and self.state.problem is None:
            self._wanted = ""
        listed = _by_name(now.models)
        current = self._in_use()
        names = sorted({*listed, *([current] if current else [])})
        options = [(_label(name, listed.get(name, ())), name) for name in names]
        if not current:
            options = [("none chosen", ""), *options]
        shown = self._list.value if busy else current
        if list(self._list.options) != options:
            self._list.options = options  # which chooses the first
        self._list.value = shown if shown in dict(options).values() else current
        self._show_versions([each.version for each in listed.get(current, ()) if each.version])
        target = self._target()
        ready = any(each.state == "READY" for each in listed.get(target, ()))
        self._load.description = f"Load {target}" if self._wanted else "Reload" if ready else "Load"
        self._load.disabled = not target
        # Not where it is merely not loaded: a button that was pressed would lose the focus.
        self._unload.disabled = not target

    def _show_versions(self, versions: list[str]) -> None:
        options = [
            ("the server's choice", _ANY),
            *((each, each) for each in sorted(versions, key=_as_number)),
        ]
        if list(self._versions.options) != options:
            self._versions.options = options
        self._versions.layout.display = (
            None if len(versions) > 1 or self._version_in_use() else "none"
        )
        if not self._is_busy():
            known = [value for _, value in options]
            version = self._version_in_use()
            self._versions.value = version if version in known else _ANY

    def _is_busy(self) -> bool:
        return self.state.doing_at("model") is not None

    def _hint(self) -> str:
        now = self.state.now
        if now.models_reason:
            return f"the server does not tell its models: {now.models_reason}"
        if now.away:
            return "the server does not answer: what state its models are in is not known"
        if now.model is None:
            return "choose a model"
        batch = f", batches up to {now.model.max_batch_size}" if now.model.max_batch_size else ""
        state = next(
            (each.state.lower() for each in _by_name(now.models).get(now.model.name, ())), ""
        )
        return f"{now.model.name}: {now.model.backend}{batch}{f', {state}' if state else ''}"


def _as_number(version: str) -> tuple[int, str]:
    """Put version 10 after version 2."""
    return (int(version) if version.isdecimal() else -1), version


def _by_name(models: tuple[ModelStatus, ...]) -> dict[str, list[ModelStatus]]:
    found: dict[str, list[ModelStatus]] = {}
    for each in models:
        found.setdefault(each.name, []).append(each)
    return found


def _label(name: str, versions: list[ModelStatus] | tuple[ModelStatus, ...]) -> str:
    if not versions:
        return name
    if any(each.state == "READY" for each in versions):
        return f"{name} (ready)"
    state = next((each.state.lower() for each in versions if each.state), "not loaded")
    return f"{name} ({'not loaded' if state == 'unavailable' else state})"
