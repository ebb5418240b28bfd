from __future__ import annotations

import math

import pytest

from tuner.constraints import Constraint, never_reported, parse, read, unknown
from tuner.errors import Problem


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("val/top-5.acc>=0.9", Constraint("val/top-5.acc", ">=", 0.9)),
        ("params < 200_000", Constraint("params", "<", 200_000)),
        ("epoch_s<=2.5", Constraint("epoch_s", "<=", 2.5)),
        ("  val_f1 >= 1e-1 ", Constraint("val_f1", ">=", 0.1)),
        ("loss > -3", Constraint("loss", ">", -3)),
    ],
)
def test_a_metric_a_sign_and_a_number(text, made):
    assert parse(text, "constraints[0]") == made and read([text]) == (made,)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("params", "must be a metric, a sign and a number"),
        ("params = 3", "must be a metric, a sign and a number"),
        ("params == 3", "must be a metric, a sign and a number"),
        ("3 < params", "must be a metric, a sign and a number"),
        ("params < 3 kB", "must be a metric, a sign and a number"),
        ("", "must be a metric, a sign and a number"),
        ("params < many", "must end in a finite number"),
        ("params < nan", "must end in a finite number"),
        ("params < inf", "must end in a finite number"),
    ],
)
def test_what_is_none_is_told_with_key_rule_and_value(text, rule):
    problem = parse(text, "constraints[1]")
    assert isinstance(problem, Problem) and (problem.key, problem.rule, problem.got) == (
        "constraints[1]",
        rule,
        f'"{text}"',
    )
    assert "params < 200_000" in problem.remedy and read([text]) == ()


@pytest.mark.parametrize(
    ("sign", "value", "holds"),
    [("<", 2, False), ("<=", 2, True), (">", 2, False), (">=", 2, True), ("<", 1.9, True), (">", 1.9, False)],
)
def test_ends_count_where_the_sign_says_so(sign, value, holds):
    assert Constraint("x", sign, 2).holds(value) == holds


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_known_or_not_finite_meets_none(value):
    assert not Constraint("x", "<", 2).holds(value) and not Constraint("x", ">", 2).holds(value)


def test_sentences_have_the_number():
    asked = Constraint("params", "<", 200_000)
    assert asked.sentence(312_456) == "params must be < 200,000 (sweep.constraints), but got (312,456)."
    assert asked.sentence(None) == "params must be < 200,000 (sweep.constraints), but none was reported."


def test_an_unknown_metric_has_its_nearest_name():
    assert unknown("params", ["val_loss"], "k", "t") is None and unknown("epoch_s", [], "k", "t") is None
    assert unknown("val_los", ["val_loss"], "k", "t").remedy == 'Did you mean "val_loss"?'


def test_what_was_never_reported_is_told_with_what_was():
    asked = {"latenzy": "sweep.constraints", "size": "sweep.objectives"}
    assert never_reported(asked, ["latenzy", "size"]) is None and never_reported({}, []) is None
    assert never_reported(asked, ["score", "latency"]) == (
        'trial.report must give "latenzy", which sweep.constraints asks for, in at least one epoch, but got '
        '(score, latency). Write "latency" there, or rename it in the trainable, and start another sweep.'
    )
    assert "asks for, in at least one epoch, but got (latenzy). Report it, or" in never_reported(asked, ["latenzy"])
    assert "Nobody else counts the weights" in never_reported({"params": "sweep.constraints"}, ["score"])
