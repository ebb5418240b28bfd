"""Ray itself: started on this machine for one sweep, joined as a cluster, or used as this process has it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import json
import logging
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tuner import tokens
from tuner.backends.ray_tune import reach, stand_in
from tuner.errors import ResourceError, SweepFailed, UsageError
from tuner.machine import fitting
from tuner.splits import Splits

# Read by Ray when it is imported, started or run. Each is a default that a user may override in the environment.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal is the only log of results
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # Ray's own state is never read back
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C would end like a finished sweep
    "TUNE_WARN_THRESHOLD_S": "60",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_DEDUP_LOGS": "0",
}

_QUIET = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
_STAND_INS = {"--dashboard_agent_command": "idle", "--runtime_env_agent_command": "lazy"}
_LOOK_S = 1.0  # between two looks at the nodes
_EXTRACT_S = 60.0
_DISMISS_S = 1.0  # for workers to answer, and for what they do at their end
_TEMP = Path("/tmp")


@contextlib.contextmanager
def joined(address: str | None, insecure: bool = False) -> Iterator[tuple[int, int] | None]:
    """Join a cluster for as long as this is open.

    Args:
        address: Where it answers, "host:port" or "auto"; None joins none.
        insecure: Join also one beyond this machine that asks nobody for a token.

    Yields:
        Its cores and GPUs, or those of the Ray that this process has already; None where there is neither. Where its
        autoscaler runs on this host, those that it may start are counted.

    Raises:
        UsageError: No cluster answers there, or it does not let this process join, or lets everybody.
    """
    with contextlib.ExitStack() as stack:
        if address is not None:
            stack.enter_context(environment())
            _join(address, insecure, stack)
        elif "ray" not in sys.modules or not sys.modules["ray"].is_initialized():
            yield None
            return
        nodes = _nodes()
        yield tuple(int(sum(node.get(name, 0) for node in nodes)) for name in ("CPU", "GPU"))  # type: ignore[misc]


def _join(address: str, insecure: bool, stack: contextlib.ExitStack) -> None:
    import ray

    if ray.is_initialized():
        raise UsageError("address: this process has a Ray already, which is used as it is. Leave the address out.")
    door = reach.check(address, insecure=insecure)
    if door.asks:
        stack.enter_context(_tokens(tokens.token_mode()))
    if door.alone:
        stack.enter_context(reach.loopback_kept())
    stack.callback(ray.shutdown)
    stack.enter_context(_hushed())
    try:
        with _starting():  # a cluster has its own temp dir and its own CPUs
            ray.init(address=door.address, **_QUIET)
    except SweepFailed as error:
        if other := re.search(r"Ray: (\S+) Python: (\S+) This .*Ray: (\S+) Python: (\S+)", str(error)):
            raise UsageError(
                "--address: Ray and Python must be the same here and on the cluster, but got "
                f"(Ray {other[3]} and Python {other[4]} here, Ray {other[1]} and Python {other[2]} at {address}). "
                "Run this on the cluster instead: tuner submit"
            ) from error
        raise UsageError(
            f"--address: a Ray cluster must let this process join, but got ({address}: {error.__cause__}). "
            "A process that joins runs on the cluster's network, or on one of its nodes; from elsewhere: tuner submit"
        ) from error


@contextlib.contextmanager
def _tokens(environment: contextlib.AbstractContextManager[None]) -> Iterator[None]:
    """Let the Ray of this process read the environment's token anew, now and once this is over.

    Ray reads RAY_AUTH_MODE when it is imported, and the token when it first needs it.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(_read_tokens)
        stack.enter_context(environment)
        _read_tokens()
        yield


def _read_tokens() -> None:
    from ray import _raylet

    native: Any = _raylet
    native.Config.initialize("")
    native.AuthenticationTokenLoader.instance().reset_cache()


class Home:
    """Where sweeps run: the Ray that this process has already, or one that is started when it is first needed.

    As a context manager it ends what it has started.

    Attributes:
        workers: Actors that serve no trial: started ahead of them, or left by the stage before.
        stored: Data that Ray's object store has for the stages of a study that share it, and its references by fold.
        is_anothers: Whether Ray was there before, and goes on after this; known once it is open.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._scratch: Path | None = None
        self._starter: _Starter | None = None
        self.is_anothers = False
        self.workers: list[Any] = []
        self.stored: tuple[Splits, dict[int | None, Any]] | None = None

    def __enter__(self) -> Home:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the Ray that was started, and delete its files; the next use starts another."""
        self._dismiss()
        self.stored = None
        self._scratch = self._starter = None
        self._stack.close()

    def _dismiss(self) -> None:
        """End the workers that serve no trial as Ray Tune ends the others: by themselves, or their files would stay."""
        workers, scratch = list(self.workers), self._scratch
        self.workers.clear()
        if not workers or scratch is None:
            return
        import ray

        with contextlib.suppress(Exception):  # Ray may be gone
            marks = {scratch / f"worker-{number}": worker for number, worker in enumerate(workers)}
            asked = [worker.mark.remote(str(mark)) for mark, worker in marks.items()]
            ray.wait(asked, num_returns=len(asked), timeout=_DISMISS_S)  # not for one that is still starting
            for worker in workers:
                worker.__ray_terminate__.remote()
            deadline = time.monotonic() + _DISMISS_S
            while any(mark.exists() for mark in marks) and time.monotonic() < deadline:
                time.sleep(0.005)

    def begin(self, cpus: int, gpus: int, then: Callable[[], list[Any]] = list) -> None:
        """Let Ray start while this process does something else; nothing where it has, or this process has another.

        Args:
            cpus: Cores to give a Ray started here.
            gpus: GPUs to give a Ray started here.
            then: Called once Ray is there, in another thread; returns workers that it has started.
        """
        if self._scratch is not None:
            return
        with contextlib.ExitStack() as stack:
            stack.enter_context(environment())
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module="ray")
            import ray

            scratch = stack.enter_context(_scratch())
            stack.enter_context(_hushed())
            self.is_anothers = ray.is_initialized()
            if not self.is_anothers:
                stack.enter_context(_tokens(tokens.private_token()))

                def start() -> None:
                    _start(cpus, gpus, scratch)
                    self.workers += then()

                self._starter = stack.enter_context(_Starter(start))
                stack.callback(ray.shutdown)
                stack.callback(self._starter.wait)  # what is half started could not be ended
                self._starter.start()
            self._stack, self._scratch = stack.pop_all(), scratch

    def open(self) -> Path:
        """Return a private folder for Ray's files once Ray is there: it has begun to start.

        Raises:
            SweepFailed: Ray does not start.
        """
        scratch, starter = self._scratch, self._starter
        assert scratch is not None
        if starter is not None and (error := starter.wait()):
            self.close()
            raise error
        return scratch / "results"

    def extract_model(self, checkpoint: Path, target: Path) -> bool:
        """Let a worker that is free take a model out of a checkpoint; returns whether one did.

        Args:
            checkpoint: A verified checkpoint's folder.
            target: The file to write.
        """
        if not self.workers:
            return False
        import ray

        try:
            ray.get(self.workers[-1].extract_model.remote(str(checkpoint), str(target)), timeout=_EXTRACT_S)
        except Exception:  # whatever it is: who asks does it himself then, and sees
            return False
        return True


class _Starter(threading.Thread):
    """Runs an action in a thread that lives as long as this is open.

    The kernel ends Ray's processes together with the thread that started them.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__(name="starts Ray", daemon=True)
        self._action = action
        self._error: BaseException | None = None
        self._settled, self._over = threading.Event(), threading.Event()

    def __enter__(self) -> _Starter:
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self.ident is not None:
            self.join()

    def run(self) -> None:
        try:
            self._action()
        except BaseException as error:
            self._error = error
        self._settled.set()
        self._over.wait()

    def wait(self) -> BaseException | None:
        """Wait for the action's end; returns what it raised."""
        if self.ident is not None:
            self._settled.wait()
        return self._error


def remove_left(where: Path = _TEMP) -> None:
    """Remove the private folders of drivers that were killed."""
    for left in where.glob("tuner-*/owner"):
        with contextlib.suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its owner lives
            if left.stat().st_uid == os.getuid():
                shutil.rmtree(left.parent, ignore_errors=True)


@contextlib.contextmanager
def _scratch(where: Path = _TEMP) -> Iterator[Path]:
    """Yield a private folder (0700) with a short path: Ray's socket names end at 107 bytes."""
    remove_left(where)
    with tempfile.TemporaryDirectory(prefix="tuner-", dir=where, ignore_cleanup_errors=True) as folder:
        mine = Path(folder) / "owner"
        with mine.with_name("claiming").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            mine.with_name("claiming").rename(mine)  # nobody sees it free
            yield Path(folder)


def _start(cpus: int, gpus: int, scratch: Path) -> None:
    import ray

    with reach.loopback_kept(), _starting(), sparse():  # nobody else has any business with it
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(scratch / "ray"),
            **_QUIET,
        )


@contextlib.contextmanager
def sparse() -> Iterator[None]:
    """Have Ray start without what serves nobody here: that is more than half of its start.

    Its log monitor sends workers' output to a driver that asked for none, its autoscaler's monitor would add nodes, and
    its dashboard's process starts even where no dashboard is wanted. The raylet's agents have stand-ins.
    """
    from ray._private import services, utils
    from ray._private.node import Node

    start = services.start_ray_process

    def start_lean(command: list[str], *more: Any, **options: Any) -> Any:
        return start(_with_stand_ins(command), *more, **options)

    with contextlib.ExitStack() as stack:
        stack.enter_context(_replaced(services, "start_ray_process", start_lean))
        # Whether the dashboard's packages are there: to tell, all of them would be imported.
        stack.enter_context(_replaced(utils, "get_dashboard_dependency_error", lambda: None))
        for name in ("start_log_monitor", "start_monitor", "start_api_server"):
            stack.enter_context(_replaced(Node, name, lambda node, **options: None))
        yield


def _with_stand_ins(command: list[str]) -> list[str]:
    """Return a raylet's command with stand-ins for its agents, and every other command as it is."""
    stood = []
    for word in command:
        name, _, value = word.partition("=")
        if (kind := _STAND_INS.get(name)) and stand_in.can_replace(value.split()):
            # Ray joins and splits these commands at spaces, as its own are: no path of theirs may have one.
            word = f"{name}={sys.executable} -I -S {stand_in.__file__} {kind} {value}"
        stood.append(word)
    return stood


def _hushed() -> contextlib.AbstractContextManager[None]:
    """Keep Ray's own words off the terminal: what they tell is in the journal, in this project's words.

    log_to_driver=False silences the workers, but not the raylet's errors, which a thread of Ray's prints.
    """
    from ray._private import worker

    return _replaced(worker, "print_to_stdstream", lambda *args, **keywords: None)


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Say in a sentence what keeps Ray from starting, and keep what it would take over in this process.

    Ray would answer SIGTERM by exiting, saving nothing, and breakpoint() by its own remote debugger.
    """
    from ray._private import utils

    before, debugger = _on_sigterm(), os.environ.get("PYTHONBREAKPOINT")
    try:
        with _replaced(utils, "set_sigterm_handler", lambda handler: None):
            yield
    except Exception as error:
        said = " ".join(str(error).split())[:500]
        raise SweepFailed(f"Ray could not be started: {type(error).__name__}: {said}") from error
    finally:
        os.environ.pop("PYTHONBREAKPOINT", None)
        if debugger is not None:
            os.environ["PYTHONBREAKPOINT"] = debugger
        # Ray's native handler, which aborts, lies beneath Python's, which sees no change.
        _on_sigterm(before)


def _on_sigterm(handler: int | None = None) -> int | None:
    """Return what the system calls on SIGTERM, or set it: as `signal.signal` does, but from any thread."""
    api = ctypes.pythonapi
    api.PyOS_getsig.restype, api.PyOS_getsig.argtypes = ctypes.c_void_p, [ctypes.c_int]
    api.PyOS_setsig.restype, api.PyOS_setsig.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
    if handler is None:
        return api.PyOS_getsig(signal.SIGTERM) or 0
    api.PyOS_setsig(signal.SIGTERM, handler)
    return None


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put a value in the place of one of Ray's private functions, where this Ray has it."""
    before = getattr(owner, name, None)
    if before is not None:
        setattr(owner, name, value)
    try:
        yield
    finally:
        if before is not None:
            setattr(owner, name, before)


@contextlib.contextmanager
def corrected(asked: Mapping[str, float], count: int, manager: type) -> Iterator[None]:
    """Put right, while Ray Tune runs, what it does to the cores, to workers that start and that die, and to the disk.

    A trial is one actor, for which Ray Core finds room by itself. Ray Tune reserves a placement group for each trial
    even so, and removes it within milliseconds where a worker is free to be used again; a raylet that is still
    committing it then never gives its cores back. So it asks for its workers one by one, never more than `count`.

    And where Ray's memory monitor kills a worker, or a raylet dies, an error comes that Ray Tune does not take for an
    actor's death: it gives up the whole sweep.

    Its own state and results, which nobody reads, are not kept: two folders a trial, all trials as JSON every ten
    seconds, and at the end a table of each, took it some milliseconds a trial.

    Args:
        asked: What a trial asks for.
        count: The most trials at a time.
        manager: Of actors; in the place of Ray Tune's.
    """
    from ray import exceptions
    from ray.air.execution._internal import actor_manager
    from ray.air.execution.resources.fixed import FixedResourceManager
    from ray.tune import tune
    from ray.tune.execution import tune_controller
    from ray.tune.experiment import Trial
    from ray.tune.impl import tuner_internal

    budget = {name: amount * (count + 0.5) for name, amount in asked.items()}  # half more: fractions add up inexactly
    names = (
        "OutOfMemoryError",
        "WorkerCrashedError",
        "NodeDiedError",
        "LocalRayletDiedError",
        "ActorUnschedulableError",
    )
    deaths = (exceptions.RayActorError, *(getattr(exceptions, name) for name in names if hasattr(exceptions, name)))
    from ray.tune.registry import _global_registry as registry

    with (
        # Each trial asks for its trainable three times: of the GCS, a millisecond each, and it is always the same one.
        _replaced(registry, "contains", _once_true(registry.contains)),
        _replaced(registry, "get", functools.cache(registry.get)),
        _replaced(tune_controller, "PlacementGroupResourceManager", lambda: FixedResourceManager(budget)),
        _replaced(tune_controller, "RayActorManager", manager),
        _replaced(tune_controller, "RayActorError", deaths),
        _replaced(actor_manager, "RayActorError", deaths),
        _replaced(Trial, "init_local_path", _share_a_folder),
        _replaced(tune_controller.TuneController, "checkpoint", _nothing),
        _replaced(tune, "ExperimentAnalysis", _nothing),
        _replaced(tuner_internal, "ResultGrid", _nothing),
    ):
        yield


def _share_a_folder(trial: Any) -> None:
    """Give a Ray trial the folder of all, for what it may write when it fails."""
    trial.relative_logdir = trial.storage.trial_dir_name = "trials"
    Path(trial.local_path).mkdir(parents=True, exist_ok=True)


def _nothing(*_: Any, **__: Any) -> None:
    """Stand in for what need not be done."""


def _once_true(function: Callable[..., bool]) -> Callable[..., bool]:
    """Return a function that remembers what it once said yes to."""
    known: set[Any] = set()

    def remembered(*key: Any) -> bool:
        if key not in known and function(*key):
            known.add(key)
        return key in known

    return remembered


@contextlib.contextmanager
def environment(**more: str) -> Iterator[None]:
    """Set what Ray reads from the environment, where the user has not, and take it back."""
    mine = {name: value for name, value in (_ENVIRONMENT | more).items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


def _nodes() -> list[dict[str, float]]:
    """Return what each node has: those that live; on an autoscaler's head, itself and all that may ever come."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    here = ray.get_runtime_context().gcs_address.rpartition(":")[0]
    coming = to_come() if here == ray.util.get_node_ip_address() else []
    if coming:
        alive = [node for node in alive if node["NodeManagerAddress"] == here]
    return [*(node["Resources"] for node in alive), *coming]


def is_alone() -> bool:
    """Return whether trials can run on this machine only: no Ray is here yet, or one of a single node."""
    return "ray" not in sys.modules or not sys.modules["ray"].is_initialized() or len(_nodes()) == 1


def to_come(file: Path | None = None) -> list[dict[str, float]]:
    """Return what each worker has that the autoscaler of this host may start; empty where it has none.

    Nodes that are not there yet are asked for by trials that wait: to plan for those alone that live would be to
    refuse a GPU to the first sweep on a cluster that begins with none.

    Args:
        file: What `ray up` gave the autoscaler; None: where it lies.
    """
    try:
        config = json.loads((file or Path.home() / "ray_bootstrap_config.yaml").read_text())
        kinds = config["available_node_types"].items()
        workers = [kind for name, kind in kinds if name != config["head_node_type"]]
        most = int(config["max_workers"])
        nodes = [dict(kind["resources"]) for kind in workers for _ in range(min(most, int(kind["max_workers"])))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return sorted(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), reverse=True)[:most]


class Nodes:
    """What a cluster has room for, as its nodes come and go; asked once a second."""

    def __init__(self) -> None:
        self._looked = -math.inf
        self._nodes: list[dict[str, float]] = []

    def fitting(self, asked: Mapping[str, float]) -> int:
        """Return how many trials that ask for this fit side by side."""
        if time.monotonic() - self._looked >= _LOOK_S:
            self._nodes, self._looked = _nodes(), time.monotonic()
        return sum(_fitting(asked, node) for node in self._nodes)


def _fitting(asked: Mapping[str, float], node: Mapping[str, float]) -> int:
    """Return how many trials fit on a node."""
    others = [node.get(name, 0) / asked[name] for name in asked if name not in ("CPU", "GPU")]
    room = fitting(asked["CPU"], asked["GPU"], node.get("CPU", 0), int(node.get("GPU", 0)))
    return min([room, *(int(count + 1e-9) for count in others)])


class RayDied(Exception):
    """A process without which this process's Ray cannot go on has died."""


def check_alive() -> None:
    """See whether this process's Ray still lives.

    Raises:
        RayDied: Its raylet or its GCS has died. One that another process started is not looked at here.
    """
    from ray._private import worker

    processes = getattr(worker._global_node, "all_processes", {})
    for kind in ("raylet", "gcs_server"):
        for entry in processes.get(kind, ()):
            status = entry.process.poll()
            if status is not None:
                raise RayDied(f"its {kind} process {entry.process.pid} ended with status {status}")


def check_resources(asked: Mapping[str, float], patience_s: float = 5.0) -> None:
    """Refuse a request that no node can ever meet, instead of waiting for it.

    Args:
        asked: What a trial asks for, by Ray's names.
        patience_s: How long nodes may take to appear, in seconds.

    Raises:
        ResourceError: No node has them.
    """
    deadline = time.monotonic() + patience_s
    while not any(_fitting(asked, node) for node in _nodes()):
        if time.monotonic() > deadline:
            offers = "; ".join(sorted({_offer(node, asked) for node in _nodes()}))
            keys = {"CPU": "cpus_per_trial", "GPU": "gpus_per_trial"}
            lower = [
                keys.get(name) or ("accelerator_type" if ":" in name else "custom") for name in asked if asked[name]
            ]
            raise ResourceError(
                f"resources: one node must have what a trial asks for, but got ({_offer(asked, asked)} a trial, on "
                f"nodes with {offers}). Change {' or '.join(f'resources.{key}' for key in dict.fromkeys(lower))}."
            )
        time.sleep(0.2)


def _offer(node: Mapping[str, float], asked: Mapping[str, float]) -> str:
    """Return what a node has of what is asked for: "2 CPUs, 0 GPUs, no A100"."""
    parts = [f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs"]
    for name in asked:
        kind = name.partition("accelerator_type:")[2]
        if kind:
            parts.append(kind if name in node else f"no {kind}")
        elif name not in ("CPU", "GPU"):
            parts.append(f"{node.get(name, 0):g} {name}")
    return ", ".join(parts)
