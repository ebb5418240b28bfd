"""The public names: few, on one screen, each where it belongs, and none of them costly before it is used."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tuner

HEAVY = {
    "torch",
    "torchvision",
    "ray",
    "pandas",
    "numpy",
    "pydantic",
    "hyperopt",
    "sklearn",
    "matplotlib",
    "pyarrow",
    "rich",
}
NAMES = {
    "load_sweep",
    "Sweep",
    "Space",
    "Uniform",
    "LogUniform",
    "Int",
    "LogInt",
    "Normal",
    "LogNormal",
    "Choice",
    "make_plan",
    "Plan",
    "run",
    "resume",
    "study",
    "load",
    "Results",
    "Trial",
    "Data",
    "Split",
    "StopTrial",
    "TunerError",
    "SweepError",
    "RunError",
    "DataError",
    "ShapeError",
}


def python(code):
    """Run a program in a fresh Python and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_public_names_are_these():
    # Taking one away, or renaming it, breaks people's notebooks.
    assert len(tuner.__all__) == len(set(tuner.__all__))
    assert set(tuner.__all__) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_public_name_is_what_its_module_calls_so(name):
    found = getattr(tuner, name)
    module = importlib.import_module(found.__module__)
    assert getattr(module, name) is found
    assert found.__module__.startswith("tuner.")
    assert name in dir(tuner)
    assert inspect.getdoc(found)


def test_a_type_checker_sees_the_same_names():
    # It reads the imports under TYPE_CHECKING, never __getattr__.
    source = Path(tuner.__file__).read_text()
    block = source.partition("if TYPE_CHECKING:\n")[2].partition("\n\n")[0]
    seen = {name.strip() for line in block.splitlines() for name in line.partition(" import ")[2].split(",")}
    assert seen == NAMES


def test_a_star_import_gives_all_of_them():
    scope = {}
    exec("from tuner import *", scope)
    assert set(scope) >= NAMES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tuner' has no attribute 'rnu'"):
        _ = tuner.rnu


def test_importing_it_imports_nothing_heavy():
    found = python("import sys, tuner; print(tuner.__version__, *sys.modules)")
    assert found[0] == tuner.__version__
    assert not HEAVY & set(found)


@pytest.mark.parametrize(
    ("use", "allowed"),
    [
        ("tuner.load, tuner.Results", set()),
        ("tuner.StopTrial, tuner.RunError, tuner.DataError", set()),
        ("tuner.Uniform(0.0, 1.0), tuner.Choice([1, 2])", set()),
        ("tuner.Trial, tuner.Data", {"numpy"}),
        ("tuner.load_sweep, tuner.Sweep", {"numpy", "pydantic"}),
    ],
)
def test_a_name_imports_only_what_it_needs(use, allowed):
    found = python(f"import sys, tuner; {use}; print(*sys.modules)")
    assert not (HEAVY - allowed) & set(found)


@pytest.mark.parametrize("first", ["tuner.{}", "import tuner.{}"])
def test_a_function_is_never_hidden_by_the_module_of_its_name(first):
    # Importing a submodule sets it as an attribute of its package: the second tuner.run(...) of a notebook would fail.
    names = ("run", "study")
    uses = [f"{first.format(name)}\nprint(type(tuner.{name}).__name__, tuner.{name}.__module__)" for name in names]
    again = [f"print(tuner.{name}.__module__)" for name in names]
    told = python("\n".join(["import tuner", *uses, *again]))
    assert told == ["function", "tuner.run", "function", "tuner.study", "tuner.run", "tuner.study"]


def test_a_study_is_started_as_a_sweep_is():
    parameters = [dict(inspect.signature(function).parameters) for function in (tuner.run, tuner.study)]
    steps = parameters[0].pop("steps")
    # Whoever knows one knows the other; what a study does is all that differs.
    assert parameters[0] == parameters[1] and steps.default is None
