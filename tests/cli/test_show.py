import json

import pytest
from made_runs import Made, failed, make_run

from tuner.cli.main import run_command

WIDE = {
    f"{name}_of_the_{place}": value
    for place in ("first", "second", "third")
    for name, value in (("learning_rate", 0.001), ("activation_function", "leaky_relu"), ("layers", [32, 64, 128]))
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def varied(number: int) -> dict[str, object]:
    return {name: value * number if name.startswith("learn") else value for name, value in WIDE.items()}


def test_the_leaderboard_ranks_by_the_best_epoch_and_puts_failures_last(here, capsys):
    trials = [
        failed({"lr": 0.5}, "config.shape", "the image\ncollapses"),
        Made({"lr": 0.1}, [0.5, 0.9, 0.7]),
        Made({"lr": 0.2}, [0.95, 0.1], "stopped"),
        Made({"lr": 0.3}, [0.2], "running"),
    ]
    make_run(here / "runs/one", trials, finished=None)
    assert run_command(["show", "one"]) == 0
    out = capsys.readouterr().out
    rows = [line.split()[:2] for line in out.splitlines() if line.startswith("t0")]
    # Nobody drives it any more, so what still says that it runs was interrupted.
    assert rows == [["t0003", "stopped"], ["t0002", "completed"], ["t0004", "interrupted"], ["t0001", "failed"]]
    assert "Best: val_accuracy 0.9500 at epoch 1 (t0003; best of 2, so optimistic)" in out
    assert "1 trial failed: config.shape\n  t0001  the image collapses" in out


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_the_terminal(here, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    failures = [failed(varied(9), error="ValueError: " + "a long story " * 40)]
    make_run(here / "runs/wide", [*(Made(varied(n), [n / 10]) for n in range(1, 9)), *failures])
    run_command(["show", "wide"])
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if not line.startswith(("The same in all", "Not shown"))]
    assert max(map(len, table)) <= width
    # What does not vary is said once.
    assert sum("leaky_relu" in line for line in lines) == 1


def test_what_breaks_a_constraint_stands_behind_and_is_marked(here, capsys):
    trials = [Made({"lr": 0.1}, [0.9, 0.7]), Made({"lr": 0.2}, [0.2, 0.6])]  # train_loss is 1 at epoch 1, then 0.5
    make_run(here / "runs/tight", trials, head={"constraints": ["train_loss < 0.6"]})
    run_command(["show", "tight"])
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith("t0")]
    assert [row[0] for row in rows] == ["t0002", "t0001"] and "yes" in rows[0] and "no" in rows[1]
    assert "Best: val_accuracy 0.6000 at epoch 2 (t0002; the only one)" in out


def test_one_trial_has_no_columns_to_compare(here, capsys):
    make_run(here / "runs/single", [Made(WIDE, [0.5])])
    assert run_command(["show", "latest"]) == 0
    out = capsys.readouterr().out
    assert "single: completed, 1 trial: 1 completed" in out
    assert "layers_of_the_first=[32, 64, 128]" in out


def test_a_conditional_parameter_is_a_dash_where_there_is_none(here, capsys):
    trials = [Made({"optimizer": "sgd", "momentum": 0.9}, [0.5]), Made({"optimizer": "adam"}, [0.4])]
    make_run(here / "runs/two", trials)
    run_command(["show", "two"])
    assert [line.split()[4:6] for line in capsys.readouterr().out.splitlines() if line.startswith("t0")] == [
        ["sgd", "0.9"],
        ["adam", "-"],
    ]


def test_repeats_are_ranked_by_their_mean(here, capsys):
    trials = [
        Made({"lr": 0.1}, [0.9], proposal=1, repeat=1),
        Made({"lr": 0.1}, [0.1], proposal=1, repeat=2),
        Made({"lr": 0.2}, [0.6], proposal=2, repeat=1),
        Made({"lr": 0.2}, [0.7], proposal=2, repeat=2),
    ]
    make_run(here / "runs/repeats", trials)
    run_command(["show", "repeats"])
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line.startswith("t0")] == [
        "t0003",
        "t0004",
        "t0001",
        "t0002",
    ]
    assert "mean of 2 repeats; best of 2" in out


def test_a_long_leaderboard_is_cut_and_all_shows_the_rest(here, capsys):
    make_run(here / "runs/long", [Made({"lr": n / 100}, [n / 100]) for n in range(1, 41)])
    run_command(["show", "long"])
    assert "... and 10 more trials: --all" in capsys.readouterr().out
    run_command(["show", "long", "--all"])
    assert sum(line.startswith("t0") for line in capsys.readouterr().out.splitlines()) == 40


def test_json_is_the_trials_frame_and_the_state(here, capsys):
    make_run(here / "runs/one", [Made({"lr": 0.1, "layers": [1, 2]}, [0.5, float("nan")]), failed({"lr": 0.2})])
    run_command(["show", "one", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["status"], told["counts"], told["ranking"]) == ("completed", {"completed": 1, "failed": 1}, ["t0001"])
    assert told["trials"][0]["config.layers"] == [1, 2]
    # JSON has no NaN.
    assert told["trials"][0]["last.val_accuracy"] is None
    assert told["trials"][1]["cause"] == "config.raised"


def test_a_run_in_which_nothing_has_happened_yet(here, capsys):
    make_run(here / "runs/new", [], finished=None)
    assert run_command(["show", "new"]) == 0
    assert "No trial has completed with a finite val_accuracy yet." in capsys.readouterr().out


def test_one_trial_is_shown_with_who_proposed_it_and_its_epochs(here, capsys):
    trials = [Made({"lr": 0.1}, [0.5, 0.9, 0.7]), failed({"lr": 0.5}, "config.raised", "ValueError: too high")]
    folder = make_run(here / "runs/one", trials)
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "logs" / "t0001-1.log").write_text("")
    assert run_command(["show", "one", "t0001"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("t0001 of one: completed, 3 epochs in 4.5 s\nProposed by random\n\n  lr  0.1\n")
    rows = [line.split() for line in out.splitlines() if line.strip()[:1].isdigit()]
    assert rows == [["1", "0.5000", "1.000"], ["2", "best", "0.9000", "0.5000"], ["3", "0.7000", "0.3333"]]
    assert out.splitlines()[-1] == "log  runs/one/logs/t0001-1.log"
    assert run_command(["show", "one", "2"]) == 0
    assert "\nconfig.raised: ValueError: too high\n" in capsys.readouterr().out


def test_only_the_newest_epochs_of_a_long_trial_are_shown(here, capsys):
    make_run(here / "runs/long", [Made({"lr": 0.1}, [n / 100 for n in range(1, 41)])])
    run_command(["show", "long", "1"])
    out = capsys.readouterr().out
    assert "... 10 earlier epochs: --all" in out and out.splitlines()[-1].split()[:2] == ["40", "best"]
    run_command(["show", "long", "1", "--all"])
    assert sum(line.strip()[:1].isdigit() for line in capsys.readouterr().out.splitlines()) == 40


def test_one_trial_as_json(here, capsys):
    make_run(here / "runs/one", [Made({"lr": 0.1}, [0.5, 0.9])])
    run_command(["show", "one", "t0001", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["trial"], told["by"], told["config.lr"], told["best_epoch"]) == ("t0001", "random", 0.1, 2)
    assert [epoch["val_accuracy"] for epoch in told["epochs_reported"]] == [0.5, 0.9]


@pytest.mark.parametrize("name", ["t0009", "9", "nine", "-"])
def test_a_trial_that_is_not_there_is_told_with_those_that_are(here, capsys, name):
    make_run(here / "runs/one", [Made({"lr": 0.1}, [0.5]), Made({"lr": 0.2}, [0.5])])
    assert run_command(["show", "one", name]) == 2
    told = f"it has 2 trials, t0001 to t0002, and none is named ({name})."
    assert told in " ".join(capsys.readouterr().err.split())
