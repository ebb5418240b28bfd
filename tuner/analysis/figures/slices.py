"""What trials of each value came to: marginal slices, one-at-a-time effects, parallel coordinates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tuner.analysis.figures import style
from tuner.analysis.figures.parameters import Parameter, parameters
from tuner.space import Space

COLUMNS = 2


def scores(trials: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """Return each trial's metric at its best epoch; NaN where it has none that is finite."""
    column = f"best.{metric}"
    if column not in trials:
        return np.full(len(trials), math.nan)
    values = trials[column].to_numpy(dtype=float, na_value=math.nan).copy()
    values[~np.isfinite(values)] = math.nan
    return values


def draw_slices(
    trials: pd.DataFrame, space: Space | None, metric: str, mode: str, *, dark: bool = False,
    names: list[str] | None = None,
) -> Figure:  # fmt: skip
    """Draw every trial's metric against each of its parameters; those without one lie on the edge of the worse side.

    Args:
        trials: A trials frame.
        space: The sweep's space, or None.
        metric: The sweep's metric.
        mode: "max" or "min".
        dark: For dark paper.
        names: Which parameters, in which order; None for all that differ.
    """
    found = {entry.name: entry for entry in parameters(trials, space)}
    shown = [found[name] for name in (names or list(found)) if name in found]
    if not shown:
        return style.nothing(dark, "no parameter differs between the trials")
    values = scores(trials, metric)
    rows = math.ceil(len(shown) / COLUMNS)
    with style.canvas(0.5 + 1.85 * rows, dark) as figure:
        grid = figure.subplots(rows, COLUMNS, squeeze=False)
        for axes, entry in zip(grid.flat, shown, strict=False):
            _slice(axes, entry, values, mode, trials["status"], dark)
            entry.dress(axes.xaxis, width=10)
        for axes in grid.flat[len(shown) :]:
            axes.set_axis_off()
        for row in grid:
            row[0].set_ylabel(style.name(metric, 22))
        _legend_of_states(figure, trials["status"], dark)
    return figure


def _slice(axes: Axes, entry: Parameter, values: NDArray[Any], mode: str, status: pd.Series[Any], dark: bool) -> None:
    colours = style.palette(dark)
    known = values[np.isfinite(values)]
    low, high = style.finite_limits(_robust(known)) or (0.0, 1.0)
    room = 0.08 * (high - low)
    low, high = (low - room, high) if mode == "max" else (low, high + room)
    edge = low if mode == "max" else high
    jitter = np.random.default_rng(0).uniform(-0.18, 0.18, len(values)) if entry.options else np.zeros(len(values))
    heights = np.clip(np.where(np.isfinite(values), values, edge), low, high)
    for state in style.MARKERS:
        of_state = (status == state).to_numpy()
        axes.plot(
            (entry.places + jitter)[of_state], heights[of_state], style.MARKERS[state], color=colours.of_status(state),
            markersize=3.2, alpha=0.75, linestyle="none",
        )  # fmt: skip
    axes.set_ylim(low - room / 2, high + room / 2)
    style.number_axis(axes.yaxis, ticks=4)
    axes.set_title(style.name(entry.name, 34))


def _robust(known: NDArray[Any]) -> list[float]:
    """Return values that span an axis: one far out, as of a trial that diverged, does not squash the others."""
    if len(known) < 4:
        return [float(value) for value in known]
    first, third = np.quantile(known, [0.25, 0.75])
    reach = 6 * (third - first)
    inside = known[(known >= first - reach) & (known <= third + reach)] if reach > 0 else known
    return [float(inside.min()), float(inside.max())]


def _legend_of_states(figure: Figure, status: pd.Series[Any], dark: bool) -> None:
    colours = style.palette(dark)
    counts = status.value_counts()
    handles = [
        Line2D([], [], marker=style.MARKERS[state], color=colours.of_status(state), linestyle="none", markersize=4,
               label=f"{state} ({counts[state]})")
        for state in style.MARKERS if state in counts
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 4))


def draw_parallel(
    trials: pd.DataFrame, space: Space | None, metric: str, mode: str, *, dark: bool = False,
    names: list[str] | None = None, most: int = 20,
) -> Figure:  # fmt: skip
    """Draw a line a trial through its values; the parameters stand one below the other, the metric last.

    They stand below each other, not side by side, so that 20 of them with long names have room.

    Args:
        trials: A trials frame.
        space: The sweep's space, or None.
        metric: The sweep's metric.
        mode: "max" or "min".
        dark: For dark paper.
        names: Which parameters, in which order; None for all that differ.
        most: How many parameters at most.
    """
    found = {entry.name: entry for entry in parameters(trials, space)}
    shown = [found[name] for name in (names or list(found)) if name in found][:most]
    if not shown:
        return style.nothing(dark, "no parameter differs between the trials")
    values = scores(trials, metric)
    inside = _robust(values[np.isfinite(values)])
    outcome = Parameter(metric, np.clip(values, min(inside), max(inside)) if inside else values)
    rows = [*shown, outcome]
    with style.canvas(0.7 + 0.55 * len(rows), dark) as figure:
        axes = figure.add_subplot()
        _lines(axes, rows, values, mode, dark)
        _scales(axes, rows, dark)
    return figure


def _lines(axes: Axes, rows: list[Parameter], values: NDArray[Any], mode: str, dark: bool) -> None:
    """Draw the trials, the best on top; one without a metric is dashed, and ends above the last row."""
    colours = style.palette(dark)
    sign = 1.0 if mode == "max" else -1.0
    order = np.argsort(np.where(np.isfinite(values), sign * values, -np.inf), kind="stable")
    shares = np.column_stack([row.shares() for row in rows])
    spread = np.random.default_rng(0).uniform(-0.012, 0.012, shares.shape)
    paths = [np.column_stack([(shares + spread)[trial], np.arange(len(rows))]) for trial in order]
    paths = [path[np.isfinite(path[:, 0])] for path in paths]  # a parameter that a trial has not is passed over
    ranks = np.linspace(0, 1, len(order)) if len(order) > 1 else np.ones(1)
    failed = [path for trial, path in zip(order, paths, strict=True) if not np.isfinite(values[trial])]
    scored = [path for trial, path in zip(order, paths, strict=True) if np.isfinite(values[trial])]
    faint = max(0.12, min(0.8, 40 / max(1, len(order))))
    axes.add_collection(
        LineCollection(failed, colors=colours.red, linewidths=0.7, linestyles="dashed", alpha=max(faint, 0.4))
    )
    shades = LinearSegmentedColormap.from_list("ranks", [colours.faint, colours.blue])
    axes.add_collection(LineCollection(scored, colors=shades(ranks[len(failed) :]), linewidths=0.9, alpha=faint))
    if scored:
        axes.plot(scored[-1][:, 0], scored[-1][:, 1], color=colours.orange, linewidth=2.2, label="best", zorder=5)
    if failed:
        axes.plot([], [], color=colours.red, linestyle="dashed", label=f"without a value ({len(failed)})")
    axes.plot([], [], color=colours.blue, label="better")
    axes.plot([], [], color=colours.faint, label="worse")
    style.legend(axes, columns=4)


def _scales(axes: Axes, rows: list[Parameter], dark: bool) -> None:
    """Give each row its line, and the values at its ends; of options all, where there is room."""
    colours = style.palette(dark)
    axes.set_xlim(-0.06, 1.06)
    axes.set_ylim(len(rows) - 0.35, -0.45)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    style.category_axis(axes.yaxis, [row.name for row in rows], 26)
    axes.tick_params(axis="y", length=0)
    for place, row in enumerate(rows):
        axes.axhline(place, color=colours.muted, linewidth=0.8, zorder=0)
        for share, text, side in _marks(row):
            axes.text(
                share, place + 0.12, text, ha=side, va="top", fontsize=style.FONT_PT - 2, color=colours.ink, zorder=6,
                bbox={"facecolor": colours.paper, "edgecolor": "none", "pad": 0.6, "alpha": 0.75},
            )  # fmt: skip


def _marks(row: Parameter) -> list[tuple[float, str, str]]:
    """Return what stands below a row: (share of the line, text, alignment)."""
    if row.options:
        count = len(row.options)
        texts = [style.name(option, max(3, 44 // count)) for option in row.options]
        keep = max(1, math.ceil(count / 8))
        return [((place + 0.5) / count, text, "center") for place, text in enumerate(texts) if place % keep == 0]
    known = row.places[np.isfinite(row.places)]
    if not len(known):
        return []
    shares = row.shares()[np.isfinite(row.places)]
    low, high = style.tick_text(float(known.min())), style.tick_text(float(known.max()))
    ends = [(float(shares.min()), low, "center")]
    return ends if low == high else [*ends, (float(shares.max()), high, "center")]
