"""What a running sweep shows: a live panel on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import contextlib
import os
import pdb
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tuner import budgets, journal
from tuner.cli import words
from tuner.cli.copying import path_text
from tuner.cli.standing import Goal, Running, Snapshot, Standing
from tuner.cli.terminal import console, mute
from tuner.history import FINISHED, Event, TrialRecord, fold
from tuner.space import Fixed, Numeric

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from tuner.backends.stage import Stage
    from tuner.plan import Plan

REDRAWS_PER_S = 4.0
BAR = 30
MOST_RUNNING = 12


class Display(Protocol):
    """Hooks for tuner.run.Watch, and an end."""

    def on_plan(self, plan: Plan, folder: Path) -> None:
        """Show what is about to run."""

    def on_event(self, event: Event) -> None:
        """Take one committed event."""

    def on_stage(self, stage: Stage, trials: int) -> None:
        """Take a study's next stage, and the most trials that it will have."""

    def join(self, goal: Goal, before: list[Event], session: list[Event]) -> None:
        """Show a sweep that is at work already: what was committed before its driver's turn, and what in it."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def make_display(quiet: bool, *, inline: bool = False) -> Display:
    """Return the display for this process's standard output.

    Args:
        quiet: Show nothing.
        inline: Trials run one after another, whatever would fit side by side.
    """
    if quiet:
        return Silence()
    terminal = console()
    return Live(terminal) if terminal.is_terminal and not terminal.is_dumb_terminal else Lines(terminal, inline)


class Silence:
    """Shows nothing."""

    def on_plan(self, plan: Plan, folder: Path) -> None:
        pass

    def on_event(self, event: Event) -> None:
        pass

    def on_stage(self, stage: Stage, trials: int) -> None:
        pass

    def join(self, goal: Goal, before: list[Event], session: list[Event]) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """One plain line at the start and one for each trial that ends: for logs and pipes."""

    def __init__(self, terminal: Console, inline: bool = False) -> None:
        self._file = terminal.file
        self._inline = inline
        self._standing: Standing | None = None

    def on_plan(self, plan: Plan, folder: Path) -> None:
        self._standing = standing(plan, folder)
        self._print(start_line(plan, folder, self._inline))
        if self._standing.history.study:
            self._print(f"a study: {', '.join(plan.sweep.study.stages)}")

    def on_event(self, event: Event) -> None:
        if self._standing is None:
            return
        self._standing.add(event)
        if event.kind == "end" and event.body["status"] in FINISHED:
            record = self._standing.history.trials[event.trial]
            self._print(end_line(record, self._standing.snapshot(time.time())))

    def on_stage(self, stage: Stage, trials: int) -> None:
        if self._standing is not None:
            self._standing.begin(stage, trials)

    def join(self, goal: Goal, before: list[Event], session: list[Event]) -> None:
        self._standing = joined(goal, before, [])
        for event in session:
            self.on_event(event)

    def close(self) -> None:
        pass

    def _print(self, line: str) -> None:
        try:
            print(line, file=self._file, flush=True)
        except (OSError, ValueError):  # a reader that is gone must not end a sweep
            mute(self._file)


class Live:
    """A panel that is redrawn while the sweep runs and leaves no trace."""

    def __init__(self, terminal: Console) -> None:
        from rich.live import Live as RichLive

        self._standing: Standing | None = None
        self._terminal = terminal
        self._live = RichLive(
            console=terminal,
            refresh_per_second=REDRAWS_PER_S,
            transient=True,
            get_renderable=self._draw,
            vertical_overflow="crop",
        )

    def on_plan(self, plan: Plan, folder: Path) -> None:
        self._standing = standing(plan, folder)
        self._live.start()

    def on_event(self, event: Event) -> None:
        if self._standing is not None:
            self._standing.add(event)

    def on_stage(self, stage: Stage, trials: int) -> None:
        if self._standing is not None:
            self._standing.begin(stage, trials)

    def join(self, goal: Goal, before: list[Event], session: list[Event]) -> None:
        self._standing = joined(goal, before, session)
        self._live.start()

    def close(self) -> None:
        try:
            self._live.stop()
        except OSError:  # the terminal is gone
            mute(self._terminal.file)

    def _draw(self) -> RenderableType:
        if self._standing is None:
            return ""
        return panel(self._standing.snapshot(time.time()), self._terminal.width, self._terminal.height)


@contextlib.contextmanager
def closing(display: Display) -> Iterator[None]:
    """Close the display at the end, however it ends, and at a breakpoint() in a trainable.

    A trial's output goes to its log, so the debugger is given the terminal itself.
    """
    terminal, before = sys.stdout, sys.breakpointhook

    def debug(*args: Any, **keywords: Any) -> None:
        display.close()
        pdb.Pdb(stdout=terminal).set_trace(sys._getframe(1))

    if "PYTHONBREAKPOINT" not in os.environ:
        sys.breakpointhook = debug
    try:
        yield
    finally:
        sys.breakpointhook = before
        display.close()


def standing(plan: Plan, folder: Path) -> Standing:
    """Return how the sweep stands before this session's first trial."""
    sweep = plan.sweep
    # Numbers first: a line may be cut at the terminal's edge, and the learning rate says more than a choice.
    leaves = sorted(sweep.space.leaves(), key=lambda leaf: not isinstance(leaf.domain, Numeric))
    varied = tuple(dict.fromkeys(leaf.name for leaf in leaves if not isinstance(leaf.domain, Fixed)))
    goal = Goal(
        name=folder.name,
        metric=sweep.metric,
        mode=sweep.mode,
        trials=plan.trials,
        max_epochs=sweep.max_epochs,
        varied=varied,
        limits=budgets.limits(sweep.resources.model_dump()),
    )
    return Standing(goal, fold(journal.read(folder / journal.FILE_NAME)), time.time())


def joined(goal: Goal, before: list[Event], session: list[Event]) -> Standing:
    """Return how a sweep stands that is at work already.

    Args:
        goal: What it is after.
        before: What was committed before its driver's turn.
        session: What its driver has committed.
    """
    began_at = session[0].at if session else time.time()
    standing = Standing(goal, fold(before), began_at)
    for event in session:
        standing.add(event)
    return standing


def start_line(plan: Plan, folder: Path, inline: bool = False) -> str:
    """Return what runs, and where: one line."""
    sweep = plan.sweep
    side_by_side = 1 if inline else sweep.resources.max_concurrent or 1
    return (
        f"{folder.name}: {words.count(plan.trials, 'trial')} ({sweep.search.strategy}) of up to "
        f"{words.count(sweep.max_epochs, 'epoch')}, {side_by_side} at a time, in {path_text(folder)}"
    )


def end_line(record: TrialRecord, now: Snapshot) -> str:
    """Return one line about a trial that has just ended."""
    goal = now.goal
    place = f"[{now.stage}{' ' if now.stage else ''}{now.done:>{len(str(now.total))}}/{now.total}]"
    best = f"  best {words.number(now.best.value)} ({now.best.trial.trial})" if now.best else ""
    left = "".join(f"  {budget.short()}" for budget in now.budgets)
    return (
        f"{place} {record.trial} {record.status:<9}  {_outcome(record, goal)}{best}{left}"
        f"   {words.config_line(goal.short(record.config))}"
    ).rstrip()


def _outcome(record: TrialRecord, goal: Goal) -> str:
    epoch = record.best_epoch(goal.metric, goal.mode)
    if record.status == "failed":
        return f"{record.cause}: {words.cut(record.error or '', 100)}"
    if epoch is None and record.stage == "final":
        return f"trained for {words.count(max(record.epochs, default=0), 'epoch')}"
    if epoch is None:
        return f"no finite {goal.metric}"
    return f"{goal.metric} {words.number(record.epochs[epoch].metrics[goal.metric])} (epoch {epoch})"


def panel(now: Snapshot, width: int, height: int) -> RenderableType:
    """Return the live panel: what is done, the best so far, what runs.

    Args:
        now: How the sweep stands.
        width: The terminal's columns.
        height: The terminal's lines; trials at work that do not fit are counted.
    """
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    inside = max(20, width - 4)
    lines = [_bar_line(now), _states_line(now), _speed_line(now), *_budget_lines(now), _best_line(now)]
    if now.running:
        lines += [Text(), *_running_lines(now, height - len(lines) - 4)]
    for line in lines:
        line.truncate(inside, overflow="ellipsis")
    title = Text(f" {now.goal.name}: {now.goal.metric} ({now.goal.mode}) ", style="bold")
    return Panel(Group(*lines), title=title, title_align="left", box=box.ROUNDED, width=width, border_style="dim")


def _bar_line(now: Snapshot) -> Text:
    from rich.text import Text

    bar = BAR - len(now.stage)  # so that the line fits 80 columns
    filled = bar * now.done // max(1, now.total)
    line = Text.assemble(("━" * filled, "green"), ("─" * (bar - filled), "bright_black"))
    line.append(f"  {now.stage}", style="bold")
    line.append(f"{' ' if now.stage else ''}{now.done} of {words.count(now.total, 'trial')}")
    if now.left_s is not None and now.done < now.total:
        line.append(f"   about {words.duration(max(1, round(now.left_s)))} left")
    return line


def _speed_line(now: Snapshot) -> Text:
    from rich.text import Text

    rate = f"   {words.rate(now.rate)} epochs/s" if now.rate else ""
    return Text(f"{words.count(now.epochs, 'epoch')}{rate}   {words.duration(round(now.elapsed_s))} so far")


def _states_line(now: Snapshot) -> Text:
    from rich.text import Text

    shown = [(state, now.counts[state]) for state in words.STATES if now.counts.get(state)]
    return Text("   ").join(Text(f"{amount} {state}", style=words.STYLES[state]) for state, amount in shown)


def _budget_lines(now: Snapshot) -> list[Text]:
    from rich.text import Text

    return [Text(f"budget: {budget.text()}") for budget in now.budgets]


def _best_line(now: Snapshot) -> Text:
    from rich.text import Text

    if now.best is None:
        none = f"no trial {'of the search ' if now.stage else ''}has ended yet"
        return Text(none if now.running else "starting", style="dim")
    record = now.best.trial
    epoch = record.best_epoch(now.goal.metric, now.goal.mode)
    line = Text(f"best {words.number(now.best.value)}", style="bold green")
    line.append(f" ({record.trial}, epoch {epoch})  ", style="not bold default")
    line.append(words.config_line(now.goal.short(record.config)), style="not bold default")
    return line


def _running_lines(now: Snapshot, room: int) -> list[Text]:
    from rich.text import Text

    room = min(max(1, room), MOST_RUNNING)
    shown = now.running if len(now.running) <= room else now.running[: room - 1]
    lines = [_running_line(trial) for trial in shown]
    if len(shown) < len(now.running):
        lines.append(Text(f"and {len(now.running) - len(shown)} more at work", style="dim"))
    return lines


def _running_line(trial: Running) -> Text:
    from rich.text import Text

    line = Text(f"{trial.trial}  ", style="cyan")
    value = f"{words.number(trial.value)}  " if trial.value is not None else ""
    line.append(f"epoch {trial.epoch:>{len(str(trial.epochs))}}/{trial.epochs}  {value}", style="default")
    line.append(words.config_line(trial.config), style="dim")
    return line
