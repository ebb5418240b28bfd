"""The driver's side of the seam: Ray Tune's searcher and scheduler as calls of the Driver."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import json
import os
import re
import sys
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuner.backends.driver import Driver
from tuner.backends.ray_tune import ahead, session
from tuner.backends.ray_tune.oom import oom_kills
from tuner.backends.ray_tune.pool import end_pools
from tuner.backends.ray_tune.worker_side import Attempts, Parcel
from tuner.backends.worker import Job, Outcome, Report
from tuner.errors import SweepFailed, UsageError
from tuner.spec import ResourcesSpec
from tuner.splits import Splits
from tuner.trainable import Train

# What Ray says of a trial that it ended by itself.
_NO_MEMORY = re.compile(r"running low on memory|OutOfMemoryError")
_NO_NODE = re.compile(r"its node has died|node was terminated|NodeDiedError|local raylet died|temporarily unavailable")
_NO_DRIVER = re.compile(r"its owner has died")
_NOT_STARTED = re.compile(r"failed to import on the worker|raised in its creation task")
_NOT_REUSED = re.compile(r"Trainable runner reuse requires")
_RAISED = re.compile(r"^[\w.]+(?:Error|Exception): .*$", re.MULTILINE)

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
_UNLIMITED = 1_000_000  # of what the seam itself limits
_seams: dict[int, _Seam] = {}
_tokens = itertools.count(1)


@dataclass(frozen=True)
class Options:
    """How to run on Ray.

    Args:
        cpus: Cores to give a Ray started here.
        gpus: GPUs to give a Ray started here.
        max_concurrent: The most trials at a time; None: as many as fit on the nodes that live, which come and go.
        origin: Where a user's trainable file came from, or None.
        home: Keeps a Ray that is started here for the runs that follow; None: it is ended.
    """

    cpus: int
    gpus: int
    max_concurrent: int | None
    origin: str | None = None
    home: session.Home | None = None


def run(driver: Driver, train: Train | str, data: Splits, options: Options) -> None:
    """Drive the sweep to its end with Ray Tune: the Ray that this process has, or one started for now.

    Args:
        driver: The sweep's driver.
        train: The trainable, or its reference where workers should load it themselves.
        data: Training and validation splits by fold, read by every trial of a node without a copy. Released once
            Ray has them; loaded again for another Ray.
        options: How to run on Ray.

    Raises:
        ResourceError: No node can ever give what a trial asks for.
        UsageError: The function cannot be sent to a worker.
        SweepFailed: Ray does not start, gave up, or died where it cannot be started anew.
    """
    # The seam holds the concurrency: Ray's own limiter would leak a slot where Ray ends a trial in silence.
    with session.environment(TUNE_MAX_PENDING_TRIALS_PG=str(options.max_concurrent or _UNLIMITED)):
        pickled = None if isinstance(train, str) else _pickled(train)
        with contextlib.nullcontext(options.home) if options.home else session.Home() as home:
            while True:
                done = driver.epochs_done
                try:
                    return _run_on_one_ray(driver, train, pickled, data, options, home)
                except session.RayDied:
                    home.close()
                    # Nobody's fault, unless it dies again before anything was done.
                    driver.lose_all(blame=driver.epochs_done == done)


def _run_on_one_ray(
    driver: Driver,
    train: Train | str,
    pickled: bytes | None,
    data: Splits,
    options: Options,
    home: session.Home,
) -> None:
    """Drive the sweep to its end.

    Raises:
        RayDied: The Ray that was started for it died; another can be started.
    """
    clock = driver.clock
    with clock.phase("imports"):
        home.begin(options.cpus, options.gpus)
        import ray.tune  # noqa: F401  # meanwhile
    with clock.phase("Ray"):
        scratch = home.open()
    resources = driver.sweep.resources
    session.check_resources(resources.request())
    seam = _Seam(driver, options.max_concurrent)
    ray_goes_on = home.is_anothers or options.home is not None
    try:
        _drive(seam, _parcel(driver, train, pickled, _stored(data, home), options.origin), home, scratch, ray_goes_on)
    except session.RayDied as error:
        if home.is_anothers:
            raise SweepFailed(f"Ray died in the middle of the sweep: {error}.") from error
        raise


def _drive(seam: _Seam, parcel: Parcel, home: session.Home, scratch: Path, ray_goes_on: bool) -> None:
    token = next(_tokens)
    _seams[token] = seam
    try:
        _fit(token, seam.driver.sweep.resources, _manager(seam, parcel, home), scratch)
        if not seam.driver.finished:
            raise SweepFailed("Ray ended before the sweep did.")
    except BaseException as error:
        if seam.error is not None:
            raise seam.error from None
        if isinstance(error, Exception) and _is_rays(error):
            raise SweepFailed(f"Ray gave up: {' '.join(str(error).split())[-500:]}") from error
        raise
    finally:
        if ray_goes_on:
            seam.release_workers()
            end_pools(parcel.pools)
        del _seams[token]


def _is_rays(error: Exception) -> bool:
    """Return whether an error was raised by Ray's own code."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    place = frames[-1].f_globals.get("__name__", "") if frames else ""
    return "ray" in (type(error).__module__.partition(".")[0], str(place).partition(".")[0])


def _pickled(train: Train) -> bytes:
    from ray import cloudpickle

    try:
        return cloudpickle.dumps(train)  # type: ignore[no-any-return]
    except Exception as error:  # whatever an object of the user's raises while it is pickled
        name = getattr(train, "__name__", type(train).__name__)
        raise UsageError(
            f"trainable {name}: Ray must be able to pickle it, but got ({type(error).__name__}: {error}). "
            'Make inside the function what cannot be pickled, or run with backend="inline".'
        ) from error


def _stored(data: Splits, home: session.Home) -> dict[int | None, Any]:
    """Return Ray's references to the data by fold, with no copy left in this process; one at a time is in both.

    What the stage before had there stays where this one needs it, too, and makes room else.
    """
    import ray

    if home.stored is None or home.stored[0] is not data:
        if home.stored is not None:
            home.stored = None
            gc.collect()  # rings of references hold the last parcel, and that the data
        references = {}
        for fold in data.folds:
            references[fold] = ray.put(data.get(fold))
            data.release()
        home.stored = data, references
    return home.stored[1]


def _parcel(
    driver: Driver,
    train: Train | str,
    pickled: bytes | None,
    data: dict[int | None, Any],
    origin: str | None,
) -> Parcel:
    import ray

    mirror = driver.mirror
    return Parcel(
        train=train if isinstance(train, str) else None,
        origin=origin,
        mirror=None if mirror.remote is None else (mirror.run, str(mirror.folder.resolve())),
        function=None if pickled is None else ray.put(pickled),
        data=data,
        folder=str(Path.cwd()),
        path=tuple(entry or str(Path.cwd()) for entry in sys.path),
        lanes=driver.sweep.resources.lanes_each,
        pools=f"lanes-{uuid.uuid4().hex[:12]}",
    )


def _fit(token: int, resources: ResourcesSpec, manager: type, scratch: Path) -> None:
    from ray import tune

    trainable = tune.with_resources(_placeholder, tune.PlacementGroupFactory([resources.request()]))
    searcher, scheduler, callback = _translation()
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher(token),
            scheduler=scheduler(token),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name=f"sweep-{token}",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            callbacks=[callback(token)],
        ),
    )
    count = _seams[token].max_concurrent or _UNLIMITED
    with session.corrected(resources.request(), count, manager):
        tuner.fit()


def _placeholder(config: dict[str, Any]) -> None:
    """What Ray Tune takes for the trainable; the actors that it starts are `Attempts`."""


def _manager(seam: _Seam, parcel: Parcel, home: session.Home) -> type:
    """Return Ray Tune's manager of actors, with `Attempts` as its actors, to whom only their jobs go.

    Workers that a finished sweep leaves are kept, for the study's next stage and for what the driver needs torch for:
    they have imported it. A cluster's are not, since nodes may be wanted elsewhere; nor the thin ones of lanes.
    """
    import ray
    from ray.air.execution._internal import RayActorManager

    # As Ray Tune does it: on a cluster that was joined, this process's keys are what a run on S3 is written with.
    # A Ray that was started here has them from its start.
    keys = {name: os.environ[name] for name in _KEYS if name in os.environ and home.is_anothers}
    remote = ray.remote(runtime_env={"env_vars": keys})(Attempts) if keys else ray.remote(Attempts)
    actor = ahead.hired(remote, home.workers, ahead.module(parcel.train, parcel.lanes))

    keeps = parcel.lanes == 1 and session.is_alone()
    leaving: dict[Any, tuple[Any, Any]] = {}  # Ray Tune's record of a worker -> the worker, and its answer to "stop"

    class Manager(RayActorManager):  # type: ignore[misc]
        def add_actor(self, cls: Any, kwargs: dict[str, Any], *request: Any, **more: Any) -> Any:
            return super().add_actor(actor, {"job": kwargs["config"]["job"], "parcel": parcel}, *request, **more)

        def schedule_actor_task(
            self, tracked_actor: Any, method_name: str, args: Any = (), kwargs: Any = None, **more: Any
        ) -> Any:
            args = (args[0]["job"],) if method_name == "reset" else ()
            return super().schedule_actor_task(tracked_actor, method_name, args, {}, **more)

        def remove_actor(self, tracked_actor: Any, kill: bool = False, stop_future: Any = None) -> Any:
            live = self._live_actors_to_ray_actors_resources.get(tracked_actor)
            if keeps and live and stop_future is not None and not kill and seam.driver.finished:
                leaving[tracked_actor] = live[0], stop_future
            return super().remove_actor(tracked_actor, kill, stop_future)

        def _actor_stop_resolved(self, tracked_actor: Any) -> None:
            if tracked_actor in leaving:
                worker, answer = leaving.pop(tracked_actor)
                with contextlib.suppress(Exception):  # one that died is no worker
                    if ray.get(answer):
                        home.workers.append(worker)
            super()._actor_stop_resolved(tracked_actor)

    return Manager


# -- on the driver -----------------------------------------------------------------------------------------------


class _Seam:
    """What the searcher and the scheduler share: the driver, and which Ray trial is which attempt."""

    def __init__(self, driver: Driver, max_concurrent: int | None) -> None:
        self.driver = driver
        self.max_concurrent = max_concurrent
        self.nodes = session.Nodes()
        self.attempts: dict[str, tuple[str, int]] = {}
        self.ray_trials: dict[str, Any] = {}
        self.oom_kills = oom_kills()
        self.controller: Any = None
        self.error: BaseException | None = None

    def suggest(self, ray_trial: str) -> Job | None:
        self.settle()
        # Not before Ray has its worker back: the next trial would ask for another, which is killed once this is free.
        if max(self.driver.running, len(self.ray_trials)) >= self.room():
            return None
        job = self.driver.next()
        if job is not None:
            self.attempts[ray_trial] = (job.trial, job.attempt)
        return job

    def room(self) -> int:
        """Return how many trials may run side by side, now."""
        if self.max_concurrent is not None:
            return self.max_concurrent
        resources = self.driver.sweep.resources
        return max(1, self.nodes.fitting(resources.request()))

    def receive(self, ray_trial: str, payload: Mapping[str, Any]) -> bool:
        """Hand a message to the driver; returns whether Ray must stop the trial."""
        stop = self._take(*self.attempts[ray_trial], payload)
        if stop and self.driver.sweep.resources.lanes_each > 1:
            self.leave(ray_trial)
        return stop

    def _take(self, trial: str, attempt: int, payload: Mapping[str, Any]) -> bool:
        if not self.driver.is_current(trial, attempt):
            return True
        self.driver.clock.add(payload.get("spent", {}))
        if "report" in payload:
            return self.driver.report(trial, attempt, Report(**payload["report"]))
        self.driver.end(trial, attempt, Outcome(**payload["outcome"]))
        return True

    def leave(self, ray_trial: str) -> None:
        """Let a trial that is to stop leave its group: Ray Tune tells its worker only once another trial wants it."""
        actor = self.ray_trials[ray_trial].temporary_state.ray_actor
        if actor is not None:
            actor.leave.remote()

    def settle(self) -> None:
        """Note attempts that Ray ended without telling its scheduler (an actor that could not be reused, say)."""
        for name, trial in list(self.ray_trials.items()):
            if trial.is_finished():
                del self.ray_trials[name]
                self.lost(name, error_of(trial))
                del self.attempts[name]

    def lost(self, ray_trial: str, error: str) -> None:
        """Note an attempt that Ray ended; from what Ray says of it, in `error`, comes what that means."""
        trial, attempt = self.attempts[ray_trial]
        if not self.driver.is_current(trial, attempt):
            return
        if _NOT_REUSED.search(error):
            self.driver.postpone(trial, attempt)
            return
        if _NOT_STARTED.search(error):
            raised = _RAISED.findall(error)
            raise SweepFailed(
                f"a worker on Ray must start, but got ({raised[-1] if raised else 'no word why'}). "
                "Install this project, and what the trainable needs, on every node."
            )
        session.check_alive()  # one whose Ray has died is not the config's loss
        if _NO_DRIVER.search(error):
            raise SweepFailed("Ray took this process for dead: the Ray node that it runs on was lost.")
        killed, self.oom_kills = oom_kills() > self.oom_kills, oom_kills()
        cause, sentence = classify_loss(error, killed)
        self.driver.end(trial, attempt, Outcome("failed", cause, sentence))

    def tick(self) -> None:
        """See, several times a second, that Ray lives, and end attempts that have been silent for too long.

        Raises:
            RayDied: This process's Ray has died.
        """
        session.check_alive()
        for trial, attempt in self.driver.overdue():
            self.driver.end(trial, attempt, self.driver.hung(trial))
            self.kill_worker(trial, attempt)

    def kill_worker(self, trial: str, attempt: int) -> None:
        """Kill the worker of an attempt that is over but does not end; what Ray says of it then no longer counts."""
        import ray

        for name, current in self.attempts.items():
            if current == (trial, attempt) and name in self.ray_trials:
                actor = self.ray_trials[name].temporary_state.ray_actor
                if actor is not None:
                    ray.kill(actor)

    def release_workers(self) -> None:
        """End the workers and give back what they hold: what interrupts Ray Tune keeps it from doing so itself."""
        manager = getattr(self.controller, "_actor_manager", None)
        if manager is not None:
            with contextlib.suppress(Exception):  # Ray may be gone
                manager.cleanup()
        self.controller = None
        self.ray_trials.clear()
        gc.collect()  # Ray's controller is a ring of references, and holds handles of workers until it is collected

    def guarded(self, action: Callable[[], Any]) -> Any:
        """Run an action; an error in it is kept, since Ray would wrap it or swallow it, and ends everything."""
        try:
            if self.error is not None:
                raise self.error
            return action()
        except BaseException as error:
            self.error = self.error or error
            raise


def error_of(trial: Any) -> str:
    """Return what Ray says of a trial's end: it writes that to a file of its own, beside the trial's results."""
    try:
        return Path(trial.error_file).read_text(errors="replace") if trial.error_file else ""
    except OSError:
        return ""


def classify_loss(error: str, oom_killed: bool = False) -> tuple[str, str]:
    """Return cause and sentence for an attempt whose worker is gone, from what Ray says of it.

    Args:
        error: Ray's error text.
        oom_killed: Whether the kernel has killed a process for want of memory since the last loss.
    """
    if oom_killed or _NO_MEMORY.search(error):
        return "config.out_of_memory", "its worker was killed because the node ran out of memory."
    if _NO_NODE.search(error):
        return "infrastructure.node_lost", "its node was lost."
    return "infrastructure.worker_lost", "its worker process died."


@functools.cache
def _translation() -> tuple[Any, Any, Any]:
    """Return the searcher, scheduler and callback class; made on first use: Ray is imported only when it runs.

    Ray pickles all three into its run config, so they hold a token in place of the driver and its open journal.
    """
    from ray.tune import Callback
    from ray.tune.schedulers import FIFOScheduler
    from ray.tune.search import Searcher

    class DriverSearcher(Searcher):  # type: ignore[misc]
        """Hands out the driver's next attempt as the next Ray trial."""

        def __init__(self, token: int) -> None:
            super().__init__()
            self.token = token

        def __reduce__(self) -> tuple[Any, ...]:
            return _rebuild, (0, self.token)

        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            seam = _seams[self.token]
            job = seam.guarded(lambda: seam.suggest(trial_id))
            if job is not None:
                return {"job": json.dumps(asdict(job)), "name": f"{job.trial}-{job.attempt}"}
            return Searcher.FINISHED if seam.driver.finished else None

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            pass

        def save(self, checkpoint_path: str) -> None:
            pass

        def restore(self, checkpoint_path: str) -> None:
            pass

    class DriverScheduler(FIFOScheduler):  # type: ignore[misc]
        """Hands every report to the driver, and stops a trial where the driver says so."""

        def __init__(self, token: int) -> None:
            super().__init__()
            self.token = token

        def __reduce__(self) -> tuple[Any, ...]:
            return _rebuild, (1, self.token)

        def choose_trial_to_run(self, tune_controller: Any) -> None:
            """Prefer no trial: a worker that is free then goes to one that has none coming.

            The eldest would take it, and the worker that was starting for it be killed: a node whose workers take
            longer to start than a trial takes elsewhere would never train.
            """

        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            seam = _seams[self.token]
            seam.controller = getattr(tune_controller, "_tune_controller", tune_controller)
            seam.ray_trials[trial.trial_id] = trial

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            seam = _seams[self.token]
            payload = json.loads(result["payload"])
            stop = seam.guarded(lambda: seam.receive(trial.trial_id, payload))
            return self.STOP if stop else self.CONTINUE  # type: ignore[no-any-return]

        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            seam = _seams[self.token]
            error = error_of(trial)
            seam.guarded(lambda: seam.lost(trial.trial_id, error))

    class DriverCallback(Callback):  # type: ignore[misc]
        """Tells the seam that time passes, and that an attempt has its worker."""

        def __init__(self, token: int) -> None:
            self.token = token

        def __reduce__(self) -> tuple[Any, ...]:
            return _rebuild, (2, self.token)

        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
            seam = _seams[self.token]
            seam.guarded(seam.tick)

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            seam = _seams[self.token]
            if trial.trial_id in seam.attempts:
                seam.driver.begun(*seam.attempts[trial.trial_id])

    return DriverSearcher, DriverScheduler, DriverCallback


def _rebuild(which: int, token: int) -> Any:
    return _translation()[which](token)


def _trial_name(trial: Any) -> str:
    return str(trial.config["name"])
