"""How long each running trial has been silent, and how long it may be."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable

from tuner.history import TrialRecord

# Without failure.epoch_timeout_s, an epoch hangs that takes so many times the median one, and at least so long.
HANG_FACTOR, HANG_LEAST_S = 10, 300.0
# Between two looks, the driver itself must have stood still (a suspended process): no trial is to blame for that.
STANDSTILL_S = 15.0


class Clocks:
    """The clocks of a sweep's running trials.

    Args:
        timeout_s: failure.epoch_timeout_s; None: ten times the median epoch, at least five minutes, and no limit
            before any epoch is known.
        records: Trials so far, whose epochs tell the median.
        now: The clock, in seconds.
    """

    def __init__(
        self,
        timeout_s: float | None,
        records: Iterable[TrialRecord] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s, self._now = timeout_s, now
        self._since: dict[str, float] = {}
        self._elapsed: dict[str, float] = {}
        self._looked = now()
        self._epochs_s = sorted(length for record in records for length in _lengths(record))

    def start(self, trial: str) -> None:
        """Start a trial's clock: an attempt of it has begun on its worker."""
        self._since[trial], self._elapsed[trial] = self._now(), 0.0

    def heard(self, trial: str, elapsed_s: float) -> None:
        """Start a trial's clock anew: it has reported an epoch, so many seconds after its attempt began."""
        if trial in self._since:
            bisect.insort(self._epochs_s, elapsed_s - self._elapsed[trial])
        self._since[trial], self._elapsed[trial] = self._now(), elapsed_s

    def stop(self, trial: str) -> None:
        """Forget a trial's clock: its attempt is over."""
        self._since.pop(trial, None)

    def limit_s(self) -> float | None:
        """Return how long an epoch may take, in seconds; None for no limit yet."""
        if self._timeout_s is not None or not self._epochs_s:
            return self._timeout_s
        return max(HANG_LEAST_S, HANG_FACTOR * self._median_s())

    def overdue(self) -> list[str]:
        """Return the trials that have been silent for too long."""
        now = self._now()
        stood_still, self._looked = now - self._looked, now
        if stood_still > STANDSTILL_S:
            self._since = {trial: since + stood_still for trial, since in self._since.items()}
        limit_s = self.limit_s()
        return [trial for trial, since in self._since.items() if limit_s is not None and now - since > limit_s]

    def verdict(self, trial: str) -> tuple[str, float]:
        """Return what is wrong with a trial that has been silent for too long, and the seconds its attempt took."""
        silent_s, limit_s = self._now() - self._since[trial], self.limit_s() or 0.0
        why = "failure.epoch_timeout_s" if self._timeout_s is not None else f"the median is {self._median_s():.3g} s"
        sentence = (
            f"an epoch must end within {limit_s:.4g} s ({why}), but got (none for {silent_s:.4g} s). "
            "Raise failure.epoch_timeout_s if such an epoch is right."
        )
        return sentence, self._elapsed[trial] + silent_s

    def _median_s(self) -> float:
        return self._epochs_s[len(self._epochs_s) // 2]


def _lengths(record: TrialRecord) -> Iterable[float]:
    """Yield the seconds between epochs of one attempt."""
    for epoch, row in record.epochs.items():
        before = record.epochs.get(epoch - 1)
        if before is not None and before.attempt == row.attempt:
            yield row.at - before.at
