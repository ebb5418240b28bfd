"""What each trial's learning curve shows, and which learning rates were too high or too low.

Curves are compared as losses: what is maximised is negated. Thresholds are in two units: sigma, the noise of a curve
(from its second differences, which a smooth trend hardly moves), and span, what there was to learn in this sweep (from
the value before the first step down to the best value of any trial).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.analysis.features import values_of
from tuner.analysis.scores import comparable, sentence, sign_of

Floats = NDArray[np.float64]
Kind = Literal[
    "diverged",
    "not_learning",
    "underfitting",
    "good_fit",
    "overfitting",
    "still_improving",
    "unstable",
    "cannot_tell",
]

LEAST_EPOCHS = 4
"""Fewer epochs do not tell a trend from noise; only divergence shows at once."""
CLEAR = 3.0
"""A change counts when it is more than so many sigmas of the curve's noise."""
DIVERGED = 0.1
"""Diverged: training ends above its start by this share of the span (and clearly), or is not finite."""
LEARNED = 0.05
"""Not learning: the curve never falls below its start by this share of the span (or not clearly)."""
SWINGS = 0.15
"""Unstable: the noise is more than this share of what the curve has fallen by."""
RISE = 0.1
"""Overfitting: validation ends above its lowest point by this share of the span, or stays there while training
falls on by as much."""
GAP = 0.25
"""Overfitting, too: validation ends above training by this share of the span. Underfitting: training ends above the
sweep's best by this share of it."""
IMPROVING = 0.05
"""Still improving: the last quarter of the epochs brought this share of all that the curve has fallen by."""


@dataclass(frozen=True)
class Curve:
    """What one trial's curve shows.

    Args:
        kind: One of the classes; "cannot_tell" where the curve is too short, or says too little.
        from_epoch: overfitting: the epoch from which on it is (the best one); otherwise None, but for a curve that
            gets worse for a reason that cannot be told.
        why: One sentence with the numbers.
    """

    kind: Kind
    from_epoch: int | None
    why: str


@dataclass(frozen=True)
class Frame:
    """What a sweep's curves are measured by.

    Args:
        start: The loss before the first step, or None where it is unknown.
        best_train: The lowest training loss of any trial, or None.
        best: The lowest validation loss of any trial, or None.
        span: What there was to learn, above 0.
        noise: The median of the curves' sigmas, for curves too short to have their own.
    """

    start: float | None
    best_train: float | None
    best: float | None
    span: float
    noise: float


def sigma(values: Sequence[float] | Floats) -> float | None:
    """Return the noise (standard deviation) of a curve about its trend, or None with fewer than 4 values.

    The median of the second differences' sizes; of a long curve those of its later two thirds, where it bends less.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < LEAST_EPOCHS:
        return None
    bends = np.abs(np.diff(values[len(values) // 3 if len(values) >= 9 else 0 :], n=2))
    # Second differences of white noise have 6 times its variance; 0.6745 is the median of |normal|.
    return float(np.median(bends) / 0.6745 / math.sqrt(6))


def classify_curve(
    val: Sequence[float],
    train: Sequence[float] | None = None,
    *,
    epochs: Sequence[int] | None = None,
    start: float | None = None,
    span: float | None = None,
    best_train: float | None = None,
    best: float | None = None,
    noise: float = 0.0,
) -> Curve:
    """Class one curve; see the constants of this module for what the classes mean.

    Args:
        val: The loss on the validation split, an epoch each; what is maximised negated.
        train: The same on the training split; None where it was not measured, and then neither under- nor
            overfitting can be told.
        epochs: Their numbers; None: 1, 2, ...
        start: The loss before the first step; None: the first epoch stands for it.
        span: What there was to learn; None: what this curve has learned.
        best_train: The lowest training loss of any trial; None: it is not compared.
        best: The lowest validation loss of any trial; None: it is not compared.
        noise: The noise to go by, where the curve has less or is too short to show its own.
    """
    v = np.asarray(val, dtype=float)
    t = None if train is None else np.asarray(train, dtype=float)
    numbers = list(epochs) if epochs is not None else list(range(1, len(v) + 1))
    if not len(v):
        return Curve("cannot_tell", None, "no epoch was reported")
    if not np.isfinite(v).all() or (t is not None and not np.isfinite(t).all()):
        bad = ~np.isfinite(v) if t is None else ~np.isfinite(v) | ~np.isfinite(t)
        return Curve("diverged", None, f"not finite at epoch {numbers[int(np.argmax(bad))]}")
    lead = v if t is None else t
    first = float(lead[0]) if start is None else start
    extent = span if span else max(float(np.ptp(np.append(lead, first))), 1e-12)
    return _classify(v, t, numbers, first, start is None, Frame(start, best_train, best, extent, noise))


def _classify(v: Floats, t: Floats | None, numbers: list[int], first: float, guessed: bool, frame: Frame) -> Curve:
    lead = v if t is None else t
    swing = max(sigma(lead) or 0.0, frame.noise)
    end, low = _end(lead), float(lead.min())
    if end > first + max(DIVERGED * frame.span, CLEAR * swing) and (
        t is not None or low >= first - LEARNED * frame.span
    ):
        return Curve("diverged", None, f"ends at {end:.4g}, above its start of {first:.4g}")
    if len(v) < LEAST_EPOCHS:
        return Curve("cannot_tell", None, f"{len(v)} epochs, and {LEAST_EPOCHS} are the least to tell a trend")
    fall = first - low
    settled = float(np.median(lead[len(lead) // 2 :]))
    if fall < max(LEARNED * frame.span, CLEAR * swing) and first - settled < LEARNED * frame.span:
        far = frame.best is not None and _end(v) > frame.best + GAP * frame.span
        if guessed and not far and frame.best is not None:
            return Curve("good_fit", None, "flat from the first epoch on, and among the best")
        return Curve("not_learning", None, f"never clearly below its start of {first:.4g}")
    for check in (_unstable, _overfitting, _improving):
        found = check(v, t, numbers, fall, frame)
        if found:
            return found
    return _settled(v, t, numbers, first, frame)


def _end(values: Floats) -> float:
    """Return where a curve ends: the mean of its last tenth."""
    return float(values[-max(1, len(values) // 10) :].mean())


def _unstable(v: Floats, t: Floats | None, numbers: list[int], fall: float, frame: Frame) -> Curve | None:
    for name, values in (("training", t), ("validation", v)):
        if values is None:
            continue
        swing = sigma(values) or 0.0
        drop = max(fall, float(values[0] - values.min()))
        if swing > SWINGS * drop:
            return Curve("unstable", None, f"{name} swings by {swing:.3g} about its trend, and it fell by {drop:.3g}")
    return None


def _overfitting(v: Floats, t: Floats | None, numbers: list[int], fall: float, frame: Frame) -> Curve | None:
    low = int(v.argmin())
    clear = max(RISE * frame.span, CLEAR * max(sigma(v) or 0.0, frame.noise))
    rise = _end(v) - float(v[low])
    if t is None:
        if rise > clear:
            why = f"gets worse by {rise:.3g} after epoch {numbers[low]}, and without a training curve nobody knows why"
            return Curve("cannot_tell", numbers[low], why)
        return None
    fell = float(t[low]) - _end(t)
    if rise > clear and fell > -clear / 2:
        return Curve("overfitting", numbers[low], f"validation rises by {rise:.3g} after epoch {numbers[low]}")
    still = low < len(v) - max(2, len(v) // 4)
    if still and fell > clear:
        why = f"training falls by {fell:.3g} after epoch {numbers[low]}, validation does not"
        return Curve("overfitting", numbers[low], why)
    gap = v - t
    if _end(gap) > max(GAP * frame.span, CLEAR * frame.noise) and not _improves(v, frame):
        opened = int(np.argmax(gap > _end(gap) / 2))
        return Curve("overfitting", numbers[opened], f"validation ends {_end(gap):.3g} above training")
    return None


def _improves(v: Floats, frame: Frame) -> bool:
    """Say whether the last quarter of a curve is clearly below the quarter before it."""
    count = max(1, len(v) // 4)
    last, before = float(v[-count:].mean()), float(v[-2 * count : -count].mean())
    swing = max(sigma(v) or 0.0, frame.noise)
    needed = max(IMPROVING * float(v.max() - v.min()), 0.01 * frame.span, 2 * swing * math.sqrt(2 / count))
    return before - last > needed


def _improving(v: Floats, t: Floats | None, numbers: list[int], fall: float, frame: Frame) -> Curve | None:
    if not _improves(v, frame):
        return None
    return Curve("still_improving", None, f"still falling at epoch {numbers[-1]}")


def _settled(v: Floats, t: Floats | None, numbers: list[int], first: float, frame: Frame) -> Curve:
    if t is None:
        if frame.best is not None and _end(v) > frame.best + GAP * frame.span:
            return Curve(
                "cannot_tell", None, "settled far from the best, and without a training curve nobody knows why"
            )
        return Curve("good_fit", None, "settled, near the best")
    end = _end(t)
    if frame.best_train is not None and end > frame.best_train + GAP * frame.span:
        return Curve("underfitting", None, f"training settled at {end:.4g}; the best trial's is {frame.best_train:.4g}")
    if frame.best_train is None and first > 0 and end > first / 2:
        return Curve("underfitting", None, f"training settled at {end:.4g}, more than half of its start")
    alone = "" if frame.best_train is not None else "; there is no other trial to compare it with"
    return Curve("good_fit", None, f"settled, with a gap of {_end(v) - end:.3g}{alone}")


# --- a whole sweep ---


@dataclass(frozen=True)
class Pair:
    """Which metrics the curves are.

    Args:
        train: The training metric, or None.
        val: The validation metric.
        sign: What makes them losses.
    """

    train: str | None
    val: str
    sign: float


@dataclass(frozen=True)
class Learned:
    """One trial's curves as losses.

    Args:
        epochs: Their numbers.
        val: (n,).
        train: (n,), or None.
    """

    epochs: list[int]
    val: Floats
    train: Floats | None


@dataclass(frozen=True)
class Diagnosis:
    """What a sweep's curves show.

    Args:
        curves: Trial -> its class. Failed trials are in it too.
        counts: Class -> how many trials.
        learning_rates: What the rates show, a group an optimizer and schedule; empty where none was recorded.
        note: What the classes rest on, and what cannot be said.
    """

    curves: dict[str, Curve]
    counts: dict[str, int]
    learning_rates: tuple[RateGroup, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Rate:
    """What one trial says of its learning rate.

    Args:
        trial: Its name.
        learning_rate: Its config's.
        kind: very_high: does not learn, or the error grows; high: learns, but overshoots and does not settle;
            good; low: slow; cut_short: cannot tell.
        why: One sentence.
    """

    trial: str
    learning_rate: float
    kind: Literal["very_high", "high", "good", "low", "cut_short"]
    why: str


@dataclass(frozen=True)
class RateGroup:
    """The learning rates of one optimizer and schedule.

    Args:
        optimizer: As in the configs; "" where they have none.
        schedule: As in the configs; "" where they have none.
        rates: A trial each, by rising rate.
        limits: Where the limits lie in this sweep: sentences with counts.
    """

    optimizer: str
    schedule: str
    rates: tuple[Rate, ...] = ()
    limits: tuple[str, ...] = field(default=())


def diagnose(
    trials: pd.DataFrame, epochs: pd.DataFrame, metric: str, mode: str, *, classes: int | None = None
) -> Diagnosis:
    """Class every trial's curve and every learning rate. Never raises on odd data: then `note` says what is missing.

    Curves are the loss on both splits where the trainable reports it, else the accuracy, else the sweep's metric
    alone. The value before the first step is the metric start_loss, as the built-in trainables report it; without it,
    of a cross-entropy ln(classes), of a squared error the target's variance, from val_loss and val_r2; else the first
    epoch's.

    Args:
        trials: As in results.
        epochs: As in results.
        metric: The sweep's metric.
        mode: "max" or "min".
        classes: The number of classes; None where it is unknown, or the target is a value.
    """
    from tuner.analysis.rates import learning_rates

    trials = comparable(trials)
    pair = pair_of(epochs, metric, mode)
    if not len(trials):
        return Diagnosis({}, {}, (), "there are no trials")
    if pair is None:
        return Diagnosis({}, {}, (), f"no trial has reported {metric}")
    learned = curves_of(epochs, pair, [str(trial) for trial in trials["trial"]])
    start, told = start_of(epochs, pair, classes)
    frame = frame_of(learned.values(), start)
    found = {
        str(trial): _of_trial(learned.get(str(trial)), frame, cause)
        for trial, cause in zip(trials["trial"], values_of(trials, "cause"), strict=True)
    }
    counts: dict[str, int] = {}
    for curve in found.values():
        counts[curve.kind] = counts.get(curve.kind, 0) + 1
    rates = learning_rates(trials, learned, frame) if pair.train else ()
    lacks = "" if pair.train else "no training metric beside it: under- and overfitting cannot be told"
    note = sentence((f"judged on {' and '.join(n for n in (pair.train, pair.val) if n)}", told, lacks))
    return Diagnosis(found, counts, rates, note)


def pair_of(epochs: pd.DataFrame, metric: str, mode: str) -> Pair | None:
    """Return which metrics show the learning: the loss, else the accuracy, else the sweep's metric alone."""
    for name, sign in (("loss", 1.0), ("accuracy", -1.0)):
        if _has(epochs, f"train_{name}") and _has(epochs, f"val_{name}"):
            return Pair(f"train_{name}", f"val_{name}", sign)
    return Pair(None, metric, sign_of(mode)) if metric in epochs else None


def _has(epochs: pd.DataFrame, name: str) -> bool:
    return name in epochs and bool(epochs[name].notna().any())


def curves_of(epochs: pd.DataFrame, pair: Pair, names: Sequence[str]) -> dict[str, Learned]:
    """Return the curves of these trials, from epoch 1; epochs without a value are left out of a curve.

    A NaN or an infinity that was reported cannot be told from a missing value in the frames, so both are left out
    unless the trial failed for it.
    """
    wanted = epochs[epochs["trial"].isin(names) & (epochs["epoch"] >= 1)]
    wanted = wanted[wanted[pair.val].notna()] if pair.train is None else wanted
    if pair.train is not None:
        wanted = wanted[wanted[pair.val].notna() & wanted[pair.train].notna()]
    learned = {}
    for trial, part in wanted.sort_values("epoch").groupby("trial", sort=False):
        train = None if pair.train is None else pair.sign * part[pair.train].to_numpy(dtype=float)
        val = pair.sign * part[pair.val].to_numpy(dtype=float)
        learned[str(trial)] = Learned([int(epoch) for epoch in part["epoch"]], val, train)
    return learned


def start_of(epochs: pd.DataFrame, pair: Pair, classes: int | None) -> tuple[float | None, str]:
    """Return the value before the first step as a loss, or None; and how it is known."""
    name = pair.train or pair.val
    if name == "train_loss" and _has(epochs, "start_loss"):
        starts = epochs.groupby("trial")["start_loss"].first().dropna()
        return float(starts.median()), "the start is the evaluation before the first step"
    if classes and classes > 1:
        if name == "train_loss":
            return math.log(classes), f"the start is ln({classes}), the cross-entropy of a guess"
        if name == "train_accuracy":
            return -1 / classes, f"the start is 1 in {classes}, the accuracy of a guess"
    if name == "train_loss" and _has(epochs, "val_r2"):
        # 1 - r2 = loss / variance, so every epoch tells the variance: the loss of predicting the mean.
        variances = (epochs["val_loss"] / (1 - epochs["val_r2"])).replace([math.inf, -math.inf], math.nan).dropna()
        if len(variances) and float(variances.median()) > 0:
            return float(variances.median()), "the start is the target's variance, the error of predicting its mean"
    return None, "no evaluation before the first step: the first epoch stands for it"


def frame_of(learned: Iterable[Learned], start: float | None) -> Frame:
    """Return what the curves of a sweep are measured by."""
    curves = list(learned)
    leads = [finite for curve in curves if len(finite := _finite(curve.val if curve.train is None else curve.train))]
    vals = [finite for curve in curves if len(finite := _finite(curve.val))]
    if not leads or not vals:
        return Frame(start, None, None, 1.0, 0.0)
    low = min(float(lead.min()) for lead in leads)
    # Without a known start: a bad first epoch of this sweep, but not the very worst, which may have diverged.
    top = start if start is not None else float(np.quantile([lead[0] for lead in leads], 0.75))
    sigmas = [swing for lead in leads if (swing := sigma(lead)) is not None]
    several = len(leads) > 1
    trained = any(curve.train is not None for curve in curves)
    return Frame(
        start,
        low if trained and several else None,
        min(float(val.min()) for val in vals) if several else None,
        max(top - low, 1e-12),
        float(np.median(sigmas)) if sigmas else 0.0,
    )


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _of_trial(curve: Learned | None, frame: Frame, cause: str | None) -> Curve:
    if cause == "config.non_finite":
        return Curve("diverged", None, "failed: the loss or the metric was not finite")
    if curve is None:
        return Curve("cannot_tell", None, f"no epoch was reported{f' ({cause})' if cause else ''}")
    return classify_curve(
        curve.val.tolist(),
        None if curve.train is None else curve.train.tolist(),
        epochs=curve.epochs,
        start=frame.start,
        span=frame.span,
        best_train=frame.best_train,
        best=frame.best,
        noise=min(frame.noise, 0.05 * frame.span),
    )
