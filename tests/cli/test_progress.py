import io
import sys
import threading

import pytest
from made_runs import Made, failed
from rich.cells import cell_len
from rich.console import Console

from tuner.backends.stage import Stage
from tuner.budgets import Limits
from tuner.cli import progress
from tuner.cli.progress import Lines, Live, Silence, end_line, make_display, panel, start_line
from tuner.cli.standing import Goal, Standing
from tuner.history import Event, History
from tuner.plan import make_plan
from tuner.spec import load_sweep

GOAL = Goal("demo", "val_accuracy", "max", trials=24, max_epochs=10, varied=("lr", "layers"))


def events(trials: list[Made], at: float = 100.0) -> list[Event]:
    """Return the trials' events, one a second."""
    listed = [event for number, trial in enumerate(trials, start=1) for event in trial.events(number, "val_accuracy")]
    return [Event(e.kind, e.trial, e.attempt, e.epoch, e.body, at + place) for place, e in enumerate(listed)]


def standing(trials: list[Made], goal: Goal = GOAL) -> Standing:
    made = Standing(goal, History(), began_at=100.0)
    for event in events(trials):
        made.add(event)
    return made


def text(now, width: int = 80, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), highlight=False)
    console.print(panel(now, width, height))
    return console.file.getvalue().splitlines()


def config(number: int) -> dict[str, object]:
    return {"lr": number / 1000, "layers": [16, 32], "fixed": 1}


MIXED = [
    Made(config(1), [0.5, 0.9, 0.7]),
    Made(config(2), [0.4], "stopped"),
    failed(config(3), "config.shape", "it collapses"),
    Made(config(4), [0.3, 0.6], "running"),
]


def test_a_snapshot_counts_what_is_done_and_what_is_left():
    now = standing(MIXED).snapshot(120.0)
    assert now.counts == {"completed": 1, "stopped": 1, "failed": 1, "running": 1, "pending": 20}
    assert (now.done, now.total, now.epochs, now.elapsed_s) == (3, 24, 6, 20.0)
    assert now.best.trial.trial == "t0001" and now.best.value == 0.9
    (running,) = now.running
    assert (running.trial, running.epoch, running.epochs, running.value) == ("t0004", 2, 10, 0.6)
    # Only what the space varies.
    assert running.config == {"lr": 0.004, "layers": [16, 32]}


def test_the_time_left_follows_from_what_ended_trials_took():
    now = standing([Made(config(n), [0.5] * 4) for n in range(1, 13)]).snapshot(101.0 + 96.0)
    # 48 epochs in 96 s since the first attempt, and 12 trials of 4 epochs to go.
    assert now.rate == pytest.approx(0.5)
    assert now.left_s == pytest.approx(96.0)


def test_no_guess_before_there_is_something_to_go_by():
    now = standing([Made(config(1), [0.5], "running")]).snapshot(110.0)
    assert now.rate is not None and now.left_s is None


def test_a_time_budget_bounds_the_guess():
    goal = Goal("demo", "val_accuracy", "max", 1000, 10, limits=Limits(seconds=60.0))
    now = standing([Made(config(n), [0.5] * 4) for n in range(1, 4)], goal).snapshot(120.0)
    assert now.left_s == pytest.approx(40.0)


def test_budgets_are_shown_and_an_epoch_budget_bounds_the_guess():
    goal = Goal("demo", "val_accuracy", "max", 1000, 10, limits=Limits(epochs=20, gpu_hours=1.0, gpus=2.0))
    made = standing([Made(config(n), [0.5] * 4) for n in range(1, 4)], goal)
    now = made.snapshot(125.0)
    said = "\n".join(text(now, 100))
    assert "budget: 12 of 20 epochs spent, 8 left" in said
    assert "budget: 0.01 of 1 GPU-hours spent, 0.99 left" in said
    # 12 epochs in 24 s since the first attempt, and 8 to go.
    assert now.left_s == pytest.approx(16.0)
    record = made.history.trials["t0003"]
    assert "  8 of 20 epochs left  0.99 of 1 GPU-hours left   lr=" in end_line(record, now)


def test_a_trial_left_behind_by_a_dead_driver_does_not_count_as_running():
    history = History()
    for event in events(MIXED):
        history.add(event)
    now = Standing(GOAL, history, began_at=500.0).snapshot(501.0)
    assert now.running == [] and now.counts["pending"] == 21
    assert now.epochs == 0 and now.best.trial.trial == "t0001"


def test_a_trial_with_its_own_number_of_epochs():
    now = standing([Made({"lr": 1, "epochs": 4}, [0.1], "running")]).snapshot(110.0)
    assert now.running[0].epochs == 4


def test_it_is_read_while_it_is_written():
    made, wrong = Standing(GOAL, History(), began_at=100.0), []

    def read():
        for _ in range(50):
            now = made.snapshot(150.0)
            if sum(now.counts.values()) != 24:
                wrong.append(now.counts)

    reader = threading.Thread(target=read)
    reader.start()
    for event in events([Made(config(n), [0.1] * 5) for n in range(1, 25)]):
        made.add(event)
    reader.join()
    assert wrong == []


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_panel_fits_the_terminal(width):
    many = [*MIXED[:3], *(Made(config(n), [0.5], "running") for n in range(4, 34))]
    lines = text(standing(many).snapshot(150.0), width)
    assert {cell_len(line) for line in lines} == {width}
    assert len(lines) <= 24
    # 30 lanes side by side are counted where they are not listed.
    assert "and 19 more at work" in "\n".join(lines)


def test_the_panel_says_what_a_person_wants_to_know():
    said = "\n".join(text(standing(MIXED).snapshot(120.0), 100))
    assert "demo: val_accuracy (max)" in said
    assert "3 of 24 trials   about " in said
    assert "1 completed   1 stopped   1 failed   1 running   20 pending" in said
    assert "6 epochs   0.32 epochs/s   20 s so far" in said
    assert "best 0.9000 (t0001, epoch 2)  lr=0.001 layers=[16, 32]" in said
    assert "t0004  epoch  2/10  0.6000  lr=0.004 layers=[16, 32]" in said


def test_the_panel_before_the_first_trial():
    said = "\n".join(text(standing([]).snapshot(101.0)))
    assert "0 of 24 trials" in said and "starting" in said


def test_text_that_looks_like_markup_is_text():
    now = standing([Made({"lr": "[bold]"}, [0.5], "running")]).snapshot(110.0)
    assert "lr=[bold]" in "\n".join(text(now))


@pytest.mark.parametrize(
    ("trial", "line"),
    [
        (
            MIXED[0],
            "[ 1/24] t0001 completed  val_accuracy 0.9000 (epoch 2)  best 0.9000 (t0001)   lr=0.001 layers=[16, 32]",
        ),
        (MIXED[2], "[ 1/24] t0001 failed     config.shape: it collapses   lr=0.003 layers=[16, 32]"),
        (Made({}, [None], "completed"), "[ 1/24] t0001 completed  no finite val_accuracy"),
    ],
)
def test_a_line_for_each_trial_that_ended(trial, line):
    made = standing([trial])
    assert end_line(made.history.trials["t0001"], made.snapshot(110.0)) == line


def test_the_first_line_says_what_runs_and_where(project):
    plan = make_plan(load_sweep("mine.toml"), cpus=2, gpus=0)
    folder = project / "runs/mine-2"
    assert start_line(plan, folder) == "mine-2: 4 trials (random) of up to 3 epochs, 2 at a time, in runs/mine-2"
    assert "1 at a time" in start_line(plan, folder, inline=True)


def test_of_a_study_each_stage_is_counted_by_itself():
    """Else the total would grow from stage to stage, and say nothing."""

    def made(number, stage, repeat, status="completed"):
        trial = Made(config(number), [0.5], status, proposal=number, repeat=repeat)
        return [event._replace(body={**event.body, "stage": stage}) for event in trial.events(number, "val_accuracy")]

    now = Standing(GOAL, History(), began_at=100.0)
    now.begin(Stage("search"), 24)
    for event in [*made(1, "search", 1), *made(2, "search", 1)]:
        now.add(event)
    assert "  search 2 of 24 trials" in "\n".join(text(now.snapshot(110.0)))
    now.begin(Stage("cross_validate", after=-1), 40)
    assert "  cross_validate 0 of 40 trials" in "\n".join(text(now.snapshot(110.0)))
    for event in made(3, "cross_validate", 1):
        now.add(event)
    line = end_line(now.history.trials["t0003"], now.snapshot(110.0))
    assert line.startswith("[cross_validate  1/40] t0003 completed  val_accuracy 0.5000 (epoch 1)  best 0.5000 (t0001)")
    # A round of refinement begins after the proposals of those before it.
    now.begin(Stage("refine", after=5), 3)
    assert now.snapshot(110.0).counts == {"pending": 3}


def test_a_final_training_has_no_validation_to_miss():
    trial = Made(config(1), [None, None])
    begun, *rest = trial.events(1, "val_accuracy")
    now = Standing(GOAL, History(), began_at=100.0)
    now.begin(Stage("final", after=-1), 2)
    for event in [begun._replace(body={**begun.body, "stage": "final"}), *rest]:
        now.add(event)
    line = end_line(now.history.trials["t0001"], now.snapshot(110.0))
    assert line.startswith("[final 1/2] t0001 completed  trained for 2 epochs")


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_lines_outlive_their_reader(project):
    from tuner.drive import Watch
    from tuner.run import run

    lines = Lines(Console(file=Broken(), width=80))
    watch = Watch(on_plan=lines.on_plan, on_event=lines.on_event)
    results = run(load_sweep("mine.toml"), backend="inline", watch=watch)
    assert results.counts() == {"completed": 4}


def test_which_display(monkeypatch):
    assert isinstance(make_display(quiet=True), Silence)
    # Under a test, standard output is no terminal.
    assert isinstance(make_display(quiet=False), Lines)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert isinstance(make_display(quiet=False), Live)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_display(quiet=False), Lines)


def test_the_breakpoint_hook_is_given_back():
    before = sys.breakpointhook
    with progress.closing(Silence()):
        assert sys.breakpointhook is not before
    assert sys.breakpointhook is before


def test_redraws_are_few():
    assert progress.REDRAWS_PER_S <= 4
