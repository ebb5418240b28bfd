"""`tuner pull`: a copy of a run folder, or of its frames and report, also while the sweep runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.arguments import Json

EXAMPLE = "tuner pull s3://bucket/runs/digits pulled/digits"

Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A run: a storage URI, a path, or a name.", show_default=False)
]
Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="The copy; where it holds other things, DIR/NAME is.", show_default=False),
]
Frames = Annotated[
    bool, typer.Option("--frames", help="Only the journal, frames as CSV, the report and the best config.")
]


def pull(source: Source, folder: Folder, frames: Frames = False, json: Json = False) -> int:
    """Copy a run here, or bring a copy up to date."""
    from tuner import pulling
    from tuner.cli.copying import command, path_text
    from tuner.cli.terminal import show_json
    from tuner.cli.words import count
    from tuner.disk import size
    from tuner.results import find_run
    from tuner.storage import Remote, is_uri

    place = Remote(source) if is_uri(source) else find_run(source).absolute()
    target = pulling.target_of(place, folder)
    pulled = pulling.pull(place, target, pulling.frames if frames else pulling.everything)
    if frames:
        _write_frames(target)
    if json:
        show_json(
            {
                "run": str(place),
                "folder": str(target),
                "files": pulled.files,
                "bytes": pulled.size,
                "unchanged": pulled.kept,
                "rows": pulled.last_row,
            }
        )
        return 0
    unchanged = f", {count(pulled.kept, 'file')} unchanged" if pulled.kept else ""
    print(f"{path_text(target)}: {count(pulled.files, 'file')} ({size(pulled.size)}){unchanged}")
    print(f"See it:  {command('show', target)}")
    return 0


def _write_frames(folder: Path) -> None:
    from tuner.results import load
    from tuner.row_files import write_table

    results = load(folder)
    write_table(results.trial_columns(), folder / "trials.csv")
    write_table(results.epoch_columns(), folder / "epochs.csv")
