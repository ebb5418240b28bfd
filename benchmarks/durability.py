"""What durability costs a report, and how long a large journal takes to open.

    python benchmarks/durability.py [ROUNDS]

Each round measures an epoch's end of one trial of 200 epochs, one after another, as a trainable sees it. Without a
state: trial.report with nothing behind it; with the driver, but nothing kept; with the journal (every row flushed
to the disk). With a state of the default cnn's size: torch.save to a file and a report with nothing behind it, as a
script without this project has it; and the durable way, checkpoint and journal. Then a journal of 10,000 trials x
20 epochs is opened: read as every reading command does, and opened for writing and read, as a resume does; and made
into both frames. Writes benchmarks/results/durability.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import tuner
import tuner.frames  # pandas is no part of a frame's time
from tuner.backends.driver import Driver
from tuner.backends.worker import Job, Report, run_attempt
from tuner.history import Event, History
from tuner.journal import FILE_NAME, Journal, read_history
from tuner.results import Results
from tuner.stopping import make_rules
from tuner.strategies import make_strategy

EPOCHS, TRIALS = 200, 10_000
METRICS = dict.fromkeys(("val_accuracy", "val_loss", "train_loss", "val_f1", "learning_rate", "epoch_s"), 0.25)


class Nowhere:
    """A journal that keeps nothing: what is left is the driver's own work."""

    def append(self, *events: Event) -> list[Event]:
        return [event._replace(at=time.time()) for event in events]


def report_ms(kind: str, folder: Path) -> float:
    """Return the median milliseconds of trial.report over one trial."""
    given = {"model": {"weight": torch.zeros(160_000)}}
    state = given if kind == "checkpoint" else None
    times: list[float] = []

    def train(config: dict[str, Any], trial: tuner.Trial) -> None:
        for epoch in range(1, EPOCHS + 1):
            began = time.perf_counter()
            if kind == "saved":
                torch.save(given, folder / "state.pt")
            trial.report(epoch=epoch, state=state, predictions=None, **METRICS)
            times.append(time.perf_counter() - began)

    sweep = tuner.Sweep(trainable=train, space={"x": 1.0}, metric="val_accuracy", mode="max", max_epochs=EPOCHS)
    with contextlib.ExitStack() as stack:
        journal: Any = Nowhere()
        if kind in ("journal", "checkpoint"):
            journal = stack.enter_context(contextlib.closing(Journal(folder / FILE_NAME)))
            journal.append(Event("sweep", body={"toml": "", "sha256": "", "origin": None}))
        driver = Driver(sweep, folder, History(), make_strategy(sweep), make_rules(sweep), journal=journal)
        job = driver.next()
        assert job is not None
        send: Callable[[Report], bool] = lambda report: driver.report(job.trial, job.attempt, report)  # noqa: E731
        if kind in ("nothing", "saved"):
            send = lambda report: False  # noqa: E731
        outcome = run_attempt(Job(**dataclasses.asdict(job)), train, None, send)
    assert outcome.status == "completed", outcome
    return statistics.median(times) * 1000


def make_journal(folder: Path) -> Path:
    """Write a finished sweep's rows, a trial a transaction; returns the journal's path."""
    with contextlib.closing(Journal(folder / FILE_NAME)) as journal:
        journal.append(Event("sweep", body={"toml": "", "sha256": "", "origin": None}))
        for number in range(1, TRIALS + 1):
            trial = f"t{number:04d}"
            config = {"learning_rate": 0.1 / number, "batch_size": 64, "filters": 32, "dropout": 0.2}
            body = {"number": number, "proposal": number, "stage": "search", "fold": None, "repeat": 1}
            body |= {"config": config, "seed": 1, "by": "random", "why": "random"}
            rows = [Event("suggestion", trial, body=body), Event("attempt", trial, 1, body={"start_epoch": 0})]
            for epoch in range(1, 21):
                values = {name: value + epoch / number for name, value in METRICS.items()}
                rows.append(Event("epoch", trial, 1, epoch, {"metrics": values, "elapsed_s": 1.0, "worker": "host:1"}))
            end = {"status": "completed", "cause": None, "error": None, "elapsed_s": 20.0, "log": "logs/x.log"}
            journal.append(*rows, Event("end", trial, 1, body=end))
    return folder / FILE_NAME


def resumed(path: Path) -> History:
    """Open a journal as a resume does."""
    with contextlib.closing(Journal(path)) as journal:
        return journal.history()


def timed(action: Callable[[Path], History], path: Path) -> float:
    """Return the seconds an action takes."""
    began = time.perf_counter()
    history = action(path)
    took = time.perf_counter() - began
    assert len(history.trials) == TRIALS
    return took


def framed(path: Path) -> float:
    """Return the seconds that both frames of a history take."""
    head = {"metric": "val_accuracy", "mode": "max", "max_epochs": 20, "status": "completed"}
    results = Results(folder=path.parent, history=read_history(path), sweep={}, **head)  # type: ignore[arg-type]
    began = time.perf_counter()
    shapes = (len(results.trials), len(results.epochs))
    took = time.perf_counter() - began
    assert shapes == (TRIALS, 20 * TRIALS)
    return took


def main() -> None:
    """Measure, print each round, and write the result."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    reports: list[dict[str, float]] = []
    opens: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=".") as home:
        for number in range(rounds):
            folders = {
                kind: Path(home) / f"{kind}-{number}"
                for kind in ("nothing", "driver", "journal", "saved", "checkpoint")
            }
            for folder in folders.values():
                folder.mkdir()
            reports.append({kind: round(report_ms(kind, folder), 3) for kind, folder in folders.items()})
            print("report, ms", reports[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
        (Path(home) / "large").mkdir()
        path = make_journal(Path(home) / "large")
        megabytes = round(path.stat().st_size / 1e6, 1)
        for _ in range(rounds):
            opens.append(
                {
                    "read": round(timed(read_history, path), 3),
                    "resume": round(timed(resumed, path), 3),
                    "frames": round(framed(path), 3),
                }
            )
            print("open, s", opens[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
    result = {
        "what": "median ms of trial.report; seconds to open a journal of 10,000 trials x 20 epochs, and for its frames",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "n": rounds,
        "report_ms": {kind: statistics.median(entry[kind] for entry in reports) for kind in reports[0]},
        "cost_ms": {
            "of rows": round(statistics.median(entry["journal"] - entry["nothing"] for entry in reports), 3),
            "of rows and checkpoints": round(statistics.median(e["checkpoint"] - e["saved"] for e in reports), 3),
        },
        "open_s": {kind: statistics.median(entry[kind] for entry in opens) for kind in opens[0]},
        "journal_mb": megabytes,
        "rounds": {"report_ms": reports, "open_s": opens},
    }
    (Path(__file__).parent / "results").mkdir(exist_ok=True)
    (Path(__file__).parent / "results/durability.json").write_text(json.dumps(result, indent=2) + "\n")
    print(result["report_ms"], result["cost_ms"], result["open_s"])


if __name__ == "__main__":
    main()
