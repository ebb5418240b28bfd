import json

from tuner.cli.main import run_command


def test_a_plan_shows_what_would_run_and_makes_nothing(project, capsys):
    assert run_command(["plan", "mine.toml", "--set", "search.trials=7"]) == 0
    assert "7 trials, 21 epochs at most" in capsys.readouterr().out
    assert not (project / "runs").exists()


def test_json_is_pure(project, capsys):
    assert run_command(["plan", "mine.toml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["trials"], told["epochs"]) == (4, 12)
    assert told["sweep"]["search"]["trials"] == 4


def test_a_plan_that_cannot_run_here_is_shown_with_a_warning(project, capsys):
    # It may be meant for another machine: `run` is what refuses it.
    assert run_command(["plan", "mine.toml", "--set", "resources.cpus_per_trial=4000"]) == 0
    assert "warning: resources.cpus_per_trial: at most " in capsys.readouterr().out
    assert run_command(["run", "mine.toml", "--backend", "inline", "--set", "resources.cpus_per_trial=4000"]) == 2
    assert capsys.readouterr().err.startswith("resources.cpus_per_trial: at most ")
