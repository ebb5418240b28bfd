import math

import numpy as np
import pytest
from scipy import stats

from tuner.analysis.paired import bca, paired_difference, tango


def model(right, y):
    called = np.where(right, y, 1 - y)
    return np.eye(2)[called]


def test_tango_gives_the_published_example():
    # Tango (1998), table 4: 44 pairs, 1 gained and 9 lost gives a difference of -8/44.
    low, high = tango(1, 9, 44, 1.959964)
    assert low < -8 / 44 < high

    # And its ends are where the score statistic is the quantile, the constrained likelihood maximised by search.
    def statistic(delta):
        q = np.linspace(max(0.0, -delta) + 1e-9, (1 - delta) / 2 - 1e-9, 2_000_001)
        likelihood = 1 * np.log(q + delta) + 9 * np.log(q) + 34 * np.log(1 - 2 * q - delta)
        best = q[np.argmax(likelihood)]
        return (1 - 9 - 44 * delta) / math.sqrt(44 * (2 * best + delta - delta**2))

    with np.errstate(invalid="ignore", divide="ignore"):
        assert statistic(low) == pytest.approx(1.96, abs=2e-3)
        assert statistic(high) == pytest.approx(-1.96, abs=2e-3)


@pytest.mark.parametrize(("gained", "lost", "n"), [(0, 0, 1), (0, 0, 50), (1, 0, 1), (0, 7, 7), (7, 0, 7), (3, 3, 6)])
def test_tango_at_the_edges(gained, lost, n):
    low, high = tango(gained, lost, n, 1.96)
    assert -1 <= low <= (gained - lost) / n <= high <= 1 and low < high
    # Who is first does not matter but for the sign.
    other = tango(lost, gained, n, 1.96)
    assert (low, high) == pytest.approx((-other[1], -other[0]), abs=1e-6)


def test_equal_models_differ_by_nothing_within_what_the_samples_can_tell():
    y = np.zeros(100, dtype=int)
    same = model(np.arange(100) < 90, y)
    result = paired_difference(same, same, y, "test_accuracy")
    assert (
        result.difference == 0
        and result.low == pytest.approx(-result.high)
        and result.high == pytest.approx(1.96**2 / (100 + 1.96**2), abs=1e-4)
    )
    loss = paired_difference(same, same, y, "val_loss")
    assert loss.difference == 0 and math.isnan(loss.low) and "does not vary" in loss.note


def test_bca_agrees_with_scipy():
    rng = np.random.default_rng(0)
    y, first = np.zeros(60), rng.exponential(1.0, 60)
    second = first * 0.5 + rng.exponential(0.6, 60)
    ours = paired_difference(first, second, y, "mae", bootstraps=20_000)
    theirs = stats.bootstrap((second - first,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert ours.construction.startswith("paired bootstrap of the 60 samples")


def test_bca_without_bend_or_shift_is_the_percentile_interval():
    drawn = np.linspace(-1, 1, 2001)
    assert bca(drawn, 0.0, np.empty(0), 0.95) == pytest.approx((-0.95, 0.95), abs=1e-3)


def test_the_interval_of_accuracies_covers():
    rng, held = np.random.default_rng(0), 0
    for _ in range(300):
        u = rng.random(100)
        y = np.zeros(100, dtype=int)
        # 85 % against 92 %, most samples in common.
        result = paired_difference(model(u < 0.85, y), model((u > 0.03) & (u < 0.95), y), y, "accuracy")
        held += result.low <= 0.07 <= result.high
    assert held >= 0.92 * 300


@pytest.mark.parametrize(
    ("first", "y", "metric", "note"),
    [
        (np.ones((3, 2)), [0, 1, 0], "mine", "no built-in metric"),
        (np.ones((0, 2)), [], "accuracy", "no samples"),
        (np.ones((2, 2)), [0, 1, 0], "accuracy", "another shape"),
        (np.ones(3), [0, 1, 0], "accuracy", "not defined for"),
        (np.full((3, 2), np.nan), [0, 1, 0], "accuracy", "not defined for"),
        (np.ones((3, 2)), [0, 0, 0], "roc_auc", "not defined for"),
        (np.ones((3, 2)), [0, 1, 2], "accuracy", "fewer classes"),
    ],
)
def test_what_cannot_be_compared_is_said(first, y, metric, note):
    result = paired_difference(first, first, np.array(y), metric)
    assert note in result.note and math.isnan(result.low)
