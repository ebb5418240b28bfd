"""What a model predicts: confusion matrix, ROC and precision-recall curves, residuals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tuner.analysis.figures import style

# Above this many classes a matrix's numbers cannot be read, and curves of single classes cannot be told apart.
MOST_NUMBERS, MOST_CURVES = 15, 6


def draw_confusion(
    probabilities: NDArray[Any], y: NDArray[np.int64], classes: Sequence[str], *, dark: bool = False
) -> Figure:
    """Draw counts of (true class, predicted class), each row shaded by its share of the true class.

    Args:
        probabilities: (N, K).
        y: (N,) class indices.
        classes: The K names.
        dark: For dark paper.
    """
    count = probabilities.shape[1]
    matrix = np.zeros((count, count), dtype=int)
    np.add.at(matrix, (y, probabilities.argmax(axis=1)), 1)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    colours = style.palette(dark)
    longest = max((len(style.name(label, 18)) for label in classes), default=1)
    with style.canvas(min(7.2, 2.6 + 0.28 * count + 0.05 * longest), dark) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap=style.shades(dark), vmin=0, vmax=1, aspect="auto")
        style.category_axis(axes.xaxis, classes, 18)
        style.category_axis(axes.yaxis, classes, 18)
        if longest * count > 70:
            axes.tick_params(axis="x", rotation=90)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if count <= MOST_NUMBERS:
            _write_counts(axes, matrix, shares, dark)
        bar = figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
        bar.outline.set_visible(False)
        style.number_axis(bar.ax.yaxis, ticks=4)
        axes.spines[:].set_color(colours.grid)
    return figure


def _write_counts(axes: Axes, matrix: NDArray[Any], shares: NDArray[Any], dark: bool) -> None:
    colours = style.palette(dark)
    for (row, column), amount in np.ndenumerate(matrix):
        if amount:
            colour = colours.paper if shares[row, column] > 0.55 else colours.ink
            axes.text(column, row, str(amount), ha="center", va="center", fontsize=style.FONT_PT - 1.5, color=colour)


def draw_roc(
    probabilities: NDArray[Any], y: NDArray[np.int64], classes: Sequence[str], *, dark: bool = False
) -> Figure:
    """Draw each class's ROC curve against the rest, and their mean.

    Args:
        probabilities: (N, K).
        y: (N,) class indices.
        classes: The K names.
        dark: For dark paper.
    """
    return _of_classes(probabilities, y, classes, dark, ("false positive rate", "true positive rate"), _roc)


def draw_precision_recall(
    probabilities: NDArray[Any], y: NDArray[np.int64], classes: Sequence[str], *, dark: bool = False
) -> Figure:
    """Draw each class's precision against its recall, and their mean.

    Args:
        probabilities: (N, K).
        y: (N,) class indices.
        classes: The K names.
        dark: For dark paper.
    """
    return _of_classes(probabilities, y, classes, dark, ("recall", "precision"), _precision_recall)


def _roc(scores: NDArray[Any], positive: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], float]:
    from sklearn.metrics import auc, roc_curve

    x, height, _ = roc_curve(positive, scores)
    return x, height, float(auc(x, height))


def _precision_recall(scores: NDArray[Any], positive: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], float]:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(positive, scores)
    return recall[::-1], precision[::-1], float(average_precision_score(positive, scores))


def _of_classes(
    probabilities: NDArray[Any],
    y: NDArray[Any],
    classes: Sequence[str],
    dark: bool,
    labels: tuple[str, str],
    curve: Any,
) -> Figure:
    """Draw a curve a class; of two classes the second alone, of many the worst by area, and the mean of all."""
    defined = [k for k in range(probabilities.shape[1]) if 0 < (y == k).sum() < len(y)]
    if not defined:
        return style.nothing(dark, "no class has both positives and negatives here")
    if probabilities.shape[1] == 2:
        defined = defined[-1:]
    curves = sorted(((k, *curve(probabilities[:, k], y == k)) for k in defined), key=lambda found: found[3])
    colours = style.palette(dark)
    inks = (colours.red, colours.orange, colours.green, colours.muted, colours.blue, colours.faint)
    grid = np.linspace(0, 1, 201)
    with style.canvas(3.4, dark) as figure:
        axes = figure.add_subplot()
        for (k, x, height, area), ink in zip(curves[:MOST_CURVES], inks, strict=False):
            axes.plot(x, height, color=ink, linewidth=1.1, label=f"{style.name(classes[k], 22)} ({area:.3f})")
        if len(curves) > 1:
            mean = np.mean([np.interp(grid, x, height) for _, x, height, _ in curves], axis=0)
            area = float(np.mean([found[3] for found in curves]))
            axes.plot(grid, mean, color=colours.ink, linewidth=2.0, label=f"mean of {len(curves)} ({area:.3f})")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=labels[0], ylabel=labels[1])
        style.number_axis(axes.xaxis)
        style.number_axis(axes.yaxis)
        worst = "The worst classes (area)" if len(curves) > MOST_CURVES else "Class (area)"
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", title=worst, alignment="left")
    return figure


def draw_residuals(values: NDArray[Any], y: NDArray[Any], *, dark: bool = False) -> Figure:
    """Draw predicted against true values, and how the errors are distributed.

    Args:
        values: (N,) predictions.
        y: (N,) true values, in the same unit.
        dark: For dark paper.
    """
    kept = np.isfinite(values) & np.isfinite(y)
    values, y = values[kept].astype(float), y[kept].astype(float)
    if not len(y):
        return style.nothing(dark, "no prediction is finite")
    colours = style.palette(dark)
    low, high = style.finite_limits([*y, *values]) or (0.0, 1.0)
    faint = max(0.15, min(0.8, 200 / math.sqrt(len(y)) / 10))
    with style.canvas(3.2, dark) as figure:
        left, right = figure.subplots(1, 2)
        left.plot([low, high], [low, high], color=colours.muted, linewidth=1, linestyle=":")
        left.plot(y, values, "o", color=colours.blue, markersize=3, alpha=faint)
        left.set(xlim=(low, high), ylim=(low, high), xlabel="true", ylabel="predicted")
        errors = values - y
        # At least so wide that the bins of errors that are all but equal have a width.
        room = max(1e-6 * float(np.abs(y).max()), 1e-12)
        span = (float(errors.min()) - room, float(errors.max()) + room)
        right.hist(errors, bins=min(40, max(5, len(y) // 8)), range=span, color=colours.blue, alpha=0.85)
        right.axvline(0, color=colours.muted, linewidth=1, linestyle=":")
        right.set(xlabel="predicted - true", ylabel="samples")
        for axes in (left, right):
            style.number_axis(axes.xaxis, ticks=4)
            style.number_axis(axes.yaxis, ticks=4)
    return figure
