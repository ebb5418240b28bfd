"""Data frames and the best config, out of a run folder's journal. Imports neither torch nor ray."""

from __future__ import annotations

import fcntl
import functools
import os
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import journal, pulling
from tuner.budgets import Budget, limits, standing
from tuner.constraints import DERIVED, PARAMS
from tuner.errors import RunError, TunerError, nearest
from tuner.history import FINISHED, RANKED, History, Tradeoff, TrialRecord, pareto, ranking
from tuner.lease_folder import is_driven_elsewhere
from tuner.row_files import Column, infer, to_rows
from tuner.storage import Remote, is_uri, local_path

if TYPE_CHECKING:
    import pandas as pd

LOCK_NAME = "driver.lock"
DEFAULT_STORAGE = "runs"


@dataclass(frozen=True)
class Best:
    """The best config of a sweep.

    Args:
        trial: The trial that stands for it (its best repeat).
        number: That trial's number.
        config: The config.
        metric: The sweep's metric.
        value: The metric at the best epoch, mean over the config's repeats.
        epoch: The best epoch of `trial`.
        metrics: All metrics of `trial` at that epoch.
        repeats: How many repeats the mean is over.
        of: How many configs it was chosen from; the more, the more optimistic its value.
    """

    trial: str
    number: int
    config: dict[str, Any]
    metric: str
    value: float
    epoch: int
    metrics: dict[str, float | None]
    repeats: int
    of: int


@dataclass(frozen=True)
class Results:
    """What a run folder's journal says.

    Args:
        folder: The run folder.
        history: Every trial, folded from the journal.
        metric: The sweep's metric.
        mode: "max" or "min".
        max_epochs: The most epochs a trial may train.
        status: "running", "completed", "failed" (no trial completed) or "interrupted".
        sweep: The frozen sweep's tables, as plain dicts.
    """

    folder: Path
    history: History
    metric: str
    mode: str
    max_epochs: int
    status: str
    sweep: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @functools.cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial, in the order of their numbers; see frame columns in docs/frames.md."""
        from tuner.frames import to_frame

        return to_frame(self.trial_columns())

    @functools.cached_property
    def epochs(self) -> pd.DataFrame:
        """One row a (trial, epoch), the accepted one."""
        from tuner.frames import to_frame

        return to_frame(self.epoch_columns())

    def records(self) -> list[TrialRecord]:
        """Every trial in the order of their numbers."""
        return sorted(self.history.trials.values(), key=lambda record: record.number)

    def status_of(self, record: TrialRecord) -> str:
        """Return a trial's state; one that its driver left behind when it died is interrupted."""
        if self.status == "running" or record.status in FINISHED:
            return record.status
        return "interrupted" if record.attempts else "pending"

    def trial_rows(self) -> list[dict[str, Any]]:
        """Return the trials frame's rows as JSON has them, all with the same keys in the frame's order."""
        return to_rows(self.trial_columns())

    @journal.uncollected()
    def trial_columns(self) -> list[Column]:
        """Return the trials frame's columns."""
        records = self.records()
        best_epochs = [record.best_epoch(self.metric, self.mode) for record in records]
        at_best = [r.epochs[epoch].metrics if epoch else {} for r, epoch in zip(records, best_epochs, strict=True)]
        at_last = [record.epochs[max(record.epochs)].metrics if record.epochs else {} for record in records]
        params = _union(record.config for record in records)
        metrics = _union(row.body["metrics"] for record in records for row in record.epochs.values())
        return [
            Column("trial", "text", [record.trial for record in records]),
            Column("number", "int", [record.number for record in records]),
            Column("stage", "text", [record.stage for record in records]),
            Column("fold", "int", [record.fold for record in records], gaps=True),
            Column("repeat", "int", [record.repeat for record in records]),
            Column("status", "text", [self.status_of(record) for record in records]),
            Column("cause", "text", [record.cause for record in records]),
            Column("error", "text", [record.error for record in records]),
            *(infer(f"config.{name}", [record.config.get(name) for record in records]) for name in params),
            Column("best_epoch", "int", best_epochs, gaps=True),
            Column("epochs", "int", [len(record.epochs) for record in records]),
            Column("seed", "int", [record.seed for record in records]),
            Column("attempts", "int", [record.attempts for record in records]),
            Column("worker", "text", [record.worker for record in records]),
            Column("started_at", "time", [record.started_at for record in records]),
            Column("duration_s", "float", [round(record.duration_s, 3) for record in records]),
            *(Column(f"best.{name}", "float", [row.get(name) for row in at_best]) for name in metrics),
            *(Column(f"last.{name}", "float", [row.get(name) for row in at_last]) for name in metrics),
            *self._constrained(records, metrics),
        ]

    def _constrained(self, records: list[TrialRecord], metrics: list[str]) -> Iterator[Column]:
        """Yield, with constraints or objectives, what they ask for that no epoch reported, and what holds."""
        asked = {constraint.name for constraint in self.history.constraints}
        for name in DERIVED:
            if name in asked | set(self.history.objectives) and name not in metrics:
                values = [record.at_best(name, self.metric, self.mode) for record in records]
                yield Column(f"best.{name}", "float", values)
        if self.history.objectives:
            front = {one.ranked.trial.proposal for one in self.pareto()}
            ranked = [record.status in RANKED and record.stage in ("search", "refine") for record in records]
            on = [record.proposal in front if known else None for record, known in zip(records, ranked, strict=True)]
            yield Column("pareto", "bool", on, gaps=True)
        if asked:
            yield Column("feasible", "bool", [self.is_feasible(record) for record in records], gaps=True)

    def pareto(self) -> list[Tradeoff]:
        """Return the configs that none is better than in one objective and no worse in any, best metric first."""
        return pareto(self.records(), self.metric, self.mode, self.history.objectives)

    def is_feasible(self, record: TrialRecord) -> bool | None:
        """Return whether a trial meets the sweep's constraints; None where that is not known, as before its end."""
        if record.status in RANKED:
            return record.broken(self.metric, self.mode) is None
        known = [one for one in record.constraints if one.name == PARAMS and record.params is not None]
        return False if any(not one.holds(record.params) for one in known) else None

    @journal.uncollected()
    def epoch_columns(self) -> list[Column]:
        """Return the epochs frame's columns."""
        owners = [record for record in self.records() for _ in record.epochs]
        epochs = [epoch for record in self.records() for epoch in sorted(record.epochs)]
        rows = [record.epochs[epoch] for record, epoch in zip(owners, epochs, strict=True)]
        told = [row.body["metrics"] for row in rows]
        metrics = _union(told)
        return [
            Column("trial", "text", [record.trial for record in owners]),
            Column("number", "int", [record.number for record in owners]),
            Column("epoch", "int", epochs),
            *(Column(name, "float", [values.get(name) for values in told]) for name in metrics),
            Column("reported_at", "time", [row.at for row in rows]),
        ]

    def best(self) -> Best:
        """Return the best completed or stopped trial's config: its best epoch, mean over repeats.

        Raises:
            TunerError: No trial has completed or was stopped with a finite metric.
        """
        ranked = ranking(self.records(), self.metric, self.mode)
        if not ranked:
            met = " that meets the constraints" if self.history.constraints else ""
            raise TunerError(
                f"{self.folder}: no trial{met} has completed with a finite {self.metric}, so there is no best config. "
                f"See what happened: tuner show {self.folder}"
            )
        top = ranked[0]
        epoch = top.trial.best_epoch(self.metric, self.mode)
        assert epoch is not None  # a ranked trial has a best epoch
        return Best(
            trial=top.trial.trial,
            number=top.trial.number,
            config=top.trial.config,
            metric=self.metric,
            value=top.value,
            epoch=epoch,
            metrics=dict(top.trial.epochs[epoch].metrics),
            repeats=top.repeats,
            of=len(ranked),
        )

    def retrained(self) -> TrialRecord | None:
        """Return the first trial of the config that a study has retrained and tested, or None before that."""
        told = [note["test_scores"]["winner"] for note in self.history.notes if "test_scores" in note]
        return next((record for record in self.records() if told and record.proposal == told[-1]), None)

    def counts(self) -> dict[str, int]:
        """Return how many trials are in each state that occurs."""
        counts: dict[str, int] = {}
        for record in self.history.trials.values():
            state = self.status_of(record)
            counts[state] = counts.get(state, 0) + 1
        return counts

    def budgets(self) -> list[Budget]:
        """Return what is spent and left of each budget, as the newest resume has set it; of seconds, this session's."""
        now = time.time() if self.status == "running" else None
        return standing(limits(self.sweep.get("resources", {}), self.history.overrides), self.history, now)

    def lost(self) -> int:
        """Return how many trials failed by infrastructure or timeouts: they say nothing of their configs."""
        return sum(_is_lost(record) for record in self.history.trials.values())


def load(run: str | os.PathLike[str], wanted: pulling.Wanted = pulling.results) -> Results:
    """Read any run folder, also one whose sweep is still running.

    Args:
        run: A path, a storage URI, a name in ./runs, or "latest".
        wanted: Of a run at a URI, what to bring here beside its journal.

    Raises:
        RunError: There is no such run, its storage cannot be read, or its journal is damaged.
    """
    folder = find_run(run, wanted=wanted)
    driven = is_driven(folder)  # first: a driver that ends in between has said so in the journal
    history = journal.read_history(folder / journal.FILE_NAME)
    if not history.sweep_toml:
        raise RunError(f"{folder}: the journal holds no sweep yet. Wait a moment, or start it again with `tuner run`.")
    return from_history(folder, history, driven)


def from_history(folder: Path, history: History, running: bool) -> Results:
    """Return the results of a history already folded.

    Args:
        folder: The run folder.
        history: Its trials.
        running: Whether a driver is at work on it.
    """
    sweep = tomllib.loads(history.sweep_toml)
    head = sweep["sweep"]
    return Results(
        folder=folder,
        history=history,
        metric=head["metric"],
        mode=head["mode"],
        max_epochs=head["max_epochs"],
        status="running" if running else history.finished or "interrupted",
        sweep=sweep,
    )


def find_run(
    run: str | os.PathLike[str],
    storage: str | os.PathLike[str] = DEFAULT_STORAGE,
    wanted: pulling.Wanted = pulling.small,
) -> Path:
    """Return the folder of a run given as a path, a storage URI, a name in `storage`, or as "latest".

    Args:
        run: The run. One at a URI is brought to a folder of this account's cache, as it is there now, unless its driver
            is at work on this machine: then it is the driver's own folder.
        storage: Where names are looked for.
        wanted: Of a run at a URI, what to bring here beside its journal.

    Raises:
        RunError: There is none, or its storage cannot be read; the sentence names what was looked for and the nearest
            name.
    """
    if is_uri(run):
        return _brought(Remote(os.fspath(run)), wanted)
    text = str(local_path(run)) if os.fspath(run).startswith("file://") else os.fspath(run)
    names = run_names(Path(storage))
    if text == "latest":
        if not names:
            raise RunError(
                f'{storage}: RUN = "latest" needs a run here, but there is none. Start one: tuner run SWEEP.'
            )
        return max((Path(storage) / name for name in names), key=_changed_at)
    for folder in (Path(text), Path(storage) / text):
        if (folder / journal.FILE_NAME).is_file():
            return folder
    for folder in (Path(text), Path(storage) / text):
        if (folder / LOCK_NAME).is_file():
            raise RunError(
                f"{folder}: it was ended before its first row was committed, so there is nothing to go on with. "
                f"Start it again: tuner run SWEEP --storage {folder.parent} --name {folder.name}"
            )
    close = nearest(text, [*names, "latest"]) if names else ""
    remedy = close if close.startswith("Did") else nearest(text, names) or "`tuner ls` lists the runs."
    raise RunError(
        f"{text}: RUN must be a run folder, a name in {storage}, or latest, but there is none there. {remedy}"
    )


def _brought(remote: Remote, wanted: pulling.Wanted) -> Path:
    driven = pulling.cache_folder(remote, "runs")
    if _is_locked(driven):
        return driven
    folder = pulling.cache_folder(remote, "read")
    pulling.renew(remote, folder, wanted)
    return folder


def run_names(storage: Path) -> list[str]:
    """Return the names of the runs in a storage folder, sorted; empty where the folder is missing."""
    if not storage.is_dir():
        return []
    return sorted(path.name for path in storage.iterdir() if (path / journal.FILE_NAME).is_file())


def is_driven(folder: Path) -> bool:
    """Return whether a live driver holds the run folder's lock, or, on another host, a lease that has not ended."""
    return _is_locked(folder) or is_driven_elsewhere(folder)


def _is_locked(folder: Path) -> bool:
    lock = folder / LOCK_NAME
    if not lock.is_file():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return isinstance(error, BlockingIOError)  # else there are no locks here, and so no driver
        return False


def _changed_at(folder: Path) -> float:
    """Return when the driver last committed: the mark is written after each commit, and by nothing else."""
    mark = folder / journal.MARK_NAME
    return (mark if mark.exists() else folder / journal.FILE_NAME).stat().st_mtime


def _is_lost(record: TrialRecord) -> bool:
    cause = record.cause or ""
    return record.status == "failed" and (cause.startswith("infrastructure.") or cause == "timeout")


def _union(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return every key once, in the order of first appearance."""
    kinds = dict.fromkeys(tuple(mapping) for mapping in mappings)  # few: most trials have the same keys
    return list(dict.fromkeys(name for kind in kinds for name in kind))
