"""A server's models: which there are, and one that is ready to be asked."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from tritonic_nb import render
from tritonic_nb.errors import (
    ArgumentError,
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    RestrictedApiError,
    ServerRefusedError,
    brief,
)
from tritonic_nb.tensors import ModelSpec
from tritonic_nb.transport import Transport

__all__ = ["ModelListing", "ModelStatus", "checked_model", "described", "models_of"]

_MOST_MODELS_TOLD = 30


@dataclass(frozen=True)
class ModelStatus:
    """A model in the server's repository.

    Attributes
    ----------
    name, version
        As the server lists them; the version is empty while it is not loaded.
    state
        ``"READY"``, ``"LOADING"``, ``"UNLOADING"``, ``"UNAVAILABLE"`` or, never
        loaded, ``""``.
    reason
        Why it is unavailable.
    """

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""


class ModelListing(render.Described, tuple[ModelStatus, ...]):
    """A tuple of models that shows itself as a table; all else is a tuple's."""

    __slots__ = ()

    def _described(self) -> render.Description:
        columns = ("name", "version", "state", "reason")
        rows = [(m.name, m.version, m.state.lower() or "not loaded", m.reason) for m in self]
        shown = len(columns) if any(m.reason for m in self) else 3
        table = render.Table(None, columns[:shown], [row[:shown] for row in rows])
        ready = sum(m.state == "READY" for m in self)
        count = f"{len(self)} model{'' if len(self) == 1 else 's'}"
        return f"{count}, {ready} ready" if self else "no models", (), [table] if self else []


def described(transport: Transport, model: str, version: str, *, load: bool) -> ModelSpec:
    """Return what a server tells of a model, which is ready or is loaded.

    Parameters
    ----------
    transport
        The way to the server.
    model, version
        The model; version ``""`` lets the server choose.
    load
        Whether it is loaded if it is not ready.

    Raises
    ------
    ModelNotFoundError, ModelNotReadyError, ModelLoadError
        If it cannot be used.
    ServerRefusedError
        If the server describes another one.
    """
    if not transport.model_ready(model, version):
        _make_ready(transport, model, version, load)
    metadata = transport.model_metadata(model, version)
    try:
        config = transport.model_config(model, version)
    except RestrictedApiError:
        config = None
    spec = ModelSpec.from_server(metadata, config, version=version)
    if spec.name != model:
        raise ServerRefusedError(
            f"asked for model {model!r}, the server described {spec.name!r}",
            "this is a fault of the server, or of a proxy between",
        )
    return spec


def _make_ready(transport: Transport, model: str, version: str, load: bool) -> None:
    try:
        listed = models_of(transport)
    except RestrictedApiError as error:
        if load:
            transport.load_model(model)
            return
        raise ModelNotReadyError(
            f"model {model!r} is not ready, and the server does not tell whether it has it",
            f"check the name; {error.remedy}",
        ) from error
    found = [m for m in listed if m.name == model]
    if not found:
        names = sorted({m.name for m in listed})
        close = difflib.get_close_matches(model, names, n=1)
        raise ModelNotFoundError(
            f"the server's repository has no model {model!r}",
            (f"did you mean {close[0]!r}? It" if close else "it")
            + f" has {_some_of(names) or 'no models'}",
        )
    ready = [m.version for m in found if m.state == "READY"]
    if version and ready:
        raise ModelNotFoundError(
            f"model {model!r} has no version {version!r} that is loaded",
            f"use version {' or '.join(ready)}, or '' for the server's choice",
        )
    if not load:
        reason = next((f" ({m.state}: {m.reason})" for m in found if m.reason), "")
        raise ModelNotReadyError(
            f"model {model!r} is not loaded{reason}",
            f"load it: Session(..., load=True), or session.load({model!r}) first",
        )
    try:
        transport.load_model(model)
    except ModelNotFoundError as error:  # though it is listed
        raise ModelLoadError(
            error.message,
            "its configuration or folder cannot be read; the server's log tells why "
            "(server.log for an embedded one)",
        ) from error


def _some_of(names: Sequence[str]) -> str:
    """Return the first of a server's models, in words: it may have hundreds."""
    told, more = names[:_MOST_MODELS_TOLD], len(names) - _MOST_MODELS_TOLD
    return ", ".join(told) + (f" and {more} more: session.models()" if more > 0 else "")


def models_of(transport: Transport) -> ModelListing:
    """Return the models of a server's repository."""
    fields = ("name", "version", "state", "reason")
    index = transport.repository_index()
    return ModelListing(ModelStatus(*(str(entry.get(f, "")) for f in fields)) for entry in index)


def checked_model(model: str, version: str) -> tuple[str, str]:
    """Return a model's name and version.

    Raises
    ------
    ArgumentError
        If they are none.
    """
    if not isinstance(model, str) or not model:
        raise ArgumentError(f"{brief(model)} is no model's name", "give a name, see models()")
    if not isinstance(version, str | int) or isinstance(version, bool):
        raise ArgumentError(f"{brief(version)} is no version", "give '', '1' or so")
    return model, brief(version) if isinstance(version, int) else version
