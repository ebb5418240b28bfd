"""The part "startup": from `tuner run` to the first epoch of the first trial, and to the end of two trials."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.speed import processes
from benchmarks.speed.images import Images
from benchmarks.speed.sweeps import SHORT, sweep_text, task_of

FIRST = "SELECT min(at) FROM events WHERE kind = '{}'"


def run(repeats: int, quick: bool, images: Images) -> dict[str, Any]:
    """Measure the part."""
    text = sweep_text(task_of(SHORT, images), "fp32", trials=2, strategy="random")
    flag = ["--timing"] if _has_timing() else []
    rounds, shown = [], ""
    for _ in range(repeats):
        with processes.scratch() as folder:
            began, clock = time.time(), time.perf_counter()
            processes.finish(processes.start([*processes.sweep(folder, text), *flag], folder), folder)
            took = time.perf_counter() - clock
            first = {kind: processes.ask(processes.journal(folder), FIRST.format(kind))[0][0] for kind in STAGES}
            shown = (folder / "log").read_text(errors="replace")
        rounds.append({**{name: first[kind] - began for kind, name in STAGES.items()}, "end_s": took})
        print(rounds[-1], flush=True)
    return {**summary(rounds), "data": images.told, "timing": shown if flag else None}


STAGES = {"sweep": "run_folder_s", "attempt": "first_attempt_s", "epoch": "first_epoch_s"}
"""The journal's first row of a kind -> what its time is called."""


def summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Return the part's figures of its rounds: seconds since the command was given."""
    return {
        "n": len(rounds),
        "rounds": [{name: round(value, 3) for name, value in entry.items()} for entry in rounds],
        "medians": {name: round(statistics.median(entry[name] for entry in rounds), 3) for name in rounds[0]},
    }


def _has_timing() -> bool:
    """Say whether this version of the command can tell where each second went."""
    command = [sys.executable, "-m", "tuner.cli", "run", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, env=processes.environment(), check=True).stdout
    return "--timing" in shown
