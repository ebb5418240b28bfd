"""best/: the winner as a folder to take away, from the best epoch of the best trial, never the last."""

from __future__ import annotations

import json
import math
import shutil
import tomllib

import pytest
import torch
from made_runs import Made, failed, make_run

import tuner
from tuner import checkpoints
from tuner.results import load
from tuner.winner import write_best

CONFIG = {"optimizer": "sgd", "learning_rate": 0.1, "schedule": [[1, 0.1], [5, 0.01]], "batch_norm": True, "layers": 2}


def made(tmp_path, *trials, **keywords):
    return load(make_run(tmp_path / "mine", list(trials), **keywords))


def train(config, trial):
    """Report a value and a state that say which epoch they are of; the best epoch is the second of three."""
    for epoch, loss in enumerate([0.5, config["x"], 0.9], start=1):
        state = {"model": {"weight": torch.full((2,), float(epoch))}, "epoch": epoch}
        trial.report(epoch=epoch, loss=loss, state=state if config["stateful"] else None)


def trained(tmp_path, **tables):
    """Run a sweep of two configs; the second is the better one."""
    space = {"x": tuner.Choice([0.25, 0.125]), "stateful": True, **tables.pop("space", {})}
    return tuner.run(
        tuner.Sweep(
            name="mine",
            trainable=train,
            metric="loss",
            mode="min",
            max_epochs=3,
            space=space,
            search={"strategy": "grid", "trials": 2},
            **tables,
        ),
        storage=tmp_path,
        backend="inline",
    )


def model(results):
    return torch.load(results.folder / "best" / "model.pt", weights_only=True)


# -- what is in it --------------------------------------------------------------------------------------------------


def test_the_config_and_the_metrics_of_the_best_epoch(tmp_path):
    results = made(tmp_path, Made(CONFIG, [0.5, 0.9, 0.7]), failed({"learning_rate": 9.0}))
    folder = write_best(results, {"mean": [0.5]})
    assert folder == results.folder / "best"
    assert sorted(path.name for path in folder.iterdir()) == ["config.toml", "metrics.json", "preprocess.json"]
    assert tomllib.loads((folder / "config.toml").read_text()) == CONFIG
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["trial"], metrics["epoch"], metrics["value"], metrics["of"]) == ("t0001", 2, 0.9, 1)
    assert metrics["metrics"] == {"val_accuracy": 0.9, "train_loss": 0.5}
    assert json.loads((folder / "preprocess.json").read_text()) == {"mean": [0.5]}


def test_what_toml_and_json_have_not_is_left_out_or_null(tmp_path):
    results = made(tmp_path, Made({"width": None, "rate": 0.5}, [0.5, math.nan]), mode="max")
    results.history.trials["t0001"].epochs[1].metrics["train_loss"] = math.inf
    folder = write_best(results, None)
    assert tomllib.loads((folder / "config.toml").read_text()) == {"rate": 0.5}
    assert json.loads((folder / "metrics.json").read_text())["metrics"]["train_loss"] is None
    assert not (folder / "preprocess.json").exists()


def test_the_model_is_the_best_epochs_of_the_best_trial(tmp_path):
    results = trained(tmp_path)
    assert results.best().trial == "t0002"
    assert model(results)["weight"].tolist() == [2.0, 2.0]


def test_the_best_of_repeats_stands_for_its_config(tmp_path):
    results = made(tmp_path, Made(CONFIG, [0.5]), Made(CONFIG, [0.75], proposal=1, repeat=2))
    write_best(results, None)
    metrics = json.loads((results.folder / "best" / "metrics.json").read_text())
    assert (metrics["trial"], metrics["value"], metrics["repeats"]) == ("t0002", 0.625, 2)


def test_without_a_state_there_is_no_model(tmp_path):
    results = trained(tmp_path, space={"stateful": False})
    assert sorted(path.name for path in (results.folder / "best").iterdir()) == ["config.toml", "metrics.json"]


def test_without_a_checkpoint_of_the_best_epoch_there_is_no_model_of_another(tmp_path):
    # Checkpoints of epochs 3 only: the last epoch's model must not pass for the best one's.
    results = trained(tmp_path, checkpoint={"every_epochs": 3})
    assert not (results.folder / "best" / "model.pt").exists()


def test_a_state_without_a_model_is_written_whole(tmp_path):
    results = made(tmp_path, Made(CONFIG, [0.5]))
    record = results.history.trials["t0001"]
    body = checkpoints.commit(results.folder, checkpoints.Place("t0001", 1, 1), {"weight": torch.ones(1)}, {})
    record.checkpoints.append(checkpoints.CheckpointRecord(1, 1, body["path"], body["sha256"]))
    write_best(results, None)
    assert model(results) == {"weight": torch.ones(1)}


# -- when it is written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trials",
    [[], [failed(CONFIG)], [Made(CONFIG, [0.9], "failed", "config.raised", "no")], [Made(CONFIG, [math.nan])]],
    ids=["no trial", "failed at once", "failed later", "never finite"],
)
def test_nothing_is_written_where_nothing_won(tmp_path, trials):
    results = made(tmp_path, *trials, finished="failed")
    assert write_best(results, None) is None
    assert not (results.folder / "best").exists()


def test_a_trial_of_another_stage_is_no_winner(tmp_path):
    results = made(tmp_path, Made(CONFIG, [0.5]))
    results.history.trials["t0001"].stage = "baseline"
    assert write_best(results, None) is None


def test_writing_it_anew_leaves_nothing_of_the_last_one(tmp_path):
    results = made(tmp_path, Made(CONFIG, [0.5]))
    (results.folder / ".best.writing").mkdir()
    (results.folder / ".best.writing" / "left by a kill").touch()
    write_best(results, {"mean": 0.5})
    (results.folder / "best" / "old.pt").touch()
    write_best(results, None)
    assert sorted(path.name for path in (results.folder / "best").iterdir()) == ["config.toml", "metrics.json"]
    assert not (results.folder / ".best.writing").exists()


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_checkpoint_costs_the_model_and_says_so(tmp_path, damage):
    results = trained(tmp_path)
    folder = results.folder / "checkpoints" / "t0002" / "2-1"
    if damage == "missing":
        shutil.rmtree(folder)
    else:
        (folder / "state.pt").write_bytes(b"\0" + (folder / "state.pt").read_bytes()[1:])
    with pytest.warns(
        UserWarning, match=r"2-1/(state.pt|manifest.json): the .* is missing, or differs.*without model.pt"
    ):
        write_best(load(results.folder), None)
    # All the rest is there.
    assert sorted(path.name for path in (results.folder / "best").iterdir()) == ["config.toml", "metrics.json"]
