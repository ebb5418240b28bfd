"""`python -m benchmarks.chaos --kills 300 --seed 1`: prints a table, writes the figures as JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.chaos import harness
from benchmarks.chaos.race import Race, prepare, race
from benchmarks.chaos.scenarios import INLINE, RAY, STUDIES, Scenario
from benchmarks.chaos.starter import WarmStarter

_PACKAGES = ("ray", "torch", "hyperopt", "numpy")
_HARMLESS = ("epochs run again", "most run again at once")


def main() -> int:
    """Run what the command line asks for; exit status 1 where anything was lost."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # as Ctrl-C: what was started is killed
    options = _options()
    folder = Path(options.folder or tempfile.mkdtemp(prefix="chaos-"))
    began = time.monotonic()
    outcomes: list[harness.Outcome] = []
    races: list[Race] = []
    with harness.warm_starter() as warm:
        for backend, scenarios, kills in _parts(options):
            chaos = harness.run_chaos(
                scenarios,
                folder / backend,
                None if options.cold else warm,
                kills=kills,
                seed=options.seed,
                most=options.most,
                only=options.only,
            )
            for outcome in chaos:
                outcomes.append(outcome)
                _say(outcome)
        if options.every_epoch and options.only is None:
            outcomes.append(_killed_every_epoch(folder / "every-epoch", warm, options))
            _say(outcomes[-1])
        if options.study_kills and options.only is None:
            outcomes.append(_killed_at_every_point(folder / "every-point", warm, options))
            _say(outcomes[-1])
        if options.races and options.only is None:
            races = _race(folder / "races", warm, options)
    result = _result(options, outcomes, races, time.monotonic() - began)
    _table(result)
    if options.out:
        Path(options.out).parent.mkdir(parents=True, exist_ok=True)
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
    wrong = result["problems"]
    print(f"all of it is in {folder}" if wrong or options.keep else "0 problems")
    if not wrong and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="kills in all, at least (with --backend both: on each)")
    parser.add_argument("--ray-kills", type=int, help="kills on Ray, where they should be fewer")
    parser.add_argument("--study-kills", type=int, default=0, help="kills of whole studies, inline, beside those")
    parser.add_argument("--seed", type=int, default=1, help="decides every kill")
    parser.add_argument("--backend", choices=("inline", "ray", "both"), default="inline")
    parser.add_argument(
        "--races", type=int, default=0, help="races of two drivers on one folder, in turn on one host and on two"
    )
    parser.add_argument("--every-epoch", action="store_true", help="one sweep more, killed after every single epoch")
    parser.add_argument("--most", type=int, default=12, help="the most kills of one sweep")
    parser.add_argument("--only", type=int, help="replay only the sweep of this index")
    parser.add_argument("--cold", action="store_true", help="start every command as a new interpreter")
    parser.add_argument("--out", help="write the figures to this JSON file")
    parser.add_argument("--folder", help="work here, and keep it")
    parser.add_argument("--keep", action="store_true", help="keep the run folders also where nothing is wrong")
    options = parser.parse_args()
    options.keep = options.keep or options.folder is not None
    return options


def _parts(options: argparse.Namespace) -> list[tuple[str, Sequence[Scenario], int]]:
    parts: list[tuple[str, Sequence[Scenario], int]] = []
    if options.backend in ("inline", "both"):
        parts.append(("inline", INLINE, options.kills))
    if options.backend in ("ray", "both"):
        parts.append(("ray", RAY, options.kills if options.ray_kills is None else options.ray_kills))
    if options.study_kills:
        parts.append(("study", STUDIES, options.study_kills))
    return parts


def _killed_every_epoch(folder: Path, warm: WarmStarter, options: argparse.Namespace) -> harness.Outcome:
    scenario = Scenario("random", repeats=2)
    untouched = harness.run_untouched(scenario, folder / "untouched", warm)
    outcome = harness.EveryEpoch(scenario, untouched, folder / "killed", warm, options.seed, 0, most=1000).run()
    outcome.scenario = f"{scenario.name}, every epoch"
    return outcome


def _killed_at_every_point(folder: Path, warm: WarmStarter, options: argparse.Namespace) -> harness.Outcome:
    untouched = harness.run_untouched(STUDIES[0], folder / "untouched", warm)
    chaos = harness.EveryPoint(STUDIES[0], untouched, folder / "killed", warm, options.seed, 0, most=1000)
    outcome = chaos.run()
    outcome.scenario = f"{STUDIES[0].name}, every point"
    if len(outcome.kills) != len(chaos.plan):
        missed = chaos.plan[len(outcome.kills)]
        outcome.verdict.problems.append(f"points missed: {len(outcome.kills)} of {len(chaos.plan)}, then {missed}")
    return outcome


def _race(folder: Path, warm: WarmStarter, options: argparse.Namespace) -> list[Race]:
    scenario = Scenario("random")
    untouched = harness.run_untouched(scenario, folder / "untouched", warm)
    prepared = prepare(scenario, folder / "prepared", warm)
    races = []
    for index in range(options.races):
        hosts = 1 + index % 2
        races.append(race(prepared, untouched, folder / f"{index:04d}", warm, options.seed, index, hosts))
        print(f"race {index} ({hosts} hosts): {races[-1].statuses} {'; '.join(races[-1].problems)}", flush=True)
    return races


def _say(outcome: harness.Outcome) -> None:
    print(
        f"{outcome.index:4d} {outcome.scenario:26} {len(outcome.kills):3d} kills {outcome.seconds:6.1f} s", flush=True
    )
    for problem in outcome.verdict.problems[:8]:
        print(f"       {problem}", flush=True)


def _result(
    options: argparse.Namespace, outcomes: Sequence[harness.Outcome], races: Sequence[Race], seconds: float
) -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    problems = [f"{entry.scenario} {entry.index}: {text}" for entry in outcomes for text in entry.verdict.problems]
    problems += [f"race {entry.index}: {text}" for entry in races for text in entry.problems]
    return {
        "command": " ".join(["python -m benchmarks.chaos", *sys.argv[1:]]),
        "seed": options.seed,
        "kills": sum(len(outcome.kills) for outcome in outcomes),
        "sweeps": len(outcomes),
        "races": len(races),
        "races_right": sum(not entry.problems for entry in races),
        "seconds": round(seconds, 1),
        "hardware": {
            "machine": platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gb": round(memory, 1),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "scenarios": harness.summarise(outcomes),
        "problems": problems,
        "every_kill": [kill for outcome in outcomes for kill in outcome.kills],
    }


def _table(result: dict[str, Any]) -> None:
    print(f"\n{'scenario':28} {'sweeps':>6} {'kills':>6} {'husks':>6} {'again':>6} {'most':>5} {'wrong':>6}")
    for name, row in result["scenarios"].items():
        figures = row["figures"]
        wrong = sum(count for figure, count in figures.items() if figure not in _HARMLESS)
        again, most = (figures.get(figure, 0) for figure in _HARMLESS)
        print(f"{name:28} {row['sweeps']:6} {row['kills']:6} {row['husks']:6} {again:6} {most:5} {wrong:6}")
    if result["races"]:
        print(f"races of two drivers: {result['races_right']} of {result['races']} right")
    print(f"{result['kills']} kills in {result['seconds']} s")


if __name__ == "__main__":
    sys.exit(main())
