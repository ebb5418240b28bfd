"""A run's trials as a leaderboard: ranked ones first, then those at work, then the failed and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from tuner.cli import words
from tuner.cli.columns import Column, lay_out
from tuner.history import TrialRecord, ranking
from tuner.results import Results

# Sentences of failed trials that are shown at most, a cause.
EXAMPLES = 3
_ORDER = ("completed", "stopped", "running", "interrupted", "pending", "failed")


def leaderboard(results: Results, width: int, at_most: int | None) -> Iterator[Text]:
    """Yield the lines of a leaderboard.

    Args:
        results: The run's results.
        width: The terminal's columns; rows never exceed it, where that can be had at all.
        at_most: Rows that are shown at most; None: all.
    """
    yield from _head(results)
    records = ranked_records(results)
    if not records:
        return
    shown = records[:at_most]
    varied, constant = split_parameters(records)
    layout = lay_out(_columns(results, shown, varied), width)
    yield Text()
    yield from layout.lines
    if len(shown) < len(records):
        yield Text(f"... and {words.count(len(records) - len(shown), 'more trial')}: --all", style="dim")
    if layout.left_out:
        yield Text(f"Not shown for want of room: {', '.join(layout.left_out)}", style="dim")
    if constant:
        yield Text()
        yield Text(f"The same in all: {words.config_line(constant)}")
    failures = list(_failures(records, width))
    if failures:
        yield Text()
        yield from failures


def _head(results: Results) -> Iterator[Text]:
    counts = results.counts()
    total = words.count(sum(counts.values()), "trial")
    style = words.STYLES.get(results.status, "")
    yield Text.assemble(
        (results.name, "bold"), ": ", (results.status, style), f", {total}: {words.states(counts)}" if counts else ""
    )
    for budget in results.budgets():
        yield Text(f"Budget: {budget.text()} ({budget.key})")
    ranked = ranking(results.records(), results.metric, results.mode)
    if not ranked:
        met = " that meets the constraints" if results.history.constraints else ""
        yield Text(f"No trial{met} has completed with a finite {results.metric} yet.")
        return
    best = ranked[0]
    epoch = best.trial.best_epoch(results.metric, results.mode)
    mean = f", mean of {best.repeats} repeats" if best.repeats > 1 else ""
    yield Text.assemble(
        "Best: ",
        (f"{results.metric} {words.number(best.value)}", "bold green"),
        f" at epoch {epoch} ({best.trial.trial}{mean}; {words.best_of(len(ranked))})",
    )


def ranked_records(results: Results) -> list[TrialRecord]:
    """Return the trials as they stand in the leaderboard; repeats of a config stand together."""
    records = results.records()
    ranks = {entry.trial.proposal: rank for rank, entry in enumerate(ranking(records, results.metric, results.mode))}

    def place(record: TrialRecord) -> tuple[int, int, int]:
        status = results.status_of(record)
        if status in ("completed", "stopped") and record.proposal in ranks:
            return 0, ranks[record.proposal], record.number
        return 1 + _ORDER.index(status), 0, record.number

    return sorted(records, key=place)


def split_parameters(records: Sequence[TrialRecord]) -> tuple[list[str], dict[str, Any]]:
    """Return the parameters that differ between trials, and the others with their value.

    A parameter that some trials do not have differs.
    """
    names = dict.fromkeys(name for record in records for name in record.config)
    first = records[0].config
    same = {
        name: first[name]
        for name in names
        if all(name in record.config and record.config[name] == first.get(name) for record in records)
    }
    return [name for name in names if name not in same], same


def _columns(results: Results, records: Sequence[TrialRecord], varied: Sequence[str]) -> list[Column]:
    statuses = [results.status_of(record) for record in records]
    repeats = any(record.repeat > 1 for record in records)
    columns = [
        Column("trial", [record.trial for record in records], keep=True),
        Column("status", statuses, keep=True, styles=[words.STYLES.get(status, "") for status in statuses]),
        Column(results.metric, [_best(results, record) for record in records], right=True, keep=True),
        Column("epoch", [_epoch(results, record) for record in records], right=True, keep=True),
    ]
    if repeats:
        columns.insert(3, Column("mean", _means(results, records), right=True, keep=True))
    if results.history.constraints:
        told = {True: "yes", False: "no", None: words.NOTHING}
        columns.append(Column("feasible", [told[results.is_feasible(record)] for record in records], keep=True))
    columns += [_parameter(name, records) for name in varied]
    columns.append(
        Column("time", [words.duration(r.duration_s) if r.duration_s else "-" for r in records], right=True, weight=-1)
    )
    return columns


def _best(results: Results, record: TrialRecord) -> str:
    return words.number(record.best_value(results.metric, results.mode))


def _epoch(results: Results, record: TrialRecord) -> str:
    epoch = record.best_epoch(results.metric, results.mode)
    return f"{epoch}/{max(record.epochs)}" if epoch else "-"


def _means(results: Results, records: Sequence[TrialRecord]) -> list[str]:
    ranked = ranking(results.records(), results.metric, results.mode)
    means = {entry.trial.proposal: words.number(entry.value) for entry in ranked}
    return [means.get(record.proposal, words.NOTHING) for record in records]


def _parameter(name: str, records: Sequence[TrialRecord]) -> Column:
    values = [record.config.get(name) for record in records]
    numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in values if item is not None)
    cells = [words.value(item) for item in values]
    # What took many values is what a person cannot recall, such as the learning rate.
    return Column(name, cells, right=numbers, weight=len(set(cells)))


def _failures(records: Sequence[TrialRecord], width: int) -> Iterator[Text]:
    """Yield what the failed trials said, by cause, each on one line."""
    causes: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.status == "failed":
            causes.setdefault(record.cause or "unknown", []).append(record)
    for cause, failed in sorted(causes.items(), key=lambda item: -len(item[1])):
        yield Text(f"{words.count(len(failed), 'trial')} failed: {cause}", style="red")
        for record in failed[:EXAMPLES]:
            yield Text(f"  {record.trial}  {words.cut(record.error or '', width - len(record.trial) - 4)}")
        if len(failed) > EXAMPLES:
            others = ", ".join(record.trial for record in failed[EXAMPLES:])
            yield Text(f"  and {words.cut(others, width - 6)}", style="dim")
