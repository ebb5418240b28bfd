"""What another stopping rule would have done: recorded curves, replayed in their recorded order."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from tuner.history import FINISHED, Ranked, TrialRecord, ranking

STAGES = ("search", "refine")


class Rule(Protocol):
    """A stopping rule, as in tuner.stopping."""

    feasible_only: ClassVar[bool]

    def decide(self, curves: dict[str, dict[int, float]], trial: str, epoch: int, max_epochs: int, /) -> str | None:
        """Return a reason to stop the trial at this epoch, or None."""


@dataclass(frozen=True)
class Stop:
    """One trial that the rules would have ended: after `epoch`, of the `epochs` that it trained."""

    trial: str
    epoch: int
    epochs: int
    reason: str


@dataclass(frozen=True)
class WhatIf:
    """What the rules would have done to the trials whose whole curve is known.

    Args:
        trials: How many trials were replayed: those that completed.
        left_out: How many curves were cut short, by their status, and so could not be.
        epochs: Epochs that the replayed trials trained.
        saved: How many of these would not have been trained.
        stops: The trials that would have been stopped, in the order of their numbers.
        winner: The best replayed trial as recorded; None where none has a finite metric.
        winner_after: The best one where the rules had been in force.
        value: The winner's metric, mean over its repeats.
        value_after: What `winner_after`'s config comes to when trained to its end, as recorded; so value and
            value_after differ by what the rules would have cost.
        best: The sweep's own best trial, which may be one that was left out.
    """

    trials: int
    left_out: dict[str, int]
    epochs: int
    saved: int
    stops: tuple[Stop, ...]
    winner: str | None
    winner_after: str | None
    value: float | None
    value_after: float | None
    best: str | None

    @property
    def same_winner(self) -> bool | None:
        """Whether the same config would have won; None where there is no winner."""
        return None if self.winner is None else self.winner == self.winner_after


def what_if(records: Iterable[TrialRecord], rules: Sequence[Rule], metric: str, mode: str, max_epochs: int) -> WhatIf:
    """Replay recorded curves under other stopping rules.

    The reports come in the order in which they were recorded, and the configs are those that were proposed: that
    earlier ends would have changed both is not replayed.

    Args:
        records: The run's trials; those of search and refine count.
        rules: Stopping rules, asked in order.
        metric: The sweep's metric.
        mode: "max" or "min".
        max_epochs: The most epochs of a trial.
    """
    own = [record for record in records if record.stage in STAGES]
    whole = [record for record in own if record.status == "completed"]
    left_out: dict[str, int] = {}
    for record in own:
        if record.status != "completed" and (record.epochs or record.status in FINISHED):
            left_out[record.status] = left_out.get(record.status, 0) + 1
    stops = _replay(whole, rules, metric, 1.0 if mode == "min" else -1.0, max_epochs)
    before = ranking(whole, metric, mode)
    after = ranking([_cut(record, stops.get(record.trial)) for record in whole], metric, mode)
    return WhatIf(
        trials=len(whole),
        left_out=left_out,
        epochs=sum(len(record.epochs) for record in whole),
        saved=sum(sum(epoch > stops[r.trial].epoch for epoch in r.epochs) for r in whole if r.trial in stops),
        stops=tuple(stops[record.trial] for record in whole if record.trial in stops),
        winner=_name(before),
        winner_after=_name(after, before),
        value=before[0].value if before else None,
        value_after=_of_same_config(after[0], before).value if after else None,
        best=_name(ranking(own, metric, mode)),
    )


def _replay(
    whole: Sequence[TrialRecord], rules: Sequence[Rule], metric: str, sign: float, max_epochs: int
) -> dict[str, Stop]:
    """Return the stops that the rules decide on, as the driver asks them: report by report, first rule first."""
    curves: dict[str, dict[int, float]] = {record.trial: {} for record in whole}
    breaking: dict[str, int] = {}  # trials that break a constraint so far, with their proposal
    reports = sorted((row.at, record.number, epoch, record) for record in whole for epoch, row in record.epochs.items())
    stops: dict[str, Stop] = {}
    for _, _, epoch, record in reports:
        if record.trial in stops:
            continue  # it would not have come to this
        value = record.epochs[epoch].metrics.get(metric)
        if value is not None:
            curves[record.trial][epoch] = sign * value if math.isfinite(value) else math.inf
        breaking.pop(record.trial, None)
        if record.constraints and _until(record, epoch).broken(metric, "min" if sign > 0 else "max"):
            breaking[record.trial] = record.proposal
        feasible = {one.trial: curves[one.trial] for one in whole if one.proposal not in breaking.values()}
        reasons = (
            rule.decide(feasible if rule.feasible_only else curves, record.trial, epoch, max_epochs) for rule in rules
        )
        reason = next(filter(None, reasons), None) if epoch < max_epochs else None
        if reason:
            stops[record.trial] = Stop(record.trial, epoch, len(record.epochs), reason)
    return stops


def _cut(record: TrialRecord, stop: Stop | None) -> TrialRecord:
    """Return the trial as it would have been: without the epochs after its stop."""
    return record if stop is None else dataclasses.replace(_until(record, stop.epoch), status="stopped")


def _until(record: TrialRecord, epoch: int) -> TrialRecord:
    return dataclasses.replace(record, epochs={at: row for at, row in record.epochs.items() if at <= epoch})


def _of_same_config(entry: Ranked, among: Sequence[Ranked]) -> Ranked:
    return next((other for other in among if other.trial.proposal == entry.trial.proposal), entry)


def _name(ranked: Sequence[Ranked], as_in: Sequence[Ranked] | None = None) -> str | None:
    """Return the best config's trial, None where nothing is ranked.

    Args:
        ranked: Configs, best first.
        as_in: Another ranking, whose trial stands for the same config; None for its own.
    """
    if not ranked:
        return None
    return (ranked[0] if as_in is None else _of_same_config(ranked[0], as_in)).trial.trial
