"""Results of two inferences compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tritonic_nb
from tritonic_nb import Difference, ResultDifference, diff
from tritonic_nb.errors import ArgumentError, TensorNameError, TensorShapeError
from tritonic_nb.result import InferenceResult, TensorPlace, Timings


def result(model: str = "m", version: str = "1", **outputs: Any) -> InferenceResult:
    return InferenceResult(
        model=model,
        version=version,
        request_id="",
        outputs={name: np.asarray(value) for name, value in outputs.items()},
        timings=Timings(1, 2, 3, 4, 10),
        places={("output", name): TensorPlace("output", 8, "r") for name in outputs},
        wire_nbytes=100,
    )


def test_two_arrays() -> None:
    """Arrays, lists and pictures are compared as they are."""
    found = diff([1.0, 2.0], np.array([1.0, 2.5]))
    assert isinstance(found, Difference)
    assert (found.different, found.max_error, found.where) == (1, 0.5, (1,))
    assert found.names == ("a", "b")


def test_two_results_output_by_output() -> None:
    """What both have is compared, by name; what only one has is told."""
    found = diff(result(x=[1.0], y=[[1, 2]], z=[1]), result(x=[1.0], y=[[1, 4]], w=[1]))
    assert isinstance(found, ResultDifference)
    assert list(found) == ["x", "y"] == found._ipython_key_completions_()
    assert found["x"].same
    assert not found.same
    assert found["y"].where == (0, 1)
    assert (found.only_in_a, found.only_in_b) == (("z",), ("w",))
    said = repr(found)
    assert "only in a  z" in said
    assert "drawn" in said
    assert "y, which differs most" in said
    assert "<img" in found._repr_html_()
    with pytest.raises(TensorNameError, match="no output 'z' was compared"):
        found["z"]


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        (result("m", "1", x=[1]), result("m", "1", x=[1]), ("a", "b")),
        (result("m", "1", x=[1]), result("n", "1", x=[1]), ("m", "n")),
        (result("m", "1", x=[1]), result("m", "2", x=[1]), ("m 1", "m 2")),
        ({"x": [1]}, {"x": [1]}, ("a", "b")),
    ],
)
def test_results_are_called_by_their_models(a: Any, b: Any, names: tuple[str, str]) -> None:
    """Where these tell them apart."""
    assert diff(a, b).names == names
    assert diff(a, b, names=("before", "after")).names == ("before", "after")


def test_one_output_can_be_chosen() -> None:
    """One that does not match the other's is no hindrance to the others."""
    a, b = result(x=[1.0], y=[1.0]), result(x=[1.0], y=[1.0, 2.0])
    assert list(diff(a, b, outputs=["x"])) == ["x"] == list(diff(a, b, outputs="x"))
    with pytest.raises(TensorShapeError, match=r"output 'y': .*FP64 \[1\].*FP64 \[2\]"):
        diff(a, b)


@pytest.mark.parametrize(
    ("a", "b", "arguments", "error", "text"),
    [
        (result(x=[1]), np.zeros(1), {}, ArgumentError, "InferenceResult and ndarray"),
        (result(x=[1]), result(y=[1]), {}, TensorNameError, "no output is in both: x and y"),
        (result(x=[1]), result(x=[1]), {"outputs": ["q"]}, TensorNameError, "'q' is not in both"),
        (np.zeros(1), np.zeros(1), {"outputs": ["q"]}, ArgumentError, "arrays have none"),
        (result(x=[1]), result(x=[1]), {"names": "a"}, ArgumentError, "names is 'a'"),
        ([[1], [1, 2]], [1], {}, ArgumentError, "list is no array"),
    ],
)
def test_what_cannot_be_compared_is_told(
    a: Any, b: Any, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    """Each wrong call is our error with its reason."""
    with pytest.raises(error, match=text):
        diff(a, b, **arguments)


def test_names_from_a_server_are_text() -> None:
    """Names of outputs, models and versions cannot become markup."""
    evil = "<img src=x onerror=alert(1)>"
    found = diff(
        result(evil, evil, **{evil: [1.0, 2.0], "only" + evil: [1]}),
        result("n", evil, **{evil: [1.0, 3.0]}),
    )
    assert "<img src=x" not in found._repr_html_()
    assert tritonic_nb.diff is diff
