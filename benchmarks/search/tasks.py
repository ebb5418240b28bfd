"""What a task is: a space, what a config comes to, and the best that there is."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tuner import Space

Config = dict[str, Any]

CRASH_SHARE = 0.2  # of a trial's time: one that diverges does so early
RANDOM_DRAWS = 1_000


@dataclass(frozen=True)
class Outcome:
    """What training one config came to.

    Args:
        loss: What is told, to be minimised; None: the config failed.
        true: The loss without noise.
        seconds: How long it took, in virtual time.
        curve: The loss after each epoch, where there are epochs.
    """

    loss: float | None
    true: float | None
    seconds: float
    curve: tuple[float, ...] = ()


class Task(Protocol):
    """A search problem with a known best loss.

    Args:
        name: Its name.
        space: Where to search.
        optimum: The lowest loss that any config has.
        crashing: Whether configs of some region fail.
    """

    name: str
    space: Space
    optimum: float
    crashing: bool

    def evaluate(self, config: Config, noise: float = 0.0) -> Outcome:
        """Return what a config comes to.

        Args:
            config: One of the space.
            noise: A draw from the standard normal distribution, used by noisy tasks only.
        """

    def fingerprint(self) -> str:
        """Return a text that changes when the task does."""


@dataclass(frozen=True, eq=False)
class Function:
    """An analytic function over a space.

    Args:
        name: Its name.
        space: Where to search.
        loss: Config to loss; None where the config fails.
        optimum: The lowest loss.
        best: A config that has it.
        noise: Standard deviation of what is told.
        crashing: Whether configs of some region fail.
    """

    name: str
    space: Space
    loss: Callable[[Config], float | None]
    optimum: float
    best: Config
    noise: float = 0.0
    crashing: bool = False

    def evaluate(self, config: Config, noise: float = 0.0) -> Outcome:
        true = self.loss(config)
        seconds = trial_seconds(self.name, config)
        if true is None:
            return Outcome(None, None, seconds * CRASH_SHARE)
        return Outcome(true + self.noise * noise, true, seconds)

    def fingerprint(self) -> str:
        return inspect.getsource(self.loss) + json.dumps(self.space.to_table()) + str(self.noise)


def trial_seconds(name: str, config: Mapping[str, Any]) -> float:
    """Return how long a trial takes: log-normal about 60 s with a sigma of 0.5, the same for equal configs."""
    key = name + json.dumps(config, sort_keys=True)
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
    return 60.0 * math.exp(0.5 * random.Random(seed).gauss(0.0, 1.0))


@functools.lru_cache(maxsize=256)
def random_regrets(task: Any) -> tuple[float, ...]:
    """Return the sorted regrets of random configs that did not fail."""
    rng = random.Random(task.name)
    outcomes = (task.evaluate(task.space.sample(rng)) for _ in range(RANDOM_DRAWS))
    return tuple(sorted(outcome.true - task.optimum for outcome in outcomes if outcome.true is not None))


def median_random_regret(task: Any) -> float:
    """Return the regret of half of all random configs: regrets are told as shares of it."""
    regrets = random_regrets(task)
    return regrets[len(regrets) // 2]
