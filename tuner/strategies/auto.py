"""The default: a start that fits the budget, then several models, of which those that find more get more turns."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterable, Mapping, Sequence

from tuner.space import Space, derive_seed
from tuner.strategies.base import Config, Observation, Proposal, config_key, count_earlier, of_those
from tuner.strategies.gp_near import NearBest
from tuner.strategies.hyperopt_tpe import HyperoptTPE
from tuner.strategies.modelled import Modelled, Told

# What each model's share is before it has shown anything, and how many proposals that is worth.
SHARES = {"gp": 0.6, "gp_near": 0.37, "hyperopt": 0.03}
WORTH = 6.0
FADES = 0.9  # of what a proposal has shown, with every later one of the same model
LEAST = 0.02  # of the turns, so that what has found nothing so far may still find the next
WORTHWHILE = 0.01  # of the way from the median loss to the best: a smaller gain is polish, and earns no turns
START = "random start"
SPREAD = 16  # quasi-random configs at most: those that the models wait for, and those in turns with them
RISKY = 0.2  # probability to fail from which another model's proposal is asked again
TRIES = 4


class Auto(Modelled):
    """Chooses by the space, the budget, and by what has been working; each proposal says who made it, and why.

    A space of no more configs than there are trials is run whole ("grid"). Else quasi-random configs come first, a
    fifth of the budget and no more than the space is wide. Then they take turns with the models until there are twice
    as many: a model that begins early finds something early, and one that knew only what it asked for itself would not
    leave the first basin, or branch, that it met.

    The models are a Gaussian process, whose few trials go furthest; once there are enough trials, another of those
    nearest to the best (`NearBest`); and TPE, which does not believe in smoothness.
    Turns are drawn with shares that follow what each model's proposals came to: clearly better than all before them, or
    not, the newest counting most. So a Gaussian process that only polishes what it has found gives turns away. It is a
    bandit as in M. Hoffman, E. Brochu and N. de Freitas, "Portfolio Allocation for Bayesian Optimization", UAI 2011,
    rewarded by what was found in place of what a model expects.

    Args:
        space: Where to search.
        seed: The sweep's seed.
        trials: How many configs there will be.
        initial_random: Quasi-random configs after the points, before the models take over.
        points: Configs to begin with.
    """

    name = "auto"
    model = "the models"

    def __init__(
        self, space: Space, seed: int, trials: int, initial_random: int, points: Iterable[Config] = ()
    ) -> None:
        points = list(points)
        super().__init__(space, seed, initial_random, points)
        self._trials = trials
        self._spread = min(2 * initial_random, SPREAD, round(trials / 5))
        self._gp = NearBest(space, derive_seed(seed, "gp"), initial_random, points)
        self._tpe = HyperoptTPE(space, derive_seed(seed, "tpe"), 0)

    def _propose(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        if self.space and self._is_whole(history):
            why = f"all {self.total} configs of the space, in random order"
            return self._random(history, seen, "grid", why)
        return super()._propose(history, seen)

    def _is_whole(self, history: Sequence[Observation]) -> bool:
        """Return whether the trials suffice for all configs of the space that were not known before the search."""
        before = self._counted(history[: count_earlier(history)])
        return self.total is not None and self.total - len(before) <= self._trials

    def _start(self, history: Sequence[Observation], seen: set[str], why: str) -> Proposal | None:
        return self._gp._start(history, seen, why)

    def _by_model(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        spread = sum(one.by == START for one in history) + count_earlier(history)
        if spread < self._spread and history[-1].by in SHARES:
            proposal = self._start(history, seen, f"{START}, in turns with the models: {spread + 1} of {self._spread}")
            if proposal is not None:
                return proposal
        shares, found = self._shares(history)
        rng = random.Random(derive_seed(self.seed, self.name, len(history) + 1))
        first = rng.choices(list(shares), list(shares.values()))[0]
        told = self._told(history)
        for name in (first, *(other for other in shares if other != first)):
            config = self._suggest_by(name, told, history, seen)
            if config is not None:
                improved, asked = found[name]
                over = "the trials nearest to the best" if name == "gp_near" else of_those(history, len(told))
                why = f"{MODELS[name]} over {over}; {improved} of its {asked} configs so far were the best yet"
                return Proposal(config, by=name, why=why)
        return self._random(history, seen, "random", "the models had only configs that were tried already")

    def _suggest_by(
        self, name: str, told: Sequence[Told], history: Sequence[Observation], seen: set[str]
    ) -> Config | None:
        number = len(history)
        if name == "gp_near":
            return self._gp.suggest_near(told, derive_seed(self.seed, name, number + 1), seen)
        member = self._gp if name == "gp" else self._tpe
        for attempt in range(TRIES):
            seed = derive_seed(self.seed, name, number + 1, attempt)
            config = member._suggest(told, number, seed, attempt, seen)
            if config is None or config_key(config) in seen:
                continue
            if name == "gp" or self._gp.odds_to_fail(told, config) < RISKY:
                return config
        return None

    def _suggest(self, told: Sequence[Told], number: int, seed: int, attempt: int, seen: set[str]) -> Config | None:
        return self._gp._suggest(told, number, seed, attempt, seen)

    def _shares(self, history: Sequence[Observation]) -> tuple[dict[str, float], dict[str, tuple[int, int]]]:
        """Return each model's share of the turns; and how many of its proposals were the best yet, and how many."""
        worth = dict.fromkeys(SHARES, WORTH)
        merit = dict.fromkeys(SHARES, WORTH)
        found = dict.fromkeys(SHARES, (0, 0))
        for seen, gain in zip(history, _gains(history), strict=True):
            if seen.by in SHARES and seen.state in ("done", "failed"):
                name = seen.by
                found[name] = found[name][0] + (gain > 0), found[name][1] + 1
                worth[name], merit[name] = FADES * worth[name] + 1, FADES * merit[name] + (gain > WORTHWHILE)
        rates = {name: SHARES[name] * (merit[name] + 1) / (worth[name] + 1) for name in SHARES}
        total = sum(rates.values())
        return {name: LEAST + (1 - LEAST * len(rates)) * rate / total for name, rate in rates.items()}, found


def _gains(history: Sequence[Observation]) -> list[float]:
    """Return how far each trial went beyond the best before it, as a part of the way from the median to that best."""
    losses: list[float] = []  # sorted
    gains = []
    for seen in history:
        gains.append(0.0)
        if seen.loss is None or not math.isfinite(seen.loss):
            continue
        if losses and seen.loss < losses[0]:
            way = losses[(len(losses) - 1) // 2] - losses[0]
            gains[-1] = (losses[0] - seen.loss) / way if way > 0 else math.inf
        elif not losses:
            gains[-1] = math.inf
        bisect.insort(losses, seen.loss)
    return gains


MODELS: Mapping[str, str] = {"gp": "a Gaussian process", "gp_near": "a Gaussian process", "hyperopt": "TPE"}
