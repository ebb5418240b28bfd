import json

import pytest
from made_runs import Made, failed, make_run

from tuner.cli.main import run_command


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Made trials report one after another, so an early one is compared with nothing.
    trials = [
        Made({"x": 1}, [0.5, 0.6, 0.7]),
        Made({"x": 2}, [0.1, 0.2, 0.9]),
        Made({"x": 3}, [0.3], "stopped"),
        failed({"x": 4}),
    ]
    return make_run(tmp_path / "runs/one", trials)


def test_it_says_what_is_saved_and_what_it_costs(run, capsys):
    options = [
        "--stopping",
        "asha",
        "--set",
        "stopping.asha.grace_epochs=1",
        "stopping.asha.reduction=2",
        "stopping.asha.unjudged=0",
    ]
    assert run_command(["whatif", "one", *options]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "one under asha (grace_epochs=1, reduction=2, brackets=1, unjudged=0)",
        "",
        "Left out: 2 curves cut short (1 stopped, 1 failed); what they would have come to is not known.",
        "Replayed: 2 completed trials; 1 would have been stopped, 2 of 6 epochs saved (33%).",
        "Another winner: t0001 (0.7000 when trained to its end), not t0002 (val_accuracy 0.9000).",
        "  t0002  at epoch 1 of 3: asha: rank 2 of 2 at epoch 1, where the best 1 go on",
    ]


def test_json(run, capsys):
    assert run_command(["whatif", "one", "--stopping", "asha", "--stopping", "median", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (
        told["rules"]["asha"] == {"grace_epochs": 2, "reduction": 3, "brackets": 1, "unjudged": 5}
        and "median" in told["rules"]
    )
    assert told["same_winner"] is True and told["saved"] == 0 and told["left_out"] == {"stopped": 1, "failed": 1}


def test_every_mistake_at_once(run, capsys):
    sets = ["--set", "stopping.asha.grace_epoch=1", "search.trials=3", "stopping.median.min_trials=2"]
    assert run_command(["whatif", "one", "--stopping", "asha", *sets]) == 2
    error = capsys.readouterr().err
    assert 'tuner whatif: stopping.asha.grace_epoch: unknown option. Did you mean "grace_epochs"?' in error
    assert "--set search.trials: must be an option of a stopping rule" in error
    assert "stopping.median: options of a rule that is not in rules" in error
    assert run_command(["whatif", "one", "--stopping", "asah"]) == 2
    assert 'Did you mean "asha"?' in capsys.readouterr().err


def test_a_run_without_a_completed_trial_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs/new", [Made({"x": 1}, [0.5], "running")], finished=None)
    assert run_command(["whatif", "new", "--stopping", "plateau"]) == 0
    out = capsys.readouterr().out
    assert "Left out: 1 curve cut short (1 interrupted)" in out
    assert "No trial completed, so there is nothing to replay." in out
