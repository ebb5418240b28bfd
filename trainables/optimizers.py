"""Optimizers and learning-rate schedules.

A schedule is a formula, not an object that is stepped: the rate of any step follows from the config and the
step's number (and, for plateau, from how often it has cut). So a resumed trial goes on exactly where it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def make_optimizer(model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return the config's optimizer; weight decay reaches weights only, not biases and batch norm."""
    decayed = weights(model)
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": config["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    name, rate, momentum = config["optimizer"], config["learning_rate"], config["momentum"]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=True)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=momentum)
    adam = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return adam(groups, lr=rate, betas=(momentum, 0.999), fused=True)


def weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that the penalties reach: matrices and filters."""
    return [p for p in model.parameters() if p.ndim >= 2]


class Schedule:
    """The learning rate of every step of a trial.

    cosine, one_cycle and the warm-up change at every step; step and exponential every so many steps as an epoch has,
    counted from the warm-up's end; manual and plateau at an epoch's first step.

    Args:
        config: A complete config.
        epochs: The horizon: how many epochs the trial trains in all.
        steps_per_epoch: Optimizer steps an epoch.
    """

    def __init__(self, config: Mapping[str, Any], epochs: int, steps_per_epoch: int) -> None:
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.total = epochs * steps_per_epoch
        self.warmup = min(round(config["warmup_epochs"] * steps_per_epoch), self.total)
        self.best, self.bad_epochs, self.cuts = math.inf, 0, 0

    def rate(self, step: int) -> float:
        """Return the rate of a step, counted from 0 over the whole trial."""
        schedule, peak = self.config["lr_schedule"], self.config["learning_rate"]
        if not isinstance(schedule, str):
            epoch = step // self.steps_per_epoch + 1
            return float([rate for start, rate in schedule if start <= epoch][-1])
        if schedule == "one_cycle":
            return peak * one_cycle(step, self.total, self.warmup or 0.3 * self.total)
        if step < self.warmup:
            return peak * (step + 1) / self.warmup
        return peak * self._factor(schedule, step - self.warmup)

    def _factor(self, schedule: str, step: int) -> float:
        """Return what the rate is multiplied by, `step` steps after the warm-up."""
        epoch = step // self.steps_per_epoch
        if schedule == "cosine":
            return (1 + math.cos(math.pi * step / (self.total - self.warmup))) / 2
        powers = {
            "constant": 0,
            "step": epoch // self.config["step_epochs"],
            "exponential": epoch,
            "plateau": self.cuts,
        }
        return float(self.config["gamma"] ** powers[schedule])

    def observe(self, loss: float | None) -> None:
        """Take note of an epoch's loss, for plateau.

        It cuts after more than plateau_patience epochs without a lower loss; lower means by at least 0.01 %,
        as in torch's ReduceLROnPlateau.
        """
        if loss is not None and loss < self.best * (1 - 1e-4):
            self.best, self.bad_epochs = loss, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.config["plateau_patience"]:
            self.bad_epochs, self.cuts = 0, self.cuts + 1

    def state_dict(self) -> dict[str, float]:
        """Return what plateau has seen; everything else follows from the config."""
        return {"best": self.best, "bad_epochs": self.bad_epochs, "cuts": self.cuts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.best, self.bad_epochs, self.cuts = state["best"], state["bad_epochs"], state["cuts"]


def one_cycle(step: int, total: int, rise: float) -> float:
    """Return the one-cycle factor: from 1/25 up to 1 over `rise` steps, then down to 1/250,000.

    As torch's OneCycleLR with cosine annealing; after Smith and Topin, 2017 (arXiv:1708.07120). Of fewer than 4 steps
    in all the first is at the peak, where torch's begins on the way down.
    """
    top = max(rise - 1, 0)
    if step < top:
        return _between(1 / 25, 1, step / top)
    return _between(1, 1 / 250_000, (step - top) / max(total - 1 - top, 1))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
