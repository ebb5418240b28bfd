"""One number a trial, at an epoch that all of them have: what importance, effects and refinement explain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Target = Literal["score", "gap"]
Floats = NDArray[np.float64]

STAGES = ("baseline", "search", "refine")
"""Stages whose trials are compared: those trained on the training split and measured on the validation split."""
FINISHED = ("completed", "stopped")
TAIL = 20.0
"""A score counts as at most so many times as far below the median as the best is above it: beyond that it is
only "very bad", and one loss of 1e9 must not be all that a sweep says."""


@dataclass(frozen=True)
class Scores:
    """One number a trial.

    Args:
        frame: The trials that have one, indexed from 0.
        values: Their numbers (n,), in the metric's own unit; of a trial that failed by its config, the worst.
        epoch: The epoch that all of them have; a score is the best value up to it. None without any.
        notes: What was left out or filled in, a sentence each.
    """

    frame: pd.DataFrame
    values: Floats
    epoch: int | None
    notes: tuple[str, ...]


def sign_of(mode: str) -> float:
    """Return what makes a metric one that is minimised."""
    return 1.0 if mode == "min" else -1.0


def comparable(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials whose scores can be compared: no folds, no retrained winner."""
    kept = trials
    if "stage" in kept:
        kept = kept[kept["stage"].isin(STAGES)]
    if "fold" in kept:
        kept = kept[kept["fold"].isna()]
    return kept.reset_index(drop=True)


def feasible(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials that can be the best: those that break no constraint, as far as that is known."""
    if "feasible" not in trials:
        return trials
    return trials[[value is None or value != value or bool(value) for value in trials["feasible"]]].reset_index(
        drop=True
    )


def failed_by_config(trials: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which trials (n,) failed by what their config is, and not by the machines or the clock."""
    if "cause" not in trials or "status" not in trials:
        return np.zeros(len(trials), dtype=bool)
    by_config = trials["cause"].astype(object).map(lambda cause: str(cause).startswith("config."))
    return np.asarray((trials["status"] == "failed") & by_config.astype(bool), dtype=bool)


def scores(
    trials: pd.DataFrame, epochs: pd.DataFrame, metric: str, mode: str, target: Target = "score", last: bool = False
) -> Scores:
    """Return each trial's score, or its gap between training and validation, at the common epoch.

    The common epoch is the last that every completed or stopped trial has reached. Trials that still run count
    if they have reached it. A trial that failed by its config has the worst score of all, and no gap.

    Args:
        trials: As in results.
        epochs: As in results.
        metric: The sweep's metric.
        mode: "max" or "min".
        target: "score", or "gap": how much worse validation is than training, above 0 where it is worse.
        last: Take each trial's best over all its epochs instead, however many it has.
    """
    trials = comparable(trials)
    curves = _curves(trials, epochs, metric, mode, target)
    if isinstance(curves, str):
        return Scores(trials.iloc[:0], np.empty(0), None, (curves,))
    reached = trials["trial"].map(curves.groupby("trial")["epoch"].max())
    finished = trials["status"].isin(FINISHED) & reached.notna()
    if not finished.any():
        return Scores(trials.iloc[:0], np.empty(0), None, ("no trial has completed",))
    epoch = int(reached[finished].max() if last else reached[finished].min())
    seen = curves[curves["epoch"] <= epoch]
    values = _at(seen, target, mode).reindex(trials["trial"]).to_numpy(dtype=float, copy=True)
    values[~finished.to_numpy() & ~(reached >= epoch).to_numpy()] = np.nan
    return _with_failures(trials, values, epoch, mode, target)


def _curves(trials: pd.DataFrame, epochs: pd.DataFrame, metric: str, mode: str, target: Target) -> pd.DataFrame | str:
    """Return (trial, epoch, value) of finite values, or why there are none."""
    if not len(trials):
        return "there are no trials"
    if target == "gap":
        pair = gap_pair(epochs, metric)
        if pair is None:
            return "the trainable reports no metric on both training and validation, so there is no gap"
        train, val, way = pair
        values = way * (epochs[val] - epochs[train])
    elif metric not in epochs:
        return f"no trial has reported {metric}"
    else:
        values = epochs[metric]
    curves = pd.DataFrame({"trial": epochs["trial"], "epoch": epochs["epoch"], "value": values.astype(float)})
    curves = curves[np.isfinite(curves["value"]) & (curves["epoch"] >= 1)]
    return curves if len(curves) else f"no trial has a finite {metric if target == 'score' else 'gap'}"


def gap_pair(epochs: pd.DataFrame, metric: str) -> tuple[str, str, float] | None:
    """Return (training metric, validation metric, sign that makes a positive gap bad), or None.

    The sweep's own metric where it is measured on both splits, else the loss, else the accuracy.
    """
    own = metric.removeprefix("val_")
    for name in (own, "loss", "accuracy"):
        if f"train_{name}" in epochs and f"val_{name}" in epochs:
            return f"train_{name}", f"val_{name}", -1.0 if name in ("accuracy", "r2", "f1", "roc_auc") else 1.0
    return None


def _at(seen: pd.DataFrame, target: Target, mode: str) -> pd.Series[Any]:
    groups = seen.sort_values("epoch").groupby("trial")["value"]
    if target == "gap":
        return groups.last()
    return groups.min() if mode == "min" else groups.max()


def _with_failures(trials: pd.DataFrame, values: Floats, epoch: int, mode: str, target: Target) -> Scores:
    """Give failed trials the worst score, bring in the far tail, and say who is missing."""
    failed = failed_by_config(trials)
    notes: list[str] = []
    if target == "score":
        values, notes = _tail(values, mode)
        if failed.any():
            bad = sign_of(mode) * np.nanmax(sign_of(mode) * values)
            values = np.where(failed, bad, values)
            notes.append(f"{failed.sum()} {plural('trial', failed.sum())} failed by the config: counted as the worst")
    elif failed.any():
        values = np.where(failed, np.nan, values)
        notes.append(f"{failed.sum()} {plural('trial', failed.sum())} failed by the config: left out")
    has = np.isfinite(values)
    missing = int((~has & ~failed).sum())
    if missing:
        notes.append(f"{missing} of {len(values)} trials have no value up to epoch {epoch}: left out")
    return Scores(trials[has].reset_index(drop=True), values[has], epoch, tuple(notes))


def _tail(values: Floats, mode: str) -> tuple[Floats, list[str]]:
    signed = sign_of(mode) * values
    middle, best = np.nanmedian(signed), np.nanmin(signed)
    limit = middle + TAIL * (middle - best)
    if middle == best:  # half of the trials are alike: no distance to go by
        return values, []
    beyond = int((signed > limit).sum())
    if not beyond:
        return values, []
    note = f"{beyond} very bad {plural('score', beyond)} counted as {sign_of(mode) * limit:.4g}"
    return sign_of(mode) * np.minimum(signed, limit), [note]


def plural(noun: str, count: int) -> str:
    """Return the noun as it stands after a count."""
    return noun if count == 1 else f"{noun}s"


def sentence(notes: Iterable[str]) -> str:
    """Return notes as one line."""
    return "; ".join(note for note in notes if note)
