"""Which files of a run stay: checkpoints, and the predictions of the epochs that are over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tuner import checkpoints
from tuner.backends.stage import COMPARED
from tuner.history import FINISHED, CheckpointRecord, History, TrialRecord, pareto, ranking
from tuner.mirror import Mirror
from tuner.spec import Sweep


class Keeping:
    """Keeps what a running trial goes on from and what the best configs came to, and deletes the rest.

    Args:
        sweep: The frozen sweep.
        run: The run folder.
        history: What its journal holds, kept up to date by the driver.
        mirror: What carries a run on a URI.
        warn: Commits a warning about a trial.
    """

    def __init__(
        self, sweep: Sweep, run: Path, history: History, mirror: Mirror, warn: Callable[[TrialRecord, str], None]
    ) -> None:
        self._sweep, self._run, self._history, self._mirror, self._warn = sweep, run, history, mirror, warn

    def newest_valid(self, record: TrialRecord) -> CheckpointRecord | None:
        """Return the newest checkpoint of a trial that is whole; None where none is."""
        for kept in reversed(record.checkpoints):
            self._mirror.fetch(kept.path)
            try:
                checkpoints.verify(self._run, kept)
            except checkpoints.DamagedCheckpoint as error:
                self._warn(record, f"{error} An earlier one is used.")
            else:
                return kept
        return None

    def clean_up(self, record: TrialRecord) -> None:
        """Delete what a trial's newest epoch, or its end, has made superfluous."""
        if record.status in FINISHED:
            self._gather(record)
        self._prune(record)
        if record.status in FINISHED:
            self._mirror.tidy(record, _names(record))

    def tidy(self) -> None:
        """Do for finished trials what a driver, killed just before it could, has left undone."""
        finished = [record for record in self._history.trials.values() if record.status in FINISHED]
        for record in finished:
            self._gather(record)
        if kept := [record for record in finished if record.checkpoints]:
            self._prune(kept[-1])
        self._mirror.tidy_all((record, _names(record)) for record in finished)

    def _prune(self, record: TrialRecord) -> None:
        """Keep `keep` checkpoints of a running trial, and its best epoch's; of the finished, the best configs'."""
        metric, mode, keep = self._sweep.metric, self._sweep.mode, self._sweep.checkpoint.keep
        if not record.checkpoints:
            return
        if record.status not in FINISHED:
            self._keep(record, record.checkpoints[-keep:])
            return
        if record.stage == "final":
            self._keep(record, record.checkpoints[-1:], best=False)
            return
        records = [other for other in self._history.trials.values() if other.stage != "final"]
        unfinished = {other.proposal for other in records if other.status not in FINISHED}
        if records[-1].stage in COMPARED and repeats_left(records, self._sweep.search.repeats):
            unfinished.add(records[-1].proposal)
        # A config whose repeats are not over may yet fall behind: it neither loses a checkpoint nor costs another one.
        over = [other for other in records if other.proposal not in unfinished]
        best = {ranked.trial.trial for ranked in ranking(over, metric, mode)[:keep]}
        if objectives := self._history.objectives:
            best |= {one.ranked.trial.trial for one in pareto(over, metric, mode, objectives)}
        for other in over:
            if other.checkpoints:
                self._keep(other, [], best=other.trial in best)

    def _keep(self, record: TrialRecord, keep: list[CheckpointRecord], best: bool = True) -> None:
        epoch = record.best_epoch(self._sweep.metric, self._sweep.mode) if best else None
        kept = [*keep, *(row for row in record.checkpoints if row.epoch == epoch and row not in keep)]
        checkpoints.prune(self._run, record.trial, kept, record.attempts)
        self._mirror.forget(row.path for row in record.checkpoints if row not in kept)
        record.checkpoints = sorted(kept, key=lambda row: row.epoch)

    def _gather(self, record: TrialRecord) -> None:
        try:
            damaged = checkpoints.gather_predictions(self._run, record)
        except OSError:  # such as a full disk: all of them stay where they are, for the next driver
            return
        for path in damaged:
            self._warn(record, f"{path}: an epoch's predictions cannot be read; its metrics are in the journal.")


def repeats_left(records: list[TrialRecord], repeats: int) -> bool:
    """Return whether the newest config is still to be trained again, with another seed."""
    return sum(record.proposal == records[-1].proposal for record in records) < repeats


def _names(record: TrialRecord) -> list[str]:
    return [Path(kept.path).name for kept in record.checkpoints]
