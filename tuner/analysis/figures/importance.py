"""Importance: bars with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tuner.analysis.figures import style
from tuner.analysis.importance import Importance, ImportanceResult

TARGETS = {"score": "score", "gap": "train-validation gap"}


def draw_importance(results: Sequence[ImportanceResult], *, dark: bool = False, most: int = 20) -> Figure:
    """Draw the share that each parameter explains, with its 95 % interval.

    Args:
        results: ImportanceResults, such as those of the score and of the gap; the first gives the order.
        dark: For dark paper.
        most: How many parameters to show.
    """
    results = [result for result in results if result.entries]
    if not results:
        return style.nothing(dark, "no importance can be computed")
    names = list(dict.fromkeys(entry.name for result in results for entry in result.entries))[:most]
    colours = style.palette(dark)
    with style.canvas(0.9 + (0.2 + 0.13 * len(results)) * len(names), dark) as figure:
        axes = figure.add_subplot()
        thick = 0.75 / len(results)
        for place, result in enumerate(results):
            entries = {entry.name: entry for entry in result.entries}
            shown = [name for name in names if name in entries]
            at = np.array([names.index(name) for name in shown]) + (place - (len(results) - 1) / 2) * thick
            colour = (colours.blue, colours.orange, colours.green)[place % 3]
            _bars(axes, at, [entries[name] for name in shown], thick, colour, colours.ink, result.target)
        style.category_axis(axes.yaxis, names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, None)
        axes.set_xlabel("share of the differences explained (line: 95 % interval)")
        style.number_axis(axes.xaxis)
        style.legend(axes)
    return figure


def _bars(
    axes: Axes, at: NDArray[np.float64], entries: Sequence[Importance], thick: float, colour: str, ink: str, target: str
) -> None:
    values = [max(0.0, entry.value) for entry in entries]
    axes.barh(at, values, height=thick * 0.9, color=colour, label=TARGETS.get(target, target))
    lows = [min(max(0.0, entry.low), value) for entry, value in zip(entries, values, strict=True)]
    highs = [max(entry.high, value) for entry, value in zip(entries, values, strict=True)]
    axes.hlines(at, lows, highs, color=ink, linewidth=1.2)
