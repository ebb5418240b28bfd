"""How many epochs a second do lanes give, against one trial at a time, processes, and a DataLoader loop?

    python -m benchmarks.lanes [--quick] [--root DATA] [--part lanes --part processes --part loader] [--out FILE]

Needs torch, numpy and trainables; neither Ray nor a run. On a GPU where there is one (batch 128, 48,000 images), else
on one core (batch 64, 4,000 images). What is compared is interleaved in each repeat; medians of ratios. Writes
benchmarks/results/lanes.json (with --quick only where --out says); what is not measured again stays in it.

    lanes       1, 2, 4, ... 32 lanes (on a CPU: 8) against one trial at a time: training and measuring
    processes   processes sharing the GPU (on a CPU: one a core), a trial each, against lanes
    loader      the lone trial's training pass against a DataLoader loop with torch.optim, as torch's tutorials have it
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trainables import cnn
from trainables.data import load
from trainables.lanes import Group, bytes_per_lane
from trainables.parameters import complete
from trainables.training import Learner
from tuner.trainable import Data, Split

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
BATCH = 128 if GPU else 64
LANES = (1, 2, 4, 8, 16, 32) if GPU else (1, 2, 4, 8)
HORIZON = 100_000
"""Epochs of a schedule that no repeat comes to the end of."""
PROCESSES = 8 if GPU else len(os.sched_getaffinity(0))
RESULT = Path(__file__).parent / "results/lanes.json"

Result = dict[str, Any]


def config(seed: int) -> dict[str, Any]:
    """Return the config of a trial: the network of the project's timings; the rate is the trial's own."""
    own = {"learning_rate": 0.01 + 0.001 * seed, "batch_size": BATCH}
    return complete("cnn", {"filters": 32, "conv_layers": 2, "dense_units": 128, **own})


def made_up(name: str, shape: tuple[int, int, int], samples: int) -> Data:
    """Return random uint8 images of ten classes: a kernel takes as long for them as for others."""
    rng = np.random.default_rng(0)
    splits = [
        Split(rng.integers(0, 256, (count, *shape), dtype=np.uint8), rng.integers(0, 10, count))
        for count in (samples, samples // 4)
    ]
    classes = tuple("0123456789")
    return Data(name, "classification", shape, classes, train=splits[0], val=splits[1])


def data_sets(root: str | None, samples: int) -> dict[str, Callable[[], Data]]:
    """Return what is trained on, by name."""
    small: Callable[[], Data] = lambda: made_up("synthetic_28x28", (1, 28, 28), samples)  # noqa: E731
    if root:
        options = {"name": "fashion_mnist", "root": root, "limit": samples * 5 // 4}
        small = lambda: load(options, seed=0)  # noqa: E731
    return {
        "28x28": small,
        "32x32x3": lambda: made_up("synthetic_32x32x3", (3, 32, 32), samples),
        "digits_8x8": lambda: load({"name": "digits"}, seed=0),
    }


def lone(data: Data, seed: int = 0) -> Callable[[], None]:
    """Return what trains a lone trial for one epoch and measures it."""
    learner, epoch = Learner(cnn.build, config(seed), data, HORIZON, seed, DEVICE), iter(range(1, HORIZON))

    def run() -> None:
        learner.train_epoch(next(epoch))
        learner.measure()

    return run


def group_of(data: Data, lanes: int) -> Callable[[], Any]:
    """Return what trains that many lanes for one epoch and measures them."""
    group = Group(cnn.build, DEVICE)
    for seed in range(lanes):
        group.add(config(seed), data, HORIZON, seed)
    return group.train_epoch


def seconds(run: Callable[[], Any]) -> float:
    """Return how long one call takes, with all that it left to the device."""
    started = time.perf_counter()
    run()
    if GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def lanes_part(sets: Mapping[str, Callable[[], Data]], lanes: tuple[int, ...], repeats: int) -> Result:
    """Measure groups of every size against the lone trial, interleaved."""
    found: Result = {}
    for name, make in sets.items():
        data = make()
        alone, rows = lone(data), []
        seconds(alone)
        for count in lanes:
            row = compared(alone, data, count, repeats)
            rows.append(row)
            print(f"lanes {name}: {row}", flush=True)
        per_lane = bytes_per_lane(cnn.build, config(0), data, DEVICE)
        found[name] = {"data": data.name, "samples": len(data.train), "bytes_per_lane": per_lane, "rows": rows}
    return found


def compared(alone: Callable[[], None], data: Data, lanes: int, repeats: int) -> Result:
    """Return the epochs a second of a group and of the lone trial, and the median of their ratios."""
    together = group_of(data, lanes)
    seconds(together)  # the first chooses kernels
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    pairs = [(seconds(alone), seconds(together) / lanes) for _ in range(repeats)]
    row: Result = {
        "lanes": lanes,
        "lone_epochs_per_s": round(1 / statistics.median(pair[0] for pair in pairs), 3),
        "lane_epochs_per_s": round(1 / statistics.median(pair[1] for pair in pairs), 3),
        "ratio": round(statistics.median(pair[0] / pair[1] for pair in pairs), 3),
    }
    return row | ({"peak_bytes": torch.cuda.max_memory_allocated()} if GPU else {})


def processes_part(sets: Mapping[str, Callable[[], Data]], lanes: int, repeats: int) -> Result:
    """Measure processes with a trial each against as many lanes as are asked for, interleaved."""
    found: Result = {}
    for name, make in sets.items():
        data, pairs = make(), []
        together = group_of(data, lanes)
        once = seconds(together)
        epochs = max(2, round(3 / once))
        for _ in range(repeats):
            pairs.append((by_processes(data, epochs), lanes / seconds(together)))
        found[name] = {
            "processes": PROCESSES,
            "lanes": lanes,
            "process_epochs_per_s": round(statistics.median(pair[0] for pair in pairs), 3),
            "lane_epochs_per_s": round(statistics.median(pair[1] for pair in pairs), 3),
            "ratio": round(statistics.median(pair[1] / pair[0] for pair in pairs), 3),
        }
        print(f"processes {name}: {found[name]}", flush=True)
    return found


def by_processes(data: Data, epochs: int) -> float:
    """Return the epochs a second of all processes together, their start-up left out."""
    context = multiprocessing.get_context("spawn")
    ready, times = context.Barrier(PROCESSES), context.Queue()
    running = [context.Process(target=one_process, args=(data, k, epochs, ready, times)) for k in range(PROCESSES)]
    for process in running:
        process.start()
    slowest = max(times.get(timeout=600) for _ in running)
    for process in running:
        process.join()
    return PROCESSES * epochs / slowest


def one_process(data: Data, seed: int, epochs: int, ready: Any, times: Any) -> None:
    """Train one trial, from the moment on when all processes are ready."""
    torch.set_num_threads(1)
    run = lone(data, seed)
    seconds(run)
    ready.wait(600)
    times.put(sum(seconds(run) for _ in range(epochs)))


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Single images, made ready one by one, as torchvision's ToTensor and Normalize do."""

    def __init__(self, split: Split) -> None:
        self.x, self.y = split.x, split.y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return (torch.tensor(self.x[index]).float().div(255) - 0.5) / 0.5, int(self.y[index])


def loader_loop(data: Data) -> Callable[[], None]:
    """Return one training pass as torch's tutorials write it."""
    model = cnn.build(config(0), data).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    workers = 4 if GPU else 0
    batches = DataLoader(
        Images(data.train), BATCH, shuffle=True, num_workers=workers, pin_memory=GPU, persistent_workers=workers > 0
    )

    def run() -> None:
        model.train()
        for x, y in batches:
            loss = torch.nn.functional.cross_entropy(model(x.to(DEVICE)), y.to(DEVICE))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def loader_part(sets: Mapping[str, Callable[[], Data]], repeats: int) -> Result:
    """Measure the lone trial's training pass against a DataLoader loop, interleaved."""
    found: Result = {}
    for name, make in sets.items():
        data = make()
        loop, learner = loader_loop(data), Learner(cnn.build, config(0), data, HORIZON, 0, DEVICE)
        own = lambda learner=learner: learner.train_epoch(1)  # noqa: E731
        seconds(loop), seconds(own)
        pairs = [(seconds(loop), seconds(own)) for _ in range(repeats)]
        found[name] = {
            "loader_s": round(statistics.median(pair[0] for pair in pairs), 4),
            "lone_s": round(statistics.median(pair[1] for pair in pairs), 4),
            "ratio": round(statistics.median(pair[0] / pair[1] for pair in pairs), 3),
        }
        print(f"loader {name}: {found[name]}", flush=True)
    return found


def hardware() -> str:
    """Return the GPU's name, or the processor's."""
    if GPU:
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"no GPU; 1 thread of {len(os.sched_getaffinity(0))} cores, {names[0] if names else platform.processor()}"


def main() -> None:
    """Measure the parts that are asked for, print each row, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images, lanes and repeats: does it run?")
    parser.add_argument("--root", help="where Fashion-MNIST is; left out: random images of that shape")
    parser.add_argument("--part", action="append", choices=("lanes", "processes", "loader"), help="all, if left out")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help=f"left out: {RESULT.name} among the results, and nothing with --quick")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    samples, lanes, repeats = (48_000 if GPU else 4_000), LANES, asked.repeats
    if asked.quick:
        samples, lanes, repeats = 256, (1, 4), 1
    sets = data_sets(asked.root, samples)
    few = {"digits_8x8": sets["digits_8x8"]} if asked.quick else sets
    parts: dict[str, Callable[[], Result]] = {
        "lanes": lambda: lanes_part(sets, lanes, repeats),
        "processes": lambda: processes_part(few, max(lanes) if GPU else 4, repeats),
        "loader": lambda: loader_part(sets, repeats),
    }
    about = {
        "hardware": hardware(),
        "gpu": GPU,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "n": repeats,
        "batch": BATCH,
    }
    found = {name: {**about, "found": parts[name]()} for name in asked.part or parts}
    if not GPU:
        print("no GPU here: every part ran on one core, and says nothing about a GPU")
    out = asked.out or (None if asked.quick else RESULT)
    if out:
        out.parent.mkdir(exist_ok=True)
        before = json.loads(out.read_text()) if out.exists() else {}
        out.write_text(
            json.dumps(before | {("gpu_" if GPU else "cpu_") + k: v for k, v in found.items()}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
