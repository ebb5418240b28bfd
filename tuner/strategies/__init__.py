"""Strategies propose configs: ask/tell, pure, seeded. No Ray.

STRATEGIES is the registry: a strategy of one's own is a factory, added under its name. What is slow to import (numpy,
scipy, hyperopt, scikit-learn, optuna) a strategy imports when it is made, or first asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tuner.errors import Problem
from tuner.strategies import options as _options
from tuner.strategies.base import Observation, Proposal, Strategy
from tuner.strategies.grid import Grid
from tuner.strategies.hyperopt_anneal import HyperoptAnneal
from tuner.strategies.hyperopt_tpe import HyperoptTPE
from tuner.strategies.manual import Manual
from tuner.strategies.one_at_a_time import OneAtATime
from tuner.strategies.options import OPTIONS, AnnealOptions, GaussianProcessOptions, HyperoptOptions, OptunaOptions
from tuner.strategies.quasi_random import QuasiRandom
from tuner.strategies.random_search import RandomSearch

if TYPE_CHECKING:
    from tuner.spec import Sweep

__all__ = [
    "MEANINGS",
    "NAMES",
    "OPTIONS",
    "RANDOM_START",
    "STRATEGIES",
    "Observation",
    "Proposal",
    "Strategy",
    "check",
    "filled",
    "make_strategy",
    "random_start",
]


def _auto(sweep: Sweep) -> Strategy:
    from tuner.strategies.auto import Auto

    return Auto(sweep.space, sweep.seed, sweep.search.trials, _start(sweep), sweep.search.points)


def _grid(sweep: Sweep) -> Strategy:
    return Grid(sweep.space, sweep.seed, sweep.search.trials, sweep.search.points)


def _random(sweep: Sweep) -> Strategy:
    return RandomSearch(sweep.space, sweep.seed, sweep.search.points)


def _quasi_random(sweep: Sweep) -> Strategy:
    return QuasiRandom(sweep.space, sweep.seed, sweep.search.points)


def _hyperopt(sweep: Sweep) -> Strategy:
    options = HyperoptOptions(**_own(sweep))
    return HyperoptTPE(sweep.space, sweep.seed, _start(sweep), sweep.search.points, options)


def _anneal(sweep: Sweep) -> Strategy:
    options = AnnealOptions(**_own(sweep))
    return HyperoptAnneal(sweep.space, sweep.seed, _start(sweep), sweep.search.points, options)


def _gp(sweep: Sweep) -> Strategy:
    from tuner.strategies.gp import GaussianProcess

    options = GaussianProcessOptions(**_own(sweep))
    return GaussianProcess(sweep.space, sweep.seed, _start(sweep), sweep.search.points, options)


def _optuna(sweep: Sweep) -> Strategy:
    from tuner.strategies.optuna_sampler import OptunaSampler

    return OptunaSampler(sweep.space, sweep.seed, _start(sweep), sweep.search.points, OptunaOptions(**_own(sweep)))


def _one_at_a_time(sweep: Sweep) -> Strategy:
    return OneAtATime(sweep.space, sweep.seed, sweep.search.trials, sweep.baseline(), sweep.search.points)


def _manual(sweep: Sweep) -> Strategy:
    # Where there is no space, a point is told from another by the defaults, too: both may name the same parameter.
    fixed = {} if sweep.space else sweep.defaults
    points = [{**fixed, **point} for point in sweep.search.points]
    return Manual(sweep.space, sweep.seed, sweep.search.trials, points)


def _start(sweep: Sweep) -> int:
    # The spec has resolved initial_random: below trials, so that the model has its turn.
    return sweep.search.initial_random or 1


def _own(sweep: Sweep) -> Mapping[str, Any]:
    """Return the options in the strategy's own table."""
    return sweep.search.options.get(sweep.search.strategy, {})


STRATEGIES: dict[str, Callable[[Sweep], Strategy]] = {
    "auto": _auto,
    "grid": _grid,
    "random": _random,
    "quasi_random": _quasi_random,
    "hyperopt": _hyperopt,
    "anneal": _anneal,
    "gp": _gp,
    "optuna": _optuna,
    "one_at_a_time": _one_at_a_time,
    "manual": _manual,
}
NAMES = tuple(STRATEGIES)
"""The names of the strategies that come with the project."""

RANDOM_START = ("auto", "hyperopt", "anneal", "gp", "optuna")
"""Strategies that begin with search.initial_random configs."""


def random_start(strategy: str, trials: int, width: int) -> int:
    """Return how many random configs a strategy begins with, where the sweep does not say.

    Args:
        strategy: Its name.
        trials: Configs in all.
        width: Parameters that vary.
    """
    if strategy == "auto":  # spread evenly, so fewer do; and a narrow space wants fewer still
        return max(3, min(round(trials / 5), width + 2, 12))
    # Trap 2: hyperopt's own 20 random configs would make a sweep of 20 trials a random search.
    return max(3, min(20, trials // 4))


MEANINGS = {
    "auto": "fits the space and the budget: the whole of a small space; else a spread start, then models in turn",
    "grid": "every combination of the space's points; a seeded part of them where trials is less",
    "random": "independent draws from the domains' distributions, none twice",
    "quasi_random": "a scrambled Sobol sequence: spread more evenly than chance would",
    "hyperopt": "tree-structured Parzen estimators (TPE), by hyperopt",
    "anneal": "draws around the best configs from a shrinking neighbourhood, by hyperopt",
    "gp": "expected improvement under a Gaussian process, by scikit-learn",
    "optuna": "a sampler of optuna's; needs the extra: pip install 'cnn-tuner[optuna]'",
    "one_at_a_time": "the baseline, then each parameter varied alone",
    "manual": "the configs under search.points",
}
"""What each strategy does, in a line."""


def check(strategy: str, tables: Mapping[str, Any]) -> list[Problem]:
    """Return every mistake in the tables [search.NAME].

    Args:
        strategy: The strategy that is asked for.
        tables: name -> table, as written.
    """
    return _options.check(tuple(STRATEGIES), strategy, tables)


def filled(strategy: str, table: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return {strategy: its options, each with its value}; {} for a strategy that has none."""
    return _options.filled(strategy, table)


def make_strategy(sweep: Sweep) -> Strategy:
    """Return the strategy that a sweep asks for."""
    return STRATEGIES[sweep.search.strategy](sweep)
