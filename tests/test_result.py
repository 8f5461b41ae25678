"""What an inference gives back."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tritonic_nb import samples
from tritonic_nb.errors import ArgumentError, TensorNameError, TensorShapeError
from tritonic_nb.images import ImageTransform, load_image
from tritonic_nb.render import probabilities
from tritonic_nb.result import InferenceResult, TensorPlace, Timings


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


# --- the pictures of outputs ---------------------------------------------------------------------

CAT = load_image(samples.image("cat"))
SQUARE = ImageTransform(224, 224)


def pictured(**outputs: Any) -> InferenceResult:
    """Return the result for a picture that was cropped and resized."""
    return dataclasses.replace(result(**outputs), images=(CAT,), transform=SQUARE)


def captions(made: InferenceResult, *given: Any, **options: Any) -> list[str]:
    return [each.caption for each in made.pictures(*given, **options)]


def test_each_output_has_its_picture() -> None:
    """A classification first, with its heat map in it, then what suits each other output."""
    maps = np.random.default_rng(0).normal(size=(1, 9, 30, 30)).astype(np.float32)
    made = pictured(
        logits=np.eye(1, 10), class_activation=np.ones((1, 7, 7), np.float32), maps=maps
    )
    first, *others = made.pictures(labels=[f"name {i}" for i in range(10)])
    assert "what spoke for name 0" in first.html
    assert [each.caption.partition(":")[0] for each in others] == ["Seen as feature maps"]


def test_a_mask_lies_over_the_picture_that_went_in() -> None:
    """In its own coordinates: outside of the crop it is grey."""
    mask = np.zeros((1, 1, 56, 56), np.float32)
    mask[..., 20:30, 20:30] = 1
    (caption,) = captions(pictured(mask=mask))
    assert "over the picture; grey: what the model did not see" in caption.lower()


def test_boxes_find_their_scores_and_classes() -> None:
    """As detectors give them: three outputs of one length become one picture."""
    made = pictured(
        num=np.array([2.0]),
        detection_boxes=np.array([[[0.1, 0.1, 0.5, 0.5], [0.2, 0.3, 0.9, 0.8]]]),
        detection_scores=np.array([[0.9, 0.6]]),
        detection_classes=np.array([[1.0, 2.0]]),
    )
    pictures = made.pictures(labels=["nothing", "cat", "dog"])
    assert len(pictures) == 2
    assert "cat 90%, dog 60%" in pictures[1].alt
    assert "y1, x1, y2, x2, in parts" in pictures[1].caption


def test_one_output_can_be_shown_and_otherwise() -> None:
    """By name, as another kind, and with the options of tritonic_nb.picture()."""
    made = pictured(a=np.eye(40), b=np.ones((1, 3, 40, 40), np.float32))
    (caption,) = captions(made, "a", as_="image", limits=(0, 2))
    assert caption.startswith("Seen as an image: it was asked for.")
    with pytest.raises(TensorNameError, match="(?s)as_='image' is for one output, .* of a, b"):
        made.pictures(as_="image")
    with pytest.raises(TensorNameError, match="no output 'z'"):
        made.show("z")
    with pytest.raises(ArgumentError, match="cannot be shown as optical flow"):
        made.show("a", as_="flow")


def test_k_counts_whatever_is_shown() -> None:
    """Classes, five unless it is given, and feature maps, all of them then."""
    made = pictured(maps=np.random.default_rng(0).normal(size=(1, 9, 30, 30)).astype(np.float32))
    assert "the 4 strongest of 9" in captions(made, k=4)[0].lower()
    assert "9 of 9 maps" in made.pictures()[0].alt
    scores = pictured(logits=np.random.default_rng(0).normal(size=(1, 10)))
    assert [len(scores.pictures(k=k)[0].alt.splitlines()) for k in (None, 2)] == [7, 4]


def test_the_item_of_a_batch_is_shown() -> None:
    """Of each output, and the picture that it belongs to."""
    made = dataclasses.replace(
        result(maps=np.zeros((2, 9, 30, 30), np.float32), mask=np.zeros((2, 1, 56, 56), "f4")),
        images=(CAT, CAT.resize((40, 30))),
        transform=SQUARE,
    )
    assert all("item 1 of 2" in caption.lower() for caption in captions(made, item=1))
    with pytest.raises(TensorShapeError, match="item 2"):
        made.pictures(item=2)


@pytest.mark.parametrize("options", [{"k": 0}, {"k": "x"}, {"item": 0.5}, {"opacity": 7}])
def test_options_of_show_are_checked(options: dict[str, Any]) -> None:
    """Before anything is shown."""
    with pytest.raises(ArgumentError, match=next(iter(options))):
        pictured(mask=np.zeros((1, 1, 56, 56), np.float32)).show(**options)
