"""The parent that owns signals: with children that are small scripts, and with the real one on Ray."""

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tuner.cli import guard

# What a child of the guard does first: it meets its parent, and says that it is there.
CHILD = """
import os, signal, subprocess, sys, time
from pathlib import Path
from tuner.cli import guard
assert guard.attach()
def came(number, frame):
    with open("came.txt", "a") as file:
        file.write(f"{signal.Signals(number).name}\\n")
def here():
    Path("here.part").write_text(str(os.getpid()))
    Path("here.part").rename("here.txt")  # whoever sees it can read it
"""
# The guard, as `tuner` starts it, but around that script, and with less patience.
PARENT = """
import sys
from tuner.cli import guard
guard.LEAVE_S = float(sys.argv[1])
sys.exit(guard.run_guarded([sys.executable, sys.argv[2]]))
"""
INTERRUPTED = "Interrupted; what was done is saved. Go on with:\n"


@pytest.fixture
def guarded(tmp_path, monkeypatch):
    """Start the guard around a child that does this; returns once the child is there."""
    monkeypatch.chdir(tmp_path)
    started = []

    def start(body, *, leave_s=0.5, before=None, wait=True):
        Path("child.py").write_text(CHILD + body)
        environment = {**os.environ, "STARTED_BY": str(tmp_path)}
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(leave_s), "child.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
            preexec_fn=before,
        )
        started.append(process)
        while wait and process.poll() is None and not Path("here.txt").exists():
            time.sleep(0.01)
        return process

    yield start
    for process in started:
        process.kill()
    for pid in family(tmp_path):
        os.kill(pid, signal.SIGKILL)
    for process in started:
        process.communicate()


def family(project):
    """Return the pids of all processes that came of what a test started."""
    mark = f"STARTED_BY={project}".encode()
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                pids.append(int(folder.name))
        except OSError:
            continue
    return pids


def wait_until_gone(project):
    while family(project):
        time.sleep(0.02)


@pytest.mark.parametrize("status", [0, 1, 2, 3, 130])
def test_the_childs_status_is_the_status_and_its_words_are_all(status, guarded):
    process = guarded(f"print('a line'); here(); guard.tell_folder(Path('r')); guard.tell_status({status})")
    out, err = process.communicate()
    assert (process.returncode, out, err) == (status, "a line\n", "")


def test_what_happens_after_the_status_was_told_decides_nothing(guarded):
    # As where Ray aborts while the interpreter winds up.
    process = guarded("guard.tell_folder(Path('r')); guard.tell_status(3); here(); os.abort()")
    assert process.communicate() == ("", "") and process.returncode == 3
    # Or hangs.
    Path("here.txt").unlink()
    process = guarded("guard.tell_status(0); here(); time.sleep(600)")
    assert process.communicate() == ("", "") and process.returncode == 0


@pytest.mark.parametrize(
    ("death", "how"),
    [
        ("os.abort()", "SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL, as the system does when memory runs out"),
        ("os._exit(0)", "exit status 0"),
    ],
)
def test_a_driver_that_dies_is_one_sentence_with_the_way_on(death, how, guarded):
    process = guarded(f"guard.tell_folder(Path('runs/it is')); here(); {death}")
    out, err = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert err.startswith(f"The driver died ({how}); what was done is saved. Go on with:\n  ")
    assert shlex.split(err.splitlines()[1])[-2:] == ["resume", "runs/it is"] and err.count("\n") == 2


def test_a_driver_that_dies_before_it_has_a_folder_has_nothing_to_resume(guarded):
    process = guarded("here(); os.abort()")
    assert process.communicate()[1] == "The driver died (SIGABRT) before anything was begun.\n"
    assert process.returncode == 1


NUMBERS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
LEAVES = """
def leave(number, frame):
    came(number, frame)
    time.sleep(0.3)
    print("Interrupted by the child", file=sys.stderr)
    guard.tell_status(143)
    sys.exit(143)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, leave)
guard.tell_folder(Path("r"))
here()
time.sleep(600)
"""


@pytest.mark.parametrize(("number", "status"), NUMBERS)
def test_a_signal_asks_the_child_once_to_save_and_leave(number, status, guarded):
    process = guarded(LEAVES, leave_s=60)
    process.send_signal(number)
    # It has said all that there is to say.
    assert process.communicate() == ("", "Interrupted by the child\n")
    assert process.returncode == status
    assert Path("came.txt").read_text() == "SIGTERM\n"


def test_ctrl_c_goes_to_the_whole_group_and_counts_once(guarded):
    process = guarded(LEAVES, leave_s=60)
    os.killpg(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)  # by a wrapper that passes it on, too
    assert process.communicate()[1] == "Interrupted by the child\n"
    assert process.returncode == 130 and Path("came.txt").read_text() == "SIGTERM\n"


DEAF = """
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, came)
others = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
guard.tell_folder(Path("r"))
here()
while True:
    time.sleep(1)
"""


@pytest.mark.parametrize(("number", "status"), NUMBERS)
def test_a_child_that_does_not_leave_is_killed_with_all_that_came_of_it(number, status, guarded, tmp_path):
    process = guarded(DEAF)
    assert len(family(tmp_path)) == 3
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (status, "")
    assert err.startswith(INTERRUPTED) and err.rstrip().endswith("resume r") and err.count("\n") == 2
    assert Path("came.txt").read_text() == "SIGTERM\n"
    assert family(tmp_path) == []


# Ray's agents are such: nobody's child any more once the raylet is killed, and a title lies over their environment.
ORPHAN = """
import subprocess, sys
command = [sys.executable, "-c", "import time; time.sleep(600)"]
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
process = subprocess.Popen(command, env={}, start_new_session=True, **quiet)
open("orphan.txt", "w").write(str(process.pid))
"""


@pytest.mark.parametrize("parent_too", [False, True])
def test_an_orphan_that_nothing_but_its_descent_tells_of_is_killed_too(parent_too, guarded, tmp_path):
    process = guarded(f"guard.LEAVE_S = 0.3\nsubprocess.run([sys.executable, '-c', {ORPHAN!r}], check=True){DEAF}")
    orphan = Path("/proc", Path("orphan.txt").read_text())
    assert orphan.exists()
    process.send_signal(signal.SIGKILL if parent_too else signal.SIGTERM)
    process.wait()
    wait_until_gone(tmp_path)
    assert not orphan.exists()


def test_a_child_that_is_stopped_is_asked_too(guarded):
    process = guarded(LEAVES, leave_s=60)
    os.kill(int(Path("here.txt").read_text()), signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[1] == "Interrupted by the child\n" and process.returncode == 143


def test_a_second_ctrl_c_leaves_at_once(guarded, tmp_path):
    process = guarded(DEAF, leave_s=600)
    process.send_signal(signal.SIGINT)
    time.sleep(2 * guard.ONE_PRESS_S)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1].startswith(INTERRUPTED)
    assert process.returncode == 130 and family(tmp_path) == []


def test_a_signal_before_there_is_a_folder_leaves_nothing_to_resume(guarded):
    process = guarded("here(); time.sleep(600)", leave_s=60)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "Interrupted before anything was begun.\n")
    assert process.returncode == 130


def test_a_child_whose_parent_is_killed_saves_and_leaves(guarded, tmp_path):
    process = guarded(LEAVES, leave_s=60)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    wait_until_gone(tmp_path)
    assert Path("came.txt").read_text() == "SIGTERM\n"


def test_a_child_whose_parent_is_killed_does_not_stay_though_it_is_deaf(guarded, tmp_path):
    process = guarded(f"guard.LEAVE_S = 0.3\n{DEAF}")
    process.kill()
    wait_until_gone(tmp_path)
    assert Path("came.txt").read_text() == "SIGTERM\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_is_ignored_stays_so_in_both(number, guarded):
    body = "here()\nassert signal.getsignal(signal.SIGHUP if {0} == 1 else signal.SIGINT) == signal.SIG_IGN\n"
    body = body.format(int(number)) + "while not Path('go.txt').exists():\n    time.sleep(0.01)\nguard.tell_status(0)"
    process = guarded(body, before=lambda: signal.signal(number, signal.SIG_IGN))
    os.killpg(process.pid, number)
    time.sleep(0.2)
    Path("go.txt").touch()
    assert process.communicate() == ("", "") and process.returncode == 0


def test_a_pipe_that_nobody_reads_does_not_hold_it_up(guarded):
    process = guarded(DEAF)
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143


def test_a_terminal_that_is_closed_ends_it_and_the_cursor_is_given_back(guarded, tmp_path):
    Path("child.py").write_text(CHILD + "print('\\x1b[?25l', end='', flush=True)" + DEAF)

    def on_a_terminal():
        Path("here.txt").unlink(missing_ok=True)
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["STARTED_BY"] = str(tmp_path)
            os.execv(sys.executable, [sys.executable, "-c", PARENT, "0.3", "child.py"])
        while not Path("here.txt").exists():
            time.sleep(0.01)
        return pid, terminal

    pid, terminal = on_a_terminal()
    os.write(terminal, b"\x03")
    seen = b""
    while b"resume r" not in seen:
        seen += os.read(terminal, 4096)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l")
    os.close(terminal)

    pid, terminal = on_a_terminal()
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143
    assert family(tmp_path) == []


def test_ctrl_z_stops_both_and_fg_goes_on_with_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("child.py").write_text(CHILD + LEAVES)
    shell, terminal = pty.fork()
    if shell == 0:
        os.environ["STARTED_BY"] = str(tmp_path)
        os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])

    def type_(text, answer):
        os.write(terminal, text)
        seen = b""
        while answer not in seen:
            seen += os.read(terminal, 4096)

    Path("parent.py").write_text(PARENT)
    os.write(terminal, f"{shlex.join([sys.executable, 'parent.py', '60', 'child.py'])}; echo ended with $?\n".encode())
    while not Path("here.txt").exists():
        time.sleep(0.01)
    child = Path("/proc", Path("here.txt").read_text())
    type_(b"\x1a", b"Stopped")
    while child.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)
    os.write(terminal, b"fg; echo ended with $?\n")
    while child.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "T":
        time.sleep(0.01)
    type_(b"\x03", b"ended with 130")
    assert Path("came.txt").read_text() == "SIGTERM\n"
    os.write(terminal, b"exit\n")
    os.waitpid(shell, 0)
    os.close(terminal)


def test_what_a_child_starts_is_no_child_of_the_guard(guarded):
    asks = "import os, sys; from tuner.cli import guard; sys.exit(7 if guard.attach() else 5)"
    process = guarded(f"here(); guard.tell_status(subprocess.call([sys.executable, '-c', {asks!r}], close_fds=False))")
    process.communicate()
    assert process.returncode == 5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("run a.toml", True),
        ("resume latest --trials 3", True),
        ("run a.toml --backend ray", True),
        ("run a.toml --backend inline", False),
        ("run a.toml --backend=inline", False),
        ("plan run", False),
        ("", False),
    ],
)
def test_only_a_sweep_on_ray_has_a_parent(arguments, expected, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "tuner", *arguments.split()])
    assert guard.wanted(arguments.split()) == expected
    # Where another program calls this one's entry, it cannot be started again by the same words.
    monkeypatch.setattr(sys, "orig_argv", ["python", "other.py"])
    assert not guard.wanted(arguments.split())


def test_the_parent_imports_nothing_heavy():
    program = "import sys; import tuner.cli.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"ray", "torch", "pandas", "numpy", "typer", "rich", "pydantic", "tuner.errors"}.isdisjoint(loaded)


def test_a_mistake_reads_as_without_a_parent(tmp_path):
    command = [sys.executable, "-m", "tuner.cli", "run", "nope.toml"]
    both = [
        subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, check=False)
        for more in ([], ["--backend", "inline"])
    ]
    assert [(done.returncode, done.stdout, done.stderr) for done in both[:1]] == [
        (done.returncode, done.stdout, done.stderr) for done in both[1:]
    ]
    assert both[0].returncode == 2 and re.match(r"nope.toml: there is no file", both[0].stderr)
