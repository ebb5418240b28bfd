"""The command line on a Ray of its own: signals, a worker that dies, what is printed, what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tuner.backends.ray_tune import session
from tuner.results import load

pytestmark = pytest.mark.ray

FUNCTION = """
import os, signal, time
from pathlib import Path

def train(config, trial):
    total = trial.state["total"] if trial.state else 0
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        time.sleep(0.1)
        total += epoch
        with open("executed.txt", "a") as executed:
            executed.write(f"{trial.number}.{epoch}\\n")
        trial.report(epoch=epoch, score=total, state={"total": total})
        if (trial.number, epoch) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)
"""
SWEEP = """
[sweep]
trainable = "mine.py:train"
metric = "score"
mode = "max"
max_epochs = 10
[space]
x = { uniform = [0, 1] }
[search]
strategy = "random"
trials = 3
[resources]
max_concurrent = 1
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FUNCTION)
    (tmp_path / "mine.toml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(project, *arguments):
    """Start a command as a terminal does: in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tuner.cli", *arguments],
        env={**os.environ, "STARTED_BY": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_epoch(process, trial, epoch):
    """Wait until an epoch is in the journal."""
    while process.poll() is None:
        time.sleep(0.3)
        try:
            record = load("runs/mine").history.trials.get(trial)
        except Exception:  # there is no journal yet
            continue
        if record and max(record.epochs, default=0) >= epoch:
            return
    pytest.fail(f"it ended too early: {process.communicate()}")


def left_behind(project):
    """Every process that was started by these, and by those in turn."""
    mark = f"STARTED_BY={project}".encode()
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                pids.append((folder / "cmdline").read_bytes().replace(b"\0", b" "))
        except OSError:
            continue
    return pids


def test_a_sweep_on_ray_is_killed_interrupted_twice_and_ends_as_if_untouched(project):
    process = start(project, "run", "mine.toml")
    wait_for_epoch(process, "t0001", 6)
    # The worker of trial 1 has killed itself by now, and another has gone on.
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 143, (out, err)
    assert left_behind(project) == []
    assert out.splitlines() == ["mine: 3 trials (random) of up to 10 epochs, 1 at a time, in runs/mine"]
    # What Ray has to say of all this, nobody needs to read.
    assert err.startswith("Interrupted; what was done is saved (1 interrupted). Go on with:\n")
    assert len(err.splitlines()) == 2 and err.rstrip().endswith("resume runs/mine")
    assert load("runs/mine").status == "interrupted"

    # Ctrl-C goes to every process of the group.
    process = start(project, "resume", "runs/mine")
    wait_for_epoch(process, "t0002", 4)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, (out, err)
    assert left_behind(project) == []
    assert "(1 completed, 1 interrupted)" in err and len(err.splitlines()) == 2

    process = start(project, "resume", "runs/mine", "--backend", "inline", "--quiet")
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")
    results = load("runs/mine")
    assert list(results.trials["status"]) == ["completed"] * 3 and list(results.trials["attempts"]) == [3, 2, 1]
    assert list(results.epochs["score"]) == [n * (n + 1) // 2 for n in range(1, 11)] * 3
    # At each of the two interruptions an epoch may have been trained that was not reported yet.
    executed = (project / "executed.txt").read_text().split()
    assert set(executed) == {f"{trial}.{epoch}" for trial in (1, 2, 3) for epoch in range(1, 11)}
    assert len(executed) <= 32


def test_folders_of_drivers_that_were_killed_are_removed(tmp_path):
    with session._scratch(tmp_path) as mine:
        (tmp_path / "tuner-dead").mkdir()
        (tmp_path / "tuner-dead" / "owner").touch()
        (tmp_path / "tuner-other").mkdir()  # not one of these
        with session._scratch(tmp_path) as second:
            assert mine.is_dir() and second.is_dir() and mine.stat().st_mode & 0o777 == 0o700
            assert not (tmp_path / "tuner-dead").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["tuner-other"]
