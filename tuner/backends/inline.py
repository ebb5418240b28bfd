"""Run trials one after another in this process: breakpoints work, nothing is started, no Ray."""

from __future__ import annotations

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
        outcome = _run_one(driver, job, train, data, tee)
        # A rule's decision, or a broken metric, has already ended it in the journal.
        if driver.is_current(job.trial, job.attempt):
            driver.end(job.trial, job.attempt, outcome)


def _run_one(driver: Driver, job: Job, train: Train, data: Data | None, tee: bool) -> Outcome:
    def send(report: Report) -> bool:
        return driver.report(job.trial, job.attempt, report)

    return run_attempt(job, train, data, send, tee=tee)
