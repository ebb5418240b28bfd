"""Run a sweep, and resume one, on any backend."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Literal

from tuner.backends import inline
from tuner.backends.driver import Driver
from tuner.errors import Interrupted
from tuner.history import RANKED, Event, History, fold
from tuner.journal import FILE_NAME, Journal
from tuner.loading import load_trainable
from tuner.plan import Plan, make_plan
from tuner.preflight import check_config
from tuner.results import DEFAULT_STORAGE, Results, find_run, from_history, load
from tuner.run_folder import freeze_code, lock, make_run_folder, write_provenance, write_text
from tuner.spec import Sweep, load_sweep
from tuner.stopping import make_rules
from tuner.strategies import make_strategy
from tuner.trainable import Data, Train
from tuner.winner import write_best

Backend = Literal["ray", "inline"]

# Cores and GPUs that a cluster may have; what it has is checked once it is joined.
_UNBOUNDED = (1_000_000, 1_000_000)


@dataclasses.dataclass(frozen=True)
class Watch:
    """What a display may hook into; by default nothing is shown.

    Args:
        on_plan: Called once with the plan and the run folder, before the first trial.
        on_event: Called with every committed journal event.
        tee: Inline only: also show the trainable's own output.
    """

    on_plan: Callable[[Plan, Path], None] = lambda plan, folder: None
    on_event: Callable[[Event], None] = lambda event: None
    tee: bool = False


def run(
    sweep: Sweep,
    *,
    storage: str | Path = DEFAULT_STORAGE,
    name: str | None = None,
    backend: Backend = "ray",
    address: str | None = None,
    watch: Watch | None = None,
) -> Results:
    """Run a sweep to its end in a new run folder.

    Args:
        sweep: The sweep.
        storage: Where run folders live.
        name: The run folder's name; a taken one is refused. None: the sweep's name, with -2, -3, ... where taken.
        backend: "ray" (this machine's cores and GPUs, or a cluster) or "inline" (this process, one trial at a time).
        address: A Ray cluster to join; None starts Ray on this machine.
        watch: Hooks for a display.

    Returns:
        The results; also where no trial completed (status "failed").

    Raises:
        TunerError: Something that must be put right before the first trial, or Interrupted by a signal.
    """
    load_trainable(sweep.trainable)  # a mistake in it is told before a folder is made
    plan = _checked_plan(sweep, address)
    data = _load_data(sweep)
    # Absolute, since workers need not share this process's working directory.
    folder = make_run_folder(Path(storage).absolute(), name or sweep.name, exact=name is not None)
    with lock(folder):
        frozen, row = _freeze(plan.sweep, folder)
        with contextlib.closing(Journal(folder / FILE_NAME)) as journal:
            journal.append(row)
            job = _Drive(dataclasses.replace(plan, sweep=frozen), folder, journal, data, row.body["origin"])
            return job.run(backend, address, watch or Watch())


def resume(
    run: str | Path,
    *,
    trials: int | None = None,
    overrides: Sequence[str] = (),
    trainable: Train | None = None,
    backend: Backend = "ray",
    address: str | None = None,
    watch: Watch | None = None,
) -> Results:
    """Go on with a sweep from its run folder; a finished one is returned as it is.

    Args:
        run: A path, a name in ./runs, or "latest".
        trials: Extend the sweep to this many configs.
        overrides: "key=value" as on the command line.
        trainable: The function again, where the sweep was started from Python with one.
        backend: As in run().
        address: As in run().
        watch: As in run().

    Returns:
        The results.

    Raises:
        TunerError: As in run(); RunError where another driver is at it.
    """
    folder = find_run(run).absolute()
    with lock(folder):
        extra = [*overrides, *([f"search.trials={trials}"] if trials else [])]
        sweep = load_sweep(folder / "sweep.toml", extra, trainable=trainable)
        with contextlib.closing(Journal(folder / FILE_NAME)) as journal:
            events = journal.events()
            if nothing_left(sweep, fold(events)):
                return load(folder)
            plan = _checked_plan(sweep, address)
            origin = next(event.body.get("origin") for event in events if event.kind == "sweep")
            job = _Drive(plan, folder, journal, _load_data(sweep), origin)
            return job.run(backend, address, watch or Watch())


def nothing_left(sweep: Sweep, history: History) -> bool:
    """Return whether a sweep has every trial that it asks for, each with an end."""
    driver = Driver(sweep, Path(), history, make_strategy(sweep), ())
    return driver.nothing_left()


@dataclasses.dataclass(frozen=True)
class _Drive:
    """One driver's turn at a sweep, from its first look at the journal to its last row.

    Args:
        plan: The plan, with the frozen sweep.
        folder: The run folder, locked.
        journal: Its journal.
        data: Training and validation splits, or None.
        origin: Where the user's trainable file came from, or None.
    """

    plan: Plan
    folder: Path
    journal: Journal
    data: Data | None
    origin: str | None

    def run(self, backend: Backend, address: str | None, watch: Watch) -> Results:
        sweep, data = self.plan.sweep, self.data
        watch.on_plan(self.plan, self.folder)
        driver = Driver(
            sweep,
            self.folder,
            fold(self.journal.events()),
            make_strategy(sweep),
            make_rules(sweep),
            journal=self.journal,
            device="cuda" if sweep.resources.gpus_per_trial else "cpu",
            on_event=watch.on_event,
            reject=lambda config: check_config(sweep, data, config) if data else None,
        )
        started = {"host": platform.node(), "pid": os.getpid(), "backend": backend}
        self.journal.append(Event("session", body=started))
        try:
            with _signals():
                self._run_backend(driver, backend, address, watch)
        except KeyboardInterrupt as stop:
            driver.interrupt()
            self._finish(driver, "interrupted")
            sentence = f"Interrupted; what was done is saved. Go on with: tuner resume {self.folder}"
            raise Interrupted(sentence, _exit_status(stop)) from None
        ended = any(record.status in RANKED for record in driver.history.trials.values())
        return self._finish(driver, "completed" if ended else "failed")

    def _run_backend(self, driver: Driver, backend: Backend, address: str | None, watch: Watch) -> None:
        sweep = self.plan.sweep
        if backend == "inline":
            inline.run(driver, load_trainable(sweep.trainable, self.origin)[0], self.data, tee=watch.tee)
            return
        from tuner.backends.ray_tune import driver_side

        options = driver_side.Options(
            address, self.plan.cpus, self.plan.gpus, sweep.resources.max_concurrent or 1, self.origin
        )
        driver_side.run(driver, sweep.trainable, self.data, options)

    def _finish(self, driver: Driver, status: str) -> Results:
        for event in self.journal.append(Event("note", body={"finished": status})):
            driver.history.add(event)
        results = from_history(self.folder, driver.history, running=False)
        write_best(results, dict(self.data.preprocess) if self.data else None)
        return results


def _checked_plan(sweep: Sweep, address: str | None) -> Plan:
    """Return the plan, for this machine or for a cluster, which is asked once it is joined."""
    plan = make_plan(sweep, memory=False) if address is None else make_plan(sweep, *_UNBOUNDED, memory=False)
    plan.check()
    return plan


def _load_data(sweep: Sweep) -> Data | None:
    if sweep.data is None:
        return None
    data: Data = importlib.import_module("trainables.data").load(sweep.data.model_dump(), sweep.seed)
    return data


def _freeze(sweep: Sweep, folder: Path) -> tuple[Sweep, Event]:
    """Write sweep.toml before anything else, then the user's code and where everything came from.

    Returns:
        The sweep as the run folder holds it, and the journal's first row.
    """
    frozen, written, origin = sweep, sweep, None
    if isinstance(sweep.trainable, str) and ".py:" in sweep.trainable:
        origin, _, function = sweep.trainable.rpartition(":")
        copy = freeze_code(Path(origin), folder)
        frozen = sweep.model_copy(update={"trainable": f"{copy.resolve()}:{function}"})
        # Relative to the run folder, so that the folder can be moved.
        written = sweep.model_copy(update={"trainable": f"{copy.relative_to(folder)}:{function}"})
    write_text(folder / "sweep.toml", written.to_toml())
    write_provenance(folder, written)
    return frozen, Event("sweep", body={"toml": written.to_toml(), "sha256": written.hash(), "origin": origin})


class _Signal(KeyboardInterrupt):
    """A signal that ends the sweep; a KeyboardInterrupt, so that no `except Exception` swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into what SIGINT is: an exception in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Signal(number)

    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in watched}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_status(stop: KeyboardInterrupt) -> int:
    number = stop.number if isinstance(stop, _Signal) else signal.SIGINT
    return 130 if number == signal.SIGINT else 143
