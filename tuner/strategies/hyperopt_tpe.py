"""Tree-structured Parzen estimators, through hyperopt itself."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from tuner.space import Choice, Fixed, Leaf, Numeric, Space, derive_seed
from tuner.strategies.base import Config, Observation, PerConfig, PointsFirst, Proposal, config_key
from tuner.strategies.catalogue import live_options
from tuner.strategies.losses import finished_losses, told_losses
from tuner.strategies.random_search import Draws

# hyperopt proposes the best of so many draws. When that is a config that was tried already, it is asked again
# with other seeds and fewer draws, which follow the model less greedily: 1 is a draw from the good density.
DRAWS = (24, 24, 8, 3, 1, 1)

Values = dict[str, list[float]]  # label -> [value], or [] where the leaf is not active: hyperopt's own form


class HyperoptTPE(PointsFirst):
    """TPE: models the best configs and the others as two densities; proposes where their ratio is highest.

    Source: J. Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011, as in hyperopt 0.3.
    hyperopt sees every number on the scale on which it is uniform, every choice by index, and conditional
    parameters under their choice. It keeps no state: each proposal rebuilds its trials from the history.

    Args:
        space: Where to search.
        seed: The sweep's seed; each proposal has one of its own.
        initial_random: Random configs after the points, before the model takes over.
        points: Configs to begin with.
    """

    name = "hyperopt"

    def __init__(self, space: Space, seed: int, initial_random: int, points: Iterable[Config] = ()) -> None:
        super().__init__(space, seed, points)
        self._draws = Draws(space)
        self._initial_random = initial_random
        self._leaves = space.leaves()
        self._encodings = PerConfig(self._encode)
        self.total = self._draws.size if space else len(self.points)

    def _propose(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        if not self.space:
            return None
        random_before = len(history) - len(self.points)
        if random_before < self._initial_random:
            why = f"random start {random_before + 1} of {self._initial_random}"
            return self._random(history, seen, "random start", why)
        if not finished_losses(history):
            return self._random(history, seen, "random start", "no trial is done yet, so there is no model")
        return self._model(history, seen)

    def _random(self, history: Sequence[Observation], seen: set[str], by: str, why: str) -> Proposal | None:
        rng = random.Random(derive_seed(self.seed, self.name, len(history) + 1))
        config = self._draws.draw(rng, seen)
        return None if config is None else Proposal(config, by=by, why=why)

    def _model(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        if self._draws.size is not None and self._draws.size <= len(seen):
            return self._random(history, seen, "random", "the last configs of the space")
        told = self._told(history)
        for attempt, draws in enumerate(DRAWS):
            seed = derive_seed(self.seed, self.name, len(history) + 1, attempt)
            config = self._decode(self._suggest(told, len(history), seed, draws))
            if config_key(config) not in seen:
                return Proposal(config, by=self.name, why=f"TPE over {len(told)} trial{'s' * (len(told) != 1)}")
        return self._random(history, seen, "random", "TPE had only configs that were tried already")

    def _told(self, history: Sequence[Observation]) -> list[tuple[Values, float]]:
        """Return what hyperopt learns from: the configs inside the space of which something is known."""
        pairs = zip(self._encodings.of(history), told_losses(history), strict=True)
        return [(values, loss) for values, loss in pairs if values is not None and loss is not None]

    def _suggest(self, told: Sequence[tuple[Values, float]], new_id: int, seed: int, draws: int) -> Values:
        import hyperopt  # slow: 1 s, paid by the first proposal that needs it
        import numpy as np

        docs = [_document(tid, values, loss) for tid, (values, loss) in enumerate(told)]
        trials = hyperopt.trials_from_docs(docs, validate=False)
        with np.errstate(all="ignore"):  # log(0) where an option was never seen, and the like: ranks all the same
            suggested = hyperopt.tpe.suggest(
                [new_id],
                self._domain,
                trials,
                seed,
                n_startup_jobs=0,
                n_EI_candidates=draws,
                verbose=False,  # else it logs a line a proposal
            )
        found: Values = suggested[0]["misc"]["vals"]
        return found

    @cached_property
    def _domain(self) -> Any:
        import hyperopt

        return hyperopt.Domain(None, _expression(self._leaves, ()))

    def _encode(self, config: Config) -> Values | None:
        """Return a config as hyperopt's values; None for one that the space cannot give."""
        if not self.space.contains(config):
            return None
        values: Values = {leaf.label: [] for leaf in self._leaves if not isinstance(leaf.domain, Fixed)}
        for leaf in self.space.active(config):
            if isinstance(leaf.domain, Choice):
                index, live = leaf.domain.index(config[leaf.name]), live_options(leaf.domain)
                if index not in live:
                    return None
                values[leaf.label] = [live.index(index)]
            elif isinstance(leaf.domain, Numeric):
                values[leaf.label] = [leaf.domain.to_latent(config[leaf.name])]
        return values

    def _decode(self, values: Mapping[str, Sequence[float]]) -> Config:
        """Return hyperopt's values as a config, in the order and with the types of the space."""
        config: Config = {}
        chosen: dict[str, int] = {}
        for leaf in self._leaves:
            if any(chosen.get(label) != index for label, index in leaf.conditions):
                continue
            if isinstance(leaf.domain, Choice):
                chosen[leaf.label] = live_options(leaf.domain)[int(values[leaf.label][0])]
                config[leaf.name] = leaf.domain.options[chosen[leaf.label]]
            elif isinstance(leaf.domain, Numeric):
                config[leaf.name] = leaf.domain.from_latent(float(values[leaf.label][0]))
            else:
                config[leaf.name] = leaf.domain.grid()[0]
        return config


def _expression(leaves: Sequence[Leaf], conditions: tuple[tuple[str, int], ...]) -> dict[str, Any]:
    """Return hyperopt's form of the leaves under these conditions, and of all below them."""
    return {
        leaf.label: _node(leaf, leaves)
        for leaf in leaves
        if leaf.conditions == conditions and not isinstance(leaf.domain, Fixed)
    }


def _node(leaf: Leaf, leaves: Sequence[Leaf]) -> Any:
    from hyperopt import hp

    domain = leaf.domain
    if isinstance(domain, Numeric):
        return hp.uniform(leaf.label, *domain.latent)
    if not isinstance(domain, Choice):
        raise TypeError(f"{type(domain).__name__} is neither a number nor a choice")
    live = live_options(domain)
    options = [_expression(leaves, (*leaf.conditions, (leaf.label, index))) for index in live]
    if domain.weights is None or len(live) == 1:
        return hp.choice(leaf.label, options)
    weights = [domain.weights[index] for index in live]
    return hp.pchoice(leaf.label, [(w / math.fsum(weights), o) for w, o in zip(weights, options, strict=True)])


def _document(tid: int, values: Values, loss: float) -> dict[str, Any]:
    """Return a finished trial as hyperopt keeps it."""
    idxs = {label: [tid] if value else [] for label, value in values.items()}
    return {
        "tid": tid,
        "state": 2,  # hyperopt.JOB_STATE_DONE
        "spec": None,
        "result": {"status": "ok", "loss": loss},
        "misc": {"tid": tid, "cmd": None, "workdir": None, "idxs": idxs, "vals": values},
        "exp_key": None,
        "owner": None,
        "version": 0,
        "book_time": None,
        "refresh_time": None,
    }
