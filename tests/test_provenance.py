"""Where a sweep came from, and what a resume says has changed since: nothing where nothing has."""

from __future__ import annotations

import hashlib
import json
import platform
import time

import pytest

import tuner
from tuner import provenance
from tuner.cli.main import run_command
from tuner.drive import Watch
from tuner.errors import Interrupted
from tuner.journal import FILE_NAME, read
from tuner.provenance import changes, write_provenance


def test_provenance_says_where_everything_came_from(tmp_path):
    (tmp_path / "code" / "pkg").mkdir(parents=True)
    (tmp_path / "code" / "pkg" / "mine.py").write_text("x = 1\n")
    sweep = tuner.Sweep(trainable="cnn", data={"name": "digits"}, seed=5, space={"filters": 8})
    before = time.strftime("%Y-%m-%dT%H:%M", time.gmtime())
    entry = write_provenance(tmp_path, sweep)
    assert json.loads((tmp_path / "provenance.json").read_text()) == entry
    assert (entry["seed"], entry["sweep_sha256"]) == (5, sweep.hash())
    assert entry["created_at"] >= before
    assert entry["packages"]["torch"] and entry["python"] == platform.python_version()
    assert entry["hardware"]["cores"] >= 1 and entry["hardware"]["memory_gb"] > 0
    assert entry["code"] == {"code/pkg/mine.py": hashlib.sha256(b"x = 1\n").hexdigest()}
    assert entry["commit"] is None or len(entry["commit"].removesuffix("+changes")) == 40


MINE = """
from helper import rate

def train(config, trial):
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        trial.report(epoch=epoch, score=rate(config) * epoch, state={"epoch": epoch})
"""
SWEEP = """
[sweep]
trainable = "mine.py:train"
metric = "score"
mode = "max"
max_epochs = 2
[space]
x = { uniform = [0.0, 1.0] }
[search]
strategy = "random"
trials = 2
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder whose sweep was interrupted."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("def rate(config):\n    return config['x']\n")
    (tmp_path / "mine.toml").write_text(SWEEP)

    def strike(event):
        if event.kind == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        tuner.run(tuner.load_sweep("mine.toml"), name="one", backend="inline", watch=Watch(on_event=strike))
    return tmp_path / "runs" / "one"


def rewrite(run, **changed):
    """Make provenance.json say that the sweep was started with something else."""
    path = run / "provenance.json"
    entry = json.loads(path.read_text())
    for name, value in changed.items():
        entry[name] = {**entry[name], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(entry))


def said(run):
    return list(changes(run, str(run.parents[1] / "mine.py")))


def test_nothing_is_said_where_nothing_has_changed(run):
    assert said(run) == []


def test_versions_are_told_one_sentence_each(run):
    torch = json.loads((run / "provenance.json").read_text())["packages"]["torch"]
    rewrite(run, python="3.10.1", packages={"torch": "1.0.0", "ray": None})
    python, *packages = said(run)
    assert python == (
        f"Python was 3.10.1 at the start, is {platform.python_version()} now: results may differ from those of a sweep "
        "that was never interrupted."
    )
    assert len(packages) == 2 and "ray was not installed at the start, is " in packages[0]
    assert packages[1].startswith(f"torch was 1.0.0 at the start, is {torch} now: results may differ")


def test_this_project_s_own_code_counts_and_a_commit_alone_does_not(run):
    rewrite(run, commit="0" * 40)
    assert said(run) == []
    rewrite(run, sources={"trainables": "0"})
    (sentence,) = said(run)
    assert sentence.startswith(
        "this project's code in trainables/ has changed since the start (it was 0.1.0 at commit 0000"
    )
    rewrite(run, commit=provenance._commit(), sources={"tuner": "0"})
    (sentence,) = said(run)
    assert "in tuner/ and trainables/ has changed" in sentence and "its files were edited): results may" in sentence


def test_an_edited_copy_is_named_since_it_is_what_runs(run):
    (run / "code" / "helper.py").write_text("def rate(config):\n    return 0.5\n")
    assert said(run) == [
        f"{run / 'code' / 'helper.py'}: it was frozen at the start and has been edited since, so trials from now on "
        "run other code than those before."
    ]


def test_an_original_that_was_edited_is_named_since_it_is_not_what_runs(run):
    mine, helper = (run.parents[1] / name for name in ("mine.py", "helper.py"))
    mine.write_text(MINE + "\n# fixed\n")
    helper.unlink()  # as on another machine, which needs none of it
    assert said(run) == [
        f"{mine}: it has changed since the start, and the copy that was frozen then is what runs "
        f"({run / 'code' / 'mine.py'}). Start a new sweep to run the changed one."
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"code": {}}', '{"code": 3, "packages": {}}', "\0"])
def test_a_damaged_record_is_told(run, text):
    (run / "provenance.json").write_text(text)
    (sentence,) = said(run)
    assert "so what has changed since is not known. See: tuner doctor" in sentence


@pytest.mark.parametrize("name", ["../mine.py", "/etc/hostname", "code/../../mine.py", "code/\0"])
def test_no_name_leads_out_of_the_run_folder(run, name):
    rewrite(run, code={name: "0"})
    assert not any("mine.py" in sentence or "hostname" in sentence for sentence in said(run))


def test_a_resume_warns_and_remembers(run, capsys):
    rewrite(run, packages={"torch": "1.0.0"})
    assert run_command(["resume", "one", "--backend", "inline"]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("Warning: torch was 1.0.0 at the start, is ")
    first, second = (row.body["changed"] for row in read(run / FILE_NAME) if row.kind == "session")
    assert first == [] and [f"Warning: {sentence}" for sentence in second] == [warning]
