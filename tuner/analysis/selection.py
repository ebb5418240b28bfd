"""The honest winner: what the best of many validation scores is worth once the choosing is accounted for.

The best validation score of N trials is too good, since the same samples chose the model and scored it. `corrected`
bootstraps the whole selection (Tsamardinos, Greasidou and Borboudakis, "Bootstrapping the out-of-sample predictions
for efficient and accurate cross-validation", Machine Learning 107, 2018: BBC-CV): a bootstrap of the validation
samples selects a model as the sweep did, by the best epoch of each trial and the best trial, and the samples that it
left out score that model. The mean over the bootstraps is the corrected score.

What is estimated: the true score (on the population that the validation samples come from) of the one model that was
selected on the full validation set, since that is the model that is kept. The other candidate, the expected score of
the selection procedure, is a property of sweeps that nobody ran. The mean is nearly unbiased for the procedure on a
bootstrap sample, which has 63 % of the samples to choose by, so it is on average a little too low for the winner.

The interval, which benchmarks/coverage.py measures:
- Its base is the corrected score with the standard error of a score on all n validation samples. For accuracy that
  is Wilson's interval (1927) at the corrected score. For other metrics the standard error is the standard deviation
  of the out-of-bag scores times sqrt(1 / (e - 1)) = 0.763: of n samples, a part f = 1/e drawn without replacement has
  a mean with variance (1 - f) / f = e - 1 times that of the mean of all n, which is why out-of-bag percentiles are
  too wide. Scores between 0 and 1 then take Wilson's form too, with the n that has this standard error (at most n).
- The bootstraps select models other than the winner, which are as good in truth, or worse. They score less than the
  winner on the full validation set; how much of that is real and how much is luck cannot be told, so the better end
  moves out by all of it. Without this, 300 planted sets of 100 trials x 20 epochs covered only 71 % (95 % stated).

The tie set is a confidence set for the truly best model: a model is in it unless some other one is better, at a
level that counts all comparisons (the maximum over the models of a paired bootstrap difference; Hsu's comparisons with
the best, 1984, by bootstrap as in Mogstad, Romano, Shaikh and Wilhelm 2024). A tenth of the error goes to leaving out
first what trails the winner by far (two steps as in Romano, Shaikh and Wolf 2014).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from tuner.analysis.resampling import Model, Predictions, Resampled, out_of_bag, resample, select
from tuner.analysis.weighted import BOUNDED, SUPPORTED, Array

__all__ = ["Corrected", "Model", "Predictions", "corrected", "wilson"]

Scores = Mapping[str, Mapping[int, float | None]]

_OUT_OF_BAG_FACTOR = 1 / math.sqrt(math.e - 1)
# Of the tie set's error, what its first step may spend.
_SCREEN_SHARE = 0.1
_FEW_SAMPLES = 30
# Recorded and recomputed scores may differ by the rounding of predictions to float32, no more.
_AGREEMENT = 0.01


@dataclass(frozen=True)
class Corrected:
    """The winner's score with its selection accounted for.

    Args:
        uncorrected: The selected model's score on the full validation set; NaN where there is no model.
        score: The corrected score; NaN where it cannot be had.
        low: Lower end of the interval at `level`; NaN where there is none.
        high: Upper end.
        bias: By how much the uncorrected score is too good: positive as a rule, whatever the mode.
        n_samples: Validation samples.
        n_models: Models (trial, epoch) that the selection was repeated over.
        ties: Models that cannot be told from the best: they hold the truly best one with probability `level`.
        cheapest: The one of `ties` whose trial costs least, of equals the one that scores best; None without costs.
        construction: How score, interval and ties were made; "" where there are none.
        note: What cannot be said, or only in part; "" if all is well.
        winner: The selected model; None where there is none.
        level: Of the interval and of the tie set.
        bootstraps: How many went in.
    """

    uncorrected: float = math.nan
    score: float = math.nan
    low: float = math.nan
    high: float = math.nan
    bias: float = math.nan
    n_samples: int = 0
    n_models: int = 0
    ties: tuple[Model, ...] = ()
    cheapest: Model | None = None
    construction: str = ""
    note: str = ""
    winner: Model | None = None
    level: float = 0.95
    bootstraps: int = 0


@dataclass(frozen=True)
class _Sweep:
    """What was recorded, and the rule by which it was chosen from."""

    metric: str
    mode: str
    configs: Mapping[str, object] | None
    scores: Scores | None
    winner: Model | None = field(default=None)

    def choose(self, scores: NDArray[np.floating[Any]], models: tuple[Model, ...]) -> NDArray[np.int64]:
        return select(scores, models, self.configs, self.mode)


def corrected(
    predictions: Predictions,
    y: NDArray[Any],
    metric: str,
    mode: str,
    *,
    scores: Scores | None = None,
    configs: Mapping[str, object] | None = None,
    cost: Mapping[str, float] | None = None,
    bootstraps: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Corrected:
    """Return the corrected score of the best (trial, epoch), its interval, and the models that tie with it.

    Memory: 4 bytes for each bootstrap and model, and one trial's predictions; the mappings may load when asked.

    Args:
        predictions: Trial -> epoch -> class probabilities (N, K) or values (N,), in the order of y, for every
            completed or stopped trial of search and refine, in the order of their numbers.
        y: Class indices or targets of the validation samples (N,).
        metric: A built-in metric, such as "val_accuracy" or "accuracy".
        mode: "max" or "min".
        scores: Trial -> epoch -> recorded score of everything that could have been chosen, in the same order. It says
            who won, and what has no predictions. None: what has predictions is all there is.
        configs: Trial -> what its repeats share. With repeats, configs compete by the mean of their repeats' best
            epochs, and the best repeat's model stands for its config, as in tuner.history.ranking; `uncorrected` is
            that model's own score, not the mean.
        cost: Trial -> what a model of it costs (parameters, or seconds), for `cheapest`.
        bootstraps: How many, >= 2.
        level: Of the interval and the tie set, between 0 and 1.
        seed: Of the bootstraps.

    Returns:
        NaN and a note wherever something cannot be said, such as without predictions; odd data raise nothing.
    """
    name, y = metric.removeprefix("val_"), np.asarray(y)
    recorded = _recorded_winner(scores, configs, mode)
    sweep = _Sweep(name, mode, configs, scores, recorded[0])
    empty = Corrected(uncorrected=recorded[1], winner=recorded[0], n_samples=len(y), level=level)
    refusal = _refusal(name, y)
    if refusal:
        return replace(empty, note=f"not corrected: {refusal}")
    table = resample(predictions, y, name, max(bootstraps, 2), seed)
    refusal = _refusal_of(table, sweep)
    if refusal:
        return replace(empty, note=f"not corrected: {refusal}", n_models=len(table.models))
    return _correct(empty, table, predictions, y, sweep, cost)


def _recorded_winner(
    scores: Scores | None, configs: Mapping[str, object] | None, mode: str
) -> tuple[Model | None, float]:
    """Return the model that the sweep selected by its recorded scores, and that score."""
    models = [(trial, epoch) for trial, epochs in (scores or {}).items() for epoch in sorted(epochs)]
    values = [(scores or {})[trial][epoch] for trial, epoch in models]
    row = np.array([[math.nan if value is None else value for value in values]], dtype=np.float64)
    if not np.isfinite(row).any():
        return None, math.nan
    chosen = int(select(row, models, configs, mode)[0])
    return models[chosen], float(row[0, chosen])


def _refusal(metric: str, y: NDArray[Any]) -> str:
    """Return why nothing can be corrected for this metric and these samples, or ""."""
    if metric not in SUPPORTED:
        return f"{metric} is no built-in metric, so it cannot be computed from predictions"
    if y.ndim != 1 or y.dtype.kind not in "fiub":
        return "the validation samples have no single number as their label"
    if len(y) < 2:
        return f"{len(y)} validation samples cannot be divided"
    return "" if np.isfinite(y.astype(np.float64)).all() else "a validation label is missing"


def _refusal_of(table: Resampled, sweep: _Sweep) -> str:
    """Return why these predictions correct nothing, or ""."""
    if not table.models:
        return "no validation predictions were kept" + _skipped(table)
    if sweep.winner is None:
        return ""
    if sweep.winner not in table.models:
        return f"the winner, {_name(sweep.winner)}, has no validation predictions that can be used"
    pairs = [
        (table.full[i], sweep.scores[t].get(e))
        for i, (t, e) in enumerate(table.models)
        if sweep.scores and t in sweep.scores
    ]
    gaps = [abs(new - old) / (1 + abs(old)) for new, old in pairs if old is not None and math.isfinite(old)]
    if gaps and float(np.median(gaps)) > _AGREEMENT:
        return "the predictions do not give the recorded scores, so they belong to other samples or another metric"
    return ""


def _correct(
    empty: Corrected,
    table: Resampled,
    predictions: Predictions,
    y: NDArray[Any],
    sweep: _Sweep,
    cost: Mapping[str, float] | None,
) -> Corrected:
    chosen = int(sweep.choose(table.full[None], table.models)[0])
    winner = chosen if sweep.winner is None else table.models.index(sweep.winner)
    selected = sweep.choose(table.in_bag, table.models)
    outside = out_of_bag(table, predictions, y, sweep.metric, selected)
    usable = np.isfinite(outside) & np.isfinite(table.in_bag).any(axis=1)
    base = replace(
        empty, uncorrected=float(table.full[winner]), winner=table.models[winner], n_models=len(table.models)
    )
    if usable.sum() < 2:
        return replace(base, note="not corrected: the metric is not defined on samples left out by a bootstrap")
    score = float(outside[usable].mean())
    # What the winner is ahead of the models that bootstraps select, on the full validation set.
    lead = abs(float(table.full[winner] - table.full[selected[usable]].mean()))
    low, high = _interval(score, float(outside[usable].std(ddof=1)), lead, len(y), base.level, sweep)
    ties = _ties(table, winner, sweep.mode, base.level)
    return replace(
        base,
        score=score,
        low=low,
        high=high,
        bias=(base.uncorrected - score) * (1 if sweep.mode == "max" else -1),
        ties=tuple(table.models[m] for m in ties),
        cheapest=_cheapest([table.models[m] for m in ties], cost),
        construction=_construction(sweep, base.level, int(usable.sum())),
        note=_note(table, sweep, usable, len(y)),
        bootstraps=int(usable.sum()),
    )


def _interval(score: float, spread: float, lead: float, n: int, level: float, sweep: _Sweep) -> tuple[float, float]:
    """Return the interval that the top of this file describes.

    Args:
        score: The corrected score.
        spread: Standard deviation of the out-of-bag scores.
        lead: What the winner is ahead of the models that bootstraps select, >= 0.
        n: Validation samples.
        level: Of the interval.
        sweep: Its metric and mode.
    """
    z, error = float(norm.ppf((1 + level) / 2)), spread * _OUT_OF_BAG_FACTOR
    if sweep.metric in BOUNDED:
        as_if = n if sweep.metric == "accuracy" or error == 0 else min(n, score * (1 - score) / error**2)
        low, high = wilson(score, as_if, z)
        least, most = 0.0, 1.0
    else:
        low, high = score - z * error, score + z * error
        least, most = (-math.inf, 1.0) if sweep.metric == "r2" else (0.0, math.inf)
    low, high = (low, high + lead) if sweep.mode == "max" else (low - lead, high)
    return max(low, least), min(high, most)


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Return Wilson's score interval (1927) of a share of n, for a normal quantile z."""
    if n <= 0:
        return 0.0, 1.0
    middle, half = share * n + z * z / 2, z * math.sqrt(max(n * share * (1 - share), 0.0) + z * z / 4)
    return max(0.0, (middle - half) / (n + z * z)), min(1.0, (middle + half) / (n + z * z))


def _ties(table: Resampled, winner: int, mode: str, level: float) -> list[int]:
    """Return the models of the confidence set for the best one, the winner first, then by score."""
    sign = 1.0 if mode == "max" else -1.0
    rows = np.isfinite(table.in_bag).all(axis=1)
    if rows.sum() < 2:
        return [winner]
    full: Array = sign * table.full
    behind = full.max() - full
    moved = sign * table.in_bag[rows] - full.astype(np.float32)
    error = (moved - moved[:, [winner]]).std(axis=0, ddof=1)
    far = float(norm.isf(_SCREEN_SHARE * (1 - level) / len(full)))
    near = np.flatnonzero(behind <= far * error + 1e-9)
    # The maximum over j of (moved j - moved m) is one maximum a row: this is why the differences are not studentised.
    largest = moved[:, near].max(axis=1, keepdims=True) - moved[:, near]
    limit = np.quantile(largest, 1 - (1 - _SCREEN_SHARE) * (1 - level), axis=0)
    tied = near[behind[near] <= limit + 1e-6 * (1 + np.abs(full[near]))]
    ranked = sorted((int(m) for m in tied if m != winner), key=lambda m: (behind[m], m))
    return [winner, *ranked]


def _cheapest(ties: list[Model], cost: Mapping[str, float] | None) -> Model | None:
    """Return the model of the cheapest trial; `ties` are in the order of their scores, which breaks ties."""
    known = [model for model in ties if cost and math.isfinite(cost.get(model[0], math.nan))]
    return min(known, key=lambda model: (cost or {})[model[0]]) if known else None


def _construction(sweep: _Sweep, level: float, bootstraps: int) -> str:
    percent = f"{100 * level:g} %"
    better = "upper" if sweep.mode == "max" else "lower"
    error = "the out-of-bag scores' standard deviation times 0.763"
    if sweep.metric == "accuracy":
        base = "Wilson's interval at that score and the number of validation samples"
    elif sweep.metric in BOUNDED:
        base = f"Wilson's interval at that score and the number of samples that has as its standard error {error}"
    else:
        base = f"a normal interval whose standard error is {error}"
    return (
        f"Score: mean out-of-bag score over {bootstraps} bootstraps of the whole selection (BBC-CV). {percent} "
        f"interval for the true score of the selected model: {base}, its {better} end moved out by what the selected "
        f"model is ahead of the models that the bootstraps select. Ties: {percent} confidence set for the best "
        "model, by the largest paired bootstrap difference over all models."
    )


def _note(table: Resampled, sweep: _Sweep, usable: NDArray[np.bool_], n: int) -> str:
    """Return what the correction leaves open, in sentences."""
    parts = []
    known = set(table.models)
    could = [
        (trial, epoch)
        for trial, epochs in (sweep.scores or {}).items()
        for epoch, value in epochs.items()
        if value is not None and math.isfinite(value)
    ]
    missing = sum(model not in known for model in could)
    if missing:
        parts.append(
            f"{missing} of {len(could)} models (trial, epoch) that could have been chosen have no usable predictions: "
            "the correction and the ties cover the others, and what those add is not corrected"
        )
    elif table.skipped:
        parts.append("left out:" + _skipped(table).removeprefix(";"))
    if len(table.models) == 1:
        parts.append("there is one model, so nothing was selected")
    if not usable.all():
        parts.append(
            f"{int((~usable).sum())} of {len(usable)} bootstraps left the metric undefined and are not counted"
        )
    if n < _FEW_SAMPLES:
        parts.append(f"with {n} validation samples the interval is rough")
    return "; ".join(parts)


def _skipped(table: Resampled) -> str:
    return "".join(f"; {count} models {why}" for why, count in table.skipped.items())


def _name(model: Model) -> str:
    return f"{model[0]} at epoch {model[1]}"
