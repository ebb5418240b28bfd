"""The baseline, then each parameter varied alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tuner.space import Choice, Fixed, Leaf, Range, Space
from tuner.strategies.base import Config, Observation, PointsFirst, Proposal, config_key, count_earlier


class OneAtATime(PointsFirst):
    """The baseline config, then each of its parameters over its points, with the others as in the baseline.

    Of conditional parameters, those are varied that exist in the baseline; where another option is tried, the
    parameters under it have the baseline's values too, if these lie in their domains.

    Args:
        space: Where every range has points.
        seed: The sweep's seed; nothing here is random.
        trials: The most configs to propose, search.points included.
        baseline: name -> value, the centre. A value that the space cannot give is replaced by the
            nearest that it can, and `note` says so.
        points: Configs to begin with.
    """

    name = "one_at_a_time"

    def __init__(
        self,
        space: Space,
        seed: int,
        trials: int,
        baseline: Mapping[str, Any],
        points: Iterable[Config] = (),
    ) -> None:
        super().__init__(space, seed, points)
        self._leaves = space.leaves()
        self._baseline = baseline
        self._listed: dict[str, tuple[Config, str]] = {}
        for config, why in self._variations() if space else ():
            self._listed.setdefault(config_key(config), (config, why))
        whole = len(self._listed.keys() | {config_key(point) for point in self.points})
        self._trials = trials
        self.total = min(whole, trials)
        self.note = "; ".join([*self._moved(), *_left_out(whole, trials)])

    def _propose(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        if len(history) - count_earlier(history) >= self._trials:
            return None
        for key, (config, why) in self._listed.items():
            if key not in seen:
                return Proposal(config, by=self.name, why=why)
        return None

    def _variations(self) -> Iterator[tuple[Config, str]]:
        """Yield the centre, and each variation of it, with the reason; some may be equal."""
        centre = self._config({})
        yield centre, "the baseline"
        for leaf in self.space.active(centre):
            for value in leaf.domain.grid():
                yield self._config({leaf.label: value}), f"{leaf.name} alone, at {value}"

    def _config(self, varied: Mapping[str, Any]) -> Config:
        """Return the centre, but with the varied values (by label)."""
        config: Config = {}
        chosen: dict[str, int | None] = {}
        for leaf in self._leaves:
            if all(chosen.get(label) == index for label, index in leaf.conditions):
                config[leaf.name] = varied[leaf.label] if leaf.label in varied else self._centre(leaf)
                if isinstance(leaf.domain, Choice):
                    chosen[leaf.label] = leaf.domain.index(config[leaf.name])
        return config

    def _centre(self, leaf: Leaf) -> Any:
        """Return the baseline's value, or the one nearest to it that the domain can give."""
        value, domain = self._baseline.get(leaf.name), leaf.domain
        if value is not None and domain.contains(value):
            return domain.conform(value)
        if isinstance(domain, Range) and isinstance(value, int | float):
            inside = min(max(float(value), float(domain.low)), float(domain.high))
            return domain.from_latent(domain.to_latent(inside))
        values = domain.grid()
        return values[0] if isinstance(domain, Choice) else values[len(values) // 2]

    def _moved(self) -> Iterator[str]:
        """Yield a sentence for each parameter whose centre is not the baseline's value."""
        for leaf in self.space.active(self._config({})):
            value = self._baseline.get(leaf.name)
            if not isinstance(leaf.domain, Fixed) and not (value is not None and leaf.domain.contains(value)):
                centre, value = json.dumps(self._centre(leaf)), json.dumps(value)
                yield f"{leaf.name} is varied around {centre} (the baseline has {value})"


def _left_out(whole: int, trials: int) -> Iterator[str]:
    if whole > trials:
        yield f"{whole} configs, limit {trials}: the last {whole - trials} left out"
