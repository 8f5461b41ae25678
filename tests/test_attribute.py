"""Attributes that IPython's completer asks."""

from __future__ import annotations

import pytest

from tritonic_nb.attribute import attribute


class Thing:
    """Has one."""

    @attribute
    def inputs(self) -> dict[str, int]:
        """The inputs."""
        return {"a": 1}


def test_it_is_read_like_a_property_and_cannot_be_set() -> None:
    """By name on an object, as itself on the class, with the method's own documentation."""
    assert Thing().inputs == {"a": 1}
    assert isinstance(Thing.inputs, attribute)
    assert Thing.inputs.__doc__ == "The inputs."
    with pytest.raises(AttributeError, match="Thing.inputs cannot be set"):
        Thing().inputs = {}  # type: ignore[misc]
