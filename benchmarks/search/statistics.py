"""What many runs say: medians, ranks and whether they differ, failing trials, what concurrency costs.

Regrets are told as shares of what half of all random configs reach (1: no better than that; 0: the optimum).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range

Floats = NDArray[np.float64]
Regrets = Mapping[tuple[str, str, int], Floats]
"""(task, competitor, concurrency) -> regrets (seeds, trials), as shares of the median random regret."""

AT = (20, 50, 100)
LEVEL = 0.05


@dataclass(frozen=True)
class Ranks:
    """Mean ranks over tasks, 1 the best.

    Args:
        mean: Of each competitor: the mean over the tasks of the rank of its median regret over the seeds.
        p: Of Friedman's test that all are alike.
        critical_difference: By how much two mean ranks must differ for Nemenyi's test to tell them apart.
        tasks: Over how many tasks.
    """

    mean: dict[str, float]
    p: float
    critical_difference: float
    tasks: int


def ranks(regrets: Regrets, tasks: Sequence[str], names: Sequence[str], concurrency: int, trials: int) -> Ranks:
    """Return the mean ranks after a number of trials.

    Source: J. Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006: one rank a task,
    since runs on one task are no independent evidence, Friedman's test, and Nemenyi's for all pairs.
    """
    table = np.array([[_median(regrets[t, n, concurrency], trials) for n in names] for t in tasks])
    each = np.array([rankdata(np.round(row, 9)) for row in table])
    same = len(names) < 3 or bool((each == each[:, :1]).all())
    p = math.nan if same else float(friedmanchisquare(*each.T).pvalue)
    return Ranks(
        mean={name: float(rank) for name, rank in zip(names, each.mean(axis=0), strict=True)},
        p=p,
        critical_difference=critical_difference(len(names), len(tasks)),
        tasks=len(tasks),
    )


def critical_difference(competitors: int, tasks: int) -> float:
    """Return Nemenyi's critical difference of mean ranks at the level of 0.05."""
    q = float(studentized_range.ppf(1 - LEVEL, competitors, 1e6)) / math.sqrt(2)
    return q * math.sqrt(competitors * (competitors + 1) / (6 * tasks))


def run_ranks(regrets: Regrets, tasks: Sequence[str], names: Sequence[str], concurrency: int, trials: int) -> Any:
    """Return each competitor's mean rank over all runs, one rank a task and seed."""
    per_task = []
    for task in tasks:
        values = np.stack([_at(regrets[task, name, concurrency], trials) for name in names], axis=1)
        per_task.append(np.array([rankdata(np.round(row, 9)) for row in values]).mean(axis=0))
    return {name: float(rank) for name, rank in zip(names, np.mean(per_task, axis=0), strict=True)}


def median_regret(regrets: Regrets, tasks: Sequence[str], name: str, concurrency: int, trials: int) -> float:
    """Return the median over the tasks of the median over the seeds."""
    return float(np.median([_median(regrets[task, name, concurrency], trials) for task in tasks]))


def mean_regret(regrets: Regrets, tasks: Sequence[str], name: str, concurrency: int, trials: int) -> float:
    """Return the mean over the tasks of the median over the seeds."""
    return float(np.mean([_median(regrets[task, name, concurrency], trials) for task in tasks]))


def worse_than_random(regrets: Regrets, tasks: Sequence[str], name: str, trials: int, concurrency: int) -> list[str]:
    """Return the tasks on which a competitor's median is worse than random's upper quartile."""
    found = []
    for task in tasks:
        quartile = float(np.quantile(_at(regrets[task, "random", concurrency], trials), 0.75))
        if _median(regrets[task, name, concurrency], trials) > quartile + 1e-9:
            found.append(task)
    return found


def improvement(regrets: Regrets, tasks: Sequence[str], name: str, concurrency: int, trials: int) -> float:
    """Return by which share of random's regret a competitor is better: the mean of 1 - regret / random's.

    The mean is over the tasks, of medians over the seeds; a task counts as -1 at worst. Random is taken at
    concurrency 1, with as many trials. Tasks where random reaches the optimum are left out.
    """
    gains = []
    for task in tasks:
        random = _median(regrets[task, "random", 1], trials)
        if random > 1e-9:
            gains.append(1 - _median(regrets[task, name, concurrency], trials) / random)
    return float(np.mean(np.maximum(gains, -1.0))) if gains else 0.0


def concurrency_loss(regrets: Regrets, tasks: Sequence[str], name: str, trials: int, workers: int) -> float | None:
    """Return which share of the improvement over random is lost with so many workers; None where there is none."""
    alone = improvement(regrets, tasks, name, 1, trials)
    return None if alone <= 0 else 1 - improvement(regrets, tasks, name, workers, trials) / alone


def failing_share(failed: Sequence[Sequence[bool]], first: int = 20, last: int = 60) -> float:
    """Return the share of trials `first` to `last` - 1, counted from 0, that failed."""
    return float(np.mean([share for run in failed for share in run[first:last]]))


def _at(values: Floats, trials: int) -> Floats:
    return values[:, min(trials, values.shape[1]) - 1]


def _median(values: Floats, trials: int) -> float:
    return float(np.median(_at(values, trials)))
