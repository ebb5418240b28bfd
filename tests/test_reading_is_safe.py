"""Reading a run folder that somebody else made: nothing in it is executed, and nothing outside it is touched."""

from __future__ import annotations

import io
import pickle
import shutil
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pytest
import stateful_run

import tuner
from tuner import checkpoints, doctor, journal, manifests
from tuner.bodies import encode
from tuner.cli.main import run_command
from tuner.errors import RunError, TunerError
from tuner.history import CheckpointRecord, Event
from tuner.journal import Journal

TRAVERSALS = ["../../outside", "/{outside}", "..", "t0001/../../../outside", "\0", "a/b"]


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return stateful_run.make_finished(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(made, tmp_path / "runs/one")


@pytest.fixture
def executed(tmp_path):
    return tmp_path / "executed"


def read_everything(tmp_path):
    """Run every reading command, and every reading function; what they say is not the matter here."""
    for command in (
        ["ls"],
        ["ls", "--json"],
        ["show", "one"],
        ["show", "one", "--json"],
        ["best", "one"],
        ["best", "one", "--toml"],
        ["export", "one", "--trials", str(tmp_path / "trials.csv"), "--epochs", str(tmp_path / "epochs.parquet")],
        ["doctor", "one"],
        ["doctor", "one", "--json"],
        ["doctor", "one", "--repair"],
        ["show", "one"],
    ):
        assert run_command(command) in (0, 1, 2)
    try:
        results = tuner.load(tmp_path / "runs/one")
        assert results.trials is not None and results.epochs is not None
        results.best()
    except TunerError:
        pass


def as_torch_file(payload: bytes, like: Path) -> bytes:
    """Return a file of torch.save with its pickle replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(like) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, payload if name.endswith("data.pkl") else old.read(name))
    return buffer.getvalue()


def as_npz(payload: Payload) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **{"1": np.array([payload], dtype=object)})
    return buffer.getvalue()


def append_raw(path, kind, trial, body_text, parent=None, attempt=0, epoch=0):
    """Add a row with a right checksum: it is no signature, so whoever makes a journal can make one."""
    connection = sqlite3.connect(path)
    seq = connection.execute("SELECT max(seq) + 1 FROM events").fetchone()[0]
    key = (seq, kind, trial, attempt, epoch)
    checksum = journal._checksum(*key, 1.0, body_text.encode())
    connection.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*key, parent, 1.0, body_text, checksum)
    )
    connection.commit()
    connection.close()
    return seq


def test_the_payload_works(executed):
    """Else the tests below would show nothing."""
    pickle.loads(pickle.dumps(Payload(executed))).close()
    assert executed.exists()


KINDS = [
    "journal.sqlite",
    "journal.backup.sqlite",
    "journal.mark",
    "driver.lock",
    "lease/1.json",
    "sweep.toml",
    "provenance.json",
    "code/mine.py",
    "logs/t0001-1.log",
    "predictions/t0001.npz",
    "checkpoints/t0003/3-1/manifest.json",
    "checkpoints/t0003/3-1/state.pt",
    "best/config.toml",
    "best/metrics.json",
    "best/model.pt",
]


def test_every_kind_of_file_is_known_here(made):
    """A new kind of file must meet the payload, too."""
    known = {(Path(name).parts[0], Path(name).suffix) for name in KINDS}
    files = (path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert {(path.parts[0], path.suffix) for path in files} == known


@pytest.mark.parametrize("name", KINDS)
def test_a_bare_pickle_in_place_of_any_file_is_never_loaded(run, executed, tmp_path, name):
    assert (run / name).is_file()
    (run / name).write_bytes(pickle.dumps(Payload(executed)))
    read_everything(tmp_path)
    assert not executed.exists()


def test_pickles_inside_their_own_formats_are_never_loaded(run, executed, tmp_path):
    """Every tensor file, and every array file, whole and well formed, but for what it does when it is unpickled."""
    payload = Payload(executed)
    for path in [*run.rglob("*.pt")]:
        path.write_bytes(as_torch_file(pickle.dumps(payload, protocol=2), path))
    for path in (run / "predictions").rglob("*.npz"):
        path.write_bytes(as_npz(payload))
    read_everything(tmp_path)
    assert not executed.exists()


def test_a_checkpoint_whose_sums_are_right_is_still_not_unpickled(run, executed):
    """Whoever makes the file makes its sums as well; loading it for best/ or for a resume is what remains."""
    folder = next((run / "checkpoints").rglob("state.pt")).parent
    (folder / "state.pt").write_bytes(as_torch_file(pickle.dumps(Payload(executed), protocol=2), folder / "state.pt"))
    with pytest.raises(checkpoints.DamagedCheckpoint, match="must hold tensors and plain values"):
        checkpoints.load(folder)
    assert not executed.exists()


def test_code_in_texts_is_never_run(run, executed, tmp_path):
    """Python, templates, shell and YAML tags, in every file that holds text and in rows with right checksums."""
    code = f"__import__('pathlib').Path({str(executed)!r}).touch()"
    shell = f"$(touch {executed}); `touch {executed}`; !!python/object/apply:os.system ['touch {executed}']"
    for text in (code, shell, "{{" + code + "}}"):
        body = {"warning": text, "by": text, "finished": "completed"}
        append_raw(run / "journal.sqlite", "note", "t0001", encode(body))
    for path in [*(run / "code").iterdir(), *(run / "logs").iterdir()]:
        path.write_text(f"{code}\n")
    (run / "code/sitecustomize.py").write_text(code)
    (run / "code/torch.py").write_text(code)
    read_everything(tmp_path)
    assert not executed.exists()


@pytest.mark.parametrize("name", TRAVERSALS)
def test_a_trials_name_never_leads_outside(run, tmp_path, name):
    outside, before = outside_of(tmp_path)
    name = name.format(outside=str(outside).lstrip("/"))
    body = {"number": 4, "proposal": 4, "stage": "search", "fold": None, "repeat": 1, "config": {}, "seed": 1}
    append_raw(run / "journal.sqlite", "suggestion", name, encode({**body, "by": "x", "why": ""}))
    (found,) = doctor.examine(run)
    assert "names a trial" in found.what and found.severity == "error"
    read_everything(tmp_path)
    assert contents(outside) == before


@pytest.mark.parametrize("name", TRAVERSALS)
def test_a_checkpoints_path_never_leads_outside(run, tmp_path, name):
    outside, before = outside_of(tmp_path)
    path = name.format(outside=str(outside).lstrip("/"))
    sha256 = manifests._digest(outside / "manifest.json")
    connection = sqlite3.connect(run / "journal.sqlite")
    epoch = connection.execute("SELECT max(seq) FROM events WHERE kind = 'epoch' AND trial = 't0003'").fetchone()[0]
    connection.close()
    body = encode({"path": path, "sha256": sha256, "bytes": 1})
    append_raw(run / "journal.sqlite", "checkpoint", "t0003", body, epoch, 1, 9)
    (found,) = doctor.examine(run)
    assert "names a checkpoint" in found.what and found.severity == "error"
    with pytest.raises(checkpoints.DamagedCheckpoint):
        checkpoints.verify(run, CheckpointRecord(9, 1, path.replace("\0", ""), "0"))
    read_everything(tmp_path)
    assert contents(outside) == before


def test_names_in_json_files_never_lead_outside(run, tmp_path):
    outside, before = outside_of(tmp_path)
    entry = (run / "provenance.json").read_text().replace("code/mine.py", "../../outside/manifest.json")
    (run / "provenance.json").write_text(entry)
    (run / "best/manifest.json").write_text('{"files": {"../../../outside/manifest.json": {"sha256": "0"}, "..": 1}}')
    found = doctor.examine(run)
    assert any("names a file outside code/" in entry.what for entry in found)
    read_everything(tmp_path)
    assert contents(outside) == before


LINKS = [
    "driver.lock",
    "lease",
    "lease/1.json",
    "journal.mark",
    "journal.sqlite",
    "journal.backup.sqlite",
    "sweep.toml",
    ".sweep.toml.writing",
    ".best.writing",
    "best",
    "quarantine",
    "checkpoints",
    "checkpoints/t0003",
    "predictions/t0001.npz",
    "logs",
]


@pytest.mark.parametrize("name", LINKS)
def test_a_repair_follows_no_link(run, tmp_path, name):
    """What a link leads to is neither written, nor moved, nor deleted, nor cut short by taking the lock."""
    outside, before = outside_of(tmp_path)
    place = run / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    folder = place.suffix == "" and not name.endswith(".mark")
    place.symlink_to(outside if folder or name == ".best.writing" else outside / "manifest.json")
    (found,) = doctor.examine(run)
    assert "symbolic link" in found.what
    with pytest.raises(RunError, match="follows no symbolic link"):
        doctor.repair(run)
    read_everything(tmp_path)
    assert contents(outside) == before


def test_rows_without_their_parts_are_a_finding_and_no_crash(run, tmp_path):
    for kind, trial, body in (
        ("suggestion", "t0004", "{}"),
        ("note", "", '{"finished": "completed"}'),
    ):
        append_raw(run / "journal.sqlite", kind, trial, body)
    (found,) = doctor.examine(run)
    assert "lacks what its kind must have (number, proposal" in found.what
    assert run_command(["doctor", "one", "--repair"]) == 1


def test_a_file_of_another_kind_of_database_is_a_finding(run):
    (run / "journal.sqlite").unlink()
    connection = sqlite3.connect(run / "journal.sqlite")
    connection.executescript("CREATE VIEW events AS SELECT 1 AS seq; PRAGMA user_version = 2")
    connection.close()
    assert any(entry.path == "journal.sqlite" and entry.severity == "error" for entry in doctor.examine(run))


def test_a_journal_made_elsewhere_keeps_only_its_own_rows(tmp_path):
    """A name with a slash is refused where it is read, not only where it is used."""
    path = tmp_path / "journal.sqlite"
    with_row = Journal(path)
    with_row.append(Event("sweep", body={"toml": ""}), Event("note", "../x", body={}))
    with_row.close()
    assert any("names a trial ('../x')" in entry.what for entry in doctor.examine(tmp_path))


def outside_of(tmp_path):
    """Return a folder beside the runs that looks like a checkpoint, and what is in it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "manifest.json").write_text('{"files": {}}')
    (outside / "4-1").mkdir()
    return outside, contents(outside)


def contents(folder):
    return {
        path: (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }
