"""The gate of bf16: its tests are the textbook's, and can fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.append(str(Path(__file__).resolve().parents[2]))  # benchmarks/ is no installed package

from benchmarks import precision


def test_tost_is_two_one_sided_t_tests():
    differences = np.random.default_rng(0).normal(0.05, 0.3, 30)
    below = stats.ttest_1samp(differences, -0.3, alternative="greater").pvalue
    above = stats.ttest_1samp(differences, 0.3, alternative="less").pvalue
    assert precision.tost(list(differences))["p"] == pytest.approx(max(below, above), rel=0.01)


@pytest.mark.parametrize(
    ("mean", "spread", "equal"),
    [(0.0, 0.3, True), (0.35, 0.3, False), (-0.35, 0.3, False), (0.0, 3.0, False)],
    ids=["the same", "above", "below", "not known well enough"],
)
def test_equal_is_only_what_is_shown_to_be(mean, spread, equal):
    noise = np.random.default_rng(1).standard_normal(30)
    values = mean + spread * (noise - noise.mean()) / noise.std(ddof=1)
    assert precision.tost(list(values))["equal"] is equal


def test_no_noise_is_no_division_by_zero():
    assert precision.tost([0.1] * 5)["equal"]
    assert not precision.tost([0.4] * 5)["equal"]


@pytest.mark.parametrize("spread", [0.2, 0.4, 0.6])
def test_the_seeds_that_are_needed_give_the_power(spread):
    n, rng = precision.seeds_needed(spread), np.random.default_rng(2)
    sets = rng.normal(0, spread, (4_000, n))
    half = stats.t.ppf(0.95, n - 1) * sets.std(axis=1, ddof=1) / np.sqrt(n)
    power = float((np.abs(sets.mean(axis=1)) + half < 0.3).mean())
    # One seed less would not do; its formula is a little off where n is small.
    assert 0.78 < power < 0.9


def test_agreement_is_kendalls_tau():
    rng = np.random.default_rng(3)
    table = rng.integers(0, 12, (2, 3, 20)).astype(float)  # with ties
    fp32, bf16 = table
    same = np.mean([stats.kendalltau(a, b).statistic for a, b in zip(fp32, bf16, strict=True)])
    other = np.mean([stats.kendalltau(fp32[a], fp32[b]).statistic for a, b in ((0, 1), (0, 2), (1, 2))])
    assert precision.agreement(table) == pytest.approx((same, other))


def test_ranks_that_bf16_shuffles_are_seen():
    rng = np.random.default_rng(4)
    quality = np.linspace(60, 90, 24)
    fp32 = quality + rng.normal(0, 1, (3, 24))
    alike = np.stack([fp32, quality + rng.normal(0, 0.5, (3, 24))])
    shuffled = np.stack([fp32, quality + rng.normal(0, 8, (3, 24))])
    assert precision.lower_bound(alike, 200) > -precision.RANK_MARGIN > precision.lower_bound(shuffled, 200)


@pytest.mark.parametrize("trainable", ["cnn", "resnet"])
def test_random_configs_are_the_trainables(trainable):
    import random

    from trainables.parameters import complete

    configs = [precision.random_config(random.Random(n), trainable) for n in range(20)]
    assert all(complete(trainable, config) for config in configs)


def test_a_model_is_trained_in_the_precision_asked_for():
    config = json.dumps({"filters": 8, "epochs": 3})
    found = {
        name: precision.train(precision.Training("cnn", "digits", "", config, 1, name))[0] for name in ("fp32", "bf16")
    }
    assert all(50 < accuracy <= 100 for accuracy in found.values())


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (("passed", "passed", "passed"), "passed"),
        (("passed", "failed", "passed"), "failed"),
        (("passed", "passed"), "incomplete"),
    ],
)
def test_a_gate_is_passed_by_all_its_parts(verdicts, whole):
    parts = {name: {"verdict": one} for name, one in zip(precision.PARTS, verdicts, strict=False)}
    assert precision.verdict(parts) == whole


def recorded():
    """Every part that was measured: trainable, part, result. None before the first."""
    gates = json.loads(precision.OUT.read_text())["gates"] if precision.OUT.is_file() else {}
    return [(name, part, made) for name, gate in gates.items() for part, made in gate["parts"].items()]


def test_what_is_recorded_follows_from_its_accuracies():
    for name, part, made in recorded():
        table = np.array([made["accuracies"][kind] for kind in precision.PRECISIONS])
        if part == "ranks":
            assert table.shape == (2, precision.SEEDS, precision.CONFIGS)
            tau, other = precision.agreement(table)
            passed = tau >= other and made["lower_bound_of_difference"] > -precision.RANK_MARGIN
            # Accuracies are kept to a hundredth of a point, which ties a few.
            assert (tau, other) == pytest.approx((made["tau_bf16"], made["tau_another_seed"]), abs=0.02)
        else:
            again = precision.tost(list(table[1] - table[0]))
            passed = again["p"] < precision.LEVEL
            assert again["n"] == made["n"] >= precision.FEWEST
            assert again["mean"] == pytest.approx(made["mean"], abs=0.01)
        assert made["verdict"] == ("passed" if passed else "failed"), (name, part)
