"""`tuner export`: a run's data frames and its best model as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.arguments import Run

EXAMPLE = "tuner export latest --trials trials.csv --epochs epochs.parquet"

_SUFFIXES = ".csv, .parquet or .json"
TrialsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help=f"One row a trial; {_SUFFIXES}.", show_default=False)
]
EpochsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help=f"One row an epoch; {_SUFFIXES}.", show_default=False)
]
Model = Annotated[
    Path | None,
    typer.Option(
        metavar="PLACE",
        help="The best model, its config and preprocessing: a folder with an example, one file (.pt), or .onnx.",
        show_default=False,
    ),
]


def export(run: Run, trials: TrialsFile = None, epochs: EpochsFile = None, model: Model = None) -> int:
    """Write trials, epochs and the best model as files."""
    from tuner.cli.words import count
    from tuner.errors import UsageError
    from tuner.pulling import results as results_of
    from tuner.pulling import small
    from tuner.results import load
    from tuner.row_files import check_suffix, write_table

    files = [path for path in (trials, epochs) if path is not None]
    if not files and model is None:
        raise UsageError("tuner export: give --trials FILE, --epochs FILE or --model PLACE to say what to write.")
    for path in files:
        check_suffix(path)
    results = load(run, results_of if model else small)
    if trials is not None:
        table = results.trial_columns()
        write_table(table, trials)
        print(f"{trials}: {count(len(table[0].values), 'trial')}")
    if epochs is not None:
        table = results.epoch_columns()
        write_table(table, epochs)
        print(f"{epochs}: {count(len(table[0].values), 'epoch')}")
    if model is not None:
        from tuner.model_export import export_model

        print(f"{model}: {', '.join(export_model(results, model))}")
    return 0
