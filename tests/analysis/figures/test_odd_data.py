"""Figures of odd frames: a figure all the same, saying what it cannot show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_frames import make_frames
from matplotlib.figure import Figure

from tuner.analysis import figures
from tuner.analysis.figures.parameters import OTHER, parameter, parameters
from tuner.space import Choice, LogUniform, Space

METRIC, MODE = "val_accuracy", "max"


def all_of(trials, epochs):
    return [
        figures.draw_slices(trials, None, METRIC, MODE),
        figures.draw_parallel(trials, None, METRIC, MODE),
        figures.draw_learning_curves(trials, epochs, METRIC, MODE, best="t0001"),
        figures.draw_train_and_val(epochs, "t0001", METRIC),
        figures.draw_best_so_far(trials, epochs, METRIC, MODE),
        figures.draw_time_and_epochs(trials),
    ]


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for axes in figure.axes for text in axes.texts)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_trials(count):
    trials, epochs = make_frames(2, 6)
    trials = trials.head(count)
    assert len(all_of(trials, epochs[epochs["trial"].isin(trials["trial"])])) == 6


def test_a_metric_that_nobody_reported_is_said():
    trials, epochs = make_frames(2)
    figure = figures.draw_learning_curves(trials, epochs, "absent", MODE)
    assert "no trial has reported a finite absent" in texts(figure)
    assert "no trial has reported" in texts(figures.draw_best_so_far(trials, epochs, "absent", MODE))


@pytest.mark.parametrize("case", ["no column", "nothing ranked", "not finite", "one trial"])
def test_a_pareto_set_of_next_to_nothing(case):
    trials, _ = make_frames(2)
    trials["best.params"] = [np.nan if case == "not finite" else 100.0] * len(trials)
    if case != "no column":
        trials["pareto"] = [None if case == "nothing ranked" else True] * len(trials)
    figure = figures.draw_pareto(trials.head(1), METRIC, ("params",))
    assert ("no trial has a value of each objective" in texts(figure)) == (case != "one trial")


def test_values_that_are_not_finite():
    trials, epochs = make_frames(2)
    trials.loc[:9, f"best.{METRIC}"] = [np.nan, np.inf, -np.inf] * 3 + [np.nan]
    epochs.loc[::3, METRIC] = np.nan
    epochs.loc[1::7, METRIC] = np.inf
    assert len(all_of(trials, epochs)) == 6


def test_constant_parameters_are_left_out():
    trials, epochs = make_frames(2)
    trials["config.p0"] = 0.5
    assert [entry.name for entry in parameters(trials, None)] == ["p1"]
    trials["config.p1"] = "sgd"
    assert "no parameter differs" in texts(all_of(trials, epochs)[0])


def test_failed_and_stopped_trials_are_shown():
    trials, _ = make_frames(2, 12)
    figure = figures.draw_slices(trials, None, METRIC, MODE)
    (axes, *_) = figure.axes
    drawn = {line.get_marker(): len(line.get_xdata()) for line in axes.lines}
    # 12 trials of which 2 failed, one of them without a value: every one has a mark.
    assert (drawn["x"], drawn["s"], drawn["o"]) == (2, 4, 6)
    heights = np.concatenate([line.get_ydata() for line in axes.lines])
    assert np.isfinite(heights).all()


@pytest.mark.parametrize(("mode", "edge"), [("max", min), ("min", max)])
def test_a_trial_without_a_value_lies_on_the_worse_side(mode, edge):
    trials, _ = make_frames(1, 12)
    figure = figures.draw_slices(trials, None, METRIC, mode)
    heights = np.concatenate([line.get_ydata() for line in figure.axes[0].lines])
    failed = figure.axes[0].lines["osx".index("x")].get_ydata()
    assert edge(failed) == edge(heights)


def test_rare_options_become_one():
    entry = parameter("p", [f"option {number}" for number in range(40)], {})
    assert len(entry.options) == 12 and entry.options[-1] == OTHER
    assert entry.places.max() == 11


def test_the_space_gives_scale_and_order():
    trials = pd.DataFrame(
        {"config.rate": [0.5, 0.1, 0.2], "config.kind": ["b", "a", "b"], "config.on": [True, False, True]}
    )
    space = Space.parse({"rate": LogUniform(0.01, 1), "kind": Choice(["a", "b"]), "on": Choice([False, True])})
    rate, kind, on = parameters(trials, space)
    assert rate.log and kind.options == ("a", "b") and on.options == ("false", "true")
    assert kind.places.tolist() == [1, 0, 1]


def test_lists_and_mixed_values_are_options():
    entry = parameter("p", [[1, 0.1], "cosine", None, [1, 0.1], 3], {})
    assert entry.options == ("[1, 0.1]", "cosine", "3")
    assert np.isnan(entry.places[2])


def test_one_class_has_no_curve():
    probabilities = np.tile([0.9, 0.1], (5, 1))
    figure = figures.draw_roc(probabilities, np.zeros(5, dtype=int), ["a", "b"])
    assert "no class has both" in texts(figure)


def test_confusion_counts():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    figure = figures.draw_confusion(probabilities, np.array([0, 1, 1]), ["a", "b"])
    shares = figure.axes[0].images[0].get_array()
    assert shares.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert texts(figure) == "1 1 1"
