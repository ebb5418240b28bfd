"""One trial in full: its config, who proposed it and why, its epochs, and where its log is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from tuner.cli import words
from tuner.cli.columns import Column, lay_out
from tuner.errors import RunError, nearest
from tuner.history import TrialRecord
from tuner.results import Results


def find_trial(results: Results, name: str) -> TrialRecord:
    """Return a trial by its name, such as t0007, or by its number alone.

    Raises:
        RunError: The run has no such trial.
    """
    wanted = f"t{int(name):04d}" if name.isascii() and name.isdecimal() else name
    trials = results.history.trials
    if wanted in trials:
        return trials[wanted]
    has = f"has {words.count(len(trials), 'trial')}" + (f", {min(trials)} to {max(trials)}" if trials else "")
    close = nearest(wanted, trials) if trials and not wanted[1:].isdecimal() else ""
    raise RunError(f"{results.folder}: it {has}, and none is named ({name}). {close}".strip())


def one_trial(results: Results, record: TrialRecord, width: int, at_most: int | None) -> Iterator[Text]:
    """Yield the lines that say everything of one trial.

    Args:
        results: The run's results.
        record: The trial.
        width: The terminal's columns.
        at_most: Epochs that are shown at most, the newest; None: all.
    """
    yield _head(results, record)
    yield Text(f"Proposed by {_proposer(record)}")
    if record.error:
        yield Text(f"{record.cause}: {record.error}" if record.cause else record.error)
    if record.config:
        yield Text()
        wide = max(map(len, record.config))
        for name, value in record.config.items():
            yield Text(f"  {name:{wide}}  {words.value(value)}")
    if record.epochs:
        yield Text()
        yield from _epochs(results, record, width, at_most)
    log = results.folder / "logs" / f"{record.trial}-{record.attempts}.log"
    if log.is_file():
        yield Text()
        yield Text(f"log  {log}")


def to_json_able(results: Results, record: TrialRecord) -> dict[str, Any]:
    """Return what --json prints: the row of the trials frame, who proposed it and why, and its epochs."""
    (row,) = (row for row in results.trial_rows() if row["trial"] == record.trial)
    epochs = [{"epoch": epoch, **record.epochs[epoch].metrics} for epoch in sorted(record.epochs)]
    return {"run": results.name, **row, "by": record.by, "why": record.why, "epochs_reported": epochs}


def _proposer(record: TrialRecord) -> str:
    if record.why.startswith(record.by):
        return record.why
    return f"{record.by}: {record.why}" if record.why else record.by


def _head(results: Results, record: TrialRecord) -> Text:
    status = results.status_of(record)
    told = [words.count(max(record.epochs, default=0), "epoch"), f"in {words.duration(record.duration_s)}"]
    if record.attempts > 1:
        told.append(f"in {record.attempts} attempts")
    place = f", {record.stage}" if record.stage != "search" else ""
    place += f", fold {record.fold}" if record.fold is not None else ""
    place += f", repeat {record.repeat}" if record.repeat > 1 else ""
    style = words.STYLES.get(status, "")
    return Text.assemble((record.trial, "bold"), f" of {results.name}{place}: ", (status, style), f", {' '.join(told)}")


def _epochs(results: Results, record: TrialRecord, width: int, at_most: int | None) -> Iterator[Text]:
    epochs = sorted(record.epochs)
    shown = epochs if at_most is None else epochs[-at_most:]
    best = record.best_epoch(results.metric, results.mode)
    rows = [record.epochs[epoch].metrics for epoch in shown]
    others = [name for name in dict.fromkeys(name for row in rows for name in row) if name != results.metric]
    marks = ["bold green" if epoch == best else "" for epoch in shown]
    columns = [
        Column("epoch", [str(epoch) for epoch in shown], right=True, keep=True, styles=marks),
        Column("", ["best" if epoch == best else "" for epoch in shown], keep=True, styles=marks),
        *(
            Column(name, [words.number(row.get(name)) for row in rows], right=True, keep=name == results.metric)
            for name in (results.metric, *others)
        ),
    ]
    layout = lay_out(columns, width)
    if len(shown) < len(epochs):
        yield Text(f"... {words.count(len(epochs) - len(shown), 'earlier epoch')}: --all", style="dim")
    yield from layout.lines
    if layout.left_out:
        yield Text(f"Not shown for want of room: {', '.join(layout.left_out)}", style="dim")
