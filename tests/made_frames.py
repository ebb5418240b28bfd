"""Frames of made-up trials, as large and as odd as a test needs."""

from __future__ import annotations

import numpy as np
import pandas as pd

LONG = "a_parameter_whose_name_is_far_too_long_for_any_axis_of_a_figure_"
STATES = ("completed", "completed", "completed", "stopped", "stopped", "failed")
CLASSES = ("true", "cosine with warm restarts and a long name", "step", "constant")


def make_frames(parameters: int = 2, trials: int = 40, epochs: int = 8, *, long: bool = False, seed: int = 0):
    """Return (trials, epochs) as results gives them; parameters take turns as log, linear, whole and choice."""
    rng = np.random.default_rng(seed)
    prefix = LONG if long else "p"
    columns = {f"config.{prefix}{number}": values(rng, number, trials) for number in range(parameters)}
    status = [STATES[number % len(STATES)] for number in range(trials)]
    trained = [
        0 if s == "failed" and n % 2 else int(rng.integers(1, epochs)) if s != "completed" else epochs
        for n, s in enumerate(status)
    ]
    quality = rng.uniform(0.3, 0.95, trials)
    start = pd.Timestamp("2026-01-01", tz="UTC")
    rows = [
        {
            "trial": f"t{n + 1:04d}",
            "number": n + 1,
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "val_accuracy": quality[n] * (1 - 0.7**epoch) + rng.normal(0, 0.01),
            "train_accuracy": 1 - 0.6**epoch,
            "learning_rate": 0.1,
            "reported_at": start + pd.Timedelta(seconds=17 * n + 2 * epoch),
        }
        for n in range(trials)
        for epoch in range(1, trained[n] + 1)
    ]
    frame = pd.DataFrame(rows)
    best = frame.groupby("number")["val_accuracy"].max().reindex(range(1, trials + 1))
    table = pd.DataFrame(
        {
            "trial": [f"t{n + 1:04d}" for n in range(trials)],
            "number": range(1, trials + 1),
            "stage": "search",
            "status": status,
            "cause": ["config.raised" if s == "failed" else None for s in status],
            **columns,
            "epochs": trained,
            "duration_s": [2.0 * count for count in trained],
            "started_at": [start + pd.Timedelta(seconds=17 * n) for n in range(trials)],
            "best.val_accuracy": best.to_numpy(),
        }
    )
    return table, frame


def values(rng, number, trials):
    if number % 4 == 0:
        return 10 ** rng.uniform(-5, 0, trials)
    if number % 4 == 1:
        return rng.uniform(0, 0.6, trials)
    if number % 4 == 2:
        return rng.integers(1, 9, trials)
    return rng.choice(CLASSES, trials)
