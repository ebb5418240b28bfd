"""plateau, on literal curves (values are minimised)."""

import math

import pytest
from conformance_rules import RuleConformance

from tuner.stopping import Plateau


class TestConformance(RuleConformance):
    rule = Plateau()


def stopped_at(rule, values, max_epochs=30):
    """Feed a curve epoch by epoch; return the epoch at which it is stopped, or None."""
    curves = {"t": {}}
    for epoch, value in enumerate(values, start=1):
        curves["t"][epoch] = value
        if rule.decide(curves, "t", epoch, max_epochs):
            return epoch
    return None


FALLING = [10.0 - epoch for epoch in range(10)]

TABLE = [
    # always improving
    (Plateau(patience=2), FALLING, None),
    # flat after epoch 3: epochs 4 and 5 bring nothing
    (Plateau(patience=2), [9, 8, 7, 7, 7, 7], 5),
    # rising counts as not improving
    (Plateau(patience=2), [9, 8, 7, 8, 9, 10], 5),
    # an improvement within the window saves it
    (Plateau(patience=2), [9, 8, 7, 7, 6, 6, 6], 7),
    # flat from the start: the first grace_epochs are not held against it
    (Plateau(patience=2, grace_epochs=1), [9, 9, 9, 9, 9, 9], 3),
    (Plateau(patience=2, grace_epochs=3), [9, 9, 9, 9, 9, 9], 5),
    (Plateau(), [9] * 12, 8),
    # steps of 0.4, where more than 1 is asked over two epochs, and over three
    (Plateau(patience=2, min_delta=1), [9, 8.6, 8.2, 7.8, 7.4, 7.0], 5),
    (Plateau(patience=3, min_delta=1), [9, 8.6, 8.2, 7.8, 7.4, 7.0], None),
    # as much as min_delta is not more than min_delta
    (Plateau(patience=1, min_delta=1), [9, 8, 7, 6], 4),
    # nothing finite is no improvement; one finite value after it is
    (Plateau(patience=2), [math.nan] * 6, 5),
    (Plateau(patience=2), [math.nan, math.nan, math.nan, math.nan, 5, 4], None),
]


@pytest.mark.parametrize(("rule", "values", "epoch"), TABLE)
def test_table(rule, values, epoch):
    assert stopped_at(rule, values) == epoch


def test_the_first_epoch_never_decides():  # trap 11
    assert Plateau(patience=1, grace_epochs=1).decide({"t": {1: 9.0}}, "t", 1, 10) is None


def test_other_trials_do_not_matter():
    curves = {"t": dict(enumerate(FALLING, start=1)), "far better": {1: 0.0}}

    assert Plateau(patience=1).decide(curves, "t", 10, 30) is None


def test_the_last_epoch_has_nothing_left_to_save():
    assert stopped_at(Plateau(patience=2), [9, 9, 9, 9, 9], max_epochs=5) is None


def test_the_reason_is_one_line():
    curves = {"t": dict.fromkeys(range(1, 9), 1.0)}

    reason = Plateau(min_delta=0.01).decide(curves, "t", 8, 30)

    assert reason == "plateau: no improvement of more than 0.01 since epoch 3"
