"""Something that goes to other processes as bytes, and is known there by them."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tritonic_nb.errors import ArgumentError

__all__ = ["Parcel"]

_MAIN = b"__main__"


@dataclass(frozen=True)
class Parcel:
    """Something pickled, once.

    A function of a notebook, which is pickled by its code, is another one each time that it is
    unpickled. The bytes are the same, and so is their digest.

    Attributes
    ----------
    pickled
        The bytes. They may hold secrets, and are never shown.
    """

    pickled: bytes = field(repr=False)

    @classmethod
    def of(cls, value: object, what: str) -> Parcel:
        """Pickle a value.

        Parameters
        ----------
        value
            The value.
        what
            What it is called, for an error.

        Raises
        ------
        ArgumentError
            If it cannot be pickled.
        """
        try:
            return cls(_pickled(value))
        except Exception as error:  # whatever the objects in it raise
            raise ArgumentError(
                f"{what} cannot be sent to other processes: {type(error).__name__}: {error}",
                "give functions of a module, or pip install cloudpickle (Dask brings it), which "
                "takes those of a notebook, too",
            ) from error

    @cached_property
    def digest(self) -> str:
        """What tells this from others, and nothing of what is in it."""
        return hashlib.sha256(self.pickled).hexdigest()

    def open(self) -> Any:
        """Return what was pickled, made anew."""
        return pickle.loads(self.pickled)  # noqa: S301 - from the process that gave us this code to run


def _pickled(value: object) -> bytes:
    """Pickle by reference what other processes can import, and else by its code if possible."""
    try:
        plain = pickle.dumps(value)
    except Exception:  # a lambda
        plain = None
    if plain is not None and _MAIN not in plain:
        return plain
    try:
        import cloudpickle
    except ImportError:
        return pickle.dumps(value) if plain is None else plain  # raises; or a fork knows it
    return bytes(cloudpickle.dumps(value))
