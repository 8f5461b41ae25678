"""The sample files are there, whole, and say what they are."""

from __future__ import annotations

import hashlib
import json

import pytest
from PIL import Image

from tritonic_nb import samples
from tritonic_nb.errors import ArgumentError
from tritonic_nb.images import ImageTransform

ORIGINAL_NBYTES = 9_298_937
ORIGINAL_SHA256 = "3198edf2ade8f5757057410820c98c716b58f1a3102cc9c0213762541324d9d7"


def _appended_properties(extra: bytes) -> dict[str, str]:
    """Read ``metadata_props`` (field 14 of ONNX's ModelProto), the only field appended."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = extra[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value, at

    properties, at = {}, 0
    while at < len(extra):
        tag, at = varint(at)
        assert tag == 14 << 3 | 2
        _, at = varint(at)
        entry = []
        for field in (1, 2):
            tag, at = varint(at)
            assert tag == field << 3 | 2
            size, at = varint(at)
            entry.append(extra[at : at + size].decode())
            at += size
        properties[entry[0]] = entry[1]
    return properties


def test_the_classifier_is_the_original_file_with_metadata_behind_it() -> None:
    """Weights and graph are untouched: the first bytes are the original's."""
    file = samples.classifier().read_bytes()
    assert hashlib.sha256(file[:ORIGINAL_NBYTES]).hexdigest() == ORIGINAL_SHA256
    assert set(_appended_properties(file[ORIGINAL_NBYTES:])) == {"image_transform", "labels"}


def test_the_text_detector_is_the_original_file_with_metadata_behind_it() -> None:
    """Its first bytes are the original's, and what follows says how a picture is fed to it."""
    file = samples.text_detector().read_bytes()
    digest = "5d8bf53f26be180c750ca2c8e8feba34d5525ba94c23c6490e4a2fe6a6b19b7e"
    assert hashlib.sha256(file[:4_745_646]).hexdigest() == digest
    properties = _appended_properties(file[4_745_646:])
    assert set(properties) == {"image_transform"}
    transform = ImageTransform.from_json(properties["image_transform"])
    assert transform == ImageTransform.preset("-1..1", 0, 0, multiple=32)


def test_the_metadata_says_how_to_feed_the_classifier() -> None:
    """The transform and the labels in the file are those that its sources give."""
    properties = _appended_properties(samples.classifier().read_bytes()[ORIGINAL_NBYTES:])
    transform = ImageTransform.from_json(properties["image_transform"])
    assert transform == ImageTransform(224, 224, mean=127, std=128)
    assert properties["image_transform"] == transform.to_json()
    assert tuple(json.loads(properties["labels"])) == samples.labels()


def test_the_readme_states_the_hashes() -> None:
    """Whoever follows the provenance finds the very files described."""
    readme = (samples.classifier().parent / "README.md").read_text(encoding="utf-8")
    assert ORIGINAL_SHA256 in readme
    assert hashlib.sha256(samples.classifier().read_bytes()).hexdigest() in readme
    assert all(path.name in readme for path in samples.images().values())


def test_there_are_a_thousand_labels() -> None:
    """The index in the list is the class."""
    labels = samples.labels()
    assert len(labels) == 1000
    assert (labels[285], labels[872], labels[967]) == ("Egyptian cat", "tripod", "espresso")


def test_every_picture_opens() -> None:
    """Six pictures, found by name."""
    assert list(samples.images()) == [
        "astronaut", "cat", "espresso", "page", "photographer", "rocket",
    ]  # fmt: skip
    for path in samples.images().values():
        with Image.open(path) as image:
            image.verify()


@pytest.mark.parametrize("name", ["cat", "cat.jpg"])
def test_a_picture_is_found_with_and_without_extension(name: str) -> None:
    """Both forms name the same file."""
    assert samples.image(name) == samples.images()["cat"]


@pytest.mark.parametrize("name", ["dog", "cat.png", "", "../README.md"])
def test_an_unknown_picture_is_refused_with_the_names(name: str) -> None:
    """The error lists what there is, and no path leads out of the folder."""
    with pytest.raises(
        ArgumentError, match=r"astronaut, cat, espresso, page, photographer, rocket"
    ):
        samples.image(name)
