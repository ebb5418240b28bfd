"""Error sentences: where, the rule, what was received, the remedy; and the tree they hang in."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import pytest

from tuner import errors
from tuner.errors import Problem, SweepError, nearest


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (
            Problem("space.lr", "low <= high must hold", "low=5, high=1", "Swap the two numbers."),
            "digits.toml: space.lr: low <= high must hold, but got (low=5, high=1). Swap the two numbers.",
        ),
        (
            Problem("sweep.seed", "must be a whole number", '"a"'),
            'digits.toml: sweep.seed: must be a whole number, but got ("a").',
        ),
        (Problem("", "cannot be read", remedy="Check its path."), "digits.toml: cannot be read. Check its path."),
        (Problem("space", "is missing"), "digits.toml: space: is missing."),
    ],
)
def test_a_sentence_has_the_place_the_rule_the_value_and_the_remedy(problem, sentence):
    assert problem.sentence("digits.toml") == sentence


def test_all_the_mistakes_of_a_sweep_are_told_at_once():
    error = SweepError("digits.toml", iter([Problem("a", "is missing"), Problem("b", "is missing")]))
    assert str(error) == "digits.toml: a: is missing.\ndigits.toml: b: is missing."
    assert len(error.problems) == 2


@pytest.mark.parametrize(
    "error",
    [
        SweepError("digits.toml", [Problem("a", "is missing", "1", "Add it.")]),
        errors.ShapeError("the image collapses"),
        errors.StorageError("/d: full.", Path("/d/runs/one")),
        errors.Interrupted("stopped", 143),
        errors.StopTrial("weak"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_out_of_a_worker_as_it_was(error):
    # Ray sends exceptions by pickle.
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


def own_errors():
    return [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, BaseException)]


def test_the_tree_at_the_top_of_the_file_is_the_tree():
    drawn = re.findall(r"^[ |]*(?:\|-- |`-- |    )(\w+)  ", errors.__doc__, re.MULTILINE)
    assert sorted(drawn) == sorted(item.__name__ for item in own_errors())


def test_everything_a_person_meets_hangs_in_one_tree():
    outside = [item.__name__ for item in own_errors() if not issubclass(item, errors.TunerError)]
    assert outside == ["StopTrial"]
    # A trainable's own `except Exception` must not swallow what stops it.
    assert not issubclass(errors.StopTrial, Exception)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.TunerError("x"), 2),
        (errors.UsageError("x"), 2),
        (errors.DataError("x"), 2),
        (errors.RunError("x"), 2),
        (errors.SweepFailed("x"), 1),
        (errors.StorageError("x", Path("y")), 1),
        (errors.Interrupted("x", 130), 130),
        (errors.Interrupted("x", 143), 143),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_error_has_the_exit_status_that_the_command_line_promises(error, status):
    assert error.exit_status == status


@pytest.mark.parametrize(
    ("name", "valid", "remedy"),
    [
        ("learning_rat", ["momentum", "learning_rate"], 'Did you mean "learning_rate"?'),
        ("Momentum", ["momentum", "dropout"], 'Did you mean "momentum"?'),
        ("zzz", ["momentum", "dropout"], "Valid: momentum, dropout."),
        ("zzz", iter(["one"]), "Valid: one."),
        ("zzz", [], ""),
        ("", ["momentum"], "Valid: momentum."),
    ],
)
def test_the_remedy_for_an_unknown_name_is_the_nearest_or_all(name, valid, remedy):
    assert nearest(name, valid) == remedy
