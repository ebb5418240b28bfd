"""A space as models see it: a number for each leaf of a config, and back."""

from __future__ import annotations

from collections.abc import Mapping

from tuner.space import Choice, Fixed, Leaf, Numeric, Space
from tuner.strategies.base import Config
from tuner.strategies.catalogue import live_options

Latent = dict[str, float]  # label -> where a number lies on its latent interval, or the place of a choice's option


class Compiled:
    """A space of leaves: numbers on the interval on which they are uniform, choices by the place of their option.

    Fixed values are left out, and so are options without weight, which no model may propose. A leaf that a config's
    choices leave out has no number.

    Args:
        space: The space.

    Attributes:
        leaves: The leaves that vary, in the order of the space: choices before what depends on them.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.leaves = [leaf for leaf in space.leaves() if not isinstance(leaf.domain, Fixed)]
        self._options = {
            leaf.label: live_options(leaf.domain) for leaf in self.leaves if isinstance(leaf.domain, Choice)
        }

    def options(self, leaf: Leaf) -> list[int]:
        """Return the options that a choice may give, by their index."""
        return self._options[leaf.label]

    def weights(self, leaf: Leaf) -> list[float]:
        """Return the share of each of a choice's `options`; they sum to 1."""
        domain = leaf.domain
        assert isinstance(domain, Choice)
        weights = [1.0 if domain.weights is None else domain.weights[index] for index in self.options(leaf)]
        return [weight / sum(weights) for weight in weights]

    def encode(self, config: Config) -> Latent | None:
        """Return a config's numbers; None for one that the space cannot give."""
        if not self._space.contains(config):
            return None
        numbers: Latent = {}
        for leaf in self._space.active(config):
            if isinstance(leaf.domain, Choice):
                index = leaf.domain.index(config[leaf.name])
                if index not in self.options(leaf):
                    return None
                numbers[leaf.label] = self.options(leaf).index(index)
            elif isinstance(leaf.domain, Numeric):
                numbers[leaf.label] = leaf.domain.to_latent(config[leaf.name])
        return numbers

    def decode(self, numbers: Mapping[str, float]) -> Config:
        """Return numbers as a config, in the order and with the types of the space; other branches' are ignored."""
        config: Config = {}
        chosen: dict[str, int] = {}
        for leaf in self._space.leaves():
            if not is_active(leaf, chosen):
                continue
            if isinstance(leaf.domain, Choice):
                chosen[leaf.label] = self.options(leaf)[int(numbers[leaf.label])]
                config[leaf.name] = leaf.domain.options[chosen[leaf.label]]
            elif isinstance(leaf.domain, Numeric):
                config[leaf.name] = leaf.domain.from_latent(float(numbers[leaf.label]))
            else:
                config[leaf.name] = leaf.domain.grid()[0]
        return config


def is_active(leaf: Leaf, chosen: Mapping[str, int]) -> bool:
    """Return whether a leaf exists with the options that were chosen: label -> index."""
    return all(chosen.get(label) == index for label, index in leaf.conditions)
