from __future__ import annotations

import pytest

from tuner.backends.clocks import Clocks
from tuner.history import EpochRecord, TrialRecord


class Time:
    """A clock that a test sets; a driver looks at it every second."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, clocks: Clocks, seconds: int) -> list[list[str]]:
        """Return what was overdue at each second."""
        seen = []
        for _ in range(seconds):
            self.now += 1
            seen.append(clocks.overdue())
        return seen


@pytest.fixture
def time():
    return Time()


def test_silence_counts_from_the_worker_or_the_last_report(time):
    clocks = Clocks(10, now=time)
    clocks.start("t0001")
    assert time.wait(clocks, 10) == [[]] * 10
    clocks.heard("t0001", 10.0)
    assert time.wait(clocks, 11) == [[]] * 10 + [["t0001"]]
    sentence, elapsed_s = clocks.verdict("t0001")
    assert sentence.startswith("an epoch must end within 10 s (failure.epoch_timeout_s), but got (none for 11 s).")
    assert elapsed_s == 21
    clocks.stop("t0001")
    assert clocks.overdue() == []


def test_without_a_limit_of_ones_own_it_is_ten_times_the_median_and_five_minutes_at_least(time):
    clocks = Clocks(None, now=time)
    clocks.start("t0001")
    # Nothing is known of this trainable yet: it may take hours.
    assert clocks.limit_s() is None and not any(time.wait(clocks, 1000))
    clocks.heard("t0001", 2.0)
    assert clocks.limit_s() == 300
    for elapsed_s in (42.0, 82.0, 1000.0, 1040.0):
        clocks.heard("t0001", elapsed_s)
    assert clocks.limit_s() == 400
    assert not any(time.wait(clocks, 400)) and time.wait(clocks, 1) == [["t0001"]]
    assert "(the median is 40 s)" in clocks.verdict("t0001")[0]


def test_a_resumed_sweep_knows_its_epochs(time):
    rows = {
        1: EpochRecord({"metrics": {}}, 1, 100.0),
        2: EpochRecord({"metrics": {}}, 1, 150.0),
        3: EpochRecord({"metrics": {}}, 2, 900.0),
    }
    record = TrialRecord("t0001", 1, 1, "search", None, 1, {}, 0, "random", "", epochs=rows)
    # Between epochs 2 and 3 nobody trained.
    assert Clocks(None, [record], now=time).limit_s() == 500


def test_no_trial_is_blamed_where_the_driver_itself_stood_still(time):
    clocks = Clocks(10, now=time)
    clocks.start("t0001")
    assert time.wait(clocks, 5) == [[]] * 5
    time.now += 3600
    assert clocks.overdue() == []
    assert time.wait(clocks, 6) == [[]] * 5 + [["t0001"]]
