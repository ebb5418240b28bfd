"""The command line on a Ray of its own: signals, what dies or hangs, what is printed, what is left."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tuner.backends.ray_tune import session
from tuner.cli import guard
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
PF_EXITING = 4  # linux/sched.h
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
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    guard.adopt_orphans()
    monkeypatch.setattr(sys.modules[__name__], "BEFORE", set(guard.descendants(os.getpid())))
    return tmp_path


def start(*arguments):
    """Start a command as a terminal does: in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tuner.cli", *arguments],
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


BEFORE = set[int]()


def processes():
    """Every process that came of a test: its id and its command line. One that is dead, but not buried, has none."""
    found = {}
    for pid in {*guard.descendants(os.getpid())} - BEFORE:
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
    return {pid: line for pid, line in found.items() if line}


def listening():
    """Where the processes of a test listen: an address and a port each."""
    sockets = {}
    for line in (Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()).splitlines():
        _, local, _, state, *_, inode = line.split()[:10]
        if state == "0A":  # include/net/tcp_states.h: TCP_LISTEN
            address, port = local.split(":")
            words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
            found = ipaddress.ip_address(b"".join(words))
            sockets[f"socket:[{inode}]"] = (str(getattr(found, "ipv4_mapped", None) or found), int(port, 16))
    ends = set()
    for pid in processes():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            ends |= {str(end.readlink()) for end in Path(f"/proc/{pid}/fd").iterdir()}
    return {sockets[end] for end in ends & set(sockets)}


def left_behind():
    """What is still there of a test; what has been killed, the system ends when it gets to it."""
    left = []
    for pid, line in processes().items():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            status = dict(entry.split(":\t") for entry in Path(f"/proc/{pid}/status").read_text().splitlines())
        except OSError:
            continue
        pending = (int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)) >> (signal.SIGKILL - 1) & 1
        if not pending and not int(stat[6]) & PF_EXITING:
            left.append((line[:60], stat[0]))
    return left


def interrupted(process, status):
    """Wait for its end after a signal: the status, and two lines, of which the second goes on."""
    out, err = process.communicate()
    assert process.returncode == status, (out, err)
    assert err.startswith("Interrupted; what was done is saved")
    assert len(err.splitlines()) == 2 and err.rstrip().endswith("resume runs/mine"), err
    assert load("runs/mine").status == "interrupted"


def test_a_sweep_on_ray_is_killed_interrupted_twice_and_ends_as_if_untouched(project):
    process = start("run", "mine.toml")
    wait_for_epoch(process, "t0001", 6)
    # Ray was started without what serves nobody here.
    lines = b"".join(processes().values())
    assert b"raylet/raylet" in lines
    assert not re.search(rb"log_monitor\.py|_private/monitor\.py|dashboard/dashboard\.py", lines)
    # The worker of trial 1 has killed itself by now, and another has gone on.
    ports = listening()
    # GCS, raylet, agents, metrics, workers and the driver itself: none for others than this machine.
    assert len(ports) >= 6 and {host for host, _ in ports} == {"127.0.0.1"}, ports
    # Its token is in the environment alone: Ray by itself writes one to the home folder, for all to read.
    assert not (project / "home").exists()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 143, (out, err)
    assert left_behind() == []
    assert out.splitlines() == ["mine: 3 trials (random) of up to 10 epochs, 1 at a time, in runs/mine"]
    # What Ray has to say of all this, nobody needs to read.
    assert err.startswith("Interrupted; what was done is saved (1 interrupted). Go on with:\n")
    assert len(err.splitlines()) == 2 and err.rstrip().endswith("resume runs/mine")
    assert load("runs/mine").status == "interrupted"

    # Ctrl-C goes to every process of the group.
    process = start("resume", "runs/mine")
    wait_for_epoch(process, "t0002", 4)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, (out, err)
    assert left_behind() == []
    assert "(1 completed, 1 interrupted)" in err and len(err.splitlines()) == 2

    process = start("resume", "runs/mine", "--backend", "inline", "--quiet")
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")
    results = load("runs/mine")
    assert list(results.trials["status"]) == ["completed"] * 3 and list(results.trials["attempts"]) == [3, 2, 1]
    assert list(results.epochs["score"]) == [n * (n + 1) // 2 for n in range(1, 11)] * 3
    # At each of the two interruptions an epoch may have been trained that was not reported yet.
    executed = (project / "executed.txt").read_text().split()
    assert set(executed) == {f"{trial}.{epoch}" for trial in (1, 2, 3) for epoch in range(1, 11)}
    assert len(executed) <= 32


def wait_for_ray(process):
    """Wait until Ray's first process is there."""
    while not any(b"gcs_server" in line for line in processes().values()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


LOOKED_AT = (
    FUNCTION
    + """
def build(config, data):
    time.sleep(config.get("build_s", 0))
    raise ValueError("it cannot be built")
"""
)


def test_what_ends_a_run_while_ray_starts_leaves_nothing(project):
    (project / "mine.py").write_text(LOOKED_AT)
    (project / "mine.toml").write_text(f'{SWEEP}[data]\nname = "digits"\n')
    # Its models are still being looked at.
    process = start("run", "mine.toml", "--set", "defaults.build_s=60")
    wait_for_ray(process)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "Interrupted before anything was begun.\n") and process.returncode == 130
    assert left_behind() == [] and not (project / "runs").exists()


GREEDY = FUNCTION.replace(
    "os.kill(os.getpid(), signal.SIGKILL)",
    """
            held = []
            while len(held) < 60:
                held.append(bytearray(os.urandom(1 << 20) * 100))
                time.sleep(0.1)
            time.sleep(600)
""",
)


def memory():
    """Return this machine's memory, and what of it is free, in bytes."""
    entries = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return tuple(int(entries[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))


@pytest.mark.slow
def test_a_greedy_trial_and_the_death_of_ray_end_no_sweep(project, monkeypatch):
    total, free = memory()
    if free < 10 << 30:
        pytest.skip("needs 10 GB of free memory")
    # Ray's own monitor kills a worker where less than so much is left.
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{1 - (free - (3 << 30)) / total:.4f}")
    (project / "mine.py").write_text(GREEDY)
    (project / "mine.toml").write_text(SWEEP + '[data]\nname = "digits"\n')  # which is loaded again for another Ray
    process = start("run", "mine.toml", "--quiet")
    wait_for_epoch(process, "t0002", 3)
    raylet = [pid for pid, line in processes().items() if b"raylet/raylet" in line]
    for pid in raylet:
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate()
    assert (process.returncode, out, err, len(raylet)) == (0, "", "", 1)
    assert left_behind() == []
    results = load("runs/mine")
    greedy, second, third = results.trials.to_dict("records")
    assert (greedy["status"], greedy["cause"], greedy["attempts"]) == ("failed", "config.out_of_memory", 1)
    # Ray was started anew, at no cost to the trial: it goes on from its last committed epoch.
    assert (second["status"], second["attempts"], third["status"]) == ("completed", 2, "completed")
    assert results.history.trials["t0002"].infrastructure_failures == 0
    assert list(results.epochs["score"][-20:]) == [n * (n + 1) // 2 for n in range(1, 11)] * 2


HANGS = FUNCTION.replace(
    "os.kill(os.getpid(), signal.SIGKILL)",
    """
            import ctypes
            Path("hangs").touch()
            ctypes.PyDLL(None).sleep(600)  # in native code, and no Python runs meanwhile: it hears no signal
""",
)


def wait_for_hang():
    while not Path("hangs").exists():
        time.sleep(0.1)
    Path("hangs").unlink()


@pytest.mark.slow
def test_a_sweep_is_left_though_its_worker_hangs_or_ray_is_gone(project):
    (project / "mine.py").write_text(HANGS)
    process = start("run", "mine.toml")
    wait_for_hang()
    process.send_signal(signal.SIGINT)
    interrupted(process, 130)
    assert left_behind() == []

    process = start("resume", "runs/mine")
    wait_for_epoch(process, "t0002", 2)
    servers = [pid for pid, line in processes().items() if b"raylet/raylet" in line or b"gcs_server" in line]
    for pid in servers:
        os.kill(pid, signal.SIGKILL)
    process.send_signal(signal.SIGTERM)
    interrupted(process, 143)
    assert len(servers) == 2 and left_behind() == []

    process = start("resume", "runs/mine", "--backend", "inline", "--quiet")
    assert process.communicate() == ("", "") and process.returncode == 0
    results = load("runs/mine")
    assert list(results.trials["status"]) == ["completed"] * 3
    assert list(results.epochs["score"]) == [n * (n + 1) // 2 for n in range(1, 11)] * 3


@pytest.mark.slow  # as tests/cli/test_guard.py does with small scripts
def test_a_second_ctrl_c_leaves_at_once_and_loses_nothing(project):
    (project / "mine.py").write_text(HANGS)
    process = start("run", "mine.toml")
    wait_for_hang()
    committed = load("runs/mine").history.trials["t0001"].epochs
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.4)
    os.killpg(process.pid, signal.SIGINT)
    interrupted(process, 130)
    assert left_behind() == []
    # The epoch that was reported as it hung may be there, too.
    assert set(committed) <= set(load("runs/mine").history.trials["t0001"].epochs)
    assert committed


def test_folders_of_drivers_that_were_killed_are_removed(tmp_path):
    with session._scratch(tmp_path) as mine:
        (tmp_path / "tuner-dead").mkdir()
        (tmp_path / "tuner-dead" / "owner").touch()
        (tmp_path / "tuner-other").mkdir()  # not one of these
        with session._scratch(tmp_path) as second:
            assert mine.is_dir() and second.is_dir() and mine.stat().st_mode & 0o777 == 0o700
            assert not (tmp_path / "tuner-dead").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["tuner-other"]


LIGHT = """
import sys, tuner
space = {"learning_rate": tuner.LogUniform(0.01, 0.1), "conv_layers": tuner.Choice([1, 2])}
sweep = tuner.Sweep(
    trainable="cnn", data={"name": "digits", "limit": 120}, space=space, defaults={"filters": 2}, max_epochs=1,
    search={"strategy": "random", "trials": 2}, resources={"max_concurrent": 1},
)
results = tuner.run(sweep)
print("torch" in sys.modules, sorted(results.trials["status"]), (results.folder / "best/model.pt").stat().st_size > 0)
"""


def test_the_driver_of_a_built_in_trainable_needs_no_torch(project):
    ran = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[-2] == "False ['completed', 'completed'] True"
