"""Effects and progress on planted sweeps, and on odd ones."""

from __future__ import annotations

import math
import random

import numpy as np
import pandas as pd
import pytest

from tuner.analysis import effects, progress
from tuner.space import Choice, LogUniform, Space, Uniform

SPACE = Space.parse(
    {
        "rate": LogUniform(1e-4, 1.0),
        "x": Uniform(0, 1),
        "opt": Choice(["sgd", "adam"], when={"sgd": {"momentum": Uniform(0, 1)}}),
    }
)


def score(config: dict) -> float:
    return -((math.log10(config["rate"]) + 2) ** 2) + (config["opt"] == "adam")


def made(configs: list[dict], epochs: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = list(dict.fromkeys(name for config in configs for name in config))
    start = pd.Timestamp("2026-01-01", tz="UTC")
    rows = [
        {"trial": f"t{i}", "number": i + 1, "stage": "search", "fold": None, "status": "completed", "cause": None}
        | {"epochs": epochs, "duration_s": 2.0 * epochs, "started_at": start + pd.Timedelta(seconds=10 * i)}
        | {f"config.{name}": config.get(name) for name in names}
        for i, config in enumerate(configs)
    ]
    curves = [
        {"trial": f"t{i}", "epoch": epoch, "m": score(config) - 1 / epoch}
        | {"reported_at": start + pd.Timedelta(seconds=10 * i + 2 * epoch)}
        for i, config in enumerate(configs)
        for epoch in range(1, epochs + 1)
    ]
    return pd.DataFrame(rows), pd.DataFrame(curves)


def sampled(n: int = 80) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = random.Random(0)
    return made([SPACE.sample(rng) for _ in range(n)])


def test_partial_dependence_follows_the_planted_curve():
    found = effects.partial_dependence(*sampled(), SPACE, "m", "max", bootstraps=10)
    rate, x, opt, momentum = found.curves
    assert 0.002 < rate.values[int(rate.mean.argmax())] < 0.05 and rate.log
    assert np.ptp(x.mean) < 0.4 < np.ptp(rate.mean)
    assert opt.values == ("sgd", "adam") and opt.mean[1] - opt.mean[0] == pytest.approx(1, abs=0.4)
    assert momentum.name == "opt=sgd/momentum"
    assert (rate.low < rate.mean).all() and (rate.mean < rate.high).all()
    assert found.epoch == 3


def test_heatmaps_of_pairs_and_of_what_never_meets():
    maps = effects.pairwise(
        *sampled(), SPACE, "m", "max", [("rate", "opt"), ("opt", "opt=sgd/momentum"), ("rate", "no")]
    )
    by_rate, by_branch, unknown = maps
    assert by_rate.mean.shape == (32, 2) and by_rate.logs == (True, False)
    assert (by_rate.mean[:, 1] > by_rate.mean[:, 0]).mean() > 0.9
    # adam has no momentum
    assert np.isfinite(by_branch.mean[0]).all() and np.isnan(by_branch.mean[1]).all()
    assert unknown.note == "no does not vary" and not unknown.mean.size


def test_slices_have_every_trial_with_the_parameter_and_failed_ones():
    trials, epochs = sampled(20)
    trials.loc[0, ["status", "cause"]] = ["failed", "config.raised"]
    seen = effects.slices(trials, epochs[epochs["trial"] != "t0"], SPACE, "m", "max")
    counts = seen["parameter"].value_counts()
    assert counts["rate"] == 20 and counts["opt=sgd/momentum"] == trials["config.momentum"].notna().sum()
    failed = seen[seen["status"] == "failed"]
    assert set(failed["score"]) == {seen["score"].min()}


def test_one_at_a_time_compares_with_the_baseline():
    base = {"rate": 0.01, "x": 0.5, "opt": "sgd", "momentum": 0.9}
    others = [{"rate": 0.1}, {"rate": 1.0}, {"x": 0.1}]
    configs = [
        base,
        *(base | other for other in others),
        {"rate": 0.01, "x": 0.5, "opt": "adam"},
        base | {"rate": 1.0, "x": 0.0},
    ]
    found = effects.one_at_a_time(*made(configs), SPACE, "m", "max", base).set_index(["parameter", "value"])["effect"]
    assert found.to_dict() == pytest.approx({("rate", 0.1): -1, ("rate", 1.0): -4, ("x", 0.1): 0, ("opt", "adam"): 1})


def test_parallel_coordinates_lie_between_0_and_1():
    frame, labels = effects.parallel_coordinates(*sampled(15), SPACE, "m", "max")
    assert labels == ("rate", "x", "opt", "opt=sgd/momentum") and len(frame) == 15
    places = frame[list(labels)].to_numpy()
    assert np.nanmin(places) >= 0 and np.nanmax(places) <= 1
    assert set(frame["opt"]) == {0.25, 0.75}
    assert (frame["opt=sgd/momentum"].isna() == (frame["opt"] == 0.75)).all()


def test_best_so_far_against_trials_and_time():
    trials, epochs = made([{"rate": r, "x": 0.5, "opt": "adam"} for r in (1.0, 0.01, 0.1, 0.01)])
    trials.loc[2, "status"] = "failed"
    found = progress.best_so_far(trials, epochs, "m", "max")
    assert found["improves"].tolist() == [True, True, False, False]
    assert found["best"].iloc[-1] == found["value"].iloc[1]
    assert found["elapsed_s"].tolist() == [6, 16, 26, 36]
    by_time = progress.best_by_time(trials, epochs, "m", "max")
    assert by_time["elapsed_s"].tolist() == [2, 4, 6, 12, 14, 16] and by_time["best"].is_monotonic_increasing


def test_curve_bands_and_costs():
    trials, epochs = sampled(30)
    epochs = epochs[~((epochs["trial"] == "t3") & (epochs["epoch"] > 1))]
    bands = progress.curve_bands(trials, epochs, "m", "max")
    assert bands["n"].tolist() == [30, 29, 29]
    assert (bands["low"] <= bands["median"]).all() and (bands["median"] <= bands["high"]).all()
    assert bands["winner"].iloc[-1] == bands["best"].iloc[-1]
    assert set(progress.costs(trials)["epoch_s"]) == {2.0}


@pytest.mark.parametrize("keep", [0, 1])
def test_odd_data_gives_empty_results_and_notes(keep):
    trials, epochs = sampled(keep or 1)
    trials, epochs = trials.iloc[:keep], epochs[epochs["trial"].isin(trials["trial"][:keep])]
    for one, two in ((trials, epochs), (trials, epochs.drop(columns="m")), (trials, epochs.assign(m=math.nan))):
        assert effects.partial_dependence(one, two, SPACE, "m", "max").note
        assert effects.pairwise(one, two, SPACE, "m", "max", [("rate", "x")])[0].note
        assert len(effects.slices(one, two, SPACE, "m", "max")) <= 4 * keep
        assert len(effects.one_at_a_time(one, two, SPACE, "m", "max", {"rate": 0.1})) == 0
        assert len(effects.parallel_coordinates(one, two, SPACE, "m", "max")[0]) <= keep
        assert len(progress.best_so_far(one, two, "m", "max")) == keep
        assert len(progress.best_by_time(one, two, "m", "max")) <= 3
        assert len(progress.curve_bands(one, two, "m", "max")) <= 3
        assert len(progress.costs(one)) == keep
