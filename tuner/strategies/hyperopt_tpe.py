"""Tree-structured Parzen estimators, through hyperopt itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar

from tuner.space import Space
from tuner.strategies.base import Config
from tuner.strategies.hyperopt_space import HyperoptSpace
from tuner.strategies.modelled import Modelled, Told
from tuner.strategies.options import HyperoptOptions

# hyperopt proposes the best of so many draws. When that is a config that was tried already, it is asked again
# with other seeds and fewer draws, which follow the model less greedily: 1 is a draw from the good density.
FEWER = (1, 1, 3, 8, 24, 24)  # by how much the draws are divided


class HyperoptTPE(Modelled):
    """TPE: models the best configs and the others as two densities; proposes where their ratio is highest.

    Source: J. Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011, as in hyperopt 0.3.

    Args:
        space: Where to search.
        seed: The sweep's seed; each proposal has one of its own.
        initial_random: Random configs after the points, before the model takes over.
        points: Configs to begin with.
        options: Its table in a sweep file.
    """

    name = "hyperopt"
    model: ClassVar[str] = "TPE"
    tries: ClassVar[int] = len(FEWER)

    def __init__(
        self,
        space: Space,
        seed: int,
        initial_random: int,
        points: Iterable[Config] = (),
        options: HyperoptOptions = HyperoptOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(space, seed, initial_random, points)
        self._options = options
        self._hyperopt = HyperoptSpace(self._compiled)

    def _suggest(self, told: Sequence[Told], number: int, seed: int, attempt: int, seen: set[str]) -> Config:
        from hyperopt import tpe

        algorithm = partial(
            tpe.suggest,
            n_startup_jobs=0,
            n_EI_candidates=max(1, self._options.candidates // FEWER[attempt]),
            gamma=self._options.gamma,
            prior_weight=self._options.prior_weight,
            verbose=False,  # else it logs a line a proposal
        )
        return self._compiled.decode(self._hyperopt.suggest(algorithm, told, number, seed))
