"""Whether models trained in bfloat16 end where those in float32 do: the gate that precision = "auto" waits for.

    python benchmarks/precision.py [--root FOLDER] [--only TRAINABLE] [--part PART] [--quick]

Two questions of each trainable, on the digits and on 4,000 images of Fashion-MNIST (--root, else $TUNER_DATA), which
are validated on 1,079 and 10,000 images. Models are trained by trainables.training.Learner, as in a trial, each in one
thread, two at a time.

1. Is the final accuracy the same to within 0.3 points? A pilot of 12 seeds measures the noise of the difference
   bf16 - fp32 of one seed. The number of seeds follows from it: power 0.8 at no true difference, with the noise's upper
   80 % confidence limit, since 12 seeds don't know it well; 16 to 100. Then two one-sided tests (TOST) at level 0.05 on
   as many new seeds. Paired, because both models of a seed have the same first weights, batches and dropout: where
   that helps (`noise` in the result: paired, unpaired), fewer seeds do; where it does not, it costs nothing.
2. Do they rank configs alike? 24 random configs, each in both precisions with 3 seeds. Kendall's tau between bf16
   and fp32 of one seed, the mean over the seeds, must be at least the tau between fp32 of two seeds, the mean over the
   pairs; and a one-sided bootstrap over the configs (2,000 draws, level 0.05) must rule out that it is lower by 0.05.

The verdict of a trainable on what multiplies bfloat16 here (AMX, or AVX-512 BF16) is "passed" if its three parts say
so, each of which can be run alone. Writes benchmarks/results/precision.json, which tuner.precision.PASSED is held to.
15 minutes on 2 idle cores with AMX, of which resnet takes the half; --quick only shows that the command works, on the
digits alone, and writes nothing.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import json
import math
import multiprocessing
import os
import platform
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tuner.errors import TunerError
from tuner.machine import bf16_unit

MARGIN, LEVEL, POWER = 0.3, 0.05, 0.8  # points of accuracy; of the tests; of the tests where there is no difference
PILOT, FEWEST, MOST = 12, 16, 100  # seeds
CONFIGS, SEEDS, RANK_MARGIN, DRAWS = 24, 3, 0.05, 2_000
PRECISIONS = ("fp32", "bf16")
OUT = Path(__file__).parent / "results" / "precision.json"

DATA = {
    "digits": {"name": "digits", "val_fraction": 0.6, "test_fraction": 0.0},
    "fashion_mnist": {"name": "fashion_mnist", "limit": 14_000, "val_fraction": 10 / 14},
}
# Of a sensible final training: the rate falls to zero, so that an accuracy is not a moment of its last swing.
TRAINED: dict[str, dict[str, dict[str, Any]]] = {
    "cnn": {
        "digits": {"filters": 16, "batch_norm": True, "dropout": 0.2, "epochs": 12},
        "fashion_mnist": {"filters": 16, "dropout": 0.2, "epochs": 4},
    },
    "resnet": {
        "digits": {"filters": 8, "blocks": 1, "epochs": 8, "learning_rate": 0.1},
        "fashion_mnist": {"filters": 8, "blocks": 1, "epochs": 3, "learning_rate": 0.1, "batch_size": 128},
    },
}
PARTS = (*DATA, "ranks")
RANKED_ON = {"cnn": ("fashion_mnist", 2), "resnet": ("digits", 4)}
"""Where a trainable's configs are ranked, and their epochs."""


@dataclass(frozen=True)
class Training:
    """One model to be trained."""

    trainable: str
    data: str
    root: str
    config: str  # JSON, so that it can be hashed
    seed: int
    precision: str


def train(job: Training) -> tuple[float, float]:
    """Train a model and return its final validation accuracy in points, and its seconds."""
    import torch

    torch.set_num_threads(1)
    learner_of = importlib.import_module("trainables.training")
    build = importlib.import_module(f"trainables.{job.trainable}").build
    config = importlib.import_module("trainables.parameters").complete(job.trainable, json.loads(job.config))
    began, data = time.perf_counter(), _data(job.data, job.root)
    cpu = torch.device("cpu")
    learner = learner_of.Learner(build, config, data, config["epochs"], job.seed, cpu, job.precision)
    for epoch in range(1, config["epochs"] + 1):
        learner.train_epoch(epoch)
    measured, _ = learner.measure()
    return 100 * measured["val_accuracy"], time.perf_counter() - began


@functools.cache
def _data(name: str, root: str) -> Any:
    load = importlib.import_module("trainables.data").load
    return load(DATA[name] | ({"root": root} if name != "digits" else {}), 0)


# -- question 1: equal to within a margin ----------------------------------------------------------------------------


def seeds_needed(spread: float, margin: float = MARGIN) -> int:
    """Return the seeds by which TOST on differences of this standard deviation has the power wanted.

    With no true difference its power is 2 F(margin / (spread / sqrt(n)) - t) - 1, with F the t distribution of
    n - 1 degrees of freedom and t its quantile (Julious 2004, Statistics in Medicine 23, section 5).
    """
    for n in range(2, 100_000):
        quantile = stats.t.ppf(1 - LEVEL, n - 1)
        if 2 * stats.t.cdf(margin * math.sqrt(n) / max(spread, 1e-9) - quantile, n - 1) - 1 >= POWER:
            return n
    return 100_000


def tost(differences: Sequence[float], margin: float = MARGIN) -> dict[str, Any]:
    """Return the two one-sided t-tests (Schuirmann 1987) of differences whose mean is to lie within +- margin.

    Equal where both reject, which is where the interval of level 1 - 2 x LEVEL lies within the margin.
    """
    n, mean, spread = len(differences), statistics.fmean(differences), statistics.stdev(differences)
    error = max(spread, 1e-9) / math.sqrt(n)
    p = max(stats.t.sf((mean + margin) / error, n - 1), stats.t.cdf((mean - margin) / error, n - 1))
    half = float(stats.t.ppf(1 - LEVEL, n - 1)) * error
    return {
        "n": n,
        "mean": round(mean, 4),
        "sd": round(spread, 4),
        "interval": [round(mean - half, 4), round(mean + half, 4)],
        "p": float(f"{p:.3g}"),
        "equal": bool(p < LEVEL),
    }


def equivalence(pool: Pool, trainable: str, data: str) -> dict[str, Any]:
    """Return what the test of one trainable on one data set says."""
    config = TRAINED[trainable][data] | {"lr_schedule": "cosine"} | ({"epochs": 1} if pool.quick else {})
    count = 3 if pool.quick else PILOT
    pilot = pool.both(trainable, data, config, range(1001, 1001 + count))
    spread = statistics.stdev(pilot.differences)
    upper = spread * math.sqrt((count - 1) / stats.chi2.ppf(0.2, count - 1))
    needed = seeds_needed(upper)
    n = 3 if pool.quick else min(MOST, max(FEWEST, needed))
    print(
        f"{trainable} on {data}: sd of a difference {spread:.2f} points, {needed} seeds needed, {n} taken", flush=True
    )
    final = pool.both(trainable, data, config, range(1, n + 1))
    result = tost(final.differences)
    print(f"  {result}", flush=True)
    noise = {name: round(statistics.stdev(values), 4) for name, values in final.accuracies.items()}
    return {
        "config": config,
        "pilot": {"n": count, "sd": round(spread, 4), "upper_sd": round(upper, 4), "seeds_needed": needed},
        "noise": {"paired": result["sd"], "unpaired": round(math.hypot(*noise.values()), 4), "of_a_seed": noise},
        **result,
        "margin": MARGIN,
        "level": LEVEL,
        "verdict": "passed" if result["equal"] else "failed",
        "speed": round(final.seconds["fp32"] / final.seconds["bf16"], 2),
        "accuracies": {name: [round(value, 2) for value in values] for name, values in final.accuracies.items()},
    }


# -- question 2: the same ranks --------------------------------------------------------------------------------------


def random_config(rng: random.Random, trainable: str) -> dict[str, Any]:
    """Return a config of a space that a person would search."""
    optimizer = rng.choice(["sgd", "adam"])
    low, high = (1e-2, 0.3) if optimizer == "sgd" else (3e-4, 1e-2)
    config = {
        "optimizer": optimizer,
        "learning_rate": math.exp(rng.uniform(math.log(low), math.log(high))),
        "batch_size": rng.choice([32, 64, 128]),
        "filters": rng.choice([4, 8, 16]),
        "dropout": rng.uniform(0, 0.5),
        "activation": rng.choice(["relu", "leaky_relu", "elu", "gelu", "tanh"]),
        "weight_decay": math.exp(rng.uniform(math.log(1e-6), math.log(1e-2))),
        "label_smoothing": rng.choice([0.0, 0.1]),
    }
    if trainable == "cnn":
        config |= {"conv_layers": rng.choice([1, 2, 3]), "batch_norm": rng.choice([True, False])}
        config |= {"pooling": rng.choice(["max", "avg", "stride"]), "dense_units": rng.choice([32, 64, 128])}
    return config


def agreement(table: np.ndarray) -> tuple[float, float]:
    """Return mean Kendall's tau of bf16 with fp32 of the same seed, and of fp32 with fp32 of another.

    Args:
        table: Accuracies (2, seeds, configs): fp32 first.
    """
    fp32, bf16 = table
    other = [_tau(fp32[a], fp32[b]) for a, b in itertools.combinations(range(len(fp32)), 2)]
    return statistics.fmean(_tau(a, b) for a, b in zip(fp32, bf16, strict=True)), statistics.fmean(other)


def _tau(first: np.ndarray, second: np.ndarray) -> float:
    """Return tau-b, as scipy.stats.kendalltau does in a hundredth of its time at this size."""
    a, b = (np.sign(values[:, None] - values[None, :]) for values in (first, second))
    norm = math.sqrt(float((a != 0).sum()) * float((b != 0).sum()))
    return float((a * b).sum()) / norm if norm else 0.0


def lower_bound(table: np.ndarray, draws: int = DRAWS) -> float:
    """Return the one-sided bootstrap bound (percentile, configs drawn again) of what `agreement` differs by."""
    rng = np.random.default_rng(0)
    count = table.shape[2]
    drawn = (agreement(table[:, :, rng.integers(0, count, count)]) for _ in range(draws))
    return float(np.quantile([bf16 - other for bf16, other in drawn], LEVEL))


def ranks(pool: Pool, trainable: str) -> dict[str, Any]:
    """Return whether bf16 ranks the configs as fp32 does."""
    data, epochs = ("digits", 1) if pool.quick else RANKED_ON[trainable]
    count, seeds = (4, 2) if pool.quick else (CONFIGS, SEEDS)
    rng = random.Random(7)
    configs = [random_config(rng, trainable) | {"epochs": epochs} for _ in range(count)]
    made = [pool.both(trainable, data, config, range(1, seeds + 1)) for config in configs]
    table = np.array([[one.accuracies[name] for one in made] for name in PRECISIONS]).transpose(0, 2, 1)
    bf16, other = agreement(table)
    bound = lower_bound(table, 50 if pool.quick else DRAWS)
    result = {
        "data": data,
        "n": count,
        "seeds": seeds,
        "tau_bf16": round(bf16, 4),
        "tau_another_seed": round(other, 4),
        "lower_bound_of_difference": round(bound, 4),
        "margin": RANK_MARGIN,
        "level": LEVEL,
        "verdict": "passed" if bf16 >= other and bound > -RANK_MARGIN else "failed",
    }
    print(f"{trainable}, ranks: {result}", flush=True)
    return result | {"configs": configs, "accuracies": dict(zip(PRECISIONS, table.round(2).tolist(), strict=True))}


# -- both ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Both:
    """Accuracies in points, and seconds, of the same trainings in either precision."""

    accuracies: Mapping[str, list[float]]
    seconds: Mapping[str, float]

    @property
    def differences(self) -> list[float]:
        """bf16 - fp32, a seed each."""
        return [b - a for a, b in zip(*(self.accuracies[name] for name in PRECISIONS), strict=True)]


class Pool:
    """Two processes that train models."""

    def __init__(self, root: str, quick: bool) -> None:
        self.root, self.quick = root, quick
        self._processes = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))

    def both(self, trainable: str, data: str, config: Mapping[str, Any], seeds: Sequence[int]) -> Both:
        """Train a config with each of the seeds, in either precision; neighbours in time are a seed's two."""
        jobs = [
            Training(trainable, data, self.root, json.dumps(dict(config)), seed, name)
            for seed in seeds
            for name in PRECISIONS
        ]
        made = list(self._processes.map(train, jobs))
        of = {name: made[place :: len(PRECISIONS)] for place, name in enumerate(PRECISIONS)}
        return Both(
            {name: [accuracy for accuracy, _ in found] for name, found in of.items()},
            {name: statistics.median(seconds for _, seconds in found) for name, found in of.items()},
        )

    def close(self) -> None:
        """End the processes."""
        self._processes.shutdown()


def verdict(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what a trainable's parts come to: "passed" needs every one of them."""
    if parts.keys() != set(PARTS):
        return "incomplete"
    return "passed" if all(part["verdict"] == "passed" for part in parts.values()) else "failed"


def _hardware() -> dict[str, Any]:
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "bf16": bf16_unit(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "load": round(os.getloadavg()[0], 1),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=os.environ.get("TUNER_DATA", "data"), help="folder with FashionMNIST/")
    parser.add_argument("--only", choices=list(TRAINED), help="one trainable; what is recorded of the other stays")
    parser.add_argument("--part", choices=PARTS, help="one part; what is recorded of the others stays")
    parser.add_argument("--quick", action="store_true", help="half a minute; writes nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


def _check_unit() -> None:
    if not bf16_unit():
        raise SystemExit(
            "This CPU multiplies bfloat16 with nothing of its own (AMX, AVX-512 BF16): there is no gate to pass."
        )


def _check_there(root: str) -> None:
    """Refuse to begin without Fashion-MNIST."""
    try:
        importlib.import_module("trainables.data").info(DATA["fashion_mnist"] | {"root": root}, 0)
    except TunerError as error:
        raise SystemExit(f"{error}\nSay where it is: --root FOLDER, or TUNER_DATA") from None


def main() -> None:
    """Measure, print each part, and write each once it is known."""
    args = _arguments()
    asked = [args.part] if args.part else ["digits", "ranks"] if args.quick else list(PARTS)
    if not args.quick:
        _check_unit()
        _check_there(args.root)
    gates = json.loads(args.out.read_text())["gates"] if args.out.is_file() and not args.quick else {}
    pool, began = Pool(args.root, args.quick), time.perf_counter()
    try:
        for trainable, part in itertools.product([args.only] if args.only else TRAINED, asked):
            hardware = _hardware()
            made = ranks(pool, trainable) if part == "ranks" else equivalence(pool, trainable, part)
            name = f"{trainable}, {hardware['bf16']}"
            parts = gates.get(name, {}).get("parts", {}) | {part: {**made, "hardware": hardware}}
            entry = {"trainable": trainable, "device": hardware["bf16"], "verdict": verdict(parts), "parts": parts}
            gates[name] = entry
            print(f"{trainable}, {part}: {made['verdict']}, {time.perf_counter() - began:.0f} s", flush=True)
            if not args.quick:
                _write(args.out, gates)
    finally:
        pool.close()


def _write(path: Path, gates: Mapping[str, Any]) -> None:
    what = 'gates of precision = "auto": is bf16 equal to fp32 in final accuracy, and in how it ranks configs'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"what": what, "gates": gates}) + "\n")


if __name__ == "__main__":
    main()
