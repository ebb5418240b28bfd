"""How a running sweep stands: the journal's events folded as they are committed, read from any thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tuner.budgets import Budget, Limits, lasting, of_session
from tuner.history import FINISHED, Event, History, Ranked, TrialRecord, ranking

if TYPE_CHECKING:
    from tuner.backends.stage import Stage

# Before this many epochs a guess at the time left would only jump about.
ENOUGH_EPOCHS = 3


@dataclass(frozen=True)
class Goal:
    """What the sweep is after.

    Args:
        name: The run's name.
        metric: The sweep's metric.
        mode: "max" or "min".
        trials: How many trials there will be.
        max_epochs: The most epochs a trial may train.
        varied: Names of the parameters that the space varies, in the order in which they are shown.
        limits: The budgets.
    """

    name: str
    metric: str
    mode: str
    trials: int
    max_epochs: int
    varied: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def short(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of a config that the space varies."""
        return {name: config[name] for name in self.varied if name in config} or dict(config)


@dataclass(frozen=True)
class Running:
    """One trial at work; `value` is the metric that it reported last."""

    trial: str
    epoch: int
    epochs: int
    value: float | None
    config: dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """How the sweep stands at one moment.

    Args:
        goal: What it is after.
        counts: Trials by state, of a study those of its present stage; "pending" are those not yet begun.
        done: Trials that are over.
        total: Trials there will be, at most.
        best: The best config so far, or None.
        ranked: How many configs it is the best of.
        epochs: Epochs reported in this session.
        rate: Epochs a second in this session; None before the first.
        elapsed_s: Seconds since this session began.
        left_s: An estimate of the seconds left, or None.
        running: The trials at work, in the order of their numbers.
        stage: Name of a study's present stage; "" of a sweep, which is all search.
        budgets: What is spent and left of each budget.
    """

    goal: Goal
    counts: dict[str, int]
    done: int
    total: int
    best: Ranked | None
    ranked: int
    epochs: int
    rate: float | None
    elapsed_s: float
    left_s: float | None
    running: list[Running]
    stage: str = ""
    budgets: tuple[Budget, ...] = ()


@dataclass
class Standing:
    """Folds events in the driver's thread while a display reads snapshots in another.

    Args:
        goal: What the sweep is after.
        history: What was done before this session.
        began_at: When this session began, seconds since 1970.
    """

    goal: Goal
    history: History
    began_at: float
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _begun: set[str] = field(default_factory=set)
    _first_attempt_at: float | None = None
    _epochs: int = 0
    _ranking: list[Ranked] = field(default_factory=list)
    _stage: Stage | None = None
    _most: int = 0

    def __post_init__(self) -> None:
        self._rank()

    def begin(self, stage: Stage, trials: int) -> None:
        """Turn to a study's next stage, of at most so many trials; what is counted is counted of it alone."""
        with self._lock:
            self._stage, self._most = stage, trials

    def _records(self) -> list[TrialRecord]:
        """Return the trials that are counted."""
        stage, records = self._stage, self.history.trials.values()
        return [record for record in records if stage is None or stage.holds(record)]

    def add(self, event: Event) -> None:
        """Fold one committed event in."""
        with self._lock:
            self.history.add(event)
            if event.kind == "attempt":
                self._begun.add(event.trial)
                self._first_attempt_at = self._first_attempt_at or event.at
            elif event.kind == "epoch":
                self._epochs += 1
            elif event.kind == "end":
                self._rank()

    def _rank(self) -> None:
        self._ranking = ranking(self.history.trials.values(), self.goal.metric, self.goal.mode)

    def snapshot(self, now: float) -> Snapshot:
        """Return how the sweep stands at `now`, in seconds since 1970."""
        with self._lock:
            records = self._records()
            counts = self._counts(records)
            rate = self._rate(now)
            return Snapshot(
                goal=self.goal,
                counts=counts,
                done=sum(counts.get(state, 0) for state in FINISHED),
                total=sum(counts.values()),
                best=self._ranking[0] if self._ranking else None,
                ranked=len(self._ranking),
                epochs=self._epochs,
                rate=rate,
                elapsed_s=max(0.0, now - self.began_at),
                left_s=self._left(records, counts, rate, now),
                running=[self._running(record) for record in records if self._is_running(record)],
                stage=self._stage.name if self._stage else "",
                budgets=tuple(self._budgets(now)),
            )

    def _budgets(self, now: float) -> list[Budget]:
        limits, elapsed_s = self.goal.limits, max(0.0, now - self.began_at)
        return [*lasting(limits, self.history), *of_session(limits, round(elapsed_s))]

    def _is_running(self, record: TrialRecord) -> bool:
        # One that a driver left behind when it died still says that it runs.
        return record.status == "running" and record.trial in self._begun

    def _counts(self, records: list[TrialRecord]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for record in records:
            state = record.status if record.status in FINISHED else "pending"
            state = "running" if self._is_running(record) else state
            counts[state] = counts.get(state, 0) + 1
        unborn = max(0, (self._most if self._stage else self.goal.trials) - len(records))
        return {**counts, "pending": counts.get("pending", 0) + unborn}

    def _running(self, record: TrialRecord) -> Running:
        last = max(record.epochs, default=0)
        value = record.epochs[last].metrics.get(self.goal.metric) if last else None
        config = self.goal.short(record.config)
        return Running(record.trial, last or record.start_epoch, self._limit(record), value, config)

    def _limit(self, record: TrialRecord) -> int:
        epochs = record.config.get("epochs")
        limits = [self.goal.max_epochs, *([epochs] if isinstance(epochs, int) else [])]
        return min([*limits, *([record.until] if record.until is not None else [])])

    def _rate(self, now: float) -> float | None:
        if self._first_attempt_at is None or not self._epochs or now <= self._first_attempt_at:
            return None
        return self._epochs / (now - self._first_attempt_at)

    def _left(self, records: list[TrialRecord], counts: dict[str, int], rate: float | None, now: float) -> float | None:
        """Estimate the time left: trials to come are taken to last as long as those that are over."""
        if rate is None or self._epochs < ENOUGH_EPOCHS:
            return None
        over = [len(record.epochs) for record in records if record.status in FINISHED]
        typical = sum(over) / len(over) if over else self.goal.max_epochs
        at_work = sum(
            max(0.0, min(self._limit(record), max(typical, 1.0)) - max(record.epochs, default=0))
            for record in records
            if self._is_running(record)
        )
        left_s = (at_work + counts["pending"] * typical) / rate
        limits = self.goal.limits
        if limits.seconds is not None:
            left_s = min(left_s, max(self.began_at + limits.seconds - now, at_work / rate))
        if limits.epochs is not None:
            left_s = min(left_s, max(limits.epochs - self.history.epochs_spent, at_work) / rate)
        return left_s
