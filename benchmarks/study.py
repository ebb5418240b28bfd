"""How long the study of the digits takes, and one that is killed once in every stage.

    python benchmarks/study.py

Runs `tuner study search_spaces/cnn_digits.toml` twice on Ray, as it stands: untouched, and with its driver killed by
SIGKILL at the first epoch of every stage and gone on with by `tuner resume`. Two trials run at a time, so that which
configs are proposed hangs on who reports first: that a killed study comes to the very same is what `make chaos` shows.
5 minutes; writes benchmarks/results/study.json.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tuner.errors import RunError
from tuner.journal import FILE_NAME, read

ROOT = Path(__file__).parent.parent
SWEEP = ROOT / "search_spaces/cnn_digits.toml"
STAGES = ("baseline", "search", "refine", "cross_validate", "final")


def study(storage: Path, stages: tuple[str, ...]) -> tuple[float, list[str]]:
    """Run a study, killing its driver once in each of these stages; returns its seconds, and where it was killed."""
    run = storage / "study"
    arguments = ["study", str(SWEEP), "--storage", str(storage), "--name", run.name]
    began, killed = time.perf_counter(), list[str]()
    while True:
        with (storage / "output.txt").open("a") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tuner.cli", *arguments], stdout=output, stderr=output, cwd=ROOT
            )
            while process.poll() is None:
                time.sleep(0.2)
                if stage := _begun(run, [stage for stage in stages if stage not in killed]):
                    killed.append(stage)
                    os.kill(_driver(run), signal.SIGKILL)
                    process.wait()
        print(f"{time.perf_counter() - began:.0f} s: exit status {process.returncode}, killed in {killed}", flush=True)
        if process.returncode == 0:
            return time.perf_counter() - began, killed
        if process.returncode != 1 or len(killed) > len(stages):
            raise SystemExit((storage / "output.txt").read_text())
        arguments = ["resume", str(run)]


def _begun(run: Path, stages: list[str]) -> str | None:
    """Return the first of these stages that a trial has reported an epoch in."""
    try:
        events = read(run / FILE_NAME) if stages else []
    except RunError:  # there is no journal yet
        return None
    of = {event.trial: event.body["stage"] for event in events if event.kind == "suggestion"}
    reported = {of[event.trial] for event in events if event.kind == "epoch"}
    return next((stage for stage in stages if stage in reported), None)


def _driver(run: Path) -> int:
    return int([event.body["pid"] for event in read(run / FILE_NAME) if event.kind == "session"][-1])


def told(run: Path) -> dict[str, Any]:
    """Return what a study came to."""
    events = read(run / FILE_NAME)
    metrics = json.loads((run / "final/metrics.json").read_text())
    return {
        "trials": sum(event.kind == "suggestion" for event in events),
        "epochs": sum(event.kind == "epoch" for event in events),
        "test": {name: value for name, value in metrics["test"].items() if name != "epoch_s"},
        "difference": metrics["difference"],
        "openings": sum("test_opened" in event.body for event in events if event.kind == "note"),
    }


def main() -> None:
    """Run both, and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for name, stages in (("untouched", ()), ("killed", STAGES)):
            storage = Path(folder) / name
            storage.mkdir()
            seconds, killed = study(storage, stages)
            results[name] = {"seconds": round(seconds, 1), "killed in": killed, **told(storage / "study")}
    result = {
        "what": "a study of the digits on Ray, untouched, and killed once in every stage",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **results,
    }
    (Path(__file__).parent / "results/study.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
