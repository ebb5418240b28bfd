from __future__ import annotations

import json

import pytest
from made_runs import Made, make_run

from tuner.backup import Backup
from tuner.cli.main import run_command
from tuner.run_folder import lock


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run made of rows, with the frozen sweep that they began with and a backup."""
    monkeypatch.chdir(tmp_path)
    folder = make_run(tmp_path / "runs/one", [Made({"learning_rate": 0.1}, [0.5, 0.9])], finished=None)
    from tuner.results import load

    (folder / "sweep.toml").write_text(load(folder).history.sweep_toml)
    Backup(folder / "journal.sqlite").now()
    return folder


def test_a_healthy_run_exits_with_0(run, capsys):
    assert run_command(["doctor", "one"]) == 0
    assert capsys.readouterr().out.endswith("one: nothing wrong.\n")


def test_a_problem_is_told_in_sentences_and_exits_with_1(run, capsys):
    (run / "sweep.toml").write_text("")
    assert run_command(["doctor", "one"]) == 1
    out = capsys.readouterr().out
    assert "error   runs/one/sweep.toml: the frozen sweep is not the one that the journal began with" in out
    assert "        A resume would run another sweep" in out
    assert "`tuner doctor runs/one --repair` writes it from the journal" in out
    assert out.endswith("one: 1 error.\n")


def test_a_repair_says_what_it_did_and_exits_with_0(run, capsys):
    (run / "sweep.toml").write_text("")
    assert run_command(["doctor", "one", "--repair"]) == 0
    out = capsys.readouterr().out
    assert "Repaired: Wrote runs/one/sweep.toml from the journal's first row.\n" in out
    assert out.endswith("one: nothing wrong.\n")
    assert run_command(["doctor", "one"]) == 0


def test_json(run, capsys):
    (run / "sweep.toml").unlink()
    assert run_command(["doctor", "one", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["run"], shown["healthy"], shown["repaired"]) == ("one", False, [])
    found = shown["findings"][0]
    assert (found["severity"], found["repair"], found["path"]) == ("error", "sweep", "sweep.toml")


def test_a_run_is_found_by_what_is_left_of_it(run, capsys):
    """No other command finds a run without a journal."""
    (run / "journal.sqlite").unlink()
    assert run_command(["show", "one"]) == 2
    assert run_command(["doctor", "one"]) == 1
    assert run_command(["doctor", "one", "--repair"]) == 0
    assert run_command(["show", "one"]) == 0


def test_a_users_mistake_exits_with_2(run, capsys):
    assert run_command(["doctor", "none"]) == 2
    assert "none: RUN must be a run folder" in capsys.readouterr().err
    with lock(run):
        assert run_command(["doctor", "one", "--repair"]) == 2
    assert "only one driver may run a sweep" in capsys.readouterr().err


def test_what_a_damaged_file_says_does_not_steer_the_terminal(run, capsys):
    text = (run / "sweep.toml").read_text().replace('name = "one"', 'name = "\\u001b[31mred"')
    (run / "sweep.toml").write_text(text)
    run_command(["doctor", "one"])
    assert "\x1b" not in capsys.readouterr().out
