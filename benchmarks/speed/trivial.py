"""The part "trivial": what a trial, and a report, cost by themselves; the journal is on, two trials at a time."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed import processes
from benchmarks.speed.images import Images
from benchmarks.speed.statistics import marginal, order

TRAINABLE = """
def score(config, trial):
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        trial.report(epoch=epoch, score=config["x"] * epoch)
"""
SWEEP = """
[sweep]
trainable = "score.py:score"
metric = "score"
mode = "max"
max_epochs = {reports}
[space]
x = {{ uniform = [0.0, 1.0] }}
[search]
strategy = "random"
trials = {trials}
[resources]
gpus_per_trial = 0
max_concurrent = 2
"""

# Trials and reports of the runs of which the differences are taken.
OURS = {"few": (100, 1), "many": (600, 1), "one report": (40, 1), "fifty reports": (40, 50)}
RAY = {"plain": ((8, 1), (24, 1)), "reuse": ((20, 1), (320, 1))}
QUICK_OURS = {"few": (10, 1), "many": (60, 1), "one report": (10, 1), "fifty reports": (10, 20)}
QUICK_RAY = {"plain": ((2, 1), (6, 1)), "reuse": ((4, 1), (20, 1))}


def run(repeats: int, quick: bool, images: Images) -> dict[str, Any]:
    """Measure the part; `images` are not used."""
    ours, ray = (QUICK_OURS, QUICK_RAY) if quick else (OURS, RAY)
    jobs: dict[str, Callable[[], float]] = {name: _job(_ours, *size) for name, size in ours.items()}
    for kind, (few, many) in ray.items():
        jobs |= {f"ray {kind} few": _job(_ray, *few, kind), f"ray {kind} many": _job(_ray, *many, kind)}
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(repeats):
        for name in order(list(jobs), number):
            seconds[name].append(jobs[name]())
            print(f"round {number + 1}: {name}: {seconds[name][-1]:.2f} s", flush=True)
    return summary(seconds, ours, ray)


def summary(seconds: dict[str, list[float]], ours: dict[str, Any], ray: dict[str, Any]) -> dict[str, Any]:
    """Return the part's figures: the costs are slopes, so that no start-up is in them.

    Args:
        seconds: Of each run, a round each.
        ours: Name -> (trials, reports a trial) of this project's runs.
        ray: Kind -> ((trials, reports), (trials, reports)) of the peer's.
    """
    trials_more = ours["many"][0] - ours["few"][0]
    reports_more = ours["fifty reports"][0] * (ours["fifty reports"][1] - ours["one report"][1])
    trial_s = {"tuner": marginal(seconds["few"], seconds["many"], trials_more)}
    for kind, (few, many) in ray.items():
        few_s, many_s = seconds[f"ray {kind} few"], seconds[f"ray {kind} many"]
        trial_s[f"Ray Tune, {kind}"] = marginal(few_s, many_s, many[0] - few[0])
    report_s = marginal(seconds["one report"], seconds["fifty reports"], reports_more)
    return {
        "n": len(report_s),
        "runs": {name: {"trials": trials, "reports": reports} for name, (trials, reports) in ours.items()},
        "ray_runs": {kind: [few[0], many[0]] for kind, (few, many) in ray.items()},
        "seconds": {name: [round(s, 3) for s in times] for name, times in seconds.items()},
        "trial_ms": {name: [round(1000 * s, 2) for s in each] for name, each in trial_s.items()},
        "trial_ms_median": {name: round(1000 * statistics.median(each), 2) for name, each in trial_s.items()},
        "report_ms": [round(1000 * s, 3) for s in report_s],
        "report_ms_median": round(1000 * statistics.median(report_s), 3),
        "reports_per_s": round(1 / statistics.median(report_s)),
    }


def _job(function: Callable[..., float], *arguments: Any) -> Callable[[], float]:
    def job() -> float:
        with processes.scratch() as folder:
            return function(folder, *arguments)

    return job


def _ours(folder: Path, trials: int, reports: int) -> float:
    return processes.timed(command(folder, trials, reports), folder)


def command(folder: Path, trials: int, reports: int) -> list[str]:
    """Write a sweep of trivial trials into a folder; returns the command that runs it."""
    (folder / "score.py").write_text(TRAINABLE)
    return processes.sweep(folder, SWEEP.format(trials=trials, reports=reports))


def _ray(folder: Path, trials: int, reports: int, kind: str) -> float:
    return processes.timed(processes.script("ray_trivial", trials, reports, kind), folder)
