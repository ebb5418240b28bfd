"""All runs as one JSON: what the figures and docs/search.md are made of."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.search import statistics as stats
from benchmarks.search.runs import Job, find_task
from benchmarks.search.simulate import Run
from benchmarks.search.table_tasks import Table, agreement
from benchmarks.search.tasks import median_random_regret

PACKAGES = ("cnn-tuner", "hyperopt", "optuna", "ray", "scikit-learn", "scipy", "numpy")
TPE = "hyperopt.fmin tpe"
PEERS = (TPE, "hyperopt.fmin anneal", "hyperopt.fmin rand", "optuna.Study", "Ray HyperOptSearch")
"""The other tools, each as it comes."""
Runs = Mapping[Job, Run]


def summary(runs: Runs, names: Sequence[str], tasks: Sequence[str], seeds: int, trials: int) -> dict[str, Any]:
    """Return everything that the runs say.

    Args:
        runs: What came of each job.
        names: The competitors.
        tasks: The tasks' names.
        seeds: How many seeds each has.
        trials: How many trials a run.
    """
    workers = sorted({job.concurrency for job in runs})
    regrets = collect(runs, names, tasks, workers, seeds, trials)
    at = [count for count in stats.AT if count <= trials]
    return {
        "facts": facts(seeds, trials, workers),
        "competitors": list(names),
        "tasks": {name: about(name) for name in tasks},
        "ranks": {str(w): {str(n): _ranks(regrets, tasks, names, w, n) for n in at} for w in workers},
        "ranks_among_tools": _among_tools(regrets, tasks, names, at) if 1 in workers else {},
        "median_regret": _each(names, workers, at, lambda *a: stats.median_regret(regrets, tasks, *a)),
        "mean_regret": _each(names, workers, at, lambda *a: stats.mean_regret(regrets, tasks, *a)),
        "per_task": {task: _task(regrets, task, names, workers, at) for task in tasks},
        "curves": {task: _curves(regrets, task, names, workers) for task in tasks},
        "against_random": _against_random(regrets, tasks, names, workers, trials),
        "failing": _failing(runs, names, tasks, trials),
        "ask_ms": {name: _ask_ms(runs, name) for name in names},
        "proposed_by": {name: by for name in names if (by := _by(runs, name))},
    }


def facts(seeds: int, trials: int, workers: Sequence[int]) -> dict[str, Any]:
    """Return what made the figures."""
    return {
        "seeds": seeds,
        "trials": trials,
        "concurrency": list(workers),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": {package: version(package) for package in PACKAGES},
    }


def about(name: str) -> dict[str, Any]:
    """Return what a task is."""
    task: Any = find_task(name)
    told = {
        "parameters": len(task.space.names()),
        "crashing": task.crashing,
        "optimum": task.optimum,
        "random_median_regret": median_random_regret(task),
    }
    if isinstance(task, Table):
        failed = sum(row.failed for row in task.rows)
        return told | {"configs": len(task.rows), "failed": failed, "agreement": round(agreement(task), 3)}
    return told | {"text": (task.loss.__doc__ or "").strip().splitlines()[0]}


def collect(
    runs: Runs, names: Sequence[str], tasks: Sequence[str], workers: Sequence[int], seeds: int, trials: int
) -> stats.Regrets:
    """Return the regrets as shares of the median random regret; a space that ends early keeps its last value."""
    found = {}
    for task in tasks:
        scale = median_random_regret(find_task(task))
        for name in names:
            for count in workers:
                every = [runs[Job(task, name, seed, count, trials)].regrets for seed in range(1, seeds + 1)]
                padded = [regrets + [regrets[-1]] * (trials - len(regrets)) for regrets in every]
                found[task, name, count] = np.array(padded) / scale
    return found


def _each(names: Sequence[str], workers: Sequence[int], at: Sequence[int], value: Any) -> dict[str, Any]:
    return {
        name: {str(w): {str(count): _short(value(name, w, count)) for count in at} for w in workers} for name in names
    }


def _ranks(regrets: stats.Regrets, tasks: Sequence[str], names: Sequence[str], workers: int, n: int) -> dict[str, Any]:
    return {
        **asdict(stats.ranks(regrets, tasks, names, workers, n)),
        "over_runs": stats.run_ranks(regrets, tasks, names, workers, n),
    }


def _among_tools(
    regrets: stats.Regrets, tasks: Sequence[str], names: Sequence[str], at: Sequence[int], name: str = "auto"
) -> dict[str, Any]:
    """Return the ranks of the default and the other tools, without the other strategies of this project."""
    field = [other for other in (name, *PEERS) if other in names]
    return {str(n): _ranks(regrets, tasks, field, 1, n) for n in at} if name in names and len(field) > 1 else {}


def _task(
    regrets: stats.Regrets, task: str, names: Sequence[str], workers: Sequence[int], at: Sequence[int]
) -> dict[str, Any]:
    def quartiles(name: str, count: int, trials: int) -> list[float]:
        return [_short(v) for v in np.quantile(regrets[task, name, count][:, trials - 1], [0.25, 0.5, 0.75])]

    return {name: {str(w): {str(count): quartiles(name, w, count) for count in at} for w in workers} for name in names}


def _curves(regrets: stats.Regrets, task: str, names: Sequence[str], workers: Sequence[int]) -> dict[str, Any]:
    """Return the median regret after every trial."""
    return {
        name: {str(w): [_short(v) for v in np.median(regrets[task, name, w], axis=0)] for w in workers}
        for name in names
    }


def _against_random(
    regrets: stats.Regrets, tasks: Sequence[str], names: Sequence[str], workers: Sequence[int], trials: int
) -> dict[str, Any]:
    if "random" not in names:
        return {}
    most = workers[-1]
    return {
        name: {
            "improvement": {str(w): _short(stats.improvement(regrets, tasks, name, w, trials)) for w in workers},
            "lost_to_concurrency": stats.concurrency_loss(regrets, tasks, name, trials, most) if 1 in workers else None,
            "worse_than_upper_quartile": stats.worse_than_random(regrets, tasks, name, trials, workers[0]),
        }
        for name in names
    }


def _failing(runs: Runs, names: Sequence[str], tasks: Sequence[str], trials: int) -> dict[str, Any]:
    """Return the share of failing trials 20 to 59 of each crashing task, one worker."""
    crashing = [task for task in tasks if find_task(task).crashing]

    def share(task: str, name: str) -> float:
        return round(stats.failing_share([r.failed for j, r in runs.items() if _is(j, task, name, 1)]), 4)

    one = any(job.concurrency == 1 for job in runs) and trials >= 60
    return {task: {name: share(task, name) for name in names} for task in crashing} if one else {}


def _is(job: Job, task: str, name: str, workers: int) -> bool:
    return (job.task, job.competitor, job.concurrency) == (task, name, workers)


def _ask_ms(runs: Runs, name: str) -> dict[str, float]:
    times = np.concatenate([run.ask_s for job, run in runs.items() if job.competitor == name]) * 1e3
    return {"median": round(float(np.median(times)), 2), "p99": round(float(np.quantile(times, 0.99)), 1)}


def _by(runs: Runs, name: str) -> dict[str, float]:
    """Return the share of the trials that each of a strategy's proposers proposed, where there is more than one."""
    counts: dict[str, int] = {}
    for job, run in runs.items():
        for by in run.by if job.competitor == name else ():
            counts[by] = counts.get(by, 0) + 1
    total = sum(counts.values())
    return {by: round(count / total, 3) for by, count in sorted(counts.items())} if len(counts) > 1 else {}


def _short(value: float) -> float:
    return float(f"{value:.4g}")
