from __future__ import annotations

import math

import pytest

from tuner.objectives import front, scalarised

POINTS = [(0.0, 5.0), (1.0, 4.0), (2.0, 4.0), (5.0, 0.0), (1.0, 4.0), (6.0, 6.0)]


def test_the_front_is_what_nothing_dominates_and_equals_stay():
    assert front(POINTS) == [0, 1, 3, 4] and front([]) == [] and front([(1.0,), (0.5,), (0.5,)]) == [1, 2]


def test_the_front_does_not_depend_on_the_order():
    for turn in range(len(POINTS)):
        turned = POINTS[turn:] + POINTS[:turn]
        assert {turned[place] for place in front(turned)} == {POINTS[place] for place in (0, 1, 3)}


def test_one_number_a_point_follows_from_the_seed():
    assert scalarised(POINTS, 3) == scalarised(POINTS, 3) != scalarised(POINTS, 4) and scalarised([], 3) == []


@pytest.mark.parametrize("seed", range(20))
def test_what_dominates_is_never_told_as_worse(seed):
    told = scalarised(POINTS, seed)
    assert told[2] > told[1] == told[4] and told[5] == max(told) == pytest.approx(max(told))
    # Units do not matter: each objective is scaled.
    assert scalarised([(a * 1e6 + 7, b) for a, b in POINTS], seed) == pytest.approx(told)


def test_values_near_the_largest_float_are_scaled_too():
    # inf: what the mean of several repeats may come to
    told = scalarised([(-1.7e308, 1.0), (0.0, 1.0), (1.7e308, 1.0), (math.inf, 1.0)], 1)
    assert all(map(math.isfinite, told)) and told == sorted(told) and told[0] < told[1] < told[2]


def test_weights_reach_both_ends_of_the_front():
    best = {min(range(len(POINTS)), key=scalarised(POINTS, seed).__getitem__) for seed in range(200)}
    assert best == {0, 1, 3}


def test_an_objective_that_never_differs_says_nothing():
    told = scalarised([(1.0, 3.0), (1.0, 2.0)], 1)
    assert told[1] == 0.0 < told[0]
