"""Metrics of one split: numpy only, checked against scikit-learn, never an exception.

A metric that a split does not define is None; every metric of predictions that are not finite is NaN. They take what a
trainable reports, and as well what lies in a run's predictions/: a report needs no torch to measure again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSIFICATION = ("loss", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc")
REGRESSION = ("loss", "rmse", "mae", "r2")
PER_CLASS = ("precision", "recall", "f1", "roc_auc")

Metrics = dict[str, float | None]


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return class probabilities (N, K) of logits (N, K); in float64, so that small ones keep a logarithm."""
    logits = logits.astype(np.float64)
    if not np.isfinite(logits).all():
        return np.full_like(logits, np.nan)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def classification(probabilities: NDArray[Any], y: NDArray[np.int64]) -> Metrics:
    """Return the metrics of CLASSIFICATION for probabilities (N, K) and class indices (N,).

    precision, recall and f1 are means over the classes that occur in y or among the predictions, 0 where a
    class has none (scikit-learn's macro average with zero_division=0); balanced_accuracy is the mean recall
    over the classes that occur in y; roc_auc is one class against the rest, a mean over the classes that have
    both kinds, None where no class has.
    """
    if not len(y) or not np.isfinite(probabilities).all():
        return dict.fromkeys(CLASSIFICATION, math.nan if len(y) else None)
    scores = _as_kept(probabilities)
    counts = confusion(scores.argmax(axis=1), y, classes=scores.shape[1])
    rates = _rates(counts)
    actual = counts.sum(axis=1)
    either = (actual + counts.sum(axis=0)) > 0
    values = {
        "loss": log_loss(probabilities, y),
        "accuracy": counts.diagonal().sum() / len(y),
        "balanced_accuracy": rates["recall"][actual > 0].mean(),
        **{name: rate[either].mean() for name, rate in rates.items()},
        "roc_auc": roc_auc(scores, y),
    }
    return {name: None if value is None else float(value) for name, value in values.items()}


def per_class(probabilities: NDArray[Any], y: NDArray[np.int64]) -> list[Metrics]:
    """Return the metrics of PER_CLASS of each class, in their order, for probabilities (N, K) and indices (N,).

    Their means over the classes where they are not None are those of `classification`: precision, recall and f1 are
    None for a class that is neither in y nor among the predictions, 0 where only a denominator lacks; roc_auc, the
    class against the rest, is None where all samples are of it, or none is.
    """
    classes = probabilities.shape[1]
    if not len(y) or not np.isfinite(probabilities).all():
        return [dict.fromkeys(PER_CLASS, math.nan if len(y) else None) for _ in range(classes)]
    scores = _as_kept(probabilities)
    counts = confusion(scores.argmax(axis=1), y, classes)
    rates = _rates(counts)
    occurs = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    return [
        {name: float(rate[k]) if occurs[k] else None for name, rate in rates.items()} | {"roc_auc": area}
        for k, area in enumerate(_areas(scores, y))
    ]


def _as_kept(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    """Return what ranks and decisions are taken on: float32, the precision that predictions are kept in."""
    return probabilities.astype(np.float32)


def _rates(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return precision, recall and f1 (K,) of each class of a confusion matrix; 0 where a denominator is 0."""
    hits, predicted, actual = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    return {
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / np.maximum(actual, 1),
        "f1": 2 * hits / np.maximum(actual + predicted, 1),
    }


def log_loss(probabilities: NDArray[Any], y: NDArray[np.int64]) -> float | None:
    """Return the mean cross-entropy in nats of probabilities (N, K); a sample's is at most 708, where float64 ends."""
    if not len(y) or not np.isfinite(probabilities).all():
        return math.nan if len(y) else None
    of_truth = np.take_along_axis(probabilities, y[:, None], axis=1).astype(np.float64)
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)).mean())


def confusion(predicted: NDArray[np.int64], y: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return counts (K, K): rows are the true classes, columns the predicted ones."""
    return np.bincount(y * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def roc_auc(scores: NDArray[Any], y: NDArray[np.int64]) -> float | None:
    """Return the mean one-against-the-rest area under the ROC curve; None where no class has both kinds."""
    areas = [area for area in _areas(scores, y) if area is not None]
    return float(np.mean(areas)) if areas else None


def _areas(scores: NDArray[Any], y: NDArray[np.int64]) -> list[float | None]:
    """Return the area of each class against the rest; None for one that has only one kind of sample."""
    kinds = [y == k for k in range(scores.shape[1])]
    return [_area(scores[:, k], kind) if 0 < kind.sum() < len(y) else None for k, kind in enumerate(kinds)]


def _area(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Return the chance that a positive scores higher than a negative; ties count half (Mann-Whitney U)."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))


def regression(values: NDArray[Any], y: NDArray[Any]) -> Metrics:
    """Return the metrics of REGRESSION for values (N,) and targets (N,), in the target's own units.

    loss is the mean squared error; r2 is None for fewer than two samples and for a constant target.
    """
    if not len(y) or not np.isfinite(values).all():
        return dict.fromkeys(REGRESSION, math.nan if len(y) else None)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float64 an error is infinite, and r2 is not a number
        return _regression(values.astype(np.float64), y.astype(np.float64))


def _regression(values: NDArray[np.float64], y: NDArray[np.float64]) -> Metrics:
    squares = (values - y) ** 2
    spread = ((y - y.mean()) ** 2).sum() if np.ptp(y) > 0 else 0.0  # a mean is rounded, and so no sign of a spread
    return {
        "loss": float(squares.mean()),
        "rmse": float(np.sqrt(squares.mean())),
        "mae": float(np.abs(values - y).mean()),
        "r2": float(1 - squares.sum() / spread) if len(y) > 1 and spread > 0 else None,
    }
