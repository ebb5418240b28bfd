"""The built-in metrics over weighted samples: many weightings of many models at once, as a bootstrap needs them.

A bootstrap sample is a row of multiplicities, so a metric that is a mean over samples is one matrix product, and one
that is made of counts a class (balanced accuracy, precision, recall, F1) is a product a class. The area under the ROC
curve is no such sum but one over pairs of samples: who wins each pair is a matrix between the weights of both kinds.
Definitions are those of trainables/metrics.py; what weights do not define is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

CLASSIFICATION = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc")
REGRESSION = ("rmse", "mae", "r2")
SUPPORTED = (*CLASSIFICATION, *REGRESSION, "loss")
# Scores that lie between 0 and 1, both included.
BOUNDED = CLASSIFICATION
# 4 bytes each, of the largest matrix that the area under the ROC curve needs.
_CELLS_AT_ONCE = 10_000_000


def weighted_scores(metric: str, predictions: Array, y: NDArray[np.generic], weights: Array) -> Array:
    """Return a metric for every weighting of the samples and every model.

    Args:
        metric: One of SUPPORTED. "loss" is the log loss (nats) of probabilities, the mean squared error of values.
        predictions: Class probabilities (E, N, K), or values (E, N), of E models.
        y: Class indices from 0 to K - 1, or targets (N,).
        weights: How often each sample counts (B, N), each >= 0.

    Returns:
        Scores (B, E), NaN where the weights leave a metric undefined, and for predictions that are not finite.
    """
    whole = np.isfinite(predictions).all(axis=tuple(range(1, predictions.ndim)))
    usable = np.where(whole.reshape(-1, *[1] * (predictions.ndim - 1)), predictions, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = _of_classes(metric, usable, y, weights) if usable.ndim == 3 else _of_values(metric, usable, y, weights)
    return np.where(whole & (weights.sum(axis=1) > 0)[:, None], scores, np.nan)


def _of_classes(metric: str, probabilities: Array, y: NDArray[np.generic], weights: Array) -> Array:
    truth = y.astype(np.int64)
    if metric == "loss":
        of_truth = probabilities[:, np.arange(len(truth)), truth].astype(np.float64)
        return _mean(-np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)), weights)
    # Decisions and ranks are taken on float32, as the trainables do.
    exact = probabilities.astype(np.float32)
    if metric == "roc_auc":
        return _roc_auc(exact, truth, weights.astype(np.float32))
    predicted = exact.argmax(axis=2)
    if metric == "accuracy":
        return _mean((predicted == truth).astype(np.float64), weights)
    return _of_counts[metric](*_counts(predicted, truth, weights, probabilities.shape[2]))


def _mean(values: Array, weights: Array) -> Array:
    """Return weighted means (B, E) of values (E, N)."""
    return np.asarray(weights @ values.T / weights.sum(axis=1, keepdims=True))


def _counts(predicted: Labels, y: Labels, weights: Array, classes: int) -> tuple[Array, Array, Array]:
    """Return hits (K, B, E), how often each class was predicted (K, B, E), and how often it is true (K, B, 1)."""
    hits, calls, actual = [], [], []
    for k in range(classes):
        of_class, called = y == k, (predicted == k).astype(np.float64)
        hits.append(weights[:, of_class] @ called[:, of_class].T)
        calls.append(weights @ called.T)
        actual.append(weights[:, of_class].sum(axis=1, keepdims=True))
    return np.stack(hits), np.stack(calls), np.stack(actual)


def _over(parts: Array, counted: NDArray[np.bool_]) -> Array:
    """Return the mean over the classes (axis 0) that count."""
    return np.asarray(np.where(counted, parts, 0.0).sum(axis=0) / counted.sum(axis=0))


def _balanced_accuracy(hits: Array, calls: Array, actual: Array) -> Array:
    return _over(hits / actual, np.broadcast_to(actual > 0, hits.shape))


def _precision(hits: Array, calls: Array, actual: Array) -> Array:
    return _over(hits / np.where(calls > 0, calls, 1.0), actual + calls > 0)


def _recall(hits: Array, calls: Array, actual: Array) -> Array:
    return _over(hits / np.where(actual > 0, actual, 1.0), actual + calls > 0)


def _f1(hits: Array, calls: Array, actual: Array) -> Array:
    return _over(2 * hits / (actual + calls), actual + calls > 0)


_of_counts: dict[str, Callable[[Array, Array, Array], Array]] = {
    "balanced_accuracy": _balanced_accuracy,
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
}


def _roc_auc(scores: NDArray[np.float32], y: Labels, weights: NDArray[np.float32]) -> Array:
    """Return mean one-against-the-rest areas (B, E), over the classes of which both kinds have weight."""
    areas = np.stack([_areas(scores[:, :, k], y == k, weights) for k in range(scores.shape[2])])
    return _over(areas, np.isfinite(areas))


def _areas(scores: NDArray[np.float32], positive: NDArray[np.bool_], weights: NDArray[np.float32]) -> Array:
    """Return the chance (B, E) that a positive scores higher than a negative; ties count half (Mann-Whitney U)."""
    # The rarer kind is counted for: the product below then has fewer columns. 1 - area counts the other way round.
    rarer = positive if positive.sum() * 2 <= len(positive) else ~positive
    of_rarer, of_others = weights[:, rarer], weights[:, ~rarer]
    pairs = of_rarer.sum(axis=1, dtype=np.float64) * of_others.sum(axis=1, dtype=np.float64)
    cells = int(rarer.sum()) * max(len(weights), int((~rarer).sum()))
    at_once = max(1, _CELLS_AT_ONCE // max(1, cells))
    parts = [
        _won(scores[first : first + at_once], rarer, of_rarer, of_others) for first in range(0, len(scores), at_once)
    ]
    share = np.hstack(parts) / pairs[:, None]
    return np.asarray(share if rarer is positive else 1 - share)


def _won(
    scores: NDArray[np.float32], rarer: NDArray[np.bool_], of_rarer: NDArray[np.float32], of_others: NDArray[np.float32]
) -> Array:
    """Return the weight (B, E) of the pairs in which the rarer kind scores higher."""
    high, low = scores[:, rarer, None], scores[:, None, ~rarer]
    wins = (high > low) + np.float32(0.5) * (high == low)  # (E, P, Q)
    models, first, others = wins.shape
    # One product of matrices is quicker here than sorting and summing, up to some thousand samples.
    weight_below = (of_others @ wins.reshape(models * first, others).T).reshape(len(of_others), models, first)
    return np.asarray(np.einsum("bep,bp->be", weight_below, of_rarer, dtype=np.float64))


def _of_values(metric: str, values: Array, y: NDArray[np.generic], weights: Array) -> Array:
    target = y.astype(np.float64)
    residuals = values.astype(np.float64) - target
    if metric == "mae":
        return _mean(np.abs(residuals), weights)
    squares = _mean(residuals**2, weights)
    if metric == "loss":
        return squares
    if metric == "rmse":
        return np.asarray(np.sqrt(squares))
    # Around the mean of all, so that the variance of a target far from 0 keeps its digits.
    centred = (target - target.mean())[None]
    spread = _mean(centred**2, weights) - _mean(centred, weights) ** 2
    scale = np.finfo(np.float64).eps * max(float(np.square(centred).mean()), np.finfo(np.float64).tiny)
    return np.where(spread > scale, 1 - squares / spread, np.nan)
