"""median, on literal tables of curves (values are minimised)."""

import math

import pytest
from conformance_rules import RuleConformance

from tuner.stopping import Median


class TestConformance(RuleConformance):
    rule = Median()
    compares = True


def curve(*values):
    return dict(enumerate(values, start=1))


# five others whose running means at epoch 3 are 1, 2, 3, 4, 5
OTHERS = {f"t{mean}": curve(mean, mean, mean) for mean in (1, 2, 3, 4, 5)}


@pytest.mark.parametrize(
    ("own", "stops"),
    [
        (curve(3.1, 3.1, 3.1), True),
        # equal to the median goes on
        (curve(3, 3, 3), False),
        # one good epoch is enough: the best so far counts, not the last
        (curve(9, 2.9, 9), False),
        (curve(math.nan, math.nan, math.nan), True),
    ],
)
def test_the_best_so_far_is_held_against_the_median_of_running_means(own, stops):
    reason = Median().decide(OTHERS | {"own": own}, "own", 3, 10)

    assert bool(reason) is stops


def test_the_others_count_by_their_running_means():
    # at epoch 3 all others are at 0, but their means are 3: Vizier's rule compares with the means
    others = {f"t{i}": curve(6, 3, 0) for i in range(5)}

    assert Median().decide(others | {"own": curve(3, 3, 3)}, "own", 3, 10) is None
    assert Median().decide(others | {"own": curve(3.1, 3.1, 3.1)}, "own", 3, 10)


def test_epochs_after_this_one_do_not_count():
    others = {f"t{i}": curve(3, 3, 3, 0, 0, 0, 0) for i in range(5)}

    assert Median().decide(others | {"own": curve(3, 3, 3)}, "own", 3, 10) is None


def test_the_first_epochs_never_decide():  # trap 11
    curves = OTHERS | {"own": curve(99, 99)}

    assert Median().decide(curves, "own", 1, 10) is None
    assert Median().decide(curves, "own", 2, 10) is None


def test_losses_near_the_largest_float_are_compared():
    others = {f"t{i}": curve(1.7e308, 1.7e308, 1.7e308) for i in range(5)}

    assert Median().decide(others | {"own": curve(1.7e308, 1.6e308, 1.7e308)}, "own", 3, 10) is None
    assert Median().decide(others | {"own": curve(math.inf, math.inf, math.inf)}, "own", 3, 10)


def test_few_others_let_everything_go_on():  # trap 28: it goes on, it does not pause
    four = dict(list(OTHERS.items())[:4]) | {"own": curve(99, 99, 99)}
    # the fifth has not come as far
    short = four | {"t5": curve(1, 1)}

    assert Median().decide(four, "own", 3, 10) is None
    assert Median().decide(short, "own", 3, 10) is None
    assert Median(min_trials=4).decide(four, "own", 3, 10)


def test_the_last_epoch_has_nothing_left_to_save():
    assert Median().decide(OTHERS | {"own": curve(99, 99, 99)}, "own", 3, 3) is None


def test_the_reason_is_one_line():
    reason = Median().decide(OTHERS | {"own": curve(9, 9, 9)}, "own", 3, 10)

    assert reason == ("median: the best up to epoch 3 is worse than the median of 5 other trials' running means")
