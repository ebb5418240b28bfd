"""How long a proposal takes: twelve parameters, 200 and 1,000 observations."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from benchmarks.search.competitors import OURS, Ours
from benchmarks.search.functions import DEFAULT
from tuner.strategies import STRATEGIES, Observation

OBSERVATIONS = (200, 1_000)
REPEATS = 7


def ask_times() -> dict[str, dict[str, float]]:
    """Return, for each strategy of this project, the median milliseconds of a proposal: name -> observations -> ms."""
    names = [name for name in OURS if name in STRATEGIES]
    return {name: {str(count): ask_ms(name, count) for count in OBSERVATIONS} for name in names}


def ask_ms(name: str, observations: int) -> float:
    """Return the median milliseconds of a proposal after so many random observations, a twentieth of them failed.

    The first proposal is not timed: it loads what the strategy needs. Each next one has one observation more.
    """
    task = next(task for task in DEFAULT if task.name == "sparse12")
    strategy = Ours(name, task.space, 0, observations + 10 * REPEATS, 1)._strategy
    rng = random.Random(1)
    history: list[Observation] = []
    times = []
    while len(times) <= REPEATS:
        config = task.space.sample(rng)
        index = len(history) + 1
        lost = index % 20 == 0
        history.append(_observed(index, config, None if lost else task.loss(config)))
        if index >= observations:
            started = time.perf_counter()
            strategy.ask(history)
            times.append(1e3 * (time.perf_counter() - started))
    return round(statistics.median(times[1:]), 1)


def _observed(index: int, config: dict[str, Any], loss: float | None) -> Observation:
    return Observation(index, config, "failed" if loss is None else "done", loss)
