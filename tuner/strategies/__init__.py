"""Strategies propose configs: ask/tell, pure, seeded. No Ray.

STRATEGIES is the registry: a strategy of one's own is a factory, added under its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tuner.strategies.base import Observation, Proposal, Strategy
from tuner.strategies.grid import Grid
from tuner.strategies.hyperopt_tpe import HyperoptTPE
from tuner.strategies.manual import Manual
from tuner.strategies.one_at_a_time import OneAtATime
from tuner.strategies.random_search import RandomSearch

if TYPE_CHECKING:
    from tuner.spec import Sweep

__all__ = ["NAMES", "STRATEGIES", "Observation", "Proposal", "Strategy", "make_strategy"]


def _grid(sweep: Sweep) -> Strategy:
    return Grid(sweep.space, sweep.seed, sweep.search.trials, sweep.search.points)


def _random(sweep: Sweep) -> Strategy:
    return RandomSearch(sweep.space, sweep.seed, sweep.search.points)


def _hyperopt(sweep: Sweep) -> Strategy:
    # The spec has resolved initial_random for hyperopt: below trials, so that the model has its turn.
    return HyperoptTPE(sweep.space, sweep.seed, sweep.search.initial_random or 1, sweep.search.points)


def _one_at_a_time(sweep: Sweep) -> Strategy:
    return OneAtATime(sweep.space, sweep.seed, sweep.search.trials, sweep.baseline(), sweep.search.points)


def _manual(sweep: Sweep) -> Strategy:
    return Manual(sweep.space, sweep.seed, sweep.search.trials, sweep.search.points)


STRATEGIES: dict[str, Callable[[Sweep], Strategy]] = {
    "grid": _grid,
    "random": _random,
    "hyperopt": _hyperopt,
    "one_at_a_time": _one_at_a_time,
    "manual": _manual,
}
NAMES = tuple(STRATEGIES)
"""The names of the strategies that come with the project."""


def make_strategy(sweep: Sweep) -> Strategy:
    """Return the strategy that a sweep asks for."""
    return STRATEGIES[sweep.search.strategy](sweep)
