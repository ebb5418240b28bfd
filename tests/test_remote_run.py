"""Sweeps whose run folder is at a storage URI, on a real S3 protocol server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tuner
from tuner.cli.main import run_command
from tuner.drive import Watch
from tuner.errors import Interrupted, RunError, TunerError
from tuner.storage import Remote

USER = """
import pathlib, time

import torch


def climbs(config, trial):
    weights = trial.state["weights"] if trial.state else torch.zeros(2)
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        weights = weights + config["x"]
        time.sleep(config["pause"])
        trial.report(epoch=epoch, score=float(weights.sum()), state={"weights": weights}, predictions=weights.numpy())
"""
SWEEP = """
[sweep]
trainable = "user.py:climbs"
metric = "score"
mode = "max"
max_epochs = 4
[space]
x = {{ uniform = [0.0, 1.0] }}
pause = {pause}
[search]
strategy = "random"
trials = {trials}
"""


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "user.py").write_text(USER)

    def write(trials=3, pause=0.0):
        (tmp_path / "sweep.toml").write_text(SWEEP.format(trials=trials, pause=pause))
        return str(tmp_path / "sweep.toml")

    return write


def lose_the_disk():
    shutil.rmtree(os.environ["TUNER_CACHE"])


def plain(results):
    frame = results.epochs[["trial", "epoch", "score"]]
    return frame.to_dict("records"), results.trials[["trial", "status", "config.x", "epochs"]].to_dict("records")


def test_a_run_at_a_uri_is_the_run_in_a_folder(s3, sweep, tmp_path, capsys):
    file, storage = sweep(), f"{s3}/runs"
    assert run_command(["run", file, "--backend", "inline", "--storage", storage, "--name", "far", "-q"]) == 0
    assert run_command(["run", file, "--backend", "inline", "--storage", str(tmp_path / "near"), "-q"]) == 0
    near, far = tuner.load(tmp_path / "near" / "sweep"), tuner.load(f"{storage}/far")
    assert plain(near) == plain(far) and far.status == "completed"
    there = Remote(f"{storage}/far").entries()
    tops = {path.partition("/")[0] for path in there}
    assert tops >= {"sweep.toml", "code", "provenance.json", "journal.sqlite", "journal.mark", "best", "logs", "lease"}
    # Two of the best configs keep a checkpoint, as in a folder; predictions are gathered.
    kept = {path.split("/")[1] for path in there if path.startswith("checkpoints/")}
    assert kept == {path.name for path in (near.folder / "checkpoints").iterdir()}
    assert [path for path in there if path.startswith("predictions/")] == [
        f"predictions/t000{n}.npz" for n in (1, 2, 3)
    ]

    capsys.readouterr()
    for command in (["ls", storage], ["show", f"{storage}/far"], ["best", f"{storage}/far"]):
        assert run_command(command) == 0
    assert run_command(["doctor", f"{storage}/far"]) == 0
    assert run_command(["report", f"{storage}/far"]) == 0
    out = capsys.readouterr().out
    assert f"{storage}/far/report.html" in out and "nothing wrong" in out and str(tmp_path / "cache") not in out
    assert Remote(f"{storage}/far").has("report.html")


def test_a_name_at_a_uri_is_taken_once(s3, sweep, capsys):
    file = sweep(trials=1)
    arguments = ["run", file, "--backend", "inline", "--storage", s3, "-q"]
    assert run_command([*arguments, "--name", "one"]) == 0 == run_command(arguments)
    assert run_command([*arguments, "--name", "one"]) == 2
    said = capsys.readouterr().err
    assert f"{s3}/one: the name is taken. Choose another --name, or go on with it: tuner resume {s3}/one" in said
    assert run_command(arguments) == 0
    assert Remote(s3).folders() == ["one", "sweep", "sweep-2"]


def test_what_is_not_there_is_a_sentence(s3, capsys):
    Remote(f"{s3}/runs/digits").write("sweep.toml", b"")
    for command in ("show", "resume", "doctor", "best"):
        assert run_command([command, f"{s3}/runs/digit"]) == 2, command
        assert "there is none there" in capsys.readouterr().err
    assert run_command(["ls", "s3://no-such-bucket-anywhere/runs"]) == 0
    assert "No runs in s3://no-such-bucket-anywhere/runs" in capsys.readouterr().out


def killed_after(s3, file, epochs, name="run"):
    """Start a sweep as a user does, and kill it once that many epochs are done; returns the committed rows."""
    command = [sys.executable, "-m", "tuner.cli", "run", file, "--backend", "inline", "--storage", s3, "--name", name]
    driver = subprocess.Popen([*command, "-q"], start_new_session=True)
    try:
        journal = None
        for _ in range(1200):
            assert driver.poll() is None, "the sweep ended before it was killed"
            journal = journal or next(Path(os.environ["TUNER_CACHE"]).glob(f"runs/*/{name}/journal.sqlite"), None)
            if journal and len(rows := committed(journal)) >= epochs:
                return rows
            time.sleep(0.05)
        raise AssertionError("no epoch was committed in a minute")
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()


def committed(journal):
    from tuner.journal import read

    try:
        return {(event.trial, event.epoch): event.body["metrics"] for event in read(journal) if event.kind == "epoch"}
    except RunError:
        return {}


def test_a_driver_that_is_killed_goes_on_where_it_was(s3, sweep):
    file = sweep(trials=4, pause=0.2)
    before = killed_after(s3, file, 5)
    # On the same machine nobody has to wait: the mirror's file lock tells that its driver is dead.
    assert run_command(["resume", f"{s3}/run", "--backend", "inline", "-q"]) == 0
    results = tuner.load(f"{s3}/run")
    after = {(trial, epoch): score for trial, epoch, score in results.epochs[["trial", "epoch", "score"]].values}
    assert len(after) == 16 and all(after[key] == body["score"] for key, body in before.items())


def test_a_driver_whose_disk_is_lost_too_goes_on_from_the_storage(s3, sweep, monkeypatch):
    file = sweep(trials=4, pause=0.2)
    before = killed_after(s3, file, 6)
    lose_the_disk()
    snapshot = Remote(f"{s3}/run")
    snapshot.delete(list(snapshot.entries("lease")))  # as time would
    assert run_command(["resume", f"{s3}/run", "--backend", "inline", "-q"]) == 0
    results = tuner.load(f"{s3}/run")
    note = next(note for note in results.history.notes if "adopted" in note)
    # The snapshot was taken before the first epoch; each epoch has a checkpoint, so at most the running one is lost.
    assert note["adopted"] > 0
    adopted = {(event.trial, event.epoch) for event in tuner_rows(results) if event.seq <= last_adopted(results)}
    assert len(before) - len(adopted & set(before)) <= 1
    assert [*results.trials["status"]] == ["completed"] * 4 and len(results.epochs) == 16


def tuner_rows(results):
    from tuner.journal import FILE_NAME, read

    return [event for event in read(results.folder / FILE_NAME) if event.kind == "epoch"]


def last_adopted(results):
    from tuner.journal import FILE_NAME, read

    return next(e.seq for e in read(results.folder / FILE_NAME) if e.kind == "note" and "adopted" in e.body)


def test_snapshots_follow_the_journal_while_it_grows(s3, sweep, tmp_path, monkeypatch):
    from tuner.salvage import row

    monkeypatch.setattr("tuner.mirror.SNAPSHOT_S", 0.3)
    there, seen = Remote(f"{s3}/run"), []

    def look(event):
        if event.kind == "epoch":
            there.download("journal.sqlite", tmp_path / "snapshot.sqlite")
            seen.append((event.at, row(tmp_path / "snapshot.sqlite")))

    loaded = tuner.load_sweep(sweep(trials=4, pause=0.2))
    tuner.run(loaded, storage=s3, name="run", backend="inline", watch=Watch(on_event=look))
    assert len({last for _, (_, last, _) in seen}) >= 3
    # A snapshot every 0.3 s: rows wait for a few of them at most, however busy the machine is.
    assert max(at - last for at, (_, last, _) in seen[4:]) < 5


def test_what_another_host_did_since_is_not_lost(s3, sweep, monkeypatch, tmp_path):
    file = sweep(trials=2)
    assert run_command(["run", file, "--backend", "inline", "--storage", s3, "--name", "run", "-q"]) == 0
    here = os.environ["TUNER_CACHE"]
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "elsewhere"))
    assert run_command(["resume", f"{s3}/run", "--trials", "3", "--backend", "inline", "-q"]) == 0
    monkeypatch.setenv("TUNER_CACHE", here)
    assert run_command(["resume", f"{s3}/run", "--trials", "4", "--backend", "inline", "-q"]) == 0
    assert len(tuner.load(f"{s3}/run").trials) == 4


def interrupted_after(s3, file, epoch):
    """Run a sweep here until its first trial has committed an epoch with its checkpoint."""

    def strike(event):
        if (event.kind, event.trial, event.epoch) == ("checkpoint", "t0001", epoch):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        tuner.run(tuner.load_sweep(file), storage=s3, name="run", backend="inline", watch=Watch(on_event=strike))


def test_a_damaged_checkpoint_at_a_uri_is_told_and_not_used(s3, sweep, capsys):
    file = sweep(trials=1)
    interrupted_after(s3, file, 3)
    there = Remote(f"{s3}/run")
    newest = max((path for path in there.entries("checkpoints") if path.endswith("state.pt")), key=lambda p: p)
    there.write(newest, b"damaged")
    assert run_command(["resume", f"{s3}/run", "--backend", "inline"]) == 0
    assert "An earlier one is used." in capsys.readouterr().err
    assert len(tuner.load(f"{s3}/run").epochs) == 4
    kept = next(path for path in there.entries("checkpoints") if path.endswith("state.pt"))
    there.write(kept, b"damaged")
    capsys.readouterr()
    assert run_command(["doctor", f"{s3}/run"]) == 1
    assert kept.rpartition("/")[0] in capsys.readouterr().out
    assert run_command(["doctor", f"{s3}/run", "--repair"]) == 2
    assert "a repair needs a run folder, but this is a URI" in capsys.readouterr().err


# -- pull --------------------------------------------------------------------------------------------------------------


def test_a_pulled_run_is_a_run(s3, sweep, tmp_path, capsys):
    run_command(["run", sweep(), "--backend", "inline", "--storage", s3, "--name", "run", "-q"])
    capsys.readouterr()
    assert run_command(["pull", f"{s3}/run", str(tmp_path / "copy"), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["files"] > 8 and first["unchanged"] == 0
    assert run_command(["doctor", str(tmp_path / "copy")]) == 0
    assert plain(tuner.load(tmp_path / "copy")) == plain(tuner.load(f"{s3}/run"))
    capsys.readouterr()
    # Only what has changed is read again: the journal, here.
    assert run_command(["pull", f"{s3}/run", str(tmp_path / "copy"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["files"] == 1 and again["unchanged"] == first["files"] - 1
    # A copy that has gone on by itself is not overwritten.
    assert run_command(["resume", str(tmp_path / "copy"), "--trials", "4", "--backend", "inline", "-q"]) == 0
    assert run_command(["pull", f"{s3}/run", str(tmp_path / "copy")]) == 2
    assert "a copy must not have gone on by itself" in capsys.readouterr().err
    assert len(tuner.load(tmp_path / "copy").trials) == 4


def test_pull_takes_a_path_and_only_frames(sweep, tmp_path, capsys):
    run_command(["run", sweep(), "--backend", "inline", "--storage", str(tmp_path / "runs"), "-q"])
    run, copy = tmp_path / "runs" / "sweep", tmp_path / "copy"
    assert run_command(["pull", str(run), str(copy), "--frames"]) == 0
    inside = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert inside >= {"journal.sqlite", "sweep.toml", "trials.csv", "epochs.csv", "best/config.toml"}
    assert not any(path.endswith(".pt") or path.startswith(("logs/", "checkpoints/")) for path in inside)
    # Where there are other things, a folder of the run's name is made.
    assert run_command(["pull", str(run), str(tmp_path / "runs")]) == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    assert run_command(["pull", str(run), str(tmp_path / "other")]) == 0
    assert (tmp_path / "other" / "sweep" / "journal.sqlite").is_file()


def test_what_arrives_damaged_is_refused(s3, sweep, tmp_path, monkeypatch):
    run_command(["run", sweep(), "--backend", "inline", "--storage", s3, "--name", "run", "-q"])
    from tuner.pulling import pull

    honest = Remote.download

    def garbled(self, path, target):
        honest(self, path, target)
        if path == "sweep.toml":
            target.write_bytes(target.read_bytes().replace(b"score", b"scare"))

    monkeypatch.setattr(Remote, "download", garbled)
    with pytest.raises(TunerError, match=r"sweep.toml arrives with other bytes"):
        pull(Remote(f"{s3}/run"), tmp_path / "copy")
    assert not (tmp_path / "copy" / "journal.sqlite").exists() and not (tmp_path / "copy" / "sweep.toml").exists()


def test_a_hiccup_of_the_storage_changes_nothing_of_a_trial(s3, tmp_path, monkeypatch):
    import random

    def draws(config, trial):
        for epoch in range(1, 4):
            trial.report(epoch=epoch, score=random.random(), state={"epoch": epoch})

    space = {"x": tuner.Uniform(0, 1)}
    search = {"strategy": "random", "trials": 2}
    sweep = tuner.Sweep(trainable=draws, space=space, metric="score", mode="max", max_epochs=3, search=search)
    near = tuner.run(sweep, storage=tmp_path / "near", backend="inline")
    honest, failed = Remote.upload, []

    def hiccup(self, source, path):
        if path.endswith("state.pt") and len(failed) < 3:
            failed.append(random.random())  # as clients do that wait for a time of chance
            raise OSError("out of reach")
        honest(self, source, path)

    monkeypatch.setattr(Remote, "upload", hiccup)
    far = tuner.run(sweep, storage=s3, backend="inline")
    assert len(failed) == 3 and [*far.epochs["score"]] == [*near.epochs["score"]]


def test_workers_that_do_not_see_the_drivers_disk_get_the_code_from_the_uri(s3, sweep, tmp_path):
    from tuner.backends.ray_tune import worker_side

    run_command(["run", sweep(trials=1), "--backend", "inline", "--storage", s3, "--name", "run", "-q"])
    folder = "/on/the/drivers/host"
    parcel = worker_side.Parcel(f"{folder}/code/user.py:climbs", None, (f"{s3}/run", folder), None, {}, "/", ())
    train = worker_side._load(parcel)
    assert train.__name__ == "climbs" and not train.__code__.co_filename.startswith(folder)
