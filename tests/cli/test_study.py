"""`tuner study` and `tuner resume --again` as a user types them."""

from __future__ import annotations

import json

import pytest

from tuner.cli.main import run_command

SWEEP = """
[sweep]
trainable = "cnn"
max_epochs = 1
[data]
name = "digits"
limit = 100
folds = 2
[space]
learning_rate = { loguniform = [1e-3, 0.3] }
[defaults]
filters = 4
conv_layers = 1
dense_units = 8
[search]
strategy = "random"
trials = 2
[study]
repeats = 1
refine_trials = 1
top = 1
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "small.toml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def test_a_study_and_a_second_opening(project, capsys):
    assert run_command(["study", "small.toml", "--backend", "inline"]) == 0
    assert "test      test_accuracy" in capsys.readouterr().out
    # Without the word for it, nothing is opened, and that is no mistake.
    assert run_command(["resume", "small", "--backend", "inline"]) == 0
    assert "the test split was opened 1 time, and is again only with --again" in capsys.readouterr().out
    assert run_command(["resume", "small", "--trials", "9", "--backend", "inline"]) == 2
    assert "search.trials: a study that is over is neither changed nor extended" in capsys.readouterr().err
    assert run_command(["resume", "small", "--again", "--backend", "inline"]) == 0
    assert "opened 2 times, so these samples are no longer unseen" in capsys.readouterr().out
    run_command(["resume", "small", "--backend", "inline"])
    assert "the test split was opened 2 times" in capsys.readouterr().out
    difference = json.loads((project / "runs" / "small" / "final" / "metrics.json").read_text())["difference"]
    # Never a number that is none, and never null without a reason.
    assert all(difference[name] is not None for name in ("difference", "low", "high")) or difference["note"]


def test_the_model_to_take_away_is_the_one_that_was_retrained(project, capsys):
    run_command(["study", "small.toml", "--backend", "inline", "--quiet"])
    run = project / "runs" / "small"
    assert run_command(["export", "small", "--model", "away"]) == 0
    assert (project / "away" / "model.pt").read_bytes() == (run / "final" / "model.pt").read_bytes()
    assert (run / "best" / "model.pt").read_bytes() != (run / "final" / "model.pt").read_bytes()


def test_again_is_refused_for_a_sweep(project, capsys):
    few = ["--set", "search.trials=1"]
    assert run_command(["run", "small.toml", "--backend", "inline", *few]) == 0
    assert run_command(["resume", "small", "--again", "--backend", "inline"]) == 2
    assert "--again: it opens a test split that a finished study has scored" in capsys.readouterr().err
