"""Two models on the same samples: the difference of their scores with an interval.

Accuracy: Tango's score interval ("Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", Statistics in Medicine 17, 1998), which only the samples that one of the two gets right decide.
Other metrics: a paired bootstrap of the samples with the bias-corrected and accelerated limits (BCa; Efron, "Better
bootstrap confidence intervals", JASA 82, 1987), the acceleration by jackknife.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from tuner.analysis.resampling import misfit, shaped
from tuner.analysis.weighted import SUPPORTED, Array, weighted_scores

# Beyond that many samples the acceleration, which falls with the root of n, is taken as 0: its cost grows with n * n.
_JACKKNIFE_AT_MOST = 1000


@dataclass(frozen=True)
class Paired:
    """The second model's score minus the first's on the same samples.

    Args:
        first: The first model's score (the baseline); NaN where it cannot be had.
        second: The second model's (the winner).
        difference: second - first, in the metric's units: positive is better only where the mode is "max".
        low: Lower end of the interval at `level`; NaN where there is none.
        high: Upper end.
        n: Samples.
        level: Of the interval.
        construction: How it was made; "" where there is none.
        note: What cannot be said; "" if all is well.
    """

    first: float = math.nan
    second: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    level: float = 0.95
    construction: str = ""
    note: str = ""


def paired_difference(
    first: NDArray[Any],
    second: NDArray[Any],
    y: NDArray[Any],
    metric: str,
    *,
    level: float = 0.95,
    bootstraps: int = 2000,
    seed: int = 0,
) -> Paired:
    """Return the difference of two models' scores on the same samples, with a paired interval.

    Args:
        first: Class probabilities (N, K) or values (N,) of the first model, in the order of y.
        second: Those of the second.
        y: Class indices or targets (N,).
        metric: A built-in metric, such as "test_accuracy", "val_accuracy" or "accuracy".
        level: Of the interval, between 0 and 1.
        bootstraps: For metrics other than accuracy.
        seed: Of the bootstraps.

    Returns:
        NaN and a note wherever something cannot be said; odd data raise nothing.
    """
    name, y = metric.removeprefix("val_").removeprefix("test_"), np.asarray(y)
    models = (shaped(first), shaped(second))
    empty = Paired(n=len(y), level=level)
    why = "" if name in SUPPORTED else f"{metric} is no built-in metric, so it cannot be computed from predictions"
    if not why and (y.ndim != 1 or not len(y) or y.dtype.kind not in "fiub"):
        why = "there are no samples with a number as their label"
    why = why or next(filter(None, (misfit(model, y, name) for model in models)), "")
    if why:
        return replace(empty, note=f"no difference: {why}")
    scores = [float(weighted_scores(name, model[None], y, np.ones((1, len(y))))[0, 0]) for model in models]
    base = replace(empty, first=scores[0], second=scores[1], difference=scores[1] - scores[0])
    if not math.isfinite(base.difference):
        return replace(base, note=f"no difference: {name} is not defined for these predictions")
    if name == "accuracy":
        right = [model.astype(np.float32).argmax(axis=1) == y for model in models]
        gained, lost = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
        low, high = tango(gained, lost, len(y), float(norm.ppf((1 + level) / 2)))
        how = f"Tango's paired score interval, {100 * level:g} %: {gained} samples gained, {lost} lost, of {len(y)}"
        return replace(base, low=low, high=high, construction=how)
    return _bootstrapped(base, models, y, name, bootstraps, seed)


def tango(gained: int, lost: int, n: int, z: float) -> tuple[float, float]:
    """Return Tango's score interval (1998) of a difference of paired proportions.

    Args:
        gained: Samples that only the second gets right.
        lost: Samples that only the first gets right.
        n: All samples, >= 1.
        z: Normal quantile of the level.
    """

    def score(delta: float) -> float:
        b = -gained - lost + (2 * n - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        q = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * q + delta * (1 - delta))
        away = gained - lost - n * delta
        return away / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, away) if away else 0.0

    edge, estimate = 1 - 1e-12, (gained - lost) / n

    def end(side: float) -> float:
        # Bounded, so that the search never meets an infinite value.
        def gap(delta: float) -> float:
            return max(-1e9, min(1e9, score(delta))) - side

        beyond = -edge if side > 0 else edge
        inside = max(-edge, min(edge, estimate))
        return float(brentq(gap, beyond, inside)) if gap(beyond) * gap(inside) < 0 else math.copysign(1.0, beyond)

    return end(z), end(-z)


def _bootstrapped(
    base: Paired, models: tuple[Array, Array], y: NDArray[Any], metric: str, bootstraps: int, seed: int
) -> Paired:
    n = base.n
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=max(bootstraps, 2)).astype(np.float64)
    drawn = _difference(models, y, metric, weights)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2 or np.ptp(drawn) <= 1e-12 * (1 + abs(base.difference)):
        return replace(base, note="no interval: the difference does not vary between bootstraps of the samples")
    knife = _difference(models, y, metric, np.ones((n, n)) - np.eye(n)) if n <= _JACKKNIFE_AT_MOST else np.empty(0)
    low, high = bca(drawn, base.difference, knife[np.isfinite(knife)], base.level)
    undefined = max(bootstraps, 2) - len(drawn)
    return replace(
        base,
        low=low,
        high=high,
        construction=f"paired bootstrap of the {n} samples, {len(drawn)} times, {100 * base.level:g} % BCa limits",
        note=f"{undefined} bootstraps left the metric undefined and are not counted" if undefined else "",
    )


def _difference(models: tuple[Array, Array], y: NDArray[Any], metric: str, weights: Array) -> Array:
    """Return second - first (B,); one model at a time, since their predictions may differ in shape."""
    first, second = (weighted_scores(metric, model[None], y, weights)[:, 0] for model in models)
    return np.asarray(second - first)


def bca(drawn: Array, estimate: float, knife: Array, level: float) -> tuple[float, float]:
    """Return Efron's BCa limits (1987) of bootstrap values; `knife`: leave-one-out values, none for no acceleration."""
    below = float(((drawn < estimate).mean() + (drawn <= estimate).mean()) / 2)
    shift = float(norm.ppf(min(max(below, 0.5 / len(drawn)), 1 - 0.5 / len(drawn))))
    away = knife.mean() - knife if len(knife) else np.zeros(1)
    squares = float((away**2).sum())
    bend = float((away**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0
    ends = []
    for quantile in norm.ppf([(1 - level) / 2, (1 + level) / 2]):
        moved = shift + float(quantile)
        ends.append(float(norm.cdf(shift + moved / (1 - bend * moved))))
    low, high = np.quantile(drawn, ends)
    return float(low), float(high)
