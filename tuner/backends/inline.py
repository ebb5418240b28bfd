"""Run trials one after another in this process: breakpoints work, nothing is started, no Ray."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from tuner.backends.driver import Driver
from tuner.backends.worker import Job, Outcome, Report, run_attempt
from tuner.trainable import Data, Train


def run(driver: Driver, train: Train, data: Data | None, *, tee: bool = False) -> None:
    """Drive the sweep to its end in this process.

    Args:
        driver: The sweep's driver.
        train: The trainable.
        data: Training and validation splits, or None.
        tee: Also show the trainable's own output on the terminal.
    """
    while (job := driver.next()) is not None:
        with _cores(job.threads):
            outcome = _run_one(driver, job, train, data, tee)
        # A rule's decision, or a broken metric, has already ended it in the journal.
        if driver.is_current(job.trial, job.attempt):
            driver.end(job.trial, job.attempt, outcome)


def _run_one(driver: Driver, job: Job, train: Train, data: Data | None, tee: bool) -> Outcome:
    errors: list[Exception] = []

    def send(report: Report) -> bool:
        try:
            return driver.report(job.trial, job.attempt, report)
        except Exception as error:  # the driver's own: the trainable must neither swallow it nor be blamed for it
            errors.append(error)
            return True

    outcome = run_attempt(job, train, data, send, tee=tee)
    if errors:
        raise errors[0]
    return outcome


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
