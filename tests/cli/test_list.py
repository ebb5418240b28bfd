import importlib
import json

import pytest

from tuner.cli.main import run_command


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_trainables(capsys):
    assert run_command(["list", "trainables"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{out}" for name in ("cnn", "resnet", "mlp"))
    assert max(map(len, out.splitlines())) <= 80


def test_a_trainables_parameters_are_all_explained(capsys):
    run_command(["list", "trainables", "mlp", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == importlib.import_module("trainables.parameters").names("mlp")
    assert all(row["meaning"] and row["usual"] and row["rule"] for row in rows)


def test_every_data_set_is_described(capsys):
    run_command(["list", "data", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(importlib.import_module("trainables.data").NAMES)
    assert all(row["meaning"] and row["options"] for row in rows)


def test_spaces_of_the_working_directory_with_their_first_comment(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces/cnn_mine.toml").write_text("# My own images, 20 trials.\n[sweep]\n")
    (tmp_path / "search_spaces/bare.toml").write_text("[sweep]\n")
    assert run_command(["list", "spaces"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "search_spaces/bare.toml",
        "search_spaces/cnn_mine.toml  My own images, 20 trials.",
    ]


def test_the_spaces_that_come_with_the_project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_command(["list", "spaces", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert "cnn_digits" in [row["name"] for row in rows]


def test_every_strategy_and_its_options(capsys):
    run_command(["list", "strategies", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(importlib.import_module("tuner.strategies").NAMES)
    assert all(row["meaning"] for row in rows)

    run_command(["list", "strategies"])
    assert "[search.hyperopt] gamma = 0.25, candidates = 24" in capsys.readouterr().out


def test_every_rule_and_its_options(capsys):
    run_command(["list", "rules", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(importlib.import_module("tuner.stopping").RULES)
    assert all(row["meaning"] and row["options"] for row in rows)

    run_command(["list", "rules"])
    out = capsys.readouterr().out
    assert "[stopping.target] value (must be given)" in out
    assert max(map(len, out.splitlines())) <= 80
