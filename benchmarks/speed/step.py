"""The part "step": a training step at 28x28 on one core, this project's against the usual eager loop.

All in one process of one thread, in turns: each takes an epoch of 20 steps of 64 images, over and over.
"""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import optim
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.speed.images import SEED, Images, data_table, rows
from benchmarks.speed.names import EAGER, TORCHVISION
from benchmarks.speed.peers import user_code
from benchmarks.speed.statistics import order, ratio
from benchmarks.speed.sweeps import DEFAULTS
from trainables import cnn
from trainables.data import load
from trainables.parameters import complete
from trainables.training import Learner

TRAIN, VAL, BATCH = 1280, 320, 64
CONFIG = {**DEFAULTS, "learning_rate": 0.02, "momentum": 0.9, "batch_size": BATCH}
WARM_UP, ROUNDS_A_REPEAT = 2, 5


def run(repeats: int, quick: bool, images: Images) -> dict[str, Any]:
    """Measure the part: at least 9 rounds."""
    rounds = 3 if quick else max(9, ROUNDS_A_REPEAT * repeats)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        epochs = {**_eager(images), **{f"tuner, {kind}": _ours(kind, images) for kind in precisions()}}
        seconds = _rounds(epochs, rounds)
    finally:
        torch.set_num_threads(before)
    return {**summary(seconds), "data": images.told, "batch_size": BATCH, "threads": 1}


def summary(epochs: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the part's figures, of the seconds of epochs of TRAIN images."""
    steps = TRAIN // BATCH
    return {
        "n": len(epochs[EAGER]),
        "step_ms": {name: [round(1000 * s / steps, 3) for s in times] for name, times in epochs.items()},
        "step_ms_median": {n: round(1000 * statistics.median(times) / steps, 3) for n, times in epochs.items()},
        "times_faster": {name: round(ratio(epochs[EAGER], times) or 0.0, 3) for name, times in epochs.items()},
    }


def precisions() -> tuple[str, ...]:
    """Return the precisions that this version trains in."""
    return ("fp32", "bf16") if "precision" in inspect.signature(Learner).parameters else ("fp32",)


def _rounds(epochs: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    for number in range(WARM_UP + rounds):
        for name in order(list(epochs), number):
            began = time.perf_counter()
            epochs[name]()
            took = time.perf_counter() - began
            if number >= WARM_UP:
                seconds[name].append(took)
    return seconds


def _eager(images: Images) -> dict[str, Callable[[], None]]:
    train, val = rows(images, TRAIN, VAL)
    task = {"root": str(images.root), "train": train, "val": val, "batch_size": BATCH}
    decoded, _ = user_code.get_loaders(task)
    pixels, labels = zip(*(batch for batch in decoded), strict=True)
    tensors = DataLoader(TensorDataset(torch.cat(pixels), torch.cat(labels)), batch_size=BATCH, shuffle=True)
    return {EAGER: _eager_epoch(tensors), TORCHVISION: _eager_epoch(decoded)}


def _eager_epoch(loader: DataLoader[Any]) -> Callable[[], None]:
    model = user_code.Net()
    optimizer = optim.SGD(model.parameters(), lr=CONFIG["learning_rate"], momentum=CONFIG["momentum"])
    return lambda: user_code.train_epoch(model, optimizer, loader)


def _ours(kind: str, images: Images) -> Callable[[], None]:
    data = load(data_table(images, TRAIN, VAL), SEED)
    more = {"precision": kind} if len(precisions()) > 1 else {}
    learner = Learner(cnn.build, complete("cnn", CONFIG), data, 1000, SEED, torch.device("cpu"), **more)
    numbers = iter(range(1, 1000))

    def epoch() -> None:
        learner.train_epoch(next(numbers))

    return epoch
