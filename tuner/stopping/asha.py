"""Asynchronous successive halving."""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import zlib
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from tuner.stopping.base import Curve, Curves, Rule, best_until, has_reached

LOOK_BACK = 2  # epochs over which a curve's gain is taken
AHEAD = 0.75  # as much of that gain again is what a trial is given beforehand: a projection of 1.5 epochs
TELLING = 4  # trials that tell whether a rung can be trusted


class Asha(Rule):
    """Asynchronous successive halving in its stopping form: at each rung only the best part goes on.

    Rungs are at grace_epochs - 1 + reduction^k epochs, below max_epochs: at 2, 4, 10, 28 with the defaults. A trial
    that reaches a rung goes on if it is in the best 1/reduction of all values seen at that rung so far, its own
    included; ties go on. While a rung holds fewer than `reduction` values, everything goes on. No trial waits for
    another.

    A trial's value at a rung is its best up to the rung, not its value at the rung: a sweep ranks trials by their best
    epoch, so this is what it will be ranked by, and one noisy epoch ends nobody. From it is taken what the trial has
    gained of late, so that one that begins slowly and still falls steeply is not stopped by one that was quick and
    stands still.

    Where early ranks say nothing, or the contrary of what is found in the end (an untrained first epoch; curves that
    cross), no fixed grace helps. So the first `unjudged` configs that get as far as a rung run to their end, and a rung
    at which their order contradicts the order of their best values is passed over (Kendall's tau below 0).

    With `brackets`, trials are shared out among several such races, the first rung of each one rung later than that of
    the one before: hyperband in its asynchronous form. A winner that is slow at first is safe in the later ones. Each
    bracket has a `reduction`-th of the trials of the one before, so about as many epochs are trained in each. Which
    trial is in which follows from its name, and trials are compared within their bracket only.

    Source: L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2, in the
    stopping variant (a trial is judged once on arrival instead of waiting to be promoted). The projection, the trust
    in rungs, and rungs that count from the grace are this project's.

    Args:
        grace_epochs: Epoch of the first rung, >= 1; at epoch 1 a network is next to untrained.
        reduction: One in how many goes on at a rung, >= 2.
        brackets: How many races there are, >= 1; 1: one for all.
        unjudged: How many configs, the first that reach a rung, are never stopped, >= 0; with fewer than 4 every rung
            is trusted.
    """

    name: ClassVar[str] = "asha"

    grace_epochs: int = Field(2, ge=1)
    reduction: int = Field(3, ge=2)
    brackets: int = Field(1, ge=1)
    unjudged: int = Field(5, ge=0)

    def decide(self, curves: Curves, trial: str, epoch: int, max_epochs: int) -> str | None:
        passed = self._rungs_passed(trial, curves[trial], epoch, max_epochs)
        if not passed:
            return None
        # One that failed before its first rung tells nothing, so it is none of those that are never stopped.
        telling = (name for name, curve in curves.items() if self._tells(name, curve, max_epochs))
        first = heapq.nsmallest(self.unjudged, telling, key=lambda name: (len(name), name))
        if trial in first:
            return None
        for rung in passed:
            reason = self._judge(curves, trial, rung)
            if reason and is_trusted([curves[name] for name in first], rung, max_epochs):
                return reason
        return None

    def for_repeats(self, repeats: int) -> Asha:
        """Count the trials that are never stopped in configs: the repeats of one say nothing of how curves cross."""
        return self.model_copy(update={"unjudged": self.unjudged * repeats})

    def _tells(self, trial: str, curve: Curve, max_epochs: int) -> bool:
        rungs = self.rungs(max_epochs, self.bracket(trial))
        return bool(rungs) and has_reached(curve, rungs[0]) and math.isfinite(best_until(curve, rungs[0]))

    def rungs(self, max_epochs: int, bracket: int = 0) -> list[int]:
        """Return the epochs at which the trials of a bracket, from 0, are judged."""
        epochs = (self.grace_epochs - 1 + self.reduction**power for power in itertools.count(bracket))
        return list(itertools.takewhile(lambda epoch: epoch < max_epochs, epochs))

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
        own = projected(curves[trial], rung)
        bracket = self.bracket(trial)
        others = [
            projected(curve, rung)
            for other, curve in curves.items()
            if other != trial and has_reached(curve, rung) and self.bracket(other) == bracket
        ]
        seen = len(others) + 1
        rank = 1 + sum(value < own for value in others)
        kept = seen // self.reduction
        if seen < self.reduction or rank <= kept:
            return None
        return f"asha: rank {rank} of {seen} at epoch {rung}, where the best {kept} go on"


def projected(curve: Curve, epoch: int) -> float:
    """Return the best value up to an epoch, less what its last LOOK_BACK epochs have gained, AHEAD times."""
    best, before = best_until(curve, epoch), best_until(curve, max(1, epoch - LOOK_BACK))
    return best - AHEAD * (before - best) if math.isfinite(before) else best


def is_trusted(curves: Sequence[Curve], rung: int, max_epochs: int) -> bool:
    """Return whether what trials have at a rung may stand for what they come to.

    Args:
        curves: Of trials that nobody stops; asked are those that are three times as far, or at their end.
        rung: The epoch.
        max_epochs: The last epoch of all.
    """
    far = [curve for curve in curves if has_reached(curve, min(3 * rung, max_epochs))]
    if len(far) < TELLING:
        return True
    pairs = [(best_until(curve, rung), best_until(curve, max_epochs)) for curve in far]
    agree = sum(
        sign((a - b) * (c - d))
        for (a, c), (b, d) in itertools.combinations(pairs, 2)
        if all(map(math.isfinite, (a, b, c, d)))
    )
    return agree >= 0


def sign(value: float) -> int:
    """Return 1, 0 or -1."""
    return int(value > 0) - int(value < 0)
