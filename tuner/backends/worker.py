"""The worker's side of one attempt: what a trainable sees as `trial`, and how its end is told. No Ray."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import math
import numbers
import os
import platform
import random
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tuner import checkpoints
from tuner.errors import ConfigError, ShapeError, StopTrial, TunerError
from tuner.trainable import Data, Train

# Columns of the frames; a metric of the same name would be lost among them.
RESERVED = ("trial", "number", "epoch", "reported_at", "state", "predictions")

# How torch says that shapes do not fit; it has no exception type of its own for it.
_SHAPE_WORDS = re.compile(
    r"shapes? cannot be multiplied|size mismatch|Calculated padded input size|Output size is too small"
    r"|Given groups=|must match the size of tensor|shape '.*' is invalid for input|expected input.*to have \d+ channels"
    r"|Expected input batch_size",
)
_MEMORY_WORDS = re.compile(r"out of memory|can't allocate memory|not enough memory|CUDNN_STATUS_ALLOC_FAILED", re.I)


@dataclass(frozen=True)
class Job:
    """One attempt, ready to run anywhere that sees the run folder.

    Args:
        run: The run folder.
        trial: The trial's name.
        number: The trial's number, from 1.
        attempt: From 1.
        seed: Seeds everything random.
        config: The config.
        max_epochs: The most epochs this trial may train.
        metric: The sweep's metric; a report without it fails the trial.
        fold: Which fold to train on, or None.
        start_epoch: Epochs already done and kept.
        checkpoint: Folder of the verified checkpoint to start from, or None.
        every_epochs: A checkpoint is committed every so many epochs.
        threads: Threads that torch and NumPy may use.
        device: "cpu" or "cuda".
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

    @property
    def log(self) -> Path:
        """The attempt's log file."""
        return Path(self.run) / "logs" / f"{self.trial}-{self.attempt}.log"


@dataclass(frozen=True)
class Report:
    """One epoch's metrics on their way to the driver.

    Args:
        epoch: From 1.
        metrics: Plain numbers, or None.
        checkpoint: What checkpoints.commit() returned, or None.
        elapsed_s: Seconds since the attempt began.
        worker: Host and process id.
    """

    epoch: int
    metrics: dict[str, float | None]
    checkpoint: dict[str, Any] | None
    elapsed_s: float
    worker: str


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Args:
        status: "completed", "failed", or "stopped".
        cause: One of DESIGN's causes where it failed, else None.
        error: One line where it failed, else None.
        elapsed_s: Seconds since the attempt began.
    """

    status: str
    cause: str | None = None
    error: str | None = None
    elapsed_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class MetricError(ConfigError):
    """A report without the sweep's metric, or with something that is no number."""


# Commits a report; True asks the trial to stop.
Send = Callable[[Report], bool]


@dataclass
class WorkerTrial:
    """The `trial` that a trainable gets; see tuner.trainable.Trial for what its parts mean."""

    job: Job
    data: Data | None
    send: Send
    state: dict[str, Any] | None = None
    began: float = field(default_factory=time.monotonic)
    epoch: int = 0

    def __post_init__(self) -> None:
        self.number, self.seed, self.device = self.job.number, self.job.seed, self.job.device
        self.max_epochs, self.start_epoch = self.job.max_epochs, self.job.start_epoch
        self.epoch = self.start_epoch

    def report(
        self,
        *,
        epoch: int | None = None,
        state: dict[str, Any] | None = None,
        predictions: NDArray[Any] | None = None,
        **metrics: float | None,
    ) -> None:
        """Hand over one epoch; see tuner.trainable.Trial.report."""
        if self.epoch >= self.max_epochs:
            raise StopTrial(f"the {self.max_epochs} epochs of this trial are done")
        self.epoch = _next_epoch(epoch, self.epoch)
        numbers_ = plain_metrics(metrics, self.job.metric)
        run = Path(self.job.run)
        if predictions is not None:
            checkpoints.save_predictions(run, self.job.trial, self.epoch, predictions)
        kept = None
        if state is not None and (self.epoch % self.job.every_epochs == 0 or self.epoch == self.max_epochs):
            place = checkpoints.Place(self.job.trial, self.epoch, self.job.attempt)
            kept = checkpoints.commit(run, place, state, numbers_)
        if self.send(Report(self.epoch, numbers_, kept, time.monotonic() - self.began, worker_name())):
            raise StopTrial("a stopping rule ended this trial")


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


def plain_metrics(metrics: Mapping[str, Any], metric: str) -> dict[str, float | None]:
    """Return the metrics as plain numbers (NumPy scalars and one-element tensors included).

    Raises:
        MetricError: One is no number, has a reserved name, or the sweep's own is missing.
    """
    if metric not in metrics:
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
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if hasattr(value, "__float__") and not isinstance(value, str):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            return float(value)
    raise MetricError(
        f"trial.report: {name} must be a number or None, but got ({_short(value)}). Report one number a metric."
    )


def _short(value: Any) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def run_attempt(job: Job, train: Train, data: Data | None, send: Send, *, tee: bool = False) -> Outcome:
    """Run one attempt to its end; whatever the trainable does comes back as an Outcome.

    Args:
        job: What to run.
        train: The trainable.
        data: Its training and validation splits, or None.
        send: Commits a report and says whether to stop.
        tee: Also show the trainable's output where it would have gone.

    Returns:
        The outcome. KeyboardInterrupt and SystemExit of the process itself pass through.
    """
    trial = WorkerTrial(job, data, send)
    with _output_to(job.log, tee) as log:
        try:
            trial.state = checkpoints.load(Path(job.checkpoint)) if job.checkpoint else None
            _seed_all(job, train)
            returned: object = train(dict(job.config), trial)  # type: ignore[func-returns-value]
        except StopTrial:
            status = "completed" if trial.epoch >= trial.max_epochs else "stopped"
            return Outcome(status, elapsed_s=time.monotonic() - trial.began)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            traceback.print_exc(file=log)
            cause, sentence = classify(error)
            return Outcome("failed", cause, sentence, time.monotonic() - trial.began)
    elapsed_s = time.monotonic() - trial.began
    if trial.epoch == 0:
        got = f"a {type(returned).__name__}" if returned is not None else "nothing"
        return Outcome(
            "failed",
            "config.metric",
            f"the trainable returned {got} without calling trial.report. "
            f"Call trial.report(epoch=..., {job.metric}=...) after each epoch.",
            elapsed_s,
        )
    return Outcome("completed", elapsed_s=elapsed_s)


def classify(error: BaseException) -> tuple[str, str]:
    """Return the cause and the one-line sentence of what a trainable raised."""
    text = str(error) if isinstance(error, TunerError) else f"{type(error).__name__}: {error}"
    sentence = " ".join(text.split())[:500].rstrip(": ")
    if isinstance(error, MetricError):
        return "config.metric", sentence
    if isinstance(error, ShapeError):
        return "config.shape", sentence
    if isinstance(error, MemoryError) or _MEMORY_WORDS.search(str(error)):
        return "config.out_of_memory", sentence
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO):
        return "infrastructure.storage", sentence
    if isinstance(error, RuntimeError | ValueError) and _SHAPE_WORDS.search(str(error)):
        return "config.shape", sentence
    return "config.raised", sentence


def _seed_all(job: Job, train: Train) -> None:
    """Seed Python, NumPy and (where the trainable uses it) torch, and hold torch to the trial's own cores."""
    random.seed(job.seed)
    np.random.seed(job.seed % 2**32)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(job.threads)
    if "torch" in sys.modules or _imports_torch(train) or job.checkpoint:
        torch = importlib.import_module("torch")
        torch.manual_seed(job.seed)
        torch.set_num_threads(job.threads)


def _imports_torch(train: Train) -> bool:
    """Return whether the function itself imports torch; importing it here first is what lets it be seeded."""
    code = getattr(train, "__code__", None)
    return code is not None and any(name.split(".")[0] == "torch" for name in code.co_names)


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
def _output_to(path: Path, tee: bool) -> Iterator[TextIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as log:
        out: Any = _Tee(log, sys.stdout) if tee else log
        err: Any = _Tee(log, sys.stderr) if tee else log
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield log


def is_finite(value: float | None) -> bool:
    """Return whether a metric is a finite number; None (not defined) is not non-finite."""
    return value is None or math.isfinite(value)
