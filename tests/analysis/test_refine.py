"""The next space holds the best config, stays inside hard limits, and can be written and read."""

from __future__ import annotations

import math
import random
import sys
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).resolve().parents[2]))  # benchmarks/ is no installed package

from benchmarks.planted import keeps, planted_frames, planted_optimum, planted_space
from trainables.parameters import check
from tuner.analysis.refine import refine
from tuner.space import Choice, Fixed, Int, LogInt, LogNormal, LogUniform, Normal, Space, Uniform
from tuner.spec.text import document


def tried(space: Space, n: int, score, seed: int = 0) -> pd.DataFrame:
    """Return a trials frame of random configs; a score of None is a failure of the config."""
    rng = random.Random(seed)
    configs = [space.sample(rng) for _ in range(n)]
    values = [score(config) for config in configs]
    frame = pd.DataFrame({"trial": [f"t{i}" for i in range(n)], "number": range(n), "stage": "search", "fold": None})
    frame["status"] = ["failed" if value is None else "completed" for value in values]
    frame["cause"] = ["config.raised" if value is None else None for value in values]
    for name in space.names():
        frame[f"config.{name}"] = pd.Series([config.get(name) for config in configs], dtype=object)
    return frame.assign(**{"best.m": [math.nan if value is None else value for value in values]})


def changed(changes) -> dict[str, str]:
    return {change.name: change.why for change in changes}


def test_a_range_is_narrowed_to_where_the_best_are_and_says_why():
    space = Space.parse({"rate": LogUniform(1e-4, 1.0), "free": Uniform(0, 1)})
    trials = tried(space, 60, lambda c: -abs(math.log10(c["rate"]) + 2))
    new, changes = refine(space, trials, "m", "max")
    domains = dict(new.entries)
    assert 1e-4 < domains["rate"].low < 0.01 < domains["rate"].high < 1 and domains["free"] == Uniform(0, 1)
    (change,) = changes
    assert (change.name, change.before) == ("rate", "{ loguniform = [0.0001, 1.0] }")
    assert change.why.startswith("the best 15 of 60 trials lie from")


def test_a_range_is_widened_where_the_best_sits_at_its_edge():
    space = Space.parse({"rate": LogUniform(1e-4, 1e-2), "free": Uniform(0, 1)})
    new, changes = refine(space, tried(space, 60, lambda c: c["rate"]), "m", "max")
    assert dict(new.entries)["rate"].high == 0.1  # half of its two decades
    assert "upper edge" in changed(changes)["rate"]


def test_a_hard_limit_is_kept_and_said():
    space = Space.parse({"dropout": Uniform(0, 0.95), "momentum": Uniform(0.0, 0.5)})
    new, changes = refine(space, tried(space, 60, lambda c: -c["dropout"]), "m", "max", trainable="cnn")
    assert dict(new.entries)["dropout"].low == 0.0 and dict(new.entries)["dropout"].high < 0.95
    assert "as far as dropout may go" in changed(changes)["dropout"]


def test_max_epochs_is_a_hard_limit():
    space = Space.parse({"epochs": Int(2, 10)})
    trials = tried(space, 40, lambda c: c["epochs"])
    assert dict(refine(space, trials, "m", "max", max_epochs=10)[0].entries)["epochs"].high == 10
    assert dict(refine(space, trials, "m", "max", max_epochs=50)[0].entries)["epochs"].high == 14


def test_a_range_is_not_widened_to_where_trials_fail():
    space = Space.parse({"rate": LogUniform(1e-4, 1.0)})
    fails = tried(
        space, 60, lambda c: None if c["rate"] > 0.3 and zlib.crc32(str(c).encode()) % 10 else c["rate"], seed=3
    )
    best = fails["best.m"].max()
    fails.loc[fails["best.m"].idxmax(), ["config.rate", "best.m"]] = [0.99, best + 1]
    new, changes = refine(space, fails, "m", "max")
    assert dict(new.entries)["rate"].high == 1.0 and "trials fail there" in str(changes)


def test_an_option_is_dropped_only_with_evidence():
    branches = {"sgd": {"momentum": Uniform(0, 1)}}
    space = Space.parse({"opt": Choice(["sgd", "adam", "rmsprop"], when=branches), "x": Uniform(0, 1)})
    bad = tried(space, 60, lambda c: (c["opt"] != "adam") + 0.3 * c["x"])
    new, changes = refine(space, bad, "m", "max")
    assert dict(new.entries)["opt"].options == ["sgd", "rmsprop"]
    assert "adam: none of its" in changed(changes)["opt"]
    assert "opt=sgd/momentum" not in changed(changes)  # it does not matter
    alike = tried(space, 60, lambda c: c["x"])
    assert dict(refine(space, alike, "m", "max")[0].entries)["opt"].options == ["sgd", "adam", "rmsprop"]


def test_a_config_that_was_chosen_elsewhere_stays_inside():
    branches = {"adam": {"rate": LogUniform(1e-4, 1.0)}}
    space = Space.parse({"opt": Choice(["sgd", "adam"], when=branches), "x": Uniform(0, 1), "y": Uniform(0, 1)})
    trials = tried(space, 60, lambda c: (c["opt"] == "adam") + c["x"])
    alone, changes = refine(space, trials, "m", "max")
    assert {change.name for change in changes} >= {"opt", "x"}
    new, changes = refine(space, trials, "m", "max", keep={"opt": "sgd", "x": 0.9, "y": 0.5, "other": 1})
    # Only what would leave it outside is taken back.
    assert not new.explain({"opt": "sgd", "x": 0.9, "y": 0.5})
    assert dict(new.entries)["x"] == dict(alone.entries)["x"]
    assert "would not hold the chosen config's 'sgd'" in changed(changes)["opt"]
    # One that never was inside says nothing.
    assert refine(space, trials, "m", "max", keep={"opt": "sgd", "x": 7.0, "y": 0.5})[0] == alone


def test_one_option_left_becomes_fixed_or_keeps_its_branch():
    space = Space.parse({"flag": Choice([True, False]), "x": Uniform(0, 1)})
    new, _ = refine(space, tried(space, 60, lambda c: 10 * c["flag"] + c["x"]), "m", "max")
    assert dict(new.entries)["flag"] == Fixed(True)
    space = Space.parse({"opt": Choice(["a", "b"], when={"a": {"k": Int(1, 9)}}), "x": Uniform(0, 1)})
    new, _ = refine(space, tried(space, 60, lambda c: 10 * (c["opt"] == "a") + c["x"]), "m", "max")
    assert dict(new.entries)["opt"] == Choice(["a"], when={"a": {"k": Int(1, 9)}})


def test_what_moves_less_than_the_noise_is_frozen():
    space = Space.parse({"rate": Uniform(0, 1), "idle": Uniform(0, 1), "layers": Int(1, 4)})
    trials = tried(space, 80, lambda c: -abs(c["rate"] - 0.5))
    new, changes = refine(space, trials, "m", "max", noise=0.1)
    best = trials.loc[trials["best.m"].idxmax()]
    assert dict(new.entries)["idle"] == Fixed(best["config.idle"])
    assert dict(new.entries)["layers"] == Fixed(best["config.layers"])
    assert not isinstance(dict(new.entries)["rate"], Fixed)
    assert "the noise is 0.1" in changed(changes)["idle"]
    assert "idle" not in changed(refine(space, trials, "m", "max")[1])  # nothing is known of the noise


def test_the_planted_optimum_stays_inside():
    space = planted_space()
    for seed in range(3):
        trials, _ = planted_frames(seed, space)
        assert keeps(refine(space, trials, "val_accuracy", "max", noise=0.02)[0], planted_optimum(seed))


@pytest.mark.parametrize("n", [0, 1, 7])
def test_too_few_trials_change_nothing_and_say_so(n):
    space = Space.parse({"a": Uniform(0, 1)})
    new, changes = refine(space, tried(space, n, lambda c: c["a"]), "m", "max")
    assert new == space and f"{n} configs" in changes[0].why


def test_odd_data_changes_nothing_and_says_so():
    space = Space.parse({"a": Uniform(0, 1), "b": 3})
    trials = tried(space, 30, lambda c: c["a"])
    for odd in (
        trials.drop(columns="best.m"),
        trials.assign(**{"best.m": math.nan}),
        trials.assign(**{"config.a": 7.0}),
    ):
        new, changes = refine(space, odd, "m", "max", noise=0.1)
        assert new == space and changes[0].after == "unchanged" and changes[0].why
    assert refine(space, trials.assign(**{"best.m": 1.0, "config.a": 0.5}), "m", "max")[0] == space
    assert refine(Space(), trials, "m", "max")[0] == Space()


def test_repeats_are_averaged():
    space = Space.parse({"a": Uniform(0, 1)})
    trials = pd.concat([tried(space, 12, lambda c: -abs(c["a"] - 0.5))] * 3)
    assert "of 12 trials" in str(refine(space, trials, "m", "max")[1]) or refine(space, trials, "m", "max")[0] == space


DOMAINS = st.one_of(
    st.tuples(st.floats(-5, 5), st.floats(0.01, 10)).map(lambda p: Uniform(p[0], p[0] + p[1])),
    st.tuples(st.floats(1e-6, 1), st.floats(1.5, 1e5)).map(lambda p: LogUniform(p[0], p[0] * p[1])),
    st.tuples(st.integers(-5, 5), st.integers(1, 12), st.integers(1, 3)).map(
        lambda p: Int(p[0], p[0] + p[1] * p[2], step=p[2], points=2)
    ),
    st.tuples(st.integers(1, 9), st.integers(1, 300)).map(lambda p: LogInt(p[0], p[0] + p[1])),
    st.integers(1, 30).map(lambda n: Uniform(0.1, round(0.1 + n * 0.05, 2), step=0.05)),
    st.floats(0.1, 3).map(lambda s: Normal(0, s)),
    st.floats(0.1, 1).map(lambda s: LogNormal(-3, s, bounds=[0.005, 1.0])),
    st.lists(st.sampled_from(["a", "b", 3, "3", True, 0.5]), min_size=1, max_size=4, unique_by=repr).map(Choice),
    st.sampled_from([64, "relu", 0.1]).map(Fixed),
)


@st.composite
def spaces(draw) -> Space:
    table = {f"p{i}": draw(DOMAINS) for i in range(draw(st.integers(1, 3)))}
    table["opt"] = Choice(["x", "y"], when={"x": {"inner": draw(DOMAINS)}}) if draw(st.booleans()) else draw(DOMAINS)
    return Space.parse(table)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(space=spaces(), seed=st.integers(0, 99), weights=st.lists(st.floats(-3, 3), min_size=5, max_size=5))
def test_any_space_keeps_the_best_and_round_trips(space, seed, weights):
    def score(config) -> float | None:
        numbers = [v if isinstance(v, int | float) else len(v) for v in config.values()]
        total = sum(w * math.atan(n) for w, n in zip(weights, numbers, strict=False))
        return None if seed % 7 == 0 and total < -2 else total

    trials = tried(space, 40, score, seed)
    new, changes = refine(space, trials, "m", "max", noise=0.05 if seed % 2 else None)
    best = trials.loc[trials["best.m"].idxmax()] if trials["best.m"].notna().any() else None
    if best is not None:
        config = {n: best[f"config.{n}"] for n in space.names() if best[f"config.{n}"] is not None}
        config = {n: v for n, v in config.items() if not (isinstance(v, float) and np.isnan(v))}
        assert new.contains(config)
    assert Space.parse(tomllib.loads(document({"space": new.to_table()}))["space"]) == new
    assert changes and all(change.why for change in changes)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), up=st.booleans())
def test_no_end_breaks_a_rule_of_the_trainable(seed, up):
    space = Space.parse(
        {
            "learning_rate": LogUniform(1e-4, 1.0),
            "dropout": Uniform(0.05, 0.9),
            "momentum": Uniform(0.1, 0.99),
            "conv_layers": Int(1, 3),
            "filters": LogInt(1, 64),
            "gamma": Uniform(0.2, 0.95),
        }
    )
    rng = np.random.default_rng(seed)
    name = space.names()[int(rng.integers(6))]
    trials = tried(space, 40, lambda c: c[name] if up else -c[name], seed)
    new, _ = refine(space, trials, "m", "max", trainable="cnn")
    for parameter, domain in new.entries:
        for value in (domain.low, domain.high):  # type: ignore[attr-defined]
            assert check("cnn", parameter, value) is None
