"""The worker's side of the seam: one attempt inside a Ray actor. It imports neither the driver nor a strategy."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import queue
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.backends.worker import Job, Outcome, Report, run_attempt
from tuner.storage import Remote
from tuner.timing import Meter, age_s
from tuner.trainable import Train, Trial

if TYPE_CHECKING:
    from tuner.backends.ray_tune.pool import Relay

LEAVE_S = 60.0  # so long a stopped attempt may clear up; then its successor gets a worker of its own


@dataclass(frozen=True)
class Parcel:
    """What the attempts of one sweep share; sent to each worker once.

    Args:
        train: The trainable's reference; None where it is a function.
        origin: Where a user's trainable file came from, or None.
        mirror: Of a run on a URI: the URI, and the folder on the driver's host that `train` lies in; else None.
        function: Ray's reference to the pickled function; None where workers load it by its reference.
        data: Ray's references to the training and validation splits, by fold.
        folder: The driver's working directory.
        path: The driver's sys.path.
        lanes: Trials that train together in one process; 1: each has a process of its own.
        pools: What the names of the processes in which lanes train begin with.
    """

    train: str | None
    origin: str | None
    mirror: tuple[str, str] | None
    function: Any
    data: Mapping[int | None, Any]
    folder: str
    path: tuple[str, ...]
    lanes: int = 1
    pools: str = ""


class Attempts:
    """The attempts of one worker, one after another: an actor that Ray Tune's controller asks as it asks a Trainable.

    It is no subclass of Ray's: that would have each worker import all of ray.tune, with pandas and ray.data, which is
    most of a worker's start. So nothing of Ray Tune travels here: a job comes as text, and messages go as text.

    Args:
        ahead: A module that the attempts will need, imported while the driver is at other things; may be empty.
    """

    def __init__(self, ahead: str) -> None:
        self._mark: Path | None = None
        atexit.register(self._unmark)  # the first, so the last to be called
        self._meter = Meter(age_s())
        self._meter.turn("loading")
        if ahead:
            with contextlib.suppress(Exception):  # the attempt that needs it says why
                importlib.import_module(ahead)
        self._meter.turn("waiting")

    def begin(self, job: str, parcel: Parcel) -> None:
        """Take the first attempt.

        Args:
            job: Its job, as JSON.
            parcel: What all attempts share.
        """
        self._parcel = parcel
        self._attempt = self._begun(job)

    def train(self) -> dict[str, str]:
        """Let the attempt go on to its next report, or to its end; returns that message, as Ray Tune takes a result."""
        return {"payload": self._attempt.go_on()}

    def get_auto_filled_metrics(self, debug_metrics_only: bool = True) -> dict[str, str]:
        """Return what Ray Tune would add to a result, which is nothing; it asks as it takes a worker."""
        return {}

    def reset(self, job: str) -> bool:
        """Begin another attempt; returns False where the one before does not end."""
        if not self._attempt.end():
            return False
        self._attempt = self._begun(job)
        return True

    def leave(self) -> None:
        """End the attempt at once, for the lanes beside it wait for what becomes of it."""
        self._attempt.end()

    def stop(self) -> bool:
        """End the attempt; returns whether this worker is free, and could serve another sweep."""
        free = self._attempt.end()
        if free:
            del self._attempt, self._parcel  # the data in it, too, which the next sweep may make room for
        return free

    def mark(self, path: str) -> None:
        """Make a file that goes with this worker's process, after whatever else is done at its end."""
        self._mark = Path(path)
        self._mark.touch()

    def _unmark(self) -> None:
        if self._mark is not None:
            self._mark.unlink(missing_ok=True)

    def extract_model(self, state: str, target: str) -> None:
        """Do what needs torch, which the driver has not imported: see `checkpoints.extract_model`."""
        from tuner.checkpoints import extract_model

        extract_model(Path(state), Path(target))

    def _begun(self, job: str) -> Attempt | Relay:
        if self._parcel.lanes == 1:
            return Attempt(job, self._parcel, self._meter)
        from tuner.backends.ray_tune.pool import Relay

        return Relay(job, self._parcel)


class Attempt:
    """One attempt in a thread of its own, which stands still between a report and what becomes of it."""

    def __init__(self, job: str, parcel: Parcel, meter: Meter) -> None:
        self._job, self._parcel, self._meter = Job(**json.loads(job)), parcel, meter
        self._messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stops: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"{self._job.trial}-{self._job.attempt}", daemon=True)

    def go_on(self) -> str:
        """Let it go on to its next report, or to its end; returns that message."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._stops.put(False)
        return self._messages.get()

    def end(self) -> bool:
        """Stop it; returns whether it is over. Another in the same process would share its random state."""
        if self._thread.ident is None:
            return True
        self._stops.put(True)
        self._thread.join(LEAVE_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            outcome = self._outcome()
        except BaseException as error:  # of this code, not of the trainable; unsaid, it would be waited for
            outcome = Outcome("failed", "infrastructure.worker_lost", f"{type(error).__name__}: {error}")
        self._put({"outcome": outcome.to_dict()})

    def _outcome(self) -> Outcome:
        import ray

        self._meter.turn("loading")
        _move_in(self._parcel)
        fold = self._job.fold
        data = ray.get(self._parcel.data[fold]) if fold in self._parcel.data else None
        return self._run_attempt(data)

    def _run_attempt(self, data: Any) -> Outcome:
        train = _load(self._parcel)
        self._meter.turn("training")
        return run_attempt(self._job, train, data, self._send)

    def _send(self, report: Report) -> bool:
        self._put({"report": asdict(report)}, report.taken_s)
        stop = self._stops.get()
        self._meter.turn("training")
        return stop

    def _put(self, message: dict[str, Any], reporting_s: float = 0.0) -> None:
        """Hand a message over, with what this worker has spent its time on since the one before."""
        self._meter.turn("waiting")
        self._messages.put(json.dumps({**message, "spent": self._meter.take(reporting_s)}))


class SharedAttempt(Attempt):
    """One attempt beside others of the same process: a lane of a group, which trains them together."""

    def _run_attempt(self, data: Any) -> Outcome:
        with _meeting:
            train = lanes_of(self._parcel.train)
        self._meter.turn("training")
        return run_attempt(self._job, train, data, self._send, shared=True)


_meeting = threading.Lock()


@functools.lru_cache(maxsize=1)  # once a process: all of its attempts meet there
def lanes_of(trainable: str | None) -> Train:
    """Return what trains a trainable's trials side by side."""
    from importlib import import_module

    return import_module("trainables.lanes").side_by_side(trainable)  # type: ignore[no-any-return]


def _move_in(parcel: Parcel) -> None:
    """Work where the driver works, as far as that is here: relative paths and imports mean the same in both."""
    with contextlib.suppress(OSError):
        os.chdir(parcel.folder)
    sys.path.extend(entry for entry in parcel.path if entry not in sys.path)


def _load(parcel: Parcel) -> Train:
    """Return the trainable; where it cannot be loaded, one that raises why."""
    try:
        if parcel.train is None:
            return _unpickled(parcel.function)
        from tuner.loading import load_trainable

        reference = _fetched(parcel.train, *parcel.mirror) if parcel.mirror else parcel.train
        return load_trainable(reference, parcel.origin)[0]
    except Exception as error:
        reason = error

        def fail(config: dict[str, Any], trial: Trial) -> None:
            raise reason

        return fail


@functools.lru_cache(maxsize=1)
def _fetched(reference: str, run: str, folder: str) -> str:
    """Return a trainable's reference on this node, once a worker: a user's file is at the run's URI."""
    file, _, function = reference.rpartition(":")
    if not file.startswith(f"{folder}/"):
        return reference
    here = Path(tempfile.mkdtemp(prefix="tuner-code-"))
    atexit.register(shutil.rmtree, here, ignore_errors=True)
    remote = Remote(run)
    for path in remote.entries("code"):
        remote.download(path, here / path)
    return f"{here}{file[len(folder) :]}:{function}"


@functools.lru_cache(maxsize=1)  # once a worker: as in one process, what a function keeps stays for its next trial
def _unpickled(function: Any) -> Train:
    import ray

    return ray.cloudpickle.loads(ray.get(function))  # type: ignore[no-any-return]
