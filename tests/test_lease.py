from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conformance_backends import make_sweep
from made_runs import Made, make_run

import tuner
from tuner import doctor, lease
from tuner.drive import Watch
from tuner.errors import RunError
from tuner.history import Event
from tuner.journal import Journal, read
from tuner.lease import Lease, standing
from tuner.lease_folder import LeaseFolder
from tuner.results import is_driven, load
from tuner.run_folder import lock

sys.path.append(str(Path(__file__).resolve().parents[1]))  # benchmarks/ is no installed package

from benchmarks.chaos.hosts import pretend

ROOT = Path(__file__).resolve().parents[1]
DAMAGES = int(os.environ.get("DAMAGES", "10"))


@pytest.fixture
def on(monkeypatch):
    """Look at everything from another host, or so many seconds later; the clocks are all that is not real."""

    @contextlib.contextmanager
    def elsewhere(host=None, later=0.0, skew=0.0):
        with monkeypatch.context() as patch:
            if host:
                patch.setattr(lease, "boot_id", lambda: host)
            patch.setattr(lease, "wall_clock", lambda: time.time() + later + skew)
            patch.setattr(lease, "awake_clock", lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + later)
            yield

    return elsewhere


@pytest.fixture
def drive(tmp_path):
    """Take the lease of one folder; what is still held at the end is closed."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(Lease(LeaseFolder(tmp_path), tmp_path))


def newest(folder):
    return standing(LeaseFolder(folder))


def entry(folder, number=1):
    return json.loads((folder / f"lease/{number}.json").read_text())


# -- who may drive -------------------------------------------------------------------------------------------------


def test_a_lease_says_whose_it_is_until_when(drive, tmp_path):
    before = time.time()
    drive()
    said = entry(tmp_path)
    assert (said["host"], said["pid"]) == (platform.node(), os.getpid())
    assert said["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert 44 < newest(tmp_path).left_s <= 45
    assert said["since"] >= lease._iso(before)
    assert [path.name for path in (tmp_path / "lease").iterdir()] == ["1.json"]


def test_another_host_is_refused_by_name_and_told_how_long_to_wait(drive, on, tmp_path):
    drive()
    with on("other", later=20), pytest.raises(RunError) as refused:
        drive()
    who = f"only one driver may run a sweep, but process {os.getpid()} on {platform.node()} (since 20"
    assert str(refused.value).startswith(f"{tmp_path}: {who}")
    assert str(refused.value).endswith("if its host is lost, this one may take over in 25 s.")


def test_a_lost_hosts_sweep_is_taken_over_once_its_lease_has_ended(drive, on, tmp_path):
    drive()
    with on("other", later=45.1):
        drive().check()
        assert newest(tmp_path).number == 2


def test_on_one_host_the_file_lock_alone_decides(drive, tmp_path):
    drive()
    # As after a SIGKILL: its lease is valid, and nobody holds the lock.
    drive().check()
    assert newest(tmp_path).number == 2


def test_what_is_given_back_may_be_taken_at_once(drive, on, tmp_path):
    drive().close()
    assert (newest(tmp_path).left_s, newest(tmp_path).owner.expires_at) == (0, None)
    with on("other"):
        drive().check()


def test_a_lease_is_renewed(drive, monkeypatch, tmp_path):
    monkeypatch.setattr(lease, "RENEW_S", 0.01)
    held = drive()
    first, deadline = entry(tmp_path)["expires_at"], time.monotonic() + 20
    while entry(tmp_path)["expires_at"] == first and time.monotonic() < deadline:
        time.sleep(0.01)
    assert entry(tmp_path)["expires_at"] > first
    held.close()
    # And not once it was given back.
    time.sleep(0.05)
    assert entry(tmp_path)["expires_at"] is None


@pytest.mark.parametrize("skew", [-14.0, 14.0])
def test_clocks_may_differ_by_fifteen_seconds(drive, on, skew):
    """While a driver writes without looking, nobody may take over; once it is gone, somebody may within 60 s."""
    drive()
    with on("other", later=lease.TRUSTED_S, skew=skew), pytest.raises(RunError):
        drive()
    with on("other", later=60, skew=skew):
        drive()


def test_clocks_that_differ_by_more_are_told(drive, on):
    drive()
    with on("other", skew=-3600), pytest.raises(RunError, match="so set the clocks of both hosts"):
        drive()


# -- a driver that slept -------------------------------------------------------------------------------------------


def test_a_young_renewal_costs_no_look_at_the_disk(drive, on, tmp_path):
    held = drive()
    (tmp_path / "lease").rename(tmp_path / "away")
    with on(later=29):
        held.check()
    with on(later=31), pytest.raises(RunError, match="somebody who removed its lease has taken it over"):
        held.check()


def test_a_driver_that_slept_and_was_not_missed_goes_on_under_a_new_number(drive, on, tmp_path):
    held = drive()
    with on(later=3600):
        held.check()
        assert newest(tmp_path).number == 2 and newest(tmp_path).left_s > 44
        # Whoever looked while it slept is too late now.
        assert not LeaseFolder(tmp_path).create(2, "")


def test_a_driver_that_slept_and_was_replaced_is_told_by_whom_and_writes_nothing(drive, on, tmp_path):
    journal = Journal(tmp_path / "journal.sqlite", (held := drive()).check)
    journal.append(Event("note"))
    with on("other", later=46):
        drive()
    with on(later=50):
        for _ in range(2):
            with pytest.raises(RunError) as lost:
                journal.append(Event("note"))
    assert f"but process {os.getpid()} on {platform.node()} (since 20" in str(lost.value)
    assert "newest renewal is 50 s old. It writes nothing more." in str(lost.value)
    held.close()
    journal.close()
    # Nor does it give back what is not its own.
    assert newest(tmp_path).owner.expires_at is not None
    assert len(read(tmp_path / "journal.sqlite")) == 1


def test_a_renewal_heals_a_damaged_lease_and_yields_to_another_of_its_number(drive, tmp_path):
    held = drive()
    theirs = json.dumps({**entry(tmp_path), "token": "another"})
    (tmp_path / "lease/1.json").write_text("{")
    held._renew()
    held.check()
    assert entry(tmp_path)["pid"] == os.getpid()
    # As after somebody has emptied the folder, and started anew.
    (tmp_path / "lease/1.json").write_text(theirs)
    held._renew()
    with pytest.raises(RunError, match="has taken it over"):
        held.check()


def test_the_renewing_thread_notices_a_successor(drive, on, monkeypatch):
    """Also where the clocks were so wrong that it came too early."""
    monkeypatch.setattr(lease, "RENEW_S", 0.01)
    held = drive()
    with on("other", skew=100):
        drive()
    deadline = time.monotonic() + 20
    with pytest.raises(RunError, match="has taken it over"):
        while time.monotonic() < deadline:
            held.check()
            time.sleep(0.01)


def test_a_lease_that_cannot_be_renewed_is_no_lease(drive, on, monkeypatch):
    held = drive()

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LeaseFolder, "create", full)
    with on(later=31), pytest.raises(RunError, match=r"renew its lease, but got \(No space left on device\)"):
        held.check()
    monkeypatch.undo()
    held.check()


def test_a_driver_that_lost_the_sweep_leaves_its_successors_log_alone(tmp_path):
    """To close a journal folds its log and deletes it, and across hosts nothing tells SQLite not to."""
    code = """
import sys, pathlib
from tuner.errors import RunError
from tuner.history import Event
from tuner.journal import Journal
lost = []
def check():
    if lost:
        raise RunError("lost")
journal = Journal(pathlib.Path(sys.argv[1]), check)
journal.append(Event("note"))
lost.append(1)
journal.close()
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "journal.sqlite"], check=True)
    assert (tmp_path / "journal.sqlite-wal").stat().st_size > 0
    assert len(read(tmp_path / "journal.sqlite")) == 1


def test_a_driver_that_was_replaced_just_before_its_end_leaves_the_end_to_its_successor(on, monkeypatch, tmp_path):
    def fall_asleep(event):
        if event.kind == "end":
            monkeypatch.setattr(lease, "awake_clock", lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + 46)
            with on("other", later=46):
                Lease(LeaseFolder(tmp_path / "one"), tmp_path / "one")

    def train(config, trial):
        trial.report(score=config["x"])

    search = {"strategy": "random", "trials": 1}
    sweep = make_sweep(train, {"x": tuner.Uniform(0, 1)}, search=search, max_epochs=1)
    with pytest.raises(RunError, match="It writes nothing more"):
        tuner.run(sweep, storage=tmp_path, name="one", backend="inline", watch=Watch(on_event=fall_asleep))
    assert not (tmp_path / "one/best").exists()
    assert read(tmp_path / "one/journal.sqlite")[-1].kind == "end"


# -- races ---------------------------------------------------------------------------------------------------------

RACER = """
import sys, time
from pathlib import Path
from tuner import lease
from tuner.errors import RunError
from tuner.lease_folder import LeaseFolder

host, start, folders = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
lease.boot_id = lambda: host
stores = [(LeaseFolder(Path(folder)), Path(folder)) for folder in folders]
if host == "owner":
    lease.wall_clock = lambda: time.time() - 46  # it has slept since: its leases have ended
    held = [lease.Lease(*place) for place in stores]
    lease.wall_clock = time.time
    lease.awake_clock = lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + 46
for index, place in enumerate(stores):
    while time.time() < start + 0.01 * index:
        pass
    try:
        held[index].check() if host == "owner" else lease.Lease(*place)
    except RunError:
        print("lost")
    else:
        print("won")
sys.stdout.flush()
input()
"""


def test_of_two_that_take_over_while_the_owner_wakes_exactly_one_wins(tmp_path):
    folders = [tmp_path / str(index) for index in range(50)]
    for folder in folders:
        folder.mkdir()
    start = time.time() + 1.5
    racers = []
    for host in ("owner", "first", "second"):
        command = [sys.executable, "-c", RACER, host, str(start), *map(str, folders)]
        racers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    said = [[racer.stdout.readline().strip() for _ in folders] for racer in racers]
    for racer in racers:
        racer.communicate("\n", timeout=20)
    assert [sorted(words) for words in zip(*said, strict=True)] == [["lost", "lost", "won"]] * len(folders)
    # Else it was no race.
    assert len({host for words in zip(*said, strict=True) for host in range(3) if words[host] == "won"}) > 1


def test_a_link_whose_first_answer_was_lost_is_won(drive, monkeypatch, tmp_path):
    """A network file system repeats what got no answer, and then says that the name exists."""
    real = os.link

    def twice(*arguments):
        real(*arguments)
        real(*arguments)

    monkeypatch.setattr(os, "link", twice)
    drive().check()
    assert newest(tmp_path).number == 1


def test_a_disk_without_hard_links_will_do(drive, on, monkeypatch, tmp_path):
    def refuse(*arguments):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    drive()
    assert not LeaseFolder(tmp_path).create(1, "")
    with on("other"), pytest.raises(RunError, match="may take over in"):
        drive()


# -- files that are not as they were -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(DAMAGES))
def test_a_damaged_lease_is_named_or_harmless_and_binds_nobody_for_long(drive, on, tmp_path, seed):
    drive()
    path, rng = tmp_path / "lease/1.json", random.Random(seed)
    data = bytearray(path.read_bytes())
    if seed < 3:
        del data[rng.randrange(len(data)) :]
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))
    found = newest(tmp_path)
    assert found.number == 1
    if found.owner is None:
        # Whoever wrote it may be there, on this host or another.
        with pytest.raises(RunError, match=r"the owner of .*lease/1.json, which cannot be read, is at it.*take over"):
            drive()
    if found.left_s <= 60:
        with on("other", later=61):
            drive().check()


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 10**5, '{"host": 1}', "\udcff", "9" * 5000])
def test_what_is_no_lease_is_one_that_cannot_be_read(tmp_path, text):
    (tmp_path / "lease").mkdir()
    (tmp_path / "lease/7.json").write_bytes(text.encode(errors="surrogateescape"))
    found = newest(tmp_path)
    assert (found.number, found.owner) == (7, None) and 44 < found.left_s <= 45


def test_nothing_is_written_or_read_through_a_link(drive, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "lease").symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="must be able to lock its run folder"):
        lock(tmp_path)
    assert not list((tmp_path / "outside").iterdir())
    (tmp_path / "lease").unlink()
    (tmp_path / "lease").mkdir()
    (tmp_path / "outside/file").write_text("mine")
    (tmp_path / "lease/1.json").symlink_to(tmp_path / "outside/file")
    with pytest.raises(RunError, match=r"lease/1.json, which cannot be read"):
        drive()
    assert (tmp_path / "outside/file").read_text() == "mine"


def test_a_pipe_in_a_leases_place_holds_nobody_up(tmp_path):
    (tmp_path / "lease").mkdir()
    os.mkfifo(tmp_path / "lease/1.json")
    assert newest(tmp_path).owner is None


def test_other_files_beside_leases_are_no_leases(drive, tmp_path):
    (tmp_path / "lease").mkdir()
    for name in ("0.json", "07.json", "٣.json", "1e9.json", "latest.json", f"{'9' * 99}.json", ".8-aa.writing"):
        (tmp_path / "lease" / name).write_text("")
    drive()
    assert newest(tmp_path).number == 1


# -- what commands say ---------------------------------------------------------------------------------------------


def test_a_run_that_is_driven_elsewhere_is_running(drive, on, tmp_path):
    folder = make_run(tmp_path / "mine", [Made({"x": 1}, [0.5], "running")], finished=None)
    with on("other"):
        held = Lease(LeaseFolder(folder), folder)
    assert is_driven(folder) and load(folder).status == "running"
    with on(later=46):
        assert not is_driven(folder) and load(folder).status == "interrupted"
    held.close()
    assert load(folder).status == "interrupted"


def test_the_doctor_explains_leases_and_disturbs_none(on, tmp_path):
    folder = make_run(tmp_path / "mine", [Made({"x": 1}, [0.5], "running")], finished=None)

    def told():
        return [found for found in doctor.examine(folder) if "lease" in found.path or "lock" in found.what]

    with on("other"):
        held = Lease(LeaseFolder(folder), folder)
    (found,) = told()
    assert found.severity == "note" and "is driving this sweep from another host" in found.what
    assert "Its lease ends in 45 s unless it is renewed" in found.meaning
    with pytest.raises(RunError, match="this one may take over in"):
        doctor.repair(folder)
    with on(skew=-3600):
        (found,) = told()
        assert found.severity == "warning" and "Set the clocks" in found.remedy
    with on(later=46):
        (found,) = told()
        assert found.severity == "note" and "never gave its lease back" in found.what
        doctor.repair(folder)
    assert told() == []
    held.close()


def test_a_lease_that_cannot_be_read_is_put_aside_once_it_means_nothing(on, tmp_path):
    folder = make_run(tmp_path / "mine", [Made({"x": 1}, [0.5])])
    lock(folder).close()
    (folder / "lease/1.json").write_text("{")
    (found,) = [found for found in doctor.examine(folder) if "lease" in found.path]
    assert found.severity == "warning" and "cannot be read" in found.what
    with pytest.raises(RunError, match="cannot be read, is at it"):
        doctor.repair(folder)
    os.utime(folder / "lease/1.json", (time.time() - 46,) * 2)
    doctor.repair(folder)
    assert list(folder.glob("quarantine/*/lease/1.json"))
    assert not [found for found in doctor.examine(folder) if "lease" in found.path]
    assert [path.name for path in (folder / "lease").iterdir()] == ["2.json"]


# -- two hosts, real processes -------------------------------------------------------------------------------------

HOST = """
import sys
from pathlib import Path

name, place, root = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
sys.path.append(root)
from benchmarks.chaos.hosts import pretend
from tuner import lease

pretend(name, place / "locks")
lease.VALID_S, lease.RENEW_S, lease.TRUSTED_S, lease.SKEW_S = 1.5, 0.3, 1.0, 0.5
from tuner.cli.main import main

sys.argv = ["tuner", *sys.argv[4:]]
main()
"""

SWEEP = """
[sweep]
trainable = "mine.py:train"
metric = "score"
mode = "max"
max_epochs = 5
[space]
x = { uniform = [0, 1] }
[search]
strategy = "random"
trials = 2
"""

FUNCTION = """
import time
from pathlib import Path

def train(config, trial):
    for epoch in range(trial.start_epoch + 1, trial.max_epochs + 1):
        while epoch == 3 and Path("wait").exists():
            time.sleep(0.02)
        trial.report(epoch=epoch, score=config["x"])
"""


@pytest.fixture
def other_host(tmp_path, monkeypatch):
    """Start a command on another host: it shares the disk with this one, but no file locks."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-c", HOST, "other", tmp_path, ROOT, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, cwd=tmp_path, **pipes))
        return started[-1]

    for module, name in ((fcntl, "flock"), (lease, "boot_id")):
        monkeypatch.setattr(module, name, getattr(module, name))  # so that what pretend() does is undone
    pretend("this", tmp_path / "locks")
    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for_epochs(journal, count):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(RunError):
            if sum(event.kind == "epoch" for event in read(journal)) >= count:
                return
        time.sleep(0.02)
    raise AssertionError("it does not get there")


def test_a_driver_that_is_stopped_is_replaced_from_another_host_and_learns_it_when_it_wakes(other_host, tmp_path):
    (tmp_path / "mine.py").write_text(FUNCTION)
    (tmp_path / "mine.toml").write_text(SWEEP)
    (tmp_path / "wait").touch()  # so that it is stopped while it trains, and not within a commit
    folder = tmp_path / "runs/one"
    first = other_host("run", "mine.toml", "--name", "one", "--backend", "inline", "--quiet")
    wait_for_epochs(folder / "journal.sqlite", 2)
    with pytest.raises(RunError, match=f"but process {first.pid} on .* is at it"):
        tuner.resume(folder, backend="inline")

    first.send_signal(signal.SIGSTOP)
    (tmp_path / "wait").unlink()
    time.sleep(1.6)
    assert tuner.resume(folder, backend="inline").counts() == {"completed": 2}
    rows, kept = read(folder / "journal.sqlite"), checksums(folder)

    first.send_signal(signal.SIGCONT)
    output = first.communicate(timeout=60)[0]
    assert first.returncode == 2 and f"but process {os.getpid()} on" in output and "Traceback" not in output
    # It wrote nothing more, and the sweep is what its successor made of it.
    assert read(folder / "journal.sqlite") == rows and checksums(folder) == kept
    assert tuner.load(folder).status == "completed"


def checksums(folder):
    """Every file but the stopped worker's own: what it had begun, it may end, and no row names it."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".sqlite-shm"]
    return {path: path.read_bytes() for path in files if path.parent.name != "logs"}
