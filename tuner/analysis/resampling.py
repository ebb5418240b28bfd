"""Every model's score on every bootstrap of the validation samples, and which model a sweep would select by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.analysis.weighted import CLASSIFICATION, REGRESSION, Array, weighted_scores

Model = tuple[str, int]
Predictions = Mapping[str, Mapping[int, NDArray[Any]]]

# Scores of one product are held at once: B x (epochs of one trial).
_EPOCHS_AT_ONCE = 64


@dataclass(frozen=True)
class Resampled:
    """Scores of M models on the full validation set and on B bootstraps of it.

    Args:
        models: (trial, epoch) in the order that breaks ties: trials as given, epochs ascending.
        full: Scores on all N samples (M,).
        in_bag: Scores on the bootstraps (B, M); float32, since there may be 20 million.
        weights: Multiplicities of the samples in the bootstraps (B, N).
        skipped: Why models were left out -> how many.
    """

    models: tuple[Model, ...]
    full: Array
    in_bag: NDArray[np.float32]
    weights: Array
    skipped: Mapping[str, int]


def resample(predictions: Predictions, y: NDArray[Any], metric: str, bootstraps: int, seed: int) -> Resampled:
    """Return all scores of all models that can be scored; the arguments are those of selection.corrected."""
    n = len(y)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=bootstraps).astype(np.float64)
    weighings = np.vstack([np.ones(n), weights])
    models: list[Model] = []
    parts: list[NDArray[np.float32]] = []
    full: list[float] = []
    skipped: Counter[str] = Counter()
    for chunk, stacked in _chunks(predictions, y, metric, skipped):
        scores = weighted_scores(metric, stacked, y, weighings)
        whole = np.isfinite(scores[0])
        skipped["have no finite score"] += int((~whole).sum())
        models += [model for model, kept in zip(chunk, whole, strict=True) if kept]
        full += list(scores[0, whole])
        parts.append(scores[1:, whole].astype(np.float32))
    in_bag = np.hstack(parts) if parts else np.empty((bootstraps, 0), dtype=np.float32)
    return Resampled(tuple(models), np.array(full), in_bag, weights, +skipped)


def _chunks(
    predictions: Predictions, y: NDArray[Any], metric: str, skipped: Counter[str]
) -> Iterator[tuple[list[Model], Array]]:
    """Yield models of one trial and their predictions (E, N, K) or (E, N); count those that do not fit the samples."""
    for trial, of_epochs in predictions.items():
        chunk: list[Model] = []
        arrays: list[Array] = []
        for epoch in sorted(of_epochs):
            array = shaped(of_epochs[epoch])
            why = misfit(array, y, metric)
            if why:
                skipped[why] += 1
                continue
            if arrays and (array.shape != arrays[0].shape or len(arrays) == _EPOCHS_AT_ONCE):
                yield chunk, np.stack(arrays)
                chunk, arrays = [], []
            chunk.append((trial, epoch))
            arrays.append(array)
        if arrays:
            yield chunk, np.stack(arrays)


def shaped(array: NDArray[Any]) -> Array:
    """Return predictions as numbers, (N, K) or (N,); a single column is values."""
    numbers = np.asarray(array)
    return numbers[:, 0] if numbers.ndim == 2 and numbers.shape[1] == 1 else numbers


def misfit(array: Array, y: NDArray[Any], metric: str) -> str:
    """Return why predictions cannot be scored against these samples, or ""."""
    if array.dtype.kind not in "fiub" or array.ndim not in (1, 2) or len(array) != len(y):
        return "have predictions of another shape than the validation samples"
    if (metric in CLASSIFICATION and array.ndim == 1) or (metric in REGRESSION and array.ndim == 2):
        return f"have predictions that {metric} is not defined for"
    if array.ndim == 2 and not (y.min() >= 0 and y.max() < array.shape[1]):
        return "have predictions for fewer classes than the validation samples"
    return ""


def out_of_bag(
    table: Resampled, predictions: Predictions, y: NDArray[Any], metric: str, selected: NDArray[np.int64]
) -> Array:
    """Return the score (B,) of each bootstrap's selected model on the samples that the bootstrap left out."""
    left_out = (table.weights == 0).astype(np.float64)
    scores = np.full(len(selected), np.nan)
    for m in np.unique(selected):
        trial, epoch = table.models[m]
        rows = selected == m
        scores[rows] = weighted_scores(metric, shaped(predictions[trial][epoch])[None], y, left_out[rows])[:, 0]
    return scores


def select(
    scores: NDArray[np.floating[Any]], models: Sequence[Model], configs: Mapping[str, object] | None, mode: str
) -> NDArray[np.int64]:
    """Return, for each row of scores (R, M), the model that a sweep with these scores selects.

    The best epoch of each trial, the best config by the mean over its trials' (its repeats'), its best trial; a tie
    goes to the earlier. What is not finite is never chosen where anything else is.
    """
    signed = np.where(np.isfinite(scores), scores if mode == "max" else -scores, -np.inf)
    trials = [trial for trial, _ in models]
    starts = [i for i, trial in enumerate(trials) if i == 0 or trial != trials[i - 1]]
    best = np.maximum.reduceat(signed, starts, axis=1)
    picked = _best_trials(best, [(configs or {}).get(trials[i], ("of", trials[i])) for i in starts])
    trial_of = np.repeat(np.arange(len(starts)), np.diff([*starts, len(trials)]))
    return np.asarray(np.where(trial_of == picked[:, None], signed, -np.inf).argmax(axis=1))


def _best_trials(best: NDArray[np.floating[Any]], configs: Sequence[object]) -> NDArray[np.int64]:
    """Return the selected trial (R,) from the trials' best scores (R, T), the higher the better."""
    numbers = {config: number for number, config in enumerate(dict.fromkeys(configs))}
    if len(numbers) == len(configs):
        return np.asarray(best.argmax(axis=1))
    config_of = np.array([numbers[config] for config in configs])
    member = (config_of[:, None] == np.arange(len(numbers))).astype(np.float64)
    finite = np.isfinite(best)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Rounded, so that equal repeats give equal means in whatever order they came.
        means = np.round(np.where(finite, best, 0.0) @ member / (finite @ member), 12)
    config = np.where(np.isfinite(means), means, -np.inf).argmax(axis=1)
    return np.asarray(np.where(config_of == config[:, None], best, -np.inf).argmax(axis=1))
