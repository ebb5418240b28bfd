"""Search side by side: every competitor on every task, over many seeds, one worker and four.

    python -m benchmarks.search                                  everything, 20 seeds (see `make bench-search`)
    python -m benchmarks.search --competitors auto random --tasks ridge mixed --seeds 5
    python -m benchmarks.search --held-out                       the functions outside of the list
    python -m benchmarks.search --tasks camel ties ... --competitors auto gp     those that constants are chosen on

Runs are simulated in virtual time, so a trial costs nothing but its proposal. Every run is kept in build/bench-search
and not made again until its task, its competitor's code or the simulation changes. Writes OUT.json, the figures to the
folder FIGURES, and, of a whole run, docs/search.md.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy: a process a core

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.search import claims, figures, runs, stopping, writing
from benchmarks.search.ask_time import ask_times
from benchmarks.search.competitors import competitors
from benchmarks.search.development import DEVELOPMENT
from benchmarks.search.runs import Job
from benchmarks.search.summary import summary

RESULTS = Path("benchmarks/results")
FIGURES = Path("docs/search")
PAGE = Path("docs/search.md")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    args = _arguments(argv)
    started = time.monotonic()
    names = [name for name in competitors() if not args.competitors or name in args.competitors]
    tasks = args.tasks or runs.task_names(args.held_out)
    jobs = [
        Job(task, name, seed, workers, args.trials)
        for seed in range(1, args.seeds + 1)
        for task in tasks
        for name in names
        for workers in args.concurrency
    ]
    made = runs.run_all(jobs, args.jobs, args.cache)
    found = summary(made, names, tasks, args.seeds, args.trials)
    if not args.held_out:
        found["stopping"] = stopping.measure_all(args.rules, args.orders)
        found["ask_times"] = ask_times() if args.ask_times else {}
    found["claims"] = claims.claims(found)
    found["facts"]["seconds"] = round(time.monotonic() - started)
    found["facts"]["command"] = _command(args)
    _write(found, args)


def _write(found: dict[str, Any], args: argparse.Namespace) -> None:
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, separators=(",", ":")) + "\n")
    drawn = figures.draw_all(found, args.figures)
    print(writing.as_text(found))
    print("\n".join(str(path) for path in (args.out, *drawn)))
    if args.page is not None:
        writing.write_page(args.page, RESULTS / "search.json", RESULTS / "search_held_out.json")
        print(args.page)


def _command(args: argparse.Namespace) -> str:
    words = ["python", "-m", "benchmarks.search", "--seeds", str(args.seeds), "--trials", str(args.trials)]
    words += ["--held-out"] if args.held_out else []
    words += ["--competitors", *args.competitors] if args.competitors else []
    words += ["--tasks", *args.tasks] if args.tasks else []
    return shlex.join(words)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*runs.task_names(), *runs.task_names(held_out=True), *(task.name for task in DEVELOPMENT)]
    parser.add_argument("--seeds", type=int, default=20, help="runs of each competitor on each task")
    parser.add_argument("--trials", type=int, default=100, help="trials a run")
    parser.add_argument("--tasks", nargs="+", choices=every, metavar="TASK", help=", ".join(every))
    parser.add_argument(
        "--competitors", nargs="+", choices=list(competitors()), metavar="NAME", help=", ".join(competitors())
    )
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 4], help="workers")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--held-out", action="store_true", help="the functions that are not in the list")
    parser.add_argument("--rules", nargs="*", default=["asha"], help="stopping rules to replay, with their defaults")
    parser.add_argument("--orders", type=int, default=20, help="arrival orders of each replay")
    parser.add_argument("--no-ask-times", dest="ask_times", action="store_false", help="do not time proposals")
    parser.add_argument("--cache", type=Path, default=runs.CACHE, help="where runs are kept")
    parser.add_argument("--out", type=Path, help="the JSON; left out, a whole run writes benchmarks/results/")
    args = parser.parse_args(argv)
    whole = args.out is None and not args.tasks and not args.competitors
    args.page = PAGE if whole else None
    args.figures = (FIGURES / "held_out" if args.held_out else FIGURES) if whole else None
    if args.out is None:
        name = "search_held_out.json" if args.held_out else "search.json"
        args.out = RESULTS / name if whole else Path("build") / name
    args.figures = args.figures or args.out.with_suffix("")
    return args


if __name__ == "__main__":
    main()
