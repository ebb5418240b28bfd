"""What a strategy is: it is asked with the history, and proposes the next config."""

from __future__ import annotations

import itertools
import json
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

from tuner.space import Space

Config = dict[str, Any]
State = Literal["pending", "done", "failed", "lost"]
T = TypeVar("T")


@dataclass(frozen=True)
class Observation:
    """What is known of one proposal.

    Args:
        index: The proposal's number, from 1; 0 and below for what other runs tell.
        config: The config that was proposed.
        state: pending: still training; done: ended with a loss (a loss that is NaN or infinite counts as
            failed); failed: by its config, which teaches that it is worse than the worst; lost: to the
            infrastructure, which teaches nothing, but the config counts as proposed.
        loss: What is minimised; None unless done.
        by: Who proposed it, as in its Proposal.
        earlier: Whether it was known before this search began: it teaches, and is not proposed again, but is none of
            the configs that this search may propose.
        values: With several objectives: each one, to be minimised, of which the driver makes `loss` before it asks.
    """

    index: int
    config: Config
    state: State
    loss: float | None = None
    by: str = ""
    earlier: bool = False
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """The next config to train.

    Args:
        config: name -> value, inside the space.
        by: Who proposed it: "hyperopt", "points", "random start", ...
        why: One short line for a person.
    """

    config: Config
    by: str
    why: str


class Strategy(Protocol):
    """Proposes configs. Pure: what it proposes depends on the space, the seed and the history alone.

    A strategy of one's own offers these members, and is added to `tuner.strategies.STRATEGIES`.

    Args:
        name: Its name in a sweep file.
        total: How many configs it will propose at most; None: no end.
        note: What a person should know before it starts (what was left out, ...); empty: nothing.
    """

    name: str
    total: int | None
    note: str

    def ask(self, history: Sequence[Observation]) -> Proposal | None:
        """Return the next proposal, or None when nothing is left to propose.

        Args:
            history: What is known from earlier, then every proposal so far, in the order of their numbers.
        """


def count_earlier(history: Sequence[Observation]) -> int:
    """Return how many observations were known before the search began; they stand first."""
    return next((place for place, seen in enumerate(history) if not seen.earlier), len(history))


def of_those(history: Sequence[Observation], told: int) -> str:
    """Return "24 trials", and how many of them were known before the search began."""
    before = count_earlier(history)
    known = f", {min(before, told)} of them from before this search" if before else ""
    return f"{told} trial{'s' * (told != 1)}{known}"


def config_key(config: Mapping[str, Any]) -> str:
    """Return a text that is the same for equal configs; 1, 1.0 and true are different values."""
    return json.dumps(config, sort_keys=True)


class PerConfig(Generic[T]):
    """A function of each config in a history. A memo, no state: a config object is worked on once.

    Without it a proposal would cost time in proportion to the square of the history's length.
    """

    def __init__(self, function: Callable[[Config], T]) -> None:
        self._function = function
        self._known: list[Observation] = []
        self._results: list[T] = []

    def of(self, history: Sequence[Observation]) -> list[T]:
        """Return function(config) of every observation."""
        # Compared without a loop in Python, which would be most of a cheap proposal: few observations are new.
        changed = map(operator.is_not, history, self._known)
        for place in list(itertools.compress(itertools.count(), changed)):
            if history[place].config is not self._known[place].config:
                self._results[place] = self._function(history[place].config)
            self._known[place] = history[place]
        for observation in history[len(self._known) :]:
            self._known.append(observation)
            self._results.append(self._function(observation.config))
        return self._results[: len(history)]


class PointsFirst(ABC):
    """What every strategy here has in common: search.points come first, and no config comes twice.

    Args:
        space: Where configs come from; empty where there are only points.
        seed: The sweep's seed.
        points: Configs to begin with.
    """

    name: str
    total: int | None
    note: str = ""

    def __init__(self, space: Space, seed: int, points: Iterable[Config] = ()) -> None:
        self.space = space
        self.seed = seed
        self.points = distinct(space.conform(point) if space else dict(point) for point in points)
        self._keys = PerConfig(config_key)

    def ask(self, history: Sequence[Observation]) -> Proposal | None:
        seen = set(self._keys.of(history))
        for number, point in enumerate(self.points, start=1):
            if config_key(point) not in seen:
                why = f"point {number} of {len(self.points)} in search.points"
                return Proposal(_copy(point), by="points", why=why)
        proposal = self._propose(history, seen)
        return proposal and replace(proposal, config=_copy(proposal.config))

    @abstractmethod
    def _propose(self, history: Sequence[Observation], seen: set[str]) -> Proposal | None:
        """Return the next config whose key is not in `seen`; the points have all been proposed."""


def _copy(config: Config) -> Config:
    """Return a copy that shares no list with the config: what a trainable does to one stays there."""
    copy: Config = json.loads(json.dumps(config))
    return copy


def distinct(configs: Iterable[Config]) -> list[Config]:
    """Return the configs, each once, in order."""
    first: dict[str, Config] = {}
    for config in configs:
        first.setdefault(config_key(config), config)
    return list(first.values())
