"""target, on literal tables of curves."""

import math

import pytest
from conformance_rules import MAX_EPOCHS, RuleConformance, replay, table

from tuner.stopping import Target


class TestConformance(RuleConformance):
    rule = Target(value=0.5)

    def for_mode(self, mode):
        # the same value on either scale
        return Target(value=0.5 if mode == "min" else -0.5).for_mode(mode)

    def test_it_stops_some_and_not_all(self):
        # it stops all: those that are running when one is good enough
        stops = replay(self.rule, table())

        assert len(stops) == 12
        assert len({reason for _, reason in stops.values()}) == 1

    def test_what_is_not_finite_is_survived_and_never_good(self):
        curves = {"t": {1: math.nan, 2: -math.inf, 3: math.inf, 4: 1.0}}

        assert not any(self.rule.decide(curves, "t", epoch, MAX_EPOCHS) for epoch in range(1, 5))

    def test_a_slow_starter_is_not_held_for_lost_at_once(self):
        """Once the sweep has what was asked for, nobody else matters."""


@pytest.mark.parametrize(
    ("mode", "value", "curve", "reason"),
    [
        ("min", 0.5, {1: 0.9, 2: 0.5}, "target: t reached 0.5 at epoch 2, where 0.5 was asked for"),
        ("min", 0.5, {1: 0.9, 2: 0.51}, None),
        ("max", 0.9, {1: -0.8, 2: -0.95, 3: -0.7}, "target: t reached 0.95 at epoch 2, where 0.9 was asked for"),
        ("max", 0.9, {1: -0.89}, None),
        ("max", -0.1, {1: 0.05}, "target: t reached -0.05 at epoch 1, where -0.1 was asked for"),
    ],
)
def test_table(mode, value, curve, reason):
    rule = Target(value=value).for_mode(mode)

    assert rule.decide({"t": curve, "u": {}}, "t", max(curve), 30) == reason
    # what is in flight ends, too, and for the same reason
    assert rule.decide({"t": curve, "u": {1: 99.0}}, "u", 1, 30) == reason
    assert rule.over({"u": {1: 99.0}, "t": curve}) == reason
