"""The benchmark's figures, drawn from its JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Told apart without red and green alone (Okabe and Ito); what is not named is grey.
COLOURS = {
    "auto": "#000000",
    "hyperopt": "#0072B2",
    "hyperopt.fmin tpe": "#56B4E9",
    "Ray HyperOptSearch": "#009E73",
    "optuna.Study": "#E69F00",
    "gp": "#CC79A7",
    "optuna": "#8B4513",
    "random": "#999999",
    "quasi_random": "#D55E00",
    "anneal": "#6A3D9A",
    "hyperopt.fmin anneal": "#6A3D9A",
    "hyperopt.fmin rand": "#999999",
}
DASHED = {"hyperopt.fmin tpe", "hyperopt.fmin anneal", "hyperopt.fmin rand", "optuna.Study", "Ray HyperOptSearch"}
FLOOR = 1e-5  # regrets below it are drawn there
COLUMNS, LEGEND_COLUMNS = 3, 5


def draw_all(found: dict[str, Any], folder: Path) -> list[Path]:
    """Draw every figure into a folder; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {f"regret_{w}.png": draw_regret(found, str(w)) for w in found["facts"]["concurrency"]}
    first = str(found["facts"]["concurrency"][0])
    if len(found["competitors"]) > 2:
        figures["ranks.png"] = draw_ranks(found, first)
    if found.get("stopping"):
        figures["stopping.png"] = draw_stopping(found["stopping"])
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=100)
        plt.close(figure)
    return [folder / name for name in figures]


def draw_regret(found: dict[str, Any], workers: str) -> Figure:
    """Draw the median regret after each trial, one panel a task."""
    tasks = list(found["curves"])
    rows = math.ceil(len(tasks) / COLUMNS)
    head = 0.6 + 0.22 * math.ceil(len(found["competitors"]) / LEGEND_COLUMNS)  # inches: the title and the legend
    height = 2.5 * rows + head
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(11, height), sharex=True, squeeze=False)
    for axis in axes.flat[len(tasks) :]:
        axis.set_axis_off()
    for axis, task in zip(axes.flat, tasks, strict=False):
        _regret_panel(axis, task, found["curves"][task], workers)
    for axis in axes[:, 0]:
        axis.set_ylabel("regret")
    for column in range(COLUMNS):
        shown = [axis for axis in axes[:, column] if axis.axison]
        if shown:
            shown[-1].set_xlabel("trials ended")
            shown[-1].tick_params(labelbottom=True)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    below_title = (0.5, 1 - 0.35 / height)
    figure.legend(handles, labels, loc="upper center", ncols=LEGEND_COLUMNS, frameon=False, bbox_to_anchor=below_title)
    seeds = found["facts"]["seeds"]
    side = "one worker" if workers == "1" else f"{workers} workers"
    figure.suptitle(
        f"Median regret of {seeds} seeds, {side} (1: the median of random configs; 0: the optimum)", y=1 - 0.15 / height
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - head / height))
    return figure


def _regret_panel(axis: Axes, task: str, curves: dict[str, Any], workers: str) -> None:
    for name, by_workers in curves.items():
        values = [max(value, FLOOR) for value in by_workers[workers]]
        style = "--" if name in DASHED else "-"
        width = 2.2 if name == "auto" else 1.2
        colour = COLOURS.get(name, "#BBBBBB")
        axis.plot(range(1, len(values) + 1), values, style, color=colour, lw=width, label=name)
    axis.set_yscale("log")
    axis.set_title(task, fontsize=10)
    axis.grid(alpha=0.3)


def draw_ranks(found: dict[str, Any], workers: str) -> Figure:
    """Draw mean ranks at each number of trials; a bar joins those that Nemenyi's test cannot tell from the best."""
    ranks = found["ranks"][workers]
    names = found["competitors"]
    height = 0.33 * len(names) + 1.3
    figure, axes = plt.subplots(1, len(ranks), figsize=(4.2 * len(ranks), height), squeeze=False)
    for axis, (trials, told) in zip(axes.flat, ranks.items(), strict=True):
        ordered = sorted(told["mean"].items(), key=lambda item: -item[1])
        places = range(len(ordered))
        colours = [COLOURS.get(name, "#BBBBBB") for name, _ in ordered]
        axis.scatter([rank for _, rank in ordered], places, c=colours, s=45, zorder=3)
        best = ordered[-1][1]
        axis.axvspan(best, best + told["critical_difference"], color="#000000", alpha=0.08, lw=0)
        axis.set_yticks(list(places), [name for name, _ in ordered])
        axis.set_ylim(-0.6, len(ordered) - 0.4)
        axis.set_title(f"{trials} trials (Friedman p = {told['p']:.2g})", fontsize=10)
        axis.set_xlabel("mean rank over tasks")
        axis.grid(axis="x", alpha=0.3)
    tasks = next(iter(ranks.values()))["tasks"]
    figure.suptitle(f"Mean ranks over {tasks} tasks; shaded: not to be told from the best (Nemenyi, 5 %)")
    figure.tight_layout()
    return figure


def draw_stopping(stopping: dict[str, Any]) -> Figure:
    """Draw what each rule loses against what it trains, one point an arrival order, one panel a table."""
    tables = list(next(iter(stopping.values())))
    figure, axes = plt.subplots(1, len(tables), figsize=(3.4 * len(tables), 3.6), squeeze=False)
    for axis, table in zip(axes.flat, tables, strict=True):
        for rule, figures in stopping.items():
            shares = [100 * share for share in figures[table]["epochs_share"]]
            axis.plot(shares, figures[table]["points_lost"], "o", ms=4, alpha=0.6, label=rule)
        axis.axhline(0.5, color="#D55E00", lw=1, ls=":")
        axis.axvline(25, color="#D55E00", lw=1, ls=":")
        axis.set_xlim(0, 100)
        axis.set_ylim(bottom=-0.1)
        axis.set_title(table, fontsize=10)
        axis.set_xlabel("epochs trained (%)")
    axes[0, 0].set_ylabel("points worse than the full budget")
    axes[0, 0].legend(frameon=False, fontsize=9)
    figure.suptitle("Stopping rules with their defaults; dotted: 25 % of the epochs, half a point")
    figure.tight_layout()
    return figure
