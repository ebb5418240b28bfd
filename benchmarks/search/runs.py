"""Many runs, on a few processes, each kept in a file so that nothing is run twice."""

from __future__ import annotations

import functools
import gc
import hashlib
import inspect
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from benchmarks.search import simulate as simulation
from benchmarks.search.competitors import code_hash, competitors
from benchmarks.search.development import DEVELOPMENT
from benchmarks.search.functions import DEFAULT, HELD_OUT
from benchmarks.search.simulate import Run, simulate
from benchmarks.search.table_tasks import find_table, table_names
from benchmarks.search.tasks import Task

CACHE = Path("build/bench-search")
BATCH = 8  # runs handed to a process at a time


@dataclass(frozen=True)
class Job:
    """One run to make: who, on what, with which seed, how many trials, how many side by side."""

    task: str
    competitor: str
    seed: int
    concurrency: int
    trials: int


def task_names(held_out: bool = False) -> list[str]:
    """Return the names of the functions and of the recorded tables, or of the functions that are held out."""
    chosen = HELD_OUT if held_out else DEFAULT
    return [task.name for task in chosen] + ([] if held_out else table_names())


@functools.cache
def find_task(name: str) -> Task:
    """Return a task of any list."""
    functions = {task.name: task for task in (*DEFAULT, *HELD_OUT, *DEVELOPMENT)}
    return functions[name] if name in functions else find_table(name)


def run_all(jobs: Sequence[Job], processes: int, cache: Path = CACHE, quiet: bool = False) -> dict[Job, Run]:
    """Return what came of every job; those in the cache are not run again.

    Args:
        jobs: What to run.
        processes: How many side by side.
        cache: Folder of the files, one a job.
        quiet: Show no progress.
    """
    found = {job: run for job in jobs if (run := _read(job, cache)) is not None}
    missing = [job for job in jobs if job not in found]
    # The paths are made here, once: a file that is edited meanwhile must not change them.
    pairs = [(job, _path(job, cache)) for job in missing]
    batches = [pairs[at : at + BATCH] for at in range(0, len(pairs), BATCH)]
    started = time.monotonic()
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(max(1, min(processes, len(batches) or 1)), mp_context=context) as pool:
        pending = [pool.submit(_run_batch, batch) for batch in batches]
        for done, future in enumerate(as_completed(pending), start=1):
            future.result()
            if not quiet:
                _show(done, len(batches), time.monotonic() - started)
    return found | {job: Run(**json.loads(path.read_text())) for job, path in pairs}


def run_one(job: Job) -> Run:
    """Run one job here."""
    task = find_task(job.task)
    competitor = competitors()[job.competitor](task.space, job.seed, job.trials, job.concurrency)
    return simulate(task, competitor, job.seed, job.trials, job.concurrency)


def _run_batch(batch: Sequence[tuple[Job, Path]]) -> None:
    gc.disable()  # hyperopt makes hundreds of thousands of small objects a run; they are collected between runs
    gc.freeze()  # what came with the fork stays as it is: to look at it again would take longer than most runs
    for job, path in batch:
        run = run_one(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(run.as_dict()))
        part.replace(path)
        gc.collect()


def _read(job: Job, cache: Path) -> Run | None:
    path = _path(job, cache)
    return Run(**json.loads(path.read_text())) if path.exists() else None


def _path(job: Job, cache: Path) -> Path:
    name = f"{job.task}-{job.concurrency}-{job.trials}-{job.seed}-{_hash(job.task, job.competitor)}.json"
    return cache / job.competitor.replace(" ", "_") / name


@functools.cache
def _hash(task: str, competitor: str) -> str:
    parts = (find_task(task).fingerprint(), code_hash(competitor), inspect.getsource(simulation))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _show(done: int, of: int, seconds: float) -> None:
    left = seconds / done * (of - done)
    print(f"\r{done * BATCH:,} of {of * BATCH:,} runs, about {left / 60:.0f} min left ", end="", file=sys.stderr)
    if done == of:
        print(file=sys.stderr)
