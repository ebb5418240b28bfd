"""The driver's side of the seam: Ray Tune's searcher and scheduler as calls of the Driver."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuner.backends.driver import Driver
from tuner.backends.ray_tune.worker_side import ray_trial
from tuner.backends.worker import Job, Outcome, Report
from tuner.errors import ResourceError
from tuner.trainable import Data, Train

# Read by Ray when it is imported or started. Each is a default that a user may override in the environment.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal is the only log of results
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # Ray's own state is never read back
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C would end like a finished sweep
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "5",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a trainable's relative paths mean the same here and inline
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_DEDUP_LOGS": "0",
}

_seams: dict[int, _Seam] = {}
_tokens = itertools.count(1)


@dataclass
class Options:
    """How to run on Ray.

    Args:
        address: A cluster to join, or None to start Ray on this machine.
        cpus: Cores to give a Ray started here.
        gpus: GPUs to give a Ray started here.
        max_concurrent: The most trials at a time.
        origin: Where a user's trainable file came from, or None.
    """

    address: str | None
    cpus: int
    gpus: int
    max_concurrent: int
    origin: str | None = None


def run(driver: Driver, train: Train | str, data: Data | None, options: Options) -> None:
    """Drive the sweep to its end with Ray Tune.

    Args:
        driver: The sweep's driver.
        train: The trainable, or its reference where workers should load it themselves.
        data: Training and validation splits, read by every trial of a node without a copy; or None.
        options: How to run on Ray.

    Raises:
        ResourceError: The cluster can never give what a trial asks for.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
    # The seam holds the concurrency: Ray's own limiter would leak a slot where Ray ends a trial in silence.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(options.max_concurrent)
    with _ray_running(options) as scratch:
        _check_resources(driver)
        seam = _Seam(driver, options.max_concurrent)
        token = next(_tokens)
        _seams[token] = seam
        try:
            _fit(token, driver, train, data, options, scratch)
        except BaseException:
            if seam.error is None:
                raise
        finally:
            del _seams[token]
        if seam.error is not None:
            raise seam.error


def _fit(token: int, driver: Driver, train: Train | str, data: Data | None, options: Options, scratch: Path) -> None:
    import ray
    from ray import tune

    resources = driver.sweep.resources
    data_ref = None if data is None else ray.put(data)
    trainable = tune.with_resources(
        functools.partial(ray_trial, train=train, origin=options.origin, data_ref=[data_ref]),
        {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial or 0},
    )
    searcher, scheduler = _translation()
    tune.Tuner(
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
            name="sweep",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    ).fit()


# -- on the driver -----------------------------------------------------------------------------------------------


class _Seam:
    """What the searcher and the scheduler share: the driver, and which Ray trial is which attempt."""

    def __init__(self, driver: Driver, max_concurrent: int) -> None:
        self.driver = driver
        self.max_concurrent = max_concurrent
        self.attempts: dict[str, tuple[str, int]] = {}
        self.ray_trials: dict[str, Any] = {}
        self.error: BaseException | None = None

    def suggest(self, ray_trial: str) -> Job | None:
        self.settle()
        if self.driver.running >= self.max_concurrent:
            return None
        job = self.driver.next()
        if job is not None:
            self.attempts[ray_trial] = (job.trial, job.attempt)
        return job

    def receive(self, ray_trial: str, payload: Mapping[str, Any]) -> bool:
        """Hand a message to the driver; returns whether Ray must stop the trial."""
        trial, attempt = self.attempts[ray_trial]
        if not self.driver.is_current(trial, attempt):
            return True
        if "report" in payload:
            return self.driver.report(trial, attempt, Report(**payload["report"]))
        self.driver.end(trial, attempt, Outcome(**payload["outcome"]))
        return False

    def settle(self) -> None:
        """Note attempts that Ray ended without telling its scheduler (an actor that could not be reused, say)."""
        for name, trial in list(self.ray_trials.items()):
            if trial.is_finished():
                del self.ray_trials[name]
                self.lost(name, str(trial.get_error() or ""))
                del self.attempts[name]

    def lost(self, ray_trial: str, error: str) -> None:
        """Note an attempt whose worker ended without a word."""
        trial, attempt = self.attempts[ray_trial]
        if self.driver.is_current(trial, attempt):
            cause, sentence = classify_loss(error)
            self.driver.end(trial, attempt, Outcome("failed", cause, sentence))

    def guarded(self, action: Callable[[], Any]) -> Any:
        """Run an action; an error in it is kept, since Ray would wrap it or swallow it."""
        try:
            return action()
        except BaseException as error:
            self.error = self.error or error
            raise


def classify_loss(error: str) -> tuple[str, str]:
    """Return cause and sentence for an attempt whose worker is gone, from what Ray says of it.

    Args:
        error: Ray's error text.
    """
    if re.search(r"OutOfMemoryError|memory monitor|killed due to the node running low on memory", error):
        return "config.out_of_memory", "its worker was killed because the node ran out of memory."
    if re.search(r"node (was|is|has) (dead|died|terminated)|NodeDied|node.*(failure|unexpectedly)", error, re.I):
        return "infrastructure.node_lost", "its node was lost."
    return "infrastructure.worker_lost", "its worker process died."


@functools.cache
def _translation() -> tuple[Any, Any]:
    """Return the searcher and the scheduler class; made on first use, so that Ray is imported only when it runs.

    Ray pickles both into its run config, so they hold a token in place of the driver and its open journal.
    """
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

        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            _seams[self.token].ray_trials[trial.trial_id] = trial

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            seam = _seams[self.token]
            payload = json.loads(result["payload"])
            stop = seam.guarded(lambda: seam.receive(trial.trial_id, payload))
            return self.STOP if stop else self.CONTINUE  # type: ignore[no-any-return]

        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            seam = _seams[self.token]
            error = str(trial.get_error() or "")
            seam.guarded(lambda: seam.lost(trial.trial_id, error))

    return DriverSearcher, DriverScheduler


def _rebuild(which: int, token: int) -> Any:
    return _translation()[which](token)


def _trial_name(trial: Any) -> str:
    return str(trial.config["name"])


# -- Ray itself --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ray_running(options: Options) -> Iterator[Path]:
    """Start Ray (or join a cluster, or use the one this process has) and yield a private scratch folder."""
    warnings.filterwarnings("ignore", module="ray")
    import ray

    # A short path: Ray's socket names end at 107 bytes. mkdtemp makes it private (0700).
    scratch = Path(tempfile.mkdtemp(prefix="tuner-", dir=_short_temp_dir()))
    started = not ray.is_initialized()
    if started:
        _start_ray(options, scratch)
    try:
        yield scratch / "results"
    finally:
        if started:
            ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _start_ray(options: Options, scratch: Path) -> None:
    import ray

    _hush()
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
    if options.address:
        # A cluster has its own temp dir and its own CPUs.
        ray.init(address=options.address, **quiet)
        return
    ray.init(
        address="local",
        num_cpus=options.cpus,
        num_gpus=options.gpus,
        include_dashboard=False,
        _temp_dir=str(scratch / "ray"),
        **quiet,
    )


def _hush() -> None:
    """Keep Ray's own words off the terminal: what they tell is in the journal, in this project's words.

    log_to_driver=False silences the workers but not the raylet's errors, which a thread of Ray's prints.
    """
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *args, **kwargs: None


def _short_temp_dir() -> str:
    return "/tmp" if os.name == "posix" else tempfile.gettempdir()


def _check_resources(driver: Driver) -> None:
    """Refuse a request that no node can ever meet, instead of waiting for it."""
    import ray

    resources = driver.sweep.resources
    wants = {"CPU": resources.cpus_per_trial, "GPU": resources.gpus_per_trial or 0}
    deadline = time.monotonic() + 5.0
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(all(node.get(name, 0) >= amount for name, amount in wants.items()) for node in nodes):
            return
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    offers = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
    raise ResourceError(
        f"resources: one node must have what a trial asks for, but got ({wants['CPU']:g} CPUs and {wants['GPU']:g} GPUs "
        f"a trial, on nodes with {offers}). Lower resources.cpus_per_trial or resources.gpus_per_trial."
    )
