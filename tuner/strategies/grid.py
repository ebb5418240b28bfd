"""Every combination of the domains' points."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from tuner.space import Space, derive_seed
from tuner.strategies.base import Config, Observation, PointsFirst, Proposal, config_key, count_earlier
from tuner.strategies.catalogue import Catalogue, grid_axis, shuffled


class Grid(PointsFirst):
    """Every combination of the domains' points, the last name varying fastest.

    A grid that is larger than the limit is shuffled by the seed, so that what is left of it covers the space
    instead of one corner; `note` says so.

    Args:
        space: Where every range has points.
        seed: The sweep's seed.
        trials: The most configs to propose, search.points included.
        points: Configs to begin with; the grid goes on without them.
    """

    name = "grid"

    def __init__(self, space: Space, seed: int, trials: int, points: Iterable[Config] = ()) -> None:
        super().__init__(space, seed, points)
        self._catalogue = Catalogue(space.leaves(), grid_axis)
        # Without a space there are only the points: the one empty config is nobody's wish.
        self._size = self._catalogue.size if space else 0
        whole = self._size + sum(not _on_grid(space, point) for point in self.points)
        self.total = min(whole, trials)
        self._trials = trials
        self._truncated = whole > trials
        if self._truncated:
            self.note = f"grid of {whole:,} configs, limit {trials:,}: a seeded random {trials:,} of them"
        self._numbers = self._order()
        self._listed: list[tuple[str, int]] = []  # the beginning of the order, as far as it was needed: a memo

    def _order(self) -> Iterator[int]:
        if self._truncated:
            return shuffled(self._size, random.Random(derive_seed(self.seed, self.name, "order")))
        return iter(range(self._size))

    def _first(self, count: int) -> list[tuple[str, int]]:
        """Return key and number of the order's first configs: of those known before, others take the place."""
        for number in islice(self._numbers, max(0, count - len(self._listed))):
            self._listed.append((config_key(self._catalogue.config(number)), number))
        return self._listed[:count]

    def _propose(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        before = count_earlier(history)
        if len(history) - before >= self._trials:
            return None
        for key, number in self._first(self._trials + before):
            if key not in seen:
                why = f"config {number + 1:,} of the grid's {self._size:,}"
                return Proposal(self._catalogue.config(number), by=self.name, why=why)
        return None


def _on_grid(space: Space, point: Config) -> bool:
    return bool(space) and all(
        config_key({"": point[leaf.name]}) in {config_key({"": value}) for value in leaf.domain.grid()}
        for leaf in space.active(point)
    )
