"""How long a proposal takes, of every strategy that proposes for ever.

On 12 parameters, after 200 and 1,000 observations, and over a sweep of 1,000. Times are of the processor, in
milliseconds; `make proposals` gives linear algebra one thread. "first" is a fresh strategy's first proposal, as after a
resume: it reads the whole history, where a running sweep's reads what came since.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tuner.space import Choice, Int, LogInt, LogUniform, Space, Uniform
from tuner.spec import Sweep
from tuner.strategies import NAMES, Observation, Strategy, make_strategy

RESULTS = Path(__file__).parent / "results" / "proposals.json"
SPACE = {
    "optimizer": Choice(
        ["sgd", "adam"],
        when={
            "sgd": {"learning_rate": LogUniform(1e-3, 1.0), "momentum": Uniform(0.5, 0.99)},
            "adam": {"learning_rate": LogUniform(1e-5, 1e-2)},
        },
    ),
    "batch_size": Choice([16, 32, 64, 128]),
    "layers": Int(1, 5),
    "width": LogInt(8, 256),
    "dropout": Uniform(0.0, 0.5),
    "weight_decay": LogUniform(1e-6, 1e-2),
    "activation": Choice(["relu", "gelu", "tanh"]),
    "label_smoothing": Uniform(0.0, 0.2),
    "mixup": Uniform(0.0, 1.0),
    "warmup": Uniform(0.0, 0.3),
}
OBSERVATIONS = (200, 1000)
REPEATS = 9
LEFT_OUT = ("grid", "one_at_a_time", "manual")  # they list configs of a space that is cut, or given ones


def train(config: dict[str, Any], trial: Any) -> None:
    """A trainable that is never called."""


def make(name: str, trials: int) -> Strategy:
    """Return a fresh strategy."""
    search = {"strategy": name, "trials": trials}
    return make_strategy(Sweep(trainable=train, metric="loss", mode="min", space=SPACE, search=search))


def loss(config: dict[str, Any]) -> float:
    """Return a smooth loss of a few of the parameters."""
    rate = abs(math.log10(config["learning_rate"]) + 3) / 5
    return rate + (config["dropout"] - 0.2) ** 2 + (config["mixup"] - 0.3) ** 2 + (config["layers"] - 3) ** 2 / 10


def observations(count: int) -> list[Observation]:
    """Return random configs with their losses, a twentieth of them failed."""
    space, rng = Space.parse(SPACE), random.Random(0)
    configs = [space.sample(rng) for _ in range(count)]
    return [
        Observation(i, config, "failed") if i % 20 == 0 else Observation(i, config, "done", loss(config))
        for i, config in enumerate(configs, start=1)
    ]


def timed(strategy: Strategy, history: list[Observation]) -> float:
    """Return the milliseconds of one proposal."""
    began = time.process_time()
    strategy.ask(history)
    return 1000 * (time.process_time() - began)


def after(name: str, count: int) -> dict[str, float]:
    """Return the milliseconds of proposals after so many observations."""
    history = observations(count + REPEATS)
    make(name, 2 * count).ask(history[:60])  # what is imported is imported
    strategy = make(name, 2 * count)
    first = timed(strategy, history[:count])
    rest = [timed(strategy, history[: count + more]) for more in range(1, REPEATS + 1)]
    return {"first_ms": round(first, 1), "median_ms": round(statistics.median(rest), 1), "max_ms": round(max(rest), 1)}


def sweep_of(name: str, count: int) -> dict[str, float]:
    """Return the milliseconds of the proposals of a whole sweep, one trial after another."""
    strategy, history, took = make(name, count), [], []
    for index in range(1, count + 1):
        began = time.process_time()
        proposal = strategy.ask(history)
        took.append(1000 * (time.process_time() - began))
        assert proposal is not None
        history.append(Observation(index, proposal.config, "done", loss(proposal.config)))
    ordered = sorted(took)
    return {
        "proposals": count,
        "mean_ms": round(statistics.fmean(took), 1),
        "median_ms": round(statistics.median(took), 1),
        "p99_ms": round(ordered[int(0.99 * count)], 1),
    }


def main() -> None:
    """Time every strategy, and write and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proposals", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    packages = ("numpy", "scipy", "scikit-learn", "hyperopt", "optuna")
    told: dict[str, Any] = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "parameters": len(Space.parse(SPACE).leaves()),
        "strategies": {},
    }
    for name in (name for name in NAMES if name not in LEFT_OUT):
        figures = {str(count): after(name, count) for count in OBSERVATIONS}
        told["strategies"][name] = {"after": figures, "sweep": sweep_of(name, options.proposals)}
        print(name, json.dumps(told["strategies"][name]), flush=True)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
