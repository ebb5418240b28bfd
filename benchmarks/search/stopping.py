"""Stopping rules on recorded curves: what is found, and how many epochs that takes, over many arrival orders.

The trials of a table start in a seeded random order on a few workers in virtual time; a trial that a rule stops frees
its worker for the next. Beside the recorded tables there are two made ones, in which a rule that trusts early epochs
stops the winner: in the first, epoch 1 says nothing; in the other, those that end best begin slowly.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.search.table_tasks import Row, Table, find_table, table_names
from tuner.stopping import RULES

WORKERS = 4


@dataclass(frozen=True)
class Curves:
    """Curves to stop.

    Args:
        name: Of the table.
        rows: Its trials.
        max_epochs: The most epochs of a trial.
        points: How many points worse than the best a loss is: points of accuracy, or of R2.
    """

    name: str
    rows: Sequence[Row]
    max_epochs: int
    points: Callable[[float], float]


@dataclass(frozen=True)
class Stopped:
    """One replay: the best loss of what was trained, the epochs, and whether the winner was trained to its best."""

    best: float
    epochs: int
    winner_kept: bool


def replay(curves: Curves, rules: Sequence[Any], seed: int, workers: int = WORKERS) -> Stopped:
    """Replay the trials in a random order under stopping rules.

    Args:
        curves: What is trained.
        rules: Asked in order, as the driver does.
        seed: Of the order.
        workers: Trials side by side.
    """
    waiting = list(range(len(curves.rows)))
    random.Random(f"{curves.name} {seed}").shuffle(waiting)
    names = {trial: f"t{number:04d}" for number, trial in enumerate(waiting, 1)}  # in the order of their start
    waiting.reverse()
    seen: dict[str, dict[int, float]] = {}
    running: list[tuple[float, int, int]] = []  # (when, trial, the epoch that it reports then)
    epochs, now = 0, 0.0
    while running or waiting:
        while waiting and len(running) < workers:
            trial = waiting.pop()
            heapq.heappush(running, (now + curves.rows[trial].epoch_s, trial, 1))
        now, trial, epoch = heapq.heappop(running)
        row, name = curves.rows[trial], names[trial]
        if epoch > len(row.curve):
            continue  # it failed before this epoch was reported
        epochs += 1
        seen.setdefault(name, {})[epoch] = row.curve[epoch - 1]
        stopped = any(rule.decide(seen, name, epoch, curves.max_epochs) for rule in rules)
        if not stopped and epoch < curves.max_epochs:
            heapq.heappush(running, (now + row.epoch_s, trial, epoch + 1))
    reached = {trial: min(seen.get(names[trial], {0: math.inf}).values()) for trial in range(len(curves.rows))}
    whole = {trial: loss for trial, loss in reached.items() if not curves.rows[trial].failed}
    winner = min(whole, key=lambda trial: curves.rows[trial].loss)
    return Stopped(min(whole.values()), epochs, reached[winner] <= curves.rows[winner].loss)


def recorded() -> list[Curves]:
    """Return the curves of every recorded table."""
    every = map(find_table, table_names())
    return [Curves(table.name, table.rows, table.max_epochs, points_of(table)) for table in every]


def points_of(table: Table) -> Callable[[float], float]:
    """Return what tells a loss's distance from the table's best in points, of accuracy or of R2."""
    if table.maximised:
        return lambda loss: 100 * (loss - table.optimum)
    frame = pd.read_parquet(table.path, columns=["val_rmse", "val_r2"]).dropna()
    frame = frame[(frame["val_r2"] < 0.9) & (frame["val_r2"] > -1)]
    variance = float((frame["val_rmse"] ** 2 / (1 - frame["val_r2"])).median())
    return lambda loss: 100 * (loss**2 - table.optimum**2) / variance


def made(trials: int = 100, max_epochs: int = 20) -> list[Curves]:
    """Return the two made tables; a loss is in hundredths of a point."""
    return [
        _made("untrained_first_epoch", _untrained, trials, max_epochs),
        _made("crossing_curves", _crossing, trials, max_epochs),
    ]


def _made(name: str, curve: Callable[..., list[float]], trials: int, max_epochs: int) -> Curves:
    rng = np.random.default_rng(7)
    rows = [Row({}, tuple(curve(rng, u, max_epochs)), False, 1.0) for u in np.linspace(0.0, 1.0, trials)]
    best = min(row.loss for row in rows)
    return Curves(name, rows, max_epochs, lambda loss: 100 * (loss - best))


def _untrained(rng: np.random.Generator, u: float, max_epochs: int) -> list[float]:
    """Epoch 1 is the untrained network's, a little worse for those that end best; then ranks hold, but for noise."""
    start = 0.9 + 0.05 * u + rng.normal(0, 0.03)
    floor = 0.5 - 0.4 * u
    later = [floor + (0.9 - floor) * math.exp(-epoch / 2) + rng.normal(0, 0.02) for epoch in range(1, max_epochs)]
    return [start, *later]


def _crossing(rng: np.random.Generator, u: float, max_epochs: int) -> list[float]:
    """Those that end best begin slowly: at epoch 3 all are alike, before it the order is reversed."""
    floor, slowness = 0.5 - 0.4 * u, 1 + 3 * u
    falling = (floor + (1 - floor) * math.exp(-epoch / slowness) for epoch in range(1, max_epochs + 1))
    return [value + rng.normal(0, 0.01) for value in falling]


def measure(rules: Sequence[Any], orders: int, curves: Curves) -> dict[str, Any]:
    """Return what came of replaying one table under rules, over several arrival orders."""
    full = sum(len(row.curve) for row in curves.rows)
    replays = [replay(curves, rules, seed) for seed in range(orders)]
    lost = [float(curves.points(run.best)) for run in replays]
    shares = [run.epochs / full for run in replays]
    return {
        "orders": orders,
        "points_lost": [round(value, 3) for value in lost],
        "epochs_share": [round(value, 4) for value in shares],
        "within_half_a_point": sum(value <= 0.5 for value in lost),
        "within_a_quarter_of_the_epochs": sum(value <= 0.25 for value in shares),
        "both": sum(bool(curves.points(r.best) <= 0.5 and r.epochs / full <= 0.25) for r in replays),
        "winner_kept": sum(bool(run.winner_kept) for run in replays),
        "epochs": full,
        "trials": len(curves.rows),
    }


def measure_all(names: Sequence[str], orders: int) -> dict[str, dict[str, Any]]:
    """Return what each rule, with its defaults, does to each table: rule -> table -> figures."""
    every = [*recorded(), *made()]
    return {name: {curves.name: measure([RULES[name]()], orders, curves) for curves in every} for name in names}
