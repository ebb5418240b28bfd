"""Stopping a trial whose loss explodes."""

from __future__ import annotations

import math
import sys
from typing import ClassVar

from pydantic import Field

from tuner.stopping.base import Curve, Curves, Rule, worst_if_undefined


class Divergence(Rule):
    """Stops a trial whose last `patience` values are all far worse than anything it began with.

    Far worse is: worse than at its first epoch, and worse than its best by more than `factor` times the larger of the
    two (their size, without sign). So a trial that only fails to improve goes on, however slow it is, and so does one
    whose metric cannot grow without bounds, such as an accuracy: for these there is plateau. A trial that reports
    nothing finite has diverged, too.

    Args:
        factor: How much worse, as a multiple of the trial's own scale, above 0.
        patience: How many reports in a row, >= 1: a single spike ends nobody.
        grace_epochs: Epochs that are never held against a trial, >= 0.
    """

    name: ClassVar[str] = "divergence"

    factor: float = Field(2.0, gt=0.0, allow_inf_nan=False)
    patience: int = Field(2, ge=1)
    grace_epochs: int = Field(2, ge=0)

    def decide(self, curves: Curves, trial: str, epoch: int, max_epochs: int) -> str | None:
        if epoch >= max_epochs:
            return None
        curve = {at: value for at, value in curves[trial].items() if at <= epoch}
        newest = [worst_if_undefined(curve[at]) for at in sorted(curve) if at > self.grace_epochs][-self.patience :]
        if len(newest) < self.patience or min(newest) <= self._limit(curve):
            return None
        since = sorted(curve)[-self.patience]
        return f"divergence: since epoch {since} far worse than its best, and worse than at its first epoch"

    def _limit(self, curve: Curve) -> float:
        """Return the value that no later one may exceed; inf where there is no scale to say so."""
        finite = [curve[at] for at in sorted(curve) if math.isfinite(curve[at])]
        if not finite:
            return sys.float_info.max
        first, best = finite[0], min(finite)
        scale = max(abs(first), abs(best))
        return max(first, best + self.factor * scale) if scale else math.inf
