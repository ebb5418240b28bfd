"""The corners of a space: every combination of the ends of its ranges and the options of its choices."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tuner.space import Choice, Domain, Fixed, Normal, Numeric, Space, derive_seed

Config = dict[str, Any]
Pick = Callable[[list[tuple[Any, Space]]], tuple[Any, Space]]

# What stands for the ends of a normal distribution that has none: all but one in 500 values lie between.
_TAILS = (0.001, 0.999)

_NOTHING = Space()


@dataclass(frozen=True)
class Corners:
    """The corners of a space, as configs.

    Args:
        space: The space.
        names: The parameters that are taken to their ends; None for all. The others keep their baseline.
        baseline: name -> value, for what stays where it is.
    """

    space: Space
    names: Collection[str] | None
    baseline: Mapping[str, Any]

    def count(self) -> int:
        """Return how many there are, without listing them."""
        return self._count(self.space)

    def all(self) -> Iterator[Config]:
        """Yield them one by one, the last name varying fastest."""
        return self._product(self.space, 0)

    def some(self, most: int, seed: int) -> list[Config]:
        """Return up to `most` distinct ones: where all values are lowest, where all are highest, and a seeded draw."""
        rng = random.Random(derive_seed(seed, "corners"))
        picks: list[Pick] = [lambda values: values[0], lambda values: values[-1]]
        picks += [rng.choice] * (4 * most)
        return distinct((self._walk(self.space, pick) for pick in picks), None)[:most]

    def _count(self, space: Space) -> int:
        return math.prod(
            sum(self._count(branch) for _, branch in self._values(name, domain)) for name, domain in space.entries
        )

    def _product(self, space: Space, start: int) -> Iterator[Config]:
        if start == len(space.entries):
            yield {}
            return
        name, domain = space.entries[start]
        for value, branch in self._values(name, domain):
            for inner in self._product(branch, 0):
                for rest in self._product(space, start + 1):
                    yield {name: value, **inner, **rest}

    def _walk(self, space: Space, pick: Pick) -> Config:
        config: Config = {}
        for name, domain in space.entries:
            config[name], branch = pick(self._values(name, domain))
            config |= self._walk(branch, pick)
        return config

    def _values(self, name: str, domain: Domain) -> list[tuple[Any, Space]]:
        """Return the values that a name takes, each with what exists below it."""
        values, start = ends(domain), self.baseline.get(name)
        if not self._is_moved(name, domain):
            values = [start] if domain.contains(start) else values[:1]
        if not isinstance(domain, Choice):
            return [(value, _NOTHING) for value in values]
        return [(value, domain.branch(value) or _NOTHING) for value in values]

    def _is_moved(self, name: str, domain: Domain) -> bool:
        """Return whether a name is taken to its ends: it matters itself, or something below its options does."""
        if self.names is None or name in self.names:
            return True
        branches = [branch for branch in domain.branches if branch] if isinstance(domain, Choice) else []
        return any(self._is_moved(*item) for branch in branches for item in branch.entries)


def ends(domain: Domain) -> list[Any]:
    """Return a range's two ends, a choice's options, or a fixed value."""
    if isinstance(domain, Numeric):
        unbounded = isinstance(domain, Normal) and domain.bounds is None
        low, high = _TAILS if unbounded else domain.latent
        return [domain.from_latent(low), domain.from_latent(high)]
    if isinstance(domain, Choice):
        return domain.options
    return [domain.value] if isinstance(domain, Fixed) else list(domain.grid())


def distinct(configs: Iterable[Config], names: Collection[str] | None) -> list[Config]:
    """Return the first config of each combination of values of some names (None: of all)."""
    first: dict[str, Config] = {}
    for config in configs:
        first.setdefault(json.dumps(project(config, names), sort_keys=True, default=str), config)
    return list(first.values())


def project(config: Mapping[str, Any], names: Collection[str] | None) -> Config:
    """Return the part of a config that some names make up (None: all of it)."""
    return {name: value for name, value in config.items() if names is None or name in names}
