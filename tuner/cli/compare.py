"""`tuner compare`: runs of one metric side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.arguments import Json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.text import Text

    from tuner.report.compare import Comparison

EXAMPLE = "tuner compare digits digits-2 --out best_so_far.png"

Runs = Annotated[
    list[str], typer.Argument(metavar="RUN RUN ...", help="Two runs or more, of one metric.", show_default=False)
]
Png = Annotated[
    Path, typer.Option(metavar="PNG", help="Where to draw the best value so far of all runs, one over the other.")
]


def compare(runs: Runs, out: Png = Path("compare.png"), json: Json = False) -> int:
    """Compare runs of one metric: a table, curves, paired seeds."""
    from tuner.cli.terminal import console, show, show_json
    from tuner.report.compare import compare_runs, draw, to_json_able
    from tuner.results import load

    comparison = compare_runs([load(run) for run in runs])
    draw(comparison, out)
    if json:
        show_json({**to_json_able(comparison), "figure": str(out)})
        return 0
    terminal = console()
    show(terminal, _table(comparison, terminal.width))
    for line in _lines(comparison, out):
        print(line)
    return 0


def _table(comparison: Comparison, width: int) -> Sequence[Text]:
    from tuner import words
    from tuner.cli.columns import Column, lay_out

    rows = comparison.rows
    columns = [
        Column("run", [row.run for row in rows], keep=True),
        Column("status", [row.status for row in rows]),
        Column("best", [words.number(row.best) for row in rows], right=True, keep=True),
        Column("corrected", [words.number(row.corrected) for row in rows], right=True, keep=True),
        Column("trials", [str(row.trials) for row in rows], right=True),
        Column("epochs", [str(row.epochs) for row in rows], right=True),
        Column("time", [words.duration(row.seconds) for row in rows], right=True),
    ]
    return lay_out(columns, width).lines


def _lines(comparison: Comparison, out: Path) -> Iterator[str]:
    from tuner import words
    from tuner.cli.copying import path_text

    better = "higher" if comparison.mode == "max" else "lower"
    yield ""
    yield f"{comparison.metric}, {better} is better; best is the best of its trials, so optimistic."
    for row in comparison.rows:
        if row.why_not_corrected:
            yield f"{row.run}: not corrected: {row.why_not_corrected}."
    for pair in comparison.pairs:
        yield (
            f"{pair.one} against {pair.other}: {words.count(pair.n, 'pair')} of trials with the same config and seed; "
            f"{pair.one} is better in {pair.better} and worse in {pair.worse}, by {words.number(pair.difference)} in "
            "the mean."
        )
    if not comparison.pairs:
        yield "No two runs share a config and a seed, so nothing is paired."
    yield f"curves: {path_text(out)}"
