"""`tuner best`: the best config, to read, to paste, or for a program."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.arguments import Json, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from tuner.results import Best, Results

EXAMPLE = "tuner best latest --toml"

Toml = Annotated[bool, typer.Option("--toml", help="Print the config as TOML, exact, to paste into a file.")]


Pareto = Annotated[bool, typer.Option("--pareto", help="Show every config that none beats in all of sweep.objectives.")]


def best(run: Run, json: Json = False, toml: Toml = False, pareto: Pareto = False) -> int:
    """Show the best config, its metrics, and where its model is."""
    from tuner.cli.terminal import console, show, show_json
    from tuner.pulling import small
    from tuner.results import load

    results = load(run, small)
    if pareto:
        return _show_pareto(results, json)
    found = results.best()
    folder = results.folder / "best"
    if json:
        where = str(folder) if folder.is_dir() else None
        show_json({"run": results.name, **dataclasses.asdict(found), "folder": where})
    elif toml:
        print(_toml(results.name, found), end="")
    else:
        show(console(), _lines(results, found))
    return 0


def _show_pareto(results: Results, json: bool) -> int:
    from tuner.cli import words
    from tuner.cli.columns import Column, lay_out
    from tuner.cli.leaderboard import split_parameters
    from tuner.cli.terminal import console, show, show_json
    from tuner.errors import UsageError

    if not results.history.objectives:
        raise UsageError(
            f"{results.folder}: --pareto needs sweep.objectives, and this sweep has none. "
            'Leave it out, or start a sweep with objectives = { params = "min" } under [sweep].'
        )
    found = results.pareto()
    if json:
        rows = [
            {"trial": one.ranked.trial.trial, "values": one.values, "config": one.ranked.trial.config} for one in found
        ]
        show_json({"run": results.name, "pareto": rows})
        return 0
    if not found:
        print(f"{results.name}: no trial has completed with a finite value of each objective yet.")
        return 0
    records = [one.ranked.trial for one in found]
    varied = [name for name in split_parameters(results.records())[0] if any(name in r.config for r in records)]
    columns = [Column("trial", [record.trial for record in records], keep=True)]
    for name in found[0].values:
        columns.append(Column(name, [words.value(one.values[name]) for one in found], right=True, keep=True))
    columns += [Column(name, [words.value(record.config.get(name)) for record in records]) for name in varied]
    terminal = console()
    show(terminal, lay_out(columns, terminal.width).lines)
    return 0


def _toml(name: str, found: Best) -> str:
    from tuner.spec.text import table

    head = f"# {name}, {found.trial}: {found.metric} {found.value!r} at epoch {found.epoch}"
    return f"{head}\n{table(found.config)}"


def _lines(results: Results, found: Best) -> Iterator[Text]:
    from rich.text import Text

    from tuner.cli import words
    from tuner.cli.copying import path_text
    from tuner.cli.summary import config_table, fixed_names, overruled_lines

    mean = f"mean of {words.count(found.repeats, 'repeat')}; " if found.repeats > 1 else ""
    still = " so far" if results.status == "running" else ""
    yield Text.assemble(
        (results.name, "bold"), f": the best config{still} is {found.trial}'s ({words.best_of(found.of)})"
    )
    yield Text()
    value = Text(f"{found.metric} {words.number(found.value)}", style="bold green")
    yield value + Text(f"  ({mean}epoch {found.epoch} of at most {results.max_epochs})", style="not bold default")
    yield Text()
    yield from config_table(found.config, fixed_names(results))
    yield Text()
    yield Text(f"All metrics of {found.trial} at epoch {found.epoch}:")
    width = max(map(len, found.metrics))
    yield from (Text(f"  {name:<{width}}  {words.number(item)}") for name, item in found.metrics.items())
    folder = results.folder / "best"
    if folder.is_dir():
        files = ", ".join(sorted(path.name for path in folder.iterdir()))
        yield Text()
        yield Text(f"Its files: {path_text(folder)} ({files})")
    yield from overruled_lines(results, found)
