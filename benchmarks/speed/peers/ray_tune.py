"""Ray Tune as its PyTorch tutorial uses it: a function, a checkpoint with every report, tune.Tuner(...).fit().

    python ray_tune.py task.json result.json

After https://docs.ray.io/en/latest/tune/examples/tune-pytorch-cifar.html, but with the loaders in the trial's own
process: the tutorial's eight loading processes a trial would be slower still on few cores.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import ray
import torch
from ray import tune
from ray.tune import Checkpoint
from torch import optim
from user_code import Net, get_loaders, train_epoch, validate


def train_fashion(config, task):
    """Train one config, reporting and checkpointing every epoch."""
    train_loader, val_loader = get_loaders(task)
    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=config["learning_rate"], momentum=config["momentum"])
    for _ in range(task["epochs"]):
        train_epoch(model, optimizer, train_loader)
        loss, accuracy = validate(model, val_loader)
        with tempfile.TemporaryDirectory() as folder:
            torch.save((model.state_dict(), optimizer.state_dict()), Path(folder) / "checkpoint.pt")
            tune.report({"loss": loss, "accuracy": accuracy}, checkpoint=Checkpoint.from_directory(folder))


if __name__ == "__main__":
    task = json.loads(Path(sys.argv[1]).read_text())
    ray.init(address="local", _temp_dir=str(Path("ray").absolute()))
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_fashion, task=task), {"cpu": 1}),
        param_space={name: tune.grid_search(values) for name, values in task["grid"].items()},
        tune_config=tune.TuneConfig(metric="accuracy", mode="max"),
        run_config=tune.RunConfig(storage_path=str(Path("results").absolute())),
    )
    results = tuner.fit()
    found = [{**result.config, "accuracy": result.metrics["accuracy"]} for result in results]
    Path(sys.argv[2]).write_text(json.dumps(found))
