"""The part "long": 200 trials against what the cores could do, by the speed of a lone trial.

A lone trial is the same training code in one warm process of one thread, the other cores idle; it writes no checkpoint.
Two busy cores slow each other down by themselves, so a process a core is measured, too.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.speed import processes
from benchmarks.speed.images import Images
from benchmarks.speed.sweeps import GRID, Work, sweep_text, task_of

TRIALS, LONE_TRIALS = 200, 12
WORK = Work(1600, 400, 1, GRID, ())
SIDE_BY_SIDE = 2


def run(repeats: int, quick: bool, images: Images) -> dict[str, Any]:
    """Measure the part."""
    trials, lone = (16, 4) if quick else (TRIALS, LONE_TRIALS)
    task = task_of(WORK, images)
    rounds = []
    for number in range(repeats):
        one = _lone(task, 1, lone)
        two = _lone(task, SIDE_BY_SIDE, lone)
        rounds.append({"lone_trial_s": one, "beside_another_s": two, **_sweep(task, trials)})
        print(f"round {number + 1}: {rounds[-1]}", flush=True)
    return summary(rounds, trials, images.told)


def summary(rounds: list[dict[str, float]], trials: int, data: str) -> dict[str, Any]:
    """Return the part's figures of its rounds.

    Args:
        rounds: Seconds of a lone trial, of one beside another, of the sweep, and of it from its first trial on.
        trials: Of the sweep.
        data: What the images are.
    """
    for entry in rounds:
        ideal, fair = (trials * entry[name] / SIDE_BY_SIDE for name in ("lone_trial_s", "beside_another_s"))
        entry["of_cores_x_lone"] = ideal / entry["sweep_s"]
        entry["of_processes_side_by_side"] = fair / entry["sweep_s"]
        entry["of_cores_x_lone_without_start"] = ideal / entry["from_first_trial_s"]
    return {
        "n": len(rounds),
        "data": data,
        "trials": trials,
        "train_images": WORK.train,
        "val_images": WORK.val,
        "concurrent": SIDE_BY_SIDE,
        "rounds": [{name: round(value, 4) for name, value in entry.items()} for entry in rounds],
        "medians": {name: round(statistics.median(entry[name] for entry in rounds), 4) for name in rounds[0]},
    }


def _lone(task: dict[str, Any], at_once: int, trials: int) -> float:
    """Return the median seconds of a trial in a process of its own, so many processes at once."""
    with processes.scratch() as folder:
        homes = [folder / str(number) for number in range(at_once)]
        for home in homes:
            home.mkdir()
            (home / "task.json").write_text(json.dumps(task))
        command = processes.script("lone", "task.json", "result.json", trials)
        running = [(processes.start(command, home), home) for home in homes]
        for process, home in running:
            processes.finish(process, home)
        found = [statistics.median(json.loads((home / "result.json").read_text())) for home in homes]
    return statistics.mean(found)


def _sweep(task: dict[str, Any], trials: int) -> dict[str, float]:
    text = continuous(sweep_text(task, "fp32", trials, "random"))
    with processes.scratch() as folder:
        took = processes.timed(processes.sweep(folder, text), folder)
        return {"sweep_s": took, "from_first_trial_s": span(processes.journal(folder))}


def continuous(text: str) -> str:
    """Return the sweep with ranges in place of the grid's values, which are fewer than its trials."""
    lines = [line for line in text.splitlines() if not line.startswith(tuple(f"{name} = {{" for name in GRID))]
    at = lines.index("[space]") + 1
    ranges = [f"{name} = {{ uniform = [{min(values)}, {max(values)}] }}" for name, values in GRID.items()]
    return "\n".join([*lines[:at], *ranges, *lines[at:]]) + "\n"


def span(journal: Path) -> float:
    """Return the seconds from the first trial's begin to the last one's end."""
    first = processes.ask(journal, "SELECT min(at) FROM events WHERE kind = 'attempt'")[0][0]
    last = processes.ask(journal, "SELECT max(at) FROM events WHERE kind = 'end'")[0][0]
    return float(last - first)
