import pytest
from made_runs import Made, failed, make_run

from tuner.cli.main import run_command

SPACE = {"lr": {"uniform": [0.0, 1.0]}}


@pytest.fixture
def storage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs/one", [Made({"lr": n / 10}, [0.5, 0.6 + n / 100]) for n in range(1, 5)], space=SPACE)
    return tmp_path


def test_the_path_and_the_three_lines_that_matter(storage, capsys):
    assert run_command(["report", "one"]) == 0
    path, best, worth, against = capsys.readouterr().out.splitlines()
    assert path == "runs/one/report.html" and (storage / path).is_file()
    assert best == "best: t0004, lr=0.4"
    assert worth == "val_accuracy, as searched: 0.6400 (t0004, epoch 2 of at most 10; best of 4, so optimistic)"
    assert against.startswith("against the baseline: -")


def test_another_folder(storage, capsys):
    assert run_command(["report", "one", "--out", "deep/here"]) == 0
    assert capsys.readouterr().out.startswith("deep/here/report.html\n")
    assert {path.name for path in (storage / "deep/here").iterdir()} == {
        "report.html",
        "report.md",
        "figures",
        "tables",
    }
    assert not (storage / "runs/one/report.html").exists()


def test_a_run_without_a_best_config(storage, capsys):
    make_run(storage / "runs/bad", [failed({"lr": 0.1})], finished="failed", space=SPACE)
    assert run_command(["report", "bad"]) == 0
    assert "There is no best config" in capsys.readouterr().out


def test_no_such_run(storage, capsys):
    assert run_command(["report", "tow"]) == 2
    assert "tow: RUN must be a run folder" in capsys.readouterr().err
