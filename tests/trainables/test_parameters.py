from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainables import cnn, mlp, resnet
from trainables.parameters import ALL, DEFAULTS, PARAMETERS, as_markdown, check, names

ROOT = Path(__file__).parents[2]
WITHOUT_DEFAULT = {"epochs", "image_size"}


def test_the_document_is_what_the_module_prints():
    printed = "Run: python -m trainables.parameters > docs/parameters.md"
    assert (ROOT / "docs" / "parameters.md").read_text() == as_markdown(), printed


def test_the_document_names_every_parameter():
    assert len(PARAMETERS) == 26
    assert all(f"### {name}\n" in as_markdown() for name in PARAMETERS)


@pytest.mark.parametrize("trainable", ALL)
def test_every_parameter_has_a_default_that_follows_its_rule(trainable):
    assert set(DEFAULTS[trainable]) == set(names(trainable)) - WITHOUT_DEFAULT
    assert [check(trainable, name, value) for name, value in DEFAULTS[trainable].items()] == [None] * len(
        DEFAULTS[trainable]
    )


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)
def test_every_parameter_explains_itself(parameter):
    assert parameter.meaning.endswith(".") and parameter.usual
    # A choice tells how its options differ, a range what either end does.
    assert bool(parameter.differ) != bool(parameter.too_low and parameter.too_high)
    assert bool(parameter.options) == (parameter.kind == "choice")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("learning_rate", [1e-9, 1, 0.5], [0, -1, "0.1", True, float("nan"), float("inf"), None]),
        ("batch_size", [1, 64], [0, 6.0, True, "64"]),
        ("optimizer", ["sgd", "adamw"], ["SGD", "", 1, None]),
        ("momentum", [0, 0.99], [1, -0.1]),
        ("gamma", [0.1, 0.99], [0, 1, 1.5]),
        ("dropout", [0, 0.5], [1, 1.0, -0.1]),
        ("batch_norm", [True, False], [1, "true", None]),
        ("warmup_epochs", [0, 1.5, 3], [-1]),
        ("lr_schedule", ["cosine", [[1, 0.1]], [[1, 0.1], [5, 1e-3]]], ["Cosine", [], [1, 0.1], [[2, 0.1]], 3]),
        ("lr_schedule", [[(1, 0.1)]], [[[1, 0.1], [1, 0.2]], [[1, 0]], [[1, 0.1, 2]], [[1.0, 0.1]]]),
    ],
)
def test_check_tells_good_values_from_bad(name, good, bad):
    assert [check("cnn", name, value) for value in good] == [None] * len(good)
    assert [check("cnn", name, value) for value in bad] == [PARAMETERS[name].rule] * len(bad)


def test_rules_are_sentences():
    assert check("cnn", "dropout", 1) == "0 <= dropout < 1 must hold"
    assert check("cnn", "learning_rate", 0) == "0 < learning_rate must hold"
    assert check("cnn", "filters", 0) == "filters must be a whole number, and filters >= 1 must hold"
    assert check("cnn", "pooling", "mean") == "pooling must be one of max, avg, stride, none"
    assert check("mlp", "filters", 8) == "filters is not a parameter of mlp"


def test_the_models_offer_these_defaults():
    assert {"cnn": cnn.DEFAULTS, "resnet": resnet.DEFAULTS, "mlp": mlp.DEFAULTS} == DEFAULTS


def test_the_module_needs_the_standard_library_alone():
    code = "import sys, trainables.parameters; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
