"""Asynchronous successive halving."""

from __future__ import annotations

import bisect
import itertools
import zlib
from typing import ClassVar

from pydantic import Field

from tuner.stopping.base import Curve, Curves, Rule, best_until, has_reached


class Asha(Rule):
    """Asynchronous successive halving in its stopping form: at each rung only the best part goes on.

    Rungs are at grace_epochs * reduction^k epochs, below max_epochs. A trial that reaches a rung goes on if
    it is in the best 1/reduction of all values seen at that rung so far, its own included; ties go on.
    While a rung holds fewer than `reduction` values, everything goes on. No trial waits for another.

    A trial's value at a rung is its best up to the rung, not its value at the rung: a sweep ranks trials by
    their best epoch, so this is what it will be ranked by, and one noisy epoch ends nobody.

    With `brackets`, trials are shared out among several such races, the first rung of each `reduction` times later than
    that of the one before: hyperband in its asynchronous form. A winner that is slow at first is safe in the later
    ones. Each bracket has a `reduction`-th of the trials of the one before, so about as many epochs are trained in
    each. Which trial is in which follows from its name, and trials are compared within their bracket only.

    Source: L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2,
    in the stopping variant (a trial is judged once on arrival instead of waiting to be promoted).

    Args:
        grace_epochs: Epoch of the first rung, >= 1. The default keeps the first epochs, where the network is
            next to untrained and ranks say nothing, from deciding.
        reduction: One in how many goes on at a rung, >= 2.
        brackets: How many races there are, >= 1; 1: one for all.
    """

    name: ClassVar[str] = "asha"

    grace_epochs: int = Field(3, ge=1)
    reduction: int = Field(3, ge=2)
    brackets: int = Field(1, ge=1)

    def decide(self, curves: Curves, trial: str, epoch: int, max_epochs: int) -> str | None:
        for rung in self._rungs_passed(trial, curves[trial], epoch, max_epochs):
            reason = self._judge(curves, trial, rung)
            if reason:
                return reason
        return None

    def rungs(self, max_epochs: int, bracket: int = 0) -> list[int]:
        """Return the epochs at which the trials of a bracket, from 0, are judged."""
        rungs, rung = [], self.grace_epochs * self.reduction**bracket
        while rung < max_epochs:
            rungs.append(rung)
            rung *= self.reduction
        return rungs

    def bracket(self, trial: str) -> int:
        """Return the bracket of a trial, from 0, the one with the earliest rung."""
        if self.brackets == 1:
            return 0
        shares = [self.reduction**-bracket for bracket in range(self.brackets)]
        place = zlib.crc32(trial.encode()) / 2**32 * sum(shares)
        return min(bisect.bisect_right(list(itertools.accumulate(shares)), place), self.brackets - 1)

    def _rungs_passed(self, trial: str, curve: Curve, epoch: int, max_epochs: int) -> list[int]:
        # A function may report every other epoch, so a rung can lie between two reports.
        before = max((at for at in curve if at < epoch), default=0)
        return [rung for rung in self.rungs(max_epochs, self.bracket(trial)) if before < rung <= epoch]

    def _judge(self, curves: Curves, trial: str, rung: int) -> str | None:
        own = best_until(curves[trial], rung)
        bracket = self.bracket(trial)
        others = [
            best_until(curve, rung)
            for other, curve in curves.items()
            if other != trial and has_reached(curve, rung) and self.bracket(other) == bracket
        ]
        seen = len(others) + 1
        rank = 1 + sum(value < own for value in others)
        kept = seen // self.reduction
        if seen < self.reduction or rank <= kept:
            return None
        return f"asha: rank {rank} of {seen} at epoch {rung}, where the best {kept} go on"
