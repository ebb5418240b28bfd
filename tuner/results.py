"""Data frames and the best config, out of a run folder's journal. Imports neither torch nor ray."""

from __future__ import annotations

import datetime
import fcntl
import functools
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import journal
from tuner.errors import RunError, TunerError, nearest
from tuner.history import FINISHED, History, TrialRecord, ranking

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
        from tuner.frames import trials_frame

        return trials_frame(self.trial_rows())

    @functools.cached_property
    def epochs(self) -> pd.DataFrame:
        """One row a (trial, epoch), the accepted one."""
        from tuner.frames import epochs_frame

        return epochs_frame(self.epoch_rows())

    def records(self) -> list[TrialRecord]:
        """Every trial in the order of their numbers."""
        return sorted(self.history.trials.values(), key=lambda record: record.number)

    def status_of(self, record: TrialRecord) -> str:
        """Return a trial's state; one that its driver left behind when it died is interrupted."""
        if self.status == "running" or record.status in FINISHED:
            return record.status
        return "interrupted" if record.attempts else "pending"

    def trial_rows(self) -> list[dict[str, Any]]:
        """Return the trials frame's rows as plain dicts, all with the same keys in the frame's order."""
        records = self.records()
        params = _union(record.config for record in records)
        metrics = _union(row.metrics for record in records for row in record.epochs.values())
        return [self._trial_row(record, params, metrics) for record in records]

    def _trial_row(self, record: TrialRecord, params: list[str], metrics: list[str]) -> dict[str, Any]:
        best_epoch = record.best_epoch(self.metric, self.mode)
        best = record.epochs[best_epoch].metrics if best_epoch else {}
        last = record.epochs[max(record.epochs)].metrics if record.epochs else {}
        return {
            "trial": record.trial,
            "number": record.number,
            "stage": record.stage,
            "fold": record.fold,
            "repeat": record.repeat,
            "status": self.status_of(record),
            "cause": record.cause,
            "error": record.error,
            **{f"config.{name}": record.config.get(name) for name in params},
            "best_epoch": best_epoch,
            "epochs": len(record.epochs),
            "seed": record.seed,
            "attempts": record.attempts,
            "worker": record.worker,
            "started_at": _time(record.started_at),
            "duration_s": round(record.duration_s, 3),
            **{f"best.{name}": best.get(name) for name in metrics},
            **{f"last.{name}": last.get(name) for name in metrics},
        }

    def epoch_rows(self) -> list[dict[str, Any]]:
        """Return the epochs frame's rows as plain dicts, all with the same keys in the frame's order."""
        records = self.records()
        metrics = _union(row.metrics for record in records for row in record.epochs.values())
        return [
            {
                "trial": record.trial,
                "number": record.number,
                "epoch": epoch,
                **{name: row.metrics.get(name) for name in metrics},
                "reported_at": _time(row.at),
            }
            for record in records
            for epoch, row in sorted(record.epochs.items())
        ]

    def best(self) -> Best:
        """Return the best completed or stopped trial's config: its best epoch, mean over repeats.

        Raises:
            TunerError: No trial has completed or was stopped with a finite metric.
        """
        ranked = ranking(self.records(), self.metric, self.mode)
        if not ranked:
            raise TunerError(
                f"{self.folder}: no trial has completed with a finite {self.metric}, so there is no best config. "
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

    def counts(self) -> dict[str, int]:
        """Return how many trials are in each state that occurs."""
        counts: dict[str, int] = {}
        for record in self.history.trials.values():
            state = self.status_of(record)
            counts[state] = counts.get(state, 0) + 1
        return counts

    def lost(self) -> int:
        """Return how many trials failed by infrastructure or timeouts: they say nothing of their configs."""
        return sum(_is_lost(record) for record in self.history.trials.values())


def load(run: str | os.PathLike[str]) -> Results:
    """Read any run folder, also one whose sweep is still running.

    Args:
        run: A path, a name in ./runs, or "latest".

    Raises:
        RunError: There is no such run, or its journal is damaged.
    """
    folder = find_run(run)
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


def find_run(run: str | os.PathLike[str], storage: str | os.PathLike[str] = DEFAULT_STORAGE) -> Path:
    """Return the folder of a run given as a path, as a name in `storage`, or as "latest".

    Raises:
        RunError: There is none; the sentence names what was looked for and the nearest name.
    """
    text = os.fspath(run)
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
    remedy = nearest(text, names) or "`tuner ls` lists the runs."
    raise RunError(
        f"{text}: RUN must be a run folder, a name in ./{storage}, or latest, but there is none there. {remedy}"
    )


def run_names(storage: Path) -> list[str]:
    """Return the names of the runs in a storage folder, sorted; empty where the folder is missing."""
    if not storage.is_dir():
        return []
    return sorted(path.name for path in storage.iterdir() if (path / journal.FILE_NAME).is_file())


def is_driven(folder: Path) -> bool:
    """Return whether a live driver holds the run folder's lock (the kernel frees it when a driver dies)."""
    lock = folder / LOCK_NAME
    if not lock.is_file():
        return False
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _changed_at(folder: Path) -> float:
    """Return when the driver last committed: the mark is written after each commit, and by nothing else."""
    mark = folder / journal.MARK_NAME
    return (mark if mark.exists() else folder / journal.FILE_NAME).stat().st_mtime


def _is_lost(record: TrialRecord) -> bool:
    cause = record.cause or ""
    return record.status == "failed" and (cause.startswith("infrastructure.") or cause == "timeout")


def _union(mappings: Any) -> list[str]:
    names: dict[str, None] = {}
    for mapping in mappings:
        names.update(dict.fromkeys(mapping))
    return list(names)


def _time(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="milliseconds")
