"""The journal: append-only, one order, all or nothing, durable; damage is told, never read over."""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner import journal
from tuner.bodies import decode, encode
from tuner.errors import RunError
from tuner.history import Event, fold
from tuner.journal import FILE_NAME, MARK_NAME, Journal, read, read_history

SUGGESTION = {
    "number": 1,
    "proposal": 1,
    "stage": "search",
    "fold": None,
    "repeat": 1,
    "config": {"learning_rate": 0.1},
    "seed": 7,
    "by": "random",
    "why": "",
}
METRICS = {"metrics": {"loss": 0.1}, "elapsed_s": 1.0, "worker": "host:1"}


def a_trial(trial="t0001", epochs=2):
    """Return the events of one trial, in the order a driver commits them."""
    events = [Event("suggestion", trial, body=SUGGESTION), Event("attempt", trial, 1, body={"start_epoch": 0})]
    for epoch in range(1, epochs + 1):
        events.append(Event("epoch", trial, 1, epoch, METRICS))
        events.append(Event("checkpoint", trial, 1, epoch, {"path": f"{epoch}", "sha256": "0"}))
    events.append(Event("stop", trial, 1, epochs, {"reason": "weak"}))
    events.append(Event("end", trial, 1, body={"status": "stopped", "cause": None, "error": None}))
    return events


@pytest.fixture
def path(tmp_path):
    return tmp_path / FILE_NAME


@pytest.fixture
def opened(path):
    with contextlib.closing(Journal(path)) as found:
        yield found


def made(path, trials=3):
    """Write a closed journal of some trials and return its events."""
    with contextlib.closing(Journal(path)) as writer:
        writer.append(Event("sweep", body={"toml": "x"}))
        for number in range(1, trials + 1):
            writer.append(*a_trial(f"t{number:04d}"))
    return read(path)


def tampered(path, *statements):
    """Change a journal as no driver ever would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in ("DROP TRIGGER no_update", "DROP TRIGGER no_delete", *statements):
            connection.execute(statement)


# -- one order, all or nothing ------------------------------------------------------------------------------------


def test_events_come_back_in_one_order_with_their_place_and_time(opened, path):
    before = time.time()
    first = opened.append(Event("sweep", body={"toml": "x"}), *a_trial())
    second = opened.append(Event("note", body={"finished": "completed"}, at=12.5))
    done = [*first, *second]
    assert [event.seq for event in done] == list(range(1, len(done) + 1))
    assert all(before <= event.at <= time.time() for event in first)
    assert second[0].at == 12.5  # a time that is given is kept
    assert opened.events() == done == read(path)


def test_the_history_is_the_fold_of_the_events(path):
    events = made(path)
    assert read_history(path) == fold(events)


def test_an_empty_append_commits_nothing(opened):
    assert opened.append() == []
    assert opened.append(Event("note"))[0].seq == 1


@pytest.mark.parametrize(
    "orphan",
    [
        Event("attempt", "t0002", 1),
        Event("epoch", "t0001", 2, 1),
        Event("end", "t0001", 2),
        Event("checkpoint", "t0001", 1, 3),
        Event("stop", "t0001", 1, 3),
        Event("checkpoint", "t0001", 2, 1),
    ],
    ids=lambda event: f"{event.kind} {event.trial}-{event.attempt}-{event.epoch}",
)
def test_an_orphan_is_refused_and_nothing_with_it(opened, orphan):
    opened.append(*a_trial())
    before = opened.events()
    with pytest.raises(sqlite3.IntegrityError):
        opened.append(Event("note", body={"with": "it"}), orphan)
    assert opened.events() == before
    # The journal goes on with the very next place.
    assert opened.append(Event("note"))[0].seq == len(before) + 1


@pytest.mark.parametrize("again", [Event("sweep"), *a_trial()], ids=lambda event: f"{event.kind} {event.epoch}")
def test_a_second_row_of_a_kind_is_refused(opened, again):
    opened.append(Event("sweep"), *a_trial())
    before = opened.events()
    with pytest.raises(sqlite3.IntegrityError):
        opened.append(again)
    assert opened.events() == before
    assert opened.append(Event("note"))[0].seq == len(before) + 1


def test_sessions_and_notes_may_come_again(opened):
    opened.append(Event("session"), Event("note"), Event("note", "t0001"), Event("session"))
    assert len(opened.events()) == 4


def test_an_unknown_kind_is_refused(opened):
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        opened.append(Event("epcoh"))


def test_a_body_that_is_no_json_is_refused_and_the_journal_goes_on(opened):
    with pytest.raises(TypeError):
        opened.append(Event("note", body={"fine": 1}), Event("note", body={"array": np.zeros(2)}))
    assert opened.append(Event("note"))[0].seq == 1


@pytest.mark.parametrize("statement", ["UPDATE events SET body = '{}'", "DELETE FROM events WHERE seq = 2"])
def test_rows_can_neither_be_changed_nor_deleted(path, statement):
    before = made(path)
    with contextlib.closing(sqlite3.connect(path)) as other, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute(statement)
    assert read(path) == before


def test_a_signal_just_after_a_commit_loses_nothing(opened, monkeypatch):
    opened.append(Event("note"))

    def interrupted(last):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(opened, "_write_mark", interrupted)
        opened.append(Event("note", body={"in": "time"}))
    # What was committed stays, and what the driver still has to say finds its place.
    assert opened.append(Event("note", body={"finished": "interrupted"}))[0].seq == 3
    assert [event.body for event in opened.events()] == [{}, {"in": "time"}, {"finished": "interrupted"}]


def test_a_second_writer_is_noticed(opened, path):
    opened.append(Event("note"))
    with contextlib.closing(Journal(path)) as other:
        other.append(Event("note", body={"by": "the other"}))
        # Whoever comes late never interleaves its rows, however often it tries.
        for _ in range(2):
            with pytest.raises(RunError, match="another has appended row 2"):
                opened.append(Event("note", body={"by": "this"}))
    assert [event.body for event in read(path)] == [{}, {"by": "the other"}]


def test_an_append_looks_nothing_up_by_scanning(opened):
    # Or 10,000 trials would cost the square of what 100 cost.
    statements = []
    opened._connection.set_trace_callback(statements.append)
    opened.append(*a_trial())
    opened._connection.set_trace_callback(None)
    selects = [statement for statement in statements if statement.startswith("SELECT")]
    assert len(selects) == 7
    for statement in selects:
        plan = opened._connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        assert all("SCAN" not in step[-1] for step in plan), statement


# -- values ---------------------------------------------------------------------------------------------------------

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.sampled_from(["float", "a"]) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=8)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.dictionaries(KEYS, VALUES))
def test_a_body_comes_back_as_it_was(body):
    # repr tells 1 from 1.0 from True, -0.0 from 0.0, and every bit of a float.
    assert repr(decode(encode(body))) == repr(body)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.floats(width=64))
def test_a_float_comes_back_with_every_bit(value):
    back = decode(encode({"x": value}))["x"]
    assert math.isnan(back) if math.isnan(value) else back.hex() == value.hex()


@pytest.mark.parametrize(
    "body",
    [
        {"float": "nan"},
        {"float": 1.5},
        {"config": {"float": math.nan}},
        {"config": {"float": [math.inf]}},
        {"float": {"float": {"float": -math.inf, "other": 1}}},
        {"error": "\udcff is not UTF-8", "x": math.nan},
        {"error": "half a pair: \ud800"},
        {"big": 2**200, "small": -(2**63)},
        {"text": "ü ✓ 𝄞 \x00 \n"},
    ],
    ids=lambda body: repr(body)[:30],
)
def test_odd_bodies_come_back(opened, body):
    opened.append(Event("note", body=body))
    assert repr(opened.events()[0].body) == repr(body)


def test_tuples_and_numpys_floats_come_back_as_plain(opened):
    opened.append(Event("note", body={"list": (1, 2.0), "float": np.float64(0.1)}))
    assert repr(opened.events()[0].body) == "{'list': [1, 2.0], 'float': 0.1}"


# -- durable --------------------------------------------------------------------------------------------------------


def test_a_commit_is_flushed_to_the_disk_before_append_returns(opened):
    def pragma(name):
        return opened._connection.execute(f"PRAGMA {name}").fetchone()[0]

    # FULL (2): in WAL mode, NORMAL would lose the newest commits when the machine loses power.
    assert (pragma("journal_mode"), pragma("synchronous"), pragma("foreign_keys")) == ("wal", 2, 1)


WRITER = """
    import sys
    from pathlib import Path
    from tuner.history import Event
    from tuner.journal import Journal
    journal = Journal(Path(sys.argv[1]))
    while True:
        done = journal.append(Event("note", body={"half": 1}), Event("note", body={"half": 2}))
        print(done[-1].seq, flush=True)
"""


@contextlib.contextmanager
def writing(path):
    """Append pairs of rows in a process of its own, which prints the place of each pair's second row."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def killed(path, after):
    """Kill a writer with SIGKILL once it has said that many pairs were committed; return the last place it said."""
    with writing(path) as process:
        said = [int(process.stdout.readline()) for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        return max([*said, *map(int, rest)])


def test_a_killed_writer_loses_nothing_that_it_was_told_is_safe(path):
    said = 0
    for after in (1, 7, 30):
        said = killed(path, after)
        events = read(path)
        # At most the pair that was being committed is there beyond what was said, and no half of a pair.
        assert len(events) in (said, said + 2)
        assert [event.body["half"] for event in events] == [1, 2] * (len(events) // 2)
    with contextlib.closing(Journal(path)) as writer:
        assert writer.append(Event("note"))[0].seq in (said + 1, said + 3)


def test_readers_see_whole_transactions_while_a_driver_writes(path):
    lengths = []
    with writing(path) as process:
        process.stdout.readline()
        while len(set(lengths)) < 10:
            assert process.poll() is None
            events = read(path)
            assert [event.body["half"] for event in events] == [1, 2] * (len(events) // 2)
            lengths.append(len(events))
    # Each reading is a beginning of the same order, never a shorter one.
    assert lengths == sorted(lengths)


def test_a_disk_without_room_is_told_and_the_journal_goes_on_once_there_is_some(opened):
    opened.append(Event("note"))
    pages = opened._connection.execute("PRAGMA page_count").fetchone()[0]
    opened._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(RunError, match=r"journal.sqlite: .*full.*disk's room"):
        opened.append(*(Event("note", body={"text": "x" * 3000}) for _ in range(20)))
    opened._connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert opened.append(Event("note"))[0].seq == 2


# -- reading leaves no trace ----------------------------------------------------------------------------------------


def test_reading_leaves_no_file_behind_and_changes_none(path):
    made(path)
    before = {child.name: (child.read_bytes(), child.stat().st_mtime_ns) for child in path.parent.iterdir()}
    assert set(before) == {FILE_NAME, MARK_NAME}
    read(path)
    assert {child.name: (child.read_bytes(), child.stat().st_mtime_ns) for child in path.parent.iterdir()} == before


@pytest.fixture
def shelf():
    """A folder that any account may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def rows_read_without_rights(path):
    """Return how many rows a process that may write nothing reads, or what it was told."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:  # root may write everywhere, so become somebody who may not
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            answer = str(len(read(path)))
        except BaseException as error:
            answer = str(error)
        os.write(send, answer.encode())
        os._exit(0)
    os.close(send)
    os.waitpid(child, 0)
    with os.fdopen(receive) as file:
        return file.read()


def read_only(folder):
    """Take every right to write from a folder and its files."""
    for child in [*folder.iterdir(), folder]:
        child.chmod(child.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))


def test_a_folder_that_may_not_be_written_can_be_read(shelf):
    rows = len(made(shelf / FILE_NAME))
    read_only(shelf)
    assert rows_read_without_rights(shelf / FILE_NAME) == str(rows)
    shelf.chmod(0o755)


def test_what_a_killed_driver_left_can_be_read_where_nothing_may_be_written(shelf):
    said = killed(shelf / FILE_NAME, 5)
    assert (shelf / f"{FILE_NAME}-wal").stat().st_size > 0
    rows = len(read(shelf / FILE_NAME))
    assert rows >= said
    read_only(shelf)
    assert rows_read_without_rights(shelf / FILE_NAME) == str(rows)
    shelf.chmod(0o755)


# -- damage ---------------------------------------------------------------------------------------------------------


def refusals(path):
    """Return what a reader and a driver are told of a journal that must be refused."""
    with pytest.raises(RunError) as reading:
        read(path)
    with pytest.raises(RunError) as driving, contextlib.closing(Journal(path)) as writer:
        writer.events()  # a driver that opens a journal reads it whole
    sentences = [str(reading.value), str(driving.value)]
    assert all(str(path) in sentence for sentence in sentences)
    return sentences


def test_a_missing_journal_is_told(path):
    with pytest.raises(RunError, match=r"journal.sqlite: .* there is none. `tuner ls`"):
        read(path)
    assert not list(path.parent.iterdir())  # and none is made by looking


@pytest.mark.parametrize("keep", [0, 1, 50, 100, 4095, 4096, 8192, -4096, -1])
def test_a_truncated_file_is_refused(path, keep):
    made(path, trials=20)
    size = path.stat().st_size
    os.truncate(path, keep if keep >= 0 else size + keep)
    before = path.read_bytes()
    refusals(path)
    assert path.read_bytes() == before  # a driver must not begin anew over it


def test_a_deleted_file_is_not_begun_anew(path):
    made(path)
    path.unlink()
    with pytest.raises(RunError, match="25 committed rows are missing"):
        Journal(path)


def test_an_older_copy_is_refused(path, tmp_path):
    made(path, trials=1)
    older = shutil.copy(path, tmp_path / "older")
    with contextlib.closing(Journal(path)) as writer:
        writer.append(*a_trial("t0002"))
    shutil.copy(older, path)
    for sentence in refusals(path):
        assert "8 committed rows are missing (row 17 was the last, the file ends at row 9)" in sentence
        assert "older copy" in sentence


def test_a_copy_without_the_log_beside_it_is_refused(path):
    killed(path, 5)
    path.with_name(f"{FILE_NAME}-wal").unlink()
    with pytest.raises(RunError, match=r"committed rows are missing|schema version"):
        read(path)


def test_a_row_that_was_changed_is_named(path):
    made(path)
    tampered(path, "UPDATE events SET body = replace(body, '0.1', '0.2') WHERE seq = 4")
    with pytest.raises(RunError, match=r"row 4 does not match its checksum.*`tuner doctor`"):
        read(path)


@pytest.mark.parametrize("column", ["kind = 'note'", "trial = 't0009'", "attempt = 8", "epoch = 8", "at = at + 1"])
def test_every_column_of_a_row_is_under_its_checksum(path, column):
    made(path)
    tampered(path, f"UPDATE events SET {column} WHERE seq = 4")
    with pytest.raises(RunError, match="row 4 does not match its checksum"):
        read(path)


def test_a_missing_row_is_named(path):
    made(path)
    tampered(path, "DELETE FROM events WHERE seq = 4")
    with pytest.raises(RunError, match="row 4 is missing"):
        read(path)


def test_missing_last_rows_are_counted(path):
    made(path)
    tampered(path, "DELETE FROM events WHERE seq > 20")
    for sentence in refusals(path):
        assert "5 committed rows are missing (row 25 was the last, the file ends at row 20)" in sentence


def flipped(data, rng):
    """Return the bytes with one bit of them turned over."""
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def outcome(path):
    """Return the events, or None where the journal is refused with the file's name."""
    try:
        return read(path)
    except RunError as error:
        assert str(path) in str(error)
        return None


def test_a_flipped_bit_is_told_or_harmless(path):
    events, whole = made(path, trials=12), path.read_bytes()
    rng = random.Random(0)
    told = 0
    for _ in range(150):
        path.write_bytes(flipped(whole, rng))
        found = outcome(path)
        assert found in (None, events)
        told += found is None
    assert told > 40  # most bits matter: rows, or what finds them


def test_a_flipped_bit_in_the_log_of_a_killed_driver_is_told_or_harmless(path):
    said = killed(path, 8)
    events, folder = read(path), path.parent
    whole = {child: child.read_bytes() for child in folder.iterdir()}
    log = path.with_name(f"{FILE_NAME}-wal")
    rng = random.Random(1)
    told = 0
    for _ in range(60):
        for child, data in whole.items():
            child.write_bytes(data)
        log.write_bytes(flipped(whole[log], rng))
        path.with_name(f"{FILE_NAME}-shm").unlink()  # as after a restart of the machine
        found = outcome(path)
        # The kill may have come between a pair's commit and its mark: nobody was told that it is safe.
        assert found in (None, events, events[:said])
        told += found is None
    # SQLite itself drops what does not match in the log, without a word: it is the mark that tells.
    assert told > 20


@pytest.mark.parametrize(
    "mark",
    [None, b"", b"\xff\xfe", b"99999999999999999999", b"00000000000000000099 00000000\n", "²".encode() * 20],
    ids=["missing", "empty", "no text", "no sum", "wrong sum", "odd digits"],
)
def test_a_damaged_mark_is_harmless(path, mark):
    events = made(path)
    beside = path.with_name(MARK_NAME)
    beside.unlink() if mark is None else beside.write_bytes(mark)
    assert read(path) == events
    with contextlib.closing(Journal(path)) as writer:
        writer.append(Event("note"))
    # And it is right again after the next commit.
    tampered(path, "DELETE FROM events WHERE seq = 26")
    assert "1 committed rows are missing" in refusals(path)[0]


def test_a_flipped_bit_in_the_mark_is_harmless(path):
    events, mark = made(path), path.with_name(MARK_NAME)
    whole = mark.read_bytes()
    rng = random.Random(2)
    for _ in range(50):
        mark.write_bytes(flipped(whole, rng))
        assert read(path) == events


def test_a_mark_that_cannot_be_written_costs_no_row(opened, path):
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), opened._mark)
    assert opened.append(Event("note"))[0].seq == 1
    assert opened.append(Event("note"))[0].seq == 2
    assert len(read(path)) == 2


def test_what_is_no_database_is_refused(path):
    path.write_text("a note to myself\n" * 500)
    assert all("not a database" in sentence for sentence in refusals(path))


def test_somebody_elses_database_is_refused_and_left_alone(path):
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY)")
    before = path.read_bytes()
    assert all("It is empty, or no journal" in sentence for sentence in refusals(path))
    assert path.read_bytes() == before
    assert [child.name for child in path.parent.iterdir()] == [FILE_NAME]


def test_a_newer_journal_is_refused_with_the_remedy(path):
    made(path)
    tampered(path, "PRAGMA user_version = 99")
    for sentence in refusals(path):
        assert "must be 2, but got (99). A newer version wrote it: update this project." in sentence


def test_a_journal_from_before_the_first_release_is_refused_and_not_called_damaged(path):
    made(path)
    tampered(path, "PRAGMA user_version = 1")
    for sentence in refusals(path):
        assert "must be 2, but got (1). A version before the first release wrote it: run that sweep again." in sentence


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(RunError, match="unable to open"):
        Journal(tmp_path / "nowhere" / FILE_NAME)


# -- migrations -----------------------------------------------------------------------------------------------------


@pytest.fixture
def newer(monkeypatch):
    """Make this project one schema version newer, with a migration to it."""

    def migrate(script):
        monkeypatch.setattr(journal, "SCHEMA_VERSION", 3)
        monkeypatch.setattr(journal, "_MIGRATIONS", {2: script})

    return migrate


def version(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def test_an_older_journal_is_migrated_when_a_driver_opens_it(path, newer):
    events = made(path)
    newer("CREATE TABLE lease (token TEXT) STRICT;")
    assert read(path) == events  # a reader takes it as it is
    assert version(path) == 2
    with contextlib.closing(Journal(path)) as writer:
        assert writer.events() == events
        assert writer.append(Event("note"))[0].seq == 26
        writer._connection.execute("INSERT INTO lease VALUES ('a')")
    assert version(path) == 3


def test_a_new_journal_passes_through_every_version(path, newer):
    newer("CREATE TABLE lease (token TEXT) STRICT;")
    Journal(path).close()
    assert version(path) == 3


def test_a_migration_that_fails_changes_nothing(path, newer, monkeypatch):
    events = made(path)
    with monkeypatch.context():
        newer("CREATE TABLE lease (token TEXT); CREATE TABLE lease (token TEXT);")
        with pytest.raises(RunError, match="already exists"):
            Journal(path)
    assert version(path) == 2
    assert read(path) == events
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'lease'").fetchone() is None


def test_a_mark_that_is_a_link_is_refused_and_not_followed(path, tmp_path):
    made(path)
    outside = tmp_path / "outside"
    outside.write_text("mine")
    path.with_name(MARK_NAME).unlink()
    path.with_name(MARK_NAME).symlink_to(outside)
    with pytest.raises(RunError, match="the journal cannot be used"):
        Journal(path)
    assert outside.read_text() == "mine"
