"""The part "many": 10,000 trials of 5 reports; the driver's memory, and whether the last thousand is slower."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.speed import processes, trivial
from benchmarks.speed.images import Images
from benchmarks.speed.statistics import slope, window_seconds

TRIALS, REPORTS = 10_000, 5
WARM_UP = 200  # trials before the first window, and before the memory's line
EVERY_S = 2.0


def run(repeats: int, quick: bool, images: Images) -> dict[str, Any]:
    """Measure the part, once; `images` are not used."""
    trials, window = (600, 100) if quick else (TRIALS, 1000)
    with processes.scratch() as folder:
        journal = processes.journal(folder)
        watcher = _Watcher(journal)
        watcher.start()
        took = processes.timed(trivial.command(folder, trials, REPORTS), folder)
        watcher.over.set()
        watcher.join()
        rows = processes.ask(journal, "SELECT at, body LIKE '%completed%' FROM events WHERE kind = 'end' ORDER BY at")
        size = journal.stat().st_size
    ends = [float(at) for at, _ in rows]
    return {
        "n": 1,
        "trials": trials,
        "reports": REPORTS,
        "completed": sum(done for _, done in rows),
        "sweep_s": round(took, 1),
        "journal_bytes_a_trial": round(size / trials),
        **summary(ends, watcher.samples, window),
    }


def summary(ends: list[float], samples: list[dict[str, float]], window: int) -> dict[str, Any]:
    """Return the part's figures.

    Args:
        ends: When each trial ended, sorted, in seconds.
        samples: Of the driver, in order: "at" and "cpu_s" in seconds, "uss" and "rss" in bytes, "ended" trials.
        window: Trials of the windows that are compared.
    """
    first, last = window_seconds(ends, WARM_UP, window)
    late = [sample for sample in samples if sample["ended"] >= WARM_UP]
    half = [sample for sample in late if sample["ended"] >= len(ends) / 2]
    return {
        "window": window,
        "first_window_s": round(first, 2),
        "last_window_s": round(last, 2),
        "slowing": round(last / first - 1, 4),
        "window_s": [round(ends[at + window - 1] - ends[at - 1], 2) for at in range(window, len(ends), window)],
        "driver_cpu_s": _of_windows(late, "cpu_s", window),
        "growth_bytes_a_trial": round(slope([s["ended"] for s in late], [s["uss"] for s in late])),
        "growth_bytes_a_trial_second_half": round(slope([s["ended"] for s in half], [s["uss"] for s in half])),
        "samples": [{name: round(value, 2) for name, value in sample.items()} for sample in _thinned(late)],
    }


def _of_windows(samples: list[dict[str, float]], name: str, window: int) -> list[float]:
    """Return by how much a counter grew a window, from the samples that are next to the windows' ends."""
    first: dict[int, dict[str, float]] = {}
    for sample in samples:
        first.setdefault(int(sample["ended"] // window), sample)
    pairs = itertools.pairwise(first[number] for number in sorted(first))
    return [round((b[name] - a[name]) / (b["ended"] - a["ended"]) * window, 2) for a, b in pairs]


def _thinned(samples: list[dict[str, float]], most: int = 60) -> list[dict[str, float]]:
    return samples[:: max(1, len(samples) // most)]


class _Watcher(threading.Thread):
    """Notes, every few seconds, the driver's memory and processor time, and how many trials have ended."""

    def __init__(self, journal: Path) -> None:
        super().__init__(daemon=True)
        self.journal, self.over = journal, threading.Event()
        self.samples: list[dict[str, float]] = []

    def run(self) -> None:
        while not self.over.wait(EVERY_S):
            pid = processes.driver_of(self.journal)
            held, busy = (processes.memory(pid), processes.cpu_s(pid)) if pid else ({}, None)
            ended = processes.ask(self.journal, "SELECT count(*) FROM events WHERE kind = 'end'")
            if held and busy is not None and ended:
                sample = {"at": time.time(), "uss": held["uss"], "rss": held["rss"], "cpu_s": busy}
                self.samples.append({**sample, "ended": ended[0][0]})
