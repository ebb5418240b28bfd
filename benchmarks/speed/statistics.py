"""Medians, ratios and slopes of interleaved repeats; None stands for a round in which something was not run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

Times = Sequence[float | None]

NOT_REPEATED = 1.15
"""What took that many times as long as the best of its kind in the first round is not run again."""


def median(times: Times) -> float | None:
    """Return the median of the rounds that were run; None where there is none."""
    run = [seconds for seconds in times if seconds is not None]
    return statistics.median(run) if run else None


def ratio(slower: Times, faster: Times) -> float | None:
    """Return the median, over the rounds in which both ran, of how many times as long the first took."""
    return median([a / b for a, b in zip(slower, faster, strict=False) if a is not None and b is not None])


def better(seconds: Mapping[str, Times], names: Sequence[str]) -> str | None:
    """Return which of some competitors has the lowest median; None where none was run."""
    medians = {name: found for name in names if (found := median(seconds.get(name, ()))) is not None}
    return min(medians, key=lambda name: medians[name]) if medians else None


def order(names: Sequence[str], round_: int) -> list[str]:
    """Return the competitors of a round, from 0: each begins with another, and every second one runs backwards."""
    turned = [*names[round_ % len(names) :], *names[: round_ % len(names)]] if names else []
    return turned[::-1] if round_ % 2 else turned


def left_out(first: Mapping[str, float | None], groups: Sequence[Sequence[str]]) -> list[str]:
    """Return who need not be run again: of each group, what was clearly slower than its best in the first round.

    Args:
        first: Seconds of the first round.
        groups: Ways to do the same of which only the better is compared with.
    """
    out = []
    for group in groups:
        run = {name: seconds for name in group if (seconds := first.get(name)) is not None}
        out += [name for name, seconds in run.items() if seconds > NOT_REPEATED * min(run.values())]
    return out


def marginal(few: Times, many: Times, more: int) -> list[float]:
    """Return, for each round, the seconds of one more thing, of runs that differ by `more` of them."""
    return [(b - a) / more for a, b in zip(few, many, strict=True) if a is not None and b is not None]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of the least-squares line; x must have two different values."""
    return statistics.linear_regression(x, y).slope


def difference(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[float, float]:
    """Return the mean over the configs of (ours - theirs), and that mean's standard error.

    Args:
        ours: Accuracy by config.
        theirs: Accuracy of the same configs; those that one side has not are left out.
    """
    gaps = [ours[config] - theirs[config] for config in ours if config in theirs]
    if len(gaps) < 2:
        return math.nan, math.nan
    return statistics.mean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps))


def window_seconds(ends: Sequence[float], warm_up: int, size: int) -> tuple[float, float]:
    """Return how long the first and the last `size` trials took, of the sorted times at which trials ended.

    Args:
        ends: Seconds, on any clock; more than warm_up + size of them.
        warm_up: So many first trials are left out.
        size: Trials of each window.
    """
    return ends[warm_up + size] - ends[warm_up], ends[-1] - ends[-1 - size]
