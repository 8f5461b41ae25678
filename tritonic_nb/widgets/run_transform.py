"""The editor for how a picture becomes a model's input."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from tritonic_nb.errors import TritonicError
from tritonic_nb.images import PRESETS, ImageTransform
from tritonic_nb.render.failure import failure_html
from tritonic_nb.render.markup import escape
from tritonic_nb.widgets.run_state import RunState

__all__ = ["TransformEditor"]

_AUTOMATIC = "automatic"
_OWN = "edited"
_NUMBERS = {
    "width": "Width", "height": "Height", "scale": "Scale", "mean": "Mean", "std": "Std",
    "crop_ratio": "Crop ratio", "fill": "Fill",
}  # fmt: skip
_CHOICES = {
    "fit": ("Fit", ("crop", "pad", "stretch")),
    "colors": ("Colors", ("RGB", "BGR", "GRAY")),
}
_HELP = (
    "A pixel x from 0 to 255 becomes (x * scale - mean) / std. Mean and std are one number, or one "
    "for each channel, separated by commas; a width or height of 0 follows the picture."
)


class TransformEditor(widgets.VBox):  # type: ignore[misc]
    """The transform in words, and its fields when they are asked for.

    Parameters
    ----------
    state
        Whose transform.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._following = False  # whether the fields are set by the state, and not by a person
        self._words = widgets.HTML()
        self._words.add_class("tnb-words")
        self._edit = widgets.ToggleButton(
            description="Edit transform", icon="sliders", layout=widgets.Layout(width="auto")
        )
        self._preset = widgets.Dropdown(
            description="Preset", options=(_AUTOMATIC, *PRESETS, _OWN), layout=_narrow()
        )
        self._fields: dict[str, widgets.Widget] = {
            name: widgets.Dropdown(description=label, options=options, layout=_narrow())
            for name, (label, options) in _CHOICES.items()
        }
        for name, label in _NUMBERS.items():
            self._fields[name] = widgets.Text(
                description=label, continuous_update=False, layout=_narrow()
            )
        self._failure = widgets.HTML()
        fields = widgets.HBox(
            [self._preset, *(self._fields[name] for name in _order())],
            layout=widgets.Layout(flex_flow="row wrap"),
        )
        fields.add_class("tnb-row")
        self._editor = widgets.VBox([fields, widgets.HTML(escape(_HELP))])
        line = widgets.HBox(
            [self._words, self._edit],
            layout=widgets.Layout(flex_flow="row wrap", align_items="center"),
        )
        line.add_class("tnb-row")
        super().__init__([line, self._editor, self._failure])
        self._edit.observe(self._toggled, "value")
        self._preset.observe(self._preset_chosen, "value")
        for name, field in self._fields.items():
            field.observe(lambda change, name=name: self._field_changed(name, change), "value")
        self._watched = ["words", "edited", "transform", "automatic"]
        state.observe(self._follow, self._watched)
        self._follow()

    def leave(self) -> None:
        """Follow the state no more."""
        self._state.unobserve(self._follow, self._watched)

    def _toggled(self, _: dict[str, Any]) -> None:
        self._failure.value = ""
        self._show_editor()

    def _show_editor(self) -> None:
        possible = self._state.transform is not None
        self._edit.layout.display = None if possible else "none"
        self._editor.layout.display = None if possible and self._edit.value else "none"

    def _preset_chosen(self, change: dict[str, Any]) -> None:
        if self._following or change["new"] == _OWN:
            return
        if change["new"] == _AUTOMATIC:
            self._failure.value = ""
            self._state.reset_transform()
        else:
            self._change(change["new"])

    def _field_changed(self, name: str, change: dict[str, Any]) -> None:
        if not self._following:
            self._change(None, **{name: change["new"]})

    def _change(self, preset: str | None, **fields: Any) -> None:
        try:
            self._state.edit_transform(preset, **fields)
            self._failure.value = ""
        except TritonicError as error:
            self._failure.value = failure_html(error.message, error.remedy)
        self._follow()  # the fields show the transform that counts, also after a refusal

    def _follow(self, _: object = None) -> None:
        state = self._state
        how = "" if state.transform is None else f"{_AUTOMATIC if not state.edited else _OWN}: "
        self._words.value = f"<b>Transform</b> {how}{escape(state.words)}"
        self._show_editor()
        if state.transform is None:
            return
        self._following = True
        try:
            self._preset.value = _preset_of(state)
            for name, field in self._fields.items():
                field.value = _text_of(getattr(state.transform, name), name)
        finally:
            self._following = False


def _order() -> list[str]:
    return ["width", "height", "fit", "colors", "scale", "mean", "std", "crop_ratio", "fill"]


def _narrow() -> widgets.Layout:
    return widgets.Layout(width="240px")


def _preset_of(state: RunState) -> str:
    """Return which preset's values the transform has."""
    transform: ImageTransform = state.transform
    if state.edited is None:
        return _AUTOMATIC
    for name in PRESETS:
        same = ImageTransform.preset(name, 1, 1, colors=transform.colors)
        if all(getattr(same, f) == getattr(transform, f) for f in ("scale", "mean", "std")):
            return name
    return _OWN


def _text_of(value: Any, name: str) -> str:
    if name in _CHOICES:
        return str(value)
    if name == "scale" and 0 < value < 1 and 1 / round(1 / value) == value:
        return f"1/{round(1 / value)}"
    return ", ".join(f"{x:.10g}" for x in (value if isinstance(value, tuple) else (value,)))
