from __future__ import annotations

import sqlite3

import pytest

from tuner.backup import Backup, check, copy_journal
from tuner.errors import RunError
from tuner.history import Event
from tuner.journal import Journal
from tuner.salvage import Source, merged


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path):
    journal = Journal(path)
    journal.append(Event("sweep", body={"toml": "[sweep]"}), *(Event("note", body={"n": n}) for n in range(99)))
    yield journal
    journal.close()


def rows(path):
    with Source(path) as source:
        return [event for event, _ in source.rows()]


def break_row(path, seq):
    """Change a row behind the journal's back, as a flipped bit would."""
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER no_update")
    connection.execute("UPDATE events SET body = replace(body, 'n', 'm') WHERE seq = ?", (seq,))
    connection.commit()
    connection.close()


def test_a_copy_made_while_the_driver_writes_is_whole_and_later_rows_are_not_in_it(path, journal):
    backup = Backup(path)
    assert backup.now() == 100
    journal.append(Event("note", body={"n": 100}))
    assert rows(backup.path) == journal.events()[:100]
    assert backup.now() == 101
    assert rows(backup.path) == journal.events()


def test_a_copy_is_one_file_and_leaves_nothing_beside_it(path):
    journal = Journal(path)
    journal.append(Event("sweep", body={"toml": ""}))
    journal.close()
    Backup(path).now()
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "journal.backup.sqlite",
        "journal.mark",
        "journal.sqlite",
    ]


def test_maybe_waits_for_its_time(path, journal):
    assert not Backup(path, every_s=3600).maybe()
    assert not Backup(path, every_s=3600).path.exists()
    assert Backup(path, every_s=0).maybe()


def test_damage_never_reaches_the_backup(path, journal):
    backup = Backup(path, every_s=0)
    backup.now()
    good = backup.path.read_bytes()
    break_row(path, 50)
    with pytest.raises(RunError, match=r"rows 1 to 49 of 100 are whole.*tuner doctor"):
        backup.now()
    # The sweep goes on; the driver may tell.
    later = Backup(path, every_s=0)
    assert not later.maybe()
    assert "rows 1 to 49 of 100" in (later.error or "")
    assert backup.path.read_bytes() == good
    assert not list(path.parent.glob(".*.writing*"))


def test_a_place_that_cannot_be_written_is_a_sentence(path, journal):
    with pytest.raises(RunError, match=r"could not be written .*disk's room"):
        copy_journal(path, path.parent / "missing/journal.backup.sqlite")


def test_a_leftover_of_a_killed_driver_is_replaced_and_a_link_is_not_followed(path, journal, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / ".journal.backup.sqlite.writing").symlink_to(outside)
    assert Backup(path).now() == 100
    assert outside.read_text() == "mine"


def test_an_empty_file_is_no_copy(tmp_path):
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(RunError, match="rows 1 to 0 of 0"):
        check(tmp_path / "empty.sqlite")


def test_rows_are_taken_from_whichever_file_has_them(path, journal):
    backup = Backup(path)
    backup.now()
    journal.append(Event("note", body={"n": 100}))
    break_row(path, 50)
    with Source(path) as source, Source(backup.path) as other:
        assert source.row(50) is None
        assert len(list(merged([source]))) == 49
        # Row 50 out of the backup; row 101, which came after the backup, out of the journal.
        assert [event.seq for event, _ in merged([source, other])] == list(range(1, 102))
