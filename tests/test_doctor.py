from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys

import pytest
import stateful_run

import tuner
from tuner import doctor
from tuner.backup import copy_journal
from tuner.doctor import repairing
from tuner.errors import RunError, TunerError
from tuner.history import Event
from tuner.journal import Journal
from tuner.run_folder import lock

# Damages a file kind, each replayable; of so few, every third is followed by a resume, of more, every one.
DAMAGES = int(os.environ.get("DAMAGES", "6"))
RESUME_EVERY = 3 if DAMAGES <= 10 else 1


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One finished run and one that was interrupted, as they are when nothing is wrong."""
    finished = stateful_run.make_finished(tmp_path_factory.mktemp("finished"))
    return {"finished": finished, "interrupted": stateful_run.make_interrupted(tmp_path_factory.mktemp("interrupted"))}


@pytest.fixture
def finished(made, tmp_path):
    return shutil.copytree(made["finished"], tmp_path / "one", symlinks=True)


@pytest.fixture
def interrupted(made, tmp_path):
    return shutil.copytree(made["interrupted"], tmp_path / "one", symlinks=True)


def problems(folder):
    return [found for found in doctor.examine(folder) if found.severity != "note"]


def one_problem(folder):
    (found,) = problems(folder)
    return found


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in folder.rglob("*")
    }


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(bytes(data))


def change_row(path, statement):
    connection = sqlite3.connect(path)
    connection.executescript(f"DROP TRIGGER no_update; DROP TRIGGER no_delete; {statement};")
    connection.executescript(_triggers())
    connection.close()


def _triggers():
    from tuner import journal

    return "".join(f"{line};\n" for line in journal._SCHEMA.split(";\n") if "TRIGGER" in line).replace("; END", "; END")


# -- a healthy run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["finished", "interrupted"])
def test_nothing_is_wrong_with_a_healthy_run_and_looking_changes_nothing(made, kind):
    before = tree(made[kind])
    assert doctor.examine(made[kind]) == []
    assert tree(made[kind]) == before
    assert doctor.repair(made[kind]) == []


def test_looking_imports_neither_torch_nor_ray(made):
    code = "import sys, pathlib; from tuner import doctor; doctor.examine(pathlib.Path(sys.argv[1]))"
    code += "; sys.exit(any(name in sys.modules for name in ('torch', 'ray', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code, made["finished"]], check=False).returncode == 0


def test_a_missing_folder_is_a_sentence(tmp_path):
    with pytest.raises(RunError, match="RUN must be a run folder"):
        doctor.examine(tmp_path / "none")


def test_a_killed_driver_leaves_nothing_wrong_behind(finished, tmp_path):
    """Its log is full, a write was cut short, a checkpoint came before its row: a note each, and a resume goes on."""
    killed = tmp_path / "killed"
    with_log = Journal(finished / "journal.sqlite")
    with_log.append(Event("note", body={"n": 1}))
    shutil.copytree(finished, killed)
    with_log.close()
    (killed / "checkpoints/t0003/.4-1.writing").mkdir()
    shutil.copytree(killed / "checkpoints/t0003/3-1", killed / "checkpoints/t0003/3-2")
    found = doctor.examine(killed)
    assert [entry.severity for entry in found] == ["note"] * 3
    assert "killed before it could fold" in found[0].what
    done = doctor.repair(killed)
    assert [sentence.split()[0] for sentence in done] == ["Deleted", "Moved"]
    # Whole, so it is moved, not deleted.
    (aside,) = killed.glob("quarantine/*/checkpoints/t0003/3-2/state.pt")
    assert aside.is_file()
    assert [entry.what for entry in doctor.examine(killed)] == [found[0].what]


# -- a driver at work --------------------------------------------------------------------------------------------


def test_a_live_driver_is_named_and_never_disturbed(interrupted):
    (interrupted / "checkpoints/t0002/.3-1.writing").mkdir()
    with lock(interrupted):
        (found,) = doctor.examine(interrupted)
        assert found.severity == "note"
        assert f"process {os.getpid()} on" in found.what
        with pytest.raises(RunError, match=rf"only one driver.*process {os.getpid()}"):
            doctor.repair(interrupted)
    assert (interrupted / "checkpoints/t0002/.3-1.writing").is_dir()


# -- the journal -------------------------------------------------------------------------------------------------


def test_a_damaged_row_is_named_and_comes_back_out_of_the_backup_with_all_rows_after_it(made, interrupted):
    rows = len(Journal(interrupted / "journal.sqlite").events())
    change_row(interrupted / "journal.sqlite", "UPDATE events SET body = '{}' WHERE seq = 4")
    found = one_problem(interrupted)
    assert found.severity == "error"
    assert found.what == f"{interrupted / 'journal.sqlite'}: row 4 is missing, or does not match its checksum."
    assert f"regains all {rows} rows" in found.remedy
    (done,) = doctor.repair(interrupted)
    assert f"rows 1 to {rows} (" in done and "out of the backup), none is lost" in done
    assert doctor.examine(interrupted) == []
    assert list(interrupted.glob("quarantine/*/journal.sqlite"))
    assert resumed(interrupted) == stateful_run.frames(made["finished"])


def test_rows_after_a_gap_in_both_are_lost_and_trained_again(made, interrupted):
    rows = len(Journal(interrupted / "journal.sqlite").events())
    (interrupted / "journal.backup.sqlite").unlink()
    change_row(interrupted / "journal.sqlite", "UPDATE events SET body = '{}' WHERE seq = 9")
    assert f"regains rows 1 to 8; the {rows - 8} rows after them are lost" in one_problem(interrupted).remedy
    (done, *_) = doctor.repair(interrupted)
    assert f"{rows - 8} rows after them are lost" in done
    # A trial that had ended is to be trained again, and its checkpoints were pruned.
    assert [entry.meaning for entry in problems(interrupted)] == ["Its trial starts over."]
    assert resumed(interrupted) == stateful_run.frames(made["finished"])


def test_a_missing_journal_comes_back_out_of_its_backup(made, interrupted):
    (interrupted / "journal.sqlite").unlink()
    assert "there is no such file" in one_problem(interrupted).what
    doctor.repair(interrupted)
    assert problems(interrupted) == []
    assert resumed(interrupted) == stateful_run.frames(made["finished"])


def test_without_a_journal_and_a_backup_nothing_is_made_up(interrupted):
    (interrupted / "journal.backup.sqlite").unlink()
    (interrupted / "journal.sqlite").write_bytes(b"")
    found = problems(interrupted)[0]
    assert found.repair is None
    assert "Put a copy of your own in its place" in found.remedy
    before = tree(interrupted)
    doctor.repair(interrupted)
    # Nothing but that somebody was at it.
    changed = {name.partition("/")[0] for name, data in tree(interrupted).items() if data != before.get(name)}
    assert "lease" in changed <= {"driver.lock", "lease"}


def test_an_older_copy_of_the_journal_is_found_by_the_mark(interrupted):
    newer = Journal(interrupted / "journal.sqlite")
    newer.append(Event("note", body={"warning": "a row that the backup has not"}))
    newer.close()
    shutil.copy(interrupted / "journal.backup.sqlite", interrupted / "journal.sqlite")
    assert "committed rows are missing" in one_problem(interrupted).what


def test_the_backup_of_another_sweep_is_never_mixed_in(interrupted, tmp_path):
    (interrupted / "journal.backup.sqlite").unlink()
    (tmp_path / "other").mkdir()
    other = Journal(tmp_path / "other/journal.sqlite")
    other.append(Event("sweep", body={"toml": "[other]"}))
    other.close()
    (tmp_path / "other/journal.sqlite").rename(interrupted / "journal.backup.sqlite")
    (interrupted / "journal.mark").unlink()
    found = problems(interrupted)
    assert [entry.repair for entry in found] == ["mark", "backup"]
    assert "of another sweep" in found[1].what
    doctor.repair(interrupted)
    assert problems(interrupted) == []


def test_a_parent_that_was_changed_is_found(interrupted):
    """The row's checksum says nothing of it, and SQLite is content as long as there is such a row."""
    change_row(interrupted / "journal.sqlite", "UPDATE events SET parent = 1 WHERE seq = 5")
    assert "row 5 hangs on another row" in one_problem(interrupted).what


def test_a_repair_that_was_cut_short_is_taken_up_again(interrupted, made, monkeypatch):
    """Between any two of its steps, every row is still in the journal or in its backup."""
    change_row(interrupted / "journal.sqlite", "UPDATE events SET body = '{}' WHERE seq = 4")
    copies = []

    def stop_at_the_second(source, target):
        copies.append(target)
        if len(copies) == 2:
            raise RunError("killed here")
        return copy_journal(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(repairing, "copy_journal", stop_at_the_second)
        with pytest.raises(RunError, match="killed here"):
            doctor.repair(interrupted)
    doctor.repair(interrupted)
    assert problems(interrupted) == []
    assert resumed(interrupted) == stateful_run.frames(made["finished"])


# -- the other files ---------------------------------------------------------------------------------------------


def test_an_edited_sweep_is_told_key_by_key_and_written_from_the_journal(interrupted):
    path = interrupted / "sweep.toml"
    frozen = path.read_text()
    path.write_text(frozen.replace("seed = 0", "seed = 1"))
    found = one_problem(interrupted)
    assert "sweep.seed is 1 and was 0" in found.what
    assert "tuner resume --set" in found.remedy
    doctor.repair(interrupted)
    assert path.read_text() == frozen
    # What somebody wrote is kept.
    assert len(list(interrupted.glob("quarantine/*/sweep.toml"))) == 1


def test_changed_code_is_an_error_that_only_a_person_can_put_right(interrupted):
    (interrupted / "code/helper.py").write_text("rate = None\n")
    (interrupted / "code/more.py").write_text("")
    changed, more = problems(interrupted)
    assert (changed.path, changed.severity, changed.repair) == ("code/helper.py", "error", None)
    assert (more.path, more.severity) == ("code/more.py", "warning")
    doctor.repair(interrupted)
    # Not even moved: it may be provenance.json that is damaged, and the sweep needs its code.
    assert problems(interrupted) == [changed, more]
    assert (interrupted / "code/more.py").is_file()


def test_a_damaged_newest_checkpoint_says_where_its_trial_goes_on(made, interrupted):
    flip(interrupted / "checkpoints/t0002/2-1/state.pt", 4000)
    found = one_problem(interrupted)
    assert found.severity == "error"
    assert f"{interrupted / 'checkpoints/t0002/2-1'}: the checkpoint of t0002, epoch 2, is damaged." == found.what
    assert "its trial goes on from epoch 1" in found.meaning
    doctor.repair(interrupted)
    (note,) = doctor.examine(interrupted)
    assert (note.severity, "put aside" in note.what) == ("note", True)
    assert resumed(interrupted) == stateful_run.frames(made["finished"])


def test_a_missing_newest_checkpoint_is_told_but_a_pruned_one_is_not(interrupted):
    shutil.rmtree(interrupted / "checkpoints/t0002/1-1")
    shutil.rmtree(interrupted / "checkpoints/t0002/2-1")
    found = one_problem(interrupted)
    assert "newest checkpoint of t0002 is missing" in found.what
    assert found.meaning == "Its trial starts over."


def test_best_is_written_anew_from_the_journal(finished):
    before = tree(finished / "best")
    (finished / "best/metrics.json").write_text("{}")
    flip(finished / "best/model.pt", 8 * 700)
    (finished / "best/config.toml").unlink()
    assert {found.path for found in problems(finished)} >= {"best/config.toml", "best/metrics.json"}
    doctor.repair(finished)
    assert tree(finished / "best") == before


def test_a_model_whose_checkpoint_is_gone_outlives_the_repair_of_best(finished):
    before = tree(finished / "best")
    shutil.rmtree(finished / "checkpoints")
    (finished / "best/config.toml").write_text("")
    doctor.repair(finished)
    assert tree(finished / "best") == before
    assert len(list(finished.glob("quarantine/*/best/config.toml"))) == 1


def test_the_lost_model_of_the_best_epoch_is_told(finished):
    best = tuner.load(finished).best()
    shutil.rmtree(finished / f"checkpoints/{best.trial}/{best.epoch}-1")
    # The model in best/ is enough.
    assert problems(finished) == []
    (finished / "best/model.pt").unlink()
    assert "its trained model is lost" in one_problem(finished).meaning


def test_files_of_unknown_trials_are_put_aside(finished):
    (finished / "logs/t0009-1.log").write_text("")
    (finished / "predictions/t0009.npz").write_bytes((finished / "predictions/t0001.npz").read_bytes())
    (finished / "checkpoints/t0009/1-1").mkdir(parents=True)
    found = doctor.examine(finished)
    assert sorted(entry.path for entry in found) == ["checkpoints/t0009", "logs/t0009-1.log", "predictions/t0009.npz"]
    doctor.repair(finished)
    assert doctor.examine(finished) == []
    assert list(finished.glob("quarantine/*/checkpoints/t0009/1-1"))


# -- truncations and flipped bits --------------------------------------------------------------------------------

FILES = {
    "journal.sqlite": "interrupted",
    "journal.backup.sqlite": "interrupted",
    "journal.mark": "interrupted",
    "sweep.toml": "interrupted",
    "provenance.json": "interrupted",
    "code/helper.py": "interrupted",
    "checkpoints/t0002/2-1/manifest.json": "interrupted",
    "checkpoints/t0002/2-1/state.pt": "interrupted",
    "predictions/t0002/2-1.npz": "interrupted",
    "predictions/t0001.npz": "finished",
    "best/config.toml": "finished",
    "best/metrics.json": "finished",
    "best/model.pt": "finished",
}


def damage(path, seed):
    """Truncate the file, or flip a bit of it: each seed does the same every time."""
    rng = random.Random(f"{path.name}/{seed}")
    data = path.read_bytes()
    if seed < 3:
        path.write_bytes(data[: rng.randrange(len(data))])
    else:
        flip(path, rng.randrange(8 * len(data)))


@pytest.mark.parametrize("name", FILES)
def test_every_damage_is_found_and_named_or_does_no_harm(made, tmp_path, name):
    untouched = stateful_run.frames(made["finished"])
    for seed in range(DAMAGES):
        folder = shutil.copytree(made[FILES[name]], tmp_path / str(seed) / "one")
        damage(folder / name, seed)
        found = problems(folder)
        for entry in found:
            assert entry.what.startswith(str(folder)), entry
            assert entry.meaning and entry.remedy
        if found:
            # A sentence names the damaged file, or the folder it is the core of.
            assert any(name in entry.what or f"{name}/".startswith(f"{entry.path}/") for entry in found), found
        doctor.repair(folder)
        left = [entry for entry in problems(folder) if entry.repair]
        assert left == [], seed
        if name.startswith("code/"):
            continue  # only a person has the code as it was
        if seed % RESUME_EVERY == 0:
            assert resumed(folder) == untouched, (name, seed)


def resumed(folder):
    """Resume, and return the frames; a trial that a resume must not begin anew would show in its attempts."""
    tuner.resume(folder, backend="inline")
    assert json.loads((folder / "best/metrics.json").read_text())["trial"] == tuner.load(folder).best().trial
    return stateful_run.frames(folder)


@pytest.mark.parametrize("seed", range(DAMAGES))
def test_a_damaged_journal_is_refused_by_name_or_read_as_it_was(made, tmp_path, seed):
    """Nothing starts over in silence: what is not refused gives the same rows."""
    folder = shutil.copytree(made["interrupted"], tmp_path / "one")
    damage(folder / "journal.sqlite", seed)
    try:
        read = stateful_run.frames(folder)
    except TunerError as error:
        assert str(folder / "journal.sqlite") in str(error)
        assert "tuner doctor" in str(error) or "empty, or no journal" in str(error) or "newer version" in str(error)
    else:
        assert read == stateful_run.frames(made["interrupted"])
