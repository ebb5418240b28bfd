"""Run a sweep, and resume one, on any backend."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from tuner.backends.driver import Driver
from tuner.errors import Interrupted, RunError, TunerError
from tuner.history import RANKED, Event
from tuner.journal import FILE_NAME, Journal
from tuner.loading import load_trainable
from tuner.plan import Plan, make_plan
from tuner.preflight import check_config
from tuner.results import DEFAULT_STORAGE, Results, find_run, from_history
from tuner.run_folder import freeze_code, lock, make_run_folder, write_provenance, write_text
from tuner.spec import Sweep, load_sweep
from tuner.stopping import make_rules
from tuner.strategies import make_strategy
from tuner.trainable import Data, Train
from tuner.winner import write_best

Backend = Literal["ray", "inline"]


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
    plan = make_plan(sweep)
    plan.check()
    load_trainable(sweep.trainable)  # a mistake in it is told before a folder is made
    data = _load_data(plan.sweep)
    folder = make_run_folder(Path(storage), name or sweep.name, exact=name is not None)
    with lock(folder):
        frozen = _freeze(plan.sweep, folder)
        journal = Journal(folder / FILE_NAME)
        journal.append(Event("sweep", body={"toml": frozen.to_toml(), "sha256": frozen.hash()}))
        started = dataclasses.replace(plan, sweep=frozen)
        return _drive(started, folder, journal, data, backend, address, watch or Watch())


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
    folder = find_run(run)
    with lock(folder):
        extra = [*overrides, *([f"search.trials={trials}"] if trials else [])]
        sweep = load_sweep(folder / "sweep.toml", extra, trainable=trainable)
        journal = Journal(folder / FILE_NAME)
        plan = make_plan(sweep)
        plan.check()
        data = _load_data(sweep)
        return _drive(plan, folder, journal, data, backend, address, watch or Watch())


def _drive(
    plan: Plan,
    folder: Path,
    journal: Journal,
    data: Data | None,
    backend: Backend,
    address: str | None,
    watch: Watch,
) -> Results:
    sweep = plan.sweep
    watch.on_plan(plan, folder)
    driver = Driver(
        sweep,
        folder,
        journal,
        make_strategy(sweep),
        make_rules(sweep),
        device="cuda" if sweep.resources.gpus_per_trial else "cpu",
        on_event=watch.on_event,
        reject=lambda config: check_config(sweep, data, config) if data else None,
    )
    try:
        journal.append(Event("session", body={"host": platform.node(), "backend": backend, "trials": plan.trials}))
        with _signals():
            _run_backend(driver, plan, data, backend, address, watch)
        finished = "completed" if any(r.status in RANKED for r in driver.history.trials.values()) else "failed"
        return _finish(driver, folder, finished, data)
    except KeyboardInterrupt as stop:
        driver.interrupt()
        _finish(driver, folder, "interrupted", data)
        raise Interrupted(
            f"Interrupted; what was done is saved. Go on with: tuner resume {folder}", _exit_status(stop)
        ) from None
    finally:
        journal.close()


def _run_backend(
    driver: Driver, plan: Plan, data: Data | None, backend: Backend, address: str | None, watch: Watch
) -> None:
    sweep = plan.sweep
    if backend == "inline":
        from tuner.backends import inline

        inline.run(driver, load_trainable(sweep.trainable)[0], data, tee=watch.tee)
        return
    from tuner.backends.ray_tune import driver_side

    options = driver_side.Options(address, plan.cpus, plan.gpus, sweep.resources.max_concurrent or 1)
    driver_side.run(driver, sweep.trainable, data, options)


def _finish(driver: Driver, folder: Path, status: str, data: Data | None) -> Results:
    event = driver.journal.append(Event("note", body={"finished": status}))[0]
    driver.history.add(event)
    results = from_history(folder, driver.history, running=False)
    write_best(results, dict(data.preprocess) if data else None)
    return results


def _load_data(sweep: Sweep) -> Data | None:
    if sweep.data is None:
        return None
    import importlib

    data: Data = importlib.import_module("trainables.data").load(sweep.data.model_dump(), sweep.seed)
    return data


def _freeze(sweep: Sweep, folder: Path) -> Sweep:
    """Write sweep.toml before anything else, then the user's code and where everything came from."""
    write_text(folder / "sweep.toml", sweep.to_toml())
    write_provenance(folder, sweep)
    return sweep


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


__all__ = ["Any", "RunError", "TunerError", "Watch", "freeze_code", "resume", "run"]
