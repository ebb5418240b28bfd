"""Draw the learning curves of a run: every trial faint and the best in colour; then train against val of the best.

Example: python scripts/learning_curves.py latest
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import tuner

FAINT = {"color": "0.55", "alpha": 0.5, "linewidth": 0.8, "marker": ".", "markersize": 4}
BEST = {"color": "tab:red", "linewidth": 1.8, "marker": ".", "zorder": 3}
TRAIN = {"color": "tab:blue", "linewidth": 1.8, "marker": ".", "linestyle": "--"}


def draw(results: tuner.Results, metric: str) -> Figure:
    """Return the figure.

    Args:
        results: A run with a best trial.
        metric: A column of results.epochs.
    """
    best = results.best()
    figure = Figure(figsize=(11, 4.2), dpi=150, layout="constrained")
    figure.suptitle(results.name, fontsize=11)
    left, right = figure.subplots(1, 2)
    curves = results.epochs[np.isfinite(results.epochs[metric])]
    own = curves[curves["trial"] == best.trial]
    others = [curve for trial, curve in curves.groupby("trial") if trial != best.trial]
    for number, curve in enumerate(others):
        left.plot(curve["epoch"], curve[metric], label="_" if number else f"{len(others)} other trials", **FAINT)
    left.plot(own["epoch"], own[metric], label=f"best ({best.trial})", **BEST)
    dress(left, f"{metric} of every trial", metric)
    left.set_yscale(scale(curves[metric]))

    val, train = pair(metric, own)
    if train:
        right.plot(own["epoch"], own[train], label=train, **TRAIN)
    right.plot(own["epoch"], own[val], label=val, **BEST)
    right.axvline(best.epoch, color="0.7", linewidth=0.8, zorder=0, label=f"best epoch ({best.epoch})")
    dress(right, f"{best.trial}: {'train against val' if train else val}", val.removeprefix("val_"))
    return figure


def pair(metric: str, epochs: pd.DataFrame) -> tuple[str, str | None]:
    """Return a metric on val and on train: the one asked for, else the loss; None where there is no train."""
    for val in (metric, "val_loss"):
        train = val.replace("val_", "train_", 1)
        if val in epochs and train in epochs and train != val:
            return val, train
    return metric, None


def dress(axes: Axes, title: str, unit: str) -> None:
    """Give axes their title, labels, whole epochs, and legend."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="best")


def scale(values: pd.Series[float]) -> str:
    """Return an axis's scale: a logarithmic one where a diverged trial would squash the others to a line."""
    sizes = values.abs()
    if sizes.max() < 100 * sizes.median():
        return "linear"
    return "log" if values.min() > 0 else "symlog"


def main() -> int:
    """Read the arguments, write the figure, print where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", metavar="RUN", help="a run folder, a name in ./runs, or latest")
    parser.add_argument("--metric", help="a column of results.epochs (default: the sweep's metric)")
    parser.add_argument(
        "--out", metavar="PNG", type=Path, help="default: figures/learning_curves.png in the run folder"
    )
    arguments = parser.parse_args()
    try:
        results = tuner.load(arguments.run)
        results.best()
    except tuner.TunerError as error:
        print(error, file=sys.stderr)
        return 2
    metric = arguments.metric or results.metric
    metrics = [name for name in results.epochs if name not in ("trial", "number", "epoch", "reported_at")]
    if metric not in metrics:
        print(f"{results.name}: there is no metric {metric}. Valid: {', '.join(metrics)}.", file=sys.stderr)
        return 2
    path = arguments.out or results.folder / "figures" / "learning_curves.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(results, metric).savefig(path)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
