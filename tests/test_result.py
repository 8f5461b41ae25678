"""What an inference gives back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tritonic_nb.errors import ArgumentError, TensorNameError, TensorShapeError
from tritonic_nb.result import InferenceResult, TensorPlace, Timings, probabilities


def result(**outputs: Any) -> InferenceResult:
    return InferenceResult(
        model="m",
        version="1",
        request_id="",
        outputs={name: np.asarray(value) for name, value in outputs.items()},
        timings=Timings(1, 2, 3, 4, 10),
        places={("output", name): TensorPlace("output", 8, "r") for name in outputs},
        wire_nbytes=100,
    )


def test_it_is_a_mapping_of_arrays() -> None:
    """Names, length, membership and items work as in a dictionary."""
    made = result(a=[1.0], b=[2.0])
    assert list(made) == ["a", "b"] == made._ipython_key_completions_()
    assert len(made) == 2
    assert "a" in made
    assert made["b"].tolist() == [2]
    with pytest.raises(TensorNameError, match=r"no output 'c'.*\n.*a, b"):
        made["c"]
    assert made.get("c") is None


def test_results_compare_as_objects() -> None:
    """Two results are never compared array by array."""
    made = result(a=[1.0, 2.0])
    assert made == made  # noqa: PLR0124
    assert made != result(a=[1.0, 2.0])
    assert {made}


def test_logits_become_probabilities() -> None:
    """Scores that do not add up to one go through softmax, even very large ones."""
    scores = probabilities(np.array([1000.0, 1000.0, 0.0], np.float32))
    assert scores.tolist() == [0.5, 0.5, 0.0]


def test_probabilities_stay_as_they_are() -> None:
    """Scores that are probabilities already are not softened again."""
    given = np.array([0.7, 0.2, 0.1])
    assert probabilities(given).tolist() == given.tolist()


def test_top_k_is_sorted_and_named() -> None:
    """The best comes first, with the labels that were given, or numbers without any."""
    made = result(scores=[[0.1, 0.7, 0.2]])
    assert [p.index for p in made.top_k(2)] == [1, 2]
    assert made.top_k(1)[0].label == "class 1"
    assert made.top_k(9, labels=["a", "b", "c"])[0].label == "b"
    assert "70.0%  b (1)" in str(made.top_k(1, labels=["a", "b", "c"])[0])


@pytest.mark.parametrize(
    ("outputs", "arguments", "error", "text"),
    [
        ({"a": [[0.1, 0.9]]}, {"k": 0}, ArgumentError, "k is 0"),
        ({"a": [[0.1, 0.9]]}, {"labels": ["x"]}, ArgumentError, "1 labels and 2 classes"),
        ({"a": [[0.1, 0.9]]}, {"item": 1}, TensorShapeError, "item 1 of .*batch has 1"),
        ({"a": [[0.1, 0.9]], "b": [[1.0, 2.0]]}, {}, TensorNameError, "2 outputs.*of a, b"),
        ({"a": [[[0.1, 0.9]]]}, {"output": "a"}, TensorShapeError, "not one score"),
        ({"a": [[0.1, 0.9]]}, {"output": "z"}, TensorNameError, "no output 'z'"),
    ],
)
def test_what_cannot_be_ranked_is_told(
    outputs: dict[str, Any], arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    """Each wrong call of top_k is our error with the numbers."""
    with pytest.raises(error, match=f"(?s){text}"):
        result(**outputs).top_k(**arguments)


def test_show_outside_a_notebook_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal show() prints the outputs."""
    result(a=[1.0, 2.0, 3.0]).show()
    assert "FP64 [3]" in capsys.readouterr().out


def test_html_from_a_server_is_escaped() -> None:
    """Names from a server cannot become markup."""
    made = result(**{"<img src=x onerror=alert(1)>": [1.0]})
    assert "<img src=x" not in made._repr_html_()


@pytest.mark.parametrize("asked", [{"item": "a"}, {"item": 0.5}, {"k": None}, {"k": True}])
def test_a_number_that_is_none_is_told(asked: dict[str, Any]) -> None:
    """Items and numbers of classes are whole."""
    with pytest.raises(ArgumentError, match=next(iter(asked))):
        result(scores=[0.1, 0.9]).top_k(**asked)


@pytest.mark.parametrize("labels", [5, {0: "a"}, {"a": 0, "b": 1}, [object()] * 1])
def test_labels_that_do_not_name_each_class_are_told(labels: Any) -> None:
    """Whatever was given instead of a list."""
    with pytest.raises(ArgumentError, match="labels"):
        result(scores=[0.1, 0.9]).top_k(labels=labels)


def test_labels_may_be_a_mapping() -> None:
    """As many models publish theirs: by the number of the class."""
    assert result(scores=[0.1, 0.9]).top_k(labels={0: "cat", 1: "dog"})[0].label == "dog"


def test_infinite_scores_are_ranked() -> None:
    """Without a warning."""
    best = result(scores=[-np.inf, np.inf, 0.0, np.nan]).top_k(4)
    assert sorted(each.index for each in best) == [0, 1, 2, 3]
