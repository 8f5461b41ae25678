"""The hierarchy of errors."""

from __future__ import annotations

import inspect
import pickle

import pytest

from tritonic_nb import errors

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_ours_public_and_in_the_tree(kind: type[errors.TritonicError]) -> None:
    """Each class derives from TritonicError, is exported, documented, and drawn at the top."""
    assert issubclass(kind, errors.TritonicError)
    assert kind.__name__ in errors.__all__
    assert kind.__doc__
    assert kind.__name__ in (errors.__doc__ or "")


def test_text_has_cause_and_remedy() -> None:
    """The text of an error is what failed and, on its own line, what to do."""
    error = errors.NoSpaceError("it failed", "do that")
    assert str(error) == "it failed\n  What to do: do that"
    assert str(errors.NoSpaceError("it failed")) == "it failed"


def test_errors_survive_pickling() -> None:
    """An error from another process arrives with its parts."""
    error = pickle.loads(pickle.dumps(errors.ModelLoadError("a", "b")))  # noqa: S301
    assert (error.message, error.remedy) == ("a", "b")
