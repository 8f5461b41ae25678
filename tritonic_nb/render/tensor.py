"""Arrays in one line."""

from __future__ import annotations

import math
from codecs import getincrementaldecoder
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import brief
from tritonic_nb.render import sparkline
from tritonic_nb.render.datatype import TEXT_KINDS, datatype_name, is_number
from tritonic_nb.render.human import human_bytes
from tritonic_nb.render.markup import Rich, escape, fill, offered, shown, stylesheet, unbroken
from tritonic_nb.render.statistics import Statistics, statistics_of

__all__ = ["Summary", "quoted", "summarise"]

_MOST_TEXTS = 100_000  # whose sizes are looked at
_FIRST_TEXTS = 3
_LONGEST_TEXT = 24  # characters of one that is shown


@dataclass(frozen=True, repr=False)
class Summary:
    """An array in one line, as text and as HTML.

    Attributes
    ----------
    datatype
        Triton's name for it, or NumPy's where Triton has none.
    shape
        As NumPy gives it.
    nbytes
        The elements' bytes; of texts, those of the texts themselves.
    where
        Where it lies, in words, or ``""``.
    statistics
        What its numbers are like; None for texts, for complex numbers, and where there is
        nothing.
    words
        What there is to say besides.
    """

    datatype: str
    shape: tuple[int, ...]
    nbytes: int
    where: str
    statistics: Statistics | None
    words: tuple[str, ...]

    @classmethod
    def of(cls, array: npt.NDArray[Any], where: str = "") -> Summary:
        """Look at an array; the parameters are those of :func:`summarise`."""
        array = np.asarray(array)
        datatype, shape = datatype_name(array.dtype), tuple(array.shape)
        if array.dtype.kind in TEXT_KINDS:
            nbytes, words = _texts(array)
            return cls(datatype, shape, nbytes, where, None, words)
        if not array.size:
            return cls(datatype, shape, int(array.nbytes), where, None, ("empty",))
        known = statistics_of(array) if is_number(array.dtype) else None
        return cls(datatype, shape, int(array.nbytes), where, known, ())

    @classmethod
    def unread(cls, dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> Summary:
        """Say of an array in another memory what is known without reading it."""
        nbytes = math.prod(shape) * dtype.itemsize
        return cls(datatype_name(dtype), tuple(shape), nbytes, "", None, (where, "not read"))

    def __str__(self) -> str:
        return shown(", ".join([self.tensor.text, *self._texts(), *filter(None, [self.where])]))

    __repr__ = __str__

    @property
    def html(self) -> str:
        """The same as HTML, to stand among other text; what is wrong with it is marked."""
        where = [escape(self.where)] if self.where else []
        values = self.values.html
        return ", ".join([self.tensor.html, *([values] if values else []), *where])

    @property
    def line(self) -> Rich:
        """Both."""
        return Rich(str(self), self.html)

    @property
    def tensor(self) -> Rich:
        """Datatype, shape and bytes."""
        parts = f"{self.datatype} {list(self.shape)}", human_bytes(self.nbytes)
        return Rich(", ".join(parts), ", ".join(map(unbroken, parts)))

    @property
    def values(self) -> Rich:
        """The rest: what the elements are like."""
        marked = [
            f'<strong class="tnb-alarm">{unbroken(word)}</strong>' if wrong else unbroken(word)
            for word, wrong in self._alarms()
        ]
        figures = self._figures()
        words = [
            *map(escape if self.words else unbroken, figures),
            *marked,
            *map(escape, self._sampling()),
        ]
        drawn = f"{sparkline.svg(self._bars)} " if self._bars else ""
        return Rich(shown(", ".join(self._texts())), drawn + ", ".join(words))

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        html = fill("line", style=stylesheet(), line=self.html)
        return offered({"text/plain": str(self), "text/html": html}, include, exclude)

    @property
    def _bars(self) -> Sequence[int]:
        # Of truth values there is nothing to see that a part in a hundred does not say.
        return (
            ()
            if self.statistics is None or self.datatype == "BOOL"
            else (self.statistics.histogram)
        )

    def _texts(self) -> list[str]:
        alarms = [word for word, _ in self._alarms()]
        drawn = [sparkline.blocks(self._bars)] if self._bars else []
        return [*self._figures(), *alarms, *drawn, *self._sampling()]

    def _figures(self) -> list[str]:
        known = self.statistics
        if known is None or known.minimum is None or known.maximum is None:
            return list(self.words)
        if self.datatype == "BOOL":
            return [f"{1 - known.zeros / known.count:.1%} true"]
        if known.minimum == known.maximum:
            return [f"{'all' if known.count > 1 else 'value'} {_number(known.minimum)}"]
        return [
            f"min {_number(known.minimum)}",
            f"max {_number(known.maximum)}",
            f"mean {known.mean:.4g}",
            f"std {known.std:.4g}",
        ]

    def _alarms(self) -> list[tuple[str, bool]]:
        known = self.statistics
        if known is None or self.datatype == "BOOL":
            return []
        zeros = 0 if known.minimum == known.maximum else known.zeros
        counts = (
            (zeros, "zero" if zeros == 1 else "zeros", False),
            (known.nans, "NaN", True),
            (known.above, "+Inf", True),
            (known.below, "-Inf", True),
        )
        return [(f"{count:,} {word}", wrong) for count, word, wrong in counts if count]

    def _sampling(self) -> list[str]:
        """Say which figures are not of every element."""
        known = self.statistics
        if known is not None and known.step > 1:
            return [f"all figures from 1 in {known.step:,}"]
        if known is not None and known.histogram_step > 1 and self._bars:
            return [f"histogram from 1 in {known.histogram_step:,}"]
        return []


def summarise(array: npt.NDArray[Any], where: str = "") -> str:
    """Describe an array in one line.

    Parameters
    ----------
    array
        Any array; ``bfloat16`` and BYTES (objects, strings) included.
    where
        Where it lies, such as ``"over the wire"``: the line ends with it.

    Returns
    -------
    str
        Datatype (Triton's name), shape, bytes; for numbers the lowest, highest, mean and
        standard deviation of the finite values, how many are zero, NaN or infinite, and a
        histogram; for texts their sizes and the first ones. The size of texts is their own,
        without the lengths that Triton puts before them.

    Notes
    -----
    Of up to 64 MiB all figures are exact but the histogram, which is made of at most 2**20
    elements. Of more, all are of at most 2**22 elements, evenly along the longest axis; of
    more than 100,000 texts as many are looked at. The line says so.

    Examples
    --------
    >>> summarise(np.array([[0.5, 1.5]], np.float32))
    'FP32 [1, 2], 8 B, min 0.5, max 1.5, mean 1, std 0.5, █▁▁▁▁▁▁▁▁▁▁▁▁▁▁█'
    """
    return str(Summary.of(array, where))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _texts(array: npt.NDArray[Any]) -> tuple[int, tuple[str, ...]]:
    """Return the bytes of texts, and what there is to say of them."""
    if not array.size:
        return 0, ("empty",)
    step = -(-array.size // _MOST_TEXTS)
    items = array.flat[::step].tolist()
    sizes = np.array([_text_nbytes(item) for item in items])
    least, most, typical = int(sizes.min()), int(sizes.max()), round(float(np.median(sizes)))
    count = f"{array.size:,} {'text' if array.size == 1 else 'texts'}"
    of = f"{least:,} B" if least == most else f"{least:,} to {most:,} B, typically {typical:,}"
    first = [quoted(item) for item in array.flat[:_FIRST_TEXTS].tolist()]
    more = ", …" if array.size > _FIRST_TEXTS else ""
    words = [f"{count} of {of}", *([f"sizes from 1 in {step:,}"] if step > 1 else [])]
    # With a step, the bytes of all are reckoned from those that were looked at.
    total = int(sizes.sum()) if step == 1 else round(float(sizes.mean()) * array.size)
    return total, (*words, ", ".join(first) + more)


def _text_nbytes(item: object) -> int:
    if isinstance(item, bytes):
        return len(item)
    return len((item if isinstance(item, str) else brief(item)).encode("utf-8", "replace"))


def quoted(item: object) -> str:
    """Write a text in quotes and short, with escapes for what cannot be shown."""
    if isinstance(item, bytes):
        start = item[: 4 * _LONGEST_TEXT]  # of UTF-8, at least as many characters as are shown
        with suppress(UnicodeDecodeError):  # what is no text is shown as bytes
            item = getincrementaldecoder("utf-8")().decode(start, final=len(start) == len(item))
    if not isinstance(item, bytes | str):
        return brief(item)
    text = repr(item[:_LONGEST_TEXT])
    return text if len(item) <= _LONGEST_TEXT else f"{text}…"
