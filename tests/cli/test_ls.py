import json

import pytest
from made_runs import Made, failed, make_run

from tuner.cli.main import run_command
from tuner.journal import FILE_NAME


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def test_runs_are_listed_with_state_and_best(here, capsys):
    make_run(here / "runs/good", [Made({"lr": 0.1}, [0.5]), failed({"lr": 0.2})])
    make_run(here / "runs/dead", [Made({"lr": 0.1}, [0.25], "running")], finished=None)
    assert run_command(["ls"]) == 0
    rows = {line.split()[0]: line.split()[1:7] for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["good"] == ["completed", "2", "1", "val_accuracy", "0.5000", "t0001"]
    assert rows["dead"][:4] == ["interrupted", "1", "-", "-"]


def test_a_damaged_run_does_not_hide_the_others(here, capsys):
    make_run(here / "runs/good", [Made({"lr": 0.1}, [0.5])])
    (here / "runs/bad").mkdir()
    (here / "runs/bad" / FILE_NAME).write_bytes(b"no database")
    assert run_command(["ls"]) == 0
    said = capsys.readouterr()
    assert "good" in said.out and "bad" in said.out and "damaged" in said.out
    assert "journal" in said.err and "tuner doctor" in said.err


def test_json(here, capsys):
    make_run(here / "elsewhere/good", [Made({"lr": 0.1}, [0.5])])
    run_command(["ls", "elsewhere", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["run"], row["status"], row["best"], row["best_trial"]) == ("good", "completed", 0.5, "t0001")


def test_no_runs_yet_is_no_mistake(here, capsys):
    assert run_command(["ls"]) == 0
    assert capsys.readouterr().out == "No runs in runs/ yet. Start one: tuner run SWEEP\n"


def test_a_storage_that_is_not_there_is_one(here, capsys):
    assert run_command(["ls", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("nowhere: STORAGE must be a folder of runs")
