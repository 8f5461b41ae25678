"""A way: how the inputs of a model travel to the server, and its outputs back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tritonic_nb.errors import ArgumentError, brief
from tritonic_nb.memory import SharedMemoryType

__all__ = ["WAYS", "Way", "named_ways", "way_called"]

WAYS = ("none", "system", "cuda")
"""Every way on which inputs and outputs travel alike."""

_LABELS = {
    SharedMemoryType.NONE: "the wire",
    SharedMemoryType.SYSTEM: "system shared memory",
    SharedMemoryType.CUDA: "CUDA shared memory",
}
_MOST_WAYS = 8
_REMEDY = 'give some of "none", "system", "cuda", or pairs: ("system", "none") for outputs'


@dataclass(frozen=True)
class Way:
    """How inputs and outputs travel.

    Attributes
    ----------
    input, output
        ``NONE`` (over the wire), ``SYSTEM`` or ``CUDA``.
    """

    input: SharedMemoryType
    output: SharedMemoryType

    @classmethod
    def parse(cls, given: Any) -> Way:
        """Return the way that was named.

        Parameters
        ----------
        given
            A kind of shared memory, or a pair of them: the inputs' and the outputs'.

        Raises
        ------
        ArgumentError
            If it is no way, or ``"auto"``, which is a choice between them.
        """
        if isinstance(given, Way):
            return given
        pair = given if isinstance(given, tuple) and len(given) == 2 else (given, given)
        try:
            kinds = [SharedMemoryType.parse(each) for each in pair]
        except ArgumentError as error:
            raise ArgumentError(f"{brief(given)} is no way for tensors to go", _REMEDY) from error
        if SharedMemoryType.AUTO in kinds:
            raise ArgumentError(f"{brief(given)} is a choice between ways, not one", _REMEDY)
        return cls(*kinds)

    @property
    def name(self) -> str:
        """What it is called in code: ``"system"``, or ``"system, outputs none"``."""
        same = self.input is self.output
        return str(self.input) if same else f"{self.input}, outputs {self.output}"

    @property
    def label(self) -> str:
        """What it is called in a sentence: ``"system shared memory"``."""
        label = _LABELS[self.input]
        if self.input is self.output:
            return label
        how = "over" if self.output is SharedMemoryType.NONE else "through"
        return f"{label} with outputs {how} {_LABELS[self.output]}"


def named_ways(given: Any) -> dict[str, Way]:
    """Return ways by name; one that was named twice is called ``"system (2)"`` the second time.

    Parameters
    ----------
    given
        A way, or several, as :meth:`Way.parse` takes them.

    Raises
    ------
    ArgumentError
        If there is none, or too many, or one is no way.
    """
    if isinstance(given, str | SharedMemoryType | Way):
        given = (given,)
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise ArgumentError(f"ways is {brief(given)}", _REMEDY)
    parsed = [Way.parse(each) for each in given]
    if not 1 <= len(parsed) <= _MOST_WAYS:
        raise ArgumentError(f"{len(parsed)} ways were given", f"give 1 to {_MOST_WAYS}")
    return _by_name(parsed)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_N = TypeVar("_N", bound=_Named)


def way_called(name: Any, ways: Sequence[_N], left_out: Mapping[str, str]) -> _N:
    """Return what was found of a way, by its name.

    Parameters
    ----------
    name
        The name.
    ways
        What was found of each.
    left_out
        Why others were not looked at.

    Raises
    ------
    ArgumentError
        If there is none of that name.
    """
    for way in ways:
        if way.name == name:
            return way
    why = left_out.get(name) if isinstance(name, str) else None
    raise ArgumentError(
        f"way {brief(name)} was not measured{f': {why}' if why else ''}",
        f"there are {', '.join(way.name for way in ways)}",
    )


def _by_name(ways: Sequence[Way]) -> dict[str, Way]:
    named: dict[str, Way] = {}
    for way in ways:
        name, count = way.name, 1
        while name in named:
            count += 1
            name = f"{way.name} ({count})"
        named[name] = way
    return named
