"""Advice says what the trials bear out, with counts, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from tuner.analysis.advice import advice
from tuner.analysis.diagnosis import Curve, Diagnosis, RateGroup
from tuner.space import Choice, LogUniform, Space, Uniform

SPACE = Space.parse({"dropout": Uniform(0, 0.6), "rate": LogUniform(1e-4, 1.0), "opt": Choice(["sgd", "adam"])})


def made(n: int = 40, seed: int = 0, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"trial": [f"t{i}" for i in range(n)], "number": range(n), "stage": "search", "fold": None})
    frame = frame.assign(status="completed", cause=None, epochs=10)
    frame["config.dropout"] = rng.uniform(0, 0.6, n)
    frame["config.rate"] = 10 ** rng.uniform(-4, 0, n)
    frame["config.opt"] = rng.choice(["sgd", "adam"], n)
    frame["best.m"] = rng.normal(size=n)
    return frame.assign(**columns)


def diagnosed(trials: pd.DataFrame, kinds, limits: tuple[str, ...] = ()) -> Diagnosis:
    curves = {trial: Curve(kind, None, "") for trial, kind in zip(trials["trial"], kinds, strict=True)}
    return Diagnosis(curves, {}, (RateGroup("sgd", "", (), limits),))


def said(trials: pd.DataFrame, kinds, **keywords: object) -> list[str]:
    return advice(diagnosed(trials, kinds), trials, SPACE, "m", "max", **keywords)  # type: ignore[arg-type]


def test_a_range_that_overfits_is_named_with_counts_and_what_to_try():
    trials = made()
    kinds = np.where(trials["config.dropout"] < 0.2, "overfitting", "good_fit")
    (text,) = said(trials, kinds)
    low = int((trials["config.dropout"] < 0.2).sum())
    assert text.startswith("dropout below 0.") and "; try 0." in text
    # cut at a decile, so a trial or two may be on the wrong side
    hits, count = (int(word) for word in text.split("overfits in ")[1].split(" trials")[0].split(" of "))
    assert low - 3 <= hits <= count <= low + 3


def test_an_option_is_named():
    trials = made()
    kinds = np.where(trials["config.opt"] == "adam", "unstable", "good_fit")
    count = int((trials["config.opt"] == "adam").sum())
    assert said(trials, kinds) == [
        f'opt = "adam" is unstable in {count} of {count} trials (elsewhere in 0 of {40 - count})'
    ]


def test_a_cause_of_failure_is_linked_to_values():
    trials = made()
    high = trials["config.rate"] > 0.05
    trials.loc[high, ["status", "cause"]] = ["failed", "config.out_of_memory"]
    (text,) = said(trials, ["cannot_tell"] * 40)
    assert text.startswith("rate from") and "fails with config.out_of_memory" in text


def test_too_few_epochs():
    trials = made(10)
    assert said(trials, ["still_improving"] * 10, max_epochs=10) == [
        "all 10 full curves are still improving at epoch 10; raise sweep.max_epochs"
    ]
    assert said(trials.iloc[:4], ["still_improving"] * 4, max_epochs=10) == []
    # those that were stopped early say nothing of it
    assert said(trials.assign(status="stopped"), ["still_improving"] * 10, max_epochs=10) == []


def test_the_best_at_an_edge():
    trials = made()
    trials["best.m"] = np.log(trials["config.rate"])
    trials.loc[0, ["config.rate", "best.m"]] = [0.99, 9.0]
    (text,) = said(trials, ["good_fit"] * 40)
    assert text.startswith("the best trial sits at the upper edge of rate (0.99 of [0.0001, 1.0])") and "widen" in text


def test_learning_rates_come_in_and_the_number_of_sentences_is_held():
    trials = made()
    limits = tuple(f"learning_rate above 0.{i} diverges in {i} of {i} trials" for i in range(1, 12))
    told = advice(diagnosed(trials, ["good_fit"] * 40, limits), trials, SPACE, "m", "max")
    assert len(told) == 8 and told[0] == limits[0]


def test_chance_is_no_advice():
    """At 5 % a test, few of 30 sweeps without any effect may say something."""
    rng = np.random.default_rng(1)
    kinds = [rng.choice(["overfitting", "good_fit"], 40) for _ in range(30)]
    spoken = [said(made(seed=seed), kinds[seed]) for seed in range(30)]
    assert sum(bool(texts) for texts in spoken) <= 6


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_trials_bear_out_nothing(n):
    assert said(made(n), ["overfitting"] * n, max_epochs=10) == []


def test_odd_data():
    trials = made(20).assign(**{"best.m": math.nan})
    assert said(trials, ["cannot_tell"] * 20) == []
    assert advice(Diagnosis({}, {}), trials.drop(columns="best.m"), Space(), "m", "max") == []
    assert said(made(20).assign(**{"config.dropout": 0.3}), ["overfitting"] * 20) == []
