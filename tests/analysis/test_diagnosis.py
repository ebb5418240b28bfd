"""Planted curves of every class, and planted learning rates."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from tuner.analysis.diagnosis import classify_curve, diagnose, sigma

EPOCHS = np.arange(1, 21)
START = math.log(10)


def falling(end: float, pace: float = 3.0, epochs: np.ndarray = EPOCHS) -> np.ndarray:
    """A loss that falls from ln(10) to `end`."""
    return end + (START - end) * np.exp(-epochs / pace)


def noisy(values: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    return values + np.random.default_rng(seed).normal(0, noise, len(values))


def classed(val: np.ndarray, train: np.ndarray | None, **keywords: object) -> str:
    settings = {"start": START, "span": 2.2, "best_train": 0.05, "best": 0.1} | keywords
    return classify_curve(val.tolist(), None if train is None else train.tolist(), **settings).kind  # type: ignore[arg-type]


PLANTED = {
    "good_fit": (falling(0.15), falling(0.08)),
    "overfitting": (falling(0.2, 1.5) + 0.05 * np.maximum(EPOCHS - 6, 0), falling(0.01)),
    "underfitting": (falling(1.3, 1.5), falling(1.25, 1.5)),
    "still_improving": (START - 0.08 * EPOCHS, START - 0.085 * EPOCHS),
    "not_learning": (np.full(20, START), np.full(20, START)),
    "diverged": (START + 0.3 * EPOCHS, START + 0.3 * EPOCHS),
}


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_planted_curves_are_classed(kind, noise):
    val, train = PLANTED[kind]
    for seed in range(10):
        assert classed(noisy(val, noise, seed), noisy(train, noise, seed + 99)) == kind


def test_a_curve_that_swings_is_unstable():
    swings = 0.5 * (-1.0) ** EPOCHS
    assert classed(falling(0.5) + swings, falling(0.4) + swings) == "unstable"


def test_overfitting_names_the_epoch_that_was_best():
    val, train = PLANTED["overfitting"]
    curve = classify_curve(val.tolist(), train.tolist(), start=START, span=2.2, best_train=0.01, best=0.1)
    assert curve.from_epoch == int(val.argmin()) + 1
    assert f"after epoch {curve.from_epoch}" in curve.why


def test_validation_that_stands_still_while_training_falls_on_is_overfitting():
    assert classed(falling(0.9, 1.0), START - 0.11 * EPOCHS) == "overfitting"


def test_validation_that_rises_while_training_is_done_is_overfitting():
    val = falling(0.1, 1.0) + 0.025 * np.maximum(EPOCHS - 8, 0)  # a gap too small to say it by itself
    curve = classify_curve(val.tolist(), falling(0.1, 1.0).tolist(), start=START, span=2.2, best_train=0.1, best=0.1)
    assert curve.kind == "overfitting" and "validation rises by 0.2" in curve.why


def test_a_large_gap_at_the_end_is_overfitting():
    assert classed(falling(0.9, 2), falling(0.05, 2)) == "overfitting"


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("kind", PLANTED)
def test_three_epochs_cannot_tell_but_for_divergence(kind, length):
    val, train = (values[:length] for values in PLANTED[kind])
    curve = classify_curve(val.tolist(), train.tolist(), start=START, span=2.2)
    # 3 epochs of +0.3 each are clear at once.
    assert curve.kind == ("diverged" if kind == "diverged" else "cannot_tell")
    assert curve.kind == "diverged" or f"{length} epoch" in curve.why


def test_nothing_and_nan():
    assert classify_curve([], []).kind == "cannot_tell"
    assert classify_curve([1.0, math.nan, 1.0], [1.0, 0.9, 0.8]).kind == "diverged"
    assert "epoch 2" in classify_curve([1.0, math.inf, 1.0], None).why


def test_without_a_training_curve_neither_under_nor_overfitting_is_claimed():
    val, _ = PLANTED["overfitting"]
    assert classed(val, None) == "cannot_tell"
    assert classed(PLANTED["underfitting"][0], None) == "cannot_tell"
    assert classed(PLANTED["good_fit"][0], None) == "good_fit"
    assert classed(PLANTED["still_improving"][0], None) == "still_improving"
    assert classed(PLANTED["not_learning"][0], None) == "not_learning"


def test_sigma_is_the_noise_about_the_trend():
    line = np.linspace(2, 0, 400)
    assert sigma(noisy(line, 0.1)) == pytest.approx(0.1, rel=0.15)
    assert sigma(line) == pytest.approx(0, abs=1e-12)
    assert sigma([1.0, 2.0, 3.0]) is None


# --- frames ---


def frames(curves: dict[str, tuple[np.ndarray, np.ndarray]], configs: list[dict] | None = None, **columns: list):
    trials = pd.DataFrame({"trial": list(curves), "number": range(1, len(curves) + 1), "stage": "search"})
    trials = trials.assign(fold=None, repeat=1, status="completed", cause=None, epochs=20)
    for name in configs[0] if configs else ():
        trials[f"config.{name}"] = [config[name] for config in configs or ()]
    trials = trials.assign(**columns)
    rows = [
        {"trial": trial, "epoch": epoch, "val_loss": v, "train_loss": t, "val_accuracy": 1 - v / 3}
        for trial, (val, train) in curves.items()
        for epoch, (v, t) in enumerate(zip(val, train, strict=True), start=1)
    ]
    return trials, pd.DataFrame(rows, columns=["trial", "epoch", "val_loss", "train_loss", "val_accuracy"])


def test_every_trial_is_classed_and_counted():
    trials, epochs = frames({kind: PLANTED[kind] for kind in PLANTED})
    found = diagnose(trials, epochs, "val_accuracy", "max", classes=10)
    assert {trial: curve.kind for trial, curve in found.curves.items()} == {kind: kind for kind in PLANTED}
    assert found.counts == dict.fromkeys(PLANTED, 1)
    assert "ln(10)" in found.note


def test_the_start_is_the_evaluation_before_the_first_step_where_there_is_one():
    trials, epochs = frames({"good_fit": PLANTED["good_fit"]})
    found = diagnose(trials, epochs.assign(start_loss=2.4), "val_accuracy", "max", classes=10)
    assert "before the first step" in found.note and found.curves["good_fit"].kind == "good_fit"


def test_the_start_of_a_regression_is_the_targets_variance():
    trials, epochs = frames({"good_fit": PLANTED["good_fit"]})
    epochs["val_r2"] = 1 - epochs["val_loss"] / 5.0
    assert "variance" in diagnose(trials, epochs, "val_rmse", "min").note


def test_a_users_metric_alone():
    trials, epochs = frames({"a": PLANTED["good_fit"], "b": PLANTED["still_improving"]})
    found = diagnose(trials, epochs[["trial", "epoch", "val_accuracy"]], "val_accuracy", "max")
    assert found.curves["b"].kind == "still_improving"
    assert "cannot be told" in found.note and found.learning_rates == ()


def test_odd_data_gives_notes():
    trials, epochs = frames({"a": PLANTED["good_fit"]})
    assert diagnose(trials.iloc[:0], epochs.iloc[:0], "val_accuracy", "max").note
    assert "no trial has reported score" in diagnose(trials, epochs[["trial", "epoch"]], "score", "max").note
    failed = trials.assign(status="failed", cause="config.non_finite")
    assert (
        diagnose(failed, epochs.iloc[:0].assign(val_accuracy=[]), "val_accuracy", "max").curves["a"].kind == "diverged"
    )
    gaps = epochs.assign(val_loss=math.nan, train_loss=math.nan)
    gaps.loc[3:, "val_accuracy"] = math.nan
    assert diagnose(trials, gaps, "val_accuracy", "max", classes=1).curves["a"].kind == "cannot_tell"
    # every loss infinite: nothing to measure by, and no exception
    assert diagnose(trials, epochs.assign(val_loss=math.inf, train_loss=math.inf), "val_accuracy", "max").counts


# --- learning rates ---


def rate_curve(rate: float, seed: int) -> np.ndarray:
    """sgd on a quadratic, roughly: grows above 1, swings above 0.3, settles below, slow below 0.003."""
    if rate > 1:
        return START + 0.2 * EPOCHS
    if rate > 0.3:
        return falling(0.6, 1.0) + 0.3 * (-1.0) ** EPOCHS
    return noisy(falling(0.05, max(0.06 / rate, 1.0)), 0.005, seed)


def test_learning_rates_and_their_limits():
    rates = [0.0003, 0.0005, 0.001, 0.002, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.5, 2.0, 4.0, 8.0]
    curves = {f"t{i}": (rate_curve(rate, i),) * 2 for i, rate in enumerate(rates)}
    configs = [{"learning_rate": rate, "optimizer": "sgd", "lr_schedule": "constant"} for rate in rates]
    trials, epochs = frames(curves, configs)
    (group,) = diagnose(trials, epochs, "val_accuracy", "max", classes=10).learning_rates
    assert [rate.kind for rate in group.rates] == ["low"] * 4 + ["good"] * 5 + ["high"] * 3 + ["very_high"] * 4
    assert group.limits == (
        "sgd with constant: learning_rate above 0.8 diverges or does not learn in 4 of 4 trials",
        "sgd with constant: learning_rate above 0.2 is too high in 7 of 7 trials",
        "sgd with constant: learning_rate below 0.02 is slow in 4 of 4 trials",
        "sgd with constant: learning_rate from 0.02 to 0.2 is good in 5 of 5 trials",
    )


def test_each_optimizer_has_limits_of_its_own_and_a_short_trial_cannot_tell():
    curves = {"a": (falling(0.1), falling(0.1)), "b": (falling(0.1), falling(0.1)), "c": (falling(0.1)[:2],) * 2}
    configs = [{"learning_rate": 0.1, "optimizer": name} for name in ("sgd", "adam", "adam")]
    groups = diagnose(*frames(curves, configs), "val_accuracy", "max", classes=10).learning_rates
    assert [(group.optimizer, [rate.kind for rate in group.rates]) for group in groups] == [
        ("adam", ["good", "cut_short"]),
        ("sgd", ["good"]),
    ]
    assert all(group.limits == () for group in groups)  # too few to speak of


def test_a_loss_that_blew_up_is_a_very_high_rate():
    trials, epochs = frames(
        {"a": (falling(0.1),) * 2, "b": (falling(0.1)[:1],) * 2}, [{"learning_rate": r} for r in (0.1, 9.0)]
    )
    trials["status"], trials["cause"] = ["completed", "failed"], [None, "config.non_finite"]
    (group,) = diagnose(trials, epochs, "val_accuracy", "max", classes=10).learning_rates
    assert [rate.kind for rate in group.rates] == ["good", "very_high"]


def test_slow_beyond_the_good_rates_is_too_high_and_among_them_is_something_else():
    """Steps that are too large can look as slow as steps that are too small."""
    slow = falling(0.05, 30.0)
    rates = {0.001: slow, 0.01: falling(0.05), 0.03: slow, 0.1: falling(0.05), 0.5: slow, 0.9: START - 0.001 * EPOCHS}
    curves = {f"t{rate}": (loss, loss) for rate, loss in rates.items()}
    trials, epochs = frames(curves, [{"learning_rate": rate} for rate in rates])
    (group,) = diagnose(trials, epochs, "val_accuracy", "max", classes=10).learning_rates
    assert [rate.kind for rate in group.rates] == ["low", "good", "cut_short", "good", "high", "very_high"]


def test_one_rate_is_no_range():
    curves = {name: (falling(0.1), falling(0.1)) for name in "abcd"}
    configs = [{"learning_rate": 0.1, "optimizer": "sgd"}] * 4
    (group,) = diagnose(*frames(curves, configs), "val_accuracy", "max", classes=10).learning_rates
    assert group.limits == ("sgd: learning_rate of 0.1 is good in 4 of 4 trials",)
