import pandas as pd
import pytest
from made_runs import Made, failed, make_run

from tuner.cli.main import run_command
from tuner.results import load


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trials = [
        Made({"lr": 1.23456789012345e-7, "units": 64, "layers": [1, 2], "flip": True}, [0.5, float("nan"), 0.25]),
        Made({"lr": 1, "layers": "none"}, [0.75, None, float("inf")], "stopped"),
        failed({"lr": 0.5, "units": 32, "layers": [3], "flip": False}, error='KeyError: "a",\nb'),
    ]
    make_run(tmp_path / "runs/one", trials)
    return load("one")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_a_file_is_the_one_that_the_frame_writes(run, tmp_path, suffix):
    from tuner.frames import write

    assert run_command(["export", "one", "--trials", f"t{suffix}", "--epochs", f"e{suffix}"]) == 0
    write(run.trials, tmp_path / f"frame_t{suffix}")
    write(run.epochs, tmp_path / f"frame_e{suffix}")
    # Byte for byte: the command does without pandas, so it must not come to mean something else.
    for name in ("t", "e"):
        assert (tmp_path / f"{name}{suffix}").read_bytes() == (tmp_path / f"frame_{name}{suffix}").read_bytes()


def test_numbers_come_back_exactly(run, tmp_path):
    run_command(["export", "one", "--trials", "t.csv"])
    back = pd.read_csv(tmp_path / "t.csv", float_precision="round_trip")
    assert back["config.lr"].tolist() == [1.23456789012345e-7, 1.0, 0.5]
    assert back["status"].tolist() == ["completed", "stopped", "failed"]
    # A whole number that a trial does not have leaves the others whole.
    assert (tmp_path / "t.csv").read_text().splitlines()[1].split(",")[9] == "64"


def test_parquet_comes_back_as_the_frame(run, tmp_path):
    run_command(["export", "one", "--trials", "t.parquet", "--epochs", "e.parquet"])
    plain = [name for name in run.trials.columns if name not in ("config.layers", "config.flip")]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet")[plain], run.trials[plain])
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "e.parquet"), run.epochs)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_a_run_without_epochs_gives_a_file_without_rows(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs/new", [Made({"lr": 1}, [], "pending")], finished=None)
    assert run_command(["export", "new", "--epochs", f"deep/e{suffix}"]) == 0
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": pd.read_json}
    assert len(readers[suffix](tmp_path / f"deep/e{suffix}")) == 0


def test_a_wrong_suffix_is_refused_before_anything_is_written(run, tmp_path, capsys):
    assert run_command(["export", "one", "--trials", "t.csv", "--epochs", "e.xlsx"]) == 2
    assert capsys.readouterr().err == "e.xlsx: the suffix must be one of .csv, .parquet, .json, but got (.xlsx).\n"
    assert not (tmp_path / "t.csv").exists()


def test_nothing_to_write_is_a_mistake(run, capsys):
    assert run_command(["export", "one"]) == 2
    assert "--trials FILE" in capsys.readouterr().err


def test_a_place_that_cannot_be_written(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_command(["export", "one", "--trials", "file/t.csv"]) == 2
    assert "file/t.csv: cannot be written" in capsys.readouterr().err
