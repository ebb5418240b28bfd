"""skorch's NeuralNetClassifier in scikit-learn's GridSearchCV with n_jobs=2, on one given split.

    python skorch_grid.py task.json result.json

After https://skorch.readthedocs.io/en/stable/user/quickstart.html ("Grid search"): skorch's own validation is off, so
it validates once a config, where the others do so every epoch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from skorch import NeuralNetClassifier
from torch import nn, optim
from torchvision import datasets
from user_code import Net

if __name__ == "__main__":
    task = json.loads(Path(sys.argv[1]).read_text())
    dataset = datasets.FashionMNIST(task["root"], train=True)
    rows = [*task["train"], *task["val"]]
    x = (dataset.data[rows].numpy()[:, None].astype(np.float32) / 255 - 0.2860) / 0.3530
    y = dataset.targets[rows].numpy().astype(np.int64)
    fold = [-1] * len(task["train"]) + [0] * len(task["val"])  # -1: never in validation

    net = NeuralNetClassifier(
        Net,
        criterion=nn.CrossEntropyLoss,
        optimizer=optim.SGD,
        max_epochs=task["epochs"],
        batch_size=task["batch_size"],
        iterator_train__shuffle=True,
        train_split=False,
        verbose=0,
    )
    names = {"learning_rate": "lr", "momentum": "optimizer__momentum"}
    params = {names[name]: values for name, values in task["grid"].items()}
    search = GridSearchCV(net, params, cv=PredefinedSplit(fold), scoring="accuracy", refit=False, n_jobs=2)
    search.fit(x, y)
    results = search.cv_results_
    found = [
        {"learning_rate": tried["lr"], "momentum": tried["optimizer__momentum"], "accuracy": float(score)}
        for tried, score in zip(results["params"], results["mean_test_score"], strict=True)
    ]
    Path(sys.argv[2]).write_text(json.dumps(found))
