"""Every exception a user can meet.

    TunerError                    anything this project says to a person (exit status 2)
    |-- UsageError                a mistake in a command, or in a call from Python
    |   |-- SweepError            mistakes in a sweep (all of them at once, as Problems)
    |   |-- RunError              a run folder that is missing, busy, taken or unreadable
    |   `-- ResourceError         resources that can never be had here
    |-- DataError                 data that is missing, damaged, or not as described
    |-- ConfigError               a config that cannot be trained (failure cause config.raised)
    |   `-- ShapeError            its layers do not fit its data (failure cause config.shape)
    |-- LanesFailed               an epoch of several trials at once (failure cause infrastructure.worker_lost)
    |-- SweepFailed               what a sweep runs on ended it before its time (exit status 1)
    |   `-- StorageError          the run folder's disk did
    `-- Interrupted               a signal ended the sweep (exit status 130 or 143)
    StopTrial                     control flow: a stopping rule ended this trial (a BaseException)

A sentence names the place (file and key), the rule, the value received and the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class TunerError(Exception):
    """Anything that this project says to a person; the command line prints it without a traceback."""

    exit_status = 2


class UsageError(TunerError):
    """A mistake in a command, or in a call from Python."""


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is, the rule it breaks, what was received, what to do.

    Args:
        key: Dotted key inside the file, such as "space.learning_rate".
        rule: What must hold, such as "low <= high must hold".
        got: What was received, ready to print; empty where there is nothing to show.
        remedy: What to write instead; empty where the rule says it all.
    """

    key: str
    rule: str
    got: str = ""
    remedy: str = ""

    def sentence(self, source: str) -> str:
        """Return `source: key: rule, but got (value). remedy`."""
        where = f"{source}: {self.key}: " if self.key else f"{source}: "
        got = f", but got ({self.got})" if self.got else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{where}{self.rule}{got}.{remedy}"


class SweepError(UsageError):
    """All the mistakes of one sweep.

    Args:
        source: The file's path, or "Sweep(...)" for one built in Python.
        problems: Every mistake found; at least one.
    """

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(problem.sentence(source) for problem in self.problems))

    def __reduce__(self) -> tuple[type[SweepError], tuple[str, tuple[Problem, ...]]]:
        return type(self), (self.source, self.problems)


class RunError(UsageError):
    """A run folder that is missing, busy, taken or unreadable."""


class ResourceError(UsageError):
    """Resources that can never be had here."""


class DataError(TunerError):
    """Data that is missing, damaged, or not as described."""


class ConfigError(TunerError):
    """A config that cannot be trained; the trial fails with cause config.raised."""


class ShapeError(ConfigError):
    """A config whose layers do not fit its data; the trial fails with cause config.shape."""


class LanesFailed(TunerError):
    """An epoch of several trials at once failed, which none of them may have caused; each is tried again."""


class SweepFailed(TunerError):
    """What a sweep runs on, such as Ray, ended it before its time. What was committed is saved.

    Args:
        why: What is wrong, and what to do about it.
        folder: The run folder, where there is one to resume.
    """

    exit_status = 1

    def __init__(self, why: str, folder: Path | None = None) -> None:
        super().__init__(f"{why} What was done is saved; go on with: tuner resume {folder}" if folder else why)
        self.why, self.folder = why, folder

    def __reduce__(self) -> tuple[type[SweepFailed], tuple[str, Path | None]]:
        return type(self), (self.why, self.folder)


class StorageError(SweepFailed):
    """The run folder's disk ended the sweep: it is full, read-only, or fails."""


class Interrupted(TunerError):
    """A signal ended the sweep; what was done is saved.

    Args:
        message: What to print.
        exit_status: 130 for SIGINT, 143 for SIGTERM and SIGHUP.
    """

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status

    def __reduce__(self) -> tuple[type[Interrupted], tuple[str, int]]:
        return type(self), (str(self), self.exit_status)


class StopTrial(BaseException):
    """Raised by trial.report when a stopping rule ended the trial.

    Not an Exception, so that a trainable's own `except Exception` cannot swallow it.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return the remedy for an unknown name: the nearest valid one, or all of them."""
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f'Did you mean "{close[0]}"?'
    return f"Valid: {', '.join(names)}." if names else ""
