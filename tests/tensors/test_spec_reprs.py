"""What models and tensors say of themselves."""

from __future__ import annotations

import pytest

from tritonic_nb.tensors import ModelSpec, TensorSpec

IMAGES = TensorSpec("images", "FP32", (-1, 3, 224, 224), batched=True)
TEXTS = TensorSpec("texts", "BYTES", (-1, 1), batched=True, optional=True)
BOXES = TensorSpec("boxes", "INT64", (-1, -1, 4), batched=True)
EVIL = '<img src=x onerror="alert(1)"></details>$style\x1b[2J'


def model(**changes: object) -> ModelSpec:
    settings = {
        "name": "detector",
        "version": "",
        "versions": ("1", "3"),
        "backend": "onnxruntime",
        "max_batch_size": 8,
        "inputs": {"images": IMAGES, "texts": TEXTS},
        "outputs": {"boxes": BOXES},
        "parameters": {"labels": "[]"},
        **changes,
    }
    return ModelSpec(**settings)  # type: ignore[arg-type]


def test_a_model_in_text() -> None:
    """Versions, backend, batches, state, and a table of its tensors with their sizes."""
    assert repr(model()).splitlines() == [
        "ModelSpec detector",
        "  version     as the server chooses",
        "  loaded      1, 3",
        "  backend     onnxruntime",
        "  batches     up to 8",
        "  state       ready",
        "  parameters  labels",
        "  tensors (3)",
        "    name          datatype  shape                 bytes per item",
        "    input images  FP32      [batch, 3, 224, 224]  602 kB",
        "    input texts   BYTES     [batch, 1]            of any length",
        "    output boxes  INT64     [batch, any, 4]       8 B each element",
    ]
    assert str(model()) == (
        "detector (onnxruntime): images FP32 [batch, 3, 224, 224], texts BYTES [batch, 1] to "
        "boxes INT64 [batch, any, 4]"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"max_batch_size": 0}, "batches     none"),
     ({"max_batch_size": None}, "batches     not told by the server"),
     ({"stateful": True}, "sequences   yes"), ({"version": "3"}, "version     3"),
     ({"backend": ""}, "backend     not told"), ({"state": "UNAVAILABLE"}, "unavailable")],
)  # fmt: skip
def test_what_a_model_is_or_is_not(changes: dict[str, object], text: str) -> None:
    """Batching, sequences, and what a server keeps to itself."""
    assert text in repr(model(**changes))


def test_a_tensor_in_text_and_html() -> None:
    """In a list its repr makes it again; by itself it shows its size."""
    assert eval(repr(IMAGES)) == IMAGES  # noqa: S307
    bundle = IMAGES._repr_mimebundle_()
    assert isinstance(bundle, dict)
    assert bundle["text/plain"].splitlines() == [
        "TensorSpec images",
        "  datatype        FP32",
        "  shape           [batch, 3, 224, 224]",
        "  bytes per item  602 kB",
    ]
    assert '<th scope="row">shape</th><td>[batch, 3, 224, 224]</td>' in bundle["text/html"]
    assert "optional" in TEXTS._repr_html_()


@pytest.mark.parametrize("shape", [(), (0,), (2**63 - 1,) * 50, (-1,) * 5000])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES", EVIL])
def test_whatever_a_server_says_is_shown_as_text(datatype: str, shape: tuple[int, ...]) -> None:
    """Names, datatypes and shapes of any kind neither raise, nor become markup or commands."""
    spec = TensorSpec(EVIL, datatype, shape)
    hostile = model(
        name=EVIL, version=EVIL, versions=(EVIL,), backend=EVIL, state=EVIL,
        inputs={EVIL: spec}, outputs={}, parameters={EVIL: EVIL},
    )  # fmt: skip
    for shown in (spec, hostile):
        bundle = shown._repr_mimebundle_()
        assert isinstance(bundle, dict)
        for text in (*bundle.values(), repr(shown)):
            assert "\x1b" not in text
            assert len(text) < 60_000
        assert "<img" not in bundle["text/html"]
