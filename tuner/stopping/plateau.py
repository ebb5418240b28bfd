"""Stopping a trial that no longer improves."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from tuner.stopping.base import Curves, Rule, best_until


class Plateau(Rule):
    """Stops a trial whose best has not improved by more than min_delta over the last `patience` epochs.

    The best up to now is compared with the best as it was `patience` epochs ago, so that many small steps
    count as one large one. A trial that has reported nothing finite counts as not improving.

    Source: the options are those of Keras' EarlyStopping (patience, min_delta, start_from_epoch); it compares
    each epoch with the best, and so stops a curve that creeps by less than min_delta an epoch.

    Args:
        patience: Length of the window in epochs, >= 1.
        min_delta: Improvement that is needed, in the metric's own unit, >= 0; more than this, not as much.
        grace_epochs: Epochs that are never held against a trial, >= 1: the window starts after them.
    """

    name: ClassVar[str] = "plateau"

    patience: int = Field(5, ge=1)
    min_delta: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    grace_epochs: int = Field(3, ge=1)

    def decide(self, curves: Curves, trial: str, epoch: int, max_epochs: int) -> str | None:
        since = epoch - self.patience
        if since < self.grace_epochs or epoch >= max_epochs:
            return None
        curve = curves[trial]
        if best_until(curve, epoch) < best_until(curve, since) - self.min_delta:
            return None
        return f"plateau: no improvement of more than {self.min_delta:g} since epoch {since}"
