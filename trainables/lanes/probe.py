"""How many lanes train fastest here: measured on a few steps, in a process of its own.

`python -m trainables.lanes.probe REQUEST.npz` prints the answer as JSON; `measure` is what it calls.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.lanes.fusing import bytes_per_lane
from trainables.lanes.group import Group
from trainables.parameters import complete
from trainables.training import Build, Learner
from tuner.trainable import Data, Split

STEPS = 12  # of an epoch that is timed
ROUNDS = 3
GAIN = 1.1  # twice as many lanes must be so much faster together to be taken
SHARE = 0.6  # of the free memory that lanes may take


def measure(
    trainable: str,
    config: Mapping[str, Any],
    data: Data,
    device: str,
    precision: str,
    most: int,
    free_bytes: int | None = None,
) -> dict[int, float]:
    """Return how many epochs a second 1, 2, 4, ... lanes train together, each count until the next gains too little.

    Args:
        trainable: A built-in trainable.
        config: One of its configs, complete or not.
        data: What it trains on; a few batches of it are used.
        device: "cpu" or "cuda".
        precision: "fp32" or "bf16".
        most: Lanes at most.
        free_bytes: Memory that lanes may share; None: what a GPU has free, and on a CPU no limit.
    """
    build: Build = importlib.import_module(f"trainables.{trainable}").build
    full, place = complete(trainable, config), torch.device(device)
    few = _few(data, STEPS * full["batch_size"])
    room = free_bytes if device == "cpu" else torch.cuda.mem_get_info()[0]
    if room is not None:
        most = min(most, max(1, int(SHARE * room) // bytes_per_lane(build, full, few, place)))
    learner = Learner(build, full, few, 2**20, 0, place, precision)
    rates = {1: _rate(1, lambda epoch: _alone(learner, epoch), place)}
    lanes = 2
    while lanes <= most:
        group = Group(build, place, precision)
        for seed in range(lanes):
            group.add(full, few, 2**20, seed)
        rates[lanes] = _rate(lanes, lambda _, group=group: group.train_epoch(), place)
        if rates[lanes] < GAIN * rates[lanes // 2]:
            break
        lanes *= 2
    return rates


def best(rates: Mapping[int, float]) -> int:
    """Return the largest count of lanes to which each doubling gained enough; 1 where the first did not."""
    lanes = 1
    while 2 * lanes in rates and rates[2 * lanes] >= GAIN * rates[lanes]:
        lanes *= 2
    return lanes


def _alone(learner: Learner, epoch: int) -> None:
    learner.train_epoch(epoch)
    learner.measure()


def _rate(lanes: int, train: Callable[[int], object], device: torch.device) -> float:
    """Return epochs a second of all lanes: the best of some rounds, since what else runs here only slows."""
    seconds = []
    for epoch in range(1, ROUNDS + 2):  # the first warms up
        started = time.perf_counter()
        train(epoch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return lanes / min(seconds[1:])


def _few(data: Data, samples: int) -> Data:
    """Return data with the first samples alone, and a fourth as many to validate on."""
    val = None if data.val is None else _first(data.val, samples // 4)
    return dataclasses.replace(data, train=_first(data.train, samples), val=val)


def _first(split: Split, samples: int) -> Split:
    return Split(split.x[:samples], split.y[:samples])


def write(path: Path, request: Mapping[str, Any], data: Data, samples: int) -> None:
    """Write what `main` reads: a request, and as many samples as it needs.

    Args:
        path: The file.
        request: The arguments of `measure`, but for data; and threads.
        data: The splits.
        samples: How many are needed.
    """
    few = _few(data, samples)
    told = {
        field.name: getattr(few, field.name) for field in dataclasses.fields(few) if field.name not in ("train", "val")
    }
    arrays = {"train_x": few.train.x, "train_y": few.train.y}
    if few.val is not None:
        arrays |= {"val_x": few.val.x, "val_y": few.val.y}
    np.savez(path, text=json.dumps({"request": request, "data": told}), **arrays)  # type: ignore[arg-type]


def main(path: str) -> None:
    """Measure what a file asks for, and print {lanes: epochs a second}."""
    with np.load(path, allow_pickle=False) as file:
        asked = json.loads(str(file["text"]))
        told = asked["data"] | {"shape": tuple(asked["data"]["shape"]), "classes": tuple(asked["data"]["classes"])}
        val = Split(file["val_x"], file["val_y"]) if "val_x" in file else None
        data = Data(**told, train=Split(file["train_x"], file["train_y"]), val=val)
    torch.set_num_threads(asked["request"].pop("threads"))
    print(json.dumps(measure(data=data, **asked["request"])))


if __name__ == "__main__":
    main(sys.argv[1])
