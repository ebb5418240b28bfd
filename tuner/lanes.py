"""What `lanes = "auto"` comes to: measured once, before a run is planned, and frozen with it. No torch."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tuner.errors import TunerError
from tuner.loading import BUILTINS
from tuner.machine import count_cpus, count_gpus, fitting, memory_bytes
from tuner.precision import resolve as resolve_precision
from tuner.spec import Sweep

PATIENCE_S = 300.0


def resolve(sweep: Sweep, *, here: bool) -> Sweep:
    """Return the sweep with its lanes as a number.

    Where they are "auto", a few steps of the baseline config are trained in a process of their own, alone and as
    lanes: lanes are taken where they are faster, which on a CPU they often are not. They are 1 for a function of the
    user's own, on a cluster (what its nodes are best at is not known here), and where nothing could be measured, for
    what keeps a model from being trained is told better by the plan.

    Args:
        sweep: The sweep.
        here: Whether all trials run on this machine.
    """
    if sweep.resources.lanes != "auto":
        return sweep
    lanes = 1
    if here and sweep.trainable in BUILTINS and sweep.data is not None:
        try:
            lanes = _measured(sweep)
        except (TunerError, OSError, ValueError, subprocess.SubprocessError):
            lanes = 1
    return sweep.model_copy(update={"resources": sweep.resources.model_copy(update={"lanes": lanes})})


def _measured(sweep: Sweep) -> int:
    """Return how many lanes train fastest on one trial's share of this machine."""
    asked, cpus, gpus = sweep.resources, count_cpus(), count_gpus()
    a_gpu = (1.0 if gpus else 0.0) if asked.gpus_per_trial is None else asked.gpus_per_trial
    groups = max(1, fitting(asked.cpus_per_trial, a_gpu, cpus, gpus))
    trials = sweep.search.trials * sweep.search.repeats
    device, memory = "cuda" if a_gpu else "cpu", memory_bytes()
    baseline = sweep.baseline()
    options = sweep.data.model_dump(exclude_none=True)  # type: ignore[union-attr]
    data = importlib.import_module("trainables.data").info(options, sweep.seed)
    request = {
        "trainable": sweep.trainable,
        "config": baseline,
        "device": device,
        "precision": resolve_precision(sweep, device, data=data)[0],
        "most": max(1, min(trials, asked.max_concurrent or trials) // groups),
        "free_bytes": None if memory is None else memory // groups,
        "threads": max(1, int(asked.cpus_per_trial)),
    }
    return _in_a_process(sweep, request, samples=64 * int(baseline.get("batch_size", 64)))


def _in_a_process(sweep: Sweep, request: dict[str, Any], samples: int) -> int:
    probe = importlib.import_module("trainables.lanes.probe")
    data = importlib.import_module("trainables.data").load(sweep.data.model_dump(), sweep.seed)  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory(prefix="tuner-lanes-") as folder:
        file = Path(folder, "request.npz")
        probe.write(file, request, data, samples)
        command = [sys.executable, "-m", "trainables.lanes.probe", str(file)]
        told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
    return int(probe.best({int(lanes): rate for lanes, rate in json.loads(told).items()}))
