"""What each parameter does to the score: partial dependence, pairs, and one at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tuner import words
from tuner.analysis.effects import Dependence, Heatmap
from tuner.analysis.figures import style

COLUMNS = 2


def draw_partial_dependence(curves: Sequence[Dependence], metric: str, *, dark: bool = False) -> Figure:
    """Draw the average score along each parameter, with its 95 % band, all on one scale.

    Args:
        curves: Of tuner.analysis.effects.partial_dependence, in the order in which they are shown.
        metric: The sweep's metric.
        dark: For dark paper.
    """
    curves = [curve for curve in curves if len(curve.values) > 1]
    if not curves:
        return style.nothing(dark, "no parameter's effect can be told")
    rows = math.ceil(len(curves) / COLUMNS)
    with style.canvas(0.3 + 1.85 * rows, dark) as figure:
        grid = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True)
        for axes, curve in zip(grid.flat, curves, strict=False):
            _dependence(axes, curve, dark)
            style.number_axis(axes.yaxis, ticks=4)
            axes.set_title(style.name(curve.name, 34))
        for axes in grid.flat[len(curves) :]:
            axes.set_axis_off()
        for row in grid:
            row[0].set_ylabel(style.name(metric, 22))
    return figure


def _dependence(axes: Axes, curve: Dependence, dark: bool) -> None:
    colours = style.palette(dark)
    if curve.is_choice:
        at = np.arange(len(curve.values))
        axes.vlines(at, curve.low, curve.high, color=colours.blue, linewidth=5, alpha=0.3)
        axes.plot(at, curve.mean, "o", color=colours.blue, markersize=5)
        style.category_axis(axes.xaxis, [words.value(value) for value in curve.values], 10)
        axes.set_xlim(-0.5, len(at) - 0.5)
        return
    at = np.array(curve.values, dtype=float)
    axes.fill_between(at, curve.low, curve.high, color=colours.blue, alpha=0.2, linewidth=0)
    axes.plot(at, curve.mean, color=colours.blue, linewidth=1.8)
    whole = all(float(value).is_integer() for value in curve.values)
    style.number_axis(axes.xaxis, log=curve.log and at.min() > 0, whole=whole, ticks=4, limits=(at.min(), at.max()))


def draw_pairwise(maps: Sequence[Heatmap], metric: str, *, dark: bool = False) -> Figure:
    """Draw the average score over pairs of parameters, a heatmap a pair.

    Args:
        maps: Of tuner.analysis.effects.pairwise.
        metric: The sweep's metric.
        dark: For dark paper.
    """
    maps = [entry for entry in maps if entry.mean.size and np.isfinite(entry.mean).any()]
    if not maps:
        return style.nothing(dark, "no pair's effect can be told")
    low = min(float(np.nanmin(entry.mean)) for entry in maps)
    high = max(float(np.nanmax(entry.mean)) for entry in maps)
    columns = min(COLUMNS, len(maps))
    rows = math.ceil(len(maps) / columns)
    with style.canvas(0.7 + 2.7 * rows, dark) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        image = None
        for axes, entry in zip(grid.flat, maps, strict=False):
            image = axes.imshow(entry.mean, origin="lower", aspect="auto", cmap=style.shades(dark), vmin=low, vmax=high)
            for axis, values, name in zip((axes.yaxis, axes.xaxis), entry.values, entry.names, strict=True):
                _places(axis, values)
                axis.set_label_text(style.name(name, 26))
            axes.grid(False)
            axes.patch.set(hatch="////", edgecolor=style.palette(dark).faint)  # seen where there is no value
        for axes in grid.flat[len(maps) :]:
            axes.set_axis_off()
        assert image is not None  # there is one map at least
        bar = figure.colorbar(image, ax=list(grid.flat), location="bottom", shrink=0.6, aspect=40, pad=0.02)
        bar.set_label(style.name(f"average {metric}", 60))
        style.number_axis(bar.ax.xaxis)
    return figure


def _places(axis: Any, values: Sequence[Any]) -> None:
    """Label the cells of one side: options all, numbers at some."""
    keep = range(len(values))
    if len(values) > 6 and not any(isinstance(value, str) for value in values):
        keep = range(0, len(values), math.ceil(len(values) / 5))
    axis.set_ticks(list(keep), labels=[style.name(_short(values[place]), 10) for place in keep])


def _short(value: Any) -> str:
    """Return a cell's middle with two digits: more say nothing of a cell that is wider than that."""
    return words.value(float(f"{value:.2g}") if isinstance(value, float) else value)


def draw_one_at_a_time(effects: pd.DataFrame, metric: str, mode: str, *, dark: bool = False, most: int = 40) -> Figure:
    """Draw what changing one parameter of the baseline alone did, a bar a value.

    Args:
        effects: Of tuner.analysis.effects.one_at_a_time: parameter, value, effect, n.
        metric: The sweep's metric.
        mode: "max" or "min".
        dark: For dark paper.
        most: How many bars; those of the parameters with the largest effects.
    """
    effects = effects[np.isfinite(effects["effect"].astype(float))] if len(effects) else effects
    if not len(effects):
        return style.nothing(dark, "no trial differs from the baseline in one parameter alone")
    strength = effects.groupby("parameter")["effect"].transform(lambda own: own.abs().max())
    order = effects.assign(strength=strength, place=range(len(effects)))
    order = order.sort_values(["strength", "parameter", "place"], ascending=[False, True, True]).head(most)
    colours = style.palette(dark)
    values = order["effect"].to_numpy(dtype=float)
    better = values > 0 if mode == "max" else values < 0
    labels = [
        f"{style.name(name, 22)} = {style.name(words.value(value), 14)}"
        for name, value in zip(order["parameter"], order["value"], strict=True)
    ]
    with style.canvas(0.9 + 0.21 * len(order), dark) as figure:
        axes = figure.add_subplot()
        at = np.arange(len(order))
        for chosen, colour, label in ((better, colours.blue, "better"), (~better, colours.orange, "worse")):
            if chosen.any():
                axes.barh(at[chosen], values[chosen], color=colour, height=0.72, label=f"{label} than the baseline")
        axes.axvline(0, color=colours.muted, linewidth=0.8)
        style.category_axis(axes.yaxis, labels, 40)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.set_xlabel(style.name(f"{metric} minus the baseline's", 60))
        style.number_axis(axes.xaxis)
        style.legend(axes)
    return figure
