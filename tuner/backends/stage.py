"""What a driver runs: a search by a strategy, or trials that are listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tuner.history import History, TrialRecord
from tuner.strategies import Observation
from tuner.strategies.prior import earlier

# Stages whose curves stopping rules compare: what else a study trains, it trains to the end.
COMPARED = ("search", "refine")


@dataclass(frozen=True)
class Suggestion:
    """One trial to be run.

    Args:
        config: The config, complete.
        by: Who wants it.
        why: In a few words.
        proposal: Number of its config in the journal; trials of one number and stage are repeats.
        repeat: From 0.
        seed: The trial's seed.
        fold: Which fold to train on, or None.
        until: The epoch after which it is complete, or None; the horizon of its schedule stays max_epochs.
    """

    config: dict[str, Any]
    by: str
    why: str
    proposal: int
    repeat: int
    seed: int
    fold: int | None = None
    until: int | None = None


class Wait:
    """What a list says that goes on once the trials now running are over."""


WAIT = Wait()
# The next trial, WAIT, or None where there is none any more: a pure function of the history.
Listed = Callable[[History], Suggestion | Wait | None]


def known_before(history: History) -> tuple[Observation, ...]:
    """Return what a sweep learnt of other runs when it began."""
    return earlier([note["warm_start"] for note in history.notes if "warm_start" in note])


@dataclass(frozen=True)
class Stage:
    """One stage of a sweep.

    Args:
        name: As in the frames: search, refine, baseline, cross_validate or final.
        trials: The most configs that the strategy proposes; None: as the sweep says.
        after: The last proposal of the stages before it.
        prior: What the strategy knows of earlier stages, and of other runs.
        listed: What comes next, in place of a strategy.
    """

    name: str = "search"
    trials: int | None = None
    after: int = 0
    prior: tuple[Observation, ...] = ()
    listed: Listed | None = None

    def holds(self, record: TrialRecord) -> bool:
        """Return whether a trial belongs to this stage."""
        return record.stage == self.name and record.proposal > self.after
