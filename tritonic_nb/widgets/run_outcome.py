"""What came of a run: pictures, numbers, time by stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np

from tritonic_nb import render
from tritonic_nb.render.failure import failure_html
from tritonic_nb.render.markup import escape, stylesheet
from tritonic_nb.render.stages import stages_html, stages_text
from tritonic_nb.result import InferenceResult
from tritonic_nb.widgets.run_parts import Steady
from tritonic_nb.widgets.run_state import RunState

__all__ = ["Outcome"]

_PICTURE_EVERY_S = 0.5  # while it keeps running
_DRAWING_PART = 10  # and drawing takes a tenth of the time at most
_STYLE = f"<style>{stylesheet()}</style>"


class Outcome(widgets.VBox):  # type: ignore[misc]
    """The pictures of a result, how often the model ran, and where the time went.

    While a model keeps running, numbers follow five times a second, as the state tells
    them. Pictures are drawn anew only where outputs changed, the first of them at most twice
    a second, the others (feature maps take ten times as long as a classification) so that
    drawing takes a tenth of the time; in the end all are of the last result.

    Parameters
    ----------
    state
        Whose outcome.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._drawing = threading.Lock()
        self._first, self._others = _Drawn(), _Drawn()
        self._first.steady.add_class("tnb-first")
        self._failure = widgets.HTML()
        self._numbers = widgets.HTML()
        self._numbers.add_class("tnb-numbers")
        self._stages = widgets.HTML()
        self._item = widgets.BoundedIntText(
            description="Picture", value=1, min=1, max=1, layout=widgets.Layout(width="160px")
        )
        self._of = widgets.HTML()
        self._items = widgets.HBox([self._item, self._of])
        super().__init__(
            [self._failure, self._numbers, self._items, self._first.steady, self._stages,
             self._others.steady]
        )  # fmt: skip
        self._item.observe(self._item_chosen, "value")
        self._followers: list[tuple[Callable[..., None], list[str]]] = [
            (self._follow_error, ["error"]),
            (self._follow_numbers, ["running", "count"]),
            (self._follow_result, ["result"]),
            (self._settle, ["running"]),
        ]
        for follow, names in self._followers:
            state.observe(follow, names)
        self._follow_error()
        self._follow_result()
        self._follow_numbers()

    def leave(self) -> None:
        """Follow the state no more."""
        for follow, names in self._followers:
            self._state.unobserve(follow, names)

    def static(self) -> tuple[str, str]:
        """Return what to leave behind: text and HTML."""
        result: InferenceResult | None = self._state.result
        if result is None:
            text, html = "no inference was run", "<div>No inference was run.</div>"
        else:
            text = f"{result!r}\n{stages_text(self._state.stages)}"
            with self._drawing:
                self._draw_now(result, (self._first, self._others))
            html = self._first.steady.html + self._stages_html(result) + self._others.steady.html
        if self._state.error is not None:
            text = f"{': '.join(filter(None, self._state.error))}\n{text}"
            html = failure_html(*self._state.error) + html
        return text, html

    # --- following the state ---

    def _follow_error(self, _: object = None) -> None:
        error = self._state.error
        self._failure.value = "" if error is None else failure_html(*error)
        self._failure.layout.display = "none" if error is None else None
        for each in (self._first.steady, self._others.steady, self._stages):
            # The result of before: what failed has none.
            (each.remove_class if error is None else each.add_class)("tnb-stale")

    def _follow_numbers(self, _: object = None) -> None:
        state = self._state
        parts = []
        if state.running:
            parts.append("running")
        if state.count:
            parts.append(f"{state.count:,} run{'s' if state.count > 1 else ''}")
        if state.latency_ms:
            parts += [f"{state.rate:.1f} per second", f"median {state.latency_ms:.2f} ms"]
        self._numbers.value = escape(", ".join(parts)) or "not run yet"
        if state.result is not None:
            self._stages.value = self._stages_html(state.result)

    def _stages_html(self, result: InferenceResult) -> str:
        shared, wire = map(render.human_bytes, (result.shared_nbytes, result.wire_nbytes))
        note = f"{shared} through shared memory, {wire} over the wire"
        return stages_html(self._state.stages, note)

    def _follow_result(self, _: object = None) -> None:
        result: InferenceResult | None = self._state.result
        live = self._state.keep_running
        for each in (self._first, self._others):
            each.steady.held = live
        if result is None:
            self._items.layout.display = "none"
            return
        self._follow_items(result)  # before the lock: another number is another drawing
        with self._drawing:
            chosen = [each for each in (self._first, self._others) if each.is_due(result, live)]
            self._draw_now(result, chosen)

    def _settle(self, change: dict[str, Any]) -> None:
        """Show the last result whole when the running is over."""
        if not change["new"]:
            self._follow_result()

    def _follow_items(self, result: InferenceResult) -> None:
        count = len(result.images)
        self._items.layout.display = None if count > 1 else "none"
        if count != self._item.max:
            self._of.value = f"of {count}"
            with self._item.hold_trait_notifications():
                self._item.max = max(count, 1)
                self._item.value = min(self._item.value, max(count, 1))

    def _item_chosen(self, _: object) -> None:
        result: InferenceResult | None = self._state.result
        if result is not None:
            with self._drawing:
                self._draw_now(result, (self._first, self._others))

    def _draw_now(self, result: InferenceResult, chosen: Sequence[_Drawn]) -> None:
        item = self._item.value - 1
        if item >= max(len(result.images), 1):
            item = 0
        if self._first in chosen:
            self._first.draw(result, lambda: _first_picture(result, item))
        if self._others in chosen:
            self._others.draw(result, lambda: result.pictures(item=item)[self._first.count :])


class _Drawn:
    """Pictures of a result, and when they are to be drawn anew."""

    def __init__(self) -> None:
        self.steady = Steady()
        self.count = 0
        self._result: InferenceResult | None = None
        self._ended = 0.0
        self._took_s = 0.0

    def is_due(self, result: InferenceResult, live: bool) -> bool:
        if result is self._result:
            return False
        if not live or self._result is None:
            return True
        since = time.monotonic() - self._ended
        due = since >= max(_PICTURE_EVERY_S, _DRAWING_PART * self._took_s)
        return due and not _same(result, self._result)

    def draw(self, result: InferenceResult, pictures: Any) -> None:
        begun = time.monotonic()
        try:
            drawn = pictures()
            html, self.count = _together(drawn), len(drawn)
        except Exception as error:  # of outputs that no kind of picture suits
            html = result._repr_html_() + failure_html(f"it cannot be drawn: {error}")
            self.count = 0
        self.steady.html = html
        self._result = result
        self._ended = time.monotonic()
        self._took_s = self._ended - begun


def _first_picture(result: InferenceResult, item: int) -> Sequence[render.Picture]:
    """Return the picture of a classification, if it is one."""
    picture = result.picture(item=item) if result.images else None
    return [] if picture is None else [picture]


def _together(pictures: Sequence[render.Picture]) -> str:
    """Return the HTML of pictures with one style sheet for all."""
    parts = [picture._repr_mimebundle_(["text/html"])[0]["text/html"] for picture in pictures]
    html = "".join(part.replace(_STYLE, "") for part in parts)
    return f"{_STYLE}{html}" if html else ""


def _same(one: InferenceResult, other: InferenceResult) -> bool:
    """Whether two results show the same."""
    return (
        one.model == other.model
        and one.images == other.images
        and list(one) == list(other)
        and all(np.array_equal(one[name], other[name]) for name in one)
    )
