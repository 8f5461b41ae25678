"""A session's regions, with what the server has registered beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from tritonic_nb.leftovers import ServerRegion
from tritonic_nb.memory import RegionDescriptor, RegionListing
from tritonic_nb.render import human_bytes
from tritonic_nb.tensors import ModelSpec, TensorSpec
from tritonic_nb.widgets.shown import asset
from tritonic_nb.widgets.state import SessionState, Snapshot, sized
from tritonic_nb.widgets.view import StateView

__all__ = ["RegionsView"]

_OWN, _SERVERS = "own", "server"


class _Tables(anywidget.AnyWidget):
    """Tables whose rows have buttons."""

    _esm = asset("regions_table.js")
    tables: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)

    def __init__(self, clicked: Callable[[str, str], None]) -> None:
        super().__init__()
        self._clicked = clicked
        self.on_msg(self._told)

    def _told(self, _: object, message: Any, __: object) -> None:
        if isinstance(message, dict):
            self._clicked(str(message.get("table")), str(message.get("id")))


class RegionsView(StateView):
    """Each tensor with its regions; register, grow, unregister; and all that the server has.

    Regions whose owner is dead are marked, and *Clear* removes them.
    """

    def __init__(self, state: SessionState) -> None:
        self._tables = _Tables(self._clicked)
        self._batch = widgets.BoundedIntText(
            value=1, min=1, max=1, description="Batch", layout={"width": "160px"}
        )
        self._sizes = widgets.Text(description="Sizes", layout={"width": "320px"})
        self._register = widgets.Button(description="Register or grow")
        self._unregister = widgets.Button(description="Unregister all")
        self._clear = widgets.Button(description="Clear orphans")
        row = widgets.HBox(
            [self._batch, self._sizes, self._register, self._unregister, self._clear],
            layout={"flex_flow": "row wrap"},
        )
        super().__init__(state, [row, self._tables], "regions")
        self._register.on_click(lambda _: state.register(self._batch.value, self._sizes.value))
        self._unregister.on_click(lambda _: state.unregister())
        self._clear.on_click(lambda _: state.clear_leftovers())

    def _clicked(self, table: str, name: str) -> None:
        if table == _OWN and any(each.name == name for each in self.state.now.regions):
            self.state.unregister(name)

    def _show(self) -> None:
        now = self.state.now
        tables = [_own_table(now), _server_table(now)]
        self._tables.tables = tables
        most = (now.model.max_batch_size if now.model is not None else 0) or 1
        self._batch.max = most
        self._batch.layout.display = None if most > 1 else "none"
        free = _with_free_sizes(now.model)
        self._sizes.layout.display = None if free else "none"
        self._sizes.placeholder = "; ".join(map(_example, free[:2]))
        self._register.disabled = now.model is None
        orphans = [each for each in now.server_regions if each.owner == "orphan"]
        self._clear.layout.display = None if orphans else "none"

    def _hint(self) -> str:
        now = self.state.now
        if now.requested.value == "none":
            return "tensors go over the wire: there is nothing to register"
        if not now.regions:
            return "no regions yet: the next inference makes them, or Register does beforehand"
        total = human_bytes(sum(each.nbytes for each in now.regions))
        count = len(now.regions)
        return f"{count} region{'' if count == 1 else 's'}, {total}"

    def _static(self) -> tuple[str, str]:
        described = RegionListing(self.state.now.regions)
        return repr(described), described._repr_html_()


def _with_free_sizes(model: ModelSpec | None) -> list[TensorSpec]:
    """Return the tensors whose size the model does not tell."""
    tensors = [] if model is None else [*model.inputs.values(), *model.outputs.values()]
    return [each for each in tensors if not sized(each)]


def _example(spec: TensorSpec) -> str:
    """Write a size for a tensor as it could be."""
    if spec.datatype == "BYTES":
        return f"{spec.name}: 4096 bytes"
    dims = (1 if index == 0 and spec.batched else 640 if dim < 0 else dim
            for index, dim in enumerate(spec.shape))  # fmt: skip
    return f"{spec.name}: {' x '.join(map(str, dims))}"


def _own_table(now: Snapshot) -> dict[str, Any]:
    there: dict[tuple[str, str], list[RegionDescriptor]] = {}
    for region in now.regions:
        there.setdefault((region.direction, region.tensor), []).append(region)
    rows = []
    for key in [*_tensors(now.model), *(key for key in there if key not in _tensors(now.model))]:
        rows += [_own_row(each) for each in there.get(key, ())] or [_empty_row(*key)]
    return {
        "name": _OWN,
        "caption": "This session's regions",
        "columns": ["tensor", "region", "memory", "bytes", "slots", "state"],
        "numeric": [3, 4],
        "rows": rows,
    }


def _tensors(model: ModelSpec | None) -> list[tuple[str, str]]:
    if model is None:
        return []
    return [*(("input", name) for name in model.inputs), *(("output", n) for n in model.outputs)]


def _own_row(region: RegionDescriptor) -> dict[str, Any]:
    tensor = f"{region.direction} {region.tensor}"
    cells = [
        tensor,
        region.key.lstrip("/") or region.name,
        region.place,
        human_bytes(region.nbytes),
        str(region.slots),
        region.state_text,
    ]
    action = "" if region.state == "quarantined" else "Unregister"
    return {"id": region.name, "cells": cells, "action": action, "about": f"the region of {tensor}"}


def _empty_row(direction: str, tensor: str) -> dict[str, Any]:
    cells = [f"{direction} {tensor}", "none yet", "", "", "", ""]
    return {"id": "", "cells": cells, "action": "", "about": ""}


def _server_table(now: Snapshot) -> dict[str, Any]:
    return {
        "name": _SERVERS,
        "caption": f"What the server has registered{_why_not(now)}",
        "columns": ["region", "memory", "bytes", "whose"],
        "numeric": [2],
        "rows": list(_server_rows(now.server_regions)),
    }


def _why_not(now: Snapshot) -> str:
    if now.server_regions_reason:
        return f" is not known: {now.server_regions_reason}"
    return "" if now.server_regions else ": nothing"


def _server_rows(regions: tuple[ServerRegion, ...]) -> Iterable[dict[str, Any]]:
    for region in regions:
        cells = [region.name, region.place, human_bytes(region.nbytes), region.owner_text]
        yield {
            "id": "",
            "cells": cells,
            "action": "",
            "about": "",
            "alarm": region.owner == "orphan",
        }
