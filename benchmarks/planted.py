"""Whether the analysis finds what was planted: importance ranks it first, and refinement keeps the optimum inside.

    python benchmarks/planted.py [SEEDS]

Each seed makes 60 random trials of 5 epochs of a score whose peak lies at a random learning rate, with a weaker
effect of dropout, of the filters and of the optimizer, two parameters without any, and noise; a third of the trials is
stopped at epoch 3 and some fail. Importance must rank the learning rate first, by fANOVA and by permutation. One
round of refinement must keep the optimum of every parameter that has one. A last measurement times importance with
its bootstrap on 1,000 trials x 20 epochs x 12 parameters. Writes benchmarks/results/planted.json.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tuner.analysis.importance import importance
from tuner.analysis.refine import refine
from tuner.space import Choice, Int, LogInt, LogUniform, Space, Uniform

TRIALS, EPOCHS, NOISE = 60, 5, 0.02


def planted_space(extra: int = 0) -> Space:
    """Return the space; `extra` adds parameters without any effect."""
    table: dict[str, Any] = {
        "learning_rate": LogUniform(1e-4, 1.0),
        "dropout": Uniform(0.0, 0.6),
        "filters": LogInt(8, 128),
        "layers": Int(1, 6),
        "decay": LogUniform(1e-6, 1e-2),
        "optimizer": Choice(["sgd", "adam"], when={"sgd": {"momentum": Uniform(0.5, 0.99)}}),
    }
    return Space.parse(table | {f"extra{i}": Uniform(0.0, 1.0) for i in range(extra)})


def planted_optimum(seed: int) -> dict[str, Any]:
    """Return the best value of each parameter that has an effect."""
    rng = np.random.default_rng([seed, 1])
    return {
        "learning_rate": float(10 ** rng.uniform(-3.5, -0.5)),
        "dropout": float(rng.uniform(0.05, 0.55)),
        "filters": int(rng.choice([12, 24, 48, 96])),
        "optimizer": ["sgd", "adam"][int(rng.integers(2))],
    }


def planted_score(config: dict[str, Any], optimum: dict[str, Any]) -> float:
    """Return the score without noise: 0.9 at the optimum."""
    decades = np.log10(config["learning_rate"] / optimum["learning_rate"])
    loss = 0.06 * decades**2 + 0.3 * (config["dropout"] - optimum["dropout"]) ** 2
    loss += 0.01 * np.log2(config["filters"] / optimum["filters"]) ** 2
    return float(0.9 - loss - 0.03 * (config["optimizer"] != optimum["optimizer"]))


def planted_frames(
    seed: int, space: Space, trials: int = TRIALS, epochs: int = EPOCHS
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the trials and epochs frames of a planted sweep."""
    rng, draw, optimum = np.random.default_rng([seed, 2]), random.Random(seed), planted_optimum(seed)
    rows, curves = [], []
    for number in range(1, trials + 1):
        config = space.sample(draw)
        end = planted_score(config, optimum) + rng.normal(0, NOISE)
        failed, stopped = number % 20 == 0, number % 3 == 0
        last = 0 if failed else min(3, epochs) if stopped else epochs
        values = [end - 0.3 * np.exp(-1.5 * epoch) + rng.normal(0, 0.002) for epoch in range(1, last + 1)]
        trial = f"t{number:04d}"
        status = "failed" if failed else "stopped" if stopped else "completed"
        head = {"trial": trial, "number": number, "stage": "search", "fold": None, "repeat": 1, "status": status}
        head["cause"] = "infrastructure.worker_lost" if failed else None
        settings = {f"config.{name}": value for name, value in config.items()}
        rows.append(head | settings | {"best.val_accuracy": max(values, default=None)})
        curves += [{"trial": trial, "epoch": epoch, "val_accuracy": v} for epoch, v in enumerate(values, start=1)]
    return pd.DataFrame(rows), pd.DataFrame(curves)


def keeps(space: Space, optimum: dict[str, Any]) -> bool:
    """Say whether a space holds the planted optimum of every parameter that has one."""
    domains = dict(space.entries)
    return all(domains[name].contains(value) for name, value in optimum.items())


def main() -> None:
    """Measure, print, and write the result."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    space = planted_space()
    first = {"fanova": 0, "permutation": 0}
    inside, widths, misses = 0, [], []
    for seed in range(seeds):
        trials, epochs = planted_frames(seed, space)
        for method in first:
            result = importance(trials, epochs, space, "val_accuracy", "max", method=method, bootstraps=2)  # type: ignore[arg-type]
            first[method] += result.entries[0].name == "learning_rate"
        narrow, changes = refine(space, trials, "val_accuracy", "max", noise=NOISE)
        kept = keeps(narrow, planted_optimum(seed))
        inside += kept
        rate: Any = dict(narrow.entries)["learning_rate"]
        widths.append(np.log10(rate.high / rate.low) / 4)
        if not kept:
            misses.append({"seed": seed, "optimum": planted_optimum(seed), "changes": [str(c) for c in changes]})
    large = planted_space(extra=5)
    trials, epochs = planted_frames(0, large, 1000, 20)
    began, cpu = time.perf_counter(), time.process_time()
    importance(trials, epochs, large, "val_accuracy", "max")
    result = {
        "what": "planted sweeps of 60 trials: how often importance ranks the planted parameter first, and how often "
        "refinement keeps the planted optimum; seconds of importance for 1,000 trials x 20 epochs x 12 parameters",
        "seeds": seeds,
        "ranked_first": first,
        "optimum_inside": inside,
        "learning_rate_width_left": round(float(np.mean(widths)), 3),
        "misses": misses,
        "importance_s": round(time.perf_counter() - began, 2),
        "importance_cpu_s": round(time.process_time() - cpu, 2),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }
    path = Path(__file__).parent / "results/planted.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
