"""Trials by two objectives at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tuner.analysis.figures import style

_LOG_FROM = 30.0  # highest over lowest: beyond it, most points would lie on each other


def draw_pareto(trials: pd.DataFrame, metric: str, objectives: Sequence[str], *, dark: bool = False) -> Figure:
    """Draw the metric against each other objective, with the Pareto set filled.

    Args:
        trials: A results frame with the columns `pareto` and `best.<objective>`.
        metric: The sweep's metric.
        objectives: The others, a panel each.
        dark: For dark paper.
    """
    columns = [f"best.{name}" for name in (metric, *objectives)]
    if "pareto" not in trials or any(name not in trials for name in columns):
        return style.nothing(dark, "no trial has a value of each objective")
    ranked = trials[trials["pareto"].notna()]
    values = ranked[columns].astype(float)
    known: pd.DataFrame = ranked.loc[np.isfinite(values.to_numpy()).all(axis=1)]
    if not len(known):
        return style.nothing(dark, "no trial has a value of each objective")
    with style.canvas(2.8 * len(objectives) + 0.3, dark) as figure:
        panels = figure.subplots(len(objectives), 1, squeeze=False)
        for axes, name in zip(panels[:, 0], objectives, strict=True):
            _panel(axes, known, metric, name, dark)
        style.legend(panels[0, 0], columns=2)
    return figure


def _panel(axes: Axes, trials: pd.DataFrame, metric: str, name: str, dark: bool) -> None:
    colours = style.palette(dark)
    x, y = trials[f"best.{name}"].astype(float), trials[f"best.{metric}"].astype(float)
    on = trials["pareto"].astype(bool)
    axes.scatter(x[~on], y[~on], s=18, facecolors="none", edgecolors=colours.faint, label="other trials")
    axes.scatter(x[on], y[on], s=26, color=colours.blue, label="Pareto set")
    low, high = float(x.min()), float(x.max())
    if low > 0 and high / low > _LOG_FROM:
        style.number_axis(axes.xaxis, log=True, limits=(low / 1.3, high * 1.3))
    else:
        style.number_axis(axes.xaxis, limits=style.finite_limits([low, high]))
    style.number_axis(axes.yaxis, limits=style.finite_limits(list(y)))
    axes.set_xlabel(style.name(name))
    axes.set_ylabel(style.name(metric))
