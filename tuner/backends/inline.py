"""Run trials one after another in this process: breakpoints work, nothing is started, no Ray."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from tuner.backends.driver import Driver
from tuner.backends.worker import EpochTimeout, Job, Outcome, Report, run_attempt
from tuner.splits import Splits
from tuner.trainable import Data, Train


def run(driver: Driver, train: Train, data: Splits, *, tee: bool = False) -> None:
    """Drive the sweep to its end in this process.

    Args:
        driver: The sweep's driver.
        train: The trainable.
        data: Training and validation splits by fold, kept once they are loaded.
        tee: Also show the trainable's own output on the terminal.
    """
    while (job := driver.next()) is not None:
        splits = data.get(job.fold)  # before its clock runs
        driver.begun(job.trial, job.attempt)
        with _cores(job.threads), _Alarm(driver, job.trial, on=not tee) as alarm:
            outcome = _run_one(driver, job, train, splits, tee, alarm)
        # A rule's decision, or a broken metric, has already ended it in the journal.
        if driver.is_current(job.trial, job.attempt):
            driver.end(job.trial, job.attempt, outcome)


def _run_one(driver: Driver, job: Job, train: Train, data: Data | None, tee: bool, alarm: _Alarm) -> Outcome:
    errors: list[Exception] = []

    def send(report: Report) -> bool:
        try:
            with alarm.off():
                return driver.report(job.trial, job.attempt, report)
        except Exception as error:  # the driver's own: the trainable must neither swallow it nor be blamed for it
            errors.append(error)
            return True

    try:
        outcome = run_attempt(job, train, data, send, tee=tee)
    except EpochTimeout:  # it rang when the trainable had just returned
        outcome = driver.hung(job.trial)
    if errors:
        raise errors[0]
    return outcome


class _Alarm:
    """Raises EpochTimeout in a trainable that is silent for too long, as far as one process can.

    SIGALRM interrupts Python code and most waiting in this thread, but no native code that never comes back. It
    waits while a debugger is at work.

    Args:
        driver: Knows how long an epoch may take.
        trial: Whose epochs.
        on: Whether to use it at all.
    """

    def __init__(self, driver: Driver, trial: str, *, on: bool) -> None:
        self._driver, self._trial = driver, trial
        main = threading.current_thread() is threading.main_thread()
        self._on = on and main and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL

    def __enter__(self) -> _Alarm:
        if self._on:
            signal.signal(signal.SIGALRM, self._ring)
            self._set(self._driver.epoch_limit_s())
        return self

    def __exit__(self, *error: object) -> None:
        if self._on:
            self._set(None)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Be silent for as long as this is open, and begin anew after it."""
        self._set(None)
        try:
            yield
        finally:
            self._set(self._driver.epoch_limit_s())

    def _set(self, seconds: float | None) -> None:
        if self._on:
            # Again and again: the trainable may swallow the first.
            signal.setitimer(signal.ITIMER_REAL, seconds or 0.0, seconds or 0.0)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if sys.gettrace() is not None:
            self._set(self._driver.epoch_limit_s())
        else:
            raise EpochTimeout(self._driver.hung(self._trial).error)


@contextlib.contextmanager
def _cores(threads: int) -> Iterator[None]:
    """Give NumPy and torch a trial's cores, as a Ray worker has them, and then back what this process had."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with threadpool_limits(threads):
        yield
    if torch:
        torch.set_num_threads(before)
