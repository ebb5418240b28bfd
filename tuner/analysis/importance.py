"""Which parameters matter: their shares of what a random forest says of the score, or of the train-validation gap."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.analysis.features import Features, encode
from tuner.analysis.forest import Forest, boxes, draw, grow, marginals
from tuner.analysis.scores import Target, scores, sentence
from tuner.space import Fixed, Space

Floats = NDArray[np.float64]
Method = Literal["fanova", "permutation"]

LEAST_TRIALS = 8
TREES, TREES_BOOTSTRAP, BOOTSTRAPS = 64, 16, 40
SHUFFLES = 10


@dataclass(frozen=True)
class Importance:
    """One parameter's share of what explains the target.

    Args:
        name: The parameter; of a conditional one its place, as in "optimizer=sgd/learning_rate".
        value: fanova: the share, from 0 to 1, of the variance of the forest's predictions over the space that the
            parameter explains alone; a conditional parameter explains it only where its branch is active.
            permutation: by which share of the target's variance the forest's error on unseen trials grows when
            the parameter's values are shuffled (0 where it does not).
        low: Lower end of the 95 % interval over trials (value - 1.96 sd over bootstraps), at least 0.
        high: Upper end, at most 1 for fanova.
        n: Trials that had the parameter.
        within: The share of the variance inside the parameter's own branch; the same as `value` where it is
            not conditional.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    within: float = 0.0


@dataclass(frozen=True)
class ImportanceResult:
    """Every parameter's importance.

    Args:
        target: "score" or "gap".
        epoch: The epoch common to all trials at which they were compared; None without any.
        entries: Largest first; what is fixed is 0. Empty where nothing can be said.
        fit: R2 of the forest on trials that its trees had not seen; near or below 0, nothing is explained.
        note: What cannot be said, and who was left out; "" if all is well.
        method: "fanova" or "permutation".
    """

    target: str
    epoch: int | None
    entries: tuple[Importance, ...]
    fit: float
    note: str
    method: str = "fanova"


@dataclass(frozen=True)
class Fitted:
    """Trials prepared for a forest: their features, their target, and what to say about them.

    Args:
        features: A row a config: repeats of one are joined.
        y: The target (rows,): the mean over repeats.
        n: Trials an axis, those that have the parameter.
        epoch: The common epoch.
        note: Who was left out; where `why_not` is not empty, that too.
        why_not: Why nothing can be said; "" where a forest can be grown.
    """

    features: Features
    y: Floats
    n: NDArray[np.int64]
    epoch: int | None
    note: str
    why_not: str


@dataclass(frozen=True)
class Explained:
    """A forest of the trials, and those of trials drawn again, from which importance and effects are both read.

    Args:
        fitted: What they were grown on.
        forest: None where nothing can be said.
        again: A forest for each bootstrap of the trials.
        seed: Of all of them.
    """

    fitted: Fitted
    forest: Forest | None
    again: tuple[Forest, ...]
    seed: int


def importance(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    space: Space,
    metric: str,
    mode: str,
    *,
    seed: int = 0,
    target: Target = "score",
    method: Method = "fanova",
    bootstraps: int = BOOTSTRAPS,
) -> ImportanceResult:
    """Return which parameters matter, largest first. Never raises on odd data: then `note` says what is missing.

    Trials are compared at an epoch that all of them have reached, so that stopped ones count; trials that failed
    by their config count as the worst score. Parameters are judged on their domain's own scale.

    Args:
        trials: As in results.
        epochs: As in results.
        space: The sweep's space.
        metric: The sweep's metric.
        mode: "max" or "min".
        seed: Of the forests and the bootstrap.
        target: "score", or "gap": how much worse validation is than training.
        method: "fanova" (main effects over the space) or "permutation" (loss of accuracy on unseen trials).
        bootstraps: How often the trials are drawn again for the intervals.
    """
    if method == "fanova":
        explained = explain(trials, epochs, space, metric, mode, seed=seed, target=target, bootstraps=bootstraps)
        return importance_of(explained, space, target)
    explained = explain(trials, epochs, space, metric, mode, seed=seed, target=target, bootstraps=0)
    fitted, forest = explained.fitted, explained.forest
    if forest is None:
        return ImportanceResult(target, fitted.epoch, (), float("nan"), fitted.note, method)
    shares, spread = _permutation(forest, fitted, seed, bootstraps)
    return _result(explained, forest, space, target, method, shares, shares, spread)


def explain(
    trials: pd.DataFrame,
    epochs: pd.DataFrame,
    space: Space,
    metric: str,
    mode: str,
    *,
    seed: int = 0,
    target: Target = "score",
    bootstraps: int = BOOTSTRAPS,
) -> Explained:
    """Return the forests that importance and effects are read from; the arguments are those of `importance`.

    They take most of the time of both, so that who wants both grows them once.
    """
    fitted = prepare(trials, epochs, space, metric, mode, target)
    if fitted.why_not:
        return Explained(fitted, None, (), seed)
    matrix, y = fitted.features.matrix, fitted.y
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(len(y), size=len(y)) for _ in range(bootstraps)]
    again = [grow(matrix[rows], y[rows], seed + 1 + number, TREES_BOOTSTRAP) for number, rows in enumerate(drawn)]
    return Explained(fitted, grow(matrix, y, seed, TREES), tuple(again), seed)


def importance_of(explained: Explained, space: Space, target: Target = "score") -> ImportanceResult:
    """Return which parameters matter (method fanova) by forests that were grown before, for this target."""
    fitted, forest, seed = explained.fitted, explained.forest, explained.seed
    if forest is None:
        return ImportanceResult(target, fitted.epoch, (), float("nan"), fitted.note)
    shares, within = main_effects(forest, fitted.features, seed)
    spread = _deviation([main_effects(drawn, fitted.features, seed)[0] for drawn in explained.again], len(shares))
    return _result(explained, forest, space, target, "fanova", shares, within, spread)


def _result(
    explained: Explained,
    forest: Forest,
    space: Space,
    target: Target,
    method: Method,
    shares: Floats,
    within: Floats,
    spread: Floats,
) -> ImportanceResult:
    """Return the entries, largest first, with what is fixed."""
    fitted = explained.fitted
    fit = forest.fit_unseen(fitted.features.matrix, fitted.y)
    top = 1.0 if method == "fanova" else np.inf
    entries = [
        Importance(
            axis.leaf.label,
            float(shares[i]),
            float(max(shares[i] - 1.96 * spread[i], 0.0)),
            float(min(shares[i] + 1.96 * spread[i], top)),
            int(fitted.n[i]),
            float(within[i]),
        )
        for i, axis in enumerate(fitted.features.axes)
    ]
    fixed = [leaf.label for leaf in space.leaves() if isinstance(leaf.domain, Fixed)]
    entries += [Importance(label, 0.0, 0.0, 0.0, len(fitted.y)) for label in fixed]
    entries.sort(key=lambda entry: -entry.value)
    weak = "" if fit > 0 else f"the forest explains nothing of unseen trials (R2 {fit:.2f}): do not rely on the order"
    return ImportanceResult(target, fitted.epoch, tuple(entries), fit, sentence((fitted.note, weak)), method)


def prepare(
    trials: pd.DataFrame, epochs: pd.DataFrame, space: Space, metric: str, mode: str, target: Target = "score"
) -> Fitted:
    """Return the trials' features and targets at the common epoch, or why there is nothing to explain."""
    scored = scores(trials, epochs, metric, mode, target)
    features = encode(space, scored.frame)
    outside = len(scored.frame) - len(features.rows)
    notes = [*scored.notes, f"{outside} trials lie outside the space: left out" if outside else ""]
    y = scored.values[features.rows]
    if not features.axes:
        why_not = "the space has nothing that varies"
    elif len(y) < LEAST_TRIALS:
        why_not = f"{len(y)} trials with a value, and {LEAST_TRIALS} are the least to tell parameters apart"
    elif np.ptp(y) == 0:
        why_not = f"all trials have the same {target}"
    else:
        why_not = ""
    matrix, first, place = np.unique(features.matrix, axis=0, return_index=True, return_inverse=True)
    means = np.bincount(place.ravel(), weights=y) / np.bincount(place.ravel()) if len(y) else y
    joined = dataclasses.replace(features, matrix=matrix, active=features.active[first], rows=features.rows[first])
    return Fitted(joined, means, features.active.sum(axis=0), scored.epoch, sentence([*notes, why_not]), why_not)


def _deviation(again: list[Floats], count: int) -> Floats:
    return np.std(again, axis=0, ddof=1) if len(again) > 1 else np.full(count, np.nan)


def main_effects(forest: Forest, features: Features, seed: int) -> tuple[Floats, Floats]:
    """Return each axis's share (P,) of the variance over the space, and of that within its own branch.

    The variance of a conditional parameter's marginal counts as often as its branch is active, so that all shares
    together are at most 1 (the law of total variance).
    """
    sample = draw(features, seed)
    predicted = forest.each(sample).mean(axis=0)
    curves = marginals(boxes(forest, features.axes), features)
    own = np.array([_variance(f, axis.weights) for f, axis in zip(curves, features.axes, strict=True)])
    often = np.array([sum(s.weight for s in features.scenarios if s.active[i]) for i in range(len(own))])
    explained = own * often
    # The sample's variance is an estimate: it may come out below the sum of the parts.
    total = max(float(np.var(predicted)), float(explained.sum()))
    inside = np.array([_variance_inside(predicted, sample, features, i) for i in range(len(own))])
    within = np.minimum(np.divide(own, inside, out=np.zeros_like(own), where=inside > 0), 1.0)
    shares = explained / total if total > 0 else np.zeros_like(own)
    shares[shares < 1e-12] = 0.0  # rounding: no tree has split on it
    return shares, np.where(often < 1, within, shares)


def _variance(values: Floats, weights: Floats) -> float:
    known = np.isfinite(values) & (weights > 0)
    if not known.any():
        return 0.0
    mean = np.average(values[known], weights=weights[known])
    return float(np.average((values[known] - mean) ** 2, weights=weights[known]))


def _variance_inside(predicted: Floats, sample: Floats, features: Features, number: int) -> float:
    """Return the predictions' variance over the drawn configs that are in an axis's branch."""
    numbers = {axis.leaf.label: place for place, axis in enumerate(features.axes)}
    inside = np.ones(len(sample), dtype=bool)
    for label, option in features.axes[number].leaf.conditions:
        inside &= sample[:, features.axes[numbers[label]].column + option] == 1
    return float(np.var(predicted[inside])) if inside.any() else 0.0


def _permutation(forest: Forest, fitted: Fitted, seed: int, bootstraps: int) -> tuple[Floats, Floats]:
    """Return the growth of the out-of-bag error by shuffling each axis, and its deviation over trials."""
    features, y = fitted.features, fitted.y
    rng = np.random.default_rng(seed)
    before = _errors(forest, features.matrix, y)
    growth = np.zeros((len(features.axes), len(y)))
    for number, axis in enumerate(features.axes):
        rows = np.flatnonzero(features.active[:, number])
        for _ in range(SHUFFLES):
            shuffled = features.matrix.copy()
            columns = slice(axis.column, axis.column + axis.width)
            shuffled[rows, columns] = shuffled[rng.permutation(rows), columns]
            growth[number] += (_errors(forest, shuffled, y) - before) / SHUFFLES
    scale = float(np.var(y))
    again = [growth[:, rng.integers(len(y), size=len(y))].mean(axis=1) / scale for _ in range(max(bootstraps, 200))]
    return np.maximum(growth.mean(axis=1) / scale, 0.0), _deviation(again, len(growth))


def _errors(forest: Forest, matrix: Floats, y: Floats) -> Floats:
    """Return each trial's squared error (n,) by the trees that had not seen it."""
    errors: Floats = (forest.predict_unseen(matrix, y) - y) ** 2
    return errors
