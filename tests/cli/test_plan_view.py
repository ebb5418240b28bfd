"""The plan as a person reads it, rendered as a terminal would."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import tuner
from tuner.cli.plan_view import ROWS, domain_text, render
from tuner.plan import make_plan


def train(config, trial):
    """A user's own trainable; its module offers no build."""


def text(sweep, width=100, cpus=2, gpus=0):
    """Return a sweep's plan as a terminal of so many columns shows it."""
    console = Console(file=io.StringIO(), width=width, highlight=False, emoji=False, markup=False)
    console.print(render(make_plan(sweep, cpus, gpus, memory=False)))
    return console.file.getvalue()


def own(space, **tables):
    return tuner.Sweep(trainable=train, name="mine", metric="loss", mode="min", space=space, **tables)


GRID = {"learning_rate": tuner.LogUniform(0.001, 0.1, points=3), "batch_size": tuner.Choice([16, 32, 64])}


@pytest.mark.parametrize(
    ("domain", "shown"),
    [
        (tuner.LogUniform(1e-5, 0.5), "1e-5 to 0.5, log scale"),
        (tuner.Uniform(0.0, 1.0, step=0.25), "0 to 1, steps of 0.25"),
        (tuner.Int(1, 8, points=3), "1 to 8, whole, 3 points"),
        (tuner.Choice([True, "a", [1, 2]]), "true, a, [1, 2]"),
        (tuner.Choice([16, 32], weights=[1, 3]), "16, 32 (weights 1, 3)"),
        (tuner.Normal(0.5, 0.1, bounds=(0.0, 1.0)), "normal, mu 0.5, sigma 0.1, 0 to 1"),
        (tuner.LogNormal(0.0, 1.0), "lognormal, mu 0, sigma 1"),
    ],
)
def test_domains_are_short(domain, shown):
    assert domain_text(domain) == shown


def test_the_facts_of_a_built_in():
    sweep = tuner.Sweep(
        trainable="cnn",
        name="first",
        data={"name": "digits"},
        space={"filters": tuner.Choice([4, 8]), "dropout": tuner.Uniform(0.0, 0.5), "kernel_size": 3},
        search={"trials": 12, "repeats": 2},
        stopping={"rules": ["asha"]},
        resources={"time_budget_s": 600.0},
    )
    shown = text(sweep)
    for line in (
        "first: cnn on digits",
        "1x8x8; 10 classes",
        "auto: 12 configs, 3 random first",
        "24 trials (2 seeds a config), 240 epochs at most; no new trial after 600 s",
        "val_accuracy (highest)",
        "asha (grace_epochs 2, reduction 3, brackets 1, unjudged",
        "1 CPU a trial, 2 at a time; here: 2 CPUs and no GPU",
        "0 to 0.5",
        "3, fixed",
    ):
        assert line in shown
    assert "parameters" in shown
    assert "warning" not in shown


def test_budgets_stand_in_one_line():
    resources = {"epoch_budget": 1000, "gpu_hours_budget": 1.5, "time_budget_s": 60.0, "at_budget": "stop"}
    shown = " ".join(text(own(GRID, resources=resources)).split())
    assert "no new trial after 1,000 epochs or 1.5 GPU-hours or 60 s, and what runs is stopped at its next rep" in shown


def test_a_grid_is_a_table():
    lines = text(own(GRID, search={"strategy": "grid"})).splitlines()
    (head,) = [n for n, line in enumerate(lines) if line.split() == ["config", "learning_rate", "batch_size"]]
    assert [line.split() for line in lines[head + 2 : head + 11]] == [
        [str(3 * i + j + 1), rate, size]
        for i, rate in enumerate(["0.001", "0.01", "0.1"])
        for j, size in enumerate(["16", "32", "64"])
    ]


def test_a_long_grid_is_cut():
    shown = text(own({"width": tuner.Int(1, 90, points=90)}, search={"strategy": "grid", "trials": 90}))
    assert f"... and {90 - ROWS} more" in shown
    assert shown.count("\n") < ROWS + 20


def test_a_grid_too_wide_for_the_terminal_names_its_values():
    space = {f"a_rather_long_name_{i}": tuner.Choice([1, 2]) for i in range(5)}
    shown = text(own(space, search={"strategy": "grid", "trials": 32}), width=100)
    assert "a_rather_long_name_0=1, a_rather_long_name_1=1" in shown
    assert "a_rather_long_name_0=1" not in text(own(space, search={"strategy": "grid", "trials": 32}), width=140)


def test_one_at_a_time_shows_what_each_config_changes():
    defaults = {"learning_rate": 0.01, "batch_size": 32}
    lines = text(own(GRID, defaults=defaults, search={"strategy": "one_at_a_time"})).splitlines()
    rows = [line.split(maxsplit=1)[1].strip() for line in lines if line.strip()[:1].isdigit()]
    assert rows == [
        "learning_rate=0.01, batch_size=32",
        "learning_rate=0.001",
        "learning_rate=0.1",
        "batch_size=16",
        "batch_size=64",
    ]


def test_branches_say_when_they_exist():
    inner = tuner.Choice([True, False], when={True: {"momentum": tuner.Uniform(0.5, 0.99)}})
    shown = text(own({"optimizer": tuner.Choice(["sgd", "adam"], when={"sgd": {"nesterov": inner}})}))
    assert "optimizer = sgd and nesterov = true" in " ".join(shown.split())


def test_warnings_are_whole_sentences_at_any_width():
    sweep = own(GRID, resources={"gpus_per_trial": 1.0})
    for width in (80, 120):
        shown = " ".join(text(sweep, width).split())
        assert "warning: resources.gpus_per_trial: at most 0 GPUs are here, but got (1). Set it to 0" in shown


def test_markup_in_names_is_text():
    # rich would take [red] for a colour.
    assert "[red], [1, 2]" in text(own({"colour": tuner.Choice(["[red]", [1, 2]])}))


@pytest.mark.parametrize("width", [80, 100, 120])
def test_usual_content_is_not_wrapped(width):
    space = {
        "learning_rate": tuner.LogUniform(1e-4, 1.0),
        "optimizer": tuner.Choice(["sgd", "adam", "adamw", "rmsprop"]),
        "activation": tuner.Choice(["relu", "leaky_relu", "elu", "gelu", "tanh"]),
    }
    lines = text(own(space), width).splitlines()
    # Title, 6 facts, blank, head, rule, 3 parameters.
    assert len(lines) == 13
    assert max(len(line.rstrip()) for line in lines) <= width
