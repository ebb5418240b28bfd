"""Learning curves, and the best value so far against trials and against time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tuner import words
from tuner.analysis.figures import style
from tuner.analysis.progress import best_by_time, best_so_far, curve_bands

Pairs = NDArray[np.float64]


def draw_learning_curves(
    trials: pd.DataFrame, epochs: pd.DataFrame, metric: str, mode: str, *, best: str | None = None, dark: bool = False
) -> Figure:
    """Draw every trial's curve faintly, the best in colour, and the median with the band from 10 % to 90 %.

    A stopped trial's curve ends with a square, a failed one's is dashed and ends with a cross. The band is of the
    trials that reached an epoch, so it moves where weak ones are stopped.

    Args:
        trials: A trials frame.
        epochs: Its epochs frame.
        metric: A column of `epochs`.
        mode: "max" or "min".
        best: The best trial's name, or None.
        dark: For dark paper.
    """
    curves = _curves(epochs, metric)
    if not curves:
        return style.nothing(dark, f"no trial has reported a finite {metric}")
    colours = style.palette(dark)
    status = dict(zip(trials["trial"], trials["status"], strict=True))
    low, high = style.finite_limits(_span(np.concatenate([curve[:, 1] for curve in curves.values()]))) or (0, 1)
    with style.canvas(3.6, dark) as figure:
        axes = figure.add_subplot()
        for state in style.MARKERS:
            _of_state(axes, [c for t, c in curves.items() if status.get(t) == state], state, dark)
        band = curve_bands(trials, epochs, metric, mode)
        axes.fill_between(band["epoch"], band["low"], band["high"], color=colours.blue, alpha=0.18, linewidth=0,
                          label="10 to 90 %")  # fmt: skip
        axes.plot(band["epoch"], band["median"], color=colours.blue, linewidth=1.6, linestyle=(0, (4, 2)),
                  label="median")  # fmt: skip
        if best in curves:
            axes.plot(*curves[best].T, color=colours.red, linewidth=2.0, marker=".", label=style.name(f"best ({best})"))
        _ends(axes, curves, epochs, (low, high))
        axes.set_xlabel("epoch")
        axes.set_ylabel(style.name(metric, 40))
        style.legend(axes, columns=4)
    return figure


def _curves(epochs: pd.DataFrame, metric: str) -> dict[str, Pairs]:
    """Return each trial's finite (epoch, value)."""
    if metric not in epochs or not len(epochs):
        return {}
    frame = epochs.loc[np.isfinite(epochs[metric].astype(float)), ["trial", "epoch", metric]]
    frame = frame.sort_values(["trial", "epoch"], kind="stable")
    trials = frame["trial"].to_numpy(dtype=object)
    starts = np.flatnonzero(trials[1:] != trials[:-1]) + 1
    parts = np.split(frame[["epoch", metric]].to_numpy(dtype=float), starts)
    return dict(zip(map(str, trials[[0, *starts]]), parts, strict=True)) if len(frame) else {}


def _span(values: NDArray[Any]) -> list[float]:
    """Return the ends of what is shown: a curve that runs away must not flatten the others."""
    low, high = np.quantile(values, [0.02, 0.98])
    reach = 1.5 * (high - low)
    return [float(max(values.min(), low - reach)), float(min(values.max(), high + reach))]


def _of_state(axes: Axes, curves: list[Pairs], state: str, dark: bool) -> None:
    if not curves:
        return
    colours = style.palette(dark)
    colour = colours.faint if state == "completed" else colours.of_status(state)
    faint = max(0.15, min(0.6, 30 / len(curves)))
    dashed = "dashed" if state == "failed" else "solid"
    axes.add_collection(LineCollection(curves, colors=colour, linewidths=0.7, alpha=faint, linestyles=dashed))
    marker = "" if state == "completed" else style.MARKERS[state]
    ends = np.array([curve[-1] for curve in curves])
    size = 3.0 if len(curves) < 200 else 2.0
    axes.plot(*ends.T, marker=marker, linestyle="none", color=colour, markersize=size, alpha=max(faint, 0.4))
    axes.plot([], [], marker=marker, linestyle=dashed, color=colour, linewidth=0.9, markersize=3,
              label=f"{state} ({len(curves)})")  # fmt: skip


def _ends(axes: Axes, curves: Mapping[str, Pairs], epochs: pd.DataFrame, heights: tuple[float, float]) -> None:
    last = float(epochs["epoch"].max())
    axes.set_xlim(1 - 0.02 * last, last + 0.02 * last) if last > 1 else axes.set_xlim(0.5, 1.5)
    axes.set_ylim(*heights)
    style.number_axis(axes.xaxis, whole=True, ticks=8)
    style.number_axis(axes.yaxis)


def draw_train_and_val(epochs: pd.DataFrame, trial: str, metric: str, *, dark: bool = False) -> Figure:
    """Draw one trial's metric on train and on validation; their distance is the gap.

    Args:
        epochs: An epochs frame.
        trial: The trial's name.
        metric: A validation metric; where train has none of its name, the loss is drawn.
        dark: For dark paper.
    """
    own = epochs[epochs["trial"] == trial]
    pairs = [(name, name.replace("val_", "train_", 1)) for name in (metric, "val_loss")]
    val, train = next(((v, t) for v, t in pairs if v != t and v in own and t in own), (metric, None))
    if val not in own or not np.isfinite(own[val].astype(float)).any():
        return style.nothing(dark, f"{trial} has reported no finite {val}")
    colours = style.palette(dark)
    with style.canvas(2.9, dark) as figure:
        axes = figure.add_subplot()
        if train:
            axes.plot(own["epoch"], own[train], color=colours.blue, marker=".", linestyle="--", label=train)
        axes.plot(own["epoch"], own[val], color=colours.red, marker=".", label=style.name(val))
        axes.set_xlabel(style.name(f"epoch of {trial}", 60))
        style.number_axis(axes.xaxis, whole=True, ticks=8)
        style.number_axis(axes.yaxis)
        style.legend(axes)
    return figure


def draw_best_so_far(
    trials: pd.DataFrame, epochs: pd.DataFrame, metric: str, mode: str, *, baseline: float | None = None,
    dark: bool = False,
) -> Figure:  # fmt: skip
    """Draw the best value so far against the number of the trial, and against time.

    Args:
        trials: A trials frame.
        epochs: Its epochs frame.
        metric: The sweep's metric.
        mode: "max" or "min".
        baseline: The baseline's value, or None.
        dark: For dark paper.
    """
    frame, by_time = best_so_far(trials, epochs, metric, mode), best_by_time(trials, epochs, metric, mode)
    if not np.isfinite(frame["value"]).any():
        return style.nothing(dark, f"no trial has reported a finite {metric}")
    colours = style.palette(dark)
    with style.canvas(3.4, dark) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _by_trial(left, frame, mode, dark)
        # Until the last report, so that a long time without progress is seen.
        end = max(float(frame["elapsed_s"].max()), float(by_time["elapsed_s"].max()))
        unit, factor = _unit(end)
        right.step([*by_time["elapsed_s"] * factor, end * factor], [*by_time["best"], by_time["best"].iloc[-1]],
                   where="post", color=colours.blue, linewidth=1.8)  # fmt: skip
        right.set_xlabel(f"time since the start ({unit})")
        right.set_xlim(0, None)
        for axes in (left, right):
            style.number_axis(axes.xaxis, ticks=5, whole=axes is left)
            if baseline is not None and math.isfinite(baseline):
                axes.axhline(baseline, color=colours.muted, linestyle=":", linewidth=1.2)
        if baseline is not None:
            left.plot([], [], color=colours.muted, linestyle=":", label="baseline")
        left.set_ylabel(style.name(metric, 40))
        style.number_axis(left.yaxis)
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=5)
    return figure


def _by_trial(axes: Axes, frame: pd.DataFrame, mode: str, dark: bool) -> None:
    """Draw a mark a trial; the weakest fifth lies on the worse edge, so that there is room where it matters."""
    colours, values = style.palette(dark), frame["value"].to_numpy(dtype=float)
    known = values[np.isfinite(values)]
    worst, best = (np.quantile(known, 0.2), known.max()) if mode == "max" else (np.quantile(known, 0.8), known.min())
    low, high = style.finite_limits(sorted([float(worst), float(best)])) or (0.0, 1.0)
    edge = low if mode == "max" else high
    heights = np.clip(np.where(np.isfinite(values), values, edge), low, high)
    numbers = frame["number"].to_numpy(dtype=float)
    for state, marker in style.MARKERS.items():
        chosen = (frame["status"] == state).to_numpy()
        if chosen.any():
            axes.plot(numbers[chosen], heights[chosen], marker, color=colours.of_status(state), markersize=2.6,
                      alpha=0.7, label=f"{state} ({chosen.sum()})")  # fmt: skip
    axes.step(numbers, frame["best"], where="post", color=colours.blue, linewidth=1.8)
    room = 0.04 * (high - low)
    axes.set_ylim(low - room, high + room)
    axes.set_xlabel("trial")


def _unit(seconds: float) -> tuple[str, float]:
    """Return the unit in which a duration is read best, and how many of it a second has."""
    if not seconds > 180:
        return "s", 1.0
    return ("min", 1 / 60) if seconds < 3 * 3600 else ("h", 1 / 3600)


def draw_time_and_epochs(trials: pd.DataFrame, *, dark: bool = False) -> Figure:
    """Draw how long each trial took, and how many epochs it trained.

    Args:
        trials: A trials frame.
        dark: For dark paper.
    """
    if not len(trials):
        return style.nothing(dark, "there is no trial yet")
    colours = style.palette(dark)
    unit, factor = _unit(float(trials["duration_s"].max()))
    thick = max(0.4, min(20.0, 0.8 * 72 * 5.8 / len(trials)))  # points: a line of vlines is faster than a bar
    with style.canvas(4.0, dark) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True)
        for state in style.MARKERS:
            part = trials[trials["status"] == state]
            if not len(part):
                continue
            look: Any = {"color": colours.of_status(state), "linewidth": thick}
            top.vlines(part["number"], 0, part["duration_s"] * factor, **look)
            bottom.vlines(part["number"], 0, part["epochs"], label=f"{state} ({len(part)})", **look)
            nothing = part[part["epochs"] == 0]
            bottom.plot(nothing["number"], [0] * len(nothing), style.MARKERS[state], color=look["color"], markersize=4)
        for axes in (top, bottom):
            axes.set_ylim(0, None)
        top.set_ylabel(f"time ({unit})")
        bottom.set_ylabel("epochs")
        bottom.set_xlabel("trial")
        style.number_axis(top.yaxis, ticks=4)
        style.number_axis(bottom.yaxis, whole=True, ticks=4)
        style.number_axis(bottom.xaxis, whole=True, ticks=8)
        figure.legend(*bottom.get_legend_handles_labels(), loc="outside upper left", ncols=5)
    return figure


def draw_overlaid(
    runs: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], metric: str, mode: str, *, dark: bool = False
) -> Figure:
    """Draw several runs' best value so far against epochs trained and against time.

    Args:
        runs: Name -> (trials, epochs).
        metric: The metric of all.
        mode: "max" or "min".
        dark: For dark paper.
    """
    colours = style.palette(dark)
    inks = (colours.blue, colours.orange, colours.green, colours.red, colours.muted)
    lines = ("solid", "dashed", "dashdot", "dotted")
    arrived = {run: _arrivals(trials, epochs, metric, mode) for run, (trials, epochs) in runs.items()}
    unit, factor = _unit(max((float(seconds.max(initial=0.0)) for seconds, _ in arrived.values()), default=0.0))
    with style.canvas(3.2 + 0.2 * len(runs), dark) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for place, (run, (seconds, best)) in enumerate(arrived.items()):
            look: Any = {"color": inks[place % 5], "linestyle": lines[place // 5 % 4], "linewidth": 1.6}
            label = style.name(f"{run} ({words.count(len(runs[run][0]), 'trial')})", 80)
            left.step(np.arange(1, len(best) + 1), best, where="post", label=label, **look)
            right.step(seconds * factor, best, where="post", **look)
        left.set_xlabel("epochs trained, of all trials")
        right.set_xlabel(f"time since the start ({unit})")
        left.set_ylabel(style.name(metric, 40))
        for axes in (left, right):
            style.number_axis(axes.xaxis, ticks=5, whole=axes is left)
        style.number_axis(left.yaxis)
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=1)
    return figure


def _arrivals(trials: pd.DataFrame, epochs: pd.DataFrame, metric: str, mode: str) -> tuple[Pairs, Pairs]:
    """Return seconds since the start and the best so far, at every epoch's report in the order of their arrival."""
    if metric not in epochs or not len(epochs):
        return np.empty(0), np.empty(0)
    frame = epochs.sort_values("reported_at", kind="stable")
    seconds = (frame["reported_at"] - trials["started_at"].min()).dt.total_seconds().to_numpy(dtype=float)
    values = frame[metric].astype(float).where(lambda column: np.isfinite(column))
    best = (values.cummax() if mode == "max" else values.cummin()).ffill()
    return seconds, np.array(best, dtype=np.float64)
