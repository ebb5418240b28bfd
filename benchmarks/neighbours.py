"""Do two trials on two cores slow each other down by more than the machine itself does?

    python benchmarks/neighbours.py [ROUNDS]

Each round measures, one after another: the median epoch of the cnn trainable alone and beside a second trial, both
through Ray Tune (1 core and 1 thread a trial), and the time of the same convolutions in plain torch, in one process
and in two at once. The ratio of the two ratios is what this project adds; 1.0 is nothing. Writes
benchmarks/results/neighbours.json.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import tuner

EPOCHS = 8
# The machine's own loss: the cnn's work without this project, one thread a process.
PLAIN = """
import time, torch
torch.set_num_threads(1); torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
    torch.nn.Conv2d(32, 64, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
    torch.nn.Linear(256, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), 0.05)
images, labels = torch.rand(1078, 1, 8, 8), torch.randint(10, (1078,))
def epoch():
    began = time.perf_counter()
    for first in range(0, len(images), 32):
        loss = torch.nn.functional.cross_entropy(model(images[first:first + 32]), labels[first:first + 32])
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    return time.perf_counter() - began
times = sorted(epoch() for _ in range(40))
print(times[len(times) // 2])
"""


def through_ray(concurrency: int) -> float:
    """Return the median epoch's seconds over two trials, `concurrency` at a time; a trial's first epoch warms up."""
    config = {"filters": 32, "conv_layers": 2, "dense_units": 128, "batch_size": 32}
    sweep = tuner.Sweep(
        trainable="cnn",
        data={"name": "digits"},
        space={"learning_rate": tuner.LogUniform(0.01, 0.1)},
        defaults=config,
        max_epochs=EPOCHS,
        search={"strategy": "random", "trials": 2},
        resources={"cpus_per_trial": 1, "gpus_per_trial": 0, "max_concurrent": concurrency},
    )
    with tempfile.TemporaryDirectory() as storage:
        epochs = tuner.run(sweep, storage=storage).epochs
    return float(epochs[epochs.epoch > 1].epoch_s.median())


def plain(processes: int) -> float:
    """Return the median epoch's seconds of plain torch, the mean over that many processes at once."""
    command = [sys.executable, "-c", PLAIN]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return statistics.mean(float(process.communicate()[0]) for process in running)


def main() -> None:
    """Measure, print each round, and write the result."""
    rounds = []
    for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        times = [through_ray(1), through_ray(2), plain(1), plain(2)]
        entry = {"trials": times[1] / times[0], "machine": times[3] / times[2]}
        entry["added"] = entry["trials"] / entry["machine"]
        rounds.append({name: round(value, 3) for name, value in entry.items()})
        print(number + 1, rounds[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
    result = {
        "what": "slowdown of two trials at once against one: through Ray Tune, and of plain torch on this machine",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "n": len(rounds),
        "median": {name: statistics.median(entry[name] for entry in rounds) for name in rounds[0]},
        "rounds": rounds,
    }
    (Path(__file__).parent / "results").mkdir(exist_ok=True)
    (Path(__file__).parent / "results/neighbours.json").write_text(json.dumps(result, indent=2) + "\n")
    print(result["median"])


if __name__ == "__main__":
    main()
