"""What a run folder's journal says: every trial a row, the best from its best epoch, the run that was meant."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import Made, failed, make_run

import tuner
from tuner.errors import RunError, TunerError
from tuner.history import Event
from tuner.journal import FILE_NAME, MARK_NAME, Journal
from tuner.results import find_run, is_driven, load, run_names
from tuner.run_folder import lock

SGD = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9}
ADAM = {"optimizer": "adam", "learning_rate": 0.01, "betas": [0.9, 0.99]}


@pytest.fixture
def run(tmp_path):
    """Return a function that writes a run folder of trials and loads it."""

    def make(*trials, name="mine", **keywords):
        return load(make_run(tmp_path / "runs" / name, list(trials), **keywords))

    return make


def rows(results):
    return {row["trial"]: row for row in results.trial_rows()}


# -- the frames' columns --------------------------------------------------------------------------------------------


def test_the_columns_of_trials_stand_in_their_order(run):
    results = run(Made(SGD, [0.5]), Made(ADAM, [0.6]), failed({"optimizer": "rmsprop", "alpha": 0.5}))
    assert list(results.trials) == [
        "trial",
        "number",
        "stage",
        "fold",
        "repeat",
        "status",
        "cause",
        "error",
        "config.optimizer",
        "config.learning_rate",
        "config.momentum",
        "config.betas",
        "config.alpha",
        "best_epoch",
        "epochs",
        "seed",
        "attempts",
        "worker",
        "started_at",
        "duration_s",
        "best.val_accuracy",
        "best.train_loss",
        "last.val_accuracy",
        "last.train_loss",
    ]
    # A parameter of another branch is missing, not zero.
    assert [row["config.momentum"] for row in results.trial_rows()] == [0.9, None, None]


def test_constraints_add_a_column_and_what_they_ask_for(run):
    trials = [
        Made(SGD, [0.5, 0.4]),  # its best epoch is the first, where train_loss is 1
        Made(ADAM, [0.3, 0.4]),
        Made(ADAM, [0.1, 0.2], "running"),
        failed(ADAM),
    ]
    results = run(*trials, head={"constraints": ["train_loss < 0.6", "epoch_s <= 1.5"]})
    assert list(results.trials)[-2:] == ["best.epoch_s", "feasible"]
    assert [row["feasible"] for row in results.trial_rows()] == [False, True, None, None]
    # No epoch reported it, so it is the mean time of the trial's epochs.
    assert [row["best.epoch_s"] for row in results.trial_rows()] == [1.5, 1.5, 1.5, None]
    best = results.best()
    assert (best.trial, best.value, best.of) == ("t0002", 0.4, 1)


def test_one_repeat_that_breaks_a_constraint_is_enough(run):
    trials = [
        Made(SGD, [0.5, 0.9], proposal=1),
        Made(SGD, [0.9, 0.5], proposal=1, repeat=2),
        Made(ADAM, [0.1, 0.2], proposal=2),
    ]
    assert run(*trials, head={"constraints": ["train_loss < 0.6"]}).best().trial == "t0003"


def test_where_no_trial_meets_the_constraints_there_is_no_best(run):
    results = run(Made(SGD, [0.5]), head={"constraints": ["train_loss < 0.6"]})
    with pytest.raises(TunerError, match="no trial that meets the constraints has completed"):
        results.best()


def test_objectives_add_a_column_that_says_what_nothing_beats(run):
    trials = [
        Made(SGD, [0.5]),  # train_loss 1, 1.5 s
        Made(ADAM, [0.3, 0.4]),  # beaten by the next
        Made(ADAM, [0.3, 0.6]),  # train_loss 0.5
        Made(SGD, [0.1, 0.2, 0.4]),  # train_loss 0.33
        failed(ADAM),
    ]
    results = run(*trials, head={"objectives": {"train_loss": "min", "epoch_s": "min"}})
    assert list(results.trials)[-2:] == ["best.epoch_s", "pareto"]
    assert [row["pareto"] for row in results.trial_rows()] == [False, False, True, True, None]
    front = results.pareto()
    assert [one.ranked.trial.trial for one in front] == ["t0003", "t0004"]
    assert front[0].values == {"val_accuracy": 0.6, "train_loss": 0.5, "epoch_s": 1.5}
    # The first objective decides on the best.
    assert results.best().trial == "t0003"


def test_what_breaks_a_constraint_is_not_in_the_pareto_set(run):
    head = {"objectives": {"train_loss": "min"}, "constraints": ["train_loss > 0.4"]}
    results = run(Made(SGD, [0.5, 0.6]), Made(ADAM, [0.1, 0.2, 0.4]), head=head)
    assert [one.ranked.trial.trial for one in results.pareto()] == ["t0001"]


def test_the_columns_of_epochs_stand_in_their_order(run):
    results = run(Made(SGD, [0.5, 0.6]), failed(ADAM), Made(ADAM, [0.7]))
    assert list(results.epochs) == ["trial", "number", "epoch", "val_accuracy", "train_loss", "reported_at"]
    assert results.epochs[["trial", "epoch", "val_accuracy"]].to_numpy().tolist() == [
        ["t0001", 1, 0.5],
        ["t0001", 2, 0.6],
        ["t0003", 1, 0.7],
    ]


def test_rows_are_the_frame_as_json_has_it(run):
    results = run(Made(SGD, [0.5, math.nan]), failed(ADAM))
    (first, second) = results.trial_rows()
    assert list(first) == list(second) == list(results.trials)
    assert (first["started_at"], first["last.val_accuracy"]) == ("2025-06-15T15:06:41.500+00:00", None)


def test_a_metric_first_reported_at_a_later_epoch_is_a_column(run, tmp_path):
    make_run(tmp_path / "late", [Made(SGD, [0.5])], finished=None)
    with contextlib.closing(Journal(tmp_path / "late" / FILE_NAME)) as journal:
        body = {"metrics": {"val_accuracy": 0.6, "val_roc_auc": 0.9}, "elapsed_s": 2.0, "worker": "host:1"}
        journal.append(Event("attempt", "t0001", 2, body={"start_epoch": 1}), Event("epoch", "t0001", 2, 2, body))
    results = load(tmp_path / "late")
    assert results.epochs["val_roc_auc"].isna().tolist() == [True, False]
    assert rows(results)["t0001"]["best.val_roc_auc"] == 0.9


# -- trials ---------------------------------------------------------------------------------------------------------


def test_every_trial_is_a_row_also_one_that_failed_before_its_first_report(run):
    results = run(
        Made(SGD, [0.5]),
        failed(ADAM, "config.shape", "the image collapses"),
        Made(SGD, [0.4], "stopped"),
        Made(ADAM, [], "pending"),
    )
    assert results.trials["trial"].tolist() == ["t0001", "t0002", "t0003", "t0004"]
    row = rows(results)["t0002"]
    assert (row["status"], row["cause"], row["error"]) == ("failed", "config.shape", "the image collapses")
    assert (row["epochs"], row["best_epoch"], row["best.val_accuracy"], row["attempts"]) == (0, None, None, 1)
    assert (row["config.optimizer"], row["worker"]) == ("adam", None)
    assert results.counts() == {"completed": 1, "failed": 1, "stopped": 1, "pending": 1}


def test_best_is_the_best_epochs_and_last_the_last_ones(run):
    row = rows(run(Made(SGD, [0.5, 0.9, 0.7])))["t0001"]
    assert (row["best_epoch"], row["epochs"]) == (2, 3)
    # All of the best epoch's metrics are of that one epoch, not each the best of its own.
    assert (row["best.val_accuracy"], row["best.train_loss"]) == (0.9, 0.5)
    assert (row["last.val_accuracy"], row["last.train_loss"]) == (0.7, 1 / 3)


def test_a_retried_trial_shows_the_accepted_rows_and_all_its_time(tmp_path):
    folder = make_run(tmp_path / "retried", [Made(SGD, [0.5, 0.9], "running")], finished=None)
    with contextlib.closing(Journal(folder / FILE_NAME)) as journal:
        lost = {"status": "pending", "cause": "infrastructure.worker_lost", "error": "gone", "elapsed_s": 4.0}
        body = {"metrics": {"val_accuracy": 0.6, "train_loss": 1.0}, "elapsed_s": 2.0, "worker": "other:2"}
        journal.append(
            Event("end", "t0001", 1, body=lost),
            Event("attempt", "t0001", 2, body={"start_epoch": 1}),
            Event("epoch", "t0001", 2, 2, body),
            Event("end", "t0001", 2, body={"status": "completed", "cause": None, "error": None, "elapsed_s": 2.5}),
        )
    results = load(folder)
    assert results.epochs["val_accuracy"].tolist() == [0.5, 0.6]
    row = rows(results)["t0001"]
    assert (row["status"], row["cause"], row["attempts"], row["worker"]) == ("completed", None, 2, "other:2")
    assert (row["duration_s"], row["best_epoch"], row["best.val_accuracy"]) == (6.5, 2, 0.6)


def test_trials_lost_to_the_infrastructure_are_counted(run):
    causes = ["infrastructure.storage", "timeout", "config.raised", "infrastructure.node_lost", "config.out_of_memory"]
    assert run(*(failed(SGD, cause) for cause in causes), Made(SGD, [0.5])).lost() == 3


# -- the best -------------------------------------------------------------------------------------------------------


def test_the_best_config_with_all_that_is_said_of_it(run):
    best = run(Made(SGD, [0.5, 0.8, 0.6]), Made(ADAM, [0.7], "stopped"), failed(SGD)).best()
    assert dataclasses.asdict(best) == {
        "trial": "t0001",
        "number": 1,
        "config": SGD,
        "metric": "val_accuracy",
        "value": 0.8,
        "epoch": 2,
        "metrics": {"val_accuracy": 0.8, "train_loss": 0.5},
        "repeats": 1,
        "of": 2,
    }


def test_the_best_of_repeats_is_the_best_mean(run):
    best = run(
        Made(SGD, [0.9]),
        Made(SGD, [0.5], proposal=1, repeat=2),
        Made(ADAM, [0.75], proposal=2),
        Made(ADAM, [0.8], proposal=2, repeat=2),
    ).best()
    assert (best.trial, best.value, best.repeats, best.of, best.config) == ("t0004", 0.775, 2, 2, ADAM)


def test_the_least_is_best_where_the_mode_is_min(run):
    assert run(Made(SGD, [0.5, 0.3]), Made(ADAM, [0.4]), mode="min").best().value == 0.3


@pytest.mark.parametrize(
    "trials",
    [[], [failed(SGD)], [Made(SGD, [0.9], "failed", "config.raised", "no")], [Made(SGD, [math.nan, None])]],
    ids=["no trial", "failed at once", "failed after a good epoch", "never finite"],
)
def test_without_a_completed_trial_there_is_no_best(run, trials):
    # A lone failed trial is not the best one.
    results = run(*trials, finished="failed")
    with pytest.raises(TunerError, match=r"mine: no trial has completed with a finite val_accuracy.*tuner show"):
        results.best()


def test_what_a_trainable_returns_does_not_win(tmp_path):
    def train(config, trial):
        for epoch in (1, 2):
            trial.report(epoch=epoch, loss=config["x"] * epoch)
        return {"loss": -100.0}

    sweep = tuner.Sweep(
        name="returns",
        trainable=train,
        metric="loss",
        mode="min",
        max_epochs=2,
        space={"x": tuner.Choice([0.5, 0.25])},
        search={"strategy": "grid", "trials": 2},
    )
    results = tuner.run(sweep, storage=tmp_path, backend="inline")
    assert sorted(results.trials["best.loss"]) == [0.25, 0.5]
    assert (results.best().value, results.best().epoch) == (0.25, 1)
    # A second run of that name is another folder, and neither has rows of the other.
    again = tuner.run(sweep, storage=tmp_path, backend="inline")
    assert (results.folder.name, again.folder.name) == ("returns", "returns-2")
    assert len(load(results.folder).trials) == len(again.trials) == 2
    # What run() returns is what the folder says.
    assert load(again.folder).trials.equals(again.trials)
    assert load(again.folder).epochs.equals(again.epochs)


# -- the sweep's state ----------------------------------------------------------------------------------------------


def test_a_run_that_a_driver_holds_is_running(tmp_path):
    folder = make_run(tmp_path / "mine", [Made(SGD, [0.5], "running"), Made(ADAM, [], "pending")], finished=None)
    driver = "import sys, pathlib, tuner.run_folder as f; held = f.lock(pathlib.Path(sys.argv[1])); print(1); input()"
    command = [sys.executable, "-u", "-c", driver, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        results = load(folder)
        assert (results.status, results.counts()) == ("running", {"running": 1, "pending": 1})
        process.kill()
        process.wait()
        # The kernel frees the lock of a driver that is killed; what it was at is interrupted.
        results = load(folder)
        assert (results.status, results.counts()) == ("interrupted", {"interrupted": 1, "pending": 1})


def test_looking_whether_a_driver_is_there_does_not_take_its_lock(tmp_path):
    assert not is_driven(tmp_path)
    with lock(tmp_path):
        assert is_driven(tmp_path) and is_driven(tmp_path)
    assert not is_driven(tmp_path)
    lock(tmp_path).close()


@pytest.mark.parametrize("finished", ["completed", "failed", "interrupted"])
def test_a_run_ended_as_its_driver_said(run, finished):
    assert run(Made(SGD, [0.5]), finished=finished).status == finished


def test_a_finished_run_whose_extension_was_killed_is_interrupted(tmp_path):
    folder = make_run(tmp_path / "mine", [Made(SGD, [0.5])])
    with contextlib.closing(Journal(folder / FILE_NAME)) as journal:
        journal.append(Event("session"))
    assert load(folder).status == "interrupted"


def test_a_folder_without_a_frozen_sweep_is_told(tmp_path):
    Journal(tmp_path / FILE_NAME).close()
    with pytest.raises(RunError, match="holds no sweep yet"):
        load(tmp_path)


# -- which run ------------------------------------------------------------------------------------------------------


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """Make ./runs with three runs, written one after another, and some other things."""
    monkeypatch.chdir(tmp_path)
    for place, name in enumerate(["first", "last", "between"]):
        folder = make_run(tmp_path / "runs" / name, [Made(SGD, [0.5])])
        at = 1000 + (5 if name == "last" else place)
        for child in (FILE_NAME, MARK_NAME):
            os.utime(folder / child, (at, at))
    (tmp_path / "runs" / "no_run").mkdir()
    (tmp_path / "runs" / "note.txt").write_text("")
    return tmp_path / "runs"


def test_the_names_of_runs_are_those_with_a_journal(storage):
    assert run_names(storage) == ["between", "first", "last"]
    assert run_names(storage / "nowhere") == []


@pytest.mark.parametrize(
    "given", ["first", "runs/first", "./runs/first/", "runs/../runs/first", "runs/last/../first", Path("runs/first")]
)
def test_a_run_is_found_by_name_or_path(storage, given):
    assert find_run(given).resolve() == storage / "first"


def test_a_path_goes_before_a_name(storage, tmp_path):
    make_run(tmp_path / "first", [])
    assert find_run("first").resolve() == tmp_path / "first"


def test_an_absolute_path_and_another_storage(storage, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert find_run(storage / "first") == storage / "first"
    assert find_run("first", storage) == storage / "first"
    assert find_run("latest", storage) == storage / "last"


def test_latest_is_the_one_that_was_written_to_last_not_the_one_that_was_looked_at(storage):
    load("first")
    assert find_run("latest").name == "last"
    with contextlib.closing(Journal(storage / "first" / FILE_NAME)) as journal:
        journal.append(Event("note"))
    assert find_run("latest").name == "first"


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ("frist", 'Did you mean "first"?'),
        ("latset", 'Did you mean "latest"?'),
        ("no_run", "Valid: between, first, last."),
        ("", "Valid: between, first, last."),
        ("a\0b", "Valid: between, first, last."),
        ("runs/first/journal.sqlite", "Valid:"),
    ],
)
def test_a_run_that_is_not_there_is_told_with_the_nearest(storage, given, remedy):
    with pytest.raises(RunError, match="RUN must be a run folder, a name in") as told:
        find_run(given)
    assert remedy in str(told.value)


def test_latest_of_nothing_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r'RUN = "latest" needs a run here.*tuner run SWEEP'):
        find_run("latest")
    with pytest.raises(RunError, match="`tuner ls` lists the runs"):
        find_run("mine")


# -- imports --------------------------------------------------------------------------------------------------------


def test_rows_and_the_best_are_read_without_anything_heavy(tmp_path):
    folder = make_run(tmp_path / "mine", [Made(SGD, [0.5])])
    code = (
        "import sys; from tuner.results import load; results = load(sys.argv[1]); results.best(); results.trial_rows();"
        "print(*({'torch', 'ray', 'pandas', 'numpy', 'pydantic', 'pyarrow', 'hyperopt'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_lock_that_says_nothing_of_its_owner_is_a_lock(tmp_path):
    folder = make_run(tmp_path / "mine", [])
    (folder / "driver.lock").write_text("{}")
    with (folder / "driver.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert load(folder).status == "running"
    assert load(folder).status == "completed"
