"""Importance finds what was planted, says what it cannot say, and handles stopped and failed trials."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))  # benchmarks/ is no installed package

from benchmarks.planted import planted_frames, planted_space
from tuner.analysis.features import axes_of, encode, scenarios_of
from tuner.analysis.forest import boxes, draw, grow, marginals
from tuner.analysis.importance import importance
from tuner.analysis.scores import scores
from tuner.space import Choice, Int, LogInt, LogUniform, Normal, Space, Uniform

SPACE = planted_space()


def made(configs: list[dict], values: list[float | None], **columns: list) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return frames of trials with one epoch each."""
    names = list(dict.fromkeys(name for config in configs for name in config))
    trials = pd.DataFrame({"trial": [f"t{i}" for i in range(len(configs))], "number": range(len(configs))})
    trials = trials.assign(stage="search", fold=None, repeat=1, status="completed", cause=None)
    trials = trials.assign(**{f"config.{name}": [config.get(name) for config in configs] for name in names})
    trials = trials.assign(**columns)
    kept = [(t, v) for t, v in zip(trials["trial"], values, strict=True) if v is not None]
    return trials, pd.DataFrame({"trial": [t for t, _ in kept], "epoch": 1, "m": [v for _, v in kept]})


def sampled(space: Space, n: int, score, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    draw_from = random.Random(seed)
    configs = [space.sample(draw_from) for _ in range(n)]
    return made(configs, [score(config) for config in configs])


@pytest.mark.parametrize("method", ["fanova", "permutation"])
def test_the_planted_parameter_is_first(method):
    for seed in range(3):
        trials, epochs = planted_frames(seed, SPACE)
        result = importance(trials, epochs, SPACE, "val_accuracy", "max", method=method, bootstraps=5)
        first = result.entries[0]
        assert first.name == "learning_rate" and first.low < first.value < first.high
        assert result.epoch == 3  # where the stopped ones ended: they count
        assert result.fit > 0.2 and "3 of 60 trials have no value" in result.note


def test_shares_are_those_of_a_function_whose_variances_are_known():
    space = Space.parse({"a": Uniform(0, 1), "b": Uniform(0, 1), "c": Uniform(0, 1)})
    trials, epochs = sampled(space, 400, lambda config: 2 * config["a"] + config["b"])
    shares = {entry.name: entry.value for entry in importance(trials, epochs, space, "m", "max", bootstraps=2).entries}
    assert shares == pytest.approx({"a": 0.8, "b": 0.2, "c": 0.0}, abs=0.06)
    assert sum(shares.values()) <= 1 + 1e-12


def test_the_same_seed_gives_the_same_result():
    trials, epochs = planted_frames(0, SPACE)
    one, two = (importance(trials, epochs, SPACE, "val_accuracy", "max", bootstraps=3, seed=2**62) for _ in range(2))
    assert one == two


def test_a_conditional_parameter_is_judged_in_its_branch():
    branches = {"sgd": {"momentum": Uniform(0, 1)}, "adam": {"beta": Uniform(0, 1)}}
    space = Space.parse({"optimizer": Choice(["sgd", "adam"], when=branches), "x": Uniform(0, 1)})
    trials, epochs = sampled(space, 200, lambda c: c.get("momentum", 0.5) + 0.7 * c["x"])
    found = {entry.name: entry for entry in importance(trials, epochs, space, "m", "max", bootstraps=3).entries}
    momentum = found["optimizer=sgd/momentum"]
    assert momentum.n == trials["config.momentum"].notna().sum()
    # Among sgd's trials the variances are 1 (momentum) to 0.49 (x); over all trials momentum counts for half of them.
    assert momentum.within == pytest.approx(0.67, abs=0.1)
    assert momentum.value == pytest.approx(0.5, abs=0.1)
    assert found["optimizer=adam/beta"].value < 0.02 and found["optimizer=adam/beta"].within < 0.3


def test_a_range_is_judged_on_its_own_scale():
    space = Space.parse({"rate": LogUniform(1e-5, 1.0), "x": Uniform(0, 1)})
    trials, epochs = sampled(space, 150, lambda c: math.log10(c["rate"]) + 0.01 * c["x"])
    assert importance(trials, epochs, space, "m", "max", bootstraps=2).entries[0].value > 0.95


def test_fixed_parameters_and_those_that_never_varied_are_0():
    space = Space.parse({"a": Uniform(0, 1), "fixed": 3, "same": Int(1, 5)})
    trials, epochs = sampled(space, 40, lambda config: config["a"])
    trials["config.same"] = 2
    found = {entry.name: entry.value for entry in importance(trials, epochs, space, "m", "max", bootstraps=2).entries}
    assert found["fixed"] == 0 and found["same"] == 0 and found["a"] > 0.99


def test_the_gap_has_an_importance_of_its_own():
    space = Space.parse({"dropout": Uniform(0, 1), "rate": Uniform(0, 1)})
    trials, epochs = sampled(space, 60, lambda config: config["rate"])
    epochs["val_loss"] = 1 - epochs["m"]
    epochs["train_loss"] = epochs["val_loss"] - (1 - trials["config.dropout"])
    by_score = importance(trials, epochs, space, "val_loss", "min", bootstraps=2)
    by_gap = importance(trials, epochs, space, "val_loss", "min", target="gap", bootstraps=2)
    assert by_score.entries[0].name == "rate" and by_gap.entries[0].name == "dropout"


def test_failures_of_configs_count_as_the_worst_and_lost_trials_do_not():
    trials, epochs = made(
        [{"a": i} for i in range(5)],
        [0.9, 0.8, 0.7, None, None],
        status=["completed", "stopped", "completed", "failed", "failed"],
        cause=[None, None, None, "config.non_finite", "infrastructure.worker_lost"],
    )
    scored = scores(trials, epochs, "m", "max")
    assert list(scored.values) == [0.9, 0.8, 0.7, 0.7]
    assert scored.notes == (
        "1 trial failed by the config: counted as the worst",
        "1 of 5 trials have no value up to epoch 1: left out",
    )
    gap = scores(trials, epochs.assign(train_loss=1, val_loss=2), "m", "max", "gap")
    assert list(gap.values) == [1, 1, 1] and "left out" in gap.notes[0]


def test_one_loss_of_a_billion_is_brought_in():
    trials, epochs = made([{"a": i} for i in range(5)], [1.0, 2.0, 3.0, 4.0, 1e9])
    scored = scores(trials, epochs, "m", "min")
    assert scored.values.max() == 43 and "1 very bad score counted as 43" in scored.notes


def test_folds_and_the_final_model_are_not_compared():
    trials, epochs = made([{"a": i} for i in range(4)], [1.0, 2.0, 3.0, 4.0])
    trials["stage"] = ["search", "cross_validate", "final", "refine"]
    assert list(scores(trials, epochs, "m", "min").values) == [1.0, 4.0]


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (lambda: made([], []), "no trials"),
        (lambda: made([{"a": 0.5}], [1.0]), "1 trials with a value"),
        (lambda: made([{"a": i / 20} for i in range(20)], [1.0] * 20), "all trials have the same score"),
        (lambda: made([{"a": i / 20} for i in range(20)], [math.nan] * 20), "no trial has a finite m"),
        (lambda: made([{"a": 0.5}] * 9, [None] * 9, status=["failed"] * 9, cause=["config.raised"] * 9), "finite m"),
        (lambda: made([{"b": 1.0}] * 20, [float(i) for i in range(20)]), "outside the space"),
        (lambda: tuple(f.drop(columns="m", errors="ignore") for f in made([{"a": 0.1}], [1.0])), "reported m"),
    ],
)
@pytest.mark.parametrize("target", ["score", "gap"])
def test_odd_data_gives_a_note(frames, says, target):
    result = importance(*frames(), Space.parse({"a": Uniform(0, 1)}), "m", "max", target=target)
    assert result.entries == () and (says in result.note or target == "gap") and result.note


def test_missing_metrics_and_an_empty_space():
    space = Space.parse({"a": Uniform(0, 1)})
    trials, epochs = sampled(space, 30, lambda config: config["a"])
    result = importance(trials, epochs.iloc[:20], space, "m", "max", bootstraps=2)
    assert result.entries[0].n == 20 and "10 of 30" in result.note
    assert "nothing that varies" in importance(trials, epochs, Space(), "m", "max").note


def test_noise_alone_is_called_so():
    space = Space.parse({"a": Uniform(0, 1), "b": Uniform(0, 1)})
    rng = np.random.default_rng(0)
    trials, epochs = sampled(space, 60, lambda config: float(rng.normal()))
    assert "explains nothing" in importance(trials, epochs, space, "m", "max", bootstraps=2).note


# --- features and forests ---


def test_frames_types_are_read_as_the_spaces_values():
    space = Space.parse({"size": Choice([16, 32]), "flag": Choice([True, False]), "n": LogInt(1, 8), "z": Normal(0, 1)})
    trials = pd.DataFrame(
        {"config.size": [16.0, 32.0], "config.flag": [True, False], "config.n": pd.Series([1, 8], dtype="Int64")}
    ).assign(**{"config.z": [0.0, 3.0]})
    features = encode(space, trials)
    assert features.matrix[:, :4].tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    assert features.matrix[0, 5] == 0.5  # the middle of a normal
    assert list(features.rows) == [0, 1]


def test_scenarios_are_the_branches_with_their_weights():
    inner = {"deep": {"k": Uniform(0, 1)}}
    when = {"a": {"kind": Choice(["deep", "flat"], when=inner)}}
    space = Space.parse({"top": Choice(["a", "b"], weights=[3, 1], when=when), "x": Uniform(0, 1)})
    found = scenarios_of(axes_of(space))
    assert sorted((round(s.weight, 3), s.active.tolist()) for s in found) == [
        (0.25, [True, False, False, True]),
        (0.375, [True, True, False, True]),
        (0.375, [True, True, True, True]),
    ]


def test_marginals_are_the_forests_own_averages():
    """Against a brute-force average over configs drawn from the space."""
    branches = {"sgd": {"m": Uniform(0, 1)}}
    space = Space.parse({"opt": Choice(["sgd", "adam"], when=branches), "a": Uniform(0, 1), "k": Int(1, 4)})
    trials, epochs = sampled(space, 80, lambda c: c["a"] * c.get("m", 2) + c["k"])
    features = encode(space, trials)
    forest = grow(features.matrix, epochs["m"].to_numpy(), 0, 8)
    means = marginals(boxes(forest, features.axes), features)
    sample = draw(features, 0, 20000)
    predicted = forest.each(sample).mean(axis=0)
    for number, axis in enumerate(features.axes):
        for cell, code in enumerate(axis.encoded()[:3]):
            at = sample.copy()
            at[:, axis.column : axis.column + axis.width] = code
            if axis.leaf.label == "opt=sgd/m":
                at = at[sample[:, 0] == 1]
            elif axis.leaf.label == "opt":
                at = sample[sample[:, cell] == 1]
            expected = forest.each(at).mean()
            assert means[number][cell] == pytest.approx(expected, abs=0.03), (axis.leaf.label, cell)
    assert np.isfinite(predicted).all()
