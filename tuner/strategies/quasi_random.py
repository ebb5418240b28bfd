"""Configs of a scrambled Sobol sequence: spread more evenly than chance would."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

from tuner.errors import Problem, SweepError
from tuner.space import Choice, Numeric, Space, derive_seed
from tuner.strategies.base import Config, Observation, PointsFirst, Proposal, config_key
from tuner.strategies.compiled import Compiled
from tuner.strategies.random_search import Draws

# A point whose config was tried is passed over; so many at most, then the config is drawn at random.
PASSED = 64
MOST = 21_201  # dimensions that scipy has direction numbers for
BITS = 30  # scipy's sequences end after 2**30 points


class Sobol:
    """A space's quasi-random sequence.

    Every leaf that varies is one dimension of the unit cube, those of all branches too: a config takes what its choices
    ask for, and ignores the rest. So each branch by itself is spread evenly, and which dimension is whose depends on
    the space alone. A number is the cube's coordinate stretched over its latent interval; a choice divides the unit
    interval by the weights of its options.

    Source: I. M. Sobol' (1967), direction numbers of S. Joe and F. Kuo (2008), scrambled as by J. Matousek (1998):
    scipy.stats.qmc.Sobol.

    Args:
        compiled: The space.
        seed: Of the scrambling.
    """

    def __init__(self, compiled: Compiled, seed: int) -> None:
        self._compiled = compiled
        self._seed = seed
        self._shares = {
            leaf.label: list(itertools.accumulate(compiled.weights(leaf)))
            for leaf in compiled.leaves
            if isinstance(leaf.domain, Choice)
        }
        self._points: Any = None  # the sequence's beginning, as far as it was needed: a memo

    def config(self, number: int) -> Config:
        """Return the config of a point, from 0."""
        point = self.point(number)
        return self._compiled.decode(self.latent(point))

    def point(self, number: int) -> Sequence[float]:
        """Return the coordinates of a point, one a leaf, each in [0, 1)."""
        point: Sequence[float] = self.points(number + 1)[number]
        return point

    def points(self, count: int) -> Any:
        """Return the first points as an array (count, leaves)."""
        if self._points is None or len(self._points) < count:
            self._points = self._first(max(64, 1 << (count - 1).bit_length()))
        return self._points[:count]

    def _first(self, count: int) -> Any:
        import numpy as np
        from scipy.stats import qmc  # slow: half a second

        engine = qmc.Sobol(len(self._compiled.leaves), scramble=True, bits=BITS, rng=np.random.default_rng(self._seed))
        return engine.random(count)

    def latent(self, point: Sequence[float]) -> dict[str, float]:
        """Return a point's numbers as the compiled space has them."""
        numbers: dict[str, float] = {}
        for leaf, u in zip(self._compiled.leaves, point, strict=True):
            if isinstance(leaf.domain, Numeric):
                low, high = leaf.domain.latent
                numbers[leaf.label] = low + float(u) * (high - low)
            else:
                shares = self._shares[leaf.label]
                numbers[leaf.label] = min(bisect.bisect_right(shares, float(u)), len(shares) - 1)
        return numbers


class QuasiRandom(PointsFirst):
    """The points of one scrambled Sobol sequence in their order, so a sweep can be extended.

    A config that was tried already, as happens with few values, is passed over.

    Args:
        space: Where to search.
        seed: The sweep's seed: it scrambles the sequence.
        points: Configs to begin with.

    Raises:
        SweepError: The space has more parameters than there are Sobol sequences for.
    """

    name = "quasi_random"

    def __init__(self, space: Space, seed: int, points: Iterable[Config] = ()) -> None:
        super().__init__(space, seed, points)
        self._compiled = Compiled(space)
        if (dimensions := len(self._compiled.leaves)) > MOST:
            rule = f"quasi_random takes at most {MOST:,} parameters"
            raise SweepError("quasi_random", [Problem("space", rule, f"{dimensions:,}", 'Set strategy = "random".')])
        self._draws = Draws(space)
        self._sobol = Sobol(self._compiled, derive_seed(seed, self.name))
        self.total = self._draws.size if space else len(self.points)

    def _propose(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        if not self.space:
            return None
        number = len(history) - len(self.points)
        if self._compiled.leaves:
            for passed in range(PASSED):
                config = self._sobol.config(number + passed)
                if config_key(config) not in seen:
                    return Proposal(config, by=self.name, why=f"point {number + passed + 1} of a Sobol sequence")
        return self._left(number, seen)

    def _left(self, number: int, seen: set[str]) -> Proposal | None:
        rng = random.Random(derive_seed(self.seed, self.name, number))
        config = self._draws.draw(rng, seen)
        return (
            None
            if config is None
            else Proposal(config, by=self.name, why="drawn at random: the sequence had only configs tried already")
        )
