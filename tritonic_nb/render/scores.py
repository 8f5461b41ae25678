"""Class scores: what kind of numbers they are, and the probabilities that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["probabilities", "score_form", "softmax"]

_SUM_SLACK = 5e-3  # FP16 probabilities of thousands of classes sum to 1 within this


def score_form(row: npt.ArrayLike) -> str:
    """Tell what the scores of one item are.

    Parameters
    ----------
    row
        A number for each class, ``[classes]``.

    Returns
    -------
    str
        ``probabilities`` (not negative, sum 1), ``log probabilities``, ``independent``
        (each from 0 to 1), or ``logits``.
    """
    values = np.asarray(row, np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        return "logits"
    if values.min() >= 0 and abs(values.sum() - 1) < _SUM_SLACK and values.size > 1:
        return "probabilities"
    if values.min() >= 0 and values.max() <= 1:
        return "independent"
    if values.max() <= 1e-6 and abs(np.exp(values).sum() - 1) < _SUM_SLACK:
        return "log probabilities"
    return "logits"


def softmax(row: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Make probabilities of logits along the last axis; of infinite ones they become NaN."""
    values = np.asarray(row, np.float64)
    with np.errstate(all="ignore"):
        exponents = np.exp(values - values.max(axis=-1, initial=-np.inf, keepdims=True))
        parts: npt.NDArray[np.float64] = exponents / exponents.sum(axis=-1, keepdims=True)
    return parts


def probabilities(scores: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return scores as probabilities: as they are if they are such, else through softmax.

    Parameters
    ----------
    scores
        One number for each class, ``[classes]``.
    """
    values = np.asarray(scores, np.float64)
    return values if score_form(values) == "probabilities" else softmax(values)
