"""Optuna with two processes that share a study in a journal file, each with half of the trials.

    python optuna_processes.py task.json result.json user_code|our_code

After "Multi-process optimization with JournalStorage" of
https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/004_distributed.html; torch has one thread a process.
The configs are told with enqueue_trial.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import sys
from pathlib import Path

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def open_study():
    """Return the study that both processes work on."""
    storage = JournalStorage(JournalFileBackend("./journal.log"))
    return optuna.create_study(study_name="fashion", storage=storage, direction="maximize", load_if_exists=True)


def work(task, module, trials):
    """Take trials of the study until its share is done."""
    torch.set_num_threads(1)
    train = importlib.import_module(module).train

    def objective(trial):
        """Train one config."""
        config = {name: trial.suggest_float(name, 0.0, 1.0) for name in task["grid"]}
        return train(config, task, lambda epoch, loss, accuracy: trial.report(accuracy, epoch))

    open_study().optimize(objective, n_trials=trials)


if __name__ == "__main__":
    task = json.loads(Path(sys.argv[1]).read_text())
    study = open_study()
    for config in task["configs"]:
        study.enqueue_trial(config)
    half = len(task["configs"]) // 2
    with multiprocessing.Pool(2) as pool:
        pool.starmap(work, [(task, sys.argv[3], half), (task, sys.argv[3], len(task["configs"]) - half)])
    found = [{**trial.params, "accuracy": trial.value} for trial in study.trials]
    Path(sys.argv[2]).write_text(json.dumps(found))
