"""Which learning rates were too high, high, good or low, an optimizer and a schedule at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tuner.analysis.diagnosis import CLEAR, DIVERGED, LEARNED, Frame, Learned, Rate, RateGroup, sigma
from tuner.analysis.features import values_of

LEAST_EPOCHS = 3
"""A shorter curve is cut short, unless it shows at once that the rate is very high."""
SETTLES = 0.1
"""High: the training loss ends above its lowest by this share of what it fell by, or swings by as much."""
GOOD = 0.75
"""Good: at its last epoch, a trial has learned at least this share of what the best had by then."""
LEAST_FOR_LIMIT = 3
"""Fewer trials on one side of a limit are not worth a sentence."""


def learning_rates(trials: pd.DataFrame, learned: Mapping[str, Learned], frame: Frame) -> tuple[RateGroup, ...]:
    """Return what the learning rates show; nothing where the configs have none.

    Judged on the training loss alone: it shows whether steps were too large, and validation does not.

    Args:
        trials: As in results.
        learned: Trial -> its curves.
        frame: What they are measured by.
    """
    columns = ("learning_rate", "optimizer", "lr_schedule")
    rates, optimizers, schedules = (values_of(trials, f"config.{name}") for name in columns)
    causes = values_of(trials, "cause")
    ahead = _best_by_epoch(learned.values())
    groups: dict[tuple[str, str], list[Rate]] = {}
    for trial, rate, optimizer, schedule, cause in zip(
        trials["trial"], rates, optimizers, schedules, causes, strict=True
    ):
        if not isinstance(rate, int | float) or not rate > 0 or isinstance(schedule, list):
            continue  # a manual schedule does not use it
        judged = _judge(str(trial), float(rate), learned.get(str(trial)), frame, ahead, cause)
        groups.setdefault((str(optimizer or ""), str(schedule or "")), []).append(judged)
    return tuple(_group(key, rates) for key, rates in sorted(groups.items()))


def _best_by_epoch(curves: Any) -> dict[int, float]:
    """Return the lowest training loss of any trial up to each epoch."""
    lowest: dict[int, float] = {}
    for curve in curves:
        for epoch, value in zip(curve.epochs, np.fmin.accumulate(curve.train), strict=True):
            lowest[epoch] = min(lowest.get(epoch, np.inf), float(value))
    return lowest


def _judge(
    trial: str, rate: float, curve: Learned | None, frame: Frame, ahead: Mapping[int, float], cause: Any
) -> Rate:
    if cause == "config.non_finite":
        return Rate(trial, rate, "very_high", "the loss was not finite")
    if curve is None or curve.train is None or not len(curve.train):
        return Rate(trial, rate, "cut_short", "no epoch was reported")
    loss = curve.train
    if not np.isfinite(loss).all():
        return Rate(trial, rate, "very_high", "the loss was not finite")
    start = float(loss[0]) if frame.start is None else frame.start
    swing = min(max(sigma(loss) or 0.0, 0.0), frame.span)
    fall, low, end = start - float(loss.min()), float(loss.min()), float(loss[-1])
    if end > start + DIVERGED * frame.span:
        return Rate(trial, rate, "very_high", f"the loss grew from {start:.4g} to {end:.4g}")
    if len(loss) < LEAST_EPOCHS:
        return Rate(trial, rate, "cut_short", f"{len(loss)} epochs")
    if fall < LEARNED * frame.span:
        # Stuck at the start: too large steps kill a network, too small ones leave it where it is. Steps that are too
        # small still lower the loss, little by little.
        falls = bool(np.all(np.diff(loss) <= 0)) or float(loss[0] - end) > CLEAR * swing
        kind = "low" if falls and float(loss[0]) > end else "very_high"
        return Rate(trial, rate, kind, f"the loss stays at its start of {start:.4g}")  # type: ignore[arg-type]
    if end - low > SETTLES * fall or swing > SETTLES * fall:
        return Rate(trial, rate, "high", f"the loss swings by {max(swing, end - low):.3g}, and fell by {fall:.3g}")
    return _pace(trial, rate, curve, start, low, ahead)


def _pace(trial: str, rate: float, curve: Learned, start: float, low: float, ahead: Mapping[int, float]) -> Rate:
    """Judge a curve that falls and settles by how fast it falls."""
    assert curve.train is not None
    last = curve.epochs[-1]
    share = (start - low) / max(start - ahead[last], 1e-12)
    if share >= GOOD:
        return Rate(trial, rate, "good", f"learned {share:.0%} of what the best had by epoch {last}")
    half = len(curve.train) // 2
    if float(curve.train[half - 1] if half else start) - float(curve.train[-1]) > 0.1 * (start - low):
        return Rate(trial, rate, "low", f"learned {share:.0%} of what the best had by epoch {last}, and still falls")
    return Rate(trial, rate, "cut_short", f"settled at {share:.0%} of what the best had: not the rate's doing alone")


def _group(key: tuple[str, str], rates: list[Rate]) -> RateGroup:
    ordered = sorted(rates, key=lambda rate: rate.learning_rate)
    good = [rate.learning_rate for rate in ordered if rate.kind == "good"]
    learns = [rate.learning_rate for rate in ordered if rate.kind in ("good", "high")]
    if learns:
        ordered = [_placed(rate, learns[0], good) for rate in ordered]
    return RateGroup(*key, tuple(ordered), tuple(_limits(key, ordered)))


def _placed(rate: Rate, first: float, good: Sequence[float]) -> Rate:
    """Return a rate judged by where it lies, too: too large steps can look as slow as too small ones.

    Args:
        rate: As its own curve tells.
        first: The lowest rate that learns.
        good: The good rates, rising.
    """
    at, stuck = rate.learning_rate, "stays" in rate.why
    if rate.kind == "very_high" and stuck and at < first:
        return dataclasses.replace(rate, kind="low")
    if rate.kind != "low" or not good or at < good[0]:
        return rate
    if at > good[-1]:
        why = f"{rate.why}; rates {_range(good)} are good"
        return dataclasses.replace(rate, kind="very_high" if stuck else "high", why=why)
    return dataclasses.replace(rate, kind="cut_short", why=f"{rate.why}, among good rates: not the rate's doing alone")


def _limits(key: tuple[str, str], rates: Sequence[Rate]) -> list[str]:
    """Return where the limits lie, as sentences with counts; cut-short trials do not count."""
    told = [rate for rate in rates if rate.kind != "cut_short"]
    who = " with ".join(part for part in (key[0], key[1]) if part)
    prefix = f"{who}: " if who else ""
    found: list[tuple[int, str]] = []
    for kinds, words in (({"very_high"}, "diverges or does not learn"), ({"very_high", "high"}, "is too high")):
        place = _split([rate.kind in kinds for rate in told])
        beyond = told[place:]
        if len(beyond) < LEAST_FOR_LIMIT or (found and kinds == {"very_high", "high"} and place >= found[0][0]):
            continue
        hits = sum(rate.kind in kinds for rate in beyond)
        where = f"above {told[place - 1].learning_rate:.2g}" if place else "at every rate tried"
        found.append((place, f"{prefix}learning_rate {where} {words} in {hits} of {len(beyond)} trials"))
    sentences = [text for _, text in found]
    place = _split([rate.kind != "low" for rate in told])
    if place >= LEAST_FOR_LIMIT and place < len(told):
        slow = sum(rate.kind == "low" for rate in told[:place])
        limit = told[place].learning_rate
        sentences.append(f"{prefix}learning_rate below {limit:.2g} is slow in {slow} of {place} trials")
    good = [rate.learning_rate for rate in told if rate.kind == "good"]
    if len(good) >= LEAST_FOR_LIMIT:
        inside = [rate for rate in told if good[0] <= rate.learning_rate <= good[-1]]
        sentences.append(f"{prefix}learning_rate {_range(good)} is good in {len(good)} of {len(inside)} trials")
    return sentences


def _range(rates: Sequence[float]) -> str:
    """Return "from a to b", of rising rates; "of a" where they are one."""
    low, high = f"{rates[0]:.2g}", f"{rates[-1]:.2g}"
    return f"from {low} to {high}" if low != high else f"of {low}"


def _split(above: Sequence[bool]) -> int:
    """Return the place from which on most are true and before which most are not: the fewest mistakes.

    Ties go to the higher place, so that nothing is claimed that was not seen; no true at all gives the end.
    """
    count = len(above)
    mistakes = [sum(above[:place]) + sum(not a for a in above[place:]) for place in range(count + 1)]
    least = min(mistakes)
    return max(place for place, wrong in enumerate(mistakes) if wrong == least)
