"""The trials of a built-in trainable as lanes: what a process calls in which several of them train."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from typing import Any

import torch

from trainables.lanes.fusing import key
from trainables.lanes.group import Group, Lane
from trainables.lanes.together import Epoch, Together
from trainables.parameters import complete
from trainables.training import Build
from tuner.trainable import Train, Trial


def side_by_side(trainable: str) -> Train:
    """Return what trains trials of a built-in trainable, each called from a thread of its own, as lanes.

    Each trial reports what it would have reported alone, but for the rounding of other kernels.

    Args:
        trainable: "cnn", "resnet" or "mlp".
    """
    build: Build = importlib.import_module(f"trainables.{trainable}").build
    together = Together(key, lambda: Trials(build))

    def train(config: dict[str, Any], trial: Trial) -> None:
        together.train(complete(trainable, config), trial)

    return train


_drawing = threading.Lock()  # initial weights are drawn from the process's generator, seeded just before


class Trials:
    """A group whose lanes are trials.

    Args:
        build: Makes a lone trial's model.
    """

    def __init__(self, build: Build) -> None:
        self._build = build
        self._group: Group | None = None

    def add(self, config: Mapping[str, Any], trial: Trial) -> Lane:
        """Take a trial in, where it left off; returns its lane."""
        if self._group is None:
            self._group = Group(self._build, torch.device(trial.device), trial.precision)
        assert trial.data is not None, "lanes train on a data set"
        epochs = min(config.get("epochs", trial.max_epochs), trial.max_epochs)
        with _drawing:
            return self._group.add(config, trial.data, epochs, trial.seed, trial.state, trial.start_epoch)

    def remove(self, lane: Lane) -> None:
        """Let a lane go."""
        assert self._group is not None
        self._group.remove(lane)

    def train_epoch(self) -> Mapping[Lane, Epoch]:
        """Train an epoch of every lane; returns what each reports."""
        group = self._group
        assert group is not None
        return {
            lane: {"epoch": row.epoch, "state": group.state_dict(lane), "predictions": row.predictions, **row.metrics}
            for lane, row in group.train_epoch().items()
        }
