"""Two arrays side by side: by how much they differ, and where."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonic_nb.errors import (
    ArgumentError,
    TensorDatatypeError,
    TensorShapeError,
    brief,
)
from tritonic_nb.render.datatype import datatype_name, is_number
from tritonic_nb.render.diff_picture import side_by_side
from tritonic_nb.render.markup import Rich
from tritonic_nb.render.picture import Picture
from tritonic_nb.render.reprs import Cell, Described, Description, Table
from tritonic_nb.render.tensor import Summary, quoted

__all__ = ["Difference", "Place", "compare"]

# Below these, of |b| and as they are, numbers count as the same: a few of the smallest steps
# of each datatype, as two machines that compute the same have them between them.
_TOLERANCE = {"FP16": 1e-3, "BF16": 1e-2, "FP32": 1e-5, "FP64": 1e-8}
_MOST_PLACES = 5
_CHUNK = 2**16


@dataclass(frozen=True)
class Place:
    """One element that differs.

    Attributes
    ----------
    index
        Where it is, one number for each dimension.
    a, b
        What stands there, in words.
    error
        Their distance; infinite where there is none, as between a number and NaN, or two
        texts.
    """

    index: tuple[int, ...]
    a: str
    b: str
    error: float


@dataclass(frozen=True, repr=False, eq=False)
class Difference(Described):
    """By how much two arrays of the same shape and datatype differ, and where.

    Attributes
    ----------
    a, b
        The arrays.
    names
        What they are called.
    rtol, atol
        An element differs where ``|a - b| > atol + rtol * |b|``, or one is NaN and the
        other is not, or one is infinite and the other is not the same.
    different
        How many elements differ.
    max_error, where
        The largest ``|a - b|`` of finite numbers, and its index: the first where there are
        several. None where there is none, as between texts and truth values.
    mean_error
        The mean of ``|a - b|`` over the same elements.
    relative_error
        The mean error as a part of the mean of ``|b|``: 0.01 is one percent.
    nan_only_in_a, nan_only_in_b
        How many elements are NaN in one of them only.
    infinite
        How many are infinite in one, and not the same in the other.
    places
        The elements that differ most, at most five: first those without a distance, in
        order, and then those farthest apart.
    """

    a: npt.NDArray[Any]
    b: npt.NDArray[Any]
    names: tuple[str, str]
    rtol: float
    atol: float
    different: int
    max_error: float | None
    where: tuple[int, ...] | None
    mean_error: float | None
    relative_error: float | None
    nan_only_in_a: int
    nan_only_in_b: int
    infinite: int
    places: tuple[Place, ...]

    @property
    def same(self) -> bool:
        """Whether no element differs by more than the tolerance."""
        return not self.different

    @cached_property
    def _picture(self) -> Picture | None:
        at = self.places[0].index if self.where is None and self.places else self.where
        return side_by_side(self.a, self.b, self.names, at, self.verdict)

    def picture(self) -> Picture | None:
        """Return both arrays and their difference as a picture.

        Returns
        -------
        Picture or None
            Maps and images beside one another with their difference, where red is more
            in a and blue more in b; everything else as curves or bars. None where there is
            nothing to draw: texts, single numbers, nothing.
        """
        return self._picture

    @property
    def verdict(self) -> str:
        """The difference in one line."""
        if self.max_error:
            mean = f"{self.mean_error:.4g}"
            return f"{self._share}, by {self.max_error:.4g} at most and {mean} on average"
        return self._share

    @property
    def _share(self) -> str:
        if not self.a.size:
            return "both are empty"
        of = f"of {self.a.size:,} element{'' if self.a.size == 1 else 's'}"
        if self.different:
            differ = "differs" if self.different == 1 else "differ"
            return f"{self.different:,} {of} {differ} ({_percent(self.different / self.a.size)})"
        if self.max_error:
            return f"none {of} differs by more than the tolerance"
        return "no difference"

    def _described(self) -> Description:
        rows: list[tuple[str, Cell]] = [
            (name, Summary.of(array).line)
            for name, array in zip(self.names, (self.a, self.b), strict=True)
        ]
        return self._title, [*rows, *self.figures()], self._tables()

    def _drawn(self) -> Picture | None:
        return self.picture()

    @property
    def _title(self) -> str:
        return f"Difference of {self.names[0]} and {self.names[1]}: {self._share}"

    def figures(self) -> list[tuple[str, str]]:
        """Return the figures in words, by name."""
        rows = []
        if self.max_error is not None and self.where is not None:
            at = f" at {list(self.where)}" if self.max_error else ""
            rows.append(("max error", f"{self.max_error:.4g}{at}"))
            rows.append(("mean error", f"{self.mean_error:.4g}"))
            rows.append(
                ("relative", f"{_percent(self.relative_error)} of the mean of |{self.names[1]}|")
            )
        odd = [
            *_counted(self.nan_only_in_a, f"NaN in {self.names[0]} only"),
            *_counted(self.nan_only_in_b, f"NaN in {self.names[1]} only"),
            *_counted(self.infinite, "infinite in one of them"),
        ]
        if odd:
            rows.append(("not numbers", ", ".join(odd)))
        if self.rtol or self.atol:
            rows.append(("tolerance", f"{self.atol:g} + {self.rtol:g} |{self.names[1]}|"))
        return rows

    def _tables(self) -> list[Table]:
        rows: list[tuple[Cell, ...]] = [
            (Rich.unbroken(str(list(place.index))), place.a, place.b,
             "" if math.isinf(place.error) else f"{place.error:.4g}")
            for place in self.places
        ]  # fmt: skip
        columns = ("index", *self.names, "apart")
        return [Table("farthest apart", columns, rows, (1, 2, 3), open=False)] if rows else []


def compare(
    a: npt.NDArray[Any],
    b: npt.NDArray[Any],
    *,
    names: Sequence[str] = ("a", "b"),
    rtol: float | None = None,
    atol: float | None = None,
) -> Difference:
    """Compare two arrays, element by element. Every element is looked at.

    Parameters
    ----------
    a, b
        Arrays of the same shape and datatype, of any memory layout.
    names
        What they are called.
    rtol, atol
        How far they may be apart: ``atol + rtol * |b|``. By default both are 1e-8 for FP64,
        1e-5 for FP32, 1e-3 for FP16, 1e-2 for BF16, and 0 for all else.

    Raises
    ------
    TensorShapeError, TensorDatatypeError
        With both, where they are not the same or cannot be compared.
    ArgumentError
        If a tolerance is no number from 0 on, or there are not two names.
    """
    a, b = np.asarray(a), np.asarray(b)
    first, second = _two_names(names)
    kind = _common_datatype(a, b, (first, second))
    default = _TOLERANCE.get(kind, 0.0)
    rtol, atol = (_tolerance(default if t is None else t) for t in (rtol, atol))
    found = _Found()
    if kind == "BYTES":
        _compare_texts(a, b, found)
    elif kind == "BOOL":
        _compare_truths(a, b, found)
    else:
        with np.errstate(all="ignore"):  # what is no number is counted
            _compare_numbers(a, b, rtol, atol, found)
    places = [*found.odd, *sorted(found.far, key=lambda far: (-far[0], far[1]))][:_MOST_PLACES]
    where = _index(found.at, a.shape) if found.max_error is not None else None
    return Difference(
        a=a,
        b=b,
        names=(first, second),
        rtol=rtol,
        atol=atol,
        different=found.different,
        max_error=found.max_error,
        where=where,
        mean_error=None if found.max_error is None else found.mean_error,
        relative_error=None if found.max_error is None else found.relative_error,
        nan_only_in_a=found.nan_only_in_a,
        nan_only_in_b=found.nan_only_in_b,
        infinite=found.infinite,
        places=tuple(_place(a, b, at, error) for error, at in places),
    )


class _Found:
    """What was found so far."""

    def __init__(self) -> None:
        self.different = 0
        self.max_error: float | None = None
        self.at = 0
        self.mean_error = self.mean_size = 0.0
        self.nan_only_in_a = self.nan_only_in_b = self.infinite = 0
        self.odd: list[tuple[float, int]] = []  # each an error and a position
        self.far: list[tuple[float, int]] = []
        self.compared = 0

    @property
    def relative_error(self) -> float:
        if self.mean_size:
            return self.mean_error / self.mean_size
        return math.inf if self.mean_error else 0.0

    def add_means(self, errors: npt.NDArray[Any], sizes: npt.NDArray[Any], count: int) -> None:
        """Bring more elements into the means; those that do not count are 0."""
        if count:
            self.compared += count
            share = 1 / self.compared
            # Made smaller first: a sum of large numbers could be more than a number holds.
            self.mean_error += float((errors * share).sum()) - self.mean_error * count * share
            self.mean_size += float((sizes * share).sum()) - self.mean_size * count * share

    def add_odd(self, positions: npt.NDArray[np.intp]) -> None:
        """Note elements without a distance, of which the first are kept."""
        room = _MOST_PLACES - len(self.odd)
        self.odd += [(math.inf, int(position)) for position in positions[:room]]

    def add_far(
        self, errors: npt.NDArray[Any], differs: npt.NDArray[np.bool_], offset: int
    ) -> None:
        """Note the elements that are farthest apart, of which the first few are kept."""
        if len(self.far) == _MOST_PLACES:
            differs = differs & (errors > self.far[-1][0])
        positions = np.flatnonzero(differs)
        if len(positions) > _MOST_PLACES:
            # Stable, so that of equal ones the first are kept.
            largest = np.argsort(-errors[positions].astype(np.float64), kind="stable")
            positions = positions[largest[:_MOST_PLACES]]
        self.far += [(float(errors[position]), offset + int(position)) for position in positions]
        self.far = sorted(self.far, key=lambda far: (-far[0], far[1]))[:_MOST_PLACES]


def _compare_numbers(
    a: npt.NDArray[Any], b: npt.NDArray[Any], rtol: float, atol: float, found: _Found
) -> None:
    whole = a.dtype.kind in "iu"
    offset = 0
    for left, right in _chunks(a, b):
        errors, sizes = (_whole_errors if whole else _float_errors)(left, right)
        count = left.size
        if whole:
            differs = errors > (atol + rtol * sizes if rtol or atol else 0)
        else:
            differs = errors > atol + rtol * sizes
            known = np.isfinite(left) & np.isfinite(right)
            count = int(np.count_nonzero(known))
            if count < left.size:
                _compare_odd(left, right, ~known, offset, found)
                errors, sizes = np.where(known, errors, 0.0), np.where(known, sizes, 0.0)
                differs &= known
        found.different += int(np.count_nonzero(differs))
        found.add_means(errors, sizes, count)
        at = int(errors.argmax())
        if count and (found.max_error is None or errors[at] > found.max_error):
            found.max_error, found.at = errors[at].item(), offset + at
        if differs.any():
            found.add_far(errors, differs, offset)
        offset += left.size


def _compare_truths(a: npt.NDArray[Any], b: npt.NDArray[Any], found: _Found) -> None:
    offset = 0
    for left, right in _chunks(a, b):
        positions = np.flatnonzero(left != right)
        found.different += len(positions)
        found.add_odd(offset + positions)
        offset += left.size


def _whole_errors(
    left: npt.NDArray[Any], right: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return distances, exactly, and how large `right` is."""
    unsigned = np.dtype(f"u{left.dtype.itemsize}")
    # Of signed numbers it may go beyond their range, and is right again without a sign.
    apart = np.where(left > right, left - right, right - left).astype(unsigned)
    return apart, np.abs(right.astype(np.float64))


def _float_errors(
    left: npt.NDArray[Any], right: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    numbers = right.astype(np.float64)
    return np.abs(left.astype(np.float64) - numbers), np.abs(numbers)


def _compare_odd(
    left: npt.NDArray[Any],
    right: npt.NDArray[Any],
    odd: npt.NDArray[np.bool_],
    offset: int,
    found: _Found,
) -> None:
    """Compare the elements of which one at least is NaN or infinite."""
    positions = np.flatnonzero(odd)
    one, other = left[positions].astype(np.float64), right[positions].astype(np.float64)
    nan_one, nan_other = np.isnan(one), np.isnan(other)
    found.nan_only_in_a += int((nan_one & ~nan_other).sum())
    found.nan_only_in_b += int((nan_other & ~nan_one).sum())
    infinite = ~nan_one & ~nan_other & (one != other)
    found.infinite += int(infinite.sum())
    differs = (nan_one ^ nan_other) | infinite
    found.different += int(differs.sum())
    found.add_odd(offset + positions[differs])


def _compare_texts(a: npt.NDArray[Any], b: npt.NDArray[Any], found: _Found) -> None:
    for position, (left, right) in enumerate(zip(a.flat, b.flat, strict=True)):
        if _as_bytes(left) != _as_bytes(right):
            found.different += 1
            if len(found.odd) < _MOST_PLACES:
                found.odd.append((math.inf, position))


def _as_bytes(text: Any) -> bytes:
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    raise TensorDatatypeError(
        f"a BYTES element is {brief(text)}, neither bytes nor text", "convert it: str(x)"
    )


def _chunks(
    a: npt.NDArray[Any], b: npt.NDArray[Any]
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Give both arrays' elements in the order of their indices, without a copy of the whole."""
    if a.size:
        yield from np.nditer(
            (a, b), ["external_loop", "buffered", "zerosize_ok"], order="C", buffersize=_CHUNK
        )


def _common_datatype(a: npt.NDArray[Any], b: npt.NDArray[Any], names: tuple[str, str]) -> str:
    """Return the datatype of both, if they can be compared."""
    kinds = datatype_name(a.dtype), datatype_name(b.dtype)
    both = [
        f"{name} is {kind} {list(array.shape)}"
        for name, kind, array in zip(names, kinds, (a, b), strict=True)
    ]
    if a.shape != b.shape:
        raise TensorShapeError(
            f"the shapes differ: {both[0]} and {both[1]}",
            "compare the parts that belong together, such as diff(a[0], b)",
        )
    if kinds[0] != kinds[1]:
        raise TensorDatatypeError(
            f"the datatypes differ: {both[0]} and {both[1]}",
            "convert one of them: diff(a.astype(b.dtype), b)",
        )
    if kinds[0] != "BYTES" and not is_number(a.dtype):
        raise TensorDatatypeError(
            f"{both[0]}, which cannot be compared", "give numbers, truth values or texts"
        )
    return kinds[0]


def _two_names(names: Sequence[str]) -> tuple[str, str]:
    if isinstance(names, str) or not isinstance(names, Sequence) or len(names) != 2:
        raise ArgumentError(f"names is {brief(names)}", 'give two: names=("before", "after")')
    return str(names[0]), str(names[1])


def _tolerance(value: object) -> float:
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not 0 <= float(value) < math.inf:  # type: ignore[arg-type]
        raise ArgumentError(f"a tolerance is {brief(value)}", "give a number from 0 on")
    return float(value)  # type: ignore[arg-type]


def _index(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(each) for each in np.unravel_index(position, shape))


def _place(a: npt.NDArray[Any], b: npt.NDArray[Any], position: int, error: float) -> Place:
    index = _index(position, a.shape)
    return Place(index, _word(a[index]), _word(b[index]), error)


def _word(value: Any) -> str:
    if isinstance(value, (bytes, str)):
        return quoted(value)
    if isinstance(value, np.bool_):
        return str(bool(value))
    return f"{int(value):,}" if isinstance(value, np.integer) else f"{float(value):.6g}"


def _percent(part: float | None) -> str:
    return "" if part is None else f"{100 * part:.3g}%"


def _counted(count: int, word: str) -> list[str]:
    return [f"{count:,} {word}"] if count else []
