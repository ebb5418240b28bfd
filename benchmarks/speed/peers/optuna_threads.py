"""Optuna with n_jobs=2: two trials side by side as threads of one process.

    python optuna_threads.py task.json result.json user_code|our_code

After https://github.com/optuna/optuna-examples/blob/main/pytorch/pytorch_simple.py and "Multi-thread optimization" of
https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/004_distributed.html; torch has one thread a trial,
since there are as many trials as cores. The configs are told with enqueue_trial.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import optuna
import torch

if __name__ == "__main__":
    torch.set_num_threads(1)
    task = json.loads(Path(sys.argv[1]).read_text())
    train = importlib.import_module(sys.argv[3]).train

    def objective(trial):
        """Train one config."""
        config = {name: trial.suggest_float(name, 0.0, 1.0) for name in task["grid"]}
        return train(config, task, lambda epoch, loss, accuracy: trial.report(accuracy, epoch))

    study = optuna.create_study(direction="maximize")
    for config in task["configs"]:
        study.enqueue_trial(config)
    study.optimize(objective, n_trials=len(task["configs"]), n_jobs=2)
    found = [{**trial.params, "accuracy": trial.value} for trial in study.trials]
    Path(sys.argv[2]).write_text(json.dumps(found))
