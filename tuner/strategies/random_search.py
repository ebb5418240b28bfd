"""Configs drawn at random, none twice."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from tuner.space import Space, derive_seed
from tuner.strategies.base import Config, Observation, PointsFirst, Proposal, config_key
from tuner.strategies.catalogue import Catalogue, full_axis, live_leaves

DRAWS = 100  # how often to draw before the unseen configs of a countable space are looked for directly


class Draws:
    """Draws configs that were not seen yet.

    Args:
        space: Where to draw.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        leaves = live_leaves(space.leaves())
        countable = all(leaf.domain.size() is not None for leaf in leaves)
        self._catalogue = Catalogue(leaves, full_axis) if countable else None

    @property
    def size(self) -> int | None:
        """How many configs there are to draw; None where they cannot be counted."""
        return None if self._catalogue is None else self._catalogue.size

    def draw(self, rng: random.Random, seen: set[str]) -> Config | None:
        """Return an unseen config, drawn from the domains' own distributions; None if all were seen.

        Only in a space that cannot be counted, and where next to nothing is unseen (an option without
        parameters that nearly always comes), may it be one that was seen.
        """
        for _ in range(DRAWS):
            config = self._space.sample(rng)
            if config_key(config) not in seen:
                return config
        return config if self._catalogue is None else self._pick(self._catalogue, rng, seen)

    def _pick(self, catalogue: Catalogue, rng: random.Random, seen: set[str]) -> Config | None:
        """Return one of a countable space's unseen configs, all alike; None if there is none left.

        While less than half was seen, two tries are enough on average; after that, listing all of them costs
        no more than twice what was seen.
        """
        while 2 * len(seen) < catalogue.size:
            config = catalogue.config(rng.randrange(catalogue.size))
            if config_key(config) not in seen:
                return config
        every = (catalogue.config(number) for number in range(catalogue.size))
        unseen = [config for config in every if config_key(config) not in seen]
        return rng.choice(unseen) if unseen else None


class RandomSearch(PointsFirst):
    """Independent draws from the domains' distributions, each proposal by a seed of its own.

    A countable space is sampled without replacement: no config comes twice, and when all have come it ends.

    Args:
        space: Where to draw.
        seed: The sweep's seed.
        points: Configs to begin with.
    """

    name = "random"

    def __init__(self, space: Space, seed: int, points: Iterable[Config] = ()) -> None:
        super().__init__(space, seed, points)
        self._draws = Draws(space)
        self.total = self._draws.size if space else len(self.points)

    def _propose(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        if not self.space:
            return None
        rng = random.Random(derive_seed(self.seed, self.name, len(history) + 1))
        config = self._draws.draw(rng, seen)
        return None if config is None else Proposal(config, by=self.name, why="drawn at random")
