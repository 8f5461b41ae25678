"""What kind of picture suits a tensor, found out from its name, shape and values.

Only names, shapes and values are looked at, and of the values a sample of bounded size:
the same tensor always gives the same answer, in the same time however large it is.
"""

# ruff: noqa: PLR0911 - a list of rules ends at the first that applies

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.values import Extent, Values, extent

__all__ = ["KINDS", "Guess", "guess", "shaped"]

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

# Words of tensors' names, and of models' names, which often tell more.
_WORDS = {
    "image": "image images img picture photo rgb bgr gray grey frame frames pixel pixels sr "
    "reconstruction reconstructed restored stylized generated upscaled superres decoded",
    "depth": "depth disparity disp inverse",
    "flow": "flow flows flo optical motion",
    "boxes": "box boxes bbox bboxes dets det detections rois proposals",
    "points": "keypoint keypoints kpt kpts landmark landmarks joint joints point points pose "
    "poses corners vertices skeleton ld",
    "segmentation": "seg segm segmentation semantic parsing classmap labelmap argmax",
    "probability": "mask masks probability prob probs alpha matte pha saliency sal confidence "
    "foreground occupancy edge edges",
    "scores": "logits logit scores score prob probs probability probabilities softmax class "
    "classes classification predictions prediction pred cls category loss3 prob1 softmaxout",
    "signal": "audio wave waveform wav speech pcm signal ecg enhanced denoised",
    "vector": "embedding embeddings embeds embed pooled pooler descriptor vector",
    "map": "mel mels spectrogram spec magnitude attention attentions attn hidden activation cam "
    "similarity matrix encoder tokens token last state states sequence emissions ctc rnn",
    "features": "feature features featuremap fpn backbone heatmap heatmaps paf pafs maps layer "
    "stage block attention attentions attn latent latents activations",
    "rows": "id ids index indices idx count counts num number keep length lengths valid shape "
    "offsets sizes anchors loc priors deltas regressors",
}
_VOCABULARY = {kind: frozenset(words.split()) for kind, words in _WORDS.items()}

_MODELS = {
    "depth": "midas dpt depth zoedepth marigold monodepth adabins",
    "flow": "raft flownet pwc pwcnet liteflownet gmflow",
    "boxes": "yolo ssd retinanet detr rtdetr fasterrcnn centernet detector detection yolox",
    "points": "pose openpose blazepose movenet hrnet posenet landmark facemesh keypoint",
    "segmentation": "unet deeplab deeplabv segformer fcn bisenet pspnet segmentation lraspp "
    "parsing maskformer",
    "probability": "u2net modnet matting matte craft dbnet rembg saliency text hed",
    "scores": "resnet mobilenet efficientnet vgg densenet squeezenet googlenet inception "
    "shufflenet alexnet convnext vit swin classifier classification regnet nasnet mnasnet "
    "emotion mnist yamnet beit deit",
    "image": "esrgan realesrgan srgan superresolution resolution style transfer cyclegan dcgan "
    "animegan stylegan gan vae pix deblur denoise dehaze swinir edsr fsrcnn srcnn",
}
_MODEL_WORDS = {kind: frozenset(words.split()) for kind, words in _MODELS.items()}

# Numbers of classes of well-known data sets.
_CLASS_COUNTS = frozenset(
    (
        10,
        100,
        101,
        102,
        120,
        200,
        345,
        365,
        397,
        400,
        401,
        521,
        527,
        600,
        700,
        1000,
        1001,
        1008,
        10450,
        11221,
        11821,
        21841,
        21843,
    )
)
_SEGMENT_COUNTS = frozenset((19, 20, 21, 34, 35, 59, 60, 133, 150, 151, 171, 172, 182))
# Numbers of points of well-known skeletons and faces.
_POINT_COUNTS = frozenset((5, 14, 16, 17, 18, 21, 23, 25, 26, 33, 39, 68, 98, 106, 133, 468, 478))

_MOST_LABELS = 2000  # that are given independently: more scores are those of places
_MAP_SIDE = 12  # a smaller side is no picture's
_FEW = 8  # columns that are read as a table rather than seen as a map


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


def guess(thing: Any, name: str = "", *, model: str = "", layout: str = "") -> Guess:
    """Find out what kind of picture suits a tensor.

    Parameters
    ----------
    thing
        What :meth:`Values.of <tritonic_nb.render.values.Values.of>` takes.
    name
        The tensor's. What it says counts more than the values.
    model
        The name of the model that it comes from, for tensors called ``output``.
    layout
        ``NCHW``, ``NHWC``, ``CHW``, ``HWC``, ``NHW`` or ``HW``, where it is known that the
        tensor is an image.

    Returns
    -------
    Guess
        Of anything: where nothing else fits, a table, a signal or a map.
    """
    values = Values.of(thing)
    if values.is_text:
        return Guess("text", "its elements are texts", "?")
    if values.size == 0:
        return Guess("table", "it is empty", "?")
    if layout:
        return Guess("image", f"its layout is {layout}", _letters(values, layout))
    with np.errstate(all="ignore"):  # of NaN, infinities and the largest floats
        return _Look(values, _Names(name, model)).guess()


def shaped(kind: str, thing: Any, *, layout: str = "") -> Guess:
    """Make the guess of a kind that was asked for.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.
    thing, layout
        As for :func:`guess`.

    Raises
    ------
    ArgumentError
        There is no such kind, or the shape cannot be shown as one.
    """
    if kind not in KINDS:
        raise ArgumentError(f"there is no kind {kind!r} of picture", f"use {', '.join(KINDS)}")
    values = Values.of(thing)
    reason = "it was asked for"
    if kind in ("text", "table", "histogram"):
        return Guess(kind, reason, "?")
    if values.is_text or values.size == 0:
        what = "texts" if values.is_text else "an empty tensor"
        raise ArgumentError(
            f"{values} cannot be shown as {KINDS[kind]}: it holds {what}",
            "leave out as_, or use as_='table'",
        )
    if layout:
        return Guess(kind, reason, _letters(values, layout))
    core = _core(values)
    axes = _ASKED[kind](core)
    if axes is None:
        raise ArgumentError(
            f"{values} cannot be shown as {KINDS[kind]}: {_NEEDS[kind]}",
            "leave out as_, or use as_='histogram' or 'table', which take any shape",
        )
    return _look_again(Guess(kind, reason, _expanded(values, axes)), values)


# --- names ---------------------------------------------------------------------------------------


class _Names:
    """What the names of a tensor and of its model say."""

    def __init__(self, name: str, model: str) -> None:
        self.own = _tokens(name)
        self._model = _tokens(model)

    def says(self, *kinds: str) -> str:
        """Return the word of the tensor's name that speaks for one of these kinds, or ``""``."""
        for kind in kinds:
            found = sorted(self.own & _VOCABULARY[kind])
            if found:
                return max(found, key=len)
        return ""

    def hints(self, kind: str) -> str:
        """Return the word of either name that speaks for a kind, the tensor's own first.

        The model's name says nothing where the tensor's own says something else.
        """
        own = self.says(kind)
        if own or any(self.own & words for words in _VOCABULARY.values()):
            return own
        for word in sorted(_MODEL_WORDS.get(kind, ())):
            if any(token.startswith(word) for token in self._model):
                return word
        return ""


def _tokens(name: str) -> frozenset[str]:
    """Split ``StatefulPartitionedCall:detection_boxes`` into words, plurals with their singular."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name[:400])
    words = re.findall(r"[a-z]+", spaced.lower())
    joined = re.findall(r"[a-z]+", name[:400].lower())
    found = {*words, *joined}
    return frozenset(found | {word[:-1] for word in found if word.endswith("s")})


# --- one tensor ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """A tensor of numbers, and the questions that the rules ask about it."""

    values: Values
    names: _Names

    @cached_property
    def core(self) -> Values:
        return _core(self.values)

    @cached_property
    def sample(self) -> npt.NDArray[Any]:
        return self.core.sample(1 << 16)

    @cached_property
    def extent(self) -> Extent:
        return extent(self.core, 1 << 16)

    @cached_property
    def whole(self) -> bool:
        return self.values.is_whole

    @cached_property
    def unique(self) -> int:
        return len(np.unique(self.sample))

    @property
    def unit(self) -> bool:
        """Whether all values lie from 0 to 1."""
        return self.extent.finite > 0 and self.extent.low >= 0 and self.extent.high <= 1.0001

    @cached_property
    def decided(self) -> bool:
        """Whether values from 0 to 1 lie near one of the two, as those of masks do."""
        finite = self.sample[np.isfinite(self.sample)]
        near = np.mean((finite < 0.1) | (finite > 0.9)) if finite.size else 0
        return self.unit and not self.extent.flat and bool(near > 0.6)

    def guess(self) -> Guess:
        rank = len(self.core.shape)
        if rank == 3 and _one_channel(self.values.shape):
            return self._inside(_Look(self.core.at(0, 0), self.names).guess())
        if rank == 0:
            return self._as("table", "it is one number", "")
        if rank == 1:
            return self._vector()
        if rank == 2:
            return self._matrix()
        if rank == 3:
            return self._volume()
        return self._stack()

    def _as(self, kind: str, reason: str, core_axes: str, form: str = "") -> Guess:
        axes = "?" if kind in ("table", "histogram") else _expanded(self.values, core_axes)
        return Guess(kind, reason, axes, form)

    # one axis

    def _vector(self) -> Guess:
        length = self.core.shape[0]
        if self.names.says("boxes") and 4 <= length <= 7:
            form = _box_form(self._floats()[None, :4], named=True)
            if form:
                return self._as("boxes", f"its name says {self.names.says('boxes')!r}", "D", form)
        each = _coordinates(length)
        if each and self.names.hints("points") and not self.whole:
            return self._as("points", _said(self.names, "points"), "P", f"{each} in turn")
        if self.whole:
            return self._whole_vector(length)
        if word := self.names.says("signal"):
            return self._as("signal", f"its name says {word!r}", "T")
        if self.names.says("vector") and length > 16:
            return self._as("signal", _said(self.names, "vector"), "T")
        if self.names.says("rows") or length == 1:
            return self._as("table", "it is a short list of numbers", "T")
        if length <= 4096 and self._whole_numbers() and (length <= 16 or not self.extent.flat):
            return self._as("table", "it is a list of whole numbers", "T")
        if found := self._score_form():
            return self._as("scores", *found)
        if length <= 16:
            return self._as("table", "it is a short list of numbers", "T")
        return self._as("signal", "it is one row of numbers", "T")

    def _whole_vector(self, length: int) -> Guess:
        if self.values.datatype != "BOOL":
            score = self.names.says("scores") and not self.names.says("rows")
            if length in _CLASS_COUNTS and (score or self.values.datatype in ("UINT8", "INT8")):
                return self._as("scores", f"it has {length:,} whole numbers", "C", "counts")
            sound = self.values.datatype in ("INT16", "INT32") and self.extent.low < 0
            if length >= 1000 and (self.names.says("signal") or sound):
                return self._as("signal", "it is a long row of whole numbers", "T")
        return self._as("table", "it is a list of whole numbers", "T")

    def _score_form(self) -> tuple[str, str, str] | None:
        """Tell why a row of numbers is one of class scores, or None where it is not."""
        length = self.core.shape[0]
        row = self._floats()
        if length >= 3 and self._ranked(row):
            return None
        word = self.names.says("scores")
        if word and self._own("start", "end", "iou"):
            return None
        form = score_form(row)
        if form == "probabilities":
            return f"its {length:,} numbers are not negative and sum to 1", "C", form
        if word and (form != "independent" or length in _CLASS_COUNTS or length <= _MOST_LABELS):
            return f"its name says {word!r}", "C", form
        if length in _CLASS_COUNTS and length > 100:
            return f"it is one row of {length:,} numbers, as many as classes", "C", form
        if self.names.hints("scores") and (length in _CLASS_COUNTS or length <= 64):
            return _said(self.names, "scores"), "C", form
        if length in _CLASS_COUNTS and self._own("output"):
            return f"it is one row of {length:,} numbers, as many as classes", "C", form
        return None

    def _own(self, *words: str) -> bool:
        return bool(self.names.own.intersection(words))

    @staticmethod
    def _ranked(row: npt.NDArray[Any]) -> bool:
        """Whether scores fall from first to last: those of detections, not of classes."""
        falls = np.diff(row)
        with np.errstate(all="ignore"):
            return bool((falls <= 0).all() and (falls < 0).any() and abs(row.sum() - 1) > 1e-2)

    # two axes

    def _matrix(self) -> Guess:
        rows, columns = self.core.shape
        batch = len(self.values.shape) == 2
        if self.names.says("boxes") or not self.whole:
            found = self._boxes(self.core)
            if found:
                return found
        if found := self._points(self.core):
            return found
        if self.whole:
            return self._whole_matrix(rows, columns)
        if self.names.says("signal") and (rows <= _FEW or (batch and columns > 1000)):
            return self._as("signal", _said(self.names, "signal"), "CT")
        if self.names.says("signal") and columns <= _FEW and rows > 1000:
            return self._as("signal", _said(self.names, "signal"), "TC")
        if batch and (found := self._score_rows(rows, columns)):
            return found
        if min(rows, columns) >= _MAP_SIDE:
            return self._map(batch)
        if rows <= _FEW and columns >= 1000 and self._continuous():
            return self._as("signal", "it has few rows of many numbers in a line", "CT")
        if columns <= _FEW and (rows > 2 * columns or rows * columns <= 24):
            return self._as("table", f"it has {rows:,} rows of {columns} numbers", "HW")
        if rows * columns <= 24:
            return self._as("table", "it is small", "HW")
        return self._as("heatmap", "it has two axes", "HW")

    def _score_rows(self, rows: int, columns: int) -> Guess | None:
        """Class scores of a batch: the first axis counts the items."""
        if columns < 2 or self.names.says("map") or (rows >= 64 and not self.names.says("scores")):
            return None
        form = score_form(self._floats(self.core.at(0, 0)))
        word = self.names.says("scores")
        if form == "probabilities" and not self.names.says("features"):
            return self._as("scores", "each row sums to 1", "NC", form)
        if word and columns <= 30000 and not (self._own("start", "end", "iou")):
            return self._as("scores", f"its name says {word!r}", "NC", form)
        if columns in _CLASS_COUNTS and (columns > 100 or self.names.hints("scores")):
            return self._as("scores", f"its rows have {columns:,} numbers, as many as classes",
                            "NC", form)  # fmt: skip
        return None

    def _whole_matrix(self, rows: int, columns: int) -> Guess:
        datatype, small = self.values.datatype, min(rows, columns) < _MAP_SIDE
        if rows <= _FEW and columns >= 1000 and self.extent.low < 0:
            return self._as("signal", "it has few rows of many whole numbers", "CT")
        if small:
            if columns <= _FEW or rows * columns <= 64 or self.names.says("rows"):
                return self._as("table", "it has few columns of whole numbers", "HW")
            return self._as("heatmap", "it has two axes", "HW")
        if self.names.hints("depth"):
            return self._as("depth", _said(self.names, "depth"), "HW")
        if datatype == "BOOL" or (self.unique <= 2 and self.extent.high in (1, 255)):
            if self.names.hints("segmentation"):
                return self._as("segmentation", _said(self.names, "segmentation"), "HW", "ids")
            return self._as("probability", "it has two values only, as masks do", "HW", "mask")
        if self.names.says("image"):
            return self._as("image", _said(self.names, "image"), "HW")
        if self.names.hints("segmentation") or (self.extent.low >= 0 and 2 <= self.unique <= 40):
            said = self.names.hints("segmentation")
            why = _said(self.names, "segmentation") if said else (
                f"it has {self.unique} different whole numbers, as class numbers are"
            )  # fmt: skip
            return self._as("segmentation", why, "HW", "ids")
        if datatype in ("UINT8", "UINT16"):
            return self._as("image", f"it is {datatype} with two axes", "HW")
        return self._as("heatmap", "it has two axes", "HW")

    def _map(self, batch: bool) -> Guess:
        """Floats on two axes of some length."""
        names = self.names
        word = names.says("map")
        if word and not (word.startswith("activation") and self.decided):
            return self._as("heatmap", f"its name says {word!r}", "HW")
        for kind in ("depth", "image"):
            if names.hints(kind):
                return self._as(kind, _said(names, kind), "HW")
        if self.names.hints("segmentation") and self.unit is False and self._holds_ids():
            return self._as("segmentation", _said(names, "segmentation"), "HW", "ids")
        if names.says("features", "signal", "vector") or self._narrow():
            return self._as("heatmap", "it has two axes", "HW")
        if self.unit and (self.decided or names.says("scores") or names.hints("probability")):
            why = (
                "its values lie near 0 and 1, as those of masks do"
                if self.decided
                else "its values lie from 0 to 1, and its name says so"
            )
            return self._as("probability", why, "HW", "probabilities")
        if names.says("probability") or (not batch and names.hints("segmentation")):
            word = names.says("probability") or names.hints("segmentation")
            form = "probabilities" if self.unit else "logits"
            return self._as("probability", f"a name says {word!r}", "HW", form)
        if self._holds_ids() and 3 <= self.unique <= 40:
            return self._as("segmentation", "it holds few different whole numbers", "HW", "ids")
        return self._as("heatmap", "it has two axes", "HW")

    def _whole_numbers(self) -> bool:
        return self.extent.finite > 0 and bool((self.sample == np.rint(self.sample)).all())

    def _narrow(self) -> bool:
        """Whether one side is so much longer that it is no place in a picture."""
        rows, columns = self.core.shape
        return max(rows, columns) > 10 * min(rows, columns)

    def _continuous(self) -> bool:
        """Whether neighbours in a row are alike, as in a sound and not in scores."""
        row = self.core[0, :4096].astype(np.float64)
        spread = row.std() if np.isfinite(row).all() else 0
        return bool(spread and np.mean((row[1:] - row.mean()) * (row[:-1] - row.mean()))
                    > 0.5 * spread**2)  # fmt: skip

    def _holds_ids(self) -> bool:
        part = self.sample
        return bool(self.extent.low >= 0 and self.extent.high > 1 and (part == np.rint(part)).all())

    # three axes

    def _volume(self) -> Guess:
        shape, names = self.core.shape, self.names
        first, last = _channels_first(shape), _channels_last(shape)
        if self.whole:
            return self._whole_volume(first, last)
        if names.says("boxes") and shape[2] >= 4 and (found := self._boxes(self.core.at(0, 0))):
            return self._as("boxes", found.reason, "N" + _core_axes(found), found.form)
        if found := self._points(self.core):
            return found
        channels = "CHW" if first else "HWC" if last else ""
        named = self._named_volume(channels)
        if named:
            return named
        if channels:
            return self._channels(channels)
        if min(shape[1:]) >= 4:
            return self._planes()
        inner = _Look(self.core.at(0, 0), names).guess()
        return self._inside(inner)

    def _named_volume(self, channels: str) -> Guess | None:
        names, shape = self.names, self.core.shape
        count = shape[0] if channels == "CHW" else shape[2] if channels else 0
        if count == 2 and names.hints("flow"):
            return self._as("flow", _said(names, "flow"), channels)
        if names.says("depth") and shape[0] != 3:
            return self._as("depth", _said(names, "depth"), "NHW")
        if channels and names.says("segmentation"):
            return self._as("segmentation", _said(names, "segmentation"), channels, "scores")
        if names.says("features") and channels and count != 3:
            return self._as("features", _said(names, "features"), channels)
        if names.says("map", "vector") and count not in (1, 2, 3, 4):
            if shape[1] == shape[2] or names.says("map").startswith(("attention", "attn")):
                return self._as("features", _said(names, "map", "vector"), "CHW")
            return self._as("heatmap", _said(names, "map", "vector"), "NHW")
        return None

    def _channels(self, channels: str) -> Guess:
        """Floats with an axis of channels beside two of places."""
        names = self.names
        axis = 0 if channels == "CHW" else 2
        count = self.core.shape[axis]
        if count > 1 and self._sums_to_one(axis):
            return self._as(
                "segmentation", f"its {count} channels sum to 1 in each place", channels, "scores"
            )
        if count == 3 and not names.hints("segmentation"):
            return self._as("image", "it has three channels", channels)
        if word := names.says("probability"):
            form = "probabilities" if self.unit else "logits"
            return self._as("probability", f"its name says {word!r}", channels, form)
        if names.hints("segmentation") or (
            count in _SEGMENT_COUNTS and not names.hints("points") and min(self._sides(axis)) >= 16
        ):
            why = _said(names, "segmentation") if names.hints("segmentation") else (
                f"it has {count} channels, as many as the classes of a well-known data set"
            )  # fmt: skip
            return self._as("segmentation", why, channels, "scores")
        if count == 2:
            return self._two_channels(channels, axis)
        if count == 4 and (names.hints("image") or self._colored(axis)):
            return self._as("image", "it has four channels and the values of colours", channels)
        if self.unit and names.says("scores"):
            return self._as("probability", _said(names, "scores"), channels, "probabilities")
        return self._as("features", f"it has {count} channels", channels)

    def _two_channels(self, channels: str, axis: int) -> Guess:
        if self.unit:
            return self._as("features", "it has two channels from 0 to 1", channels)
        pair = self.core.arranged((axis, *_others(axis)))
        flat = pair.thinned((1, *pair.at(0, 0).steps(1 << 14))).read().reshape(2, -1)
        flat = flat[:, np.isfinite(flat).all(axis=0)].astype(np.float64)
        spread = flat.std(axis=1) if flat.shape[1] else np.zeros(2)
        if spread.all() and np.corrcoef(flat)[0, 1] < -0.8:
            why = "where one of its two channels is high the other is low"
            return self._as("segmentation", why, channels, "scores")
        return self._as("flow", "it has two channels of both signs", channels)

    def _planes(self) -> Guess:
        """Floats on three axes of which none stands out as the channels'."""
        shape, names = self.core.shape, self.names
        if word := names.says("probability"):
            form = "probabilities" if self.unit else "logits"
            return self._as("probability", f"its name says {word!r}", "CHW", form)
        if names.says("image"):
            return self._as("image", _said(names, "image"), "NHW")
        if min(shape[1:]) >= 4 and (shape[1] == shape[2] or names.hints("features")):
            return self._as("features", f"it has {shape[0]} maps", "CHW")
        return self._as("heatmap", "it has rows and columns", "NHW")

    def _whole_volume(self, first: bool, last: bool) -> Guess:
        shape, names = self.core.shape, self.names
        bytes_ = self.values.datatype == "UINT8"
        if last and shape[2] in (3, 4) and (bytes_ or names.hints("image")):
            return self._as("image", f"it has {shape[2]} channels", "HWC")
        if first and shape[0] in (3, 4) and (bytes_ or names.hints("image")):
            return self._as("image", f"it has {shape[0]} channels", "CHW")
        if names.says("boxes") and (found := self._boxes(self.core.at(0, 0))):
            return self._as("boxes", found.reason, "N" + _core_axes(found), found.form)
        inner = _Look(self.core.at(0, 0), names).guess()
        if inner.kind == "probability":
            return self._as("probability", inner.reason, "CHW", inner.form)
        return self._inside(inner)

    # more axes

    def _stack(self) -> Guess:
        """Four axes and more: the first counts items."""
        inner = _Look(self.core.at(0, 0), self.names).guess()
        return self._inside(inner)

    def _inside(self, inner: Guess) -> Guess:
        if inner.axes == "?":
            return inner
        return self._as(inner.kind, inner.reason, "N" + _core_axes(inner), inner.form)

    # boxes and points

    def _boxes(self, rows: Values) -> Guess | None:
        count, width = rows.shape if len(rows.shape) == 2 else (0, 0)
        named = self.names.hints("boxes")
        if 4 <= width <= 7:
            block = _every(rows, 512)
            for start in range(width - 3) if width > 4 else (0,):
                form = _box_form(block[:, start : start + 4], named=bool(named))
                if form and _rest_fits(block, start):
                    if not named and not (form == "corners" and len(block) > 1):
                        continue
                    why = (
                        _said(self.names, "boxes")
                        if named
                        else "each row is two corners of a rectangle"
                    )
                    return self._as("boxes", why, "BD", form)
            return None
        if count >= 100 and count > width > 7:
            block, axes = _every(rows, 512), "BD"
        elif width >= 100 and count > 4:
            block, axes = _every(rows.arranged((1, 0)), 512), "DB"
        else:
            return None
        raw = block[:, :4]
        finite = np.isfinite(block).all()
        fits = finite and (raw[:, 2:] > 0).all() and (raw > -50).all()
        scores = block[:, 4:]
        fits = fits and (scores[:, 0] >= 0).all() and (scores[:, 0] <= 1).all()
        if fits and raw.max() > 1.5 and (raw[:, 0].std() > 1 or named):
            why = "each has a centre, a size and scores from 0 to 1, as YOLO's do"
            return self._as("boxes", why, axes, "candidates")
        return None

    def _points(self, values: Values) -> Guess | None:
        shape = values.shape
        if self.whole or len(shape) not in (2, 3) or not 2 <= shape[-1] <= 5:
            return None
        word = self.names.hints("points")
        axes = "PD" if len(shape) == 2 else "NPD"
        if word and (shape[-2] <= 10000 and (len(shape) == 2 or shape[0] <= 1000)):
            return self._as("points", _said(self.names, "points"), axes)
        known = shape[-2] in _POINT_COUNTS - {5} and shape[-1] in (2, 3)
        if known and len(shape) == 2 and self._spread(values):
            why = f"it has {shape[-2]} rows of {shape[-1]} numbers, as skeletons have"
            return self._as("points", why, axes)
        return None

    @staticmethod
    def _spread(values: Values) -> bool:
        block = _every(values, 512)
        return bool(np.isfinite(block).all() and (block >= 0).mean() > 0.9)

    # what the rules ask about the values

    def _floats(self, row: Values | None = None) -> npt.NDArray[np.float64]:
        values = self.core if row is None else row
        part: npt.NDArray[np.float64] = values.sample(1 << 16).astype(np.float64)
        return part

    def _sides(self, axis: int) -> tuple[int, ...]:
        return tuple(side for i, side in enumerate(self.core.shape) if i != axis)

    def _sums_to_one(self, axis: int) -> bool:
        if not self.unit:
            return False
        order = (axis, *_others(axis))
        places = self.core.arranged(order)
        few = max(1, (1 << 16) // places.shape[0])
        part = places.thinned((1, *places.at(0, 0).steps(few))).read()
        with np.errstate(all="ignore"):
            return bool(np.allclose(part.sum(axis=0, dtype=np.float64), 1, atol=1e-2))

    def _colored(self, axis: int) -> bool:
        """Whether four channels may be red, green, blue and opacity."""
        alpha = self.core.at(axis, 3).sample(1 << 14)
        top = self.extent.high
        opaque = np.mean(np.isclose(alpha, 1) | np.isclose(alpha, 255))
        return self.extent.low >= 0 and top <= 255 and bool(opaque > 0.5)


def score_form(row: npt.NDArray[Any]) -> str:
    """Tell what the scores of one item are.

    Returns
    -------
    str
        ``probabilities`` (not negative, sum 1), ``log probabilities``, ``independent``
        (each from 0 to 1), or ``logits``.
    """
    values = np.asarray(row, np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        return "logits"
    if values.min() >= 0 and abs(values.sum() - 1) < 5e-3 and values.size > 1:
        return "probabilities"
    if values.min() >= 0 and values.max() <= 1:
        return "independent"
    if values.max() <= 1e-6 and abs(np.exp(values).sum() - 1) < 5e-3:
        return "log probabilities"
    return "logits"


# --- shapes --------------------------------------------------------------------------------------


def _core(values: Values) -> Values:
    return values.squeezed()


def _expanded(values: Values, core_axes: str) -> str:
    """Put a ``1`` where the tensor has an axis of one position."""
    letters = iter(core_axes)
    return "".join("1" if side == 1 else next(letters, "N") for side in values.shape)


def _core_axes(found: Guess) -> str:
    return found.axes.replace("1", "")


def _letters(values: Values, layout: str) -> str:
    """Give the axes of a tensor whose layout is known; more axes in front count items."""
    name = layout.upper()
    rank = len(values.shape)
    if sorted(name.replace("N", "")) not in (["H", "W"], ["C", "H", "W"]) or name.count("N") > 1:
        raise ArgumentError(f"there is no layout {layout!r}", "use NCHW, NHWC, NHW, CHW, HWC or HW")
    core = name.replace("N", "")
    if rank < len(core):
        raise ArgumentError(
            f"{values} has {rank} axes, and layout {layout} has {len(name)}",
            "give the layout of this tensor, or none",
        )
    return "N" * (rank - len(core)) + core


def _channels_first(shape: tuple[int, ...]) -> bool:
    count, rows, columns = shape
    if min(rows, columns) < 4:
        return False
    if rows == columns:
        return True
    if count == rows and columns > 4:
        return False
    return count < min(rows, columns) and not (columns <= 4 and rows >= 8)


def _channels_last(shape: tuple[int, ...]) -> bool:
    rows, columns, count = shape
    if min(rows, columns) < 4 or _channels_first(shape):
        return False
    return rows == columns or count < min(rows, columns)


def _one_channel(shape: tuple[int, ...]) -> bool:
    """Whether there are several items of two axes and one channel."""
    return len(shape) == 4 and shape[0] > 1 and (shape[1] == 1) != (shape[3] == 1)


def _others(axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(3) if i != axis)


def _coordinates(length: int) -> str:
    """Tell how many coordinates points of a flat row have, as ``2`` or ``3``."""
    for each in (3, 2, 5):
        if length % each == 0 and length // each in _POINT_COUNTS:
            return str(each)
    return ""


def _every(rows: Values, most: int) -> npt.NDArray[np.float64]:
    """Read at most so many rows, evenly spread, with all their columns."""
    step = max(1, -(-rows.shape[0] // most))
    columns = min(rows.shape[1], 512)
    block: npt.NDArray[np.float64] = rows[::step, :columns].astype(np.float64)
    return block


def _box_form(block: npt.NDArray[np.float64], *, named: bool) -> str:
    """Tell whether four columns are rectangles, and how: ``corners``, ``centres`` or ``""``."""
    full = block[np.isfinite(block).all(axis=1) & (block != 0).any(axis=1)]
    if not len(full):
        return "corners" if named and len(block) else ""
    size = np.abs(full).max()
    if (full < -0.25 * size).mean() > 0.05:
        return ""
    if ((full[:, 2] > full[:, 0]) & (full[:, 3] > full[:, 1])).mean() >= 0.95:
        return "corners"
    inside = (full[:, :2] - full[:, 2:] / 2 > -0.1 * size).all(axis=1).mean() > 0.9
    return "centres" if named and inside and (full[:, 2:] > 0).mean() >= 0.95 else ""


def _rest_fits(block: npt.NDArray[np.float64], start: int) -> bool:
    """Whether the columns beside a rectangle's can be scores, classes or numbers of items."""
    rest = np.delete(block, slice(start, start + 4), axis=1)
    for column in rest.T:
        unit = (column >= -1e-6).all() and (column <= 1 + 1e-6).all()
        if not unit and not (column == np.rint(column)).all():
            return False
    return True


def _said(names: _Names, *kinds: str) -> str:
    own = names.says(*kinds)
    if own:
        return f"its name says {own!r}"
    word = next((names.hints(kind) for kind in kinds if names.hints(kind)), "")
    return f"the model's name says {word!r}"


# --- a kind that was asked for -------------------------------------------------------------------


def _of_rank(*axes: str) -> Any:
    """Choose the axes by the number of axes; more in front count items."""
    by_rank = {len(each): each for each in axes}

    def choose(core: Values) -> str | None:
        rank = len(core.shape)
        if rank in by_rank:
            return by_rank[rank]
        most = max(by_rank)
        return "N" * (rank - most) + by_rank[most] if rank > most else None

    return choose


def _asked_image(core: Values) -> str | None:
    shape = core.shape
    if len(shape) < 2:
        return None
    if len(shape) == 2:
        return "HW"
    lead = "N" * (len(shape) - 3)
    if shape[-3] in (3, 4) and shape[-1] not in (3, 4):
        return lead + "CHW"
    return lead + ("HWC" if shape[-1] in (3, 4) else "CHW" if shape[-3] in (3, 4) else "NHW")


def _asked_channels(core: Values) -> str | None:
    shape = core.shape
    if len(shape) < 3:
        return "HW" if len(shape) == 2 else None
    last = _channels_last(shape[-3:])
    return "N" * (len(shape) - 3) + ("HWC" if last else "CHW")


def _asked_planes(core: Values) -> str | None:
    return "N" * (len(core.shape) - 2) + "HW" if len(core.shape) >= 2 else None


def _asked_features(core: Values) -> str | None:
    axes = _asked_channels(core)
    return "CHW"[1:] if axes == "HW" else axes


def _asked_flow(core: Values) -> str | None:
    shape = core.shape
    if len(shape) < 3:
        return None
    lead = "N" * (len(shape) - 3)
    return lead + "CHW" if shape[-3] == 2 else lead + "HWC" if shape[-1] == 2 else None


def _asked_boxes(core: Values) -> str | None:
    shape = core.shape
    if len(shape) == 1:
        return "D" if shape[0] >= 4 else None
    if len(shape) < 2:
        return None
    lead = "N" * (len(shape) - 2)
    if shape[-1] > shape[-2] and shape[-2] >= 5 and shape[-1] >= 100:
        return lead + "DB"
    return lead + "BD" if shape[-1] >= 4 else lead + "DB" if shape[-2] >= 4 else None


def _asked_points(core: Values) -> str | None:
    shape = core.shape
    if len(shape) == 1:
        return "P" if shape[0] % 2 == 0 or shape[0] % 3 == 0 else None
    if not shape:
        return None
    return "N" * (len(shape) - 2) + "PD" if shape[-1] >= 2 else None


def _asked_signal(core: Values) -> str | None:
    shape = core.shape
    if not shape:
        return None
    return "T" if len(shape) == 1 else "N" * (len(shape) - 2) + "CT"


_ASKED = {
    "image": _asked_image,
    "heatmap": _asked_planes,
    "features": _asked_features,
    "scores": _of_rank("C"),
    "segmentation": _asked_channels,
    "probability": _asked_channels,
    "boxes": _asked_boxes,
    "points": _asked_points,
    "depth": _asked_planes,
    "flow": _asked_flow,
    "signal": _asked_signal,
}

_NEEDS = {
    "image": "an image has rows and columns",
    "heatmap": "a map has rows and columns",
    "features": "feature maps have rows and columns",
    "scores": "scores are a row of numbers",
    "segmentation": "a segmentation has rows and columns",
    "probability": "a map has rows and columns",
    "boxes": "each box has four numbers or more",
    "points": "each point has two numbers or more",
    "depth": "a map has rows and columns",
    "flow": "optical flow has two channels",
    "signal": "a signal has a row of numbers",
}


def _look_again(found: Guess, values: Values) -> Guess:
    """Find out the form of a kind that was asked for."""
    core = _core(values)
    form = ""
    if found.kind == "scores":
        row = core
        while len(row.shape) > 1:
            row = row.at(0, 0)
        form = "counts" if values.is_whole else score_form(row.sample(1 << 16))
    elif found.kind == "segmentation":
        form = "ids" if "C" not in found.axes else "scores"
    elif found.kind == "probability":
        reach = extent(core)
        form = "mask" if values.is_whole else (
            "probabilities" if reach.low >= 0 and reach.high <= 1.0001 else "logits"
        )  # fmt: skip
    elif found.kind == "points" and "D" not in found.axes:
        form = f"{_coordinates(core.shape[0]) or (2 if core.shape[0] % 2 == 0 else 3)} in turn"
    elif found.kind == "boxes":
        rows = core
        while len(rows.shape) > 2:
            rows = rows.at(0, 0)
        if len(rows.shape) == 1:
            block = rows.read()[None].astype(np.float64)
        else:
            rows = rows.arranged((1, 0)) if _core_axes(found).endswith("DB") else rows
            block = _every(rows, 512)
        form = "candidates" if block.shape[1] > 7 else _box_form(block[:, :4], named=True)
        form = form or "corners"
    return Guess(found.kind, found.reason, found.axes, form)
