"""`tuner show`: a run's leaderboard, or one of its trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.arguments import Json, Run

if TYPE_CHECKING:
    from tuner.results import Results

EXAMPLE = "tuner show latest"

# A leaderboard longer than this says less; --all shows the rest.
SHOWN = 30
All = Annotated[bool, typer.Option("--all", help=f"Show every trial, or epoch, not only {SHOWN}.")]
Trial = Annotated[
    str | None, typer.Argument(metavar="TRIAL", help="One trial, such as t0007: all that is known of it.")
]


def show(run: Run, trial: Trial = None, json: Json = False, all_: All = False) -> int:
    """Show a run's trials, best first; or one of them in full."""
    from tuner.cli import terminal
    from tuner.pulling import small
    from tuner.results import load

    results = load(run, small)
    if trial is not None:
        return _show_trial(results, trial, json, None if all_ else SHOWN)
    if json:
        terminal.show_json(to_json_able(results))
        return 0
    from tuner.cli.leaderboard import leaderboard

    console = terminal.console()
    terminal.show(console, leaderboard(results, console.width, None if all_ else SHOWN))
    return 0


def _show_trial(results: Results, name: str, json: bool, at_most: int | None) -> int:
    from tuner.cli import one_trial, terminal

    record = one_trial.find_trial(results, name)
    if json:
        terminal.show_json(one_trial.to_json_able(results, record))
        return 0
    console = terminal.console()
    terminal.show(console, one_trial.one_trial(results, record, console.width, at_most))
    return 0


def to_json_able(results: Results) -> dict[str, object]:
    """Return what --json prints: the state of the whole, and the rows of the trials frame."""
    from tuner.history import ranking

    ranked = ranking(results.records(), results.metric, results.mode)
    return {
        "run": results.name,
        "folder": str(results.folder),
        "status": results.status,
        "metric": results.metric,
        "mode": results.mode,
        "max_epochs": results.max_epochs,
        "counts": results.counts(),
        "budgets": [budget.to_dict() for budget in results.budgets()],
        "ranking": [entry.trial.trial for entry in ranked],
        "trials": results.trial_rows(),
    }
