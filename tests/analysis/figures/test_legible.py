"""No text of any figure lies on another, or leaves the canvas: with 2 and with 20 parameters, and with long names."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from made_frames import LONG, make_frames
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from tuner.analysis import figures
from tuner.analysis.effects import Dependence, Heatmap
from tuner.analysis.figures import style
from tuner.analysis.importance import Importance, ImportanceResult

SIZES = {"2": (2, False), "20": (20, False), "20-long": (20, True)}
OPTIONS = ("adam", "sgd with a very long name of an option", "rmsprop")


def names(count, long):
    return [f"{LONG if long else 'p'}{number}" for number in range(count)]


def importances(count, long):
    def entries(scale):
        return tuple(
            Importance(name, scale / 2**n, 0.4 / 2**n, 0.8 / 2**n, 40) for n, name in enumerate(names(count, long))
        )

    return [ImportanceResult(target, 5, entries(scale), 0.5, "") for target, scale in (("score", 0.6), ("gap", 0.5))]


def dependence(name, number):
    choice, log = number % 3 == 1, number % 3 == 0
    values = OPTIONS if choice else tuple(np.geomspace(1e-5, 1, 15) if log else np.linspace(0, 0.6, 13))
    mean = np.linspace(0.5, 0.9, len(values))
    return Dependence(name, values, log, choice, mean, mean - 0.1, mean + 0.1)


def dependences(count, long):
    return [dependence(name, number) for number, name in enumerate(names(count, long))]


def heatmaps(count, long):
    pairs = list(itertools.combinations(dependences(count, long)[:3], 2))
    shapes = [(len(one.values), len(other.values)) for one, other in pairs]
    means = [np.arange(rows * columns, dtype=float).reshape(rows, columns) for rows, columns in shapes]
    return [
        Heatmap((one.name, other.name), (one.values, other.values), (one.log, other.log), mean, "")
        for (one, other), mean in zip(pairs, means, strict=True)
    ]


def effects(count, long):
    rows = [
        (name, value, 0.5, 0.1 - n / 20, 1) for n, name in enumerate(names(count, long)) for value in (0.1, *OPTIONS)
    ]
    return pd.DataFrame(rows, columns=["parameter", "value", "score", "effect", "n"])


def guesses(classes):
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, 400)
    probabilities = rng.dirichlet(np.ones(classes), 400)
    probabilities[np.arange(400), y] += 0.4
    return probabilities / probabilities.sum(axis=1, keepdims=True), y


def frames(count, long):
    return make_frames(count, 40 if count == 2 else 120, long=long)


def traded(count, long):
    """Return trials with two more objectives, one of them over decades, and their names."""
    trials, others = frames(count, long)[0], (f"{LONG if long else 'o'}1", "params")
    place = np.arange(len(trials))
    trials["pareto"] = [None if n % 9 == 8 else n % 4 == 0 for n in place]
    trials[f"best.{others[0]}"], trials["best.params"] = 0.5 + place / 100, 10.0 ** (3 + place % 4)
    return trials, others


METRIC, MODE = "val_accuracy", "max"
FIGURES = {
    "importance": lambda n, long, dark: figures.draw_importance(importances(n, long), dark=dark),
    "partial_dependence": lambda n, long, dark: figures.draw_partial_dependence(
        dependences(n, long), METRIC, dark=dark
    ),
    "pairwise": lambda n, long, dark: figures.draw_pairwise(heatmaps(n, long), METRIC, dark=dark),
    "one_at_a_time": lambda n, long, dark: figures.draw_one_at_a_time(effects(n, long), METRIC, MODE, dark=dark),
    "slices": lambda n, long, dark: figures.draw_slices(frames(n, long)[0], None, METRIC, MODE, dark=dark),
    "parallel": lambda n, long, dark: figures.draw_parallel(frames(n, long)[0], None, METRIC, MODE, dark=dark),
    "learning_curves": lambda n, long, dark: figures.draw_learning_curves(
        *frames(n, long), METRIC, MODE, best="t0001", dark=dark
    ),
    "train_and_val": lambda n, long, dark: figures.draw_train_and_val(frames(n, long)[1], "t0001", METRIC, dark=dark),
    "best_so_far": lambda n, long, dark: figures.draw_best_so_far(
        *frames(n, long), METRIC, MODE, baseline=0.5, dark=dark
    ),
    "time_and_epochs": lambda n, long, dark: figures.draw_time_and_epochs(frames(n, long)[0], dark=dark),
    "pareto": lambda n, long, dark: figures.draw_pareto(traded(n, long)[0], METRIC, traded(n, long)[1], dark=dark),
    "overlaid": lambda n, long, dark: figures.draw_overlaid(
        {name: frames(2, False) for name in names(min(n, 8), long)}, METRIC, MODE, dark=dark
    ),
    "confusion": lambda n, long, dark: figures.draw_confusion(*guesses(n), names(n, long), dark=dark),
    "roc": lambda n, long, dark: figures.draw_roc(*guesses(n), names(n, long), dark=dark),
    "precision_recall": lambda n, long, dark: figures.draw_precision_recall(*guesses(n), names(n, long), dark=dark),
    "residuals": lambda n, long, dark: figures.draw_residuals(
        np.linspace(0, 1e5, 50), np.linspace(0, 1e5, 50) + n * 1000, dark=dark
    ),
}


def complaints(figure: Figure) -> list[str]:
    """Return every text that leaves the canvas, and every two that overlap, by the renderer's own extents."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    ticks = [label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in tick_labels(axis)]
    every = {text for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in axis.get_ticklabels()}
    others = [text for text in figure.findobj(Text) if text not in every and text.get_visible() and seen(text)]
    boxes = [
        (text.get_text(), text.get_window_extent(renderer)) for text in [*ticks, *others] if text.get_text().strip()
    ]
    width, height = figure.bbox.size
    found = [
        f"{text!r} leaves the canvas"
        for text, box in boxes
        if box.x0 < -0.5 or box.y0 < -0.5 or box.x1 > width + 0.5 or box.y1 > height + 0.5
    ]
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        if first.padded(-0.5).overlaps(second.padded(-0.5)):
            found.append(f"{one!r} and {other!r} overlap")
    return found


def tick_labels(axis):
    return style.visible_tick_labels(axis)


def seen(text):
    return text.axes is None or text.axes.axison or text in text.axes.texts


# Many long names are the hardest; the dark figures below have two short ones, and `make slow` looks at all three light.
@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=() if size == "20-long" else pytest.mark.slow) for size in SIZES]
)
@pytest.mark.parametrize("name", FIGURES)
def test_every_text_is_whole_and_apart(name, size):
    count, long = SIZES[size]
    assert complaints(FIGURES[name](count, long, False)) == []


@pytest.mark.parametrize("name", FIGURES)
def test_dark_figures_are_on_dark_paper(name):
    figure = FIGURES[name](2, False, True)
    assert complaints(figure) == []  # draws it
    assert tuple(np.asarray(figure.canvas.buffer_rgba())[0, 0][:3]) == (0x0D, 0x11, 0x17)


def test_every_figure_is_looked_at():
    assert {f"draw_{name}" for name in FIGURES} == set(figures.__all__)


def test_the_check_can_fail():
    """Else the tests above would show nothing."""
    figure = Figure(figsize=(2, 2))
    axes = figure.add_subplot()
    axes.set_xticks(range(4), labels=["a long label"] * 4)
    axes.set_ylabel("far too long to be whole on this small a canvas")
    found = " ".join(complaints(figure))
    assert "overlap" in found and "leaves the canvas" in found


@pytest.mark.parametrize("odd", ["$x^{", "a\nb\tc", "_hidden", "学习率" * 20, "", "<b>&amp;"])
def test_odd_names_are_plain_text(odd):
    """matplotlib reads $ as mathematics, hides names with an underscore, and breaks lines."""
    trials, epochs = make_frames(2)
    trials = trials.rename(columns={"config.p0": f"config.{odd}"})
    for figure in (
        figures.draw_slices(trials, None, METRIC, MODE),
        figures.draw_parallel(trials, None, METRIC, MODE),
        figures.draw_overlaid({odd: (trials, epochs), "b": (trials, epochs)}, METRIC, MODE),
        figures.draw_confusion(*guesses(2), [odd, "b"]),
        figures.draw_roc(*guesses(2), ["b", odd]),
    ):
        assert complaints(figure) == []
