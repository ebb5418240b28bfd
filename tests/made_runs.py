"""Run folders made of literal journal events: what reading commands see, without training anything."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from tuner.history import Event
from tuner.journal import FILE_NAME, Journal

START = 1_750_000_000.0


@dataclasses.dataclass
class Made:
    """One trial: its config, its metric epoch by epoch, and how it ended."""

    config: dict[str, Any]
    values: list[float | None] = dataclasses.field(default_factory=list)
    status: str = "completed"
    cause: str | None = None
    error: str | None = None
    proposal: int | None = None
    repeat: int = 1
    stage: str = "search"
    fold: int | None = None

    def events(self, number: int, metric: str) -> list[Event]:
        trial = f"t{number:04d}"
        suggestion = {
            "number": number,
            "proposal": number if self.proposal is None else self.proposal,
            "stage": self.stage,
            "fold": self.fold,
            "repeat": self.repeat,
            "config": self.config,
            "seed": 1,
            "by": "random",
            "why": "",
        }
        events = [Event("suggestion", trial, body=suggestion)]
        if self.status != "pending":
            events.append(Event("attempt", trial, 1, body={"start_epoch": 0}))
        for epoch, value in enumerate(self.values, start=1):
            metrics = {metric: value, "train_loss": 1.0 / epoch}
            body = {"metrics": metrics, "elapsed_s": 1.5 * epoch, "worker": "host:1"}
            events.append(Event("epoch", trial, 1, epoch, body))
        if self.status not in ("pending", "running"):
            ended = {
                "status": self.status,
                "cause": self.cause,
                "error": self.error,
                "elapsed_s": 1.5 * len(self.values),
            }
            events.append(Event("end", trial, 1, body=ended))
        return events


def failed(config: dict[str, Any], cause: str = "config.raised", error: str = "ValueError: no") -> Made:
    return Made(config, [], "failed", cause, error)


def make_run(
    folder: Path,
    trials: list[Made],
    *,
    finished: str | None = "completed",
    metric: str = "val_accuracy",
    mode: str = "max",
    space: dict[str, Any] | None = None,
    search: int = 24,
    notes: Sequence[dict[str, Any]] = (),
    tables: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
) -> Path:
    """Write a run folder with these trials and return it."""
    folder.mkdir(parents=True)
    sweep = {
        "sweep": {
            **{"name": folder.name, "trainable": "cnn", "metric": metric, "mode": mode, "max_epochs": 10},
            **(head or {}),
        },
        "space": space or {},
        "search": {"trials": search},
        **(tables or {}),
    }
    events = [Event("sweep", body={"toml": tomli_w.dumps(sweep), "sha256": ""})]
    for number, trial in enumerate(trials, start=1):
        events += trial.events(number, metric)
    events += [Event("note", body=note) for note in notes]
    if finished:
        events.append(Event("note", body={"finished": finished}))
    journal = Journal(folder / FILE_NAME)
    journal.append(*(event._replace(at=START + place) for place, event in enumerate(events)))
    journal.close()
    return folder


def tuner(*arguments: str, cwd: Path, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a person would."""
    command = [sys.executable, "-m", "tuner.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **keywords)
