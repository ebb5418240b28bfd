"""`tuner ls`: the sweeps of a storage folder and their state."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli.arguments import Json

if TYPE_CHECKING:
    from tuner.cli.columns import Column

EXAMPLE = "tuner ls"

StorageDir = Annotated[str, typer.Argument(metavar="STORAGE", help="Where run folders live: a path or a URI.")]


def ls(storage: StorageDir = "runs", json: Json = False) -> int:
    """List the sweeps, newest first, and their state."""
    rows = sorted(map(_row, _runs(storage)), key=lambda row: -(row["started"] or 0))
    if json:
        from tuner.cli.terminal import show_json

        show_json(rows)
    elif rows:
        _print(rows)
    else:
        print(f"No runs in {storage.rstrip('/')}/ yet. Start one: tuner run SWEEP")
    return 0


def _runs(storage: str) -> list[Path | str]:
    from tuner.errors import RunError
    from tuner.results import run_names
    from tuner.storage import Remote, is_uri, local_path, unreachable

    if is_uri(storage):
        remote = Remote(storage)
        with unreachable(storage, "must be readable"):
            return [f"{remote}/{name}" for name in remote.folders() if (remote / name).has("journal.sqlite")]
    place = local_path(storage)
    if not place.is_dir() and storage != "runs":
        raise RunError(f"{storage}: STORAGE must be a folder of runs, but there is none. Check the path.")
    return [place / name for name in run_names(place)]


def _row(run: Path | str) -> dict[str, Any]:
    """Return what is known of one run; a damaged one is listed with its error."""
    from tuner.errors import TunerError
    from tuner.history import ranking
    from tuner.pulling import small
    from tuner.results import load

    name = str(run).rpartition("/")[2]
    row: dict[str, Any] = {"run": name, "folder": str(run), "status": "damaged", "error": None}
    row |= {"metric": None, "best": None, "best_trial": None, "configs": 0, "trials": {}, "started": None}
    try:
        results = load(run, small)
    except TunerError as error:
        return row | {"error": str(error)}
    best = ranking(results.records(), results.metric, results.mode)
    return row | {
        "status": results.status,
        "metric": results.metric,
        "best": best[0].value if best else None,
        "best_trial": best[0].trial.trial if best else None,
        "configs": results.sweep["search"]["trials"],
        "trials": results.counts(),
        "started": results.history.started_at,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    from tuner.cli.columns import lay_out
    from tuner.cli.terminal import complain, console, show

    terminal = console()
    show(terminal, lay_out(_columns(rows, time.time()), terminal.width).lines)
    for row in rows:
        if row["error"]:
            complain(row["error"])


def _columns(rows: list[dict[str, Any]], now: float) -> list[Column]:
    from tuner.cli import words
    from tuner.cli.columns import Column

    best = [f"{row['metric']} {words.number(row['best'])}" if row["best"] is not None else "-" for row in rows]
    ages = [words.age(now - row["started"]) if row["started"] else "-" for row in rows]
    styles = [words.STYLES.get(row["status"], "red") for row in rows]
    failed = [row["trials"].get("failed", 0) for row in rows]
    return [
        Column("run", [row["run"] for row in rows], keep=True),
        Column("status", [row["status"] for row in rows], keep=True, styles=styles),
        Column("trials", [str(sum(row["trials"].values())) for row in rows], right=True),
        Column("failed", [str(count or "-") for count in failed], right=True),
        Column("best", best, keep=True),
        Column("trial", [row["best_trial"] or "-" for row in rows]),
        Column("started", ages),
    ]
