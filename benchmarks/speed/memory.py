"""The part "memory": trials side by side on one data set of 1 GB, and how often it is in memory.

Proportional set sizes: a page that n processes share counts for one n-th in each, so the sum over all counts it once.
All that `tuner run` starts is counted, Ray's object store (in the raylet) included.
"""

from __future__ import annotations

import pickle
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import processes
from benchmarks.speed.images import Images
from tuner.cli.guard import descendants

SIZE = 3 * 32 * 32
FILES, LARGE, SMALL = 5, 66_000, 200  # images a file
MOST = 8
LOOKS = 3
MOST_WAIT_S = 600.0
TRAINABLE = '''
"""Reads every image, trains a few steps, and waits to be looked at."""

import time
from pathlib import Path

import torch

from trainables import cnn


def look(config, trial):
    images = torch.from_numpy(trial.data.train.x)
    labels = torch.from_numpy(trial.data.train.y)
    total = sum(int(part.sum()) for part in images.split(10_000))
    model = cnn.build({}, trial.data)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["rate"])
    for index in torch.randperm(len(images))[:640].split(64):
        loss = torch.nn.functional.cross_entropy(model(images[index] / 255), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trial.report(epoch=1, score=loss.item(), total=float(total))
    while not (Path(__file__).parent / "go").exists():
        time.sleep(0.2)
    trial.report(epoch=2, score=loss.item(), total=float(total))
'''
SWEEP = """
[sweep]
trainable = "look.py:look"
metric = "score"
mode = "min"
max_epochs = 2
[data]
name = "cifar10"
root = "{root}"
val_fraction = 0.02
[space]
rate = {{ uniform = [0.0, 0.001] }}
[search]
strategy = "random"
trials = {trials}
[resources]
cpus_per_trial = {cpus}
gpus_per_trial = 0
max_concurrent = {trials}
"""


def run(repeats: int, quick: bool, images: Images) -> dict[str, Any]:
    """Measure the part, once; `images` are not used."""
    most, large = (3, 6_600) if quick else (MOST, LARGE)
    with processes.scratch() as folder:
        for name, count in (("large", large), ("small", SMALL)):
            write_cifar(folder / name, count)
        looks = {
            f"{most} trials, small data": _look(folder, folder / "small", most),
            "1 trial, large data": _look(folder, folder / "large", 1),
            f"{most} trials, large data": _look(folder, folder / "large", most),
        }
    return summary(looks, most, FILES * large * SIZE)


def summary(looks: dict[str, dict[str, int]], most: int, data_bytes: int) -> dict[str, Any]:
    """Return the part's figures.

    Args:
        looks: Of each run: bytes of proportional set size by kind of process.
        most: Trials side by side.
        data_bytes: Of the large data.
    """
    small, one, many = (sum(look.values()) for look in looks.values())
    kinds = sorted({kind for look in looks.values() for kind in look})
    few, all_ = looks[f"{most} trials, small data"], looks[f"{most} trials, large data"]
    return {
        "n": 1,
        "concurrent": most,
        "data_bytes": data_bytes,
        "pss_bytes": looks,
        "pss_total_bytes": {name: sum(look.values()) for name, look in looks.items()},
        "data_held_times": round((many - small) / data_bytes, 3),
        "data_held_times_by_kind": {k: round((all_.get(k, 0) - few.get(k, 0)) / data_bytes, 3) for k in kinds},
        "bytes_an_extra_trial": round((many - one) / (most - 1)),
    }


def write_cifar(root: Path, images_a_file: int) -> None:
    """Write a data set in CIFAR-10's files, of random pixels."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    names = {**{f"data_batch_{n}": images_a_file for n in range(1, FILES + 1)}, "test_batch": 100}
    for name, count in names.items():
        pixels = np.frombuffer(random.bytes(count * SIZE), np.uint8).reshape(count, SIZE)
        batch = {"data": pixels, "labels": [row % 10 for row in range(count)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=4))  # the newest that the reader takes


def _look(folder: Path, root: Path, trials: int) -> dict[str, int]:
    """Return bytes of proportional set size by kind of process, while so many trials have read all images."""
    home = folder / f"{root.name}{trials}"
    home.mkdir()
    (home / "look.py").write_text(TRAINABLE)
    text = SWEEP.format(root=root, trials=trials, cpus=min(1.0, 2 / trials))
    process = processes.start(processes.sweep(home, text), home)
    try:
        _wait_for(process, home, trials)
        found = max((_held(process.pid) for _ in range(LOOKS)), key=lambda held: sum(held.values()))
        (home / "go").touch()
    except BaseException:
        processes.kill(process)
        raise
    processes.finish(process, home)
    print(f"{home.name}: {found}", flush=True)
    return found


def _wait_for(process: Any, home: Path, trials: int) -> None:
    over = time.monotonic() + MOST_WAIT_S
    begun = "SELECT count(*) FROM events WHERE kind = 'epoch' AND epoch = 1"
    while not (rows := processes.ask(processes.journal(home), begun)) or rows[0][0] < trials:
        if process.poll() is not None or time.monotonic() > over:
            raise processes.Failed(f"{trials} trials side by side: they never were\n{(home / 'log').read_text()}")
        time.sleep(0.5)
    time.sleep(2.0)  # what was read is let go


def _held(pid: int) -> dict[str, int]:
    time.sleep(0.5)
    held: dict[str, int] = defaultdict(int)
    driver = processes.driver_of(processes.journal(Path(f"/proc/{pid}/cwd").resolve()))
    for one in [pid, *descendants(pid)]:
        kind = "driver" if one == driver else kind_of(processes.title(one))
        held[kind] += processes.memory(one).get("pss", 0)
    return dict(held)


def kind_of(title: str) -> str:
    """Return what a process is, by its command line: "worker", "raylet", or "other"."""
    if title.startswith("ray::") and "Agent" not in title:
        return "worker"
    return "raylet" if "/raylet/raylet " in title else "other"
