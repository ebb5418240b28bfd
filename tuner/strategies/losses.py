"""What a model is told of each observation: a number for all of which something is known."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from tuner.strategies.base import Observation


def finished_losses(history: Sequence[Observation]) -> list[float]:
    """Return the finite losses of the trials that are done."""
    return [loss for loss in map(_finite_loss, history) if loss is not None]


def told_losses(history: Sequence[Observation]) -> list[float | None]:
    """Return a finite loss for each observation; None for those that teach nothing.

    done: its loss. NaN and infinite losses count as failed.
    failed: one spread (worst - best) above the worst loss of all that are done. So its region is learnt as
        the worst there is in rank, and a model of values does not lose the others from sight.
    pending: the worst loss of all that are done: a constant liar in its CL-max form (Ginsbourger et al.,
        "Kriging is well-suited to parallelize optimization", 2010). The worst and not the mean, for a lie
        must push the next proposal away from what is being tried, and while few are done the mean ranks
        among the good ones.
    lost: None. So is pending while nothing is done.
    """
    done = finished_losses(history)
    penalty = _penalty(done)
    instead = {"pending": max(done, default=None), "lost": None, "failed": penalty, "done": penalty}
    told = []
    for observation in history:
        loss = _finite_loss(observation)
        told.append(instead[observation.state] if loss is None else loss)
    return told


def _finite_loss(observation: Observation) -> float | None:
    loss = observation.loss
    if observation.state != "done" or loss is None or not math.isfinite(loss):
        return None
    return loss


def _penalty(done: Sequence[float]) -> float:
    """Return a loss that is worse than the worst."""
    if not done:
        return 1.0
    worst, best = max(done), min(done)
    # Where all are equal there is no spread, and beyond 1e16 adding 1 changes nothing: hence the magnitude.
    spread = (worst - best) or max(1.0, abs(worst))
    return min(worst + spread, sys.float_info.max)
