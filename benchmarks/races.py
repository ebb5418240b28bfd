"""How often a race drops a config that is as good as all others, and how often paired intervals hold the truth.

    python benchmarks/races.py [SETS]

"normal": scores whose blocks correlate as Nadeau and Bengio assume. "folds": real cross-validations of equal
candidates (nearest centroids on features of their own, all drawn alike), 3 seeds x 5 folds: what the assumption is
worth. "planted": one config is better; how often it is alone in the end, and how often it was dropped. "paired":
coverage of the difference of two models' accuracies and log losses. Writes benchmarks/results/races.json; exits with 1
if a family-wise error is above the level by more than chance (3 standard errors).
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import numpy as np

from tuner.analysis.comparison import race
from tuner.analysis.paired import paired_difference

LEVEL, FOLDS, SEEDS = 0.05, 5, 3
RATIO = 1 / (FOLDS - 1)
SCHEDULE = [[(seed, fold) for fold in range(FOLDS)] for seed in range(SEEDS)]
OUT = Path(__file__).parent / "results" / "races.json"


def normal(rng, configs, gap=0.0):
    """Return scores of configs, the last of which is better by `gap`, with blocks that correlate by 1 / FOLDS."""
    shared = np.sqrt(1 / FOLDS) * rng.standard_normal((1, configs))
    scores = shared + np.sqrt(1 - 1 / FOLDS) * rng.standard_normal((SEEDS * FOLDS, configs))
    scores[:, -1] += gap
    return scores


def folds(rng, configs, n=100, features=4):
    """Return fold accuracies of nearest-centroid classifiers, each on features of its own."""
    y = rng.integers(0, 2, n)
    x = rng.standard_normal((configs, n, features)) + 0.5 * y[:, None]
    rows = []
    for _ in range(SEEDS):
        part = rng.permutation(np.arange(n) % FOLDS)
        for fold in range(FOLDS):
            train, test = part != fold, part == fold
            centres = [x[:, train & (y == k)].mean(axis=1, keepdims=True) for k in (0, 1)]
            away = [((x[:, test] - centre) ** 2).sum(axis=2) for centre in centres]
            rows.append(((away[1] < away[0]) == y[test]).mean(axis=1))
    return np.array(rows)


def run(scores):
    """Return the race over scores (blocks, configs)."""
    order = [block for look in SCHEDULE for block in look]
    blocks = {f"c{m}": dict(zip(order, map(float, scores[:, m]), strict=True)) for m in range(scores.shape[1])}
    return race(blocks, SCHEDULE, "max", ratio=RATIO, level=LEVEL, draws=200)


def family_wise(make, sets, configs):
    """Return the share of sets in which any of equal configs was dropped."""
    drops = [bool(run(make(np.random.default_rng([configs, k]), configs)).dropped) for k in range(sets)]
    return round(float(np.mean(drops)), 4)


def planted(sets, configs=5, gap=5.0):
    """Return how often the better config is alone in the end, and how often it was dropped."""
    ends = [run(normal(np.random.default_rng([7, k]), configs, gap)) for k in range(sets)]
    best = f"c{configs - 1}"
    return {
        "separated": round(float(np.mean([end.alive == (best,) for end in ends])), 4),
        "best_dropped": round(float(np.mean([best in end.dropped for end in ends])), 4),
    }


def paired(sets, metric, n=200):
    """Return the coverage and mean width of the paired interval; the truth comes from 400,000 samples."""

    def draw(rng, size):
        y = rng.integers(0, 2, size)
        signal = np.where(y == 1, 1.5, -1.5) + rng.standard_normal(size)
        logits = np.stack([signal + 1.2 * rng.standard_normal(size), 1.2 * signal + rng.standard_normal(size)])
        one = 1 / (1 + np.exp(-1.5 * logits))
        return y, np.stack([1 - one, one], axis=2)

    y, models = draw(np.random.default_rng(0), 400_000)
    right = models.argmax(axis=2) == y
    of_truth = -np.log(models[:, np.arange(len(y)), y])
    values = right if metric == "accuracy" else of_truth
    truth = float(values[1].mean() - values[0].mean())
    rows = []
    for k in range(sets):
        y, models = draw(np.random.default_rng([1, k]), n)
        result = paired_difference(models[0], models[1], y, metric, bootstraps=1000)
        rows.append((result.low <= truth <= result.high, result.high - result.low))
    coverage, width = np.mean(np.array(rows, dtype=float), axis=0)
    return {"coverage": round(float(coverage), 4), "width": round(float(width), 4), "difference": round(truth, 4)}


def main():
    """Measure, print, store."""
    sets = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    errors = {
        f"{make.__name__}, {configs} configs": family_wise(make, sets, configs)
        for make in (normal, folds)
        for configs in (2, 5, 8)
    }
    result = {
        "what": f"{SEEDS} seeds x {FOLDS} folds, a look a seed, level {LEVEL}; paired intervals at 95 %, n = 200",
        "sets": sets,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "family_wise_error": errors,
        "planted": planted(sets),
        "paired": {metric: paired(sets, metric) for metric in ("accuracy", "loss")},
    }
    print(json.dumps(result, indent=2))
    OUT.write_text(json.dumps(result, indent=2) + "\n")
    return int(max(errors.values()) > LEVEL + 3 * (LEVEL * (1 - LEVEL) / sets) ** 0.5)


if __name__ == "__main__":
    sys.exit(main())
