"""Where a sweep's seconds went: the driver's, phase after phase on one axis, and those of all workers together."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

PHASES = {
    "start": "the command starts",
    "imports": "ray and the trainable are imported",
    "plan": "the sweep is checked, models are built",
    "data": "data is read",
    "Ray": "Ray starts (what is left to wait for)",
    "workers": "the first trial waits for its worker",
    "training": "trials train",
    "strategy": "configs are proposed",
    "journal": "rows are committed",
    "best": "best/ is written",
    "end": "Ray ends",
}
"""The driver's phases, in the order in which they come; a moment belongs to one."""

WORK = {
    "start": "from its process's start until Ray makes a worker of it",
    "loading": "torch, the trainable and the data are loaded",
    "training": "the trainable trains and measures",
    "reporting": "reports are checked, checkpoints written",
    "waiting": "the driver is waited for",
}
"""What workers do, of which the seconds of all are added up."""


class Clock:
    """Adds up the driver's seconds by phase; an inner phase takes its seconds from the one around it.

    Args:
        age_s: Seconds that have passed already; they belong to the first phase.

    Attributes:
        work: Seconds of all workers by what they did.
        first_epoch_s: Seconds until the first epoch's row was committed, or None.
    """

    def __init__(self, age_s: float = 0.0) -> None:
        self._since = self._began = time.perf_counter() - age_s
        self._phase = "start"
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self.work = dict.fromkeys(WORK, 0.0)
        self.first_epoch_s: float | None = None

    def turn(self, phase: str) -> str:
        """Go over to another phase, until the one around it goes on; returns the one before."""
        now, before = time.perf_counter(), self._phase
        self._seconds[before] += now - self._since
        self._phase, self._since = phase, now
        return before

    @contextlib.contextmanager
    def phase(self, phase: str) -> Iterator[None]:
        """Be in a phase for as long as this is open."""
        before = self.turn(phase)
        try:
            yield
        finally:
            self.turn(before)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each phase until now; together they are all seconds since the beginning."""
        self.turn(self._phase)
        return dict(self._seconds)

    def reported(self) -> None:
        """Note that an epoch's row was committed."""
        if self.first_epoch_s is None:
            self.first_epoch_s = time.perf_counter() - self._began

    def add(self, spent: Mapping[str, float]) -> None:
        """Add what a worker has done since its last message, in seconds."""
        for what, seconds in spent.items():
            self.work[what] += seconds


class Meter:
    """A worker's seconds by what it did, since they were last taken.

    Args:
        age_s: Seconds that its process is old.
    """

    def __init__(self, age_s: float = 0.0) -> None:
        self._what, self._since = "start", time.perf_counter() - age_s
        self._spent: dict[str, float] = {}

    def turn(self, what: str) -> None:
        """Go over to something else."""
        now = time.perf_counter()
        self._spent[self._what] = self._spent.get(self._what, 0.0) + now - self._since
        self._what, self._since = what, now

    def take(self, reporting_s: float = 0.0) -> dict[str, float]:
        """Return the seconds since the last time, and begin anew.

        Args:
            reporting_s: How many of those of training went into a report.
        """
        self.turn(self._what)
        spent, self._spent = self._spent, {}
        if reporting_s:
            spent["training"] = spent.get("training", 0.0) - reporting_s
            spent["reporting"] = reporting_s
        return {what: round(seconds, 5) for what, seconds in spent.items()}


def age_s(pid: int | None = None) -> float:
    """Return how many seconds ago this process, or another, was started (to 0.01 s); 0 where /proc tells nothing."""
    try:
        ticks = int(Path(f"/proc/{pid or os.getpid()}/stat").read_bytes().rpartition(b") ")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
