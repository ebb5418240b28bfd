"""What lanes = "auto" comes to before a run is planned."""

from __future__ import annotations

import pytest

import tuner
from tuner import lanes


def sweep(**resources):
    return tuner.Sweep(
        trainable="cnn",
        space={"learning_rate": tuner.LogUniform(1e-3, 0.1), "filters": 4, "dense_units": 8},
        data={"name": "digits", "limit": 300},
        search={"trials": 8},
        resources={"lanes": "auto", **resources},
    )


def resolved(asked, here=True):
    return lanes.resolve(asked, here=here).resources.lanes


def test_a_number_stays(monkeypatch):
    monkeypatch.setattr(lanes, "_measured", lambda sweep: 99)
    assert resolved(sweep(lanes=3)) == 3


def test_what_was_measured_is_taken(monkeypatch):
    monkeypatch.setattr(lanes, "_measured", lambda sweep: 4)
    assert resolved(sweep()) == 4


def test_nothing_is_measured_for_a_cluster_or_a_users_function(monkeypatch):
    monkeypatch.setattr(lanes, "_measured", lambda sweep: 4)
    own = tuner.Sweep(trainable=print, space={"x": tuner.Uniform(0, 1)}, metric="loss", resources={"lanes": "auto"})
    assert resolved(sweep(), here=False) == 1
    assert resolved(own) == 1


def test_what_cannot_be_measured_is_one_lane_and_told_by_the_plan(monkeypatch):
    missing = tuner.Sweep(
        trainable="cnn",
        space={"learning_rate": tuner.LogUniform(1e-3, 0.1)},
        data={"name": "images", "path": "/nowhere"},
        resources={"lanes": "auto"},
    )
    assert resolved(missing) == 1


def test_lanes_are_measured_for_the_share_of_a_group(monkeypatch):
    asked = {}
    monkeypatch.setattr(lanes, "count_cpus", lambda: 2)
    monkeypatch.setattr(lanes, "_in_a_process", lambda sweep, request, samples: asked.update(request) or 2)
    assert resolved(sweep()) == 2
    assert asked["most"] == 4  # eight trials in two groups
    assert asked["device"] == "cpu" and asked["threads"] == 1


@pytest.mark.parametrize("most", [1, 8])
@pytest.mark.slow
def test_a_real_measurement_gives_a_count_that_the_trials_fill(most):
    assert 1 <= resolved(sweep(max_concurrent=most)) <= max(1, most)


def test_lanes_share_what_a_trial_has_and_all_fit_on_it():
    asked = sweep(lanes=7).resources.request()["CPU"]
    assert 7 * asked <= 1.0 < 8 * asked
    assert sweep(lanes=1).resources.request()["CPU"] == 1.0


def test_a_users_function_has_no_lanes():
    with pytest.raises(tuner.SweepError, match=r"resources.lanes: only cnn, resnet and mlp train in lanes"):
        tuner.Sweep(trainable=print, space={"x": tuner.Uniform(0, 1)}, metric="loss", resources={"lanes": 2})
