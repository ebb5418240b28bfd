"""One driver's turn at a sweep: stage after stage, from its first look at the journal to its last row."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tuner import disk
from tuner.backends import inline
from tuner.backends.driver import Driver, interrupt
from tuner.backends.ray_tune import session
from tuner.backends.stage import Stage, known_before
from tuner.backup import Backup
from tuner.checkpoints import extract_model
from tuner.errors import DataError, Interrupted, RunError, StorageError, SweepFailed
from tuner.history import RANKED, Event, History
from tuner.journal import Journal
from tuner.loading import load_trainable
from tuner.mirror import Mirror
from tuner.plan import Plan
from tuner.preflight import check_config, count_parameters
from tuner.results import Results, from_history
from tuner.signals import Signals
from tuner.spec import Sweep
from tuner.splits import Splits
from tuner.stopping import Rule, make_rules
from tuner.storage import PATIENCE_S, shown
from tuner.strategies import Strategy, make_strategy
from tuner.timing import Clock
from tuner.winner import best_checkpoints, write_best

_LEAVING_S = 5.0  # whoever interrupts a sweep is not kept waiting for a storage that does not answer
Backend = Literal["ray", "inline"]


@dataclasses.dataclass(frozen=True)
class Step:
    """One stage, ready to be driven.

    Args:
        stage: What to run.
        sweep: The sweep that its trials belong to; a refined one has another space.
        data: Training and validation splits by fold.
        strategy: Proposes configs, where the stage lists none itself.
        trials: The most trials that it will have.
        rules: Stopping rules.
    """

    stage: Stage
    sweep: Sweep
    data: Splits
    strategy: Strategy
    trials: int
    rules: Sequence[Rule] = ()


@dataclasses.dataclass(frozen=True)
class Watch:
    """What a display may hook into; by default nothing is shown.

    Args:
        on_plan: Called once with the plan and the run folder, before the first trial.
        on_event: Called with every committed journal event of a trial, and every note.
        on_stage: Called in a study before each stage, with the most trials that it will have.
        tee: Inline only: also show the trainable's own output.
        clock: Counts where the time goes.
        on_wait: Called where a driver on another host may be dead, and the end of its lease is waited for. None: such a
            sweep is refused at once.
    """

    on_plan: Callable[[Plan, Path], None] = lambda plan, folder: None
    on_event: Callable[[Event], None] = lambda event: None
    on_stage: Callable[[Stage, int], None] = lambda stage, trials: None
    tee: bool = False
    clock: Clock = dataclasses.field(default_factory=Clock)
    on_wait: Callable[[str], None] | None = None


@dataclasses.dataclass(frozen=True)
class Drive:
    """One driver's turn at a sweep, from its first look at the journal to its last row.

    Args:
        plan: The plan, with the frozen sweep.
        mirror: The run folder, locked, and where it is carried to.
        journal: Its journal.
        data: Training and validation splits of a trial without a fold.
        origin: Where the user's trainable file came from, or None.
        signals: Open already, and held back.
        home: Where it runs on Ray, which may be starting; ended with this turn.
        steps: What to drive, one after another.
        watch: Hooks for a display.
        most: The most trials at a time; None: what fits, on a cluster whose nodes come and go.
        overrides: What this resume changes of the sweep; it holds for later ones, too.
        changed: What is no longer as it was at the start, a sentence each.
        again: Whether a study may open its test split once more.

    Attributes:
        idle_s: For each step, the seconds that workers waited for what `search.deterministic` holds out for.
    """

    plan: Plan
    mirror: Mirror
    journal: Journal
    data: Splits
    origin: str | None
    signals: Signals
    home: session.Home
    steps: Steps
    watch: Watch
    most: int | None
    overrides: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    again: bool = False
    idle_s: list[float] = dataclasses.field(default_factory=list, init=False)

    @property
    def folder(self) -> Path:
        """The run folder on this machine."""
        return self.mirror.folder

    def run(self, backend: Backend) -> Results:
        """Drive every step to its end."""
        here = self.mirror.remote is None  # else checkpoints lie elsewhere
        room = disk.Room(self.folder, (self.plan.disk.checkpoint or 0) if here else 0)
        with room.told():
            try:
                return self._run(backend, room)
            finally:
                with self.watch.clock.phase("end"):
                    self.home.close()

    def note(self, history: History, body: Mapping[str, Any]) -> None:
        """Commit a note, and tell the display."""
        with self.signals.held():  # else what is known here may lack a row of the journal
            committed = self.journal.append(Event("note", body=dict(body)))
            for event in committed:
                history.add(event)
        for event in committed:
            self.watch.on_event(event)
        if "finished" not in body:  # what a stage decided is not in any checkpoint's manifest
            self.mirror.carry()

    def _run(self, backend: Backend, room: disk.Room) -> Results:
        backup, history = Backup(self.journal.path), self.journal.history()
        self.mirror.start(backup)
        self.watch.on_plan(self.plan, self.folder)
        started = {"host": platform.node(), "pid": os.getpid(), "backend": backend, "overrides": [*self.overrides]}
        for event in self.journal.append(Event("session", body={**started, "changed": [*self.changed]})):
            history.add(event)
        halted = None
        try:
            with self.signals.heard():
                for step in self.steps(self, history):
                    if step.data is not self.data:
                        self.data.release()  # no stage from here on trains on it
                    driver = self._driver(step, history, room, backup)
                    driver.tidy()
                    if not driver.nothing_left():
                        if history.study:
                            self.watch.on_stage(step.stage, step.trials)
                        with self.watch.clock.phase("workers"):
                            self._run_backend(driver, step, backend)
                    self.idle_s.append(driver.idle_s)
                    if driver.halted and not driver.nothing_left():
                        halted = driver.halted
                        break
        except KeyboardInterrupt:
            self._leave(history, backup)
            sentence = f"Interrupted; what was done is saved. Go on with: tuner resume {shown(self.folder)}"
            raise Interrupted(sentence, self.signals.exit_status) from None
        except (SweepFailed, DataError) as error:  # data that a stage, or another Ray, needs may be gone by then
            self._leave(history, backup)
            raise SweepFailed(error.why if isinstance(error, SweepFailed) else str(error), self.folder) from error
        if halted:
            self._leave(history, backup)
            raise StorageError(halted, self.folder)
        ended = any(record.status in RANKED for record in history.trials.values())
        return self._finish(history, "completed" if ended else "failed", backup)

    def _driver(self, step: Step, history: History, room: disk.Room, backup: Backup) -> Driver:
        sweep, data = step.sweep, step.data

        def on_event(event: Event) -> None:
            if self.mirror.remote is None:
                if event.kind == "checkpoint":
                    room.learn(event.body["bytes"])
                backup.maybe()
            self.watch.on_event(event)

        return Driver(
            sweep,
            self.folder,
            history,
            step.strategy,
            step.rules,
            journal=self.journal,
            device="cuda" if sweep.resources.gpus_per_trial else "cpu",
            on_event=on_event,
            reject=lambda config: check_config(sweep, data.info, config, self.origin),
            measure=lambda config: count_parameters(sweep, data.info, config, self.origin),
            hold=self.signals.held,
            lacking=room.lacking,
            stage=step.stage,
            mirror=self.mirror,
        )

    def _run_backend(self, driver: Driver, step: Step, backend: Backend) -> None:
        sweep = step.sweep
        if backend == "inline":
            inline.run(driver, load_trainable(sweep.trainable, self.origin)[0], step.data, tee=self.watch.tee)
            return
        from tuner.backends.ray_tune import driver_side

        options = driver_side.Options(self.plan.cpus, self.plan.gpus, self.most, self.origin, self.home)
        driver_side.run(driver, sweep.trainable, step.data, options)

    def _leave(self, history: History, backup: Backup) -> None:
        """Note that the sweep is not over, as far as that can be written: a resume needs none of it."""
        with contextlib.suppress(OSError, RunError):
            interrupt(history, self.journal)
            self._finish(history, "interrupted", backup)

    def _finish(self, history: History, status: str, backup: Backup) -> Results:
        with self.watch.clock.phase("best"):
            return self._wound_up(history, status, backup)

    def _extract(self, checkpoint: Path, target: Path) -> None:
        """Take a model out of a checkpoint: in a worker where one is there, since that has imported torch already."""
        if not self.home.extract_model(checkpoint, target):
            extract_model(checkpoint, target)

    def _wound_up(self, history: History, status: str, backup: Backup) -> Results:
        self.journal.check()  # a driver that is none any more leaves best/ alone
        # best/ first: once the note says that this turn is over, nothing is left to be done.
        self.mirror.close()
        results = from_history(self.folder, history, running=False)
        for kept in best_checkpoints(results):
            self.mirror.fetch(kept.path)
        write_best(results, self.data.preprocess, self._extract)
        idle = {"idle_s": round(sum(self.idle_s), 1)} if self.plan.sweep.search.deterministic else {}
        self.note(history, {"finished": status, **idle})
        if self.mirror.remote is not None:
            self.mirror.carry(_LEAVING_S if status == "interrupted" else PATIENCE_S)
            return from_history(self.folder, history, running=False)
        with contextlib.suppress(RunError):  # the copy before stays, and `tuner doctor` tells of it
            backup.now()
        return from_history(self.folder, history, running=False)


# Yields step after step; between two of them it may look at what the history has become.
Steps = Callable[[Drive, History], Iterator[Step]]


def search_only(drive: Drive, history: History) -> Iterator[Step]:
    """Yield the one step of a sweep that is no study."""
    sweep = drive.plan.sweep
    yield Step(
        Stage(prior=known_before(history)),
        sweep,
        drive.data,
        make_strategy(sweep),
        drive.plan.trials,
        make_rules(sweep),
    )
