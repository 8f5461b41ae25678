"""Two arrays, or the results of two inferences, compared: :func:`diff`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tritonic_nb import render
from tritonic_nb.errors import ArgumentError, TensorNameError, TritonicError, brief
from tritonic_nb.render import Difference, Rich
from tritonic_nb.result import InferenceResult

__all__ = ["Difference", "ResultDifference", "diff"]


class ResultDifference(render.Described, Mapping[str, Difference]):
    """How the outputs of two inferences differ, by name: a mapping of :class:`Difference`.

    Attributes
    ----------
    a, b
        What was compared.
    names
        What they are called.
    only_in_a, only_in_b
        The outputs that only one of them has.
    """

    def __init__(
        self,
        a: Mapping[str, Any],
        b: Mapping[str, Any],
        names: tuple[str, str],
        outputs: Mapping[str, Difference],
    ) -> None:
        self.a = a
        self.b = b
        self.names = names
        self.only_in_a = tuple(name for name in a if name not in b)
        self.only_in_b = tuple(name for name in b if name not in a)
        self._outputs = dict(outputs)

    @property
    def same(self) -> bool:
        """Whether no element of any compared output differs by more than the tolerance."""
        return all(each.same for each in self._outputs.values())

    def __getitem__(self, name: str) -> Difference:
        try:
            return self._outputs[name]
        except (KeyError, TypeError):  # TypeError: a list, say, which is no key at all
            raise TensorNameError(
                f"no output {brief(name)} was compared", f"use one of {', '.join(self._outputs)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._outputs)

    def _described(self) -> render.Description:
        rows = [
            (name, _origin(each))
            for name, each in zip(self.names, (self.a, self.b), strict=True)
            if isinstance(each, InferenceResult)
        ]
        for name, only in zip(self.names, (self.only_in_a, self.only_in_b), strict=True):
            if only:
                rows.append((f"only in {name}", ", ".join(only)))
        if self._most_different is not None:
            rows.append(("drawn", f"{self._most_different}, which differs most"))
        table = render.Table(
            "outputs",
            ("name", "differ", "max error", "at", "mean error", "relative"),
            [_cells(name, each) for name, each in self._outputs.items()],
            numeric=(1, 2, 4, 5),
        )
        verdict = "no difference beyond the tolerance" if self.same else "they differ"
        return f"Difference of {self.names[0]} and {self.names[1]}: {verdict}", rows, [table]

    def _drawn(self) -> render.Picture | None:
        return None if self._most_different is None else self[self._most_different].picture()

    @property
    def _most_different(self) -> str | None:
        """The output that is drawn: the one that differs most, as a part of its own size."""
        drawn = {
            name: each.relative_error or 0.0
            for name, each in self._outputs.items()
            if not each.same and each.max_error is not None
        }
        return max(drawn, key=lambda name: drawn[name], default=None)


def diff(
    a: Any,
    b: Any,
    *,
    names: Sequence[str] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    outputs: Sequence[str] | None = None,
) -> Difference | ResultDifference:
    """Compare two arrays, or two results: before and after, model A and model B.

    Parameters
    ----------
    a, b
        Two arrays of the same shape and datatype, or two results (or mappings of names to
        arrays), whose outputs of the same names are compared.
    names
        What they are called; for results of two models their names, and else a and b.
    rtol, atol
        How far numbers may be apart: ``atol + rtol * |b|``. By default both are 1e-8 for
        FP64, 1e-5 for FP32, 1e-3 for FP16, 1e-2 for BF16, and 0 for all else.
    outputs
        The outputs to compare, for results; by default all that both have.

    Returns
    -------
    Difference or ResultDifference
        The largest and mean error, where, how many elements differ, and a picture; of
        results one for each output, by name.

    Raises
    ------
    TensorShapeError, TensorDatatypeError
        With both, where they are not the same.
    TensorNameError
        If an output is not in both results, or none is.
    ArgumentError
        If one is a result and the other none, or an argument is of the wrong form.

    Examples
    --------
    >>> diff(np.float32([1, 2, 3]), np.float32([1, 2, 4])).max_error
    1.0
    """
    if isinstance(a, Mapping) != isinstance(b, Mapping):
        raise ArgumentError(
            f"{type(a).__name__} and {type(b).__name__} cannot be compared",
            "give two results or two arrays, such as diff(result['logits'], expected)",
        )
    if isinstance(a, Mapping):
        called = _names(a, b) if names is None else names
        wanted = _wanted(a, b, outputs)
        return _diff_results(a, b, wanted, called, {"rtol": rtol, "atol": atol})
    if outputs is not None:
        raise ArgumentError("outputs were named, and arrays have none", "leave outputs out")
    return render.compare(
        _array(a), _array(b), names=("a", "b") if names is None else names, rtol=rtol, atol=atol
    )


def _wanted(a: Mapping[str, Any], b: Mapping[str, Any], outputs: Sequence[str] | None) -> list[str]:
    """Return the names of the outputs to compare."""
    if outputs is None:
        names = [name for name in a if name in b]
    else:
        names = [outputs] if isinstance(outputs, str) else list(outputs)
    missing = [name for name in names if name not in a or name not in b]
    if missing or not names:
        what = f"output {brief(missing[0])} is not in both" if missing else "no output is in both"
        raise TensorNameError(
            f"{what}: {', '.join(map(str, a)) or 'none'} and {', '.join(map(str, b)) or 'none'}",
            "compare two arrays by themselves: diff(a[NAME], b[OTHER_NAME])",
        )
    return names


def _diff_results(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    outputs: Sequence[str],
    names: Sequence[str],
    tolerance: Mapping[str, float | None],
) -> ResultDifference:
    found = {}
    for name in outputs:
        try:
            found[name] = render.compare(_array(a[name]), _array(b[name]), names=names, **tolerance)
        except TritonicError as error:
            error.locate(f"output {name!r}")
            raise
    first, second = names
    return ResultDifference(a, b, (str(first), str(second)), found)


def _array(value: Any) -> Any:
    try:
        return np.asarray(value)
    except Exception as error:  # objects say themselves what array they are, and raise anything
        raise ArgumentError(
            f"{type(value).__name__} is no array: {error}", "give NumPy arrays, or two results"
        ) from error


def _names(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, str]:
    """Call results by their models, where these are not the same."""
    if isinstance(a, InferenceResult) and isinstance(b, InferenceResult):
        models = [f"{each.model} {each.version}".strip() for each in (a, b)]
        if a.model != b.model:
            return a.model, b.model
        if models[0] != models[1]:
            return models[0], models[1]
    return "a", "b"


def _origin(result: InferenceResult) -> str:
    version = f" version {result.version}" if result.version else ""
    return f"{result.model}{version}, {result.timings.total_ms:.2f} ms"


def _cells(name: str, each: Difference) -> tuple[render.Cell, ...]:
    numbers: tuple[render.Cell, ...] = ("", "", "", "")
    if each.max_error is not None and each.where is not None:
        at = str(list(each.where)) if each.max_error else ""
        numbers = (
            f"{each.max_error:.4g}",
            Rich.unbroken(at),
            f"{each.mean_error:.4g}",
            f"{100 * (each.relative_error or 0):.3g}%",
        )
    return (name, f"{each.different:,} of {each.a.size:,}", *numbers)
