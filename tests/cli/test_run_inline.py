import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys

import pytest
from made_runs import tuner
from terminals import on_a_terminal, read_all, wait_for

from tuner.cli.main import run_command
from tuner.results import load

INLINE = ["run", "mine.toml", "--backend", "inline"]


def test_a_sweep_from_file_to_best_config(project, capsys):
    assert run_command(INLINE) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "mine: 4 trials (random) of up to 3 epochs, 1 at a time, in runs/mine"
    # One line for each trial that ended.
    assert [line[:12] for line in lines[1:5]] == [f"[{n}/4] t000{n} " for n in range(1, 5)]
    best = load("mine").best()
    assert f"best      quality {best.value:#.4g} at epoch 3 ({best.trial}; best of 4, so optimistic)" in said.out
    assert "folder    runs/mine" in said.out
    # The trainable's own output is in its log.
    assert "hello" not in said.out
    assert said.err == ""


def test_where_each_second_went_is_shown_where_it_is_asked_for(project, capsys):
    assert run_command([*INLINE, "--timing", "--quiet"]) == 0
    first, *rows = capsys.readouterr().out.strip().splitlines()
    total, epoch = map(float, re.fullmatch(r"time +([\d.]+) s in all, .* row after ([\d.]+) s", first).groups())
    seconds = {row.split()[0]: float(row.split()[1]) for row in rows}
    assert sum(seconds.values()) == pytest.approx(total, abs=0.06) and epoch < total  # rounded, and nothing under 0.01
    assert {"start", "training", "journal"} <= set(seconds) and "Ray" not in seconds
    # A resume has it, too.
    assert run_command(["resume", "mine", "--trials", "5", "--backend", "inline", "--timing"]) == 0
    assert "\ntime      " in capsys.readouterr().out


def test_the_printed_commands_work_as_they_stand(project, capsys):
    run_command(INLINE)
    commands = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  /")]
    assert [shlex.split(command)[1] for command in commands] == ["show", "export", "resume"]
    # Without an activated environment: the program is named by its path.
    for command in [*commands[:2], f"{commands[2]} --backend inline"]:
        done = subprocess.run(["sh", "-c", command], cwd=project, env={}, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), command
    assert (project / "trials.csv").is_file() and (project / "epochs.csv").is_file()
    assert len(load("mine").records()) == 8


def test_the_baseline_stands_beside_the_best_where_it_was_run(project, capsys):
    points = 'search.points=[{ learning_rate = 0.001, optimizer = "sgd" }]'
    assert run_command([*INLINE, "--set", points]) == 0
    out = capsys.readouterr().out
    assert re.search(r"baseline  quality 0.8667 at epoch 3 \(t0001\)", out)
    assert re.search(r"learning_rate  0\.0\d+ +baseline 0.001\n", out)
    # Fixed parameters come last.
    assert re.search(r"  optimizer      \S+.*\n  nap            0 +fixed\n", out)


def test_what_a_branch_searches_is_not_fixed(project, capsys):
    space = "space.optimizer={ choice = ['sgd'], when.sgd.momentum = { uniform = [0.5, 0.9] } }"
    run_command([*INLINE, "--set", space, "defaults.momentum=0.7", "defaults.width=3", "search.trials=2"])
    out = capsys.readouterr().out
    assert re.search(r"  momentum       0\.\d+\n", out)
    # It is in [defaults] and nowhere in [space].
    assert re.search(r"  width          3 +fixed\n", out)


def test_a_search_of_the_baseline_alone_is_not_optimistic(project, capsys):
    run_command([*INLINE, "--set", "search.strategy=manual", "search.points=[{}]"])
    out = capsys.readouterr().out
    assert "(t0001; the only one)" in out and "(t0001; it is the best)" in out


def test_failures_are_counted_by_cause_in_a_warning(project, capsys):
    broken = ["--set", 'space.optimizer={ choice = ["broken", "sgd"], weights = [3, 1] }', "search.trials=6"]
    assert run_command([*INLINE, *broken]) == 0
    said = capsys.readouterr()
    failed = load("mine").counts()["failed"]
    assert f"Warning: runs/mine: {failed} of 6 trials failed by their config ({failed} config.raised).\n" == said.err
    assert f"failed    {failed} config.raised, such as t000" in said.out
    assert "ValueError: broken is no optimizer, as you see\n          runs/mine/logs/t000" in said.out


def test_strict_makes_a_failed_trial_exit_3(project, capsys):
    broken = ["--set", 'space.optimizer={ choice = ["broken", "sgd"] }', "search.trials=4"]
    assert run_command([*INLINE, *broken, "--strict", "--quiet"]) == 3
    said = capsys.readouterr()
    assert said.out == "" and "failed by their config" in said.err


def test_no_trial_completed_exits_1_with_the_reason(project, capsys):
    assert run_command([*INLINE, "--set", "space.optimizer=broken", "--quiet"]) == 1
    said = capsys.readouterr()
    reason = "t0001: ValueError: broken is no optimizer, as you see\n"
    assert said.err == f"runs/mine: no trial completed; 4 of 4 trials failed (4 config.raised). {reason}"
    assert said.out == ""


def test_quiet_says_nothing(project, capsys):
    assert run_command([*INLINE, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_taken_name_is_refused_and_without_one_a_number_is_added(project, capsys):
    assert run_command([*INLINE, "--name", "one", "-q"]) == 0
    assert run_command([*INLINE, "--name", "one", "-q"]) == 2
    assert "runs/one: the name is taken" in capsys.readouterr().err
    run_command([*INLINE, "-q"])
    run_command([*INLINE, "-q"])
    assert sorted(path.name for path in (project / "runs").iterdir()) == ["mine", "mine-2", "one"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("search.trails=8", "mine.toml: --set search.trails: there is no such key. Did you mean"),
        ("search.trials=none", "mine.toml: --set search.trials: must be a whole number of at least 1"),
        ("search", "mine.toml: --set search: must have the form table.key=value"),
        ("space.optimizer={ choice = [] }", "--set space.optimizer"),
    ],
)
def test_a_bad_override_is_named(project, capsys, override, sentence):
    assert run_command([*INLINE, "--set", override]) == 2
    assert sentence in capsys.readouterr().err
    assert not (project / "runs").exists()


def test_a_finished_sweep_has_nothing_to_resume(project, capsys):
    run_command([*INLINE, "-q"])
    assert run_command(["resume", "mine"]) == 0
    assert "mine is finished: 4 trials, nothing to add." in capsys.readouterr().out
    assert run_command(["resume", "mine", "--trials", "3"]) == 0
    assert "nothing to add" in capsys.readouterr().out


def test_a_finished_sweep_can_be_extended(project, capsys):
    run_command([*INLINE, "-q"])
    assert run_command(["resume", "mine", "--trials", "6", "--backend", "inline"]) == 0
    out = capsys.readouterr().out
    assert "[5/6] t0005" in out and "[6/6] t0006" in out and "t0004 completed" not in out
    assert "best of 6, so optimistic" in out


def test_a_target_that_was_reached_is_followed_by_a_command_that_goes_on(project, capsys):
    target = ["--set", 'stopping.rules=["target"]', "--set", "stopping.target.value=0.1"]
    assert run_command([*INLINE, *target]) == 0
    out = capsys.readouterr().out
    assert "mine: 1 trial in" in out and "ended by  target: t0001 reached" in out
    command = out.splitlines()[-1]
    assert re.search(r"resume runs/mine --set stopping\.target\.value=0\.\d+$", command)
    assert run_command([*shlex.split(command)[1:], "--backend", "inline"]) == 0
    assert "[2/4] t0002" in capsys.readouterr().out


def test_a_budget_is_told_while_it_runs_and_at_the_end_and_a_larger_one_goes_on(project, capsys):
    assert run_command([*INLINE, "--set", "resources.epoch_budget=4"]) == 0
    out = capsys.readouterr().out
    # The second trial was in flight when the budget was spent.
    assert [line.split("]")[0] for line in out.splitlines() if line.startswith("[")] == ["[1/4", "[2/4"]
    assert "1 of 4 epochs left" in out and "budget    6 of 4 epochs spent, 0 left (resources.epoch_budget)" in out
    # More trials alone would not go on.
    assert out.splitlines()[-1].endswith("resume runs/mine --set resources.epoch_budget=8")
    assert run_command(["resume", "mine", "--backend", "inline"]) == 0
    assert "is finished: 2 trials, nothing to add." in capsys.readouterr().out
    assert run_command(["resume", "mine", "--backend", "inline", "--set", "resources.epoch_budget=9"]) == 0
    assert "budget    9 of 9 epochs spent, 0 left" in capsys.readouterr().out
    run_command(["show", "mine"])
    assert "Budget: 9 of 9 epochs spent, 0 left (resources.epoch_budget)" in capsys.readouterr().out
    run_command(["show", "mine", "--json"])
    told = json.loads(capsys.readouterr().out)["budgets"]
    assert told == [{"key": "resources.epoch_budget", "limit": 9, "spent": 9, "left": 0.0}]


def test_trials_lost_to_infrastructure_exit_3(project, capsys):
    full = "import errno\ndef train(config, trial):\n"
    full += "    if trial.number == 2:\n        raise OSError(errno.ENOSPC, 'No space left on device')\n"
    full += "    trial.report(epoch=1, quality=1.0)\n"
    (project / "mine.py").write_text(full)
    assert run_command([*INLINE, "--set", "failure.max_retries=0"]) == 3
    sentence = "runs/mine: 1 of 4 trials was lost to infrastructure or timeouts (1 infrastructure.storage).\n"
    assert capsys.readouterr().err == sentence


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_a_clean_terminal_and_the_way_on(project, number, status):
    process, terminal = on_a_terminal(*INLINE, "--set", "space.nap=0.1", "search.trials=40", cwd=project)
    seen = wait_for(b"of 40 trials", terminal) + wait_for(b"t0001", terminal)
    process.send_signal(number)
    seen += read_all(terminal)
    assert process.wait() == status
    said = seen.decode()
    # The cursor is back, and the panel is gone: what follows its last line is the sentence alone.
    assert said.rfind("\x1b[?25h") > said.rfind("\x1b[?25l")
    assert said.count("Interrupted; what was done is saved (") == 1
    assert re.search(r"Go on with:\r\n  \S+ resume runs/mine\r\n$", said)
    assert "Traceback" not in said


def test_a_terminal_that_is_closed_interrupts_and_the_status_says_so(project):
    pid, terminal = pty.fork()
    if pid == 0:
        arguments = [*INLINE, "--set", "space.nap=0.1", "--set", "search.trials=40"]
        os.execv(sys.executable, [sys.executable, "-m", "tuner.cli", *arguments])
    wait_for(b"t0001", terminal)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143
    assert load("mine").status == "interrupted"


def test_a_breakpoint_works_under_the_live_display(project):
    source = (project / "mine.py").read_text().replace('    print("hello', '    breakpoint()\n    print("hello')
    (project / "mine.py").write_text(source)
    process, terminal = on_a_terminal(*INLINE, "--set", "search.trials=1", cwd=project)
    wait_for(b"(Pdb) ", terminal)
    os.write(terminal, b"p config['nap'] + 41\n")
    wait_for(b"41.0", terminal)
    os.write(terminal, b"c\n")
    assert "1 completed" in read_all(terminal).decode()
    assert process.wait() == 0


def test_a_reader_that_goes_away_does_not_end_the_sweep(project):
    command = f"{sys.executable} -m tuner.cli {' '.join(INLINE)} | head -1"
    done = subprocess.run(["sh", "-c", command], cwd=project, capture_output=True, text=True, check=False)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert load("mine").counts() == {"completed": 4}


def test_python_and_the_command_line_give_the_same(project, capsys):
    import tuner as package

    run_command([*INLINE, "-q"])
    results = package.run(package.load_sweep("mine.toml"), storage="others", backend="inline")
    run_command(["best", "mine", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["config"], told["value"]) == (results.best().config, results.best().value)


def test_a_terminal_is_not_needed_for_anything(project):
    done = tuner(*INLINE, cwd=project, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and "\x1b" not in done.stdout
