"""How the search went: best so far, learning curves with bands, time and epochs a trial."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tuner.analysis.scores import comparable, feasible, sign_of


def best_so_far(trials: pd.DataFrame, epochs: pd.DataFrame, metric: str, mode: str) -> pd.DataFrame:
    """Return the best value so far, trial by trial in the order of their numbers.

    Returns:
        number, trial, status, value (its best; NaN without one), best (so far), improves, elapsed_s (from the
        sweep's first start to the trial's last report; NaN where the frames do not tell).
    """
    trials = feasible(comparable(trials))
    trials = trials.sort_values("number") if "number" in trials else trials
    sign = sign_of(mode)
    finite = epochs[np.isfinite(epochs[metric].astype(float))] if metric in epochs else epochs.iloc[:0]
    groups = (
        (sign * finite[metric].astype(float)).groupby(finite["trial"]).min() if len(finite) else pd.Series(dtype=float)
    )
    value = trials["trial"].map(groups).astype(float)
    best = value.cummin().ffill()
    return pd.DataFrame(
        {
            "number": list(trials["number"]),
            "trial": list(trials["trial"]),
            "status": list(trials["status"]),
            "value": (sign * value).to_numpy(),
            "best": (sign * best).to_numpy(),
            "improves": (value < best.shift(fill_value=np.inf).fillna(np.inf)).to_numpy(),
            "elapsed_s": _elapsed_s(trials, epochs),
        }
    )


def _elapsed_s(trials: pd.DataFrame, epochs: pd.DataFrame) -> list[float]:
    if "reported_at" not in epochs or "started_at" not in trials or not len(epochs):
        return [float("nan")] * len(trials)
    start = trials["started_at"].min()
    last = trials["trial"].map(epochs.groupby("trial")["reported_at"].max())
    return [float(seconds) for seconds in (last - start).dt.total_seconds()]


def best_by_time(trials: pd.DataFrame, epochs: pd.DataFrame, metric: str, mode: str) -> pd.DataFrame:
    """Return the best value so far at each report that improved it: elapsed_s (from the first start), best, trial."""
    empty = pd.DataFrame({"elapsed_s": [], "best": [], "trial": []})
    trials = feasible(comparable(trials))
    if metric not in epochs or "reported_at" not in epochs or not len(trials):
        return empty
    own = epochs[epochs["trial"].isin(trials["trial"]) & np.isfinite(epochs[metric].astype(float))]
    if not len(own):
        return empty
    own = own.sort_values("reported_at", kind="stable")
    signed = sign_of(mode) * own[metric].astype(float)
    improves = signed < signed.cummin().shift(fill_value=np.inf)
    start = trials["started_at"].min() if "started_at" in trials else own["reported_at"].min()
    elapsed = (own["reported_at"] - start).dt.total_seconds()
    return pd.DataFrame(
        {"elapsed_s": elapsed[improves], "best": own[metric][improves], "trial": own["trial"][improves]}
    ).reset_index(drop=True)


def curve_bands(
    trials: pd.DataFrame, epochs: pd.DataFrame, metric: str, mode: str, quantiles: tuple[float, float] = (0.1, 0.9)
) -> pd.DataFrame:
    """Return, of each epoch, how the trials that reached it did.

    Args:
        trials: As in results.
        epochs: As in results.
        metric: Any column of `epochs`.
        mode: "max" or "min".
        quantiles: Of the band, each from 0 to 1.

    Returns:
        epoch, n, low and high (the band), median, best (of all trials at this epoch), winner (the curve of the
        trial with the best value of all; NaN once it has ended).
    """
    columns = ["epoch", "n", "low", "median", "high", "best", "winner"]
    own = epochs[epochs["trial"].isin(comparable(trials)["trial"])] if len(trials) and len(epochs) else epochs.iloc[:0]
    if metric not in own or not len(own):
        return pd.DataFrame({column: [] for column in columns})
    own = own.assign(value=own[metric].astype(float))
    own = own[np.isfinite(own["value"])]
    if not len(own):
        return pd.DataFrame({column: [] for column in columns})
    groups = own.groupby("epoch")["value"]
    top = own.loc[(sign_of(mode) * own["value"]).idxmin(), "trial"]
    winner = own[own["trial"] == top].set_index("epoch")["value"]
    bands = pd.DataFrame(
        {
            "n": groups.size(),
            "low": groups.quantile(quantiles[0]),
            "median": groups.median(),
            "high": groups.quantile(quantiles[1]),
            "best": groups.min() if mode == "min" else groups.max(),
        }
    )
    return bands.assign(winner=winner.reindex(bands.index)).reset_index()[columns]


def costs(trials: pd.DataFrame) -> pd.DataFrame:
    """Return what each trial cost: number, trial, status, epochs, duration_s, epoch_s (mean; NaN without any)."""
    trials = comparable(trials)
    epochs, seconds = trials["epochs"].astype(float), trials["duration_s"].astype(float)
    frame = trials[["number", "trial", "status", "epochs", "duration_s"]].copy()
    return frame.assign(epoch_s=(seconds / epochs.where(epochs > 0)).astype(float))
