"""The registry, and what [stopping] may say."""

import copy
import subprocess
import sys
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from tuner.stopping import RULES, Asha, Median, Plateau, Rule, check, make_rules


def sentences(rules, options):
    return [problem.sentence("a.toml") for problem in check(rules, options)]


def sweep(rules, options):
    stopping = SimpleNamespace(rules=rules, options=options)
    return SimpleNamespace(mode="min", search=SimpleNamespace(repeats=1), stopping=stopping)


def test_make_rules_in_the_order_of_the_file():
    rules = make_rules(sweep(("plateau", "asha"), {"asha": {"reduction": 4}}))

    assert rules == [Plateau(), Asha(reduction=4)]


def test_no_rules():
    assert make_rules(sweep((), {})) == []


def test_a_good_table_has_no_problems():
    options = {
        "asha": {"grace_epochs": 1, "reduction": 2},
        "median": {"grace_epochs": 4, "min_trials": 3},
        # a whole number serves where a number is asked for
        "plateau": {"patience": 2, "min_delta": 1, "grace_epochs": 2},
    }

    assert check(["asha", "median", "plateau"], options) == []
    assert check([], {}) == []


@pytest.mark.parametrize(
    ("rules", "options", "sentence"),
    [
        (["ahsa"], {}, "a.toml: stopping.rules: unknown rule, but got ('ahsa'). Did you mean \"asha\"?"),
        (
            ["zzz"],
            {},
            "a.toml: stopping.rules: unknown rule, but got ('zzz'). Valid: asha, median, plateau, divergence, target.",
        ),
        (["asha", "asha"], {}, "a.toml: stopping.rules: each rule stands once, but got ('asha' twice)."),
        (
            ["asha"],
            {"asha": {"grace_epoch": 2}},
            'a.toml: stopping.asha.grace_epoch: unknown option. Did you mean "grace_epochs"?',
        ),
        (
            ["asha"],
            {"asha": {"grace_epochs": 0}},
            "a.toml: stopping.asha.grace_epochs: grace_epochs >= 1 must hold, but got (0).",
        ),
        (
            ["asha"],
            {"asha": {"reduction": 1}},
            "a.toml: stopping.asha.reduction: reduction >= 2 must hold, but got (1).",
        ),
        (
            ["median"],
            {"median": {"min_trials": 2.5}},
            "a.toml: stopping.median.min_trials: a whole number is needed, but got (2.5).",
        ),
        (
            ["plateau"],
            {"plateau": {"min_delta": "0.1"}},
            "a.toml: stopping.plateau.min_delta: a number is needed, but got ('0.1').",
        ),
        (
            ["plateau"],
            {"plateau": {"patience": True}},
            "a.toml: stopping.plateau.patience: a whole number is needed, but got (True).",
        ),
        (
            ["plateau"],
            {"plateau": {"min_delta": float("nan")}},
            "a.toml: stopping.plateau.min_delta: a finite number is needed, but got (nan).",
        ),
        (
            ["plateau"],
            {"asha": {"reduction": 3}},
            "a.toml: stopping.asha: options of a rule that is not in rules, but got (rules=['plateau']). "
            'Add "asha" to rules, or remove the table.',
        ),
        (["plateau"], {"platau": {}}, 'a.toml: stopping.platau: unknown key. Did you mean "plateau"?'),
        ([], {"rulse": []}, 'a.toml: stopping.rulse: unknown key. Did you mean "rules"?'),
        (["target"], {}, "a.toml: stopping.target.value: is required."),
        (["target"], {"target": {}}, "a.toml: stopping.target.value: is required."),
        (
            ["target"],
            {"target": {"value": "high"}},
            "a.toml: stopping.target.value: a number is needed, but got ('high').",
        ),
        (
            ["divergence"],
            {"divergence": {"factor": 0}},
            "a.toml: stopping.divergence.factor: factor > 0.0 must hold, but got (0).",
        ),
        (["asha"], {"asha": 3}, "a.toml: stopping.asha: a table of options is needed, but got (3)."),
    ],
)
def test_each_mistake_names_key_rule_value_and_remedy(rules, options, sentence):
    assert sentences(rules, options) == [sentence]


def test_all_mistakes_at_once():
    options = {"asha": {"reduction": 1, "graze": 2}, "median": {"min_trials": 0}}

    assert len(check(["asha", "nope"], options)) == 5


def test_a_rule_of_ones_own_joins_the_registry(monkeypatch):
    class Never(Rule):
        name = "never"
        after: int = 1

        def decide(self, curves, trial, epoch, max_epochs):
            return None

    monkeypatch.setitem(RULES, "never", Never)

    assert make_rules(sweep(("never",), {"never": {"after": 2}})) == [Never(after=2)]
    assert check(["never"], {"never": {"afte": 2}})[0].remedy == 'Did you mean "after"?'


@pytest.mark.parametrize("rule", [Asha(), Median(), Plateau()])
def test_a_rule_is_frozen_and_pure(rule):
    curves = {f"t{i}": {1: 1.0 * i, 2: 1.0 * i, 3: 1.0 * i} for i in range(9)}
    before = copy.deepcopy(curves)

    first = rule.decide(curves, "t8", 3, 27)

    # the same history gives the same answer, and is left as it was
    assert rule.decide(curves, "t8", 3, 27) == first
    assert curves == before
    with pytest.raises(ValidationError):
        rule.grace_epochs = 1


def test_importing_the_rules_starts_neither_ray_nor_torch():
    code = "import sys, tuner.stopping; print([m for m in ('ray', 'torch', 'numpy') if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
