from __future__ import annotations

import atexit
import ctypes
import json
import os
import signal
import sys
import threading
import time
import weakref
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from conformance_backends import BackendConformance, facts, make_driver, make_sweep, same, unequal

import tuner
from trainables import data as trainables_data
from tuner import checkpoints
from tuner.backends.ray_tune import ahead, driver_side, session
from tuner.backends.ray_tune.driver_side import classify_loss
from tuner.backends.ray_tune.worker_side import Attempts
from tuner.drive import Watch
from tuner.splits import Splits
from tuner.timing import Clock

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("everything_is_given_back")]


@pytest.fixture
def everything_is_given_back(ray_local):
    """A Ray that goes on must have all its cores again, however a sweep ended; Ray takes a moment to count them."""
    import ray

    yield
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != 2:
        if time.monotonic() > deadline:
            pytest.fail(f"workers are left: {ray.available_resources()}")
        time.sleep(0.02)
    assert ray.util.placement_group_table() == {}  # a removed one may keep its core for ever


class TestRay(BackendConformance):
    backend = "ray"
    patience_s = 6.0
    with_state = False  # the tests below kill workers that keep one; each worker that does imports torch

    def drive(self, driver, train):
        driver_side.run(driver, train, Splits(), driver_side.Options(cpus=2, gpus=0, max_concurrent=1))


# -- a worker that dies -----------------------------------------------------------------------------------------------


def dies(config, trial):
    """Kills its own process, once after epoch 2 or always; writes down every epoch that it really trains."""
    folder = Path(config["folder"])
    total = trial.state["total"] if trial.state else 0
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        with (folder / f"{config['dies']}.txt").open("a") as executed:
            executed.write(f"{epoch} ")
        if config["dies"] == "always":
            os.kill(os.getpid(), signal.SIGKILL)
        if config["dies"] == "crashes":
            ctypes.string_at(0)  # SIGSEGV
        total += epoch
        trial.report(epoch=epoch, score=total, state={"total": total})
        if config["dies"] == "once" and epoch == 2 and trial.start_epoch == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_trial_whose_worker_dies_goes_on_from_its_last_committed_epoch(tmp_path):
    points = [{"dies": "once"}, {"dies": "always"}, {"dies": "crashes"}]
    sweep = make_sweep(
        dies,
        {"dies": tuner.Choice(["once", "always", "crashes"]), "folder": str(tmp_path)},
        max_epochs=4,
        search={"strategy": "manual", "points": points},
        failure={"max_retries": 1},
        resources={"max_concurrent": 2},
    )
    results = tuner.run(sweep, storage=tmp_path)
    trials = results.trials.set_index("config.dies")
    # It goes on where it was: no epoch is lost, none is trained twice, none has two rows.
    assert (tmp_path / "once.txt").read_text() == "1 2 3 4 "
    assert tuple(trials.loc["once", ["status", "attempts", "epochs", "last.score"]]) == ("completed", 2, 4, 10)
    rows = results.epochs[results.epochs["trial"] == trials.loc["once", "trial"]]
    assert list(rows["epoch"]) == [1, 2, 3, 4] and list(rows["score"]) == [1, 3, 6, 10]
    # A config that takes every worker down is held to be the cause, after max_retries more attempts.
    for how in ("always", "crashes"):
        assert tuple(trials.loc[how, ["status", "cause", "attempts"]]) == ("failed", "config.raised", 2)
        assert "its worker died 2 times" in trials.loc[how, "error"]
        assert (tmp_path / f"{how}.txt").read_text() == "1 1 "
    assert results.best().config["dies"] == "once" and results.status == "completed"


def says_where(config, trial):
    trial.report(epoch=1, score=os.getpid())


def test_a_worker_that_started_ahead_serves_the_first_trial(tmp_path):
    home = session.Home()
    home.begin(2, 0)
    # What it cannot import ahead, its trial will say.
    home.workers = ahead.start({"CPU": 1, "GPU": 0}, 1, "no_such_module")
    import ray

    pid = ray.get(home.workers[0].__ray_call__.remote(lambda worker: os.getpid()))
    driver = make_driver(tmp_path / "run", make_sweep(says_where, {"x": tuner.Choice([1])}, max_epochs=1))
    driver_side.run(driver, says_where, Splits(), driver_side.Options(2, 0, 1, home=home))
    home.close()
    assert driver.history.trials["t0001"].epochs[1].metrics["score"] == pid


def test_workers_that_a_sweep_leaves_serve_the_next_one_and_do_what_needs_torch(tmp_path):
    pids, checkpoint, target = [], checkpoints.Place("t0001", 1, 1), tmp_path / "model.pt"
    checkpoints.commit(tmp_path, checkpoint, {"model": {"weight": torch.arange(3.0)}, "epoch": 7}, {"score": 1.0})
    with session.Home() as home:
        for name in ("first", "second"):
            space = {"x": tuner.Choice([1, 2, 3, 4])}
            sweep = make_sweep(says_where, space, max_epochs=1, search={"strategy": "grid"})
            driver = make_driver(tmp_path / name, sweep)
            driver_side.run(driver, says_where, Splits(), driver_side.Options(2, 0, 1, home=home))
            pids += {int(record.epochs[1].metrics["score"]) for record in driver.history.trials.values()}
        assert len(pids) == 2 and pids[0] == pids[1]
        assert home.extract_model(tmp_path / checkpoint.path, target)
        assert torch.equal(torch.load(target, weights_only=True)["weight"], torch.arange(3.0))
        # What goes wrong there is for who asked to find out.
        assert not home.extract_model(tmp_path / "nothing", tmp_path / "other.pt")
        # It ends by itself, so what it has to remove at its end is removed.
        ended = tmp_path / "ended"
        import ray

        ray.get(home.workers[0].__ray_call__.remote(lambda worker: atexit.register(ended.touch) and None))
    assert ended.exists()
    assert home.workers == [] and not home.extract_model(tmp_path / checkpoint.path, tmp_path / "other.pt")
    assert not (tmp_path / "other.pt").exists()


@pytest.mark.parametrize("ends", [True, False])
def test_a_worker_is_free_once_its_trial_has_ended(ends):
    worker = Attempts("")
    worker._parcel, worker._attempt = object(), SimpleNamespace(end=lambda: ends)
    assert worker.stop() is ends
    assert hasattr(worker, "_parcel") is not ends  # nor does it hold the data of that sweep any more


def test_workers_tell_where_their_time_went(tmp_path):
    clock, began = Clock(), time.monotonic()
    sweep = make_sweep(says_where, {"x": tuner.Choice([1, 2])}, max_epochs=1, search={"strategy": "grid"})
    tuner.run(sweep, storage=tmp_path, watch=Watch(clock=clock))
    seconds = clock.seconds()
    assert sum(seconds.values()) == pytest.approx(time.monotonic() - began, abs=0.1)
    assert min(seconds[phase] for phase in ("imports", "workers", "training", "journal", "best")) > 0
    assert min(clock.work[what] for what in ("start", "loading", "training", "reporting", "waiting")) > 0
    assert clock.first_epoch_s < sum(seconds.values())


def test_a_runtime_environment_is_made_when_somebody_asks_for_one():
    import ray

    # Ray was started without the agent that makes them.
    asked = ray.remote(num_cpus=0, runtime_env={"env_vars": {"ASKED": "yes"}})(lambda: os.environ["ASKED"])
    assert ray.get(asked.remote()) == "yes"


KILLED = """The actor died unexpectedly before finishing this task.
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was \
killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker crashed \
unexpectedly due to SIGSEGV or another unexpected error. If the process was killed by the kernel OOM killer \
(verifiable by checking for OOM in dmesg of the OOMing node), consider enabling resource isolation via \
--enable-resource-isolation to prevent node deaths by resource contention."""


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (KILLED, "infrastructure.worker_lost"),
        ("1 worker(s) were killed due to the node running low on memory.", "config.out_of_memory"),
        ("The actor died because its node has died. Node Id: 3f2a", "infrastructure.node_lost"),
        ("The actor 8d95 is unavailable: The actor is temporarily unavailable: RpcError", "infrastructure.node_lost"),
        ("", "infrastructure.worker_lost"),
    ],
)
def test_what_ray_says_of_a_lost_worker_has_a_cause(said, cause):
    assert classify_loss(said)[0] == cause


def test_a_worker_that_the_kernel_killed_for_want_of_memory_is_out_of_memory():
    assert classify_loss(KILLED, oom_killed=True)[0] == "config.out_of_memory"


class Unimportable(driver_side.Attempts):
    """Stands in for this project where a node has not installed it."""


def test_a_worker_that_cannot_start_ends_the_sweep_and_is_not_blamed_on_a_config(tmp_path, monkeypatch):
    nowhere = ModuleType("nowhere")
    nowhere.Unimportable = Unimportable
    monkeypatch.setattr(Unimportable, "__module__", "nowhere")
    monkeypatch.setitem(sys.modules, "nowhere", nowhere)
    monkeypatch.setattr(driver_side, "Attempts", Unimportable)
    driver = make_driver(tmp_path / "run", make_sweep(unequal, {"slope": 1.0, "stubborn": False}))
    with pytest.raises(tuner.TunerError, match=r"a worker on Ray must start, but got .*No module named 'nowhere'"):
        driver_side.run(driver, unequal, Splits(), driver_side.Options(2, 0, 1))
    assert len(driver.history.trials) == 1


def test_a_trial_waits_for_the_one_before_it_to_clear_up(tmp_path):
    def lingers(config, trial):
        try:
            for epoch in range(1, 5):
                trial.report(epoch=epoch, score=0.5)
        finally:
            if trial.number == 1:
                time.sleep(3)  # longer than Ray waits by itself

    stopping = {"rules": ["plateau"], "plateau": {"patience": 1, "grace_epochs": 1}}
    sweep = make_sweep(lingers, {"x": tuner.Uniform(0, 1)}, max_epochs=5, stopping=stopping)
    trials = tuner.run(sweep, storage=tmp_path).trials
    assert list(trials["status"]) == ["stopped"] * 2
    assert list(trials["attempts"]) == [1, 1] and trials["worker"].nunique() == 1


# -- the same results -------------------------------------------------------------------------------------------------


def test_a_cnn_has_the_same_metrics_to_the_last_bit(tmp_path):
    sweep = tuner.Sweep(
        trainable="cnn",
        data={"name": "digits", "limit": 300},
        space={"learning_rate": tuner.LogUniform(1e-3, 1e-1), "dropout": tuner.Uniform(0, 0.5)},
        defaults={"filters": 4, "dense_units": 16},
        max_epochs=2,
        search={"strategy": "hyperopt", "trials": 2, "initial_random": 1},
        resources={"max_concurrent": 1},
    )
    inline, again = (tuner.run(sweep, storage=tmp_path, backend="inline") for _ in range(2))
    assert same(inline, again)
    assert same(inline, tuner.run(sweep, storage=tmp_path))
    rows, epochs = facts(inline)
    assert {row["status"] for row in rows} == {"completed"} and len(epochs) == 4
    assert rows[0]["best.val_accuracy"] != rows[1]["best.val_accuracy"]


# -- the data ---------------------------------------------------------------------------------------------------------


def reads(config, trial):
    """Reports its data's sum, and whether the array is a view of what somebody else holds."""
    images = trial.data.train.x
    view = not (images.flags.owndata or images.flags.writeable)
    trial.report(epoch=1, score=config["x"], total=float(images.sum()), view=float(view))


def test_the_driver_lets_go_of_the_data_once_ray_has_it_and_loads_none_twice(tmp_path, monkeypatch):
    load, images, alive = trainables_data.load, [], []

    def noted(*options, **named):
        data = load(*options, **named)
        images.append(weakref.ref(data.train.x))
        return data

    def look(event):
        if event.kind == "epoch":
            alive.append(sum(array() is not None for array in images))

    monkeypatch.setattr(trainables_data, "load", noted)
    sweep = make_sweep(
        reads,
        {"x": tuner.Uniform(0, 1)},
        data={"name": "digits", "limit": 120, "folds": 2},
        defaults={"x": 0.5},
        max_epochs=1,
        search={"strategy": "random", "trials": 2},
        study={"stages": ("baseline", "search", "cross_validate"), "repeats": 1, "top": 1, "cv_seeds": 1},
        resources={"max_concurrent": 1},
    )
    on_ray = tuner.study(sweep, storage=tmp_path, watch=Watch(on_event=look))
    assert set(on_ray.epochs["view"]) == {1.0}
    assert alive == [0] * len(on_ray.epochs)
    # One for baseline and search, and one a fold: what Ray has serves every stage that needs it.
    assert len(images) == 3
    monkeypatch.undo()
    inline = tuner.study(sweep, storage=tmp_path, backend="inline")
    assert list(inline.epochs["total"]) == list(on_ray.epochs["total"])
    assert inline.epochs["total"].nunique() == 3


@pytest.mark.slow
def test_what_ray_has_is_loaded_again_for_another_ray_alone(tmp_path):
    loads, home = [], session.Home()

    def load():
        loads.append("again")
        return trainables_data.load({"name": "digits", "limit": 120}, 1)

    splits, totals = Splits({None: load}), set()
    for name, count in {"a": 1, "b": 1, "c": 2}.items():
        driver = make_driver(tmp_path / name, make_sweep(reads, {"x": tuner.Choice([1])}, max_epochs=1))
        driver_side.run(driver, reads, splits, driver_side.Options(2, 0, 1, home=home))
        totals.add(driver.history.trials["t0001"].epochs[1].metrics["total"])
        assert len(loads) == count
        if name == "b":
            home.close()  # as when Ray has died
    home.close()
    assert len(totals) == 1


# -- who runs when ----------------------------------------------------------------------------------------------------


def test_no_more_trials_run_than_may(tmp_path):
    def counts(config, trial):
        mine = tmp_path / f"{trial.number}.running"
        mine.touch()
        trial.report(epoch=1, score=len(list(tmp_path.glob("*.running"))))
        mine.unlink()

    sweep = make_sweep(counts, {"x": 0.5, "y": tuner.Uniform(0, 1)}, search={"strategy": "random", "trials": 12})
    before, begun, most = dict(os.environ), set(), []

    def count(event):
        if event.kind in ("attempt", "end"):
            begun.symmetric_difference_update({event.trial})
            most.append(len(begun))

    results = tuner.run(sweep, storage=tmp_path, watch=Watch(on_event=count))
    assert set(results.epochs["score"]) == {1} and max(most) == 1
    # Nor does anything stay of it in this process.
    assert dict(os.environ) == before
    assert not driver_side._seams


# -- what cannot be run -----------------------------------------------------------------------------------------------


def test_a_function_that_cannot_be_sent_is_refused_before_a_trial_starts(tmp_path):
    lock = threading.Lock()

    def holds_a_lock(config, trial):
        with lock:
            trial.report(epoch=1, score=1)

    with pytest.raises(tuner.TunerError, match=r"holds_a_lock: Ray must be able to pickle it.*lock.*inline"):
        tuner.run(make_sweep(holds_a_lock, {"x": 0.5}), storage=tmp_path)


def test_resources_that_no_node_has_are_named():
    with pytest.raises(tuner.TunerError, match=r"64 CPUs, 0 GPUs a trial, on nodes with 2 CPUs, 0 GPUs"):
        session.check_resources({"CPU": 64, "GPU": 0}, patience_s=0)
    kind = {"CPU": 1, "GPU": 1, "accelerator_type:A100": 0.001, "fast_disk": 1}
    with pytest.raises(
        tuner.TunerError, match=r"A100, 1 fast_disk a trial, on nodes with 2 CPUs, 0 GPUs, no A100, 0 fast_disk"
    ):
        session.check_resources(kind, patience_s=0)


def test_nodes_tell_how_many_trials_fit_on_them(ray_local):
    nodes = session.Nodes()
    assert [nodes.fitting({"CPU": cpus, "GPU": 0}) for cpus in (1, 0.5, 2, 3)] == [2, 4, 1, 0]
    assert nodes.fitting({"CPU": 1, "GPU": 0.5}) == 0 == nodes.fitting({"CPU": 1, "GPU": 0, "fast_disk": 1})


def test_workers_that_an_autoscaler_may_start_are_known_before_they_are_there(tmp_path):
    kinds = {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 16}, "max_workers": 4},
        "gpu": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 2},
    }
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(json.dumps({"available_node_types": kinds, "head_node_type": "head", "max_workers": 3}))
    assert session.to_come(file) == [{"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}, {"CPU": 16}]
    file.write_text("{}")
    assert session.to_come(file) == session.to_come(tmp_path / "none") == []
