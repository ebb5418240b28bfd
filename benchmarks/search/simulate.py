"""One run, simulated: trials that take virtual time, side by side, told as they end."""

from __future__ import annotations

import heapq
import math
import random
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.search.competitors import Competitor
from benchmarks.search.tasks import Outcome, Task, random_regrets


@dataclass
class Run:
    """What came of one run.

    Args:
        regrets: After each trial that ended: the true regret of the config that was told the lowest loss.
        failed: For each trial in the order of proposing, whether it failed.
        seconds: Virtual seconds until the last trial ended.
        ask_s: Real seconds of each proposal, in order.
        by: Who proposed each trial, where the competitor says so.
    """

    regrets: list[float] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)
    seconds: float = 0.0
    ask_s: list[float] = field(default_factory=list)
    by: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def simulate(task: Task, competitor: Competitor, seed: int, trials: int, concurrency: int) -> Run:
    """Run a competitor on a task; the same arguments give the same run.

    As many trials as there are workers start at once; whenever one ends, it is told, and the next is asked for. A
    trial's noise depends on the seed and its number alone, so that it is the same for every competitor.

    Args:
        task: What is searched.
        competitor: Fresh.
        seed: Of the noise.
        trials: How many to run, failing ones included.
        concurrency: Workers.
    """
    run, running = Run(), []
    best = math.inf
    regret = random_regrets(task)[-1]  # until a trial succeeds: the worst that random configs have
    now = 0.0
    while True:
        while len(running) < concurrency and len(run.failed) < trials:
            asked = _ask(task, competitor, run, seed)
            if asked is None:
                trials = len(run.failed)
                break
            key, outcome = asked
            heapq.heappush(running, (now + outcome.seconds, len(run.failed), key, outcome))
        if not running:
            break
        now, _, key, outcome = heapq.heappop(running)
        competitor.tell(key, outcome.loss, outcome.curve)
        if outcome.loss is not None and outcome.true is not None and outcome.loss < best:
            best, regret = outcome.loss, max(0.0, outcome.true - task.optimum)
        run.regrets.append(regret)
    run.seconds = now
    run.by = list(getattr(competitor, "by", []))
    return run


def _ask(task: Task, competitor: Competitor, run: Run, seed: int) -> tuple[Any, Outcome] | None:
    started = time.perf_counter()
    asked = competitor.ask()
    run.ask_s.append(time.perf_counter() - started)
    if asked is None:
        run.ask_s.pop()
        return None
    key, config = asked
    noise = random.Random(f"{task.name} {seed} {len(run.failed)}").gauss(0.0, 1.0)
    outcome = task.evaluate(config, noise)
    run.failed.append(outcome.loss is None)
    return key, outcome
