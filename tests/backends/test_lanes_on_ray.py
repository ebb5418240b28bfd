"""Trials that train as lanes of one process, each still a Ray trial of its own: real Ray, real networks."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

import tuner
from tuner.drive import Watch

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

RATES = [0.05, 0.1, 0.02, 0.2, 1e30, 0.15]


def sweep(lanes, **more):
    return tuner.Sweep(
        trainable="cnn",
        space={"learning_rate": tuner.LogUniform(1e-3, 1e30), "filters": 4, "dense_units": 16},
        data={"name": "digits", "limit": 300},
        search={"strategy": "manual", "points": [{"learning_rate": rate} for rate in RATES]},
        resources={"lanes": lanes, "max_concurrent": 3},
        **{"max_epochs": 3, **more},
    )


def test_lanes_report_what_their_trials_would_alone_and_a_failed_one_disturbs_nobody(tmp_path):
    alone = tuner.run(sweep(1), storage=tmp_path, name="alone", backend="inline")
    together = tuner.run(sweep(3), storage=tmp_path, name="together")
    columns = ["status", "cause", "epochs", "seed", "config.learning_rate"]
    assert together.trials[columns].equals(alone.trials[columns])
    assert list(together.trials["status"]).count("failed") == 1  # the rate of 1e30
    # In the first epoch roundings have not grown yet.
    first = [frame.epochs.query("epoch == 1").set_index("trial")["train_loss"] for frame in (alone, together)]
    assert first[1].drop("t0005").to_dict() == pytest.approx(first[0].drop("t0005").to_dict(), rel=1e-3)
    # All lanes of a sweep trained in the one process of its CPU.
    assert together.trials["worker"].dropna().nunique() == 1


@pytest.mark.slow
def test_trials_go_on_from_their_checkpoints_where_the_process_of_their_lanes_dies(tmp_path):
    killed = threading.Event()

    def kill(event):
        if event.kind == "epoch" and event.epoch == 2 and not killed.is_set():
            killed.set()
            os.kill(int(event.body["worker"].rpartition(":")[2]), signal.SIGKILL)

    results = tuner.run(sweep(3, max_epochs=4), storage=tmp_path, watch=Watch(on_event=kill))
    trials = results.trials.set_index("config.learning_rate")
    assert killed.is_set() and trials["attempts"].max() == 2
    assert set(trials.drop(1e30)["status"]) == {"completed"}
    for _, rows in results.epochs.groupby("trial"):
        assert list(rows["epoch"]) == list(range(1, len(rows) + 1))


@pytest.mark.slow
def test_nothing_of_the_lanes_is_left_on_a_ray_that_goes_on(tmp_path):
    import ray
    from ray.util import list_named_actors

    tuner.run(sweep(2, max_epochs=1), storage=tmp_path)
    deadline = time.monotonic() + 30
    while list_named_actors(all_namespaces=True) or ray.available_resources().get("CPU") != 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
