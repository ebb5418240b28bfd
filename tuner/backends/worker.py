"""The worker's side of one attempt: what a trainable sees as `trial`, and how its end is told. No Ray."""

from __future__ import annotations

import contextlib
import copy
import difflib
import importlib.util
import math
import numbers
import os
import platform
import random
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tuner import checkpoints
from tuner.backends import randomness
from tuner.backends.outbox import Outbox
from tuner.bodies import encode
from tuner.disk import is_the_disk
from tuner.errors import ConfigError, LanesFailed, ShapeError, StopTrial, TunerError
from tuner.trainable import Data, Train

# Columns of the frames; a metric of the same name would be lost among them.
RESERVED = ("trial", "number", "epoch", "reported_at", "state", "predictions")

# How torch and NumPy say that shapes do not fit; neither has an exception type of its own for it.
_SHAPE_WORDS = re.compile(
    r"shapes? cannot be multiplied|size mismatch|inconsistent tensor size|sizes of tensors must match|equal size"
    r"|must match the (?:size of tensor|existing size)|Calculated padded input size|Output size is too small"
    r"|output sizes should be greater than 0|Padding size should be less|Given groups=|shape '.*' is invalid for input"
    r"|expected input.*to have \d+ channels|expected input with shape|Expected input batch_size|Expected size for"
    r"|expected \d+D|should contain \d+ elements|Expected more than 1 value per channel|must be equal to input_size"
    r"|broadcast|mismatch in its core dimension|cannot reshape array|array dimensions .* must match exactly",
    re.IGNORECASE,
)
_MEMORY_WORDS = re.compile(r"out of memory|can't allocate memory|not enough memory|CUDNN_STATUS_ALLOC_FAILED", re.I)


# The one cause that may be the same for every trial to come: their run folder cannot be written.
STORAGE = "infrastructure.storage"


@dataclass(frozen=True)
class Job:
    """One attempt, ready to run anywhere that sees the run folder.

    Args:
        run: The run folder, or its URI.
        trial: The trial's name.
        number: The trial's number, from 1.
        attempt: From 1.
        seed: Seeds everything random.
        config: The config.
        max_epochs: The most epochs this trial may train.
        metric: The sweep's metric; a report without it fails the trial.
        fold: Which fold to train on, or None.
        start_epoch: Epochs already done and kept.
        checkpoint: Folder of the verified checkpoint to start from, relative to the run, or None.
        every_epochs: A checkpoint is committed every so many epochs.
        threads: Threads that torch and NumPy may use.
        device: "cpu" or "cuda".
        precision: "fp32" or "bf16".
        suggestions: Of a run on a URI: journal rows that no snapshot there holds yet; see tuner.adoption.
    """

    run: str
    trial: str
    number: int
    attempt: int
    seed: int
    config: dict[str, Any]
    max_epochs: int
    metric: str
    fold: int | None = None
    start_epoch: int = 0
    checkpoint: str | None = None
    every_epochs: int = 1
    threads: int = 1
    device: str = "cpu"
    precision: str = "fp32"
    suggestions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def log(self) -> str:
        """The attempt's log file, relative to the run."""
        return f"logs/{self.trial}-{self.attempt}.log"


@dataclass(frozen=True)
class Report:
    """One epoch's metrics on their way to the driver.

    Args:
        epoch: From 1.
        metrics: Plain numbers, or None.
        checkpoint: What checkpoints.commit() returned, or None.
        elapsed_s: Seconds since the attempt began.
        worker: Host and process id.
        taken_s: Seconds that checking it and writing its files took.
    """

    epoch: int
    metrics: dict[str, float | None]
    checkpoint: dict[str, Any] | None
    elapsed_s: float
    worker: str
    taken_s: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Args:
        status: "completed", "failed", or "stopped".
        cause: One of DESIGN's causes where it failed, else None.
        error: One line where it failed, else None.
        elapsed_s: Seconds since the attempt began.
        unwritable: Whether it was the run folder itself that could not be written, which no other trial can either.
    """

    status: str
    cause: str | None = None
    error: str | None = None
    elapsed_s: float | None = None
    unwritable: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class MetricError(ConfigError):
    """A report without the sweep's metric, or with something that is no number."""


class EpochTimeout(BaseException):
    """Raised in a trainable that has been silent for too long; no `except Exception` of its own swallows it."""


# Commits a report; True asks the trial to stop.
Send = Callable[[Report], bool]


@dataclass
class WorkerTrial:
    """The `trial` that a trainable gets; see tuner.trainable.Trial for what its parts mean."""

    job: Job
    data: Data | None
    send: Send
    outbox: Outbox
    kept: checkpoints.Kept | None = None
    began: float = field(default_factory=time.monotonic)
    epoch: int = 0
    stopped: bool = False
    refused: ConfigError | None = None
    unwritable: OSError | None = None
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    shared: bool = False

    def __post_init__(self) -> None:
        self.number, self.seed, self.device = self.job.number, self.job.seed, self.job.device
        self.max_epochs, self.precision = self.job.max_epochs, self.job.precision
        self.epoch = self.job.start_epoch

    @property
    def state(self) -> dict[str, Any] | None:
        """See tuner.trainable.Trial.state."""
        self._continue_random()
        return self.kept.state if self.kept else None

    @property
    def start_epoch(self) -> int:
        """See tuner.trainable.Trial.start_epoch."""
        self._continue_random()
        return self.job.start_epoch

    def _continue_random(self) -> None:
        # A trainable asks for these between making its model, which draws numbers, and its loop over epochs.
        if self.kept and self.kept.random and not self.shared and self.epoch == self.job.start_epoch:
            randomness.restore(self.kept.random)

    def report(
        self,
        *,
        epoch: int | None = None,
        state: dict[str, Any] | None = None,
        predictions: NDArray[Any] | None = None,
        **metrics: float | None,
    ) -> None:
        """Hand over one epoch; see tuner.trainable.Trial.report."""
        if self.stopped:
            raise StopTrial("this trial was ended")
        if self.epoch >= self.max_epochs:
            raise StopTrial(f"the {self.max_epochs} epochs of this trial are done")
        began = time.perf_counter()
        try:
            report = self._report(_next_epoch(epoch, self.epoch), state, predictions, metrics)
        except ConfigError as error:
            self.refused = self.refused or error  # counts also where the trainable swallows it
            raise
        except OSError as error:
            self.unwritable = self.unwritable or error
            raise
        self.stopped = self.send(replace(report, taken_s=time.perf_counter() - began))
        self.epoch = report.epoch
        if self.stopped:
            raise StopTrial("a stopping rule ended this trial")

    def _report(self, epoch: int, state: dict[str, Any] | None, predictions: Any, metrics: Mapping[str, Any]) -> Report:
        """Check an epoch, and write what goes to files: the driver's row comes last."""
        # A study's last training has no validation split, and so no metric of it.
        blind = self.data is not None and self.data.val is None
        plain = plain_metrics(metrics, None if blind else self.job.metric)
        place, written = checkpoints.Place(self.job.trial, epoch, self.job.attempt), list[str]()
        report = Report(epoch, plain, None, time.monotonic() - self.began, worker_name())
        if predictions is not None:
            written.append(checkpoints.save_predictions(self.outbox.folder, place, predictions))
        if state is not None and (epoch % self.job.every_epochs == 0 or epoch == self.max_epochs):
            told = self._told(report) if self.outbox.is_remote else None
            random_state = {} if self.shared else randomness.capture()
            kept = checkpoints.commit(self.outbox.folder, place, state, plain, random_state, told)
            report = replace(report, checkpoint=kept)
            written += [f"{place.path}/{name}" for name in (checkpoints.STATE_NAME, checkpoints.MANIFEST_NAME)]
        self.outbox.carry(written)
        return report

    def _told(self, report: Report) -> dict[str, Any]:
        """Return what a manifest must carry for the journal to be regained from it: every row of this attempt."""
        self.rows[report.epoch] = epoch_body(report)
        rows = {str(epoch): encode(body) for epoch, body in self.rows.items()}
        return {"start_epoch": self.job.start_epoch, "rows": rows, "suggestions": self.job.suggestions}


def epoch_body(report: Report) -> dict[str, Any]:
    """Return the body of an epoch's row in the journal."""
    return {"metrics": report.metrics, "elapsed_s": round(report.elapsed_s, 4), "worker": report.worker}


def worker_name() -> str:
    """Return "host:pid" of this process."""
    return f"{platform.node()}:{os.getpid()}"


def _next_epoch(epoch: int | None, last: int) -> int:
    if epoch is None or epoch == last + 1:
        return last + 1
    raise ConfigError(
        f"trial.report: epoch must be {last + 1} (one more than the last), but got (epoch={epoch!r}). "
        "Start the loop at trial.start_epoch + 1."
    )


def plain_metrics(metrics: Mapping[str, Any], metric: str | None) -> dict[str, float | None]:
    """Return the metrics as plain numbers (NumPy scalars and one-element tensors included).

    Raises:
        MetricError: One is no number, has a reserved name, or the sweep's own is missing.
    """
    if metric is not None and metric not in metrics:
        close = difflib.get_close_matches(metric, metrics, n=1, cutoff=0.5)
        remedy = (
            f'Set sweep.metric = "{close[0]}", or rename it in the trainable' if close else "Set sweep.metric to one"
        )
        raise MetricError(
            f'trial.report must give the sweep\'s metric "{metric}", but got ({", ".join(metrics) or "no metrics"}). '
            f"{remedy}; report None where it is not defined yet."
        )
    return {name: _plain_number(name, value) for name, value in metrics.items()}


def _plain_number(name: str, value: Any) -> float | None:
    if name in RESERVED:
        raise MetricError(
            f'trial.report: a metric must not be named "{name}" (a column of the frames has it). Rename it.'
        )
    if value is None:
        return None
    if isinstance(value, numbers.Integral | np.bool_) and abs(int(value)) < 2**63:
        return int(value)
    if hasattr(value, "__float__") and not isinstance(value, str):
        with contextlib.suppress(TypeError, ValueError, RuntimeError, OverflowError):
            return float(value)
    raise MetricError(
        f"trial.report: {name} must be a number or None, but got ({_short(value)}). Report one number a metric."
    )


def _short(value: Any) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def run_attempt(
    job: Job, train: Train, data: Data | None, send: Send, *, tee: bool = False, shared: bool = False
) -> Outcome:
    """Run one attempt to its end; whatever the trainable does comes back as an Outcome.

    Args:
        job: What to run.
        train: The trainable.
        data: Its training and validation splits, or None.
        send: Commits a report and says whether to stop.
        tee: Also show the trainable's output where it would have gone.
        shared: Others run in this process at the same time, so what belongs to a process is left as it is: its random
            state, its threads, and where its output goes.

    Returns:
        The outcome. A KeyboardInterrupt of the main thread passes through: it ends the process, not the trial.
    """
    began = time.monotonic()
    try:
        outbox = Outbox(job.run, job.log)
    except OSError as error:
        return Outcome("failed", STORAGE, f"{error.filename}: {error.strerror}", 0.0, unwritable=True)
    with contextlib.closing(outbox):
        trial = WorkerTrial(job, data, send, outbox, shared=shared)
        try:
            with _output_to(outbox.log, tee, redirect=not shared) as log:
                cause, sentence = _train(trial, train, log)
        except OSError as error:  # the log cannot be written
            trial.unwritable = error
            cause, sentence = classify(error)
    unwritable = cause == STORAGE and trial.unwritable is not None
    return Outcome("failed" if cause else "completed", cause, sentence, time.monotonic() - began, unwritable)


def _train(trial: WorkerTrial, train: Train, log: TextIO) -> tuple[str | None, str | None]:
    """Run the trainable; return the cause and the one line of a failure, or two Nones."""
    job = trial.job
    returned: object = None
    try:
        trial.kept = checkpoints.load(trial.outbox.fetch(job.checkpoint)) if job.checkpoint else None
        with contextlib.nullcontext() if trial.shared else _seeded(job):
            # A copy: what a trainable does to its config stays there.
            returned = train(copy.deepcopy(job.config), trial)  # type: ignore[func-returns-value]
    except StopTrial:
        pass
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        traceback.print_exc(file=log)
        return _with_batch(job, *classify(trial.unwritable or error))
    if swallowed := trial.unwritable or trial.refused:
        return classify(swallowed)
    return (None, None) if trial.epoch or trial.stopped else _never_reported(job, returned)


def _with_batch(job: Job, cause: str, sentence: str) -> tuple[str, str]:
    """Name the batch size where memory ran out: it is what can be lowered."""
    if cause == "config.out_of_memory" and "batch_size" in job.config:
        sentence = f"{sentence.rstrip('.')}. This config has batch_size = {job.config['batch_size']}; lower its range."
    return cause, sentence


def _never_reported(job: Job, returned: object) -> tuple[str, str]:
    got = f"a {type(returned).__name__}" if returned is not None else "nothing"
    return (
        "config.metric",
        f"the trainable returned {got} without calling trial.report. "
        f"Call trial.report(epoch=..., {job.metric}=...) after each epoch.",
    )


def classify(error: BaseException) -> tuple[str, str]:
    """Return the cause and the one-line sentence of what a trainable raised."""
    text = str(error) if isinstance(error, TunerError) else f"{type(error).__name__}: {error}"
    # A file name that is not UTF-8 would keep the frames, which hold every sentence, from being written.
    sentence = " ".join(text.split())[:500].rstrip(": ").encode(errors="backslashreplace").decode()
    if isinstance(error, EpochTimeout):
        return "timeout", str(error)
    if isinstance(error, MetricError):
        return "config.metric", sentence
    if isinstance(error, LanesFailed):
        return "infrastructure.worker_lost", sentence
    if isinstance(error, ShapeError):
        return "config.shape", sentence
    if isinstance(error, MemoryError) or _MEMORY_WORDS.search(str(error)):
        return "config.out_of_memory", sentence
    if isinstance(error, checkpoints.DamagedCheckpoint) or (isinstance(error, OSError) and is_the_disk(error)):
        return STORAGE, sentence
    if isinstance(error, RuntimeError | ValueError) and _SHAPE_WORDS.search(str(error)):
        return "config.shape", sentence
    return "config.raised", sentence


@contextlib.contextmanager
def _seeded(job: Job) -> Iterator[None]:
    """Seed Python, NumPy and torch, and hold torch to the trial's own cores."""
    random.seed(job.seed)
    np.random.seed(job.seed % 2**32)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(job.threads)
    late = _LateTorch(job)
    if torch := sys.modules.get("torch"):
        _seed_torch(torch, job)
    else:
        sys.meta_path.insert(0, late)
    try:
        yield
    finally:
        if late in sys.meta_path:
            sys.meta_path.remove(late)


class _LateTorch(MetaPathFinder):
    """Seeds torch when a trainable imports it: importing it for all would cost those without it 2 s."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_seed(module: ModuleType) -> None:
                execute(module)
                _seed_torch(module, self.job)

            spec.loader.exec_module = execute_and_seed  # type: ignore[method-assign]
        return spec


def _seed_torch(torch: ModuleType, job: Job) -> None:
    torch.manual_seed(job.seed)
    torch.set_num_threads(job.threads)


class _Tee:
    """Writes to a log file and, as before, to the stream it stands in for."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._streams[-1], name)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()


@contextlib.contextmanager
def _output_to(path: Path, tee: bool, redirect: bool = True) -> Iterator[TextIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as log:
        if not redirect:
            yield log
            return
        out: Any = _Tee(log, sys.stdout) if tee else log
        err: Any = _Tee(log, sys.stderr) if tee else log
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield log


def is_finite(value: float | None) -> bool:
    """Return whether a metric is a finite number; None (not defined) is not non-finite."""
    return value is None or math.isfinite(value)
