"""Run a sweep, and resume one, on any backend."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import platform
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tuner import constraints, disk, remote_run
from tuner.adoption import Manifest, adopt
from tuner.backends.driver import Driver
from tuner.backends.ray_tune import ahead, nodes, session
from tuner.backends.stage import Stage, known_before
from tuner.drive import Backend, Drive, Steps, Watch, search_only
from tuner.errors import DataError, Interrupted, ResourceError, RunError, UsageError
from tuner.history import Event, History
from tuner.journal import FILE_NAME, Journal
from tuner.lanes import resolve as resolve_lanes
from tuner.lease import Lease
from tuner.loading import BUILTINS, load_trainable
from tuner.mirror import Mirror
from tuner.openings import openings
from tuner.plan import Plan, make_plan
from tuner.provenance import changes, write_provenance
from tuner.results import DEFAULT_STORAGE, Results, find_run, load
from tuner.run_folder import check_free, freeze_code, lock, lock_new, make_run_folder, write_text
from tuner.signals import Signals
from tuner.spec import Sweep, load_sweep
from tuner.splits import Splits
from tuner.storage import is_uri, local_path, shown
from tuner.strategies import make_strategy
from tuner.timing import Clock
from tuner.trainable import Train
from tuner.warm_start import learn

_ELSEWHERE = "resume a copy of the run folder on another disk"


def run(
    sweep: Sweep,
    *,
    storage: str | Path = DEFAULT_STORAGE,
    name: str | None = None,
    backend: Backend = "ray",
    address: str | None = None,
    insecure: bool = False,
    watch: Watch | None = None,
    steps: Steps | None = None,
) -> Results:
    """Run a sweep to its end in a new run folder.

    Args:
        sweep: The sweep.
        storage: Where run folders live: a path, or a URI (s3://, gs://, file://).
        name: The run folder's name; a taken one is refused. None: the sweep's name, with -2, -3, ... where taken.
        backend: "ray" (this machine's cores and GPUs, or a cluster) or "inline" (this process, one trial at a time).
        address: A Ray cluster to join, "host:port" or "auto"; None starts Ray on this machine.
        insecure: Join also a cluster beyond this machine that asks nobody for a token.
        watch: Hooks for a display.
        steps: What to drive, one after another, as tuner.study does; None: the search alone.

    Returns:
        The results; also where no trial completed (status "failed").

    Raises:
        TunerError: Something that must be put right before the first trial, Interrupted by a signal, or a
            StorageError where the disk is full.
    """
    told = watch or Watch()
    if sweep.trainable not in BUILTINS:
        load_trainable(sweep.trainable)  # a mistake in it is told before anything is started, or a folder made
    _check_free(storage, name)
    learnt = learn(sweep)
    sweep = _as_read(sweep, learnt)
    with (
        told.clock.phase("plan"),
        Signals() as signals,
        session.Home() as home,
        _nothing_begun(signals),
        _cluster(backend, address, insecure) as offer,
        _node_named(address),
    ):
        here = _here(backend, address)
        sweep = resolve_lanes(sweep, here=here and backend == "ray")
        starts = _starts(home, backend, offer, told.clock)
        plan = _checked_plan(sweep, offer, starts, learnt=learnt, here=here)
        most = _most(sweep, plan, address)
        if address is not None:
            nodes.check_storage(str(storage) if is_uri(storage) else str(local_path(storage).absolute()))
        with told.clock.phase("data"):
            data = _load_data(sweep)
        signals.hold()  # a folder that is made is one that can be resumed
        with _new(storage, name, plan) as (mirror, lease):
            with _undone(mirror.folder):
                frozen, row = _freeze(_at_most(plan.sweep, most), mirror.folder, study=steps is not None)
                plan = dataclasses.replace(plan, sweep=_at_most(frozen, plan.sweep.resources.max_concurrent))
                journal = Journal(mirror.folder / FILE_NAME, lease.check)
                journal.clock = told.clock
                journal.append(row, *(Event("note", body={"warm_start": entry}) for entry in learnt))
            with contextlib.closing(journal):
                drive = steps or search_only
                job = Drive(plan, mirror, journal, data, row.body["origin"], signals, home, drive, told, most)
                return job.run(backend)


@contextlib.contextmanager
def _new(storage: str | Path, name: str | None, plan: Plan) -> Iterator[tuple[Mirror, Lease]]:
    """Become the driver of a new run."""
    named = name or plan.sweep.name
    if is_uri(storage):
        with remote_run.new_run(str(storage), named, exact=name is not None) as opened:
            yield opened
        return
    # Absolute, since workers need not share this process's working directory.
    home = local_path(storage).absolute()
    disk.require(home, plan.disk.total, "choose another --storage")
    folder = make_run_folder(home, named, exact=name is not None)
    with lock_new(folder) as lease:
        yield Mirror(folder), lease


def resume(
    run: str | Path,
    *,
    trials: int | None = None,
    overrides: Sequence[str] = (),
    trainable: Train | None = None,
    backend: Backend = "ray",
    address: str | None = None,
    insecure: bool = False,
    watch: Watch | None = None,
    again: bool = False,
) -> Results:
    """Go on with a sweep from its run folder; a finished one is returned as it is.

    Args:
        run: A path, a name in ./runs, or "latest".
        trials: Extend the sweep to this many configs; a study only while its search is at work.
        overrides: "key=value" as on the command line.
        trainable: The function again, where the sweep was started from Python with one.
        backend: As in run().
        address: As in run().
        insecure: As in run().
        watch: As in run().
        again: Open the test split of a finished study once more, and score the same final models on it.

    Returns:
        The results.

    Raises:
        TunerError: As in run(); RunError where another driver is at it.
    """
    extra = [*overrides, *([f"search.trials={trials}"] if trials else [])]
    told = watch or Watch()
    with _opened(run, told.on_wait) as (mirror, lease, adopted):
        folder = mirror.folder
        with contextlib.closing(Journal(folder / FILE_NAME, lease.check)) as journal:
            if adopted is not None:
                _adopt(journal, adopted)
            journal.clock = told.clock
            history = journal.history()
            _check_frozen(folder, history)
            sweep = load_sweep(folder / "sweep.toml", [*history.overrides, *extra], trainable=trainable)
            _check_constraints(sweep, history)
            _check_study(history, extra, again, folder)
            _check_learnt(extra)
            _check_precision(sweep, history)
            # One that was killed after its last trial's end has still to be wound up.
            if history.finished in ("completed", "failed") and nothing_left(sweep, history) and not again:
                return load(folder)
            with (
                told.clock.phase("plan"),
                Signals() as signals,
                session.Home() as home,
                _nothing_begun(signals),
                _cluster(backend, address, insecure) as offer,
                _node_named(address),
            ):
                learnt = [note["warm_start"] for note in history.notes if "warm_start" in note]
                kept, here = history.largest_checkpoint, _here(backend, address)
                starts = _starts(home, backend, offer, told.clock)
                plan = _checked_plan(sweep, offer, starts, history.origin, kept, learnt, here)
                if mirror.remote is None:
                    disk.require(folder, max(0, plan.disk.total - disk.written(folder)), _ELSEWHERE)
                changed = tuple(changes(folder, history.origin))
                plan = dataclasses.replace(plan, warnings=(*plan.warnings, *changed))
                if address is not None:
                    nodes.check_storage(mirror.run)
                with told.clock.phase("data"):
                    data = _load_data(sweep)
                steps = importlib.import_module("tuner.study").steps if history.study else search_only
                signals.hold()
                drive = Drive(
                    plan,
                    mirror,
                    journal,
                    data,
                    history.origin,
                    signals,
                    home,
                    steps,
                    told,
                    _most(sweep, plan, address),
                    overrides=tuple(extra),
                    changed=changed,
                    again=again,
                )
                return drive.run(backend)


@contextlib.contextmanager
def _opened(
    run: str | Path, wait: Callable[[str], None] | None
) -> Iterator[tuple[Mirror, Lease, list[Manifest] | None]]:
    """Become the driver of a run that is there; of one on a URI also by what this machine calls it."""
    named = shown(Path(run)) if not is_uri(run) and Path(run).is_dir() else str(run)
    if is_uri(named):
        with remote_run.open_run(named, wait) as opened:
            yield opened
        return
    folder = find_run(run).absolute()
    disk.require(folder, 0, _ELSEWHERE)
    with lock(folder, wait) as lease:
        yield Mirror(folder), lease, None


def _adopt(journal: Journal, manifests: list[Manifest]) -> None:
    """Commit what checkpoints at a URI tell beyond the snapshot that the journal was begun anew from."""
    history, rows = journal.history(), 0
    for event in adopt(history, manifests):
        for committed in journal.append(event):
            history.add(committed)
            rows += 1
    if not rows and history.finished:  # it came to its end, and the snapshot holds that
        return
    said = f"The journal is its last snapshot; {rows} later rows come from checkpoints, and any others are lost."
    journal.append(Event("note", body={"adopted": rows, "warning": said}))


def _check_constraints(sweep: Sweep, history: History) -> None:
    """Refuse to change what decides on the best config in the middle of a sweep.

    Raises:
        UsageError: sweep.constraints or sweep.objectives is to be changed.
    """
    if sweep.objectives != history.objectives:
        raise UsageError(
            "sweep.objectives: a sweep keeps those that it was started with, since its trials were told by them. "
            "Start another: tuner run SWEEP --set sweep.objectives=..."
        )
    if constraints.read(sweep.constraints) != history.constraints:
        raise UsageError(
            "sweep.constraints: a sweep keeps those that it was started with, since its trials were told by them. "
            "Start another: tuner run SWEEP --set sweep.constraints=..."
        )


def _check_study(history: History, overrides: Sequence[str], again: bool, folder: Path) -> None:
    """Refuse what would make a study's test score another one than it is said to be.

    Raises:
        UsageError: It is to be changed although its later stages were decided on what it is, or its splits are; or
            the test split is to be opened again where it was not opened once, or not by a study.
    """
    stood = openings(history.notes)
    if again and not (stood.over and stood.scored):
        why = f"this one has not: tuner resume {folder}" if history.study else "this is a sweep without one"
        raise UsageError(f"--again: it opens a test split that a finished study has scored, but {why}.")
    later = any(record.stage not in ("baseline", "search") for record in history.trials.values())
    later = later or any("refine" in note or "cross_validate" in note for note in history.notes)
    for key in [text.partition("=")[0].strip() for text in overrides] if history.study else []:
        if stood.over:
            why = "a study that is over is neither changed nor extended: its scores stand for what it was"
        elif later and key.startswith("search."):
            why = "a study is not extended once a stage after its search has begun: what that decided rests on it"
        elif key == "sweep.seed" or key.startswith("data."):
            why = "a study's splits stay as they are, or samples that were trained on would come into the test"
        else:
            continue
        raise UsageError(f"{key}: {why}. Start another: tuner study SWEEP --set {key}=...")


def _check_learnt(overrides: Sequence[str]) -> None:
    """Refuse to learn from other runs now.

    Raises:
        UsageError: They would teach what the trials so far were proposed without.
    """
    if any(text.partition("=")[0].strip() == "search.from" for text in overrides):
        why = "what other runs tell is read once, when a sweep begins"
        raise UsageError(f"search.from: {why}. Start another: tuner run SWEEP --set search.from=...")


def _check_precision(sweep: Sweep, history: History) -> None:
    """Refuse to train the rest of a sweep in another precision.

    Raises:
        UsageError: resources.precision is to be changed.
    """
    frozen = tomllib.loads(history.sweep_toml).get("resources", {}).get("precision", "auto")
    if sweep.resources.precision != frozen:
        why = f"a sweep keeps the one that it was started with ({frozen}), since its trials are compared"
        raise UsageError(f"resources.precision: {why}. Start another: tuner run SWEEP --set resources.precision=...")


def _check_frozen(folder: Path, history: History) -> None:
    """Refuse to go on with a sweep other than the one that was started.

    Raises:
        RunError: The journal holds no sweep, or the folder's sweep.toml is not the one that it holds.
    """
    remedy = f"See what is wrong, and put it right: tuner doctor {folder} --repair"
    if not history.sweep_toml:
        raise RunError(f"{folder / FILE_NAME}: the journal must begin with its sweep, but it is empty. {remedy}")
    file = folder / "sweep.toml"
    try:
        same = file.read_text(encoding="utf-8") == history.sweep_toml
    except (OSError, UnicodeDecodeError):
        same = False
    if not same:
        raise RunError(f"{file}: it must be as the journal holds it, but it is damaged, edited or gone. {remedy}")
    forged = [trial for trial in history.trials if not re.fullmatch(r"t\d+", trial)]
    if forged:  # it would become a part of a path
        raise RunError(f"{folder / FILE_NAME}: a trial's name must be t and digits, but got ({forged[0]!r}). {remedy}")


def nothing_left(sweep: Sweep, history: History) -> bool:
    """Return whether a sweep has every trial that it asks for, each with an end; or a study every stage."""
    if history.study:
        return openings(history.notes).over
    stage = Stage(prior=known_before(history))
    driver = Driver(sweep, Path(), history, make_strategy(sweep), (), stage=stage)
    return driver.nothing_left()


@contextlib.contextmanager
def _undone(folder: Path) -> Iterator[None]:
    """Remove a run folder again where the disk keeps its first row from being committed: nothing in it counts.

    Raises:
        ResourceError: In place of what the disk made of it.
    """
    try:
        yield
    except (OSError, RunError) as error:
        if not disk.is_the_disk(error):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        raise ResourceError(disk.failed(folder, str(error))) from error


def _cluster(backend: Backend, address: str | None, insecure: bool) -> AbstractContextManager[tuple[int, int] | None]:
    """Yield the cores and GPUs of the Ray that trials will run on, where there is one already; else None."""
    if backend == "ray":
        return session.joined(address, insecure)
    if address is not None:
        raise UsageError('--address: only backend "ray" joins a cluster. Leave one of the two out.')
    return contextlib.nullcontext()


@contextlib.contextmanager
def _nothing_begun(signals: Signals) -> Iterator[None]:
    """Say in a sentence that a signal came before a driver's turn, which has its own words."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("Interrupted before anything was begun.", signals.exit_status) from None


def _check_free(storage: str | Path, name: str | None) -> None:
    """Refuse a name that is taken here, before anything is started.

    Raises:
        RunError: It is.
    """
    if name is not None and not is_uri(storage):
        check_free(local_path(storage).absolute() / name)


Sound = Callable[[Sweep, int, int], None]


def _starts(home: session.Home, backend: Backend, offer: tuple[int, int] | None, clock: Clock) -> Sound:
    """Return what starts Ray, and workers on it, while a sweep that is sound so far is looked at further."""

    def start(sweep: Sweep, cpus: int, gpus: int) -> None:
        resources, module = sweep.resources, ahead.module(sweep.trainable, sweep.resources.lanes_each)
        with clock.phase("imports"):
            if backend == "ray" and offer is None:
                home.begin(cpus, gpus, lambda: ahead.start(resources.request(), resources.max_concurrent or 1, module))
            if backend == "inline" and sweep.trainable in BUILTINS:
                load_trainable(sweep.trainable)

    return start


def _checked_plan(
    sweep: Sweep,
    offer: tuple[int, int] | None,
    sound: Sound | None = None,
    origin: str | None = None,
    checkpoint: int | None = None,
    learnt: Sequence[Mapping[str, Any]] = (),
    here: bool = True,
) -> Plan:
    """Return the plan, for this machine or for what a cluster offers."""
    bound_to = offer or (None, None)
    plan = make_plan(
        sweep, *bound_to, memory=False, origin=origin, checkpoint=checkpoint, learnt=learnt, here=here, sound=sound
    )
    plan.check()
    return plan


@contextlib.contextmanager
def _node_named(address: str | None) -> Iterator[None]:
    """Name the node in what is wrong with the data: on a cluster, it is read where the driver is, and nowhere else."""
    try:
        yield
    except DataError as error:
        if address is None:
            raise
        raise DataError(f"on node {platform.node()}: {error}") from error


def _here(backend: Backend, address: str | None) -> bool:
    """Return whether all trials will run on this machine."""
    return backend == "inline" or (address is None and session.is_alone())


def _most(sweep: Sweep, plan: Plan, address: str | None) -> int | None:
    """Return the most trials at a time: on a cluster as the file says, since more nodes may come; here what fits."""
    return (plan.sweep if address is None else sweep).resources.max_concurrent


def _at_most(sweep: Sweep, most: int | None) -> Sweep:
    """Return the sweep with another max_concurrent."""
    return sweep.model_copy(update={"resources": sweep.resources.model_copy(update={"max_concurrent": most})})


def _as_read(sweep: Sweep, learnt: Sequence[Mapping[str, Any]]) -> Sweep:
    """Return the sweep with the places of the runs that were read: "latest" will be another one soon."""
    runs = tuple(str(entry["run"]) for entry in learnt)
    return sweep.model_copy(update={"search": sweep.search.model_copy(update={"from_": runs})})


def _load_data(sweep: Sweep) -> Splits:
    if sweep.data is None:
        return Splits()
    load, options = importlib.import_module("trainables.data").load, sweep.data.model_dump()
    splits = Splits({None: lambda: load(options, sweep.seed)})
    splits.get(None)  # what is wrong with it is told before anything is begun
    return splits


def _freeze(sweep: Sweep, folder: Path, study: bool = False) -> tuple[Sweep, Event]:
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
    body = {"toml": written.to_toml(), "sha256": written.hash(), "origin": origin, "study": study}
    return frozen, Event("sweep", body=body)
