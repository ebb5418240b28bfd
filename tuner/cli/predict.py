"""`tuner predict`: what a run's best model says of new files."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tuner.cli.arguments import Json, Run

EXAMPLE = "tuner predict latest photos/*.jpg --out predictions.csv"

Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILES", help="Images, or CSV or Parquet tables, as the run was trained on."),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write them: .csv, .parquet or .json.", show_default=False),
]


def predict(run: Run, files: Files, json: Json = False, out: Out = None) -> int:
    """Predict classes or values of new files with the best model.

    They go through the run's own preprocessing. A file that cannot be read is named, the others go on; exits with 2
    then.
    """
    from tuner.cli.terminal import show_json
    from tuner.row_files import check_suffix

    if out is not None:
        check_suffix(out)
    saved = _model(run)
    bad: list[Path] = []
    rows = list(_rows(saved, files, bad))
    if out is not None:
        _write(rows, out)
    if json:
        show_json(rows)
    elif out is None:
        for row in rows:
            print(_line(row))
    return 2 if bad else 0


def _model(run: str) -> Any:
    from tuner.errors import UsageError
    from tuner.loading import BUILTINS
    from tuner.model_export import model_folder, trainable_of
    from tuner.results import load

    results = load(run)
    trainable = trainable_of(results)
    if trainable not in BUILTINS:
        raise UsageError(
            f"{results.folder}: predict knows the built-in trainables ({', '.join(BUILTINS)}), but got ({trainable}). "
            f"Load its state with your own code: tuner export {results.folder} --model FOLDER"
        )
    return importlib.import_module("trainables.saved").load_saved(model_folder(results), trainable)


def _rows(saved: Any, files: list[Path], bad: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield a row a sample; the files that cannot be read are told, and added to `bad`."""
    from tuner.cli.terminal import complain
    from tuner.errors import TunerError

    for file in files:
        try:
            predictions = saved.predict(saved.read(file))
        except TunerError as error:
            bad.append(file)
            complain(str(error))
            continue
        table = saved.preprocess["kind"] == "table"
        for number, prediction in enumerate(predictions.tolist(), start=1):
            place: dict[str, Any] = {"file": str(file), "row": number} if table else {"file": str(file)}
            yield place | _told(saved.info.classes, prediction)


def _told(classes: tuple[str, ...], prediction: Any) -> dict[str, Any]:
    if not classes:
        return {"value": prediction}
    best = max(range(len(classes)), key=prediction.__getitem__)
    return {"class": classes[best], "probabilities": dict(zip(classes, prediction, strict=True))}


def _line(row: dict[str, Any]) -> str:
    from tuner.cli import words

    place = f"{row['file']}:{row['row']}" if "row" in row else row["file"]
    if "value" in row:
        return f"{place}  {words.number(row['value'])}"
    return f"{place}  {row['class']}  {words.number(row['probabilities'][row['class']])}"


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a row a sample, with a column for each class's probability."""
    from tuner.cli.words import count
    from tuner.row_files import infer, write_table

    flat = [{**row, **{f"p.{name}": p for name, p in row.get("probabilities", {}).items()}} for row in rows]
    names = [name for name in (flat[0] if flat else {"file": ""}) if name != "probabilities"]
    write_table([infer(name, [row[name] for row in flat]) for name in names], path)
    print(f"{path}: {count(len(flat), 'prediction')}")
