"""What strategies with a model have in common: points, a random start, then the model, and no config twice."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

from tuner.space import Space, derive_seed
from tuner.strategies.base import (
    Config,
    Observation,
    PerConfig,
    PointsFirst,
    Proposal,
    State,
    config_key,
    count_earlier,
    of_those,
)
from tuner.strategies.compiled import Compiled, Latent
from tuner.strategies.losses import finished_losses, told_losses
from tuner.strategies.random_search import Draws


class Told(NamedTuple):
    """What a model is told of one config: its numbers, a finite loss (see `told_losses`), and whence that is."""

    numbers: Latent
    loss: float
    state: State


class Modelled(PointsFirst):
    """A strategy that learns: each proposal rebuilds its model from the history, so it keeps no state.

    Args:
        space: Where to search.
        seed: The sweep's seed; each proposal has one of its own.
        initial_random: Random configs after the points, before the model takes over.
        points: Configs to begin with.
    """

    model: ClassVar[str]  # what its proposals call the model
    tries: ClassVar[int] = 1  # how often the model is asked for a config that was not tried yet

    def __init__(self, space: Space, seed: int, initial_random: int, points: Iterable[Config] = ()) -> None:
        super().__init__(space, seed, points)
        self._draws = Draws(space)
        self._initial_random = initial_random
        self._compiled = Compiled(space)
        self._encodings = PerConfig(self._compiled.encode)
        self.total = self._draws.size if space else len(self.points)

    @abstractmethod
    def _suggest(self, told: Sequence[Told], number: int, seed: int, attempt: int, seen: set[str]) -> Config | None:
        """Return what the model would try next; None where it has nothing that was not tried.

        Args:
            told: The configs inside the space of which something is known.
            number: How many proposals there were.
            seed: This attempt's own.
            attempt: From 0; the one before gave a config that is in `seen`.
            seen: The keys of the configs that were tried.
        """

    def _propose(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        if not self.space:
            return None
        started = self._started(history)
        if started < self._initial_random:
            return self._start(history, seen, f"random start {started + 1} of {self._initial_random}")
        if not finished_losses(self._encoded(history)):
            return self._start(history, seen, "no trial is done yet, so there is no model")
        if self._draws.size is not None and self._draws.size <= len(self._counted(history)):
            return self._random(history, seen, "random", "the last configs of the space")
        return self._by_model(history, seen)

    def _encoded(self, history: Sequence[Observation]) -> list[Observation]:
        """Return what is known of configs that the model can see: an option without weight has no number."""
        return [seen for seen, numbers in zip(history, self._encodings.of(history), strict=True) if numbers is not None]

    def _counted(self, history: Sequence[Observation]) -> set[str]:
        """Return the keys of the configs that are among the `total` of the space; one without weight is not."""
        known = zip(self._keys.of(history), self._encodings.of(history), strict=True)
        return {key for key, numbers in known if numbers is not None}

    def _started(self, history: Sequence[Observation]) -> int:
        """Return how much of the random start is done: what is known from before this search counts like it."""
        before = set(self._keys.of(history)[: count_earlier(history)])
        return len(history) - sum(config_key(point) not in before for point in self.points)

    def _start(self, history: Sequence[Observation], seen: set[str], why: str) -> Proposal | None:
        return self._random(history, seen, "random start", why)

    def _random(self, history: Sequence[Observation], seen: set[str], by: str, why: str) -> Proposal | None:
        rng = random.Random(derive_seed(self.seed, self.name, len(history) + 1))
        config = self._draws.draw(rng, seen)
        return None if config is None else Proposal(config, by=by, why=why)

    def _by_model(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        told = self._told(history)
        for attempt in range(self.tries):
            seed = derive_seed(self.seed, self.name, len(history) + 1, attempt)
            config = self._suggest(told, len(history), seed, attempt, seen)
            if config is not None and config_key(config) not in seen:
                why = f"{self.model} over {of_those(history, len(told))}"
                return Proposal(config, by=self.name, why=why)
        return self._random(history, seen, "random", f"{self.model} had only configs that were tried already")

    def _told(self, history: Sequence[Observation]) -> list[Told]:
        known = zip(self._encodings.of(history), told_losses(history), history, strict=True)
        return [Told(numbers, loss, o.state) for numbers, loss, o in known if numbers is not None and loss is not None]
