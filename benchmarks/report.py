"""How long a report of a large sweep takes, and how large its page is.

    python benchmarks/report.py

Makes a run folder of 1,000 trials x 20 epochs x 12 parameters (a fifth stopped, a tenth failed), once without
predictions and once with those of every epoch (359 samples, 10 classes), and writes the report of each by
`tuner report` in a process of its own, imports included. Fails where one takes over 20 s, or its page is over 8 MB.
Writes benchmarks/results/report.json.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tuner.history import Event
from tuner.journal import FILE_NAME, Journal
from tuner.spec.text import document

TRIALS, EPOCHS, PARAMETERS, CLASSES = 1_000, 20, 12, 10
MOST_S, MOST_MB = 20.0, 8.0
SEED = 1


def space() -> dict[str, Any]:
    """Return 12 parameters: log, linear, whole and choice in turn."""
    kinds: list[Any] = [
        {"loguniform": [1e-5, 1.0]},
        {"uniform": [0.0, 0.6]},
        {"int": [1, 8]},
        {"choice": ["adam", "sgd", "rmsprop"]},
    ]
    return {f"parameter_{number}": kinds[number % 4] for number in range(PARAMETERS)}


def config(rng: np.random.Generator) -> dict[str, Any]:
    """Draw one config."""
    draws: list[Any] = [
        lambda: float(10 ** rng.uniform(-5, 0)),
        lambda: float(rng.uniform(0, 0.6)),
        lambda: int(rng.integers(1, 9)),
        lambda: str(rng.choice(["adam", "sgd", "rmsprop"])),
    ]
    return {f"parameter_{number}": draws[number % 4]() for number in range(PARAMETERS)}


def make(folder: Path, with_predictions: bool) -> None:
    """Write a run folder whose first two parameters matter."""
    rng = np.random.default_rng(SEED)
    sweep = {
        "sweep": {"name": "large", "trainable": "cnn", "metric": "val_accuracy", "mode": "max", "seed": 0,
                  "max_epochs": EPOCHS},
        "data": {"name": "digits"},
        "space": space(),
        "search": {"strategy": "random", "trials": TRIALS},
    }  # fmt: skip
    events = [Event("sweep", body={"toml": document(sweep), "sha256": ""})]
    labels = _labels() if with_predictions else np.empty(0, dtype=np.int64)
    for number in range(1, TRIALS + 1):
        events += trial(number, rng, folder, labels)
    events.append(Event("note", body={"finished": "completed"}))
    journal = Journal(folder / FILE_NAME)
    journal.append(*(event._replace(at=1.75e9 + place) for place, event in enumerate(events)))
    journal.close()


def _labels() -> Any:
    from trainables import data

    return data.val_labels({"name": "digits"}, 0)


def trial(number: int, rng: np.random.Generator, folder: Path, labels: Any) -> list[Event]:
    """Return one trial's events, and write its predictions where there are labels."""
    name, drawn = f"t{number:04d}", config(rng)
    status = "failed" if number % 10 == 0 else "stopped" if number % 5 == 1 else "completed"
    epochs = {"failed": 1, "stopped": int(rng.integers(3, EPOCHS)), "completed": EPOCHS}[status]
    quality = 0.95 - 0.05 * (np.log10(drawn["parameter_0"]) + 2) ** 2 - 0.3 * abs(drawn["parameter_1"] - 0.2)
    fields = {"number": number, "proposal": number, "stage": "search", "fold": None, "repeat": 1, "config": drawn,
              "seed": 1, "by": "random", "why": ""}  # fmt: skip
    events = [Event("suggestion", name, body=fields), Event("attempt", name, 1, body={"start_epoch": 0})]
    arrays = {}
    for epoch in range(1, epochs + 1):
        value = float(np.clip(quality * (1 - 0.6**epoch) + rng.normal(0, 0.01), 0.1, 1))
        if len(labels):
            arrays[str(epoch)] = predictions(rng, labels, value)
            value = float((arrays[str(epoch)].argmax(axis=1) == labels).mean())
        metrics = {"val_accuracy": value, "train_accuracy": min(1.0, value + 0.01 * epoch), "val_loss": 2.3 - 2 * value,
                   "train_loss": 2.3 - 2.1 * value, "learning_rate": 0.1, "epoch_s": 1.0}  # fmt: skip
        events.append(Event("epoch", name, 1, epoch, {"metrics": metrics, "elapsed_s": epoch, "worker": "host:1"}))
    error = "ValueError: made to fail" if status == "failed" else None
    cause = "config.raised" if error else None
    events.append(Event("end", name, 1, body={"status": status, "cause": cause, "error": error, "elapsed_s": epochs}))
    if arrays:
        (folder / "predictions").mkdir(exist_ok=True)
        np.savez(folder / "predictions" / f"{name}.npz", **arrays)
    return events


def predictions(rng: np.random.Generator, labels: Any, accuracy: float) -> Any:
    """Return probabilities (N, K) whose accuracy is about this."""
    told = np.where(rng.random(len(labels)) < accuracy, labels, rng.integers(0, CLASSES, len(labels)))
    scores = rng.random((len(labels), CLASSES), dtype=np.float32)
    scores[np.arange(len(labels)), told] += 1
    return scores / scores.sum(axis=1, keepdims=True)


def measure(folder: Path, out: Path) -> dict[str, Any]:
    """Return what one report took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "tuner.cli", "report", str(folder), "--out", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    figures = [path.stat().st_size for path in (out / "figures").iterdir()]
    return {
        "seconds": round(seconds, 1),
        "html_mb": round((out / "report.html").stat().st_size / 1e6, 2),
        "figures": len(figures),
        "said": done.stdout.splitlines()[1:],
    }


def main() -> int:
    """Make, measure, write, and say whether the limits hold."""
    found: dict[str, Any] = {
        "trials": TRIALS,
        "epochs": EPOCHS,
        "parameters": PARAMETERS,
        "limits": {"seconds": MOST_S, "html_mb": MOST_MB},
        "python": platform.python_version(),
        "matplotlib": importlib.metadata.version("matplotlib"),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_at_start": round(os.getloadavg()[0], 1),
    }
    with tempfile.TemporaryDirectory() as name:
        for kind in ("without_predictions", "with_predictions"):
            folder = Path(name) / kind
            folder.mkdir()
            make(folder, kind == "with_predictions")
            found[kind] = measure(folder, Path(name) / f"{kind}_report")
            print(kind, json.dumps(found[kind]), flush=True)
    path = Path(__file__).parent / "results" / "report.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    kinds = [found["without_predictions"], found["with_predictions"]]
    return int(any(kind["seconds"] > MOST_S or kind["html_mb"] > MOST_MB for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
