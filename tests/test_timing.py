from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tuner.cli.times import table
from tuner.timing import PHASES, WORK, Clock, Meter, age_s


def test_a_moment_belongs_to_the_innermost_phase_and_all_add_up():
    before = time.perf_counter()
    clock = Clock(age_s=2.0)
    with clock.phase("plan"):
        time.sleep(0.02)
        with clock.phase("data"):
            time.sleep(0.03)
        # A phase that turns into another gives back to the one around it all the same.
        with clock.phase("workers"):
            clock.turn("training")
            time.sleep(0.01)
    seconds = clock.seconds()
    assert seconds["data"] >= 0.03 and seconds["plan"] >= 0.02 and seconds["training"] >= 0.01
    assert sum(seconds.values()) == pytest.approx(2.0 + time.perf_counter() - before, abs=0.01)
    assert seconds["start"] >= 2.0 and set(seconds) == set(PHASES)


def test_a_worker_tells_what_it_did_since_it_last_told():
    meter, clock = Meter(age_s=1.0), Clock()
    meter.turn("loading")
    meter.turn("training")
    time.sleep(0.03)
    first = meter.take(reporting_s=0.01)
    assert first["start"] >= 1.0 and first["training"] >= 0.019 and first["reporting"] == 0.01
    assert set(meter.take()) == {"training"}
    clock.add(first)
    clock.add(first)
    assert clock.work["start"] == 2 * first["start"] and set(clock.work) == set(WORK)


def test_the_table_adds_up_and_names_the_first_epoch():
    clock = Clock(age_s=3.0)
    lines = list(table(clock))
    assert lines[1] == "time      3.00 s in all" and lines[2].split()[:4] == ["start", "3.00", "s", "100"]
    assert len(lines) == 3  # no workers, no phase without seconds
    clock.reported()
    clock.add({"training": 1.0})
    lines = list(table(clock))
    assert lines[1].endswith(", the first epoch's row after 3.00 s") and lines[-2].startswith("workers   1.00 s")


def test_the_age_of_a_process_is_what_passed_since_its_start():
    code = "import sys, time; time.sleep(0.3); from tuner.timing import age_s; print(age_s(), age_s(int(sys.argv[1])))"
    began = time.monotonic()
    out = subprocess.run(
        [sys.executable, "-c", code, str(os.getpid())], capture_output=True, text=True, check=True
    ).stdout
    own, parents = map(float, out.split())
    assert 0.3 <= own <= time.monotonic() - began + 0.02 and parents > own
    assert age_s(2**22 + 1) == 0.0  # there is no such process
