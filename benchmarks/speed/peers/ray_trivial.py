"""Ray Tune with a function that only reports: what a trial costs by itself.

python ray_trivial.py TRIALS REPORTS plain|reuse
"""

from __future__ import annotations

import sys
from pathlib import Path

import ray
from ray import tune


def score(config, reports):
    """Report a number, some times."""
    for epoch in range(reports):
        tune.report({"score": config["x"] * epoch})


if __name__ == "__main__":
    trials, reports, reuse = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "reuse"
    ray.init(address="local", _temp_dir=str(Path("ray").absolute()))
    tuner = tune.Tuner(
        tune.with_parameters(score, reports=reports),
        param_space={"x": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(num_samples=trials, metric="score", mode="max", reuse_actors=reuse),
        run_config=tune.RunConfig(storage_path=str(Path("results").absolute())),
    )
    results = tuner.fit()
    assert len(results) == trials and not results.errors
