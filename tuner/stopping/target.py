"""Ending a sweep that has what was asked for."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PrivateAttr

from tuner.stopping.base import Curves, Rule, best_until


class Target(Rule):
    """Ends the whole sweep once a trial's metric is as good as `value`, and the trial meets the constraints.

    That trial ends there, no other begins any more, and what is running ends with its next report. A resume does not go
    on, unless it asks for a better value: --set stopping.target.value=0.99.

    Args:
        value: What is good enough, in the metric's own unit and sense.
    """

    name: ClassVar[str] = "target"
    feasible_only: ClassVar[bool] = True

    value: float = Field(allow_inf_nan=False)

    _sign: float = PrivateAttr(1.0)

    def for_mode(self, mode: str) -> Target:
        rule = self.model_copy()
        rule._sign = 1.0 if mode == "min" else -1.0
        return rule

    def decide(self, curves: Curves, trial: str, epoch: int, max_epochs: int) -> str | None:
        return self.over({trial: curves.get(trial, {})}) or self.over(curves)

    def over(self, curves: Curves) -> str | None:
        wanted = self._sign * self.value
        for trial, curve in curves.items():
            if curve and min(curve.values()) <= wanted and best_until(curve, max(curve)) <= wanted:
                epoch = next(epoch for epoch in sorted(curve) if best_until(curve, epoch) <= wanted)
                reached = f"{self._sign * curve[epoch]:g} at epoch {epoch}"
                return f"target: {trial} reached {reached}, where {self.value:g} was asked for"
        return None
