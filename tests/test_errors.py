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
    error = pickle.loads(pickle.dumps(errors.ModelLoadError("a", "b")))
    assert (error.message, error.remedy) == ("a", "b")


def test_half_characters_can_be_printed() -> None:
    """Names of files and of a server's tensors may have them; a terminal takes none."""
    assert str(errors.TritonicError("no \ud800", "mend \udcff")) == "no ?\n  What to do: mend ?"


class _Mute:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        ("a\n", "'a\\n'"),
        pytest.param(10**5000, "<int>", id="digits"),
        (_Mute(), "<_Mute>"),
    ],
)
def test_any_value_fits_a_message(value: object, text: str) -> None:
    """Whatever its own text is, and however long."""
    assert errors.brief(value) == text
    assert len(errors.brief([value] * 999)) <= 100
