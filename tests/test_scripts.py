"""scripts/: run as a person runs them, on a real run."""

from __future__ import annotations

import csv
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import tuner
from tuner.run import run

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMES = ("best_config", "learning_curves", "pull_frames")


def train(config, trial):
    """A user's function that diverges at high rates, and fails at the highest."""
    if config["rate"] == 4.0:
        raise ValueError("too high")
    for epoch in range(1, trial.max_epochs + 1):
        loss = (config["rate"] - 0.6) ** 2 / epoch + (10.0**epoch if config["rate"] > 1 else 0)
        trial.report(epoch=epoch, val_loss=loss, train_loss=loss / 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of five trials, one of which fails; schedule holds texts and lists, which no Parquet column can."""
    points = [{"rate": rate, "schedule": "cosine|slow"} for rate in (0.1, 0.5, 2.0, 4.0)]
    points += [{"rate": 0.3, "schedule": [[1, 0.1], [2, 0.01]]}]
    sweep = tuner.Sweep(
        trainable=train,
        name="made",
        metric="val_loss",
        mode="min",
        max_epochs=3,
        search={"strategy": "manual", "points": points},
    )
    return run(sweep, storage=tmp_path_factory.mktemp("runs"), backend="inline")


def script(name, *arguments, cwd):
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Run a script in this process, for what it says without a run; returns its exit status."""
    monkeypatch.chdir(tmp_path)

    def run_main(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        return ended.value.code

    return run_main


def printed(done):
    """Return the paths that a script printed; it must have printed nothing else, and have ended well."""
    assert (done.returncode, done.stderr) == (0, "")
    return [Path(line) for line in done.stdout.splitlines()]


def test_these_are_all_scripts():
    assert {path.stem for path in SCRIPTS.glob("*.py")} == set(NAMES)


def test_best_config_writes_the_same_table_twice(made, tmp_path):
    markdown, commas = printed(script("best_config", made.folder, "--out", tmp_path / "new", cwd=tmp_path))
    with commas.open(newline="") as file:
        header, *rows = csv.reader(file)
    # The names are those of the trials frame, and the values those of results.best().
    assert header == ["name", "value"]
    assert dict(rows) == {
        "trial": "t0002",
        "best_epoch": "3",
        "config.rate": "0.5",
        "config.schedule": "cosine|slow",
        "best.val_loss": repr(made.best().value),
        "best.train_loss": repr(made.best().metrics["train_loss"]),
    }
    text = markdown.read_text()
    assert text.startswith("# Best config of made\n\nval_loss 0.0033; the best of 4 configs, so optimistic\n")
    # A | in a value would end its cell.
    assert "| config.schedule | cosine&#124;slow |" in text


def test_learning_curves_draws_a_picture(made, tmp_path):
    (path,) = printed(script("learning_curves", made.folder, cwd=tmp_path))
    assert path == made.folder / "figures" / "learning_curves.png"
    with Image.open(path) as image:
        assert image.size == (1650, 630)
        # The best curve is there, in its own colour (tab:red).
        assert (214, 39, 40) in {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}


def test_learning_curves_of_another_metric_go_where_they_are_told_to(made, tmp_path, main, capsys):
    out = tmp_path / "new" / "train.png"
    assert main("learning_curves", str(made.folder), "--metric", "train_loss", "--out", str(out)) == 0
    assert capsys.readouterr() == (f"{out}\n", "") and out.is_file()
    done = script("learning_curves", made.folder, "--metric", "accuracy", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "made: there is no metric accuracy. Valid: val_loss, train_loss.\n")


def test_pull_frames_writes_both_frames(made, tmp_path):
    trials, epochs = (pd.read_parquet(path) for path in printed(script("pull_frames", made.folder, cwd=tmp_path)))
    assert list(trials.columns) == list(made.trials.columns)
    assert trials["status"].tolist() == ["completed", "completed", "completed", "failed", "completed"]
    assert trials["config.schedule"].iloc[4] == "[[1, 0.1], [2, 0.01]]"
    assert trials["best.val_loss"].min() == made.best().value
    pd.testing.assert_frame_equal(epochs, made.epochs, check_dtype=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_run_is_a_sentence(name, main, capsys):
    assert main(name, "nowhere") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nowhere: RUN must be a run folder")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_it_does(name, main, capsys):
    assert main(name, "--help") == 0
    assert capsys.readouterr().out.split("\n\n")[1].startswith(("Write", "Draw"))
