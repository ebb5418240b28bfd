"""The fault matrix: what goes wrong in a trial, or around a sweep, and what a person is told through the command line.

Each row: the trial's status and cause, the exit status, and the sentence on standard error. What every backend makes of
a bad trainable is in conformance_backends.py; workers and nodes that die are in tests/backends.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from conformance_backends import same
from small_disk import fill, remount

import tuner
from tuner.cli.main import run_command
from tuner.drive import Watch
from tuner.errors import Interrupted

HEAD = """
import errno, math, os
import numpy as np
from pathlib import Path

def train(config, trial):
"""

# Each keeps a state where it gets that far, so that a resume has something to go on from.
GOOD = """
    total = trial.state["total"] if trial.state else 0.0
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        total += epoch * config["x"]
        trial.report(epoch=epoch, score=total, state={"total": total})
"""

SWEEP = """
[sweep]
trainable = "mine.py:train"
metric = "score"
mode = "max"
max_epochs = 3
[space]
x = { uniform = [0.0, 1.0] }
[search]
strategy = "random"
trials = 2
"""


class Fault(NamedTuple):
    """One row: the trainable's body, and what must come of it in each of its two trials."""

    body: str
    status: str
    cause: str | None
    exit_status: int
    said: str  # a pattern for all of standard error


ALL_FAILED = r"runs/mine: no trial completed; 2 of 2 trials failed \(2 {cause}\)\. t0001: {why}\n"

FAULTS = {
    "raise": Fault(
        "    raise ValueError('no such layer')",
        "failed", "config.raised", 1, "ValueError: no such layer",
    ),
    "exit": Fault(
        "    raise SystemExit(0)",
        "failed", "config.raised", 1, "SystemExit: 0",
    ),
    "shape": Fault(
        "    np.ones((4, 8)) @ np.ones((9, 2))",
        "failed", "config.shape", 1, r"ValueError: matmul: Input operand 1 has a mismatch in its core dimension .*",
    ),
    "NaN": Fault(
        "    trial.report(epoch=1, score=math.nan)",
        "failed", "config.non_finite", 1, r"score must be finite, but got \(nan\) at epoch 1\.",
    ),
    "inf": Fault(
        "    trial.report(epoch=1, score=0.5)\n    trial.report(epoch=2, score=0.5, train_loss=math.inf)",
        "failed", "config.non_finite", 1, r"train_loss must be finite, but got \(inf\) at epoch 2\.",
    ),
    "out of memory": Fault(
        "    np.empty(2**50)",
        "failed", "config.out_of_memory", 1, r".*Unable to allocate 8\.00 PiB for an array .*",
    ),
    "missing metric": Fault(
        "    trial.report(epoch=1, scores=0.5)",
        "failed", "config.metric", 1,
        r'trial\.report must give the sweep\'s metric "score", but got \(scores\)\. Set sweep\.metric = "scores", or '
        r"rename it in the trainable; report None where it is not defined yet\.",
    ),
    "a metric that is no number": Fault(
        "    trial.report(epoch=1, score=[0.5])",
        "failed", "config.metric", 1,
        r"trial\.report: score must be a number or None, but got \(list \[0\.5\]\)\. Report one number a metric\.",
    ),
    "dict return, never reported": Fault(
        "    return {'score': 1.0}",
        "failed", "config.metric", 1,
        r"the trainable returned a dict without calling trial\.report\. "
        r"Call trial\.report\(epoch=\.\.\., score=\.\.\.\) after each epoch\.",
    ),
    "dict return after reports": Fault(
        "    trial.report(epoch=1, score=0.5)\n    return {'score': 100.0}",
        "completed", None, 0, "",
    ),
    "a state that cannot be loaded again": Fault(
        "    trial.report(epoch=1, score=0.5, state={'f': print})",
        "failed", "config.raised", 1,
        r"trial\.report: state must be a dict of tensors and plain values, but got \(state\['f'\] is a .*",
    ),
    "a full disk of its own": Fault(
        "    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), '/scratch/features.npy')",
        "failed", "infrastructure.storage", 1,
        r"OSError: \[Errno 28\] No space left on device: '/scratch/features\.npy'",
    ),
}  # fmt: skip


def write(folder: Path, body: str = GOOD) -> None:
    (folder / "mine.py").write_text(HEAD + body)
    (folder / "mine.toml").write_text(textwrap.dedent(SWEEP))


def tell(*command: str) -> tuple[int, str]:
    """Run a command; return its exit status and what it said on standard error."""
    heard = io.StringIO()
    with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(io.StringIO()):
        status = run_command([*command])
    return status, heard.getvalue()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_status_its_cause_its_exit_status_and_its_sentence(tmp_path, monkeypatch, name):
    fault = FAULTS[name]
    monkeypatch.chdir(tmp_path)
    write(tmp_path, fault.body)
    status, said = tell("run", "mine.toml", "--backend", "inline")
    assert status == fault.exit_status
    expected = ALL_FAILED.format(cause=re.escape(fault.cause), why=fault.said) if fault.cause else fault.said
    assert re.fullmatch(expected, said), said
    records = tuner.load("mine").records()
    # Both trials were run: the first one's end is no reason to leave the second out.
    assert [(record.status, record.cause) for record in records] == [(fault.status, fault.cause)] * 2
    # What the config is to blame for is tried once, what the infrastructure is to blame for as often as it may be.
    tries = 4 if (fault.cause or "").startswith("infrastructure") else 1
    assert [record.attempts for record in records] == [tries] * 2
    if fault.status == "failed":
        assert all("\n" not in (record.error or "") for record in records)
        log = Path("runs/mine/logs/t0001-1.log").read_text()
        assert "Traceback" in log or name in ("NaN", "inf", "dict return, never reported")


# -- a checkpoint that is damaged -------------------------------------------------------------------------------------


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_corrupt_checkpoint_is_named_and_the_one_before_is_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    assert tell("run", "mine.toml", "--backend", "inline", "--name", "untouched") == (0, "")

    def strike(event):
        if (event.kind, event.trial, event.epoch) == ("checkpoint", "t0001", 2):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        tuner.run(tuner.load_sweep("mine.toml"), name="one", backend="inline", watch=Watch(on_event=strike))
    state = tmp_path / "runs/one/checkpoints/t0001/2-1/state.pt"
    flip_a_bit(state)
    status, said = tell("resume", "one", "--backend", "inline")
    sentence = f"Warning: {state}: the file is missing, or differs from its manifest. An earlier one is used.\n"
    assert (status, said) == (0, sentence)
    assert same(tuner.load("one"), tuner.load("untouched"))
    # From the first epoch's checkpoint, not from the start.
    assert tuner.load("one").history.trials["t0001"].start_epoch == 1


# -- disks ------------------------------------------------------------------------------------------------------------


FILLS = """
    if trial.number == 2 and not Path("was_full").exists():
        Path("was_full").touch()
        room = os.statvfs(".")
        with open("filler", "wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, room.f_bavail * room.f_frsize)
"""


def fills_its_disk(folder):
    """While a trial trains, its disk runs full; there is room again before the resume."""
    os.chdir(folder)
    write(folder, FILLS + GOOD)
    first = tell("run", "mine.toml", "--backend", "inline", "--set", "search.trials=4")
    left = tuner.load("mine").counts()
    refused = tell("resume", "mine", "--backend", "inline")
    (folder / "filler").unlink()
    resumed = tell("resume", "mine", "--backend", "inline")
    attempts = [record.attempts for record in tuner.load("mine").records()]
    tell("run", "mine.toml", "--backend", "inline", "--set", "search.trials=4", "--name", "untouched")
    return [first, left, refused, resumed, attempts, same(tuner.load("mine"), tuner.load("untouched"))]


def test_a_full_disk_ends_the_sweep_with_one_sentence_until_there_is_room(small_disk):
    first, left, refused, resumed, attempts, is_same = small_disk(fills_its_disk, 130_000)
    assert first[0] == 1
    pattern = (
        r"/.*/runs/mine: a trial begins only where 100 MB are free, but got \(.* free on /.*\)\. Make room there\. "
        r"What was done is saved \(1 completed, 1 interrupted\); go on with:\n  \S+ resume runs/mine\n"
    )
    assert re.fullmatch(pattern, first[1]), first[1]
    assert left == {"completed": 1, "interrupted": 1}  # as the sentence says it
    assert refused[0] == 2
    assert re.search(r"and 100 MB must stay free, but got \(0 bytes free on ", refused[1]), refused[1]
    assert resumed == [0, ""] and is_same
    # No trial but one knows of it, and its retries are untouched.
    assert attempts == [1, 2, 1, 1]


def is_read_only(folder):
    os.chdir(folder)
    write(folder)
    tell("run", "mine.toml", "--backend", "inline", "--set", "search.trials=1")
    remount(folder, "ro")
    told = [tell("run", "mine.toml", "--backend", "inline")]
    told += [tell("resume", "mine", "--trials", "4", "--backend", "inline")]
    return [*told, tell("resume", "mine"), tell("best", "mine")]


def test_a_read_only_folder_is_told_and_what_needs_no_writing_goes_on(small_disk):
    run, resume, finished, best = small_disk(is_read_only, 130_000)
    for (status, said), remedy in ((run, "choose another --storage"), (resume, "resume a copy of the run folder")):
        assert status == 2
        assert "a run folder must be writable, but its file system (/" in said and remedy in said
    assert finished == best == [0, ""]


def breaks_while_it_runs(folder):
    """The disk is full when the last trial is over: only best/ is missing."""
    os.chdir(folder)
    write(folder)

    def strike(event):
        if (event.kind, event.trial) == ("end", "t0002"):
            fill(folder)

    with pytest.raises(tuner.TunerError) as stopped:
        # One checkpoint a trial, its best: to delete others would make room again.
        sweep = tuner.load_sweep("mine.toml", ["checkpoint.every_epochs=3"])
        tuner.run(sweep, backend="inline", watch=Watch(on_event=strike))
    half = sorted(path.name for path in Path("runs/mine").iterdir() if path.name.startswith((".", "best")))
    (folder / "filler").unlink()
    resumed = tell("resume", "mine", "--backend", "inline")
    made = sorted(path.name for path in Path("runs/mine/best").iterdir())
    shutil.rmtree(folder / "runs")
    return [stopped.value.exit_status, half, resumed, made]


def test_a_disk_that_is_full_at_the_very_end_leaves_no_half_best(small_disk):
    exit_status, half, resumed, made = small_disk(breaks_while_it_runs, 130_000)
    assert (exit_status, half) == (1, [])
    assert resumed == [0, ""] and made == ["config.toml", "metrics.json", "model.pt"]
