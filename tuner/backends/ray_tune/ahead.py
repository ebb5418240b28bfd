"""Workers that start ahead of their first trial: they import what it needs while the driver is at other things."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tuner.backends.ray_tune.worker_side import Attempts, Parcel
from tuner.loading import BUILTINS
from tuner.trainable import Train


def start(asked: Mapping[str, float], count: int, module: str) -> list[Any]:
    """Start workers and return them at once.

    Args:
        asked: What a trial asks for, by Ray's names.
        count: How many.
        module: What they import.
    """
    import ray

    rest = {name: amount for name, amount in asked.items() if name not in ("CPU", "GPU")}
    cores = {"num_cpus": asked.get("CPU", 0), "num_gpus": asked.get("GPU", 0)}
    actor = ray.remote(Attempts).options(**cores, resources=rest)
    return [actor.remote(module) for _ in range(count)]


def hired(actor: Any, workers: list[Any], module: str) -> Any:
    """Return a class of actors for Ray Tune that hands out the workers that are there before it starts others.

    Args:
        actor: The remote class; Ray Tune sets what a trial asks for as its options, then starts one.
        workers: Those that are there; what is handed out is taken from it.
        module: What others import.
    """
    plain = actor.options
    actor.options = lambda **asked: _Hiring(plain(**asked), workers, module)
    return actor


def module(train: Train | str | None, lanes: int = 1) -> str:
    """Return what workers may import ahead for a trainable: a built-in's module; torch where this process has it.

    Nothing where they are thin, since trials train as lanes of another process.
    """
    if lanes > 1:
        return ""
    if isinstance(train, str) and train in BUILTINS:
        return f"trainables.{train}"
    return "torch" if "torch" in sys.modules else ""


class _Hiring:
    def __init__(self, actor: Any, workers: list[Any], module: str) -> None:
        self._actor, self._workers, self._module = actor, workers, module

    def remote(self, job: str, parcel: Parcel) -> Any:
        worker = self._workers.pop(0) if self._workers else self._actor.remote(self._module)
        worker.begin.remote(job, parcel)
        return worker
