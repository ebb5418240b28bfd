"""The same network trained by this project's own training code, for a tuner that is not this project's."""

from __future__ import annotations

import functools

from trainables import cnn
from trainables.alone import Alone
from trainables.data import load


@functools.cache
def data_of(root, limit, val_fraction):
    """Return the splits, decoded once a process."""
    return load({"name": "fashion_mnist", "root": root, "limit": limit, "val_fraction": val_fraction}, seed=1)


def train(config, task, report=lambda epoch, loss, accuracy: None):
    """Train one config; returns the validation accuracy after its last epoch."""
    data = data_of(task["root"], task["limit"], task["val_fraction"])
    trial = Alone(data, max_epochs=task["epochs"], seed=1)
    cnn.train({**task["defaults"], **config}, trial)
    for row in trial.reports:
        report(row["epoch"] - 1, row["val_loss"], row["val_accuracy"])
    return trial.reports[-1]["val_accuracy"]
