"""A small real run whose trainable keeps a state: what tests damage, and resume."""

from __future__ import annotations

import textwrap
from pathlib import Path

import tuner
from tuner.backup import Backup
from tuner.drive import Watch
from tuner.errors import Interrupted

FUNCTION = """
import torch

from helper import rate


def train(config, trial):
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate(config), momentum=0.9)
    if trial.state is not None:
        model.load_state_dict(trial.state["model"])
        optimizer.load_state_dict(trial.state["optimizer"])
    inputs = torch.linspace(-1, 1, 24).reshape(8, 3)
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        loss = ((model(inputs) - inputs.sum(1, keepdim=True)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        predictions = model(inputs).detach().numpy()
        trial.report(epoch=epoch, loss=loss.item(), state=state, predictions=predictions)
"""

SWEEP = """
[sweep]
trainable = "mine.py:train"
metric = "loss"
mode = "min"
max_epochs = 3
[space]
learning_rate = { loguniform = [1e-3, 1e-1] }
[search]
strategy = "random"
trials = 3
"""

# Wall-clock times and process ids differ between two runs of one sweep; nothing else may.
TIMES = ["worker", "started_at", "duration_s", "attempts"]


def make_finished(place: Path) -> Path:
    """Run the sweep to its end and return its folder."""
    folder = tuner.run(_sweep(place), storage=place / "runs", name="one", backend="inline").folder
    Backup(folder / "journal.sqlite").now()
    return folder


def make_interrupted(place: Path) -> Path:
    """Run the sweep until its second trial has committed two epochs, with a backup as of its first."""

    def on_event(event):
        if (event.kind, event.trial, event.epoch) == ("epoch", "t0002", 1):
            Backup(place / "runs/one/journal.sqlite").now()
        if (event.kind, event.trial, event.epoch) == ("checkpoint", "t0002", 2):
            raise KeyboardInterrupt

    try:
        tuner.run(_sweep(place), storage=place / "runs", name="one", backend="inline", watch=Watch(on_event=on_event))
    except Interrupted:
        return place / "runs/one"
    raise AssertionError("it must be interrupted")


def frames(folder: Path) -> tuple[list[dict], list[dict]]:
    """Return what the frames say, without times and process ids."""
    results = tuner.load(folder)
    trials = results.trials.drop(columns=TIMES).to_dict("records")
    return trials, results.epochs.drop(columns="reported_at").to_dict("records")


def _sweep(place: Path) -> tuner.Sweep:
    (place / "mine.py").write_text(textwrap.dedent(FUNCTION))
    (place / "helper.py").write_text('def rate(config):\n    return config["learning_rate"]\n')
    (place / "mine.toml").write_text(SWEEP)
    return tuner.load_sweep(place / "mine.toml")
