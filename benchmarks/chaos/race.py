"""Two drivers at once on one run folder: exactly one may proceed, and the other must say who is at it.

On one host their file lock decides; on two, the lease that a third left behind, which has ended a moment ago.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.checker import check
from benchmarks.chaos.harness import Kill, Sweep, Untouched, _derive
from benchmarks.chaos.scenarios import Scenario
from benchmarks.chaos.starter import WarmStarter
from tuner.lease_folder import LeaseFolder

_NAMED = re.compile(r"process \d+ on \S+ \(since \d{4}-\d\d-\d\dT[\d:+]+\)|since \d{4}-\d\d-\d\dT")


@dataclass
class Race:
    """One race.

    Args:
        index: Which; (seed, index) replays it.
        statuses: Both exit statuses, sorted.
        refusal: The last line that the refused one said.
        problems: What is wrong.
    """

    index: int
    statuses: list[int | None]
    refusal: str
    problems: list[str] = field(default_factory=list)


def prepare(scenario: Scenario, folder: Path, warm: WarmStarter) -> Sweep:
    """Run a sweep and kill it after its first epoch, so that there is something to race for."""
    sweep = Sweep(scenario, folder, warm)
    kill = Kill("process", "after commit epoch+checkpoint", 2)
    process = sweep.start(sweep.arguments(), kill=kill)
    if process.wait(60) != -9:
        raise RuntimeError(f"it should have been killed at {kill}: {sweep.words()}")
    return sweep


def race(
    prepared: Sweep, untouched: Untouched, folder: Path, warm: WarmStarter, seed: int, index: int, hosts: int = 1
) -> Race:
    """Resume a copy of a killed sweep twice at once, on one host or on two."""
    shutil.copytree(prepared.folder, folder)
    sweep = Sweep(prepared.scenario, folder, warm)
    delays = [0.0, random.Random(_derive(seed, index)).choice([0.0, 0.0, random.Random(index).random() / 5])]
    requests = []
    if hosts > 1:
        _end_lease(sweep.run)
    for which, delay in enumerate(delays):
        env = {
            "CHAOS_RUN": str(sweep.run),
            "CHAOS_LOG": str(sweep.log),
            "CHAOS_TRACE": str(folder / f"race-{which}.txt"),
            "CHAOS_DELAY": str(delay),
        }
        if hosts > 1:
            env |= {"CHAOS_HOST": f"host-{which}", "CHAOS_LOCKS": str(folder / "locks")}
        output = str(folder / f"racer-{which}.txt")
        requests.append({"arguments": sweep.arguments(), "env": env, "cwd": str(folder), "output": output})
    processes = warm.start(requests)
    statuses = [process.wait(60) for process in processes]
    for process in processes:
        process.clean()
    said = [Path(request["output"]).read_text().strip() for request in requests]  # type: ignore[arg-type]
    refusal = next((text for text, status in zip(said, statuses, strict=True) if status == 2), "")
    result = Race(index, sorted(statuses, key=str), refusal)
    if result.statuses != [0, 2]:
        result.problems.append(f"exit statuses {statuses}: {said}")
    elif not _NAMED.search(refusal):
        result.problems.append(f"the refusal names no owner: {refusal}")
    verdict = check(untouched.evidence, sweep.export(0), kills=1, concurrency=1, same=True)
    result.problems += verdict.problems
    return result


def _end_lease(run: Path) -> None:
    """Let the lease of the killed driver have ended: nobody should have to wait 45 s for each race."""
    store = LeaseFolder(run)
    number = max(store.numbers())
    entry = json.loads(store.read(number)[0])
    store.replace(number, json.dumps({**entry, "expires_at": "2026-01-01T00:00:00+00:00"}))
