"""The driver's decisions, the same for every backend: what runs next, what a report means, what an end means.

Everything is committed to the journal before the next thing depends on it. No Ray here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tuner import budgets
from tuner.backends.asking import Asking
from tuner.backends.clocks import Clocks
from tuner.backends.keeping import Keeping, repeats_left
from tuner.backends.stage import COMPARED, Stage, Suggestion
from tuner.backends.worker import STORAGE, Job, Outcome, Report, epoch_body, is_finite
from tuner.constraints import DERIVED, EPOCH_S, PARAMS, never_reported
from tuner.disk import failed
from tuner.errors import TunerError
from tuner.history import (
    FINISHED,
    CheckpointRecord,
    EpochRecord,
    Event,
    History,
    TrialRecord,
)
from tuner.journal import Journal
from tuner.mirror import Mirror
from tuner.space import derive_seed
from tuner.spec import Sweep
from tuner.stopping import Rule
from tuner.strategies import Observation, Proposal, Strategy
from tuner.timing import Clock

# Besides the sweep's metric, these must stay finite: a loss that is not has nothing left to learn from.
LOSSES = ("loss", "train_loss", "val_loss")


class StaleAttempt(TunerError):
    """A report or an end of an attempt that is no longer the trial's current one; it does not count."""


class Driver:
    """One sweep being driven.

    Args:
        sweep: The frozen sweep, with its resources resolved.
        run: The run folder.
        history: What its journal holds so far.
        strategy: Proposes configs.
        rules: Stopping rules, asked in order.
        journal: The journal, open for writing; None for a driver that only looks.
        device: "cpu" or "cuda", for every trial.
        on_event: Called with every committed event, such as a progress display.
        reject: Returns why a config cannot be trained (preflight), or None.
        measure: Returns the weights of a config's model, or None where that is not known; asked only where a constraint
            or an objective is on `params`.
        hold: Holds signals back while the journal and what is known of it change together.
        lacking: Returns why no trial may begin on the run folder's disk beside so many that run, or None.
        stage: What to run; None: the search.
        mirror: What carries a run on a URI; None: the run folder is all there is.

    Attributes:
        epochs_done: Epochs committed by this driver.
        idle_s: Seconds of workers that waited for results that `search.deterministic` holds out for, all together.
        over: Why a rule ended the whole sweep; None: none did.
    """

    def __init__(
        self,
        sweep: Sweep,
        run: Path,
        history: History,
        strategy: Strategy,
        rules: Sequence[Rule],
        *,
        journal: Journal | None = None,
        device: str = "cpu",
        on_event: Callable[[Event], None] = lambda event: None,
        reject: Callable[[dict[str, Any]], str | None] = lambda config: None,
        measure: Callable[[dict[str, Any]], int | None] = lambda config: None,
        hold: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        lacking: Callable[[int], str | None] = lambda running: None,
        stage: Stage | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        self.mirror = mirror or Mirror(run)
        self.clock = journal.clock if journal else Clock()
        self._suggested: list[Event] = []  # what no snapshot at the URI may hold yet
        self.sweep, self.run, self.journal = sweep, run, journal
        self.strategy, self.rules, self.device = strategy, rules, device
        self._on_event, self._reject, self._hold = on_event, reject, hold
        counted = PARAMS in history.objectives or any(one.name == PARAMS for one in history.constraints)
        self._measure = measure if counted else lambda config: None
        self._lacking = lacking
        self.stage = stage or Stage()
        self.halted: str | None = None  # why no trial begins any more, though some are left
        self.history = history
        self._sign = 1.0 if sweep.mode == "min" else -1.0
        self._asking = Asking(strategy, sweep, history, self.stage)
        self._keeping = Keeping(sweep, run, history, self.mirror, self._warn)
        self._exhausted = False
        self._limits = budgets.limits(sweep.resources.model_dump())
        self._began = time.monotonic()
        self.epochs_done = 0
        self.idle_s = 0.0
        self._held_at: float | None = None
        # Values to be minimised, in arrival order, as stopping rules read them.
        self._curves: dict[str, dict[int, float]] = {}
        self._breaking: set[str] = set()  # trials of these that break a constraint so far
        for record in self.history.trials.values():
            for epoch, row in record.epochs.items() if record.stage in COMPARED else ():
                self._note_value(record, epoch, row.metrics.get(sweep.metric))
            self._note_constraints(record)
        self._clocks = Clocks(sweep.failure.epoch_timeout_s, self.history.trials.values())
        self.over = self._find_over()  # why the whole sweep is over, though some trials are left
        # Trials left without an end by a driver that died, and those to be tried again.
        self._waiting = [record for record in self._asking.records() if record.status not in FINISHED]

    # -- what runs next ------------------------------------------------------------------------------------------

    def next(self) -> Job | None:
        """Commit and return the next attempt, or None where there is none now; see `finished`."""
        self._count_idle()
        while not self._halt(self._lacking(self.running)) and (begun := self._begin_next()) is not None:
            record, kept = begun
            reason = self._reject(record.config) or self._refused(record)
            if reason is None:
                return self._job(record, kept)
            self._end(record, Outcome("failed", "config.shape", reason, 0.0))
        return None

    def _refused(self, record: TrialRecord) -> str | None:
        """Return which constraint the config breaks already; what a study compares with is trained all the same."""
        if record.params is None or record.stage not in COMPARED:
            return None
        asked = (one for one in record.constraints if one.name == PARAMS and not one.holds(record.params))
        return next((one.sentence(record.params) for one in asked), None)

    def _count_idle(self) -> None:
        """Count the workers that have had nothing to do since a proposal was held back."""
        now, slots = time.monotonic(), self.sweep.resources.max_concurrent or 1
        if self._held_at is not None:
            self.idle_s += max(0, slots - self.running) * (now - self._held_at)
        self._held_at = None

    def _halt(self, why: str | None) -> bool:
        """Begin no more trials where there is a reason; those that run may end."""
        self.halted = self.halted or why
        return self.halted is not None

    @property
    def running(self) -> int:
        """Attempts that have begun and not ended."""
        return len(self.history.running) - sum(record.status == "running" for record in self._waiting)

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing is left to run."""
        if self.running:
            return False
        ended = self.halted is not None or self.over is not None or self._cut_short()
        return ended or (not self._waiting and (self._exhausted or self._spent() is not None))

    def nothing_left(self) -> bool:
        """Return whether every trial that this stage asks for is there, with an end; commits nothing."""
        if self.over:
            return True
        for_good = self._lasting_spent() is not None
        if self._waiting:
            return for_good and self._stops()
        if for_good:
            return True
        if self.stage.listed is not None:
            return self.stage.listed(self.history) is None
        records = self._asking.records()
        if records and repeats_left(records, self.sweep.search.repeats):
            return False
        seen = self.observations()
        return len(seen) >= self._asking.most or self._asking.propose(seen) is None

    def _spent(self, epochs: int = 0, seconds: float = 0.0) -> budgets.Budget | None:
        """Return the budget that is spent, if any, with so many epochs and seconds of trials to come."""
        lasting = self._lasting_spent(epochs, seconds)
        session = budgets.of_session(self._limits, time.monotonic() - self._began)
        return lasting or next((budget for budget in session if budget.is_spent), None)

    def _lasting_spent(self, epochs: int = 0, seconds: float = 0.0) -> budgets.Budget | None:
        """Return the budget that is spent for this run folder, if any; a study always has its final training."""
        if self.stage.name == "final":
            return None
        lasting = budgets.lasting(self._limits, self.history, epochs=epochs, seconds=seconds)
        return next((budget for budget in lasting if budget.is_spent), None)

    def _stops(self) -> bool:
        """Return whether a spent budget ends what runs; what a study does not compare by rules it trains to the end."""
        return self.sweep.resources.at_budget == "stop" and self.stage.name in COMPARED

    def _cut_short(self) -> bool:
        """Return whether what is left to be run waits for a larger budget, or the next session."""
        return self._stops() and self._spent() is not None

    def _begin_next(self) -> tuple[TrialRecord, CheckpointRecord | None] | None:
        """Commit that the next attempt begins; returns its trial, and the checkpoint that it begins with."""
        if self.over or self._cut_short():
            return None
        if self._waiting:
            return self._begin_again()
        if self._exhausted or self._spent() or (suggestion := self._suggest()) is None:
            return None
        return self._begin_new(suggestion), None

    def _begin_again(self) -> tuple[TrialRecord, CheckpointRecord | None]:
        record = self._waiting[0]
        kept = self._keeping.newest_valid(record)
        start_epoch = kept.epoch if kept else 0
        self._commit(_attempt_event(record.trial, record.attempts + 1, start_epoch))
        self._forget_values(record, start_epoch)
        del self._waiting[0]  # not before: until it has begun it is still to be run
        return record, kept

    def _suggest(self) -> Suggestion | None:
        """Return the next of the list, the next repeat of the newest config, or what the strategy proposes."""
        if self.stage.listed is not None:
            listed = self.stage.listed(self.history)
            self._exhausted = listed is None
            return listed if isinstance(listed, Suggestion) else None
        newest = self._asking.newest()
        if newest and len(newest) < self.sweep.search.repeats:
            first = newest[0]
            return self._repeat(Proposal(first.config, first.by, first.why), first.proposal, len(newest))
        observations = self.observations()
        index = self.stage.after + len(observations) + 1
        left = len(observations) < self._asking.most
        due = (one for one in observations if one.state == "pending" and self._asking.may_know(index, one.index))
        if left and self.sweep.search.deterministic and any(due):
            self._held_at = time.monotonic()
            return None
        with self.clock.phase("strategy"):
            proposal = self._asking.propose(observations) if left else None
        if proposal is None:
            self._exhausted = True
            return None
        return self._repeat(proposal, index, 0)

    def _repeat(self, proposal: Proposal, index: int, repeat: int) -> Suggestion:
        config = {**self._asking.fixed, **proposal.config}
        return Suggestion(config, proposal.by, proposal.why, index, repeat, seed_of(self.sweep, repeat))

    def _begin_new(self, suggestion: Suggestion) -> TrialRecord:
        """Commit a suggestion, and that its first attempt begins, in one transaction; returns the trial."""
        number = len(self.history.trials) + 1
        trial = f"t{number:04d}"
        body = {
            "number": number,
            "proposal": suggestion.proposal,
            "stage": self.stage.name,
            "fold": suggestion.fold,
            "repeat": suggestion.repeat + 1,
            "config": suggestion.config,
            "seed": suggestion.seed,
            "by": suggestion.by,
            "why": suggestion.why,
        }
        if suggestion.until is not None:
            body["until"] = suggestion.until
        if (params := self._measure(suggestion.config)) is not None:
            body["params"] = params
        try:
            self._commit(Event("suggestion", trial, body=body), _attempt_event(trial, 1, 0))
        except BaseException:
            if trial in self.history.trials:  # it was committed, and what is known must be what the journal says
                self._waiting.insert(0, self.history.trials[trial])
            raise
        return self.history.trials[trial]

    def _job(self, record: TrialRecord, kept: CheckpointRecord | None) -> Job:
        resources = self.sweep.resources
        return Job(
            run=self.mirror.run,
            trial=record.trial,
            number=record.number,
            attempt=record.attempts,
            seed=record.seed,
            config=record.config,
            max_epochs=self.sweep.max_epochs,
            metric=self.sweep.metric,
            fold=record.fold,
            start_epoch=kept.epoch if kept else 0,
            checkpoint=kept.path if kept else None,
            every_epochs=self.sweep.checkpoint.every_epochs,
            threads=max(1, int(resources.cpus_per_trial)),
            device=self.device,
            # "auto" is resolved when a run is planned; whatever was not planned is not in bf16.
            precision="bf16" if resources.precision == "bf16" else "fp32",
            suggestions=self._not_carried(),
        )

    def _not_carried(self) -> list[dict[str, Any]]:
        """Return the suggestions that would be lost with this disk, as a checkpoint's manifest can save them."""
        if self.mirror.remote is None:
            return []
        self._suggested = [event for event in self._suggested if event.seq > self.mirror.last_row]
        return [{"trial": event.trial, **event.body} for event in self._suggested]

    # -- what a report means -------------------------------------------------------------------------------------

    def report(self, trial: str, attempt: int, report: Report) -> bool:
        """Commit one epoch and what follows from it.

        Returns:
            Whether the trial must stop now; its end is committed then.

        Raises:
            StaleAttempt: The attempt is not the trial's current one.
        """
        record = self._current(trial, attempt)
        self._clocks.heard(trial, report.elapsed_s)
        rows = [Event("epoch", trial, attempt, report.epoch, epoch_body(report))]
        if report.checkpoint:
            rows.append(Event("checkpoint", trial, attempt, report.epoch, report.checkpoint))
        self._note_value(record, report.epoch, report.metrics.get(self.sweep.metric))
        row = EpochRecord(epoch_body(report), attempt, time.time())
        self._note_constraints(dataclasses.replace(record, epochs={**record.epochs, report.epoch: row}))
        outcome = self._judge(record, report)
        over = self._find_over()
        if over and not self.over:
            rows.append(Event("note", trial, body={"over": over}))
        if outcome and outcome.status == "stopped":
            rows.append(Event("stop", trial, attempt, report.epoch, {"reason": outcome.error}))
            outcome = dataclasses.replace(outcome, error=None)
        if outcome:
            self._clocks.stop(trial)
            rows.append(_end_event(record, outcome))
        try:
            self._commit(*rows)
        finally:  # what was not committed is no part of any curve
            self._forget_values(record, max(record.epochs, default=0))
        self.over = self.over or over
        self.epochs_done += 1
        self.clock.reported()
        self._keeping.clean_up(record)
        return outcome is not None

    def _judge(self, record: TrialRecord, report: Report) -> Outcome | None:
        watched = dict.fromkeys((self.sweep.metric, *LOSSES))
        broken = [name for name in watched if not is_finite(report.metrics.get(name))]
        if broken and self.sweep.failure.non_finite == "fail":
            name = broken[0]
            sentence = f"{name} must be finite, but got ({report.metrics[name]}) at epoch {report.epoch}."
            return Outcome("failed", "config.non_finite", sentence, report.elapsed_s)
        if record.until is not None and report.epoch >= record.until:
            return Outcome("completed", elapsed_s=report.elapsed_s)
        if report.epoch >= self.sweep.max_epochs:
            return None  # it is done anyway: let it return
        curves = self._curves_known_to(record)
        for rule in self.rules:
            reason = rule.decide(self._told_to(rule, curves), record.trial, report.epoch, self.sweep.max_epochs)
            if reason:
                return Outcome("stopped", error=reason, elapsed_s=report.elapsed_s)
        more_s = record.duration_at(report.elapsed_s) - record.duration_s
        if self._stops() and (budget := self._spent(epochs=1, seconds=more_s)):
            return Outcome("stopped", error=budget.reason(), elapsed_s=report.elapsed_s)
        return None

    def _curves_known_to(self, record: TrialRecord) -> dict[str, dict[int, float]]:
        """Return the curves that a trial is compared with, its own included."""
        if not self.sweep.search.deterministic:
            return self._curves
        trials = self.history.trials
        return {
            trial: curve
            for trial, curve in self._curves.items()
            if trial == record.trial or self._asking.may_know(record.proposal, trials[trial].proposal)
        }

    def _find_over(self) -> str | None:
        """Return why a rule ends the whole sweep."""
        return next(filter(None, (rule.over(self._told_to(rule, self._curves)) for rule in self.rules)), None)

    def _told_to(self, rule: Rule, curves: dict[str, dict[int, float]]) -> dict[str, dict[int, float]]:
        """Return the curves that a rule is told of; see Rule.feasible_only, and `ranking` for repeats."""
        if not rule.feasible_only or not self._breaking:
            return curves
        trials = self.history.trials
        proposals = {trials[trial].proposal for trial in self._breaking}
        return {trial: curve for trial, curve in curves.items() if trials[trial].proposal not in proposals}

    def _note_constraints(self, record: TrialRecord) -> None:
        if record.constraints and self._curves.get(record.trial) and record.broken(self.sweep.metric, self.sweep.mode):
            self._breaking.add(record.trial)
        else:
            self._breaking.discard(record.trial)

    def _note_value(self, record: TrialRecord, epoch: int, value: float | None) -> None:
        if value is None:
            return
        signed = self._sign * value
        self._curves.setdefault(record.trial, {})[epoch] = signed if math.isfinite(signed) else math.inf

    def _forget_values(self, record: TrialRecord, start_epoch: int) -> None:
        curve = self._curves.get(record.trial, {})
        self._curves[record.trial] = {epoch: value for epoch, value in curve.items() if epoch <= start_epoch}
        self._note_constraints(record)

    # -- what an end means ---------------------------------------------------------------------------------------

    def end(self, trial: str, attempt: int, outcome: Outcome) -> None:
        """Commit how an attempt ended; one lost to infrastructure waits to be tried again.

        Raises:
            StaleAttempt: The attempt is not the trial's current one.
        """
        self._end(self._current(trial, attempt), outcome)

    def _end(self, record: TrialRecord, outcome: Outcome) -> None:
        self._clocks.stop(record.trial)
        if outcome.status == "completed" and (missing := self._never_reported(record)):
            outcome = dataclasses.replace(outcome, status="failed", cause="config.metric", error=missing)
        if outcome.cause == STORAGE and self._halt(self._unwritable(outcome)):
            # No trial's fault, nor anything that trying again would help: it goes on at a resume.
            outcome = dataclasses.replace(outcome, status="interrupted")
        elif self._is_tried_again(record, outcome.cause):
            outcome = dataclasses.replace(outcome, status="pending")
        elif outcome.cause == "infrastructure.worker_lost":
            # The same config took every worker down with it: that is the config's fault.
            lost = record.infrastructure_failures + 1
            often = "once" if lost == 1 else f"{lost} times"
            sentence = f"its worker died {often}, so the config is held to be the cause."
            outcome = dataclasses.replace(outcome, cause="config.raised", error=sentence)
        self._commit(_end_event(record, outcome))
        if record.status not in FINISHED:
            self._waiting.append(record)
        self._keeping.clean_up(record)

    def _never_reported(self, record: TrialRecord) -> str | None:
        """Return which metric of a constraint or an objective is missing; what a study compares with may lack it."""
        if record.stage not in COMPARED:
            return None
        asked = {one.name: "sweep.constraints" for one in record.constraints}
        asked |= dict.fromkeys(self.history.objectives, "sweep.objectives")
        known = (EPOCH_S,) if record.params is None else DERIVED
        wanted = {name: key for name, key in asked.items() if name not in known}
        reported = dict.fromkeys(name for row in record.epochs.values() for name in row.metrics) if wanted else {}
        return never_reported(wanted, list(reported))

    def _is_tried_again(self, record: TrialRecord, cause: str | None) -> bool:
        if cause == "timeout":  # once: a machine may stand still, but a config that hangs twice is not tried again
            return record.timeouts < min(1, self.sweep.failure.max_retries)
        infrastructure = cause is not None and cause.startswith("infrastructure.")
        return infrastructure and record.infrastructure_failures < self.sweep.failure.max_retries

    def _unwritable(self, outcome: Outcome) -> str | None:
        """Return why the run folder takes no more files; None where only this attempt had no room for its own."""
        why = self._lacking(self.running)
        return why or (failed(self.run, outcome.error or "") if outcome.unwritable else None)

    def postpone(self, trial: str, attempt: int) -> None:
        """Commit that an attempt never began, since its worker could not be had; another is the next to begin.

        Raises:
            StaleAttempt: The attempt is not the trial's current one.
        """
        record = self._current(trial, attempt)
        self._clocks.stop(trial)
        self._commit(_end_event(record, Outcome("interrupted")))
        self._waiting.insert(0, record)

    def lose_all(self, *, blame: bool) -> None:
        """Commit that every attempt lost its worker at once; all are to be tried again.

        Args:
            blame: Count it as a failure of the infrastructure against max_retries; otherwise it costs no retry.
        """
        for record in [record for record in self.history.trials.values() if record.status == "running"]:
            if blame:
                self._end(record, Outcome("failed", "infrastructure.node_lost", "its node was lost."))
            else:
                self.postpone(record.trial, record.attempts)

    def interrupt(self) -> None:
        """Commit that the attempts now running were interrupted; a resume continues them."""
        assert self.journal is not None
        interrupt(self.history, self.journal)

    def begun(self, trial: str, attempt: int) -> None:
        """Note that an attempt has its worker: from now on, silence counts. Until then it waits for one."""
        if self.is_current(trial, attempt):
            self._clocks.start(trial)
            self.clock.turn("training")

    def overdue(self) -> list[tuple[str, int]]:
        """Return every attempt that has been silent for too long."""
        return [(trial, self.history.trials[trial].attempts) for trial in self._clocks.overdue()]

    def hung(self, trial: str) -> Outcome:
        """Return the end of an attempt that has been silent for too long."""
        sentence, elapsed_s = self._clocks.verdict(trial)
        return Outcome("failed", "timeout", sentence, elapsed_s)

    def epoch_limit_s(self) -> float | None:
        """Return how long an epoch may take now, in seconds; None before any is known."""
        return self._clocks.limit_s()

    def is_current(self, trial: str, attempt: int) -> bool:
        """Return whether this attempt is running and the trial's newest."""
        record = self.history.trials.get(trial)
        return record is not None and record.attempts == attempt and record.status == "running"

    def _current(self, trial: str, attempt: int) -> TrialRecord:
        if not self.is_current(trial, attempt):
            raise StaleAttempt(f"{trial}: attempt {attempt} is over, so what it sends does not count.")
        return self.history.trials[trial]

    def observations(self) -> list[Observation]:
        """Return one observation a config of this stage, in the order of the proposals: the mean over its repeats."""
        return self._asking.observations()

    def tidy(self) -> None:
        """Do for finished trials what a driver, killed just before it could, has left undone."""
        self._keeping.tidy()

    def _warn(self, record: TrialRecord, warning: str) -> None:
        self._commit(Event("note", record.trial, body={"warning": warning}))

    def _commit(self, *events: Event) -> None:
        assert self.journal is not None, "a driver that only looks commits nothing"
        with self._hold():
            committed = self.journal.append(*events)
            for event in committed:
                self.history.add(event)
            if self.mirror.remote is not None:
                self._suggested += [event for event in committed if event.kind == "suggestion"]
        for event in committed:
            self._on_event(event)


def interrupt(history: History, journal: Journal) -> None:
    """Commit that the attempts now running were interrupted; a resume continues them."""
    running = [record for record in history.trials.values() if record.status == "running"]
    if running:
        for event in journal.append(*(_end_event(record, Outcome("interrupted")) for record in running)):
            history.add(event)


def seed_of(sweep: Sweep, repeat: int) -> int:
    """Return the seed of a repeat, from 0: every config meets the same, so that configs are compared on equal terms."""
    return derive_seed(sweep.seed, "repeat", repeat) % 2**31  # as NumPy and scikit-learn take it


def _attempt_event(trial: str, attempt: int, start_epoch: int) -> Event:
    return Event("attempt", trial, attempt, body={"start_epoch": start_epoch})


def _end_event(record: TrialRecord, outcome: Outcome) -> Event:
    body = {**outcome.to_dict(), "log": f"logs/{record.trial}-{record.attempts}.log"}
    del body["unwritable"]
    return Event("end", record.trial, record.attempts, body=body)
