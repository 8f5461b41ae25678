"""The picture that a tensor was made from, and where the tensor lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tritonic_nb.render.image import Box, Pixels, as_rgb, fit_within
from tritonic_nb.render.plot import SCALE

__all__ = ["Source", "contour", "tinted"]

_LARGEST = (620, 460)  # CSS pixels
_UNSEEN = 0.45  # what the model did not see keeps this much of itself, and turns grey


@dataclass(frozen=True)
class Source:
    """A picture, and the part of it that a tensor shows.

    Parameters
    ----------
    image
        The picture, as it was before it was resized, cropped or padded.
    box
        ``(left, top, right, bottom)``: the part that all of the tensor shows, in the
        picture's pixels; it may reach beyond. None for the whole picture.
    size
        ``(width, height)`` of the model's input in pixels, for boxes and points that are
        counted in those. None for the picture's own.
    """

    image: Image.Image
    box: Box
    size: tuple[int, int]

    @classmethod
    def of(
        cls, image: Pixels, box: Box | None = None, size: tuple[int, int] | None = None
    ) -> Source:
        """Make one, with the whole picture where nothing else is said.

        Raises
        ------
        ArgumentError
            The pixels are no picture.
        """
        rgb = as_rgb(image)
        return cls(rgb, box or (0.0, 0.0, float(rgb.width), float(rgb.height)), size or rgb.size)

    def shown(self, largest: tuple[int, int] = _LARGEST) -> Source:
        """Give the same at the size it is drawn at; the box moves along."""
        width, height = fit_within(self.image.size, *largest)
        size = (width * SCALE, height * SCALE)
        small = self.image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        across, down = size[0] / self.image.width, size[1] / self.image.height
        left, top, right, bottom = self.box
        box = (left * across, top * down, right * across, bottom * down)
        return Source(small, box, self.size)

    @property
    def note(self) -> str:
        """What is said below a picture that a tensor is laid over."""
        left, top, right, bottom = self.box
        width, height = self.image.size
        whole = left <= 0.5 and top <= 0.5 and right >= width - 0.5 and bottom >= height - 0.5
        return "over the picture" + ("" if whole else "; grey: what the model did not see")

    def placed(
        self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], *, unit: bool
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Bring positions in the model's input into the picture's pixels.

        Parameters
        ----------
        x, y
            In pixels of the input, or parts of its sides.
        unit
            Whether they are parts from 0 to 1.
        """
        left, top, right, bottom = self.box
        width, height = (1, 1) if unit else self.size
        return left + x / width * (right - left), top + y / height * (bottom - top)


def tinted(
    image: Image.Image,
    color: npt.NDArray[Any],
    cover: npt.NDArray[Any],
    covered: npt.NDArray[np.bool_],
) -> Image.Image:
    """Cover a picture with colours; what the model did not see fades into grey.

    Parameters
    ----------
    image
        Mode ``RGB``.
    color
        ``[height, width, 3]`` from 0 to 255, or one colour ``[3]``.
    cover
        ``[height, width]``: how much of each pixel is covered, 0 to 1.
    covered
        ``[height, width]``: which pixels the model saw.
    """
    pixels = np.asarray(image, np.float32)
    part = np.where(covered, cover, 0).astype(np.float32)[..., None]
    mixed = pixels + (np.asarray(color, np.float32) - pixels) * part
    if not covered.all():
        grey = np.asarray(image.convert("L"), np.float32)[~covered]
        mixed[~covered] = (grey * _UNSEEN + 128 * (1 - _UNSEEN))[:, None]
    return Image.fromarray(np.rint(np.clip(mixed, 0, 255)).astype(np.uint8))


def contour(areas: npt.NDArray[Any], width: int = 3) -> npt.NDArray[np.bool_]:
    """Find the pixels of areas that lie at their edges.

    Parameters
    ----------
    areas
        ``[rows, columns]``: numbers or truth values. What is 0 is no area and has no edge,
        nor is the border of the array one.
    width
        How many pixels deep the edge is.
    """
    edge = np.zeros(areas.shape, np.bool_)
    for step in range(1, width + 1):
        for axis in (0, 1):
            first = tuple(slice(None, -step) if a == axis else slice(None) for a in (0, 1))
            second = tuple(slice(step, None) if a == axis else slice(None) for a in (0, 1))
            differs = areas[first] != areas[second]
            edge[first] |= differs
            edge[second] |= differs
    inside: npt.NDArray[np.bool_] = edge & (areas != 0)
    return inside
