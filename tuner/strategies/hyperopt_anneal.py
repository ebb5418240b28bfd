"""Annealing, through hyperopt itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar

from tuner.space import Space
from tuner.strategies.base import Config
from tuner.strategies.hyperopt_space import HyperoptSpace
from tuner.strategies.modelled import Modelled, Told
from tuner.strategies.options import AnnealOptions


class HyperoptAnneal(Modelled):
    """Draws around one of the best configs so far, from a neighbourhood that shrinks with the number of trials.

    hyperopt.anneal keeps each parameter's own neighbourhood, and draws a choice anew the seldomer, the more trials
    there are. It looks at ranks alone, so the size of a loss does not matter.

    Args:
        space: Where to search.
        seed: The sweep's seed; each proposal has one of its own.
        initial_random: Random configs after the points, before it takes over.
        points: Configs to begin with.
        options: Its table in a sweep file.
    """

    name = "anneal"
    model: ClassVar[str] = "annealing"
    tries: ClassVar[int] = 6

    def __init__(
        self,
        space: Space,
        seed: int,
        initial_random: int,
        points: Iterable[Config] = (),
        options: AnnealOptions = AnnealOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(space, seed, initial_random, points)
        self._options = options
        self._hyperopt = HyperoptSpace(self._compiled)

    def _suggest(self, told: Sequence[Told], number: int, seed: int, attempt: int, seen: set[str]) -> Config:
        from hyperopt import anneal

        algorithm = partial(
            anneal.suggest, avg_best_idx=self._options.avg_best_idx, shrink_coef=self._options.shrink_coef
        )
        return self._compiled.decode(self._hyperopt.suggest(algorithm, told, number, seed))
