import json
import tomllib

import pytest
from made_runs import Made, failed, make_run

from tuner.cli.main import run_command

CONFIG = {"learning_rate": 0.012345678, "layers": [32, 64], "optimizer": "sgd", "epochs": 10}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trials = [Made({**CONFIG, "optimizer": "adam"}, [0.1, 0.2]), Made(CONFIG, [0.5, 0.9, 0.7]), failed(CONFIG)]
    space = {"learning_rate": {"loguniform": [1e-4, 1.0]}, "optimizer": {"choice": ["sgd", "adam"]}, "epochs": 10}
    folder = make_run(tmp_path / "runs/one", trials, space=space)
    (folder / "best").mkdir()
    (folder / "best/config.toml").write_text("")
    return folder


def test_the_best_config_is_shown_with_its_metrics(run, capsys):
    assert run_command(["best", "one"]) == 0
    out = capsys.readouterr().out
    assert "one: the best config is t0002's (best of 2, so optimistic)" in out
    assert "val_accuracy 0.9000  (epoch 2 of at most 10)" in out
    assert "  learning_rate  0.01235\n" in out
    # What was not searched comes last, and says so.
    assert "  epochs         10        fixed\n" in out
    assert "  train_loss    0.5000\n" in out
    assert "Its files: runs/one/best (config.toml)" in out


def test_toml_is_exact_and_can_be_pasted(run, capsys):
    run_command(["best", "one", "--toml"])
    assert tomllib.loads(capsys.readouterr().out) == CONFIG


def test_json(run, capsys):
    run_command(["best", "one", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["config"] == CONFIG
    assert (told["trial"], told["value"], told["epoch"], told["of"]) == ("t0002", 0.9, 2, 2)


def test_without_a_ranked_trial_there_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs/bad", [failed(CONFIG)], finished="failed")
    assert run_command(["best", "bad"]) == 2
    assert "there is no best config" in capsys.readouterr().err


def test_where_the_folds_chose_another_config_that_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    other = {**CONFIG, "learning_rate": 0.5}
    trials = [
        Made({**CONFIG, "epochs": 5}, [0.1], stage="baseline", proposal=0),
        Made(CONFIG, [0.9], proposal=1),
        Made(other, [0.8], proposal=2),
        Made(other, [0.9], stage="final", proposal=2),
    ]
    told = {}
    for winner in (0, 1, 2):
        notes = [{"test_opened": 1}, {"test_scores": {"winner": winner, "samples": 9, "scores": {}}}]
        make_run(tmp_path / f"runs/of-{winner}", trials, notes=notes)
        run_command(["best", f"of-{winner}"])
        told[winner] = capsys.readouterr().out
    assert "The folds put the baseline's config first, so that was retrained and tested, not t0002's:\n" in told[0]
    assert "The folds" not in told[1]
    assert "The folds put the config of t0003 first" in told[2]
    assert "  learning_rate  0.5       t0002 0.01235\n" in told[2]


def test_the_pareto_set_is_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = [Made({"lr": 0.1}, [0.9]), Made({"lr": 0.2}, [0.2, 0.8]), Made({"lr": 0.3}, [0.1, 0.7])]
    make_run(tmp_path / "runs/traded", made, head={"objectives": {"train_loss": "min"}})
    assert run_command(["best", "traded", "--pareto"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if not set(line) <= set("- ─━")] == [
        ["trial", "val_accuracy", "train_loss", "lr"],
        ["t0001", "0.9", "1", "0.1"],
        ["t0002", "0.8", "0.5", "0.2"],
    ]
    assert run_command(["best", "traded", "--pareto", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["pareto"]
    assert told[1] == {"trial": "t0002", "values": {"val_accuracy": 0.8, "train_loss": 0.5}, "config": {"lr": 0.2}}


def test_without_objectives_there_is_no_pareto_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs/one", [Made({"lr": 0.1}, [0.9])])
    assert run_command(["best", "one", "--pareto"]) == 2
    assert "--pareto needs sweep.objectives" in capsys.readouterr().err
