"""Room on the run folder's disk: counted before a sweep, watched while it runs, and nothing lost where it ends.

The disks that are filled here are real, and small: see small_disk.py.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import io
import shutil
from pathlib import Path

import pytest
from conformance_backends import as_in_a_notebook, make_driver, make_sweep, same
from small_disk import fill, remount

import tuner
from tuner import disk, doctor
from tuner.backends.worker import Job, Outcome, Report, run_attempt
from tuner.cli.main import run_command
from tuner.disk import RESERVE, FileSystem, Need, Room, estimate, file_system, require
from tuner.drive import Watch
from tuner.errors import ResourceError, RunError, StorageError
from tuner.history import fold
from tuner.journal import FILE_NAME, read

SIZE = 130_000  # kilobytes: RESERVE, and some
READS_ON_A_FULL_DISK = [0, 0, 0, 1, 0]  # `tuner doctor` warns of it


# -- what a sweep will write -------------------------------------------------------------------------------------------


def test_checkpoints_are_bounded_by_keep_and_the_rest_grows_with_the_epochs():
    few = estimate(trials=10, epochs=100, side_by_side=2, keep=2, checkpoint=1_000_000, prediction=400)
    many = estimate(trials=100, epochs=1_000, side_by_side=2, keep=2, checkpoint=1_000_000, prediction=400)
    # Newest two, best and the one being written of two running trials; two of those that are over; best/, old and new.
    assert few.checkpoints == many.checkpoints == (2 * 4 + 2 + 2) * 1_000_000
    assert (few.predictions, many.predictions) == (40_000, 400_000)
    assert many.journal > few.journal and many.logs == 10 * few.logs
    assert few.total == few.journal + few.checkpoints + few.predictions + few.logs


def test_what_is_not_known_is_not_counted():
    need = estimate(trials=1, epochs=1, side_by_side=1, keep=2)
    assert need.checkpoints is None and need.total == need.journal + need.logs


def test_the_estimate_is_an_upper_bound_and_no_fantasy(tmp_path):
    sweep = tuner.Sweep(
        trainable="mlp", data={"name": "wine"}, space={"learning_rate": tuner.LogUniform(1e-3, 1e-1)}, max_epochs=3,
        search={"strategy": "random", "trials": 3},
    )  # fmt: skip
    folder = tuner.run(sweep, storage=tmp_path, backend="inline").folder
    need = tuner.make_plan(sweep, memory=False).disk
    state = next(folder.rglob("state.pt")).stat().st_size
    assert need.checkpoint is not None and 0.5 * need.checkpoint < state <= need.checkpoint
    predicted = sum(path.stat().st_size for path in (folder / "predictions").iterdir())
    assert 0.3 * predicted < need.predictions < 3 * predicted  # npz: a few hundred bytes an array besides
    assert disk.written(folder) < need.total


@pytest.mark.parametrize(("number", "text"), [(999, "999 bytes"), (1_200_000_000, "1.2 GB"), (5e15, "5,000,000 GB")])
def test_sizes_are_short(number, text):
    assert disk.size(int(number)) == text


# -- what is there -----------------------------------------------------------------------------------------------------


def looks(folder):
    before = file_system(folder / "not" / "there" / "yet")
    fill(folder, leave=1_000_000)
    full = file_system(folder)
    remount(folder, "ro")
    read_only = file_system(folder)
    return [[str(found.mount == folder), found.free, found.read_only] for found in (before, full, read_only)]


def test_a_disk_is_seen_as_it_is(small_disk):
    before, full, read_only = small_disk(looks, 4_000)
    assert before[0] == full[0] == read_only[0] == "True"
    assert before[1] == 4_096_000 and 0 < full[1] <= 1_000_000
    assert (before[2], full[2], read_only[2]) == (False, False, True)


@pytest.mark.parametrize(
    ("found", "needed", "error", "sentence"),
    [
        (FileSystem(Path("/d"), RESERVE + 10, False), 10, None, ""),
        (
            FileSystem(Path("/d"), 900_000_000, False), 1_200_000_000, ResourceError,
            "/d/runs: up to 1.2 GB will be written, and 100 MB must stay free, but got (900 MB free on /d). "
            "Make room there, or choose another --storage.",
        ),
        (
            FileSystem(Path("/d"), 900_000_000, True), 10, RunError,
            "/d/runs: a run folder must be writable, but its file system (/d) is read-only. "
            "Mount it writable, or choose another --storage.",
        ),
    ],
)  # fmt: skip
def test_a_sweep_that_does_not_fit_is_refused(monkeypatch, found, needed, error, sentence):
    monkeypatch.setattr(disk, "file_system", lambda path: found)
    with pytest.raises(error) if error else contextlib.nullcontext() as refused:
        require(Path("/d/runs"), needed, "choose another --storage")
    assert error is None or str(refused.value) == sentence


def test_low_water_rises_with_the_checkpoints(monkeypatch):
    monkeypatch.setattr(disk, "file_system", lambda path: FileSystem(Path("/d"), RESERVE, False))
    room = Room(Path("/d/runs/one"))
    assert room.lacking(running=3) is None
    room.learn(20_000_000)
    room.learn(1_000)
    # Two checkpoints of each that runs, and of the one to begin.
    assert room.lacking(running=1) is None
    assert room.lacking(running=2) == (
        "/d/runs/one: a trial begins only where 120 MB are free, but got (100 MB free on /d). Make room there."
    )


# -- a sweep on a disk that fills up -----------------------------------------------------------------------------------


def adds_up(config, trial):
    """Its score depends on its state, so that a lost one would show."""
    total = trial.state["total"] if trial.state else 0.0
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        total += epoch * config["x"]
        state = {"total": total, "ballast": bytes(20_000)} if config["with_state"] else None
        trial.report(epoch=epoch, score=total, state=state)


def make(folder, with_state, name, watch=None):
    sweep = make_sweep(
        adds_up,
        {"x": tuner.Uniform(0, 1), "with_state": with_state},
        search={"strategy": "hyperopt", "trials": 6, "initial_random": 2},
        stopping={"rules": ["asha"], "asha": {"grace_epochs": 2, "unjudged": 0}},
    )
    return tuner.run(sweep, storage=folder, name=name, backend="inline", watch=watch)


def fills_up(folder, with_state, leave, outside):
    """Fill the disk at trial 3's first epoch; return what came of it, and what reading says meanwhile."""

    def strike(event):
        if (event.kind, event.trial, event.epoch) == ("epoch", "t0003", 1):
            fill(folder, leave)

    with pytest.raises(StorageError) as stopped:
        make(folder / "runs", with_state, "run", Watch(on_event=strike))
    run = folder / "runs" / "run"
    meanwhile = tuner.load(run)
    facts = {
        "said": str(stopped.value),
        "statuses": list(meanwhile.trials["status"]),
        "causes": [cause for cause in meanwhile.trials["cause"] if cause == cause and cause],
        "half": [path.name for path in run.rglob("*") if "writing" in path.name],
        "reading": [*reads(folder, outside)],
    }
    before = {(row.seq, row.kind) for row in read(run / FILE_NAME)}
    # Without room, it neither goes on nor loses anything.
    with pytest.raises(ResourceError, match="must stay free"):
        tuner.resume(run, trainable=adds_up, backend="inline")
    assert {(row.seq, row.kind) for row in read(run / FILE_NAME)} == before
    (folder / "filler").unlink()
    resumed = tuner.resume(run, trainable=adds_up, backend="inline")
    untouched = make(folder / "runs", with_state, "untouched")
    facts["same"] = same(resumed, untouched)
    facts["attempts"] = [int(number) for number in resumed.trials["attempts"]]
    facts["found"] = [finding.what for finding in doctor.examine(run)]
    return facts


def reads(folder, outside):
    """Yield the exit status of every reading command."""
    run, there = str(folder / "runs" / "run"), io.StringIO()
    out = Path(outside)
    with contextlib.chdir(outside), contextlib.redirect_stdout(there), contextlib.redirect_stderr(there):
        for command in (
            ["show", run],
            ["best", run],
            ["ls", str(folder / "runs")],
            ["doctor", run],
            ["export", run, "--trials", str(out / "trials.csv"), "--epochs", str(out / "epochs.parquet")],
        ):
            yield run_command(command)


@contextlib.contextmanager
def elsewhere():
    """A folder on another disk."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        yield folder


def no_room_for_a_checkpoint(folder):
    with elsewhere() as outside:
        return fills_up(folder, True, 0, outside)


def no_room_for_a_row(folder):
    with elsewhere() as outside:
        return fills_up(folder, False, 0, outside)


def low_water(folder):
    with elsewhere() as outside:
        return fills_up(folder, True, RESERVE // 2, outside)


@pytest.mark.parametrize(
    ("happens", "statuses", "causes"),
    [
        (no_room_for_a_checkpoint, ["completed", "completed", "interrupted"], ["infrastructure.storage"]),
        (no_room_for_a_row, ["completed", "completed", "interrupted"], []),
        (low_water, ["completed", "completed", "completed"], []),  # what runs may end
    ],
)
def test_a_sweep_whose_disk_fills_up_stops_and_goes_on_as_if_nothing_had_been(small_disk, happens, statuses, causes):
    facts = small_disk(happens, SIZE)
    assert facts["statuses"] == statuses
    # No trial but the one that met it knows of it, and no retry was spent.
    assert facts["causes"] in (causes, [])
    assert "a trial begins only where 100 MB are free, but got (" in facts["said"]
    assert "Make room there. What was done is saved; go on with: tuner resume /" in facts["said"]
    # Nothing half written keeps the disk full, and it can be read as it is.
    assert facts["half"] == [] and facts["reading"] == READS_ON_A_FULL_DISK
    assert facts["same"] and facts["found"] == []
    assert max(facts["attempts"]) <= 2


# -- the start ---------------------------------------------------------------------------------------------------------


def too_small(folder):
    try:
        make(folder / "runs", True, "run")
    except ResourceError as error:
        return [str(error), [path.name for path in folder.iterdir()]]
    raise AssertionError("it must be refused")


def test_a_disk_that_is_too_small_is_told_before_a_folder_is_made(small_disk):
    said, left = small_disk(too_small, 60_000)
    assert "runs: up to " in said and "but got (61.4 MB free on /" in said
    assert "choose another --storage" in said and left == []


def full_at_the_first_row(folder):
    fill(folder, leave=40_000)  # the sweep's files fit, its journal does not
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(disk, "require", lambda *arguments: None)  # as if the room had been taken just after it
        with pytest.raises(ResourceError) as refused:
            make(folder / "runs", True, "run")
    return [str(refused.value), [path.name for path in (folder / "runs").iterdir()]]


def test_a_start_that_meets_a_full_disk_leaves_nothing_there(small_disk):
    said, left = small_disk(full_at_the_first_row, 4_000)
    assert "a run folder must be writable, but got (" in said and left == []


# -- read-only ---------------------------------------------------------------------------------------------------------


def read_only(folder):
    """A finished run, and one as its killed driver left it, on a disk that is then mounted read-only."""

    def copy(event):
        if (event.kind, event.trial, event.epoch) == ("epoch", "t0002", 2):
            shutil.copytree(folder / "runs" / "run", folder / "runs" / "killed")

    make(folder / "runs", True, "run", Watch(on_event=copy))
    assert (folder / "runs" / "killed" / f"{FILE_NAME}-wal").exists()
    remount(folder, "ro")
    sentences = []
    for act in (
        lambda: tuner.resume(folder / "runs" / "killed", trainable=adds_up, backend="inline"),
        lambda: make(folder / "runs", True, "more"),
    ):
        with pytest.raises(RunError) as refused:
            act()
        sentences.append(str(refused.value))
    with elsewhere() as outside:
        statuses = [*reads(folder, outside)]
    killed = tuner.load(folder / "runs" / "killed")
    found = [finding.what for finding in doctor.examine(folder / "runs" / "killed") if finding.severity == "error"]
    return [sentences, statuses, list(killed.trials["status"]), found]


def test_a_read_only_disk_is_told_and_can_be_read(small_disk):
    (resumed, started), statuses, killed, found = small_disk(read_only, SIZE)
    for said, remedy in ((resumed, "resume a copy of the run folder on another disk."), (started, "choose another")):
        assert "a run folder must be writable, but its file system (/" in said
        assert "is read-only. Mount it writable, or " in said and remedy in said
    assert statuses == [0] * 5
    assert killed == ["completed", "interrupted"] and found == []


# -- the driver --------------------------------------------------------------------------------------------------------


def test_after_an_append_that_failed_memory_is_what_the_journal_says(tmp_path):
    """Every single commit fails once, and is then made; the sweep ends as one that never failed."""
    sweep = make_sweep(
        adds_up,
        {"x": tuner.Uniform(0, 1), "with_state": False},
        search={"strategy": "hyperopt", "trials": 5, "initial_random": 2},
        stopping={"rules": ["median"], "median": {"grace_epochs": 1}},
    )

    def play(driver, do):
        while (job := do(driver.next)) is not None:
            for epoch in (1, 2, 3):
                report = Report(epoch, {"score": job.config["x"] * epoch}, None, 1.0, "here:1")
                if do(lambda job=job, report=report: driver.report(job.trial, job.attempt, report)):
                    break
            else:
                first = (job.number, job.attempt) == (3, 1)
                outcome = Outcome("failed", "infrastructure.worker_lost", "gone") if first else Outcome("completed")
                do(lambda job=job, outcome=outcome: driver.end(job.trial, job.attempt, outcome))
        assert driver.finished
        return [(t.config, t.status, sorted(t.epochs)) for t in driver.history.trials.values()]

    plain = make_driver(tmp_path / "plain", sweep)
    failing = make_driver(tmp_path / "failing", sweep)
    journal = failing.journal

    def fails_first(action):
        journal._connection.execute("PRAGMA query_only = ON")
        rows, curves = len(journal.events()), copy.deepcopy(failing._curves)
        try:
            result = action()
            assert result is None  # there was nothing to commit
        except RunError:
            pass
        assert len(journal.events()) == rows and fold(journal.events()) == failing.history
        assert {name: curve for name, curve in failing._curves.items() if curve} == {
            name: curve for name, curve in curves.items() if curve
        }
        journal._connection.execute("PRAGMA query_only = OFF")
        return action()

    assert play(failing, fails_first) == play(plain, lambda action: action())


def swallows(config, trial):
    for epoch in range(1, 4):
        with contextlib.suppress(Exception):
            trial.report(epoch=epoch, score=1.0, state={"ballast": bytes(200_000)})


def has_a_full_disk_of_its_own(config, trial):
    raise OSError(errno.ENOSPC, "No space left on device", "/scratch/features.npy")


def attempts(folder):
    """What comes of an attempt while its run folder has room for its log, but not for its checkpoint."""
    (folder / "logs").mkdir()
    fill(folder, leave=60_000)
    job = Job(str(folder), "t0001", 1, 1, 0, {"x": 0.5, "with_state": True}, 3, "score")
    outcomes = [run_attempt(job, train, None, lambda report: False) for train in (swallows, has_a_full_disk_of_its_own)]
    return [[outcome.status, outcome.cause, outcome.error, outcome.unwritable] for outcome in outcomes]


def test_a_worker_tells_whether_it_is_the_run_folder_that_cannot_be_written(small_disk):
    ours, its_own = small_disk(attempts, 1_000)
    # Also where the trainable swallows it: its epoch is not kept, so the trial must not go on as if it were.
    assert ours == ["failed", "infrastructure.storage", "OSError: [Errno 28] No space left on device", True]
    assert its_own[:2] == ours[:2] and "features.npy" in its_own[2] and its_own[3] is False


def test_a_storage_failure_with_room_left_is_retried_as_ever(tmp_path):
    """Such as a worker's own disk: only the run folder's ends the sweep."""
    sweep = make_sweep(adds_up, {"x": 0.5, "with_state": False}, search={"strategy": "random", "trials": 1})
    driver = make_driver(tmp_path / "run", sweep)
    attempts = 0
    while (job := driver.next()) is not None:
        attempts += 1
        driver.end(job.trial, job.attempt, Outcome("failed", "infrastructure.storage", "OSError: no room in /tmp"))
    assert attempts == 1 + sweep.failure.max_retries and driver.halted is None
    assert driver.history.trials["t0001"].status == "failed"


def test_a_run_folder_that_takes_no_more_files_halts_the_sweep_at_once(tmp_path):
    driver = make_driver(tmp_path / "run", make_sweep(adds_up, {"x": 0.5, "with_state": False}))
    job = driver.next()
    refused = Outcome("failed", "infrastructure.storage", "OSError: [Errno 122] Disk quota exceeded", unwritable=True)
    driver.end(job.trial, job.attempt, refused)
    assert driver.next() is None and driver.finished and not driver.nothing_left()
    assert driver.history.trials["t0001"].status == "interrupted"
    assert driver.history.trials["t0001"].infrastructure_failures == 0
    assert driver.halted == (
        f"{tmp_path / 'run'}: a run folder must be writable, but got (OSError: [Errno 122] Disk quota exceeded). "
        "Check its disk and its quota."
    )


def test_the_need_is_json():
    assert Need(1, None, 2, 3).to_dict() == {
        "journal": 1,
        "checkpoints": None,
        "predictions": 2,
        "logs": 3,
        "checkpoint": None,
        "total": 6,
    }


@pytest.mark.ray
def test_on_ray_what_runs_may_end_and_then_the_sweep_stops(tmp_path, ray_local, monkeypatch):
    def strike(event):
        if (event.kind, event.trial, event.epoch) == ("epoch", "t0002", 1):
            monkeypatch.setattr(disk, "file_system", lambda path: FileSystem(Path("/d"), RESERVE - 1, False))

    space = {"x": tuner.Uniform(0, 1), "with_state": False}  # without one, no worker imports torch
    sweep = make_sweep(as_in_a_notebook(adds_up), space, search={"strategy": "random", "trials": 4})
    with pytest.raises(StorageError, match=r"a trial begins only where 100 MB are free, but got \(100 MB free on /d\)"):
        tuner.run(sweep, storage=tmp_path, name="run", watch=Watch(on_event=strike))
    assert list(tuner.load(tmp_path / "run").trials["status"]) == ["completed", "completed"]
    monkeypatch.undo()
    resumed = tuner.resume(tmp_path / "run", trainable=adds_up, backend="inline")
    assert list(resumed.trials["status"]) == ["completed"] * 4 and set(resumed.trials["attempts"]) == {1}
