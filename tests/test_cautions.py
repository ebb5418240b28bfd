"""The warnings of a plan: one sentence each, with key, value and remedy; none for a good sweep."""

from __future__ import annotations

import pytest

import tuner
from tuner.cautions import count
from tuner.disk import size
from tuner.plan import make_plan

RATE = {"learning_rate": tuner.LogUniform(1e-3, 0.1, points=3)}


def train(config, trial):
    """A user's own trainable; its module offers no build."""


def warned(space=None, cpus=2, gpus=0, **tables):
    """Return the warnings of a sweep around a user's function."""
    sweep = tuner.Sweep(trainable=train, metric="loss", mode="min", space=space or RATE, **tables)
    return make_plan(sweep, cpus, gpus).warnings


GOOD = [
    {},
    {"search": {"strategy": "random"}},
    {"search": {"strategy": "grid"}},
    {"search": {"strategy": "one_at_a_time"}, "defaults": {"learning_rate": 0.01}},
    {"search": {"strategy": "manual", "points": [{"learning_rate": 0.01}]}},
    {"search": {"trials": 12, "repeats": 2}},
    {"search": {"strategy": "random", "trials": 3, "repeats": 2}, "stopping": {"rules": ["asha", "median"]}},
    {"search": {"deterministic": True, "lookahead": 1, "repeats": 2}},
    {"stopping": {"rules": ["asha", "median", "plateau"]}, "max_epochs": 20},
    {"resources": {"max_concurrent": 2, "time_budget_s": 60.0, "epoch_budget": 50}},
    {"space": RATE | {"weight_decay": tuner.Uniform(0.0, 1e-3), "lr_min": tuner.Uniform(0.001, 0.09)}},
    {"space": {"width": tuner.Choice([1, 2, 3])}, "search": {"strategy": "random", "trials": 3}},
]


@pytest.mark.parametrize("tables", GOOD)
def test_a_good_sweep_has_no_warnings(tables):
    assert warned(**tables) == ()


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        (
            {"search": {"strategy": "grid", "trials": 2}},
            "search.trials: grid of 3 configs, limit 2: a seeded random 2 of them. Raise it",
        ),
        (
            {
                "search": {
                    "strategy": "manual",
                    "trials": 1,
                    "points": [{"learning_rate": 0.01}, {"learning_rate": 0.1}],
                }
            },
            "search.trials: 2 points, limit 1",
        ),
        (
            {"search": {"trials": 10, "initial_random": 10}},
            "search.initial_random: the first 10 configs are random or given, and there are only 10, so this is a "
            "random search. Raise search.trials",
        ),
        (
            {"search": {"trials": 4, "initial_random": 3, "points": [{"learning_rate": 0.01}]}},
            "this is a random search",
        ),
        (
            {"search": {"trials": 8}, "cpus": 16},
            "resources.max_concurrent: all 8 trials start at once, so auto learns from none of them. Raise "
            "search.trials, or set max_concurrent = 2.",
        ),
        (
            {"space": {"width": tuner.Choice([1, 2, 3])}, "search": {"strategy": "random"}},
            "search.trials: the space has only 3 distinct configs, so that many run, not 20. Lower it",
        ),
        (
            # All of a space that is smaller than its random start is run: nothing more to say.
            {"space": {"width": tuner.Choice([1, 2])}, "search": {"trials": 8}},
            "search.trials: the space has only 2 distinct configs",
        ),
        (
            {"space": {"learning_rate": tuner.Uniform(0.001, 0.1)}},
            "space.learning_rate: on a linear scale, only 9.1 % of the trials get a value from the lowest decade of "
            "[0.001, 0.1]. Write loguniform = [0.001, 0.1].",
        ),
        ({"space": {"lr": tuner.Uniform(0.0001, 1.0)}}, "space.lr: on a linear scale, only 0.09 %"),
        ({"space": {"weight_decay": tuner.Uniform(1e-6, 1e-2)}}, "space.weight_decay: on a linear scale"),
        (
            {"space": {"optimizer": tuner.Choice(["sgd"], when={"sgd": {"head_lr": tuner.Uniform(0.001, 1.0)}})}},
            "space.optimizer.when.sgd.head_lr: on a linear scale",
        ),
        (
            {"stopping": {"rules": ["asha"], "asha": {"grace_epochs": 1}}},
            "stopping.asha.grace_epochs: at epoch 1 a network is next to untrained",
        ),
        (
            {"stopping": {"rules": ["median"], "median": {"grace_epochs": 2}}, "max_epochs": 20},
            "stopping.median.grace_epochs: curves still cross after 2 of 20 epochs",
        ),
        (
            {"stopping": {"rules": ["median"]}, "space": RATE | {"warmup_epochs": tuner.Int(0, 5)}, "max_epochs": 20},
            "stopping.median.grace_epochs: a trial's learning rate may still be rising at epoch 3 (warmup_epochs: up",
        ),
        (
            {"stopping": {"rules": ["asha"]}, "defaults": {"warmup_epochs": 4}, "max_epochs": 20},
            "Set it to 5 or more.",
        ),
        (
            {"stopping": {"rules": ["asha"], "asha": {"brackets": 4}}, "max_epochs": 20},
            "stopping.asha.brackets: the first rung of bracket 4 is not below max_epochs = 20, so its trials are never "
            "stopped. Set it to 3, or raise max_epochs.",
        ),
        (
            {"search": {"strategy": "gp", "trials": 8}, "resources": {"cpus_per_trial": 0.25}},
            "resources.max_concurrent: all 8 trials start at once, so gp learns from none of them",
        ),
        (
            {"stopping": {"rules": ["median"], "median": {"grace_epochs": 10}}, "max_epochs": 10},
            "stopping.median: grace_epochs = 10 is not below max_epochs = 10, so it never stops a trial",
        ),
        (
            {"stopping": {"rules": ["plateau"], "plateau": {"patience": 8}}, "max_epochs": 10},
            "stopping.plateau: grace_epochs + patience = 11 is not below max_epochs = 10",
        ),
        (
            {"stopping": {"rules": ["asha"]}, "search": {"strategy": "random", "trials": 5}, "max_epochs": 20},
            "stopping.asha.unjudged: the first 5 trials are never stopped, and there are only 5, so it never stops "
            "one. Lower it, or raise search.trials.",
        ),
        (
            {"stopping": {"rules": ["median"]}, "search": {"strategy": "random", "trials": 5}, "max_epochs": 20},
            "stopping.median.min_trials: a trial is compared only with 5 others or more, and there are only 5, so it",
        ),
        (
            {"search": {"strategy": "random", "deterministic": True, "lookahead": 2}, "cpus": 8},
            "search.lookahead: with deterministic, only 2 trials may be under way, where 8 fit. Set it to 8, or "
            "resources.max_concurrent = 2.",
        ),
        (
            {"resources": {"gpu_hours_budget": 2.0}},
            "resources.gpu_hours_budget: trials have no GPU here (gpus_per_trial = 0), so none of its 2 GPU-hours is",
        ),
        (
            {"resources": {"max_concurrent": 8}},
            "resources.max_concurrent: 2 trials of 1 CPU fit on 2 CPUs, but got (8). Lower what a trial takes",
        ),
        (
            {"resources": {"max_concurrent": 8, "gpus_per_trial": 0.5}, "gpus": 1},
            "resources.max_concurrent: 2 trials of 1 CPU and 0.5 GPUs fit on 2 CPUs and 1 GPU, but got (8)",
        ),
    ],
)
def test_what_may_be_put_right_is_one_sentence_with_key_and_remedy(tables, words):
    (warning,) = warned(**tables)
    assert words in warning


@pytest.mark.parametrize(
    "tables", [{"constraints": ["params < 5"]}, {"objectives": {"params": "min"}}], ids=["constraint", "objective"]
)
def test_weights_that_nobody_counts_are_to_be_reported(tables):
    (warning,) = warned(**tables)
    assert warning.startswith(f"sweep.{next(iter(tables))}: the weights of this trainable's models cannot be counted")
    space = {"dense_units": tuner.Choice([8, 16]), "dense_layers": 1}
    sweep = tuner.Sweep(trainable="mlp", data={"name": "digits"}, space=space, search={"strategy": "grid"}, **tables)
    assert not any("cannot be counted" in told for told in make_plan(sweep, 2, 0, memory=False).warnings)


@pytest.mark.parametrize(
    ("domain", "most"),
    [
        (tuner.Normal(2, 1, bounds=(0, 5)), 5),
        (tuner.Choice(["none", 3]), 3),
        (tuner.Choice(["none", "some"]), None),
        (tuner.Int(0, 4), 4),
    ],
)
def test_the_longest_warm_up_is_the_highest_number_of_any_domain(domain, most):
    warnings = warned(stopping={"rules": ["asha"]}, space=RATE | {"warmup_epochs": domain}, max_epochs=20)
    assert len(warnings) == (most is not None)
    assert all(f"(warmup_epochs: up to {most})" in warning for warning in warnings)


def test_models_that_do_not_fit_into_memory_are_named():
    space = {"dense_units": tuner.Choice([64, 10**6]), "dense_layers": 2}
    sweep = tuner.Sweep(trainable="mlp", data={"name": "digits"}, space=space, search={"strategy": "grid"})
    (warning,) = make_plan(sweep, 2, 0).warnings
    assert "resources.max_concurrent: 2 trials of up to 12,0" in warning
    assert "dense_units=1000000) need more than the" in warning


@pytest.mark.parametrize(
    ("number", "text"),
    [(999, "999 bytes"), (1234, "1.23 kB"), (210_400_000, "210 MB"), (7.5e9, "7.5 GB"), (12e12, "12,000 GB")],
)
def test_sizes_are_short(number, text):
    assert size(number) == text


def test_counts_have_their_noun():
    assert [count(1, "trial"), count(1200, "trial"), count(2, "class", "classes"), count(0.5, "GPU")] == [
        "1 trial",
        "1,200 trials",
        "2 classes",
        "0.5 GPUs",
    ]
