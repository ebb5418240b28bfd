import json

import pytest
from made_runs import Made, make_run
from PIL import Image

from tuner.cli.main import run_command


def trials(shift=0.0, count=4):
    return [Made({"lr": n / 10}, [0.5, 0.6 + n / 100 + shift]) for n in range(1, count + 1)]


@pytest.fixture
def storage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    make_run(tmp_path / "runs/one", trials())
    make_run(tmp_path / "runs/two", [*trials(0.05, 3), Made({"lr": 0.9}, [0.7])])
    return tmp_path


def test_a_table_and_the_pairs(storage, capsys):
    assert run_command(["compare", "one", "two"]) == 0
    out = capsys.readouterr().out
    assert "one  completed  0.6400          -       4       8  12 s" in out
    assert "two  completed  0.7000" in out
    # Three configs are in both, and each is 0.05 worse in the first run.
    assert "one against two: 3 pairs of trials with the same config and seed" in out
    assert "one is better in 0 and worse in 3, by -0.05000 in the mean" in out
    assert "one: not corrected: this sweep keeps no predictions." in out
    with Image.open(storage / "compare.png") as image:
        assert image.width > 900


def test_json(storage, capsys):
    assert run_command(["compare", "one", "two", "--json", "--out", "deep/c.png"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in told["runs"]] == ["one", "two"]
    assert told["pairs"][0]["n"] == 3 and told["pairs"][0]["difference"] == pytest.approx(-0.05)
    assert (storage / "deep/c.png").is_file()


def test_a_smaller_value_is_better_where_it_is(storage, capsys):
    for name, loss in (("a", 0.3), ("b", 0.4)):
        make_run(storage / "runs" / name, [Made({"lr": n}, [loss]) for n in range(4)], mode="min", metric="val_loss")
    assert run_command(["compare", "a", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["better"] == 4


def test_runs_of_different_metrics_are_refused(storage, capsys):
    make_run(storage / "runs/loss", trials(), metric="val_loss", mode="min")
    assert run_command(["compare", "one", "loss"]) == 2
    message = capsys.readouterr().err
    assert (
        "all runs must have the same metric and mode, but got (one: val_accuracy (max), loss: val_loss (min))"
        in message
    )
    assert not (storage / "compare.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["one"], "two runs or more must be given"),
        (["one", "runs/one"], "each run must be given once"),
        (["one", "two", "--out", "c.jpg"], "must end in .png"),
    ],
)
def test_mistakes_are_sentences(storage, capsys, words, told):
    assert run_command(["compare", *words]) == 2
    assert told in capsys.readouterr().err


def test_runs_without_anything_to_show(storage, capsys):
    make_run(storage / "runs/empty", [], finished=None)
    assert run_command(["compare", "one", "empty"]) == 0
    assert "No two runs share a config and a seed" in capsys.readouterr().out
