"""Real outputs of the sample models look as they did when a person looked at them.

The pictures in ``golden/`` were looked at one by one. ``TRITONIC_NB_GOLDEN=write`` writes
them anew, to be looked at again.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import tritonic_nb
from tritonic_nb import samples
from tritonic_nb.images import ImageTransform, load_image
from tritonic_nb.render import Picture, classification, probabilities

GOLDEN = Path(__file__).parent / "golden"
WIDTH = 360  # the stored pictures are this wide: small, and hinting of letters does not matter
CLASSIFIER = ImageTransform(224, 224, mean=127, std=128)
DETECTOR = ImageTransform.preset("-1..1", 0, 0, multiple=32)
LAYOUTS = {
    "HWC uint8": lambda x: x,
    "CHW": lambda x: x.transpose(2, 0, 1),
    "NCHW 0..1": lambda x: (x.transpose(2, 0, 1)[None] / 255).astype(np.float32),
    "NHWC -1..1": lambda x: (x[None] / 127.5 - 1).astype(np.float32),
    "NCHW 0..255": lambda x: x.transpose(2, 0, 1)[None].astype(np.float32),
    "NCHW FP16": lambda x: (x.transpose(2, 0, 1)[None] / 255).astype(np.float16),
    "HWC strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
}


@cache
def outputs(model: str, picture: str) -> dict[str, npt.NDArray[Any]]:
    """Run a sample model on a sample picture with onnxruntime itself."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = {"classifier": samples.classifier, "text_detector": samples.text_detector}[model]()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    transform = CLASSIFIER if model == "classifier" else DETECTOR
    tensor = transform(samples.image(picture))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: tensor}), strict=True))


def logits() -> Picture:
    found = outputs("classifier", "cat")["logits"]
    return tritonic_nb.picture(found, name="logits", labels=samples.labels())


def feature_maps(**options: Any) -> Picture:
    found = outputs("classifier", "cat")["feature_maps"]
    return tritonic_nb.picture(found, name="feature_maps", **options)


def activation(**options: Any) -> Picture:
    found = outputs("classifier", "cat")["class_activation"]
    return tritonic_nb.picture(found, name="class_activation", **options)


def text(**options: Any) -> Picture:
    found = outputs("text_detector", "page")["text_probability"]
    return tritonic_nb.picture(found, name="text_probability", **options)


def classified() -> Picture:
    found = outputs("classifier", "cat")
    image = load_image(samples.image("cat"))
    return classification(
        image, samples.labels(), probabilities(found["logits"][0]),
        heat=found["class_activation"][0], box=CLASSIFIER.source_box(image.size),
    )  # fmt: skip


CASES: dict[str, Callable[[], Picture]] = {
    "logits": logits,
    "feature_maps": feature_maps,
    "feature_maps_together": lambda: feature_maps(together=True),
    "class_activation": activation,
    "class_activation_over_cat": lambda: activation(
        source=samples.image("cat"), transform=CLASSIFIER
    ),
    "text": text,
    "text_over_page": lambda: text(source=samples.image("page"), transform=DETECTOR),
    "text_as_segmentation": lambda: tritonic_nb.picture(
        outputs("text_detector", "page")["text_probability"] > 0.3, name="text",
        as_="segmentation", labels=["paper", "text"], source=samples.image("page"),
        transform=DETECTOR,
    ),
    "classification": classified,
}  # fmt: skip


def opened(picture: Picture) -> Image.Image:
    """Give a picture's pixels on the background of each theme, side by side."""
    with Image.open(io.BytesIO(picture.png)) as image:
        card = image.convert("RGBA")
    height = round(card.height * WIDTH / card.width)
    small = card.resize((WIDTH, height), Image.Resampling.BOX)
    both = Image.new("RGB", (2 * WIDTH, height), "#ffffff")
    both.paste(Image.new("RGB", (WIDTH, height), "#111111"), (WIDTH, 0))
    both.paste(small, (0, 0), small)
    both.paste(small, (WIDTH, 0), small)
    return both


def compare(picture: Picture, name: str) -> None:
    """Compare with the stored picture: alike nearly everywhere, and never far from it."""
    found = opened(picture)
    path = GOLDEN / f"{name}.png"
    if os.environ.get("TRITONIC_NB_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        found.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    with Image.open(path) as image:
        stored = image.convert("RGB")
    assert found.size == stored.size
    # Blurred, because another Matplotlib or FreeType draws letters a part of a pixel aside.
    parts = [np.asarray(each.reduce(3), np.float32) for each in (found, stored)]
    apart = np.abs(parts[0] - parts[1]).max(axis=2)
    assert apart.mean() < 4, f"{name}: {apart.mean():.2f} levels apart on average"
    assert (apart > 60).mean() < 0.01, f"{name}: {(apart > 60).mean():.2%} far apart"


@pytest.mark.parametrize("name", sorted(CASES))
def test_real_outputs_look_as_they_did(name: str) -> None:
    """The picture of a real output is the stored one, but for a small tolerance."""
    compare(CASES[name](), name)


def test_the_right_kinds_are_guessed() -> None:
    """Scores, features, a map and a probability map, from names, shapes and real values."""
    kinds = [picture().caption.partition(":")[0] for picture in (logits, feature_maps,
                                                                 activation, text)]  # fmt: skip
    assert kinds == [
        "Seen as class scores", "Seen as feature maps", "Seen as a 2-D map",
        "Seen as a probability map",
    ]  # fmt: skip
    assert "softmax was applied" in logits().caption
    assert "cat" in logits().alt.splitlines()[0]


def test_the_strongest_feature_map_comes_first() -> None:
    """Strength is the standard deviation."""
    found = outputs("classifier", "cat")["feature_maps"][0]
    order = np.argsort(-found.reshape(16, -1).std(axis=1))
    figure = feature_maps().figure()
    names = [text.get_text() for text in figure.axes[0].texts if text.get_text()[:1] == "#"]
    assert names == [f"#{index}" for index in order]


@pytest.mark.parametrize("name", ["cat", "photographer", "rocket"])
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_photograph_comes_out_as_it_went_in(name: str, layout: str) -> None:
    """In each layout and range the pixels shown are the photograph's, within rounding."""
    pixels = np.asarray(load_image(samples.image(name)).convert("RGB"))
    picture = tritonic_nb.picture(LAYOUTS[layout](pixels), name="OUTPUT0")
    with Image.open(io.BytesIO(picture.png)) as image:
        apart = np.abs(np.asarray(image.convert("RGB"), int) - pixels)
    assert picture.caption.startswith("Seen as an image")
    assert apart.max() <= 1


def test_a_grey_photograph_too() -> None:
    """One channel, with an axis for it or without."""
    pixels = np.asarray(load_image(samples.image("photographer")).convert("L"))
    for array in (pixels, pixels[..., None], pixels[None], pixels[None, None]):
        picture = tritonic_nb.picture(array, name="OUTPUT0")
        with Image.open(io.BytesIO(picture.png)) as image:
            assert np.array_equal(np.asarray(image.convert("L")), pixels)


def test_a_normalised_input_is_shown_as_the_picture_it_was() -> None:
    """ImageNet's mean and standard deviation are recognised and undone."""
    transform = ImageTransform.preset("imagenet", 224, 224)
    tensor = transform(samples.image("cat"))
    picture = tritonic_nb.picture(tensor, name="images")
    plain = transform.replace(mean=0.0, std=1.0, scale=1.0)(samples.image("cat"))[0]
    with Image.open(io.BytesIO(picture.png)) as image:
        apart = np.abs(np.asarray(image, int) - plain.transpose(1, 2, 0))
    assert "mean and standard deviation undone" in picture.caption
    assert apart.max() <= 1


def test_the_mask_lies_on_the_words() -> None:
    """Laid over the page, the mask covers dark letters and not the margin between lines."""
    found = outputs("text_detector", "page")["text_probability"][0, 0]
    page = load_image(samples.image("page"))
    inside = np.asarray(Image.fromarray(found).resize(page.size)) > 0.3
    grey = np.asarray(page.convert("L"), float)
    local = grey - np.asarray(page.convert("L").resize((8, 4)).resize(page.size), float)
    assert local[inside].std() > 1.5 * local[~inside].std()
