"""divergence, on literal curves (values are minimised)."""

import math

import pytest
from conformance_rules import RuleConformance

from tuner.stopping import Divergence


class TestConformance(RuleConformance):
    rule = Divergence()

    def for_mode(self, mode):
        return self.rule


def stopped_at(rule, values, max_epochs=30):
    curves = {"t": {}}
    for epoch, value in enumerate(values, start=1):
        curves["t"][epoch] = value
        if rule.decide(curves, "t", epoch, max_epochs):
            return epoch
    return None


TABLE = [
    # falling, and then it explodes: more than 0.5 + 2 * 2.3
    (Divergence(), [2.3, 1.0, 0.5, 9.0, 20.0, 99.0], 5),
    # one spike that it recovers from
    (Divergence(), [2.3, 1.0, 0.5, 9.0, 0.6, 0.5, 0.4], None),
    (Divergence(patience=1), [2.3, 1.0, 0.5, 9.0, 0.6], 4),
    # a slow starter: no better than at first, and no worse than twice that
    (Divergence(), [2.3, 2.31, 2.32, 2.5, 3.0, 4.0, 2.3, 1.0], None),
    # it loses all that it had gained, but does not explode: plateau's case
    (Divergence(), [2.3, 0.5, 0.4, 2.4, 2.4, 2.4], None),
    # an accuracy (its negative) falls to nothing: it cannot explode
    (Divergence(), [-0.1, -0.9, -0.9, 0.0, 0.0, 0.0], None),
    # a log-likelihood that falls without bounds
    (Divergence(), [-1.0, -3.0, -3.0, 4.0, 9.0], 5),
    # an untrained first epoch that is huge is no scale to be exceeded
    (Divergence(), [1e6, 1.0, 0.9, 50.0, 60.0], None),
    # nothing finite, from the start or later
    (Divergence(), [math.nan] * 6, 4),
    (Divergence(), [2.3, 1.0, math.inf, math.inf, math.inf], 4),
    (Divergence(), [math.nan, 2.3, 1.0, 0.5, 0.4], None),
    # without a scale nothing can be said
    (Divergence(), [0.0, 0.0, 0.0, 5.0, 5.0], None),
    (Divergence(grace_epochs=4), [2.3, 99.0, 99.0, 99.0, 99.0, 99.0], 6),
]


@pytest.mark.parametrize(("rule", "values", "epoch"), TABLE)
def test_table(rule, values, epoch):
    assert stopped_at(rule, values) == epoch


def test_the_last_epoch_has_nothing_left_to_save():
    assert stopped_at(Divergence(), [2.3, 1.0, 0.5, 9.0, 20.0], max_epochs=5) is None


def test_the_reason_is_one_line():
    curves = {"t": {1: 2.3, 2: 1.0, 3: 9.0, 4: 20.0}}

    reason = Divergence().decide(curves, "t", 4, 30)

    assert reason == "divergence: since epoch 3 far worse than its best, and worse than at its first epoch"
