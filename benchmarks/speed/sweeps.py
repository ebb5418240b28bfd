"""The parts "short" and "medium": the same 24 configs tried by this project and by its peers, start-up included.

Each competitor is one fresh process, timed from spawn to exit. The order is turned every round. All train on the same
images and measure loss and accuracy on the same validation images every epoch; this project also measures as many
training images, which the others do not.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import tuner
from benchmarks.speed import processes
from benchmarks.speed.images import SEED, Images, data_table, rows
from benchmarks.speed.names import AUTO, FP32, LOOP, OPTUNA, OPTUNA_OURS, OURS, RAY, SKORCH, TWO
from benchmarks.speed.statistics import difference, left_out, median, order, ratio

GRID = {"learning_rate": [0.01, 0.015, 0.02, 0.03, 0.04, 0.05], "momentum": [0.0, 0.5, 0.8, 0.9]}
DEFAULTS: dict[str, Any] = {
    "filters": 32,
    "conv_layers": 2,
    "dense_units": 128,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr_schedule": "constant",
    "weight_decay": 0.0,
    "dropout": 0.0,
    "batch_norm": False,
}
"""The network of peers/user_code.py, in this project's words."""

PEERS = {
    RAY: ("ray_tune",),
    OPTUNA[0]: ("optuna_threads", "user_code"),
    OPTUNA[1]: ("optuna_processes", "user_code"),
    OPTUNA_OURS[0]: ("optuna_threads", "our_code"),
    OPTUNA_OURS[1]: ("optuna_processes", "our_code"),
    TWO: ("two_processes",),
    LOOP: ("for_loop",),
    SKORCH: ("skorch_grid",),
}
NEEDS = {SKORCH: "skorch", OPTUNA[0]: "optuna", OPTUNA[1]: "optuna", OPTUNA_OURS[0]: "optuna", OPTUNA_OURS[1]: "optuna"}


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Args:
        train: Training images.
        val: Validation images.
        epochs: Of each trial.
        grid: Values of each parameter; the configs are their product.
        competitors: Who runs.
        once: Who runs in the first round only.
    """

    train: int
    val: int
    epochs: int
    grid: Mapping[str, Sequence[float]]
    competitors: Sequence[str]
    once: Sequence[str] = ()

    @property
    def configs(self) -> list[dict[str, float]]:
        """The configs, in order."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


SHORT = Work(1280, 320, 2, GRID, (*OURS, *PEERS))
MEDIUM = Work(4000, 1000, 4, GRID, (AUTO, FP32, RAY, *OPTUNA, *OPTUNA_OURS, TWO), once=(TWO,))
QUICK_GRID = {"learning_rate": [0.02, 0.05], "momentum": [0.5, 0.9]}


def measure(work: Work, repeats: int, images: Images, only: Sequence[str] = ()) -> dict[str, Any]:
    """Run every competitor, interleaved; returns the part's figures.

    Args:
        work: What is to be done.
        repeats: Rounds.
        images: Where the images are.
        only: Of the competitors, those that are named; empty: all.
    """
    wanted = [name for name in work.competitors if not only or name in only]
    missing = {name: f"{package} is not installed" for name in wanted if (package := _lacks(name))}
    names = [name for name in wanted if name not in missing]
    task = task_of(work, images)
    seconds: dict[str, list[float | None]] = {name: [] for name in names}
    accuracies: dict[str, dict[str, float]] = {}
    out: list[str] = []
    chosen: dict[str, str] = {}
    for number in range(repeats):
        for name in order(names, number):
            seconds[name].append(None)
            if name not in out and name not in missing:
                try:
                    ran = _run(name, task)
                except processes.Failed as error:  # one that fails is told, and the others go on
                    missing[name] = f"it failed: {str(error).strip().splitlines()[-1]}"
                    print(f"round {number + 1}: {name}: {error}", flush=True)
                    continue
                seconds[name][-1], accuracies[name] = ran.seconds, ran.accuracies
                chosen |= {name: ran.precision} if ran.precision else {}
                print(f"round {number + 1}: {name}: {ran.seconds:.1f} s", flush=True)
        if number == 0:
            first = {name: times[0] for name, times in seconds.items()}
            out = [*work.once, *left_out(first, (OPTUNA, OPTUNA_OURS))]
    seconds = {name: times for name, times in seconds.items() if name in accuracies}
    found = figures(work, seconds, accuracies)
    return {"n": repeats, "data": images.told, **found, "missing": missing, "precision_chosen": chosen}


def _lacks(name: str) -> str | None:
    package = NEEDS.get(name)
    return package if package and importlib.util.find_spec(package) is None else None


def task_of(work: Work, images: Images) -> dict[str, Any]:
    """Return what every competitor is told, as peers/ read it."""
    train, val = rows(images, work.train, work.val)
    return {
        "root": str(images.root),
        "train": train,
        "val": val,
        "limit": work.train + work.val,
        "val_fraction": work.val / (work.train + work.val),
        "epochs": work.epochs,
        "batch_size": DEFAULTS["batch_size"],
        "grid": work.grid,
        "configs": work.configs,
        "defaults": DEFAULTS,
        "data": data_table(images, work.train, work.val),
    }


class _Ran(NamedTuple):
    """One run: its seconds, each config's accuracy after its last epoch, and what `precision` became of ours."""

    seconds: float
    accuracies: dict[str, float]
    precision: str = ""


def _run(name: str, task: Mapping[str, Any]) -> _Ran:
    with processes.scratch() as folder:
        if name in OURS:
            took = processes.timed(processes.sweep(folder, sweep_text(task, OURS[name])), folder)
            run = folder / "runs" / "sweep"
            frozen = tomllib.loads((run / "sweep.toml").read_text())
            return _Ran(took, accuracies_of(run, task["grid"]), frozen["resources"]["precision"])
        (folder / "task.json").write_text(json.dumps(task))
        peer, *more = PEERS[name]
        took = processes.timed(processes.script(peer, "task.json", "result.json", *more), folder)
        found = json.loads((folder / "result.json").read_text())
        assert len(found) == len(task["configs"]), f"{name} has tried {len(found)} configs"
        return _Ran(took, {config_key(row, task["grid"]): row["accuracy"] for row in found})


def sweep_text(task: Mapping[str, Any], precision: str, trials: int | None = None, strategy: str = "grid") -> str:
    """Return the sweep file that does what the peers do."""
    data = "\n".join(f"{name} = {json.dumps(value)}" for name, value in task["data"].items())
    space = "\n".join(f"{name} = {{ choice = {json.dumps(list(values))} }}" for name, values in task["grid"].items())
    defaults = "\n".join(f"{name} = {json.dumps(value)}" for name, value in task["defaults"].items())
    return (
        f'[sweep]\ntrainable = "cnn"\nmax_epochs = {task["epochs"]}\nseed = {SEED}\n'
        f"[data]\n{data}\n[space]\n{space}\n[defaults]\n{defaults}\n"
        f'[search]\nstrategy = "{strategy}"\ntrials = {trials or len(task["configs"])}\n'
        f"[resources]\ncpus_per_trial = 1\ngpus_per_trial = 0\nmax_concurrent = 2\n"
        f'precision = "{precision}"\n'
    )


def accuracies_of(run: Path, grid: Mapping[str, Any]) -> dict[str, float]:
    """Return each config's validation accuracy after its last epoch, of one of this project's runs."""
    results = tuner.load(run)
    last = results.epochs.sort_values("epoch").groupby("trial").last()["val_accuracy"]
    configs = results.trials.set_index("trial")
    return {
        config_key({name: configs.loc[trial, f"config.{name}"] for name in grid}, grid): float(accuracy)
        for trial, accuracy in last.items()
    }


def config_key(config: Mapping[str, Any], grid: Mapping[str, Any]) -> str:
    """Return a config as a text that is the same for everybody."""
    return " ".join(f"{name}={float(config[name]):g}" for name in grid)


def figures(
    work: Work, seconds: Mapping[str, Sequence[float | None]], accuracies: Mapping[str, dict[str, float]]
) -> dict[str, Any]:
    """Return the part's figures, pure.

    Args:
        work: What was done.
        seconds: Of each competitor, a round each; None where it was not run.
        accuracies: Of each competitor, by config, of its last round.
    """
    first_ours = [name for name in OURS if name in seconds]
    found: dict[str, Any] = {
        "trials": len(work.configs),
        "epochs": work.epochs,
        "train_images": work.train,
        "val_images": work.val,
        "seconds": {name: [_rounded(s, 3) for s in times] for name, times in seconds.items()},
        "medians": {name: _rounded(median(times), 3) for name, times in seconds.items()},
        "ratios": {
            ours: {name: _rounded(ratio(times, seconds[ours]), 3) for name, times in seconds.items()}
            for ours in first_ours
        },
        "accuracy": {name: _rounded(mean(by_config.values()), 4) for name, by_config in accuracies.items()},
        "best_accuracy": {name: _rounded(max(by_config.values()), 4) for name, by_config in accuracies.items()},
        "accuracy_by_config": accuracies,
    }
    if first_ours:
        ours = accuracies[first_ours[0]]
        gaps = {name: difference(ours, theirs) for name, theirs in accuracies.items() if name != first_ours[0]}
        found["accuracy_difference"] = {
            name: {"mean": _rounded(gap, 4), "standard_error": _rounded(error, 4)}
            for name, (gap, error) in gaps.items()
        }
    return found


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def run_short(repeats: int, quick: bool, images: Images, only: Sequence[str] = ()) -> dict[str, Any]:
    """Measure the part "short"."""
    return measure(Work(320, 80, 1, QUICK_GRID, SHORT.competitors) if quick else SHORT, repeats, images, only)


def run_medium(repeats: int, quick: bool, images: Images, only: Sequence[str] = ()) -> dict[str, Any]:
    """Measure the part "medium"."""
    quick_work = Work(640, 160, 2, QUICK_GRID, MEDIUM.competitors, once=MEDIUM.once)
    return measure(quick_work if quick else MEDIUM, repeats, images, only)
