"""The kinds of pictures, and what a tensor seems to be."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "Guess"]

#: The kinds of pictures, and what each is called in a sentence.
KINDS = {
    "image": "an image",
    "heatmap": "a 2-D map",
    "features": "feature maps",
    "scores": "class scores",
    "segmentation": "a segmentation",
    "probability": "a probability map",
    "boxes": "boxes",
    "points": "points",
    "depth": "a depth map",
    "flow": "optical flow",
    "signal": "a signal",
    "histogram": "a histogram",
    "text": "texts",
    "table": "a table",
}


@dataclass(frozen=True)
class Guess:
    """What a tensor seems to be.

    Attributes
    ----------
    kind
        One of :data:`KINDS`.
    reason
        Why, in words, to be put behind "seen as ..., because".
    axes
        A letter for each axis of the tensor: ``1`` has one position only and is left out,
        ``N`` counts items of which one is shown, and the others are ``H`` rows, ``W``
        columns, ``C`` channels or classes, ``B`` boxes, ``P`` points, ``D`` coordinates,
        ``T`` time. ``?`` where the kind takes any shape.
    form
        More about the kind, such as ``logits`` for scores or ``corners`` for boxes.
    """

    kind: str
    reason: str
    axes: str
    form: str = ""
