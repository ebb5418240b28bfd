"""Does the corrected score's interval hold the truth as often as it says? Planted models, no training.

    python benchmarks/coverage.py [SETS] [BOOTSTRAPS]

Each set plants T trials of E epochs with known true scores: a latent normal per sample (a part shared by all models:
hard samples; a part shared by a trial's epochs; the rest of its own) decides which samples a model gets right, so its
true score is exact. The selection takes the best; covered is the true score of the model that it took. Beside it stands
the uncorrected score with Wilson's interval (the metric's bootstrap standard error for others than accuracy). Writes
benchmarks/results/coverage.json; exits with 1 if a scenario covers less than 93 %.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

from tuner.analysis.selection import corrected, wilson
from tuner.analysis.weighted import weighted_scores

LEAST = 0.93
OUT = Path(__file__).parent / "results" / "coverage.json"


@dataclass(frozen=True)
class Scenario:
    """What is planted.

    Args:
        name: What it is about.
        trials: Configs.
        epochs: A config.
        samples: Of the validation set.
        typical: The typical true score at the last epoch (for rmse: 1 - its value).
        spread: Standard deviation of the configs' true scores.
        rise: How far the first epoch is below the last, in standard normal units.
        shared: Share of the latent's variance that all models share.
        trial: Share that a trial's epochs share.
        metric: accuracy, balanced_accuracy (a tenth of the samples in the second class), roc_auc, or rmse.
    """

    name: str
    trials: int
    epochs: int
    samples: int
    typical: float
    spread: float
    rise: float
    shared: float
    trial: float
    metric: str = "accuracy"


SCENARIOS = (
    Scenario("all equal, epochs too", 50, 10, 300, 0.85, 0.0, 0.0, 0.36, 0.25),
    Scenario("all equal, independent errors", 100, 1, 300, 0.8, 0.0, 0.0, 0.0, 0.0),
    Scenario("30 configs, 20 rising epochs", 30, 20, 300, 0.85, 0.03, 1.0, 0.36, 0.25),
    Scenario("many near the best, high accuracy", 100, 20, 300, 0.97, 0.01, 0.5, 0.36, 0.25),
    Scenario("spread, independent errors, few samples", 50, 1, 200, 0.8, 0.03, 0.0, 0.0, 0.0),
    Scenario("wide spread, many samples", 10, 20, 1000, 0.8, 0.1, 1.0, 0.36, 0.25),
    Scenario("balanced accuracy, a rare class", 20, 5, 500, 0.85, 0.03, 0.5, 0.36, 0.25, "balanced_accuracy"),
    Scenario("ROC-AUC", 20, 5, 300, 0.85, 0.03, 0.5, 0.36, 0.25, "roc_auc"),
    Scenario("RMSE", 30, 5, 300, 0.5, 0.03, 0.3, 0.36, 0.25, "rmse"),
)


def plant(scenario, rng):
    """Return predictions, labels and the true score of every (trial, epoch)."""
    s = scenario
    n, shape = s.samples, (s.samples, s.trials, s.epochs)
    own = 1 - s.shared - s.trial
    latent = (
        np.sqrt(s.shared) * rng.standard_normal((n, 1, 1))
        + np.sqrt(s.trial) * rng.standard_normal((n, s.trials, 1))
        + np.sqrt(own) * rng.standard_normal(shape)
    )
    last = np.clip(s.typical + s.spread * rng.standard_normal((s.trials, 1)), 0.02, 0.995)
    at = norm.ppf(last) - s.rise * np.exp(-np.arange(s.epochs) / max(s.epochs / 4, 1))
    y, arrays, truth = _predictions(s.metric, latent, at, rng)
    names = [f"t{t:04d}" for t in range(s.trials)]
    predictions = {name: {e + 1: arrays[:, t, e] for e in range(s.epochs)} for t, name in enumerate(names)}
    return predictions, y, {(name, e + 1): truth[t, e] for t, name in enumerate(names) for e in range(s.epochs)}


def _predictions(metric, latent, at, rng):
    n = len(latent)
    if metric == "rmse":
        truth = 1 - norm.cdf(at)
        return np.zeros(n), truth * latent, truth
    if metric == "roc_auc":
        y = (np.arange(n) % 3 == 0).astype(int)
        score = norm.cdf((latent + np.sqrt(2) * at * y[:, None, None]) / 2)
        return y, np.stack([1 - score, score], axis=-1), norm.cdf(at)
    y = np.zeros(n, dtype=int) if metric == "accuracy" else (np.arange(n) % 10 == 0).astype(int)
    called = np.where(latent < at, y[:, None, None], 1 - y[:, None, None])
    return y, np.stack([1.0 - called, called], axis=-1), norm.cdf(at)


def naive(result, predictions, y, metric):
    """Return the interval of one who forgets that the model was selected."""
    trial, epoch = result.winner
    if metric == "accuracy":
        return wilson(result.uncorrected, len(y), 1.96)
    weights = np.random.default_rng(0).multinomial(len(y), np.full(len(y), 1 / len(y)), size=200).astype(float)
    error = weighted_scores(metric, predictions[trial][epoch][None], y, weights)[:, 0].std(ddof=1)
    return result.uncorrected - 1.96 * error, result.uncorrected + 1.96 * error


def measure(scenario, sets, bootstraps, seed=0):
    """Return coverage, width and bias over that many planted sets, corrected and uncorrected."""
    rows = []
    for k in range(sets):
        predictions, y, truth = plant(scenario, np.random.default_rng([seed, k]))
        mode = "min" if scenario.metric == "rmse" else "max"
        result = corrected(predictions, y, scenario.metric, mode, bootstraps=bootstraps, seed=k)
        true = truth[result.winner]
        best = (min if mode == "min" else max)(truth.values())
        low, high = naive(result, predictions, y, scenario.metric)
        held = any(truth[model] == best for model in result.ties)
        rows.append((
            result.low <= true <= result.high, result.high - result.low, result.score - true,
            low <= true <= high, high - low, result.uncorrected - true, held, len(result.ties) / result.n_models,
        ))  # fmt: skip
    names = ("coverage", "width", "bias", "coverage_uncorrected", "width_uncorrected", "bias_uncorrected")
    means = np.mean(np.array(rows, dtype=float), axis=0)
    return dict(
        zip((*names, "ties_hold_the_best", "share_that_ties"), (round(float(x), 4) for x in means), strict=True)
    )


def main():
    """Measure every scenario, print a line each, store all."""
    sets = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    bootstraps = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    results = []
    for scenario in SCENARIOS:
        began = time.perf_counter()
        figures = measure(scenario, sets, bootstraps)
        results.append(asdict(scenario) | {"sets": sets} | figures)
        print(f"{scenario.name} ({sets} sets, {time.perf_counter() - began:.0f} s): {figures}", flush=True)
    OUT.write_text(
        json.dumps(
            {
                "what": "coverage of the true score of the selected model, 95 % stated; corrected and uncorrected",
                "sets": sets * len(SCENARIOS),
                "bootstraps": bootstraps,
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "scenarios": results,
            },
            indent=2,
        )
        + "\n"
    )
    return int(any(result["coverage"] < LEAST for result in results))


if __name__ == "__main__":
    sys.exit(main())
