"""asha, on literal tables of curves (values are minimised)."""

import math

import pytest
from conformance_rules import RuleConformance

import tuner
from tuner.stopping import Asha, make_rules


class TestConformance(RuleConformance):
    rule = Asha()
    compares = True


class TestConformanceOfBrackets(RuleConformance):
    rule = Asha(brackets=2)
    compares = True


# From the first trial on, at epoch 3.
AT_3 = Asha(grace_epochs=3, unjudged=0)


def curve(*values):
    return dict(enumerate(values, start=1))


def test_rungs_grow_by_the_reduction_and_stay_below_max_epochs():
    assert Asha().rungs(max_epochs=28) == [2, 4, 10]
    assert Asha(grace_epochs=1, reduction=4).rungs(max_epochs=65) == [1, 4, 16, 64]
    assert Asha(grace_epochs=3).rungs(max_epochs=27) == [3, 5, 11]
    # nothing to save when the first rung is the end
    assert Asha(grace_epochs=10).rungs(max_epochs=10) == []


# Values at the first rung in order of arrival, and who goes on there with reduction 3.
ARRIVALS = [
    # fewer than three values: everything goes on, even the worst
    ([9.0, 1.0], [True, True]),
    # the third of three: only the best one goes on
    ([1.0, 2.0, 3.0], [True, True, False]),
    ([3.0, 2.0, 1.0], [True, True, True]),
    # six seen: the best two go on
    ([1.0, 5.0, 6.0, 7.0, 8.0, 2.0], [True, True, False, False, False, True]),
    ([1.0, 2.0, 6.0, 7.0, 8.0, 3.0], [True, True, False, False, False, False]),
]


@pytest.mark.parametrize(("values", "goes_on"), ARRIVALS)
def test_a_rung_keeps_the_best_part_of_what_has_arrived(values, goes_on):
    curves, seen = {}, []
    for number, value in enumerate(values):
        curves[f"t{number}"] = curve(value, value, value)
        seen.append(AT_3.decide(curves, f"t{number}", 3, 27) is None)

    assert seen == goes_on


def test_the_first_epochs_never_decide():  # trap 11
    # an untrained network at epoch 1, worse than everybody
    curves = {f"t{i}": curve(0.1) for i in range(20)} | {"winner": curve(9.0, 8.0)}

    assert AT_3.decide(curves, "winner", 1, 27) is None
    assert AT_3.decide(curves, "winner", 2, 27) is None


def test_between_rungs_nothing_is_decided():
    curves = {f"t{i}": curve(*[0.1] * 9) for i in range(20)} | {"t": curve(*[9.0] * 6)}

    assert AT_3.decide(curves, "t", 6, 27) is None


def test_best_so_far_counts_not_the_value_at_the_rung():
    others = {"a": curve(3, 3, 3), "b": curve(4, 4, 4)}

    # the last epoch is the worst of all, but its best is what a trial is ranked by in the end
    assert AT_3.decide(others | {"t": curve(5, 1, 9)}, "t", 3, 27) is None


def test_ties_go_on():
    # all at chance level: nothing tells them apart
    curves = {f"t{i}": curve(0.9, 0.9, 0.9) for i in range(9)}

    assert all(AT_3.decide(curves, trial, 3, 27) is None for trial in curves)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_the_worst(value):
    others = {"a": curve(1, 1, 1), "b": curve(2, 2, 2)}

    assert AT_3.decide(others | {"t": curve(value, value, value)}, "t", 3, 27)
    # and it takes nobody's place
    assert AT_3.decide({"a": curve(*[value] * 3), "b": curve(2, 2, 2), "t": curve(1, 1, 1)}, "t", 3, 27) is None


def test_others_count_by_what_they_had_at_the_rung():
    # a is far ahead by now, but at epoch 3 it was behind
    curves = {"a": curve(5, 5, 5, 0.1), "b": curve(6, 6, 6), "t": curve(4, 4, 4)}

    assert AT_3.decide(curves, "t", 3, 27) is None


def test_trials_that_never_reached_the_rung_do_not_count():
    curves = {"a": curve(1, 1), "b": curve(1), "t": curve(9, 9, 9)}

    assert AT_3.decide(curves, "t", 3, 27) is None


def test_a_rung_between_two_reports_is_judged_at_the_next_report():
    curves = {"a": curve(1, 1, 1), "b": curve(1, 1, 1), "t": {2: 9.0, 4: 9.0}}

    assert AT_3.decide(curves, "t", 4, 27)
    # once only: the next report lies past it
    assert AT_3.decide(curves | {"t": {2: 9.0, 4: 9.0, 6: 9.0}}, "t", 6, 27) is None


def test_the_reason_is_one_line_with_rank_and_rung():
    curves = {"a": curve(1, 1, 1), "b": curve(2, 2, 2), "t": curve(3, 3, 3)}

    reason = AT_3.decide(curves, "t", 3, 27)

    assert reason == "asha: rank 3 of 3 at epoch 3, where the best 1 go on"


# --- brackets: hyperband ---


def test_each_bracket_begins_later_and_has_fewer_trials():
    rule = Asha(grace_epochs=1, reduction=3, brackets=3, unjudged=0)

    brackets = [rule.bracket(f"t{number:04d}") for number in range(1, 1301)]

    assert [rule.rungs(27, bracket) for bracket in range(3)] == [[1, 3, 9], [3, 9], [9]]
    # 9 : 3 : 1
    assert brackets.count(0) > 800 and 230 < brackets.count(1) < 370 and 60 < brackets.count(2) < 140


def test_trials_are_compared_within_their_bracket():
    rule = Asha(grace_epochs=1, reduction=3, brackets=2, unjudged=0)
    first = [f"t{number:04d}" for number in range(99) if rule.bracket(f"t{number:04d}") == 0]
    later = next(f"t{number:04d}" for number in range(99) if rule.bracket(f"t{number:04d}") == 1)
    curves = {trial: curve(0.1, 0.1, 0.1) for trial in first} | {later: curve(9.0, 9.0, 9.0)}

    # far worse than all others, of which none runs in its race
    assert not any(rule.decide(curves, later, epoch, 27) for epoch in (1, 2, 3))
    assert rule.decide(curves | {first[0]: curve(9.0)}, first[0], 1, 27)


# --- what early ranks are worth ---


def test_the_first_trials_are_never_stopped():
    curves = {f"t{i:04d}": curve(0.1, 0.1, 0.1) for i in range(1, 30)} | {"t0003": curve(9.0, 9.0, 9.0)}

    assert Asha(grace_epochs=3).decide(curves, "t0003", 3, 27) is None
    curves["t0006"] = curve(9.0, 9.0, 9.0)
    assert Asha(grace_epochs=3).decide(curves, "t0006", 3, 27)
    # the first by number, not by text
    curves["t10000"] = curve(9.0, 9.0, 9.0)
    assert Asha(grace_epochs=3).decide(curves, "t10000", 3, 27)


def test_one_that_failed_early_is_none_of_the_first():
    curves = {f"t{i}": curve(0.1) for i in range(1, 6)} | {f"t{i}": curve(math.nan, math.nan, math.nan) for i in "67"}
    curves |= {f"t{i}": curve(*[0.1 * i] * 3) for i in range(10, 16)}

    decided = [bool(Asha(grace_epochs=3).decide(curves, f"t{i}", 3, 27)) for i in range(10, 16)]
    assert decided == [False] * 5 + [True]


def test_repeats_of_a_config_count_once_among_the_first():
    assert Asha().for_repeats(3).unjudged == 3 * Asha().unjudged
    sweep = tuner.Sweep(
        trainable=lambda config, trial: None,
        space={"x": tuner.Uniform(0, 1)},
        metric="score",
        mode="max",
        search={"repeats": 4},
        stopping={"rules": ["asha"]},
    )
    (rule,) = make_rules(sweep)
    assert rule.unjudged == 20


def test_one_that_still_falls_steeply_goes_on_before_one_that_stands_still():
    curves = {"a": curve(0.5, 0.5, 0.5), "b": curve(0.52, 0.52, 0.52)}

    assert AT_3.decide(curves | {"t": curve(0.53, 0.53, 0.53)}, "t", 3, 27)
    # 0.53 - 0.75 * 0.1 is the best
    assert AT_3.decide(curves | {"t": curve(0.63, 0.58, 0.53)}, "t", 3, 27) is None


@pytest.mark.parametrize("agree", [True, False])
def test_a_rung_that_contradicts_the_end_is_passed_over(agree):
    # The first five ran to the end; at epoch 2 their order is that of the end, or its reverse.
    ends = [0.1, 0.2, 0.3, 0.4, 0.5]
    starts = ends if agree else ends[::-1]
    first = {
        f"t{i}": curve(*[1 + early] * 3, *[end] * 7) for i, (early, end) in enumerate(zip(starts, ends, strict=True))
    }
    curves = first | {"t6": curve(1.6, 1.6)}

    assert bool(Asha().decide(curves, "t6", 2, 10)) == agree
    # With fewer than four of them so far, nobody knows, and the rung is trusted.
    fewer = {name: values for name, values in curves.items() if name not in ("t0", "t1")}
    assert Asha(unjudged=3).decide(fewer, "t6", 2, 10)
