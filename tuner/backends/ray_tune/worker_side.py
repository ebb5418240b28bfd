"""The worker's side of the seam: one attempt inside a Ray actor. It imports neither the driver nor a strategy."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuner.backends.worker import Job, Report, run_attempt
from tuner.storage import Remote
from tuner.trainable import Train, Trial


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
    """

    train: str | None
    origin: str | None
    mirror: tuple[str, str] | None
    function: Any
    data: Mapping[int | None, Any]
    folder: str
    path: tuple[str, ...]


def ray_trial(config: dict[str, Any], *, parcel: Parcel) -> None:
    """Run one attempt inside a Ray actor; its outcome travels as one last report."""
    import ray
    from ray import tune

    job = Job(**json.loads(config["job"]))
    _move_in(parcel)
    stopped: list[SystemExit] = []

    def send(report: Report) -> bool:
        try:
            tune.report({"payload": json.dumps({"report": asdict(report)})})
        except SystemExit as stop:  # how Ray ends a function trainable that its scheduler stopped
            stopped.append(stop)
        return bool(stopped)

    data = ray.get(parcel.data[job.fold]) if job.fold in parcel.data else None
    outcome = run_attempt(job, _load(parcel), data, send)
    if stopped:
        raise stopped[0]  # Ray waits for it before it reuses the actor
    tune.report({"payload": json.dumps({"outcome": outcome.to_dict()})})


def _move_in(parcel: Parcel) -> None:
    """Work where the driver works, as far as that is here: relative paths and imports mean the same in both."""
    # A trial waits so long for a stopped one before it to clear up; then it gets a worker of its own.
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "60")
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
