"""Runs side by side: a row each, the trials that have a config and a seed in common, and overlaid curves."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.analysis import figures
from tuner.errors import UsageError
from tuner.report.findings import Findings, Missing
from tuner.report.images import png
from tuner.results import Results


@dataclass(frozen=True)
class Row:
    """One run.

    Args:
        run: Its name.
        folder: Its folder.
        status: As `tuner show` has it.
        best: Its best value; None where it has none.
        corrected: That with its selection accounted for; None where it cannot be had.
        low: Lower end of the corrected score's 95 % interval.
        high: Upper end.
        why_not_corrected: Why `corrected` is None; "" where it is not.
        trials: How many it has.
        epochs: How many they trained.
        seconds: How long they trained.
    """

    run: str
    folder: str
    status: str
    best: float | None
    corrected: float | None
    low: float | None
    high: float | None
    why_not_corrected: str
    trials: int
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Pair:
    """Two runs on the trials that both have, by config and seed.

    Args:
        one: A run.
        other: Another.
        n: How many such trials.
        difference: Mean of `one` minus `other`, above 0 where `one` is better.
        better: In how many `one` is better.
        worse: In how many it is worse.
    """

    one: str
    other: str
    n: int
    difference: float
    better: int
    worse: int


@dataclass(frozen=True)
class Comparison:
    """Runs of one metric side by side."""

    metric: str
    mode: str
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    findings: tuple[Findings, ...]


def compare_runs(runs: Sequence[Results]) -> Comparison:
    """Return a comparison of two runs or more.

    Raises:
        UsageError: Fewer than two runs, one given twice, or runs of different metrics.
    """
    _check(runs)
    findings = tuple(Findings(results) for results in runs)
    names = labels(runs)
    rows = tuple(_row(name, found) for name, found in zip(names, findings, strict=True))
    values = {name: _values(results) for name, results in zip(names, runs, strict=True)}
    pairs = tuple(_pairs(values, runs[0].mode))
    return Comparison(runs[0].metric, runs[0].mode, rows, pairs, findings)


def _check(runs: Sequence[Results]) -> None:
    if len(runs) < 2:
        raise UsageError(f"tuner compare: two runs or more must be given, but got ({len(runs)}). List runs: tuner ls")
    folders = [results.folder.resolve() for results in runs]
    for results, folder in zip(runs, folders, strict=True):
        if folders.count(folder) > 1:
            raise UsageError(f"tuner compare: each run must be given once, but got ({results.folder}) more than once.")
    kinds = {(results.metric, results.mode) for results in runs}
    if len(kinds) > 1:
        told = ", ".join(f"{results.name}: {results.metric} ({results.mode})" for results in runs)
        raise UsageError(
            f"tuner compare: all runs must have the same metric and mode, but got ({told}). "
            "Compare those of one metric."
        )


def labels(runs: Sequence[Results]) -> list[str]:
    """Return the runs' names; of equal ones, with their folders."""
    names = [results.name for results in runs]
    return [str(r.folder) if names.count(r.name) > 1 else r.name for r in runs]


def _row(name: str, found: Findings) -> Row:
    results, trials = found.results, found.trials
    score = found.corrected
    return Row(
        run=name,
        folder=str(results.folder),
        status=results.status,
        best=found.best.value if found.best else None,
        corrected=None if isinstance(score, Missing) else score.score,
        low=None if isinstance(score, Missing) else score.low,
        high=None if isinstance(score, Missing) else score.high,
        why_not_corrected=score.why if isinstance(score, Missing) else "",
        trials=len(trials),
        epochs=int(trials["epochs"].sum()),
        seconds=float(trials["duration_s"].sum()),
    )


def _values(results: Results) -> dict[tuple[str, int, Any], float]:
    """Return (config, seed, fold) -> best value, of trials that ended with one."""
    found: dict[tuple[str, int, Any], float] = {}
    for record in results.records():
        value = record.best_value(results.metric, results.mode)
        if value is not None and record.status in ("completed", "stopped"):
            found.setdefault((json.dumps(record.config, sort_keys=True), record.seed, record.fold), value)
    return found


def _pairs(values: dict[str, dict[tuple[str, int, Any], float]], mode: str) -> Iterator[Pair]:
    sign = 1.0 if mode == "max" else -1.0
    for one, other in itertools.combinations(values, 2):
        common = [key for key in values[one] if key in values[other]]
        if common:
            gaps = np.array([sign * (values[one][key] - values[other][key]) for key in common])
            yield Pair(one, other, len(common), float(gaps.mean()), int((gaps > 0).sum()), int((gaps < 0).sum()))


def draw(comparison: Comparison, path: Path) -> None:
    """Draw the runs' best value so far, one over the other, as a PNG.

    Raises:
        UsageError: Another suffix, or a place that cannot be written.
    """
    if path.suffix != ".png":
        raise UsageError(f"--out: the file must end in .png, but got ({path}). Write --out compare.png")
    frames = {row.run: (f.trials, f.epochs) for row, f in zip(comparison.rows, comparison.findings, strict=True)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(figures.draw_overlaid(frames, comparison.metric, comparison.mode)))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageError(f"{path}: cannot be written: {why}. Choose another --out.") from error


def to_json_able(comparison: Comparison) -> dict[str, Any]:
    """Return what --json prints."""
    return {
        "metric": comparison.metric,
        "mode": comparison.mode,
        "runs": [dataclasses.asdict(row) for row in comparison.rows],
        "pairs": [dataclasses.asdict(pair) for pair in comparison.pairs],
    }
