"""make_plan: a sweep bound to a machine, counted, costed and checked."""

from __future__ import annotations

import json

import pytest

import tuner
from tuner.errors import DataError, ResourceError, SweepError, UsageError
from tuner.machine import fitting
from tuner.plan import LISTED, make_plan

RATE = {"learning_rate": tuner.LogUniform(1e-3, 0.1, points=3)}


def train(config, trial):
    """A user's own trainable; its module offers no build."""


def own(space=None, **tables):
    """Return a sweep around a user's function: no data, no preflight, so planned in no time."""
    return tuner.Sweep(trainable=train, metric="loss", mode="min", space=space or RATE, **tables)


def planned(space=None, cpus=4, gpus=0, **tables):
    """Return the plan of such a sweep on a machine of so many CPUs and GPUs."""
    return make_plan(own(space, **tables), cpus, gpus)


# -- counted -----------------------------------------------------------------------------------------------------------


def test_trials_are_configs_times_repeats_and_epochs_are_at_most_all_of_them():
    plan = planned(search={"trials": 6, "repeats": 3}, max_epochs=10)
    assert (plan.strategy, plan.proposals, plan.trials, plan.epochs) == ("auto", 6, 18, 180)
    assert plan.configs == ()


def test_a_grid_s_configs_are_listed_in_order():
    space = RATE | {"batch_size": tuner.Choice([16, 32, 64])}
    plan = planned(space, search={"strategy": "grid"})
    assert plan.proposals == 9
    assert plan.configs == tuple(own(space).space.grid())


def test_one_at_a_time_and_manual_configs_are_listed():
    one = planned(search={"strategy": "one_at_a_time"}, defaults={"learning_rate": 0.01})
    assert [config["learning_rate"] for config in one.configs] == [0.01, 0.001, 0.1]
    points = [{"learning_rate": 0.5}, {"learning_rate": 0.25}]
    sweep = tuner.Sweep(trainable=train, metric="loss", mode="min", search={"strategy": "manual", "points": points})
    assert list(make_plan(sweep, 1, 0).configs) == points


def test_a_long_grid_is_listed_in_part():
    space = {name: tuner.Int(1, 100, points=100) for name in "abc"}
    plan = planned(space, search={"strategy": "grid", "trials": 2000})
    assert (plan.proposals, len(plan.configs)) == (2000, LISTED)


def test_a_finite_space_bounds_the_configs():
    plan = planned({"width": tuner.Choice([1, 2, 3])}, search={"strategy": "random", "trials": 8})
    assert (plan.proposals, plan.trials) == (3, 3)


@pytest.mark.parametrize("strategy", ["auto", "random", "quasi_random"])
def test_what_earlier_runs_tried_is_taken_from_what_is_counted(strategy):
    known = [{"opt": "b", "x": x} for x in (1, 2, 3)] + [{"opt": "a", "x": 1}]
    seen = [{"config": config, "state": "done", "loss": 1.0, "by": "earlier"} for config in known]
    learnt = [{"run": "/runs/old", "told": 4, "failed": 0, "left_out": {}, "observations": seen}]
    space = {"opt": tuner.Choice(["a", "b"], weights=[1, 0]), "x": tuner.Choice([1, 2, 3])}
    plan = make_plan(own(space, search={"strategy": strategy, "trials": 5}), 1, 0, learnt=learnt)
    plan.check()
    # "b" is never drawn, so of the three configs that are, one is known
    assert plan.proposals == 2


def test_what_breaks_a_constraint_is_not_said_to_have_failed():
    seen = [{"config": {"units": 2 * n}, "state": "failed", "loss": None, "by": "earlier"} for n in range(1024, 1028)]
    learnt = [{"run": "/runs/old", "told": 4, "failed": 0, "left_out": {}, "observations": seen}]
    sweep = own({"units": tuner.LogInt(8, 8192)}, constraints=["latency < 5"])
    plan = make_plan(sweep, 1, 0, learnt=learnt)
    assert plan.learnt[1:] == ("earlier runs: units >= 2048: 4 of 4 failed or broke a constraint",)


@pytest.mark.parametrize(
    ("space", "defaults", "epochs"),
    [
        (RATE, {}, 4 * 8),
        (RATE, {"epochs": 3}, 4 * 3),
        (RATE | {"epochs": 5}, {"epochs": 3}, 4 * 5),
        (RATE | {"epochs": tuner.Int(2, 6)}, {}, 4 * 6),
    ],
)
def test_the_epochs_parameter_of_a_built_in_counts(space, defaults, epochs):
    sweep = tuner.Sweep(
        trainable="mlp",
        data={"name": "diabetes"},
        space=space,
        defaults=defaults,
        max_epochs=8,
        search={"trials": 4},
    )
    assert make_plan(sweep, 2, 0, memory=False).epochs == epochs


def test_a_grid_s_epochs_are_added_up():
    space = {"epochs": tuner.Choice([1, 2, 4])}
    tables = {"data": {"name": "diabetes"}, "max_epochs": 4, "search": {"strategy": "grid", "repeats": 2}}
    sweep = tuner.Sweep(trainable="mlp", space=space, **tables)
    assert make_plan(sweep, 2, 0, memory=False).epochs == 2 * (1 + 2 + 4)


# -- bound -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "a_gpu", "side_by_side"),
    [
        ({}, 4, 0, 0.0, 4),
        ({}, 8, 2, 1.0, 2),
        ({"cpus_per_trial": 3.0}, 8, 0, 0.0, 2),
        ({"gpus_per_trial": 0.25}, 16, 2, 0.25, 8),
        ({"gpus_per_trial": 0.0}, 3, 2, 0.0, 3),
        ({"max_concurrent": 2}, 4, 0, 0.0, 2),
        ({"max_concurrent": 9}, 4, 0, 0.0, 4),
        ({}, 64, 0, 0.0, 20),  # never more than there are trials
    ],
)
def test_resources_are_resolved_for_the_machine(resources, cpus, gpus, a_gpu, side_by_side):
    bound = planned(cpus=cpus, gpus=gpus, resources=resources).sweep.resources
    assert (bound.gpus_per_trial, bound.max_concurrent) == (a_gpu, side_by_side)


@pytest.mark.parametrize(
    ("cpus_per_trial", "gpus_per_trial", "cpus", "gpus", "fit"),
    [
        (0.1, 0, 3, 0, 30),
        (1, 0.4, 8, 2, 4),  # two on each GPU: the rest of each is too small for a third
        (1, 2, 8, 3, 1),
        (2, 0, 1, 0, 0),
        (1, 1, 8, 0, 0),
    ],
)
def test_what_fits(cpus_per_trial, gpus_per_trial, cpus, gpus, fit):
    assert fitting(cpus_per_trial, gpus_per_trial, cpus, gpus) == fit


def test_without_numbers_the_machine_is_asked():
    plan = make_plan(own())
    assert plan.cpus >= 1
    assert plan.gpus >= 0


def test_the_rest_of_the_sweep_stays_as_it_was():
    sweep = own(search={"trials": 5})
    plan = make_plan(sweep, 2, 0)
    assert plan.sweep.model_dump(exclude={"resources"}) == sweep.model_dump(exclude={"resources"})


# -- checked -----------------------------------------------------------------------------------------------------------


def test_a_good_sweep_passes():
    plan = planned()
    plan.check()
    assert plan.impossible is None


@pytest.mark.parametrize(
    ("resources", "sentence"),
    [
        ({"gpus_per_trial": 1.0}, "resources.gpus_per_trial: at most 0 GPUs are here, but got (1). Set it to 0, or "),
        ({"cpus_per_trial": 8.0}, "resources.cpus_per_trial: at most 4 CPUs are here, but got (8). Lower it, or "),
    ],
)
def test_a_request_that_can_never_be_met_warns_in_the_plan_and_stops_a_run(resources, sentence):
    plan = planned(resources=resources)
    assert sentence in plan.warnings[0]
    with pytest.raises(ResourceError) as caught:
        plan.check()
    assert str(caught.value).startswith(sentence)


def test_missing_data_warns_in_the_plan_and_stops_a_run(tmp_path):
    data = {"name": "cifar10", "root": str(tmp_path)}
    plan = make_plan(tuner.Sweep(trainable="cnn", data=data, space=RATE), 2, 0, memory=False)
    # The shape of a published set is known all the same, so its models are still looked at.
    assert plan.data.shape == (3, 32, 32)
    assert plan.preflight.checked == 1
    assert str(tmp_path) in plan.data_problem
    assert plan.data_problem in plan.warnings
    with pytest.raises(DataError, match="cifar10"):
        plan.check()


def test_nothing_is_started_for_a_sweep_that_cannot_run(tmp_path):
    started = []

    def sound(sweep, cpus, gpus):
        started.append((sweep.resources.max_concurrent, cpus, gpus))

    data = {"name": "table", "path": str(tmp_path / "none.csv"), "target": "y"}
    for tables in ({"resources": {"cpus_per_trial": 8}}, {"resources": {"gpus_per_trial": 1}}, {"data": data}):
        make_plan(own({"x": tuner.Uniform(0, 1)}, **tables), 4, 0, sound=sound)
    assert started == []
    make_plan(own({"x": tuner.Uniform(0, 1)}), 4, 0, sound=sound)
    assert started == [(4, 4, 0)]


def test_a_trainable_that_cannot_be_imported_is_told_at_once(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import not_installed\ndef build(config, data): ...\ndef train(config, trial): ...\n"
    )
    sweep = tuner.Sweep(trainable=f"{tmp_path}/mine.py:train", metric="loss", mode="min", space=RATE)
    with pytest.raises(UsageError, match=r"mine.py, line 1: importing it must not raise.*not_installed"):
        make_plan(sweep, 2, 0)


def collapsing(*conv_layers, sound=None):
    """Return the plan of a cnn on digits with so many conv layers."""
    space = {"conv_layers": tuner.Choice(list(conv_layers))}
    sweep = tuner.Sweep(trainable="cnn", name="digits", data={"name": "digits"}, space=space)
    return make_plan(sweep, 2, 0, memory=False, sound=sound)


def test_a_space_without_any_model_stops_a_run_before_anything_is_started():
    started = []
    plan = collapsing(5, 6, sound=lambda sweep, cpus, gpus: started.append(sweep))
    with pytest.raises(
        SweepError, match=r"digits: space: none of its 2 models can be built: image 8x8 .*conv_layers=5"
    ):
        plan.check()
    assert not started
    collapsing(2, 6, sound=lambda sweep, cpus, gpus: started.append(sweep))
    assert len(started) == 1


def test_a_space_with_some_models_runs_with_a_warning():
    plan = collapsing(2, 5, 6, 7, 8)
    plan.check()
    (warning,) = [text for text in plan.warnings if text.startswith("space:")]
    assert "4 of 5 models cannot be built" in warning
    assert "conv_layers=7" in warning
    assert "and 1 more" in warning


def test_the_plan_is_json():
    plan = collapsing(2, 5)
    read = json.loads(json.dumps(plan.to_dict(), allow_nan=False))
    assert read["trials"] == plan.trials
    assert read["sweep"]["resources"]["max_concurrent"] == 2
    assert read["preflight"]["collapsed"][0]["config"] == {"conv_layers": 5}
    assert read["data"]["shape"] == [1, 8, 8]
    assert read["baseline"]["optimizer"] == "sgd"
