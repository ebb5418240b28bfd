"""What a stopping rule is: options, and one pure decision."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from tuner.options import Options

Curve = Mapping[int, float]
Curves = Mapping[str, Curve]


class Rule(Options):
    """One stopping rule: its fields are its options, and `decide` is a pure function of the history.

    A rule of one's own subclasses this, sets `name`, and is added to `tuner.stopping.RULES`.
    """

    name: ClassVar[str]
    feasible_only: ClassVar[bool] = False
    """Whether it is told only of configs that meet the sweep's constraints so far; the trial's own may be missing."""

    def for_mode(self, mode: str) -> Rule:
        """Return the rule as a sweep of this mode ("max" or "min") needs it: its options may be metric values."""
        return self

    def for_repeats(self, repeats: int) -> Rule:
        """Return the rule as a sweep needs it that trains every config so often: its options may count configs."""
        return self

    def over(self, curves: Curves) -> str | None:
        """Return a one-line reason to end the whole sweep, or None; what it says must follow from the curves alone."""
        return None

    @abstractmethod
    def decide(self, curves: Curves, trial: str, epoch: int, max_epochs: int) -> str | None:
        """Return a one-line reason to stop the trial now, or None to let it go on.

        A rule only ever says stop or go on. It never pauses: a paused function would start again
        from its first epoch.

        Args:
            curves: Trial to {epoch: value to be minimised}; what was reported before this report, and
                this report itself.
            trial: The trial that has just reported.
            epoch: The epoch that it reported, counted from 1.
            max_epochs: The last epoch that any trial of the sweep may reach.
        """


def best_until(curve: Curve, epoch: int) -> float:
    """Return the lowest value reported up to and including an epoch; inf if there is none, or none finite."""
    return min((worst_if_undefined(value) for at, value in curve.items() if at <= epoch), default=math.inf)


def worst_if_undefined(value: float) -> float:
    """Return the value, or inf for NaN and either infinity (nothing real is infinitely good)."""
    return value if math.isfinite(value) else math.inf


def has_reached(curve: Curve, epoch: int) -> bool:
    """Return whether a trial has reported this epoch or a later one."""
    return any(at >= epoch for at in curve)
