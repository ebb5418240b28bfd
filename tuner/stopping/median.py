"""The median stopping rule."""

from __future__ import annotations

import math
from statistics import median
from typing import ClassVar

from pydantic import Field

from tuner.stopping.base import Curve, Curves, Rule, best_until, has_reached, worst_if_undefined


class Median(Rule):
    """Stops a trial whose best so far is worse than the median of the others' running means.

    Compared are the other trials that have got as far as this epoch, whatever became of them since; the
    running mean of each is over its epochs up to this one. Equal to the median goes on.

    Source: D. Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section
    3.2.2. Vizier counts completed trials only; counting every trial that has come this far lets the rule
    work from the first wave on.

    Args:
        grace_epochs: First epoch at which the rule may decide, >= 1.
        min_trials: How many other trials must have got as far, >= 1; with fewer, everything goes on.
    """

    name: ClassVar[str] = "median"

    grace_epochs: int = Field(3, ge=1)
    min_trials: int = Field(5, ge=1)

    def decide(self, curves: Curves, trial: str, epoch: int, max_epochs: int) -> str | None:
        if epoch < self.grace_epochs or epoch >= max_epochs:
            return None
        means = [
            _running_mean(curve, epoch)
            for other, curve in curves.items()
            if other != trial and has_reached(curve, epoch)
        ]
        if len(means) < self.min_trials or _no_worse(best_until(curves[trial], epoch), median(means)):
            return None
        return (
            f"median: the best up to epoch {epoch} is worse than the median of {len(means)} other trials' running means"
        )


def _no_worse(value: float, than: float) -> bool:
    """Compare, equal but for the rounding of a mean included: the mean of three 0.9 is not 0.9."""
    return value <= than or math.isclose(value, than, rel_tol=1e-9)


def _running_mean(curve: Curve, epoch: int) -> float:
    values = [worst_if_undefined(value) for at, value in curve.items() if at <= epoch]
    return sum(value / len(values) for value in values)  # a sum of them could be too large for a float
