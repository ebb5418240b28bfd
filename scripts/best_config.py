"""Write the best config of a run, and its metrics at its best epoch, as a table in Markdown and in CSV.

Example: python scripts/best_config.py latest
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tuner


def rows(results: tuner.Results) -> Iterator[tuple[str, Any]]:
    """Yield name and value; the names are the columns of results.trials."""
    best = results.best()
    yield "trial", best.trial
    yield "best_epoch", best.epoch
    for name, value in best.config.items():
        yield f"config.{name}", value
    for name, value in best.metrics.items():
        yield f"best.{name}", value


def as_text(value: Any) -> str:
    """Return a value as a table shows it: exact, true and [1, 2] as in TOML, nothing where there is none."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def title(results: tuner.Results) -> str:
    """Return one line on how good the config is, and how far to believe it."""
    best = results.best()
    over = f", mean of {best.repeats} repeats" if best.repeats > 1 else ""
    return f"{best.metric} {best.value:.4f}{over}; the best of {best.of} configs, so optimistic"


def write(results: tuner.Results, folder: Path) -> list[Path]:
    """Write best_config.md and best_config.csv into a folder and return their paths."""
    table = [(name, as_text(value)) for name, value in rows(results)]
    folder.mkdir(parents=True, exist_ok=True)
    markdown, commas = folder / "best_config.md", folder / "best_config.csv"
    lines = [f"| {name} | {text.replace('|', '&#124;')} |" for name, text in table]
    head = [f"# Best config of {results.name}", "", title(results), "", "| name | value |", "| --- | --- |"]
    markdown.write_text("\n".join([*head, *lines, ""]), encoding="utf-8")
    with commas.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("name", "value"), *table])
    return [markdown, commas]


def main() -> int:
    """Read the arguments, write the tables, print where they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", metavar="RUN", help="a run folder, a name in ./runs, or latest")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where to write (default: the run folder)")
    arguments = parser.parse_args()
    try:
        results = tuner.load(arguments.run)
        print(*write(results, arguments.out or results.folder), sep="\n")
    except tuner.TunerError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
