"""Journal events folded into one record a trial: pure, and the same for the driver, the frames and the report."""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tuner.constraints import EPOCH_S, PARAMS, Constraint, read
from tuner.objectives import front

# A trial in one of these is over: it is never run again.
FINISHED = ("completed", "stopped", "failed")
# Only these can be the best.
RANKED = ("completed", "stopped")


class Event(NamedTuple):
    """One row of the journal; a tuple, since a large journal has a quarter of a million of them.

    Args:
        kind: One of the kinds drawn at the top of journal.py.
        trial: The trial's name ("t0001"), or "" where there is none.
        attempt: From 1; 0 where there is none.
        epoch: From 1; 0 where there is none.
        body: What the kind needs, JSON-able; floats may be non-finite.
        at: Seconds since 1970 (UTC).
        seq: Place in the global order, from 1; 0 until it is committed.
    """

    kind: str
    trial: str = ""
    attempt: int = 0
    epoch: int = 0
    body: Mapping[str, Any] = {}  # a Mapping: nobody changes it
    at: float = 0.0
    seq: int = 0


class EpochRecord(NamedTuple):
    """The accepted row of one (trial, epoch): what it holds, which attempt reported it, when it was committed."""

    body: Mapping[str, Any]
    attempt: int
    at: float

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """What was reported: name -> value."""
        return self.body["metrics"]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class CheckpointRecord:
    """A committed checkpoint: path relative to the run folder, and its manifest's SHA-256."""

    epoch: int
    attempt: int
    path: str
    sha256: str


@dataclass
class TrialRecord:
    """Everything the journal says of one trial, as of its last event."""

    trial: str
    number: int
    proposal: int
    stage: str
    fold: int | None
    repeat: int
    config: dict[str, Any]
    seed: int
    by: str
    why: str
    status: str = "pending"
    cause: str | None = None
    error: str | None = None
    attempts: int = 0
    start_epoch: int = 0
    started_at: float | None = None
    epochs: dict[int, EpochRecord] = field(default_factory=dict)
    checkpoints: list[CheckpointRecord] = field(default_factory=list)
    infrastructure_failures: int = 0
    timeouts: int = 0
    until: int | None = None
    params: int | None = None  # the weights of its model, where a constraint asks for them
    constraints: tuple[Constraint, ...] = ()
    _before_s: float = 0.0
    _newest: EpochRecord | None = None
    _ended_after_s: float | None = None

    # Both look into the newest epoch's row only when they are asked: see EpochRecord.
    @property
    def worker(self) -> str | None:
        """Who reported the newest epoch."""
        return self._newest.body["worker"] if self._newest else None

    @property
    def duration_s(self) -> float:
        """Seconds that all attempts trained."""
        if self._ended_after_s is not None:
            return self._before_s + self._ended_after_s
        if self._newest is not None and self._newest.attempt == self.attempts:
            return self._before_s + float(self._newest.body["elapsed_s"])
        return self._before_s

    def duration_at(self, elapsed_s: float) -> float:
        """Return the seconds that all attempts have trained, so many after the present one's beginning."""
        return self._before_s + elapsed_s

    def best_epoch(self, metric: str, mode: str) -> int | None:
        """Return the epoch whose metric is best (the earliest of equals), or None without a finite one."""
        sign = 1.0 if mode == "min" else -1.0
        best: tuple[float, int] | None = None
        for epoch, record in self.epochs.items():
            value = record.body["metrics"].get(metric)
            if value is not None and math.isfinite(value) and (best is None or (sign * value, epoch) < best):
                best = (sign * value, epoch)
        return best[1] if best else None

    def best_value(self, metric: str, mode: str) -> float | None:
        """Return the metric at the best epoch, or None."""
        epoch = self.best_epoch(metric, mode)
        return None if epoch is None else self.epochs[epoch].metrics[metric]

    def at_best(self, name: str, metric: str, mode: str) -> float | None:
        """Return a metric at the best epoch, or None; params and epoch_s also where no epoch reported them."""
        epoch = self.best_epoch(metric, mode)
        told = None if epoch is None else self.epochs[epoch].metrics.get(name)
        if told is None and name == PARAMS:
            return self.params
        if told is None and name == EPOCH_S and self.epochs:
            return self.epoch_s()
        return told

    def epoch_s(self) -> float | None:
        """Return the mean seconds of the accepted epochs, a trial's start included; None without any.

        What a lost worker costs is no part of it: neither the epochs that were dropped, nor the start of the next
        attempt, which is in the time of its first epoch.
        """
        rows = [self.epochs[epoch] for epoch in sorted(self.epochs)]
        took = [row.body["elapsed_s"] for row in rows[:1]]
        for before, row in itertools.pairwise(rows):  # a function may report every other epoch
            if before.attempt == row.attempt:
                took.append(row.body["elapsed_s"] - before.body["elapsed_s"])
        return sum(took) / len(took) if took else None

    def broken(self, metric: str, mode: str) -> str | None:
        """Return which of the sweep's constraints does not hold at the best epoch, in a sentence; None: all do."""
        for constraint in self.constraints:
            value = self.at_best(constraint.name, metric, mode)
            if not constraint.holds(value):
                return constraint.sentence(value)
        return None

    def last_checkpoint(self) -> CheckpointRecord | None:
        """Return the newest committed checkpoint, or None."""
        return self.checkpoints[-1] if self.checkpoints else None


@dataclass
class History:
    """All trials of a sweep in the order of their numbers, and what the journal says of the whole.

    Args:
        trials: Name -> record.
        running: Those of them that have an attempt without an end.
        sweep_toml: The frozen sweep.
        started_at: When it was frozen.
        last_at: When the last row was committed.
        finished: How the newest session said that it ended; None where it is at work, or was killed.
        notes: Every note's body.
        origin: Where a user's trainable file came from, or None.
        overrides: What resumes changed of the sweep, as "key=value", in order.
        study: Whether it is a study, with further stages than the search.
        largest_checkpoint: The bytes of the largest checkpoint so far; None without any.
        epochs_spent: Epochs that were committed, those that were trained again included.
        session_at: When the newest session began; None before the first.
        constraints: What the best config must meet.
        objectives: What else is optimised beside the metric: metric -> "min" or "max".
    """

    trials: dict[str, TrialRecord] = field(default_factory=dict)
    running: dict[str, TrialRecord] = field(default_factory=dict)
    sweep_toml: str = ""
    started_at: float | None = None
    last_at: float | None = None
    finished: str | None = None
    notes: list[Mapping[str, Any]] = field(default_factory=list)
    origin: str | None = None
    overrides: list[str] = field(default_factory=list)
    study: bool = False
    largest_checkpoint: int | None = None
    epochs_spent: int = 0
    session_at: float | None = None
    constraints: tuple[Constraint, ...] = ()
    objectives: dict[str, str] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Fold one more event in."""
        kind, trial, attempt, epoch, body, at, _ = event
        self.last_at = at
        record = self.trials[trial] if kind in _OF_AN_ATTEMPT else None
        if record and attempt < record.attempts:
            return  # of a stale attempt
        if record and kind == "epoch":  # nine rows of ten, so they go the short way
            self.epochs_spent += 1
            if not record.epochs and record.attempts == 1:
                record.started_at = at - body["elapsed_s"]
            record._newest = record.epochs[epoch] = tuple.__new__(EpochRecord, (body, attempt, at))
        elif handler := _HANDLERS.get(kind):
            handler(self, event)


def fold(events: Iterable[Event]) -> History:
    """Return the history that these events, in the journal's order, make."""
    history, add = History(), History.add
    for event in events:
        add(history, event)
    return history


def _sweep(history: History, event: Event) -> None:
    history.sweep_toml = event.body["toml"]
    history.origin, history.study = event.body.get("origin"), event.body.get("study", False)
    history.started_at = event.at
    if "constraints" in history.sweep_toml or "objectives" in history.sweep_toml:
        head = tomllib.loads(history.sweep_toml).get("sweep", {})
        history.constraints, history.objectives = read(head.get("constraints", ())), head.get("objectives", {})


def _session(history: History, event: Event) -> None:
    history.finished, history.session_at = None, event.at
    history.overrides += event.body.get("overrides", [])


def _note(history: History, event: Event) -> None:
    history.notes.append(event.body)
    history.finished = event.body.get("finished", history.finished)


def _suggestion(history: History, event: Event) -> None:
    fields = ("number", "proposal", "stage", "fold", "repeat", "config", "seed", "by", "why")
    values = {name: event.body[name] for name in fields}
    history.trials[event.trial] = TrialRecord(
        event.trial,
        **values,
        until=event.body.get("until"),
        params=event.body.get("params"),
        constraints=history.constraints,
    )


def _attempt(history: History, event: Event) -> None:
    record = history.trials[event.trial]
    record._before_s, record._ended_after_s = record.duration_s, None
    record.attempts, record.start_epoch = event.attempt, event.body["start_epoch"]
    record.status, record.cause, record.error = "running", None, None
    history.running[record.trial] = record
    record.started_at = record.started_at or event.at
    # What came after the state that this attempt starts from is run again, so its rows no longer count.
    record.epochs = {epoch: row for epoch, row in record.epochs.items() if epoch <= record.start_epoch}
    record.checkpoints = [kept for kept in record.checkpoints if kept.epoch <= record.start_epoch]


def _checkpoint(history: History, event: Event) -> None:
    history.largest_checkpoint = max(history.largest_checkpoint or 0, event.body.get("bytes", 0))
    kept = CheckpointRecord(event.epoch, event.attempt, event.body["path"], event.body["sha256"])
    history.trials[event.trial].checkpoints.append(kept)


def _end(history: History, event: Event) -> None:
    record, body = history.trials[event.trial], event.body
    record.status, record.cause, record.error = body["status"], body["cause"], body["error"]
    history.running.pop(record.trial, None)
    record._ended_after_s = body.get("elapsed_s")
    if body["status"] == "pending":  # to be tried again
        if body["cause"] == "timeout":
            record.timeouts += 1
        else:
            record.infrastructure_failures += 1


# What these say does not count once a newer attempt has begun.
_OF_AN_ATTEMPT = ("epoch", "checkpoint", "end")

_HANDLERS = {
    "sweep": _sweep,
    "session": _session,
    "suggestion": _suggestion,
    "attempt": _attempt,
    "checkpoint": _checkpoint,
    "end": _end,
    "note": _note,
}


@dataclass(frozen=True)
class Ranked:
    """One config's place: its value over its repeats, and the repeat whose model stands for it."""

    value: float
    trial: TrialRecord
    repeats: int


def ranking(trials: Iterable[TrialRecord], metric: str, mode: str) -> list[Ranked]:
    """Rank the configs of search and refine by the mean of the best epoch's metric over their repeats.

    Only completed and stopped trials count, and no config of which a repeat breaks a constraint; a tie goes to the
    earlier config, then to the earlier repeat.

    Returns:
        One entry a config, best first; empty where nothing can be ranked.
    """
    sign = 1.0 if mode == "min" else -1.0
    groups: dict[int, list[tuple[float, TrialRecord]]] = {}
    infeasible: set[int] = set()
    for record in trials:
        value = record.best_value(metric, mode)
        if record.status in RANKED and record.stage in ("search", "refine") and value is not None:
            groups.setdefault(record.proposal, []).append((value, record))
            if record.constraints and record.broken(metric, mode):
                infeasible.add(record.proposal)
    ranked = [
        Ranked(
            # In the order of their size, so that equal repeats give equal means, in whatever order they came.
            value=sum(sorted(value for value, _ in group)) / len(group),
            trial=min(group, key=lambda pair: (sign * pair[0], pair[1].number))[1],
            repeats=len(group),
        )
        for proposal, group in groups.items()
        if proposal not in infeasible
    ]
    return sorted(ranked, key=lambda entry: (sign * entry.value, entry.trial.proposal))


@dataclass(frozen=True)
class Tradeoff:
    """One config of the Pareto set, and its metric and objectives by name, each the mean over its repeats."""

    ranked: Ranked
    values: dict[str, float]


def pareto(trials: Iterable[TrialRecord], metric: str, mode: str, objectives: Mapping[str, str]) -> list[Tradeoff]:
    """Return the ranked configs that no other is better than in one objective and no worse in any, best metric first.

    Args:
        trials: As for ranking.
        metric: The sweep's metric, the first objective.
        mode: "max" or "min".
        objectives: The others; a config of which one is missing, or not finite, is left out.
    """
    records = list(trials)
    groups: dict[int, list[TrialRecord]] = {}
    for record in records:
        if record.status in RANKED and record.stage in ("search", "refine"):
            groups.setdefault(record.proposal, []).append(record)
    known: list[Tradeoff] = []
    for ranked in ranking(records, metric, mode):
        values = objectives_of(groups[ranked.trial.proposal], metric, mode, objectives)
        if values is not None:
            known.append(Tradeoff(ranked, {metric: ranked.value, **values}))
    signs = {metric: 1.0 if mode == "min" else -1.0}
    signs |= {name: 1.0 if way == "min" else -1.0 for name, way in objectives.items()}
    points = [tuple(sign * one.values[name] for name, sign in signs.items()) for one in known]
    return [known[place] for place in front(points)]


def objectives_of(
    records: Iterable[TrialRecord], metric: str, mode: str, objectives: Mapping[str, str]
) -> dict[str, float] | None:
    """Return each objective at the best epoch, the mean over a config's repeats; None where one is not known."""
    means = {}
    for name in objectives:
        values = [record.at_best(name, metric, mode) for record in records]
        known = [value for value in values if value is not None and math.isfinite(value)]
        if not known:
            return None
        means[name] = sum(sorted(known)) / len(known)
    return means
