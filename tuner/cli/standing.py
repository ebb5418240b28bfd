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
    # What changes no more is added up, so that an event costs the same after ten thousand trials.
    _configs: dict[int, list[TrialRecord]] = field(default_factory=dict)
    _ranked: dict[int, Ranked] = field(default_factory=dict)
    _best: Ranked | None = None
    _open: dict[str, TrialRecord] = field(default_factory=dict)
    _over: dict[str, int] = field(default_factory=dict)
    _over_epochs: int = 0
    _stage: Stage | None = None
    _most: int = 0

    def __post_init__(self) -> None:
        for record in self.history.trials.values():
            self._configs.setdefault(record.proposal, []).append(record)
        for proposal in self._configs:
            self._rank(proposal)
        self._count_all()

    def begin(self, stage: Stage, trials: int) -> None:
        """Turn to a study's next stage, of at most so many trials; what is counted is counted of it alone."""
        with self._lock:
            self._stage, self._most = stage, trials
            self._count_all()

    def _count_all(self) -> None:
        self._open, self._over, self._over_epochs = {}, {}, 0
        for record in self.history.trials.values():
            self._count(record)

    def _count(self, record: TrialRecord) -> None:
        """Take a trial among those that are counted, or among those that are over."""
        if self._stage is not None and not self._stage.holds(record):
            return
        if record.status not in FINISHED:
            self._open[record.trial] = record
            return
        self._open.pop(record.trial, None)
        self._over[record.status] = self._over.get(record.status, 0) + 1
        self._over_epochs += len(record.epochs)

    def add(self, event: Event) -> None:
        """Fold one committed event in."""
        with self._lock:
            known = event.trial in self.history.trials
            self.history.add(event)
            if event.trial and not known and event.trial in self.history.trials:
                record = self.history.trials[event.trial]
                self._configs.setdefault(record.proposal, []).append(record)
                self._count(record)
            if event.kind == "attempt":
                self._begun.add(event.trial)
                self._first_attempt_at = self._first_attempt_at or event.at
            elif event.kind == "epoch":
                self._epochs += 1
            elif event.kind == "end":
                record = self.history.trials[event.trial]
                if event.trial in self._open:
                    self._count(record)
                self._rank(record.proposal)

    def _rank(self, proposal: int) -> None:
        """Find a config's place anew: that of the others stays."""
        metric, mode = self.goal.metric, self.goal.mode
        before = self._ranked.pop(proposal, None)
        for entry in ranking(self._configs[proposal], metric, mode):
            self._ranked[proposal] = entry
        new = self._ranked.get(proposal)
        if before is not None and self._best is before:
            self._best = min(self._ranked.values(), key=self._place, default=None)
        elif new is not None and (self._best is None or self._place(new) < self._place(self._best)):
            self._best = new

    def _place(self, entry: Ranked) -> tuple[float, int]:
        return (entry.value if self.goal.mode == "min" else -entry.value), entry.trial.proposal

    def snapshot(self, now: float) -> Snapshot:
        """Return how the sweep stands at `now`, in seconds since 1970."""
        with self._lock:
            counts = self._counts()
            rate = self._rate(now)
            return Snapshot(
                goal=self.goal,
                counts=counts,
                done=sum(counts.get(state, 0) for state in FINISHED),
                total=sum(counts.values()),
                best=self._best,
                ranked=len(self._ranked),
                epochs=self._epochs,
                rate=rate,
                elapsed_s=max(0.0, now - self.began_at),
                left_s=self._left(counts, rate, now),
                running=[self._running(record) for record in self._at_work()],
                stage=self._stage.name if self._stage else "",
                budgets=tuple(self._budgets(now)),
            )

    def _budgets(self, now: float) -> list[Budget]:
        limits, elapsed_s = self.goal.limits, max(0.0, now - self.began_at)
        return [*lasting(limits, self.history), *of_session(limits, round(elapsed_s))]

    def _is_running(self, record: TrialRecord) -> bool:
        # One that a driver left behind when it died still says that it runs.
        return record.status == "running" and record.trial in self._begun

    def _at_work(self) -> list[TrialRecord]:
        return sorted(filter(self._is_running, self._open.values()), key=lambda record: record.number)

    def _counts(self) -> dict[str, int]:
        counts = dict(self._over)
        for record in self._open.values():
            state = "running" if self._is_running(record) else "pending"
            counts[state] = counts.get(state, 0) + 1
        unborn = max(0, (self._most if self._stage else self.goal.trials) - sum(counts.values()))
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

    def _left(self, counts: dict[str, int], rate: float | None, now: float) -> float | None:
        """Estimate the time left: trials to come are taken to last as long as those that are over."""
        if rate is None or self._epochs < ENOUGH_EPOCHS:
            return None
        over = sum(self._over.values())
        typical = self._over_epochs / over if over else self.goal.max_epochs
        at_work = sum(
            max(0.0, min(self._limit(record), max(typical, 1.0)) - max(record.epochs, default=0))
            for record in self._at_work()
        )
        left_s = (at_work + counts["pending"] * typical) / rate
        limits = self.goal.limits
        if limits.seconds is not None:
            left_s = min(left_s, max(self.began_at + limits.seconds - now, at_work / rate))
        if limits.epochs is not None:
            left_s = min(left_s, max(limits.epochs - self.history.epochs_spent, at_work) / rate)
        return left_s
