"""How fast this project is against its peers, a part at a time.

    python -m benchmarks.speed short                 24 trials x 2 epochs x 1,280 images, 5 rounds
    python -m benchmarks.speed medium --repeats 3
    python -m benchmarks.speed step --quick          a small look, which goes to build/speed/
    python -m benchmarks.speed page                  docs/performance.md and its figures, from the JSON alone

A part writes benchmarks/results/speed_PART.json. `make bench` runs them all and writes the page. Nothing else may run
on the machine. Images are Fashion-MNIST's, of --root, $TUNER_DATA or ./data; where they are missing, made ones.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import images, machine, processes, writing

QUICK = Path("build/speed")
PARTS = {
    "short": ("sweeps", "run_short"),
    "medium": ("sweeps", "run_medium"),
    "long": ("long", "run"),
    "trivial": ("trivial", "run"),
    "many": ("many", "run"),
    "step": ("step", "run"),
    "memory": ("memory", "run"),
    "startup": ("startup", "run"),
}
ONCE = ("many", "memory")
"""Parts that take one run each, whatever the repeats."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts that are named."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is killed, and folders go
    for part in args.parts:
        if part == "page":
            print("\n".join(str(path) for path in writing.write_all()))
            continue
        found = _measured(part, args)
        out = args.out or (QUICK if args.quick else writing.RESULTS)
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"speed_{part}.json"
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(path)


def _measured(part: str, args: argparse.Namespace) -> dict[str, Any]:
    module, function = PARTS[part]
    measure = getattr(importlib.import_module(f"benchmarks.speed.{module}"), function)
    facts, began = machine.facts(), time.monotonic()
    repeats = 1 if part in ONCE else args.repeats or (2 if args.quick else 5)
    only = {"only": args.only} if args.only else {}
    with processes.scratch() as folder:
        found = measure(repeats, args.quick, images.find(args.root, folder / "data"), **only)
    facts["load_after"] = round(os.getloadavg()[0], 2)
    facts["minutes"] = round((time.monotonic() - began) / 60, 1)
    words = ["--quick"] if args.quick else []
    words += ["--repeats", str(repeats)] if part not in ONCE else []
    command = shlex.join(["python", "-m", "benchmarks.speed", part, *words, *(["--only", *args.only] if only else [])])
    return {"part": part, "command": command, "quick": args.quick, **facts, **found}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "page"], metavar="PART", help=", ".join([*PARTS, "page"]))
    parser.add_argument("--repeats", type=int, help="rounds; left out: 5, and 2 of a quick look")
    parser.add_argument("--quick", action="store_true", help="much smaller: shows that it works, and measures nothing")
    parser.add_argument("--root", type=Path, help="the folder that holds FashionMNIST/")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="short and medium: only these competitors")
    parser.add_argument("--out", type=Path, help="where the JSON goes; left out: benchmarks/results/")
    args = parser.parse_args(argv)
    if args.only and set(args.parts) - {"short", "medium"}:
        parser.error("--only is for short and medium")
    return args


if __name__ == "__main__":
    sys.exit(main())
