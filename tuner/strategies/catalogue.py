"""The configs of a countable space, numbered, without ever listing them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.space import Choice, Domain, Leaf, Numeric
from tuner.strategies.base import Config

Conditions = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Axis:
    """The values of one domain: how many, and the one at an index."""

    size: int
    at: Callable[[int], Any]


def grid_axis(domain: Domain) -> Axis:
    """Return the values that a grid tries."""
    values = domain.grid()
    return Axis(len(values), values.__getitem__)


def full_axis(domain: Domain) -> Axis:
    """Return every value that sampling can give, of a countable domain."""
    if isinstance(domain, Numeric) and domain.lattice is not None:
        return Axis(domain.lattice.count, domain.lattice.at)  # maybe millions, so not as a list
    values = list(domain.values())
    if isinstance(domain, Choice):
        values = [values[index] for index in live_options(domain)]
    return Axis(len(values), values.__getitem__)


def live_options(domain: Choice) -> list[int]:
    """Return the indices of the options that sampling can give: those without a weight of 0."""
    weights = domain.weights or [1.0] * domain.size()
    return [index for index, weight in enumerate(weights) if weight > 0]


def live_leaves(leaves: Sequence[Leaf]) -> list[Leaf]:
    """Return the leaves that sampling can give: those that no option with a weight of 0 stands above."""
    options = {leaf.label: live_options(leaf.domain) for leaf in leaves if isinstance(leaf.domain, Choice)}
    return [leaf for leaf in leaves if all(index in options[label] for label, index in leaf.conditions)]


class Catalogue:
    """The configs of a countable space under the numbers 0 to size - 1, the last name varying fastest.

    Args:
        leaves: The leaves of the space.
        axis: The values of each domain: `grid_axis` or `full_axis`.
        conditions: The branch to list; (): the whole space.
    """

    def __init__(self, leaves: Sequence[Leaf], axis: Callable[[Domain], Axis], conditions: Conditions = ()) -> None:
        self._parts = [_Part(leaf, leaves, axis) for leaf in leaves if leaf.conditions == conditions]
        self.size: int = math.prod(part.size for part in self._parts)

    def config(self, number: int) -> Config:
        """Return the config of a number."""
        places = []
        for part in reversed(self._parts):
            number, place = divmod(number, part.size)
            places.append(place)
        config: Config = {}
        for part, place in zip(self._parts, reversed(places), strict=True):
            config |= part.config(place)
        return config


class _Part:
    """One leaf: its values, each together with the configs of the branch below it."""

    def __init__(self, leaf: Leaf, leaves: Sequence[Leaf], axis: Callable[[Domain], Axis]) -> None:
        self._name = leaf.name
        self._axis = axis(leaf.domain)
        self._branches: list[Catalogue] = []
        if isinstance(leaf.domain, Choice):
            for place in range(self._axis.size):
                index = leaf.domain.index(self._axis.at(place)) or 0
                below = (*leaf.conditions, (leaf.label, index))
                self._branches.append(Catalogue(leaves, axis, below))
        self.size: int = sum(branch.size for branch in self._branches) or self._axis.size

    def config(self, place: int) -> Config:
        for option, branch in enumerate(self._branches):
            if place < branch.size:
                return {self._name: self._axis.at(option), **branch.config(place)}
            place -= branch.size
        return {self._name: self._axis.at(place)}


def shuffled(size: int, rng: random.Random) -> Iterator[int]:
    """Yield 0 to size - 1 in random order; the first n cost time and memory for n, not for size.

    It is the shuffle of Fisher and Yates with only the swapped places kept. How many are taken does not
    change their order, so a sweep can be extended.
    """
    moved: dict[int, int] = {}
    for place in range(size):
        other = rng.randrange(place, size)
        here = moved.pop(place, place)
        if other == place:
            yield here
        else:
            yield moved.get(other, other)
            moved[other] = here
